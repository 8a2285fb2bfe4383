// The layer BatchNorm: training against evaluation, and the running statistics. The op's own tests:
// tests/core/norm_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd.h"
#include "core/ops.h"
#include "nn/layers.h"

namespace sinew::nn {
namespace {

// A model of one layer; outputs are its features.
class Norm : public ::testing::Test {
 protected:
  static Model make(BatchNormOptions options) { return Model("norm", std::make_unique<BatchNorm>(2, options), {2}, 2); }
  Tensor run(const Model& model, Vec& theta, bool training, bool with_buffers = true, double momentum = -1) {
    const Parameters parameters = model.parameters(theta);
    const Buffers buffers = model.buffers(theta);
    return model.forward(x_, Pass{.parameters = parameters,
                                  .training = training,
                                  .buffers = with_buffers ? &buffers : nullptr,
                                  .buffer_momentum = momentum});
  }
  static std::vector<double> buffers_of(const Model& model, const Vec& theta) {
    const std::vector<double> all = to_doubles(theta.view());
    const auto& segments = model.state_layout().segments();
    std::vector<double> out;
    for (const char* name : {"running_mean", "running_var"}) {
      const Segment& s = segments[static_cast<size_t>(model.state_layout().find(name))];
      for (int64_t i = 0; i < s.numel; ++i) out.push_back(all[static_cast<size_t>(s.offset + i)]);
    }
    return out;
  }
  // Columns 1, 2, 3, 6 and 0, 0, 4, 4: means 3 and 2, unbiased variances 14/3 and 16/3.
  Tensor x_ = Tensor::from_vector<double>({1, 0, 2, 0, 3, 4, 6, 4}, {4, 2});
};

void expect_near(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-12) << i;
}

TEST_F(Norm, TrainingNormalisesByTheBatchAndMovesTheRunningStatistics) {
  const Model model = make({.eps = 0});
  Vec theta = model.initialize(1, DType::f64);
  expect_near(buffers_of(model, theta), {0, 0, 1, 1});
  const double s = std::sqrt(3.5), t = 2;
  expect_near(to_doubles(run(model, theta, true).view()), {-2 / s, -2 / t, -1 / s, -2 / t, 0, 2 / t, 3 / s, 2 / t});
  expect_near(buffers_of(model, theta), {0.3, 0.2, 0.9 + 14.0 / 30, 0.9 + 16.0 / 30});
}

TEST_F(Norm, APassWithoutBuffersLeavesThem) {
  const Model model = make({});
  Vec theta = model.initialize(1, DType::f64);
  run(model, theta, true, false);
  expect_near(buffers_of(model, theta), {0, 0, 1, 1});
  EXPECT_THROW(run(model, theta, false, false), Error);
}

TEST_F(Norm, APassMayGiveTheMomentum) {
  const Model model = make({});
  Vec theta = model.initialize(1, DType::f64);
  run(model, theta, true, true, 1);
  expect_near(buffers_of(model, theta), {3, 2, 14.0 / 3, 16.0 / 3});
}

TEST_F(Norm, EvaluationUsesTheRunningStatisticsAndKeepsThem) {
  const Model model = make({.eps = 0});
  Vec theta = model.initialize(1, DType::f64);
  run(model, theta, true, true, 1);
  const double s = std::sqrt(14.0 / 3), t = std::sqrt(16.0 / 3);
  expect_near(to_doubles(run(model, theta, false).view()), {-2 / s, -2 / t, -1 / s, -2 / t, 0, 2 / t, 3 / s, 2 / t});
  expect_near(buffers_of(model, theta), {3, 2, 14.0 / 3, 16.0 / 3});
}

// The statistics are written while the graph of the same pass is alive.
TEST_F(Norm, RunningStatisticsDoNotDisturbTheDerivative) {
  const Model model = make({.activation = Activation::relu});
  Vec theta = model.initialize(1, DType::f64);
  const Parameters parameters = model.parameters(theta);
  const Buffers buffers = model.buffers(theta);
  auto gradient = [&](const Buffers* written) {
    const Tensor y = model.forward(x_, Pass{.parameters = parameters, .training = true, .buffers = written});
    return to_doubles(grad({sum(square(y))}, parameters.all())[0].view());
  };
  const std::vector<double> without = gradient(nullptr);
  EXPECT_EQ(gradient(&buffers), without);
  EXPECT_GT(std::abs(without[0]), 0.1);
}

}  // namespace
}  // namespace sinew::nn
