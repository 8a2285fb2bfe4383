// Runs an optimizer on one scalar parameter with a gradient given as a function; f64 on the CPU.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/param_layout.h"
#include "core/vec.h"
#include "optim/optimizer.h"

namespace sinew::optim {

class ScalarRun {
 public:
  ScalarRun(std::unique_ptr<Optimizer> optimizer, double start) : optimizer_(std::move(optimizer)) {
    ParamLayout layout;
    layout.add("x", {1});
    optimizer_->init(layout, DType::f64, Device::cpu);
    theta_ = Vec::zeros(layout.size(), DType::f64);
    gradient_ = Vec::zeros(layout.size(), DType::f64);
    x() = start;
  }
  double& x() { return *static_cast<double*>(theta_.mutable_view().data); }
  // One step; the gradient is taken where before_gradient left theta. Returns the new x.
  double step(const std::function<double(double)>& gradient) {
    optimizer_->before_gradient(theta_.mutable_view());
    *static_cast<double*>(gradient_.mutable_view().data) = gradient(x());
    optimizer_->step(theta_.mutable_view(), gradient_.mutable_view());
    return x();
  }
  std::vector<double> steps(int count, const std::function<double(double)>& gradient) {
    std::vector<double> out;
    for (int i = 0; i < count; ++i) out.push_back(step(gradient));
    return out;
  }
  double velocity() const {
    State state = optimizer_->save();
    return state.vectors.empty() ? 0 : to_doubles(state.vectors.begin()->second.view()).at(0);
  }
  Optimizer& optimizer() { return *optimizer_; }
  Vec& theta() { return theta_; }

 private:
  std::unique_ptr<Optimizer> optimizer_;
  Vec theta_, gradient_;
};

}  // namespace sinew::optim
