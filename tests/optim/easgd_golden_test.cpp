// The EASGD specification's golden traces (section 4), as far as they are the optimizer's: gradient x - b, compared at
// 1e-12 in f64.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/optim/trajectory.h"

namespace sinew::optim {
namespace {

constexpr double kTolerance = 1e-12;

std::unique_ptr<Optimizer> nag(double momentum) {
  return make_optimizer({.name = "nag", .lr = 0.1, .momentum = momentum});
}

TEST(EasgdGolden, SequentialNesterov) {
  ScalarRun run(nag(0.9), 1);
  for (int i = 0; i < 6; ++i) run.step([](double x) { return x + 0.5; });
  EXPECT_NEAR(run.x(), -0.641185273265, kTolerance);
  EXPECT_NEAR(run.velocity(), -0.267933951765, kTolerance);
}

struct Row {
  double c, x1, x2, v1, v2;
};

// Algorithm 1 or 2, round robin: p = 2, alpha = 0.2, tau = 2. The elastic difference is taken before the gradient and
// applied to the worker after the local step.
void run_elastic(std::unique_ptr<Optimizer> first, std::unique_ptr<Optimizer> second, const std::vector<Row>& rows) {
  constexpr double kAlpha = 0.2, kTargets[2] = {1, -0.5};
  ScalarRun workers[2] = {{std::move(first), 1}, {std::move(second), 1}};
  double c = 1;
  for (size_t t = 0; t < rows.size(); ++t) {
    for (int i = 0; i < 2; ++i) {
      double d = t % 2 == 0 ? kAlpha * (workers[i].x() - c) : 0;
      c += d;
      workers[i].step([&](double x) { return x - kTargets[i]; });
      workers[i].x() -= d;
      workers[i].optimizer().on_external_write(d);
    }
    EXPECT_NEAR(c, rows[t].c, kTolerance) << "row " << t + 1;
    EXPECT_NEAR(workers[0].x(), rows[t].x1, kTolerance) << "row " << t + 1;
    EXPECT_NEAR(workers[1].x(), rows[t].x2, kTolerance) << "row " << t + 1;
    EXPECT_NEAR(workers[0].velocity(), rows[t].v1, kTolerance) << "row " << t + 1;
    EXPECT_NEAR(workers[1].velocity(), rows[t].v2, kTolerance) << "row " << t + 1;
  }
}

TEST(EasgdGolden, EasgdAlgorithm1) {
  OptimizerOptions sgd{.name = "sgd", .lr = 0.1};
  run_elastic(make_optimizer(sgd), make_optimizer(sgd),
              {{1, 1, 0.85, 0, 0},
               {1, 1, 0.715, 0, 0},
               {0.943, 1, 0.6505, 0, 0},
               {0.943, 1, 0.53545, 0, 0},
               {0.87061, 0.9886, 0.515695, 0, 0},
               {0.87061, 0.98974, 0.4141255, 0, 0}});
}

TEST(EasgdGolden, EamsgdAlgorithm2) {
  run_elastic(nag(0.9), nag(0.9),
              {{1, 1, 0.85, 0, -0.15},
               {1, 1, 0.5935, 0, -0.2565},
               {0.9187, 1, 0.357685, 0, -0.317115},
               {0.9187, 1, 0.01505335, 0, -0.34263165},
               {0.75097867, 0.98374, -0.1300022915, 0, -0.3290369715},
               {0.75097867, 0.985366, -0.433522009265, 0.001626, -0.303519717765}});
}

TEST(EasgdGolden, WithoutMomentumTheLookAheadIsPlainSgdBitForBit) {
  ScalarRun plain(make_optimizer({.name = "sgd", .lr = 0.1}), 1.7), look(nag(0), 1.7);
  auto gradient = [](double x) { return std::sin(3 * x); };
  EXPECT_EQ(plain.steps(20, gradient), look.steps(20, gradient));
}

}  // namespace
}  // namespace sinew::optim
