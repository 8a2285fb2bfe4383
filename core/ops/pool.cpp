// Max and average pooling. Max pooling keeps which place of its window each value came from; its derivative scatters
// through those places and the derivative of that gathers, so the family is closed. Average pooling is linear.
#include "core/ops/common.h"

namespace sinew {
namespace {

kernel::PoolArgs geometry(const char* op, const Shape& x, const PoolOptions& o) {
  SINEW_CHECK(x.ndim() == 4, op, "x ", x, " must be (n, h, w, c)");
  SINEW_CHECK(o.kernel > 0 && o.stride > 0 && o.padding >= 0 && 2 * o.padding <= o.kernel, op, "kernel ", o.kernel,
              ", stride ", o.stride, ", padding ", o.padding,
              ": kernel and stride must be positive, the padding at most half the kernel");
  SINEW_CHECK(x[1] > 0 && x[2] > 0 && x[1] + 2 * o.padding >= o.kernel && x[2] + 2 * o.padding >= o.kernel, op,
              "windows of ", o.kernel, " do not fit x ", x, " padded by ", o.padding);
  kernel::PoolArgs args{};
  args.n = x[0], args.h = x[1], args.w = x[2], args.c = x[3];
  args.p = (args.h + 2 * o.padding - o.kernel) / o.stride + 1;
  args.q = (args.w + 2 * o.padding - o.kernel) / o.stride + 1;
  args.kernel = o.kernel, args.stride = o.stride, args.pad = o.padding;
  return args;
}

Shape x_shape(const kernel::PoolArgs& a) { return {a.n, a.h, a.w, a.c}; }
Shape y_shape(const kernel::PoolArgs& a) { return {a.n, a.p, a.q, a.c}; }

// The geometry of pooling x of (height, width) when only the pooled tensor is at hand.
kernel::PoolArgs transposed_geometry(const char* op, const Tensor& y, int64_t height, int64_t width,
                                     const PoolOptions& o) {
  SINEW_CHECK(y.ndim() == 4, op, "pooled ", y.shape(), " must be (n, h, w, c)");
  const kernel::PoolArgs args = geometry(op, {y.dim(0), height, width, y.dim(3)}, o);
  SINEW_CHECK(y.shape() == y_shape(args), op, "pooled ", y.shape(), " of x ", x_shape(args), ", which pools to ",
              y_shape(args));
  return args;
}

void check_places(const char* op, const Tensor& index, const kernel::PoolArgs& args, Device device) {
  SINEW_CHECK(index.dtype() == DType::u8 && index.shape() == y_shape(args) && index.device() == device, op,
              "places must be u8 ", y_shape(args), " on the same device, got ", to_string(index.dtype()), " ",
              index.shape());
}

using Entry = void (*)(const kernel::PoolArgs&);
Tensor run(Entry entry, kernel::PoolArgs args, const Tensor& x, uint8_t* index, const Shape& shape) {
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  args.dtype = x.dtype(), args.x = x.data(), args.y = y.data(), args.index = index;
  if (y.numel()) entry(args);
  return y;
}

uint8_t* places_of(const Tensor& index) { return static_cast<uint8_t*>(index.data()); }

struct MaxPool {
  Tensor y, index;
};
MaxPool run_max_pool(const Tensor& x, const PoolOptions& o) {
  ops::check_float_or_bf16("max_pool2d", x);
  const kernel::PoolArgs args = geometry("max_pool2d", x.shape(), o);
  SINEW_CHECK(o.kernel <= 16, "max_pool2d", "kernel ", o.kernel, "; a place in the window must fit a byte: at most 16");
  Tensor index = Tensor::empty(y_shape(args), DType::u8, x.device());
  Tensor y = run(kernels(x.device()).max_pool, args, x, places_of(index), y_shape(args));
  return {std::move(y), std::move(index)};
}

}  // namespace

Tensor max_pool2d(const Tensor& x, const PoolOptions& options) {
  const MaxPool r = run_max_pool(x, options);
  return record(r.y, {x, r.index}, "max_pool2d", [options](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor& x = ctx.inputs[0];
    out[0] = max_pool2d_scatter(ctx.cotangent, ctx.inputs[1], x.dim(1), x.dim(2), options);
  });
}

Tensor max_pool2d_places(const Tensor& x, const PoolOptions& options) { return run_max_pool(x, options).index; }

Tensor max_pool2d_gather(const Tensor& x, const Tensor& places, const PoolOptions& options) {
  ops::check_float_or_bf16("max_pool2d_gather", x);
  const kernel::PoolArgs args = geometry("max_pool2d_gather", x.shape(), options);
  check_places("max_pool2d_gather", places, args, x.device());
  const Tensor y = run(kernels(x.device()).max_pool_gather, args, x, places_of(places), y_shape(args));
  return record(y, {x, places}, "max_pool2d_gather", [options](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor& x = ctx.inputs[0];
    out[0] = max_pool2d_scatter(ctx.cotangent, ctx.inputs[1], x.dim(1), x.dim(2), options);
  });
}

Tensor max_pool2d_scatter(const Tensor& y, const Tensor& places, int64_t height, int64_t width,
                          const PoolOptions& options) {
  ops::check_float_or_bf16("max_pool2d_scatter", y);
  const kernel::PoolArgs args = transposed_geometry("max_pool2d_scatter", y, height, width, options);
  check_places("max_pool2d_scatter", places, args, y.device());
  const Tensor x = run(kernels(y.device()).max_pool_scatter, args, y, places_of(places), x_shape(args));
  return record(x, {y, places}, "max_pool2d_scatter", [options](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = max_pool2d_gather(ctx.cotangent, ctx.inputs[1], options);
  });
}

Tensor avg_pool2d(const Tensor& x, const PoolOptions& options) {
  ops::check_float_or_bf16("avg_pool2d", x);
  const kernel::PoolArgs args = geometry("avg_pool2d", x.shape(), options);
  const Tensor y = run(kernels(x.device()).avg_pool, args, x, nullptr, y_shape(args));
  return record(y, {x}, "avg_pool2d", [options](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor& x = ctx.inputs[0];
    out[0] = avg_pool2d_grad(ctx.cotangent, x.dim(1), x.dim(2), options);
  });
}

Tensor avg_pool2d_grad(const Tensor& g, int64_t height, int64_t width, const PoolOptions& options) {
  ops::check_float_or_bf16("avg_pool2d_grad", g);
  const kernel::PoolArgs args = transposed_geometry("avg_pool2d_grad", g, height, width, options);
  const Tensor x = run(kernels(g.device()).avg_pool_grad, args, g, nullptr, x_shape(args));
  return record(x, {g}, "avg_pool2d_grad", [options](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = avg_pool2d(ctx.cotangent, options);
  });
}

}  // namespace sinew
