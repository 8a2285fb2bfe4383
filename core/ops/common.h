// Shared by the op families: argument checks, and variants that write into a given destination.
#pragma once

#include <functional>
#include <vector>

#include "core/autograd.h"
#include "core/ops.h"

namespace sinew::ops {

inline void check_float(const char* op, const Tensor& x) {
  SINEW_CHECK(is_float(x.dtype()), op, "needs f32 or f64, got ", to_string(x.dtype()), " ", x.shape());
}
inline void check_float_or_bf16(const char* op, const Tensor& x) {
  SINEW_CHECK(is_float_or_bf16(x.dtype()), op, "needs f32, f64 or bf16, got ", to_string(x.dtype()), " ", x.shape());
}
inline void check_pair(const char* op, const Tensor& a, const Tensor& b) {
  SINEW_CHECK(a.dtype() == b.dtype() && a.device() == b.device(), op, "operands differ: ", a.shape(), " ",
              to_string(a.dtype()), " on ", to_string(a.device()), " and ", b.shape(), " ", to_string(b.dtype()),
              " on ", to_string(b.device()));
}
inline void check_same(const char* op, const Tensor& a, const Tensor& b) {
  check_pair(op, a, b);
  SINEW_CHECK(a.shape() == b.shape(), op, "shapes ", a.shape(), " and ", b.shape(), " differ");
}
// A vector or matrix that goes with x: in x's type, f32 beside bf16.
inline void check_beside(const char* op, const Tensor& x, const Tensor& v) {
  SINEW_CHECK(v.dtype() == wide_of(x.dtype()) && v.device() == x.device(), op, "operands differ: ", x.shape(), " ",
              to_string(x.dtype()), " on ", to_string(x.device()), " needs ", to_string(wide_of(x.dtype())),
              " beside it, got ", v.shape(), " ", to_string(v.dtype()), " on ", to_string(v.device()));
}
inline void check_index(const char* op, const Tensor& index, Device device) {
  SINEW_CHECK(index.dtype() == DType::i64 && index.ndim() == 1 && index.device() == device, op,
              "indices must be i64 (n) on the same device, got ", to_string(index.dtype()), " ", index.shape());
}
// Host-side range check; only where the indices can be read at no cost.
void check_range(const char* op, const Tensor& index, int64_t bound);

inline Tensor like(const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), x.device()); }
// `destination` when it is defined and fits, else a fresh tensor on x's device.
inline Tensor output(const Tensor& destination, const Shape& shape, DType dtype, const Tensor& x) {
  if (destination.defined() && destination.shape() == shape && destination.dtype() == dtype) return destination;
  return Tensor::empty(shape, dtype, x.device());
}
inline Tensor output(const Tensor& destination, const Shape& shape, const Tensor& x) {
  return output(destination, shape, x.dtype(), x);
}
inline Tensor in_type(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : cast(x, dtype); }

// Fills `out` as the derivative of the same function made of public ops: composite maps the recorded inputs to the
// results. For the orders of a fused op that are not hot; to be called in its vjp.
using Composite = std::function<std::vector<Tensor>(std::span<const Tensor> inputs)>;
void derivative_by_composite(const VjpContext& ctx, std::span<Tensor> out, const Composite& composite);

// matmul of matrices without recording, into `destination` when defined.
Tensor matmul_into(const Tensor& a, const Tensor& b, bool trans_a, bool trans_b, const Tensor& destination);
// sum over axis 0 of a matrix without recording; in f32 of bf16.
Tensor sum_rows_into(const Tensor& x, const Tensor& destination);

}  // namespace sinew::ops
