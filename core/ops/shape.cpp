// Reshape, permute, broadcast, slices and their transposes, concatenation. All but the first are strided copies.
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

Shape with_extent(const Shape& shape, int axis, int64_t extent) {
  Shape s = shape;
  s.set(axis, extent);
  return s;
}

// n slabs of `axis` from x to y: slab i comes from x's from + i * from_step and goes to y's to + i * to_step.
void copy_axis(const Tensor& x, const Tensor& y, int axis, int64_t n, int64_t from, int64_t from_step, int64_t to,
               int64_t to_step) {
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; ++i) outer *= x.dim(i);
  for (int i = axis + 1; i < x.ndim(); ++i) inner *= x.dim(i);
  if (outer * n * inner == 0) return;
  const size_t width = size_of(x.dtype());
  kernel::StridedCopyArgs args{};
  args.dtype = x.dtype();
  args.ndim = 3;
  args.shape[0] = outer, args.shape[1] = n, args.shape[2] = inner;
  args.src_stride[0] = x.dim(axis) * inner, args.src_stride[1] = from_step * inner, args.src_stride[2] = 1;
  args.dst_stride[0] = y.dim(axis) * inner, args.dst_stride[1] = to_step * inner, args.dst_stride[2] = 1;
  args.x = static_cast<const char*>(x.data()) + static_cast<size_t>(from * inner) * width;
  args.y = static_cast<char*>(y.data()) + static_cast<size_t>(to * inner) * width;
  kernels(x.device()).strided_copy(args);
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

Tensor slice_axis(const Tensor& x, int axis, int64_t begin, int64_t end, int64_t step) {
  axis = x.shape().normalize_axis(axis);
  SINEW_CHECK(begin >= 0 && begin <= end && end <= x.dim(axis) && step >= 1, "slice", "[", begin, ", ", end, ") step ",
              step, " of axis ", axis, " of shape ", x.shape());
  const int64_t extent = x.dim(axis);
  Tensor y = Tensor::empty(with_extent(x.shape(), axis, (end - begin + step - 1) / step), x.dtype(), x.device());
  copy_axis(x, y, axis, y.dim(axis), begin, step, 0, 1);
  return record(y, {x}, "slice", [axis, begin, extent, step](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = spread_axis(ctx.cotangent, axis, begin, extent, step);
  });
}

Tensor spread_axis(const Tensor& x, int axis, int64_t begin, int64_t extent, int64_t step) {
  axis = x.shape().normalize_axis(axis);
  const int64_t n = x.dim(axis);
  SINEW_CHECK(begin >= 0 && step >= 1 && (n == 0 ? begin <= extent : begin + (n - 1) * step < extent), "spread", n,
              " elements of axis ", axis, " from ", begin, " in steps of ", step, " into an extent of ", extent);
  Tensor y = Tensor::zeros(with_extent(x.shape(), axis, extent), x.dtype(), x.device());
  copy_axis(x, y, axis, n, 0, 1, begin, step);
  const int64_t end = n == 0 ? begin : begin + (n - 1) * step + 1;
  return record(y, {x}, "spread", [axis, begin, end, step](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = slice_axis(ctx.cotangent, axis, begin, end, step);
  });
}

Tensor slice(const Tensor& x, int64_t begin, int64_t end) { return slice_axis(x, 0, begin, end); }

Tensor pad(const Tensor& x, int64_t before, int64_t after) { return pad_axis(x, 0, before, after); }

Tensor pad_axis(const Tensor& x, int axis, int64_t before, int64_t after) {
  SINEW_CHECK(before >= 0 && after >= 0, "pad", before, " and ", after, " zeros around shape ", x.shape());
  return spread_axis(x, axis, before, before + x.dim(axis) + after);
}

Tensor concat(const Tensor& a, const Tensor& b, int axis) {
  axis = a.shape().normalize_axis(axis);
  const int64_t n = a.dim(axis);
  SINEW_CHECK(a.dtype() == b.dtype() && a.device() == b.device() && a.ndim() == b.ndim() &&
                  with_extent(a.shape(), axis, 0) == with_extent(b.shape(), axis, 0),
              "concat", a.shape(), " ", to_string(a.dtype()), " and ", b.shape(), " ", to_string(b.dtype()),
              " along axis ", axis);
  Tensor y = Tensor::empty(with_extent(a.shape(), axis, n + b.dim(axis)), a.dtype(), a.device());
  copy_axis(a, y, axis, n, 0, 1, 0, 1);
  copy_axis(b, y, axis, b.dim(axis), 0, 1, n, 1);
  return record(y, {a, b}, "concat", [axis, n](const VjpContext& ctx, std::span<Tensor> out) {
    if (ctx.needs(0)) out[0] = slice_axis(ctx.cotangent, axis, 0, n);
    if (ctx.needs(1)) out[1] = slice_axis(ctx.cotangent, axis, n, ctx.cotangent.dim(axis));
  });
}

}  // namespace sinew
