// Runs an optimizer on one scalar parameter with a gradient, and a curvature where it is asked for, given as functions;
// f64 on the CPU.
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
    diagonal_ = Vec::zeros(layout.size(), DType::f64);
    x() = start;
  }
  void set_curvature(std::function<double(double)> curvature) { curvature_ = std::move(curvature); }
  double& x() { return *static_cast<double*>(theta_.mutable_view().data); }
  // One step; the gradient is taken where before_gradient left theta. Returns the new x.
  double step(const std::function<double(double)>& gradient) {
    optimizer_->before_gradient(theta_.mutable_view());
    *static_cast<double*>(gradient_.mutable_view().data) = gradient(x());
    VecView diagonal;
    if (optimizer_->needs().curvature != Curvature::none) {
      *static_cast<double*>(diagonal_.mutable_view().data) = curvature_(x());
      diagonal = diagonal_.mutable_view();
    }
    optimizer_->step(theta_.mutable_view(), gradient_.mutable_view(), diagonal);
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
  Vec theta_, gradient_, diagonal_;
  std::function<double(double)> curvature_ = [](double) { return 1; };
};

// One step on a bowl: the gradient is theta - target, the diagonal one that the caller made. gradient and scratch are
// overwritten.
inline void bowl_step(Optimizer& optimizer, Vec& theta, const Vec& target, Vec& gradient, const Vec& diagonal,
                      Vec& scratch) {
  optimizer.before_gradient(theta.mutable_view());
  axpby(1, theta.view(), -1, target.view(), gradient.mutable_view());
  VecView d;
  if (optimizer.needs().curvature != Curvature::none) {
    copy(diagonal.view(), scratch.mutable_view());
    d = scratch.mutable_view();
  }
  optimizer.step(theta.mutable_view(), gradient.mutable_view(), d);
}

}  // namespace sinew::optim
