// Every optimizer on the CPU and on a device, its state moved between the two.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "optim/optimizer.h"
#include "tests/optim/trajectory.h"

namespace sinew::optim {

// Descends on |theta|^2 / 2 for some steps, with a diagonal that is theta: it has both signs.
inline void run_steps(Optimizer& optimizer, Vec& theta, int steps) {
  auto zeros = [&] { return Vec::zeros(theta.size(), theta.dtype(), theta.device()); };
  Vec target = zeros(), gradient = zeros(), scratch = zeros();
  for (int i = 0; i < steps; ++i) bowl_step(optimizer, theta, target, gradient, theta.clone(), scratch);
}

inline void expect_near(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
                        const std::string& name) {
  ASSERT_EQ(got.size(), want.size());
  double largest = 0;
  for (double w : want) largest = std::max(largest, std::abs(w));
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance * largest) << name << " [" << i << "]";
}

// tolerance: relative to the largest parameter; 0 asks for the CPU's bits.
inline void check_optimizer_on(Device device, const std::string& name, double tolerance) {
  ParamLayout layout;
  layout.add("w", {5, 2, 3, 7});  // a filter: AdaHessian averages over its middle axes
  std::vector<float> start(static_cast<size_t>(layout.size()), 0);
  for (size_t i = 0; i < 210; ++i) start[i] = 0.01f * static_cast<float>(i) - 1;
  const OptimizerOptions options{.name = name,
                                 .weight_decay = 0.01,
                                 .decoupled_decay = 0.02,
                                 .clip_norm = 1.5,
                                 .hessian_every = 2,
                                 .warmup_steps = 3};
  std::vector<std::vector<double>> results;
  for (Device here : {Device::cpu, device}) {
    std::unique_ptr<Optimizer> optimizer = make_optimizer(options);
    optimizer->init(layout, DType::f32, here);
    Vec theta = Vec::zeros(layout.size(), DType::f32, here);
    upload(start.data(), theta.mutable_view());
    run_steps(*optimizer, theta, 6);
    // Saved here and loaded there: the rest of the run is the other device's.
    const State state = optimizer->save();
    std::unique_ptr<Optimizer> other = make_optimizer(options);
    const Device there = here == Device::cpu ? device : Device::cpu;
    other->init(layout, DType::f32, there);
    ASSERT_TRUE(other->load(state).ok());
    Vec moved = Vec::zeros(layout.size(), DType::f32, there);
    std::vector<float> host(start.size());
    download(theta.view(), host.data());
    upload(host.data(), moved.mutable_view());
    run_steps(*other, moved, 6);
    run_steps(*optimizer, theta, 6);
    expect_near(to_doubles(theta.view()), to_doubles(moved.view()), tolerance, name);
    results.push_back(to_doubles(theta.view()));
  }
  expect_near(results[1], results[0], tolerance, name);
  EXPECT_NE(results[0], std::vector<double>(start.begin(), start.end())) << name;
}

}  // namespace sinew::optim
