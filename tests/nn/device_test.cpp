// Modules, initialisers and losses touch tensors through the kernel table only: on a device whose memory the host
// cannot reach they give the CPU's bits.
#include <gtest/gtest.h>

#include "tests/nn/every_layer.h"
#include "tests/support/guard_device.h"

namespace sinew::nn {
namespace {

TEST(Device, EveryLayerAndLossRunsOnTheGuardDevice) {
  testing::install_guard_device();
  for (const std::string& loss : loss_names()) {
    PassResults cpu = training_pass(Device::cpu, loss), guard = training_pass(Device::guard, loss);
    EXPECT_EQ(cpu.theta, guard.theta);
    EXPECT_EQ(cpu.outputs, guard.outputs);
    EXPECT_EQ(cpu.loss, guard.loss);
    EXPECT_EQ(cpu.gradients, guard.gradients);
    EXPECT_EQ(cpu.hessian_products, guard.hessian_products);
    EXPECT_GT(cpu.loss, 0);
  }
}

TEST(Device, EveryInitialiserGivesTheSameBitsOnTheGuardDevice) {
  testing::install_guard_device();
  const Shape shape{20, 30};
  for (const std::string& name : initializer_names())
    for (DType dtype : {DType::f32, DType::f64}) {
      Vec cpu = Vec::zeros(shape.numel(), dtype), guard = Vec::zeros(shape.numel(), dtype, Device::guard);
      for (Vec* v : {&cpu, &guard}) initialize(initializer_named(name), shape, RngKey{3, 1, 2, 0}, v->mutable_view());
      EXPECT_EQ(to_doubles(cpu.view()), to_doubles(guard.view())) << name;
    }
}

}  // namespace
}  // namespace sinew::nn
