// scheme.global_average_every: the gossip specification's section 4.6, and who takes no part in a mean.
#include <gtest/gtest.h>

#include <cmath>

#include "dist/schemes/schemes.h"
#include "tests/support/gossip_bodies.h"

namespace sinew::dist::testing {
namespace {

std::vector<NodeResult> nodes_of(const Toy& toy) {
  auto nodes = simulate(toy.scheme.workers, [&](World& world) { return toy_run(world, toy); }).nodes;
  for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
  return nodes;
}

// Section 4.6: H = 1 is parallel SGD whatever is below it; over `local`, H = 3 is local SGD.
TEST(GlobalAverage, EveryStepIsParallelSgd) {
  for (const char* scheme : {"local", "elastic_gossip", "dpsgd", "sgp"}) {
    Toy toy;
    toy.scheme = gossip(scheme, 4, [](SchemeOptions& o) { o.global_average_every = 1; });
    toy.steps = 8;
    double x = toy.start, b = (toy.b(0) + toy.b(1) + toy.b(2) + toy.b(3)) / 4;
    for (int64_t k = 0; k < toy.steps; ++k) x -= toy.lr * (x - b);
    for (const NodeResult& node : nodes_of(toy)) EXPECT_NEAR(node.numbers.at(0), x, 1e-12) << scheme;
  }
}

TEST(GlobalAverage, OverLocalIsLocalSgd) {
  Toy toy;
  toy.scheme = gossip("local", 3, [](SchemeOptions& o) { o.global_average_every = 3; });
  toy.steps = 7;
  std::vector<double> x(3, toy.start);
  for (int64_t k = 0; k < toy.steps; ++k) {
    for (Rank r = 0; r < 3; ++r) x[r] -= toy.lr * (x[r] - toy.b(r));
    if ((k + 1) % 3 == 0) x.assign(3, (x[0] + x[1] + x[2]) / 3);
  }
  const auto nodes = nodes_of(toy);
  for (Rank r = 0; r < 3; ++r) EXPECT_NEAR(nodes[r].numbers.at(0), x[r], 1e-14);
}

// Hands all calls on, and notes what the inner scheme leaves of the parameters in each step.
class Noting : public Scheme {
 public:
  Noting(std::unique_ptr<Scheme> inner, std::vector<Numbers>& left) : inner_(std::move(inner)), left_(left) {}
  Mixes mixes() const override { return inner_->mixes(); }
  Evaluated evaluated() const override { return inner_->evaluated(); }
  Status start(VecView theta) override { return inner_->start(theta); }
  Status before_step(int64_t step, VecView theta) override { return inner_->before_step(step, theta); }
  Status after_step(int64_t step, VecView theta) override {
    SINEW_RETURN_IF_ERROR(inner_->after_step(step, theta));
    left_.push_back(to_doubles(theta));
    return Status::Ok();
  }
  Status evaluation_point(ConstVecView theta, VecView out) override { return inner_->evaluation_point(theta, out); }
  Status finish(VecView theta) override { return inner_->finish(theta); }
  SchemeState save() const override { return inner_->save(); }

