// Local SGD and its outer optimizers against the rules written out.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {
namespace {

Toy outer_toy(const std::string& outer, double lr, double momentum, int workers = 3) {
  Toy toy;
  toy.scheme.name = "local_sgd";
  toy.scheme.workers = workers;
  toy.scheme.period = 4;
  toy.scheme.outer = outer;
  toy.scheme.outer_lr = lr;
  toy.scheme.outer_momentum = momentum;
  toy.size = 2;
  toy.steps = 22;  // five rounds and one of two steps
  return toy;
}

// The center after the run.
double reference(const Toy& toy) {
  const SchemeOptions& o = toy.scheme;
  double c = toy.start, v = 0;
  for (int64_t done = 0; done < toy.steps;) {
    const int64_t steps = std::min(o.period, toy.steps - done);
    double g = 0;
    for (Rank r = 0; r < o.workers; ++r) {
      const double x = toy.b(r) + (c - toy.b(r)) * std::pow(1 - toy.lr, steps);
      g += (c - x) / o.workers;
    }
    if (o.outer == "none") {
      c -= o.outer_lr * g;
    } else {
      v = o.outer_momentum * v + g;
      c -= o.outer_lr * (o.outer == "nesterov" ? g + o.outer_momentum * v : v);
    }
    done += steps;
  }
  return c;
}

TEST(LocalSgd, FollowsTheRules) {
  for (const Toy& toy : {outer_toy("none", 1, 0.9),              // Local SGD
                         outer_toy("none", 0.5, 0.9, 1),         // Lookahead
                         outer_toy("momentum", 1, 0.6),          // SlowMo
                         outer_toy("momentum", 1, 2.0 / 3),      // BMUF, 1 - 1 / workers
                         outer_toy("nesterov", 0.7, 0.9, 2)}) {  // DiLoCo
    const auto nodes = in_simulation()(toy.scheme.workers, [&](World& world) { return toy_run(world, toy); });
    for (const NodeResult& node : nodes) {
      ASSERT_TRUE(node.finished) << node.status.message();
      EXPECT_EQ(node.numbers, nodes[0].numbers) << "all go on from the same center";
      EXPECT_NEAR(node.numbers[1], reference(toy), 1e-12) << toy.scheme.outer;
    }
  }
}

// Of the buffers that follow the parameters the mean is taken, whatever the outer optimizer does.
TEST(LocalSgd, BuffersAreAveraged) {
  SchemeOptions o{.name = "local_sgd", .workers = 2, .period = 1, .outer = "nesterov", .parameters = 1};
  auto body = [&](World& world) -> Result<Numbers> {
    std::vector<double> x{0.0, 0.0};
    auto scheme = make_scheme(o, world, 2, DType::f64);
    SINEW_RETURN_IF_ERROR(scheme->start(x));
    for (int64_t k = 0; k < 3; ++k) {
      SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
      for (double& v : x) v += 1 + world.rank();
      SINEW_RETURN_IF_ERROR(scheme->after_step(k, x));
    }
    SINEW_RETURN_IF_ERROR(scheme->finish(x));
    return x;
  };
  const auto nodes = in_simulation()(2, body);
  ASSERT_TRUE(nodes[0].finished) << nodes[0].status.message();
  EXPECT_NEAR(nodes[0].numbers[1], 4.5, 1e-12);
  EXPECT_GT(nodes[0].numbers[0], 5);
}

TEST(LocalSgd, AWorkerThatIsNotFiniteAddsNothingAndAdoptsTheCenter) {
  const Toy toy = outer_toy("momentum", 1, 0.5);
  const auto nodes = in_simulation()(3, [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) {
      if (world.rank() == 1 && k == 5) fill(worker.theta().mutable_view(), NAN);
      SINEW_RETURN_IF_ERROR(worker.step(k));
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    EXPECT_EQ(worker.scheme().counters().missed, world.rank() == 1);
    EXPECT_EQ(worker.scheme().counters().exchanges, world.rank() == 1 ? 5 : 6);
    return to_doubles(worker.theta().view());
  });
  for (const NodeResult& node : nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_TRUE(std::isfinite(node.numbers[0]));
    EXPECT_EQ(node.numbers, nodes[0].numbers);
  }
}

}  // namespace
}  // namespace sinew::dist::testing
