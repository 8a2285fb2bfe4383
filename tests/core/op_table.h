// Every differentiable op once, with inputs that stay away from its kinks. A row brings the gradient check, the Hv
// check, Hessian symmetry, the guarded device and the type sweep (tests/core/op_table_test.cpp).
#pragma once

#include <string>
#include <vector>

#include "tests/support/gradcheck.h"

namespace sinew::testing {

struct OpRow {
  std::string name;
  TensorFn f;
  std::vector<Shape> shapes;  // of the floating-point inputs
  double low = -1, high = 1;
  bool third_order = false;
  // Inputs i64 appended after the floats: indices or labels.
  std::vector<std::vector<int64_t>> indices = {};
};

const std::vector<OpRow>& op_table();
std::vector<Tensor> op_inputs(const OpRow& row, DType dtype, Device device);

}  // namespace sinew::testing