 private:
  const std::unique_ptr<Scheme> inner_;
  std::vector<Numbers>& left_;
};

// With or without a clock, and whatever a worker weighs in its scheme, which stays: every H steps all go on from the
// plain mean of what the scheme has left them with.
TEST(GlobalAverage, IsTheMeanOfWhatEachSchemeLeaves) {
  constexpr int kWorkers = 4;
  constexpr int64_t kSize = 5, kSteps = 12, kEvery = 4;
  for (const GossipCase& c : {GossipCase{"gosgd"},
                              {"adpsgd"},
                              {"gossiping_sgd"},
                              {"gossiping_sgd", [](SchemeOptions& o) { o.direction = "push"; }},
                              {"gossiping_sgd", [](SchemeOptions& o) { o.mode = "async"; }},
                              {"elastic_gossip", [](SchemeOptions& o) { o.mode = "async"; }}}) {
    const SchemeOptions inner = gossip(
        c.name, kWorkers, c.more ? c.more : [](SchemeOptions&) {});
    SchemeOptions outer = inner;
    outer.global_average_every = kEvery;
    ASSERT_TRUE(validate(outer).ok());
    std::vector<Numbers> left[kWorkers];
    double weights = 0;
    const auto body = [&](World& world) -> Result<Numbers> {
      auto noting = std::make_unique<Noting>(make_scheme(inner, world, kSize, DType::f64), left[world.rank()]);
      const auto scheme = make_global_average(outer, world, kSize, DType::f64, Device::cpu, std::move(noting));
      Numbers theta(kSize, 1.0 + world.rank()), after;
      SINEW_RETURN_IF_ERROR(scheme->start(VecView(theta)));
      for (int64_t k = 0; k < kSteps; ++k) {
        SINEW_RETURN_IF_ERROR(scheme->before_step(k, VecView(theta)));
        world.compute(Cost{1}, [&] {
          for (size_t i = 0; i < theta.size(); ++i) theta[i] += draw(world.rank(), k, static_cast<int64_t>(i));
        });
        SINEW_RETURN_IF_ERROR(scheme->after_step(k, VecView(theta)));
        if ((k + 1) % kEvery == 0) after.insert(after.end(), theta.begin(), theta.end());
      }
      SINEW_RETURN_IF_ERROR(scheme->finish(VecView(theta)));
      weights += weight_of(*scheme);
      return after;
    };
    const SimulatedRun run = simulate(kWorkers, body);
    for (const NodeResult& node : run.nodes) {
      ASSERT_TRUE(node.finished) << c.name << ": " << node.status.message();
      EXPECT_EQ(node.numbers, run.nodes[0].numbers) << c.name;
    }
    EXPECT_NEAR(weights, c.name == std::string("gosgd") ? 1 : kWorkers, 1e-12) << c.name;
    for (int64_t at = 0; at < kSteps / kEvery; ++at)
      for (int64_t i = 0; i < kSize; ++i) {
        double mean = 0, apart = 0;
        for (const auto& of_worker : left) mean += of_worker.at((at + 1) * kEvery - 1).at(i) / kWorkers;
        for (const auto& of_worker : left)
          apart = std::max(apart, std::abs(of_worker.at((at + 1) * kEvery - 1).at(i) - mean));
        EXPECT_NEAR(run.nodes[0].numbers.at(at * kSize + i), mean, 1e-14) << c.name;
        EXPECT_GT(apart, 0.1) << c.name << ": the scheme alone has not made them equal";
      }
  }
}

// A worker whose parameters are not finite gives nothing to the mean, and adopts it; the others' is that of the others.
TEST(GlobalAverage, NonFiniteParametersReachNobody) {
  for (const Variant& v : kVariants)
    for (const char* wire : {"f32", "int8"}) {
      Toy toy = toy_of(v);
      const bool last = toy.scheme.name == "local" || toy.scheme.global_average_every > 0;  // nothing moves after it
      toy.scheme.global_average_every = 5;
      toy.scheme.wire = wire;
      if (!validate(toy.scheme).ok()) continue;  // it has none
      int64_t refused = 0, missed = 0;
      const auto nodes = simulate(4, [&](World& world) -> Result<Numbers> {
                           ToyWorker worker(toy, world);
                           SINEW_RETURN_IF_ERROR(worker.start());
                           for (int64_t k = 0; k < 15; ++k) {
                             SINEW_RETURN_IF_ERROR(worker.step(k));
                             if (world.rank() == 1 && k == 8) fill(worker.theta().mutable_view(), NAN);
                             if (world.rank() == 1) fill(worker.velocity().mutable_view(), 0);
                             if (k == 9 && world.rank() == 1) {
                               EXPECT_TRUE(all_finite(worker.theta().view())) << v.label << " " << wire;
                               EXPECT_TRUE(!last || std::isfinite(worker.scheme().take_external_write())) << v.label;
                             }
                           }
                           const SchemeCounters c = worker.scheme().counters();
                           refused += c.refused, missed += c.missed;
                           SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
                           return to_doubles(worker.theta().view());
                         }).nodes;
      for (const NodeResult& node : nodes) {
        ASSERT_TRUE(node.finished) << v.label << ": " << node.status.message();
        if (last) {
          EXPECT_EQ(node.numbers, nodes[0].numbers) << v.label << " " << wire;
        }
        for (double x : node.numbers) ASSERT_TRUE(std::isfinite(x)) << v.label << " " << wire;
      }
      EXPECT_GT(refused, 0) << v.label << " " << wire;
      EXPECT_GT(missed, 0) << v.label << " " << wire;
    }
}

// The mean is that of the workers which give something. Who is suppressed stays where it is.
TEST(GlobalAverage, IsOfThoseThatGive) {
  for (const char* wire : {"f32", "bf16"})
    for (bool suppressed : {false, true}) {
      Toy toy;
      toy.scheme = gossip("local", 4, [&](SchemeOptions& o) { o.global_average_every = 1, o.wire = wire; });
      toy.lr = 0;
      const auto body = [&](World& world) -> Result<Numbers> {
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        fill(worker.theta().mutable_view(), world.rank() == 1 && !suppressed ? INFINITY : 2.0 + 4 * world.rank());
        fill(worker.velocity().mutable_view(), 0);
        SINEW_RETURN_IF_ERROR(worker.scheme().after_step(0, worker.theta().mutable_view()));
        const SchemeCounters c = worker.scheme().counters();
        EXPECT_EQ(c.missed, world.rank() == 1);
        EXPECT_EQ(c.exchanges, world.rank() != 1);
        EXPECT_EQ(c.refused, world.rank() == 1 && !suppressed);
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        return to_doubles(worker.theta().view());
      };
      const auto nodes = simulate(4, body, {.faults = plan(suppressed ? "suppress rank=1 probability=1" : "")}).nodes;
      const double mean = (2.0 + 10 + 14) / 3;
      for (Rank r = 0; r < 4; ++r) {
        ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
        EXPECT_NEAR(nodes[r].numbers[0], suppressed && r == 1 ? 6 : mean, wire[0] == 'b' ? 0.05 : 1e-14) << wire;
      }
    }
}

}  // namespace
}  // namespace sinew::dist::testing
