// Reshape, permute, broadcast, slice and pad. The last four are one strided copy each.
#include <array>

#include "core/ops/common.h"

namespace sinew {
namespace {

kernel::StridedCopyArgs copy_args(const Tensor& x, const Shape& shape) {
  kernel::StridedCopyArgs args{};
  args.dtype = x.dtype();
  args.ndim = shape.ndim();
  int64_t stride = 1;
  for (int i = shape.ndim() - 1; i >= 0; --i) {
    args.shape[i] = shape[i];
    args.dst_stride[i] = stride;
    stride *= shape[i];
  }
  args.x = x.data();
  return args;
}

int64_t row_size(const Tensor& x) { return x.dim(0) == 0 ? 0 : x.numel() / x.dim(0); }

Shape with_rows(const Shape& shape, int64_t rows) {
  Shape s = shape;
  s.set(0, rows);
  return s;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  SINEW_CHECK(shape.numel() == x.numel(), "reshape", "from ", x.shape(), " to ", shape);
  return record(alias(x, shape), {x}, "reshape", [](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = reshape(ctx.cotangent, ctx.inputs[0].shape());
  });
}

Tensor reshape_infer(const Tensor& x, std::initializer_list<int64_t> dims) {
  int64_t known = 1;
  int unknown = 0;
  for (int64_t d : dims) d == -1 ? ++unknown : known *= d;
  SINEW_CHECK(unknown == 1 && known > 0 && x.numel() % known == 0, "reshape", "from ", x.shape(),
              ": exactly one extent may be -1 and the others must divide ", x.numel());
  Shape shape;
  for (int64_t d : dims) shape.push_back(d == -1 ? x.numel() / known : d);
  return reshape(x, shape);
}

Tensor flatten(const Tensor& x) {
  SINEW_CHECK(x.ndim() >= 1, "flatten", "of a scalar");
  if (x.ndim() == 2) return x;
  return reshape(x, {x.dim(0), row_size(x)});
}

Tensor permute(const Tensor& x, std::initializer_list<int> axes) {
  SINEW_CHECK(static_cast<int>(axes.size()) == x.ndim(), "permute", axes.size(), " axes for shape ", x.shape());
  std::array<int8_t, kMaxDims> forward{}, inverse{};
  unsigned seen = 0;
  int n = 0;
  Shape shape;
  for (int a : axes) {
    a = x.shape().normalize_axis(a);
    SINEW_CHECK(!(seen & 1u << a), "permute", "axis ", a, " twice");
    seen |= 1u << a;
    forward[static_cast<size_t>(n)] = static_cast<int8_t>(a);
    inverse[static_cast<size_t>(a)] = static_cast<int8_t>(n++);
    shape.push_back(x.shape()[a]);
  }
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  if (x.numel()) {
    kernel::StridedCopyArgs args = copy_args(x, shape);
    int64_t strides[kMaxDims], stride = 1;
    for (int i = n - 1; i >= 0; --i) strides[i] = stride, stride *= x.shape()[i];
    for (int i = 0; i < n; ++i) args.src_stride[i] = strides[forward[static_cast<size_t>(i)]];
    args.y = y.data();
    kernels(x.device()).strided_copy(args);
  }
  return record(y, {x}, "permute", [inverse, n](const VjpContext& ctx, std::span<Tensor> out) {
    const auto& p = inverse;
    switch (n) {
      case 1:
        out[0] = ctx.cotangent;
        break;
      case 2:
        out[0] = permute(ctx.cotangent, {p[0], p[1]});
        break;
      case 3:
        out[0] = permute(ctx.cotangent, {p[0], p[1], p[2]});
        break;
      case 4:
        out[0] = permute(ctx.cotangent, {p[0], p[1], p[2], p[3]});
        break;
      case 5:
        out[0] = permute(ctx.cotangent, {p[0], p[1], p[2], p[3], p[4]});
        break;
      case 6:
        out[0] = permute(ctx.cotangent, {p[0], p[1], p[2], p[3], p[4], p[5]});
        break;
      default:
        out[0] = ctx.cotangent;
    }
  });
}

Tensor transpose(const Tensor& x) {
  SINEW_CHECK(x.ndim() == 2, "transpose", "of shape ", x.shape(), "; needs a matrix");
  return permute(x, {1, 0});
}

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  SINEW_CHECK(broadcast_shapes(x.shape(), shape, "broadcast_to") == shape, "broadcast_to", "from ", x.shape(), " to ",
              shape);
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  if (y.numel()) {
    kernel::StridedCopyArgs args = copy_args(x, shape);
    int64_t stride = 1;
    for (int i = shape.ndim() - 1, k = x.ndim() - 1; i >= 0; --i, --k) {
      const int64_t extent = k >= 0 ? x.shape()[k] : 1;
      args.src_stride[i] = extent == 1 ? 0 : stride;
      stride *= extent;
    }
    args.y = y.data();
    kernels(x.device()).strided_copy(args);
  }
  return record(y, {x}, "broadcast_to", [](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = sum_to(ctx.cotangent, ctx.inputs[0].shape());
  });
}

Tensor slice(const Tensor& x, int64_t begin, int64_t end) {
  SINEW_CHECK(x.ndim() >= 1 && begin >= 0 && begin <= end && end <= x.dim(0), "slice", "rows [", begin, ", ", end,
              ") of shape ", x.shape());
  Tensor y = Tensor::empty(with_rows(x.shape(), end - begin), x.dtype(), x.device());
  copy(x.view().slice(begin * row_size(x), y.numel()), y.output_view());
  const int64_t before = begin, after = x.dim(0) - end;
  return record(y, {x}, "slice", [before, after](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = pad(ctx.cotangent, before, after);
  });
}

Tensor pad(const Tensor& x, int64_t before, int64_t after) {
  SINEW_CHECK(x.ndim() >= 1 && before >= 0 && after >= 0, "pad", before, " and ", after, " rows around shape ",
              x.shape());
  Tensor y = Tensor::zeros(with_rows(x.shape(), before + x.dim(0) + after), x.dtype(), x.device());
  copy(x.view(), y.output_view().slice(before * row_size(x), x.numel()));
  return record(y, {x}, "pad", [before](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = slice(ctx.cotangent, before, before + ctx.inputs[0].dim(0));
  });
}

}  // namespace sinew
