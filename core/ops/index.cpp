// Gather and scatter-add: each is the other's derivative.
#include "core/ops/common.h"

namespace sinew {

namespace ops {
void check_range(const char* op, const Tensor& index, int64_t bound) {
  if (index.device() != Device::cpu) return;
  const int64_t* p = index.data_as<int64_t>();
  for (int64_t i = 0; i < index.numel(); ++i)
    SINEW_CHECK(p[i] >= 0 && p[i] < bound, op, "index ", p[i], " at ", i, " is not in [0, ", bound, ")");
}
}  // namespace ops

namespace {
Shape with_rows(const Shape& shape, int64_t rows) {
  Shape s = shape;
  s.set(0, rows);
  return s;
}
int64_t width_of(const Tensor& x) {
  int64_t width = 1;
  for (int i = 1; i < x.ndim(); ++i) width *= x.shape()[i];
  return width;
}
}  // namespace

Tensor gather(const Tensor& x, const Tensor& index) {
  SINEW_CHECK(x.ndim() >= 1, "gather", "from a scalar");
  ops::check_index("gather", index, x.device());
  ops::check_range("gather", index, x.dim(0));
  Tensor y = Tensor::empty(with_rows(x.shape(), index.numel()), x.dtype(), x.device());
  if (y.numel())
    kernels(x.device())
        .gather({x.dtype(), index.numel(), x.dim(0), width_of(x), x.data(), static_cast<const int64_t*>(index.data()),
                 y.data()});
  return record(y, {x, index}, "gather", [](const VjpContext& ctx, std::span<Tensor> out) {
    if (ctx.needs(0)) out[0] = scatter_add(ctx.cotangent, ctx.inputs[1], ctx.inputs[0].dim(0));
  });
}

Tensor scatter_add(const Tensor& x, const Tensor& index, int64_t rows) {
  if (x.dtype() == DType::bf16) return cast(scatter_add(cast(x, DType::f32), index, rows), DType::bf16);
  ops::check_float("scatter_add", x);
  ops::check_index("scatter_add", index, x.device());
  SINEW_CHECK(x.ndim() >= 1 && x.dim(0) == index.numel() && rows >= 0, "scatter_add", index.numel(),
              " indices for shape ", x.shape(), " into ", rows, " rows");
  ops::check_range("scatter_add", index, rows);
  Tensor y = Tensor::empty(with_rows(x.shape(), rows), x.dtype(), x.device());
  if (y.numel())
    kernels(x.device())
        .scatter_add({x.dtype(), index.numel(), rows, width_of(x), x.data(), static_cast<const int64_t*>(index.data()),
                      y.data()});
  return record(y, {x, index}, "scatter_add", [](const VjpContext& ctx, std::span<Tensor> out) {
    if (ctx.needs(0)) out[0] = gather(ctx.cotangent, ctx.inputs[1]);
  });
}

Tensor one_hot(const Tensor& index, int64_t classes, DType dtype) {
  ops::check_index("one_hot", index, index.device());
  ops::check_range("one_hot", index, classes);
  Tensor y = Tensor::empty({index.numel(), classes}, dtype, index.device());
  ops::check_float("one_hot", y);
  if (y.numel())
    kernels(index.device())
        .one_hot({dtype, index.numel(), classes, static_cast<const int64_t*>(index.data()), y.data()});
  return y;
}

}  // namespace sinew
