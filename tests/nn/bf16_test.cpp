// A pass in bf16 through every layer: what comes out is f32, and close to f32's pass.
#include <gtest/gtest.h>

#include <cmath>

#include "core/ops.h"
#include "tests/nn/every_layer.h"
#include "tests/support/guard_device.h"

namespace sinew::nn {
namespace {

// |a - b| in units of b's length.
template <class T>
double distance(const std::vector<T>& a, const std::vector<T>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

// Twenty layers round once each, to 1/256.
TEST(BF16Pass, FollowsF32ThroughEveryLayer) {
  const PassResults narrow = training_pass(Device::cpu, "cross_entropy", Precision::bf16),
                    wide = training_pass(Device::cpu, "cross_entropy");
  EXPECT_NE(narrow.outputs, wide.outputs);
  EXPECT_LT(distance(narrow.outputs, wide.outputs), 20.0 / 256);
  EXPECT_LT(distance(narrow.theta, wide.theta), 1.0 / 256);  // the running statistics
  EXPECT_NEAR(narrow.loss, wide.loss, 0.02 * wide.loss);
  std::vector<double> got, want;
  for (const auto& g : narrow.gradients) got.insert(got.end(), g.begin(), g.end());
  for (const auto& g : wide.gradients) want.insert(want.end(), g.begin(), g.end());
  EXPECT_LT(distance(got, want), 20.0 / 256);
}

TEST(BF16Pass, RunsWhereTheHostCannotTouchTheMemory) {
  sinew::testing::install_guard_device();
  const PassResults guard = training_pass(Device::guard, "mse", Precision::bf16),
                    cpu = training_pass(Device::cpu, "mse", Precision::bf16);
  EXPECT_EQ(guard.outputs, cpu.outputs);
  EXPECT_EQ(guard.gradients, cpu.gradients);
  EXPECT_EQ(guard.theta, cpu.theta);
}

TEST(BF16Pass, EvaluationTakesItToo) {
  const Model model = every_layer();
  Vec theta = model.initialize(10);
  const Parameters parameters = model.parameters(theta);
  const Buffers buffers = model.buffers(theta);
  const Pass wide{.parameters = parameters, .buffers = &buffers};
  Pass narrow = wide;
  narrow.bf16 = true;
  const Tensor y = model.forward(values_on(Device::cpu), narrow);
  EXPECT_LT(distance(y.to_vector<float>(), model.forward(values_on(Device::cpu), wide).to_vector<float>()), 20.0 / 256);
}

}  // namespace
}  // namespace sinew::nn
