// Sums, means, maxima. Sum and broadcast are each other's derivative. A sum of bf16 is f32, so that nothing is lost in
// it; a mean is as large as its terms, and bf16 again.
#include <algorithm>

#include "core/ops/common.h"

namespace sinew {
namespace {

Shape keep_dims(const Shape& shape, unsigned reduced) {
  Shape out = shape;
  for (int i = 0; i < shape.ndim(); ++i)
    if (reduced & 1u << i) out.set(i, 1);
  return out;
}
Shape drop_dims(const Shape& shape, unsigned reduced) {
  Shape out;
  for (int i = 0; i < shape.ndim(); ++i)
    if (!(reduced & 1u << i)) out.push_back(shape[i]);
  return out;
}
unsigned axis_mask(const Tensor& x, const std::vector<int>& axes, const char* op) {
  if (axes.empty()) return (1u << x.ndim()) - 1;
  unsigned mask = 0;
  for (int a : axes) {
    a = x.shape().normalize_axis(a);
    SINEW_CHECK(!(mask & 1u << a), op, "axis ", a, " twice");
    mask |= 1u << a;
  }
  return mask;
}

Tensor run(ReduceOp op, const Tensor& x, int64_t outer, int64_t reduced, int64_t inner, const Shape& shape, DType out) {
  Tensor y = Tensor::empty(shape, out, x.device());
  if (y.numel()) kernels(x.device()).reduce({op, x.dtype(), outer, reduced, inner, x.data(), y.data()});
  return y;
}

// One kernel call per run of neighbouring axes, from the last run to the first. Not recorded.
Tensor reduce_axes(ReduceOp op, const Tensor& x, unsigned mask) {
  Tensor t = x.detach();
  for (int i = x.ndim() - 1; i >= 0; --i) {
    if (!(mask & 1u << i)) continue;
    int first = i;
    while (first > 0 && (mask & 1u << (first - 1))) --first;
    int64_t outer = 1, reduced = 1, inner = 1;
    for (int k = 0; k < first; ++k) outer *= t.shape()[k];
    for (int k = first; k <= i; ++k) reduced *= t.shape()[k];
    for (int k = i + 1; k < t.ndim(); ++k) inner *= t.shape()[k];
    Shape shape = t.shape();
    for (int k = first; k <= i; ++k) shape.set(k, 1);
    t = run(op, t, outer, reduced, inner, shape, op == ReduceOp::sum ? wide_of(t.dtype()) : t.dtype());
    i = first;
  }
  return t;
}

}  // namespace

namespace ops {
Tensor sum_rows_into(const Tensor& x, const Tensor& destination) {
  Tensor y = output(destination, {x.dim(1)}, wide_of(x.dtype()), x);
  if (y.numel()) kernels(x.device()).reduce({ReduceOp::sum, x.dtype(), 1, x.dim(0), x.dim(1), x.data(), y.data()});
  return y;
}
}  // namespace ops

Tensor sum(const Tensor& x, std::vector<int> axes, bool keepdims) {
  const unsigned mask = axis_mask(x, axes, "sum");
  const Shape kept = keep_dims(x.shape(), mask);
  const Shape shape = keepdims ? kept : drop_dims(x.shape(), mask);
  Tensor y = alias(reduce_axes(ReduceOp::sum, x, mask), shape);
  return record(y, {x}, "sum", [mask](const VjpContext& ctx, std::span<Tensor> out) {
    const Shape& shape = ctx.inputs[0].shape();
    out[0] = broadcast_to(ops::in_type(reshape(ctx.cotangent, keep_dims(shape, mask)), ctx.inputs[0].dtype()), shape);
  });
}

Tensor mean(const Tensor& x, std::vector<int> axes, bool keepdims) {
  ops::check_float_or_bf16("mean", x);
  Tensor total = sum(x, std::move(axes), keepdims);
  SINEW_CHECK(x.numel() > 0, "mean", "of no elements, shape ", x.shape());
  const double share = static_cast<double>(total.numel()) / static_cast<double>(x.numel());
  return ops::in_type(affine(total, share, 0), x.dtype());
}

Tensor max(const Tensor& x, std::vector<int> axes, bool keepdims) {
  SINEW_CHECK(x.numel() > 0, "max", "of no elements, shape ", x.shape());
  const unsigned mask = axis_mask(x, axes, "max");
  const Shape shape = keepdims ? keep_dims(x.shape(), mask) : drop_dims(x.shape(), mask);
  Tensor y = alias(reduce_axes(ReduceOp::max, x, mask), shape);
  return record(y, {x}, "max", [mask](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor& x = ctx.inputs[0];
    const Shape kept = keep_dims(x.shape(), mask);
    std::vector<int> axes;
    for (int i = 0; i < x.ndim(); ++i)
      if (mask & 1u << i) axes.push_back(i);
    const Tensor hits = equal(x, reshape(ctx.output, kept));
    const Tensor share = axes.empty() ? hits : hits / ops::in_type(sum(hits, axes, true), hits.dtype());
    out[0] = share * reshape(ctx.cotangent, kept);
  });
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  SINEW_CHECK(broadcast_shapes(shape, x.shape(), "sum_to") == x.shape(), "sum_to", "from ", x.shape(), " to ", shape);
  std::vector<int> axes;
  const int extra = x.ndim() - shape.ndim();
  for (int i = 0; i < x.ndim(); ++i)
    if (i < extra || shape[i - extra] != x.shape()[i]) axes.push_back(i);
  return reshape(axes.empty() ? x : ops::in_type(sum(x, axes, true), x.dtype()), shape);
}

Tensor argmax(const Tensor& x, int axis) {
  axis = x.shape().normalize_axis(axis);
  SINEW_CHECK(x.shape()[axis] > 0, "argmax", "over an empty axis of ", x.shape());
  int64_t outer = 1, inner = 1;
  for (int k = 0; k < axis; ++k) outer *= x.shape()[k];
  for (int k = axis + 1; k < x.ndim(); ++k) inner *= x.shape()[k];
  return run(ReduceOp::argmax, x, outer, x.shape()[axis], inner, drop_dims(x.shape(), 1u << axis), DType::i64);
}

}  // namespace sinew
