// Every differentiable op once, with inputs that stay away from its kinks. A row brings the gradient check, the Hv
// check, Hessian symmetry, the guarded device and the type sweep (tests/core/op_table_test.cpp).
#pragma once

#include <optional>
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
// Likewise of several types, one a floating-point input.
std::vector<Tensor> op_inputs(const OpRow& row, const std::vector<DType>& dtypes, Device device);
// The types that go together where activations are bf16; nothing when the op takes none.
std::optional<std::vector<DType>> bf16_types(const OpRow& row);

}  // namespace sinew::testing
