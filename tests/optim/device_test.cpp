// Every optimizer runs on a device whose memory the host cannot reach, with the CPU's bits; its state moves between
// the two.
#include <gtest/gtest.h>

#include "optim/optimizer.h"
#include "tests/optim/trajectory.h"
#include "tests/support/guard_device.h"

namespace sinew::optim {
namespace {

// Descends on |theta|^2 / 2 for some steps, with a diagonal that is theta: it has both signs.
void run_steps(Optimizer& optimizer, Vec& theta, int steps) {
  auto zeros = [&] { return Vec::zeros(theta.size(), theta.dtype(), theta.device()); };
  Vec target = zeros(), gradient = zeros(), scratch = zeros();
  for (int i = 0; i < steps; ++i) bowl_step(optimizer, theta, target, gradient, theta.clone(), scratch);
}

TEST(Device, EveryOptimizerRunsOnTheGuardDevice) {
  testing::install_guard_device();
  ParamLayout layout;
  layout.add("w", {5, 2, 3, 7});  // a filter: AdaHessian averages over its middle axes
  std::vector<float> start(static_cast<size_t>(layout.size()), 0);
  for (size_t i = 0; i < 210; ++i) start[i] = 0.01f * static_cast<float>(i) - 1;
  for (const std::string& name : optimizer_names()) {
    OptimizerOptions options{.name = name,
                             .weight_decay = 0.01,
                             .decoupled_decay = 0.02,
                             .clip_norm = 1.5,
                             .hessian_every = 2,
                             .warmup_steps = 3};
    std::vector<std::vector<double>> results;
    std::vector<State> states;
    for (Device device : {Device::cpu, Device::guard}) {
      std::unique_ptr<Optimizer> optimizer = make_optimizer(options);
      optimizer->init(layout, DType::f32, device);
      Vec theta = Vec::zeros(layout.size(), DType::f32, device);
      upload(start.data(), theta.mutable_view());
      run_steps(*optimizer, theta, 6);
      // Saved here and loaded there: the rest of the run is the other device's.
      states.push_back(optimizer->save());
      std::unique_ptr<Optimizer> other = make_optimizer(options);
      Device there = device == Device::cpu ? Device::guard : Device::cpu;
      other->init(layout, DType::f32, there);
      ASSERT_TRUE(other->load(states.back()).ok());
      Vec moved = Vec::zeros(layout.size(), DType::f32, there);
      std::vector<float> host(start.size());
      download(theta.view(), host.data());
      upload(host.data(), moved.mutable_view());
      run_steps(*other, moved, 6);
      run_steps(*optimizer, theta, 6);
      EXPECT_EQ(to_doubles(theta.view()), to_doubles(moved.view())) << name;
      results.push_back(to_doubles(theta.view()));
    }
    EXPECT_EQ(results[0], results[1]) << name;
    EXPECT_NE(results[0], std::vector<double>(start.begin(), start.end())) << name;
  }
}

}  // namespace
}  // namespace sinew::optim
