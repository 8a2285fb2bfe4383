// Derivative checks in f64 against central differences.
//
// A function maps tensors to a tensor; checks reduce it to a scalar with fixed random weights, so every output
// element counts. Points must stay away from kinks by more than the step. Inputs may live on any device.
//
// Example:
//   EXPECT_TRUE(check_gradient([](auto& in) { return tanh(in[0]); }, {random_input({3, 4}, 1)}));
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "core/tensor.h"

namespace sinew::testing {

using TensorFn = std::function<Tensor(const std::vector<Tensor>&)>;

// f64 values uniform in [low, high) from Philox stream `stream`.
Tensor random_input(const Shape& shape, uint32_t stream, double low = -1, double high = 1, Device device = Device::cpu);

// d<w, f(x)>/dx by backward against central differences. Tolerance is relative to the largest derivative.
::testing::AssertionResult check_gradient(const TensorFn& f, const std::vector<Tensor>& inputs,
                                          double tolerance = 1e-7);
// Hv by double backward against central differences of the gradient.
::testing::AssertionResult check_hvp(const TensorFn& f, const std::vector<Tensor>& inputs, double tolerance = 1e-6);
// u'Hv = v'Hu to rounding.
::testing::AssertionResult check_hessian_symmetry(const TensorFn& f, const std::vector<Tensor>& inputs,
                                                  double tolerance = 1e-12);
// Third order: d/dx <Hv, u> by triple backward against central differences of Hv.
::testing::AssertionResult check_third_order(const TensorFn& f, const std::vector<Tensor>& inputs,
                                             double tolerance = 1e-5);

// Values on the host.
std::vector<double> values(const Tensor& t);
// |a - b| <= tolerance * max(1, |b|) for all elements.
::testing::AssertionResult near(const std::vector<double>& a, const std::vector<double>& b, double tolerance);

}  // namespace sinew::testing
