// Convolution: forward, towards the input and towards the filters. Each is linear in both operands and differentiates
// into the other two, so the family is closed and has derivatives of any order. The second one, a Hessian-vector
// product's, makes convolutions whose results are added in pairs. In bf16 too: images are bf16, filters f32, and so are
// their cotangents.
#include <limits>
#include <utility>

#include "core/ops/common.h"

namespace sinew {
namespace {

// Fills sizes and strides; x is (n, h, w, c), filters are (k, r, s, c). Checks everything but the operand in place of
// which `out` comes.
kernel::ConvArgs geometry(const char* op, const Shape& x, const Shape& filter, const ConvOptions& o) {
  SINEW_CHECK(x.ndim() == 4 && filter.ndim() == 4, op, "x ", x, " must be (n, h, w, c) and the filters ", filter,
              " (k, r, s, c)");
  SINEW_CHECK(x[3] == filter[3] && x[3] > 0, op, "x ", x, " has ", x[3], " channels, the filters ", filter, " ",
              filter[3]);
  SINEW_CHECK(filter.numel() > 0, op, "empty filters ", filter);
  SINEW_CHECK(o.stride_h > 0 && o.stride_w > 0 && o.pad_h >= 0 && o.pad_w >= 0, op, "stride (", o.stride_h, ", ",
              o.stride_w, ") must be positive and padding (", o.pad_h, ", ", o.pad_w, ") not negative");
  SINEW_CHECK(x[1] + 2 * o.pad_h >= filter[1] && x[2] + 2 * o.pad_w >= filter[2] && x[1] > 0 && x[2] > 0, op,
              "filters ", filter, " do not fit x ", x, " padded by (", o.pad_h, ", ", o.pad_w, ")");
  kernel::ConvArgs args{};
  args.n = x[0], args.h = x[1], args.w = x[2], args.c = x[3];
  args.k = filter[0], args.r = filter[1], args.s = filter[2];
  args.p = (args.h + 2 * o.pad_h - args.r) / o.stride_h + 1;
  args.q = (args.w + 2 * o.pad_w - args.s) / o.stride_w + 1;
  args.stride_h = o.stride_h, args.stride_w = o.stride_w, args.pad_h = o.pad_h, args.pad_w = o.pad_w;
  return args;
}

Shape x_shape(const kernel::ConvArgs& a) { return {a.n, a.h, a.w, a.c}; }
Shape filter_shape(const kernel::ConvArgs& a) { return {a.k, a.r, a.s, a.c}; }
Shape y_shape(const kernel::ConvArgs& a) { return {a.n, a.p, a.q, a.k}; }

void check_image_and_filter(const char* op, const Tensor& image, const Tensor& filter) {
  ops::check_float_or_bf16(op, image);
  ops::check_beside(op, image, filter);
}

void check_y(const char* op, const Tensor& gy, const kernel::ConvArgs& args) {
  SINEW_CHECK(gy.shape() == y_shape(args), op, "cotangent ", gy.shape(), " of a convolution that makes ", y_shape(args),
              " of x ", x_shape(args), " with filters ", filter_shape(args));
}

// A second convolution of the same sizes, whose result is added to the first's: its image (x, or the cotangent towards
// the input) and filters. Undefined: none. With it may come the derivative towards the filters of the first's image and
// what is `beside` it, into `dw`, where both are defined, and then that of the second's, into `own_dw`.
struct Second {
  Tensor image, filter, beside = Tensor(), dw = Tensor(), own_dw = Tensor();
};

// The result is base + the convolution's towards the input.
void convolve_onto(const Tensor& base, const kernel::ConvArgs& args) {
  const KernelTable& table = kernels(base.device());
  kernel::ConvPairArgs pair{args, true, nullptr, nullptr};
  pair.base = base.data();
  if (table.conv_pair && table.conv_pair(pair)) return;
  table.conv_dx(args);
  table.binary({BinaryOp::add, base.dtype(), 1, {base.numel()}, {1}, {1}, base.data(), args.out, args.out});
}

void convolve(const Tensor& image, kernel::ConvArgs args, bool towards_input, const Second& second) {
  const KernelTable& table = kernels(image.device());
  const auto one = towards_input ? table.conv_dx : table.conv_forward;
  if (!second.image.defined()) return one(args);
  kernel::ConvPairArgs pair{args, towards_input, second.image.data(), second.filter.data()};
  if (second.dw.defined()) {
    (towards_input ? pair.x : pair.y) = second.beside.data(), pair.dw = second.dw.data();
    pair.second_dw = second.own_dw.defined() ? second.own_dw.data() : nullptr;
    if (table.conv_pair && table.conv_pair(pair)) return;
    kernel::ConvArgs dw = pair;
    dw.out = std::exchange(pair.dw, nullptr), dw.accumulate = false;
    table.conv_dw(dw);
    dw.out = std::exchange(pair.second_dw, nullptr), (towards_input ? dw.y : dw.x) = pair.second;
    if (dw.out) table.conv_dw(dw);
  }
  if (table.conv_pair && table.conv_pair(pair)) return;
  one(args);
  (towards_input ? args.y : args.x) = pair.second, args.filter = pair.second_filter, args.accumulate = true;
  one(args);
}

// Without recording: added to `sum` where it is defined.
Tensor forward(const char* op, const Tensor& x, const Tensor& w, const Tensor& bias, Activation act,
               const ConvOptions& options, const Tensor& sum = Tensor(), const Second& second = {}) {
  check_image_and_filter(op, x, w);
  kernel::ConvArgs args = geometry(op, x.shape(), w.shape(), options);
  args.accumulate = sum.defined();
  Tensor y = sum.defined() ? sum : Tensor::empty(y_shape(args), x.dtype(), x.device());
  if (y.numel() == 0) return y;
  args.dtype = x.dtype(), args.x = x.data(), args.filter = w.data(), args.out = y.data();
  args.bias = bias.defined() ? bias.data() : nullptr, args.act = act;
  convolve(x, args, false, second);
  return y;
}

// Without recording, added to `sum` or else into `destination` where they are defined, or else the sum of this and
// `base`.
Tensor towards_input(const Tensor& gy, const Tensor& w, int64_t height, int64_t width, const ConvOptions& options,
                     const Tensor& destination, const Tensor& sum, const Second& second = {},
                     const Tensor& base = Tensor()) {
  check_image_and_filter("conv2d_dx", gy, w);
  SINEW_CHECK(gy.ndim() == 4 && w.ndim() == 4, "conv2d_dx", "cotangent ", gy.shape(), " and filters ", w.shape(),
              " must have four axes");
  kernel::ConvArgs args = geometry("conv2d_dx", {gy.dim(0), height, width, w.dim(3)}, w.shape(), options);
  check_y("conv2d_dx", gy, args);
  args.accumulate = sum.defined();
  Tensor gx = sum.defined() ? sum : ops::output(destination, x_shape(args), gy);
  if (gx.numel() == 0) return gx;
  args.dtype = gy.dtype(), args.y = gy.data(), args.filter = w.data(), args.out = gx.data();
  base.defined() ? convolve_onto(base, args) : convolve(gy, args, true, second);
  return gx;
}

Tensor towards_filter(const Tensor& x, const Tensor& gy, int64_t rows, int64_t cols, const ConvOptions& options,
                      const Tensor& destination) {
  ops::check_float_or_bf16("conv2d_dw", x);
  ops::check_pair("conv2d_dw", x, gy);
  SINEW_CHECK(x.ndim() == 4 && gy.ndim() == 4, "conv2d_dw", "x ", x.shape(), " and cotangent ", gy.shape(),
              " must have four axes");
  kernel::ConvArgs args = geometry("conv2d_dw", x.shape(), {gy.dim(3), rows, cols, x.dim(3)}, options);
  check_y("conv2d_dw", gy, args);
  Tensor gw = ops::output(destination, filter_shape(args), wide_of(x.dtype()), x);
  args.dtype = x.dtype(), args.x = x.data(), args.y = gy.data(), args.out = gw.data();
  if (args.n == 0)
    fill(gw.output_view(), 0);
  else
    kernels(x.device()).conv_dw(args);
  return gw;
}

// conv2d_dx(a, b) that is yet to be made, and what it needs beside the tensors.
Tensor make_towards_input(const LatePart& part, const Tensor& sum) {
  const auto& n = part.numbers;
  return towards_input(part.a, part.b, n[0], n[1], {n[2], n[3], n[4], n[5]}, Tensor(), sum);
}
std::array<int64_t, 6> late_numbers(const Tensor& x, const ConvOptions& o) {
  return {x.dim(1), x.dim(2), o.stride_h, o.stride_w, o.pad_h, o.pad_w};
}
// Takes over the part of the cotangent of conv2d's x that goes with conv2d_dx(g, w).
Second take_late_part(const VjpContext& ctx, const Tensor& g, const Tensor& w, const ConvOptions& options) {
  LatePart& late = ctx.late(0);
  if (late.make != make_towards_input || late.numbers != late_numbers(ctx.inputs[0], options) ||
      late.a.shape() != g.shape() || late.b.shape() != w.shape())
    return {};
  const LatePart part = std::exchange(late, {});
  return {part.a, part.b};
}

// conv2d(x, w), added to `sum` when there is one, which is never while recording.
Tensor conv2d_onto(const Tensor& sum, const Tensor& x, const Tensor& w, const ConvOptions& options) {
  return sum.defined() ? forward("conv2d", x, w, Tensor(), Activation::none, options, sum) : conv2d(x, w, options);
}

// What comes with a convolution of `image`: second and, into the filters' cotangent `out`, the derivative towards them
// of image and beside.
Second with_filter_gradient(Second second, const Tensor& beside, const Tensor& w, const Tensor& destination,
                            Tensor& out) {
  if (beside.numel() == 0) return second;
  second.beside = beside;
  second.dw = out = ops::output(destination, w.shape(), w);
  return second;
}

// The inputs of both_gradients. kResult is its second result, to be filled in if it was postponed. kBase is not always
// there.
enum { kCotangent, kImage, kFilter, kResult, kBase };

// The derivative of both_gradients for the cotangents to_x and to_w of its results, while recording. `postponed`, where
// it is defined, gets the value of conv2d_dw(x, gy).
void recorded_second(const VjpContext& ctx, const ConvOptions& options, const Tensor& postponed,
                     std::span<Tensor> out) {
  const Tensor &gy = ctx.inputs[kCotangent], &x = ctx.inputs[kImage], &w = ctx.inputs[kFilter];
  const Tensor &to_x = ctx.cotangents[0], &to_w = ctx.cotangents[1];
  if (postponed.defined()) towards_filter(x, gy, w.dim(1), w.dim(2), options, postponed);
  if (to_x.defined()) {
    if (ctx.needs(0)) out[0] = conv2d(to_x, w, options);
    if (ctx.needs(2)) out[2] = conv2d_dw(to_x, gy, w.dim(1), w.dim(2), options);
  }
  if (to_w.defined()) {
    if (ctx.needs(0)) out[0] = to_x.defined() ? out[0] + conv2d(x, to_w, options) : conv2d(x, to_w, options);
    if (ctx.needs(1)) out[1] = conv2d_dx(gy, to_w, x.dim(1), x.dim(2), options);
  }
}
// The same while nothing is recorded.
void fused_second(const VjpContext& ctx, const ConvOptions& options, Tensor postponed, std::span<Tensor> out) {
  const Tensor &gy = ctx.inputs[kCotangent], &x = ctx.inputs[kImage], &w = ctx.inputs[kFilter];
  const Tensor &to_x = ctx.cotangents[0], &to_w = ctx.cotangents[1];
  if (ctx.needs(0) && to_x.defined() && to_w.defined()) {
    Second second{x, to_w};
    if (ctx.needs(2)) second = with_filter_gradient(second, gy, w, ctx.destination(2), out[2]);
    if (second.dw.defined()) second.own_dw = std::exchange(postponed, Tensor());
    out[0] = forward("conv2d", to_x, w, Tensor(), Activation::none, options, ctx.sum(0), second);
  } else if (ctx.needs(0)) {
    out[0] = to_x.defined() ? conv2d_onto(ctx.sum(0), to_x, w, options) : conv2d_onto(ctx.sum(0), x, to_w, options);
  }
  if (ctx.needs(2) && to_x.defined() && !out[2].defined())
    out[2] = towards_filter(to_x, gy, w.dim(1), w.dim(2), options, ctx.destination(2));
  if (postponed.defined()) towards_filter(x, gy, w.dim(1), w.dim(2), options, postponed);
  if (!ctx.needs(1) || !to_w.defined()) return;
  if (ctx.late(1))
    out[1] = towards_input(gy, to_w, x.dim(1), x.dim(2), options, ctx.destination(1), ctx.sum(1));
  else
    ctx.late(1) = {gy, to_w, late_numbers(x, options), make_towards_input};
}

// conv2d_dx(gy, w), added to `base` where that is defined, and conv2d_dw(x, gy) as one recorded op: its derivative,
// given the cotangents of both, makes sums of two convolutions in one pass. `postpone`: it makes the value of the
// second result too, in the same pass where there is a kernel for that.
std::array<Tensor, 2> both_gradients(const Tensor& gy, const Tensor& x, const Tensor& w, const ConvOptions& options,
                                     const Tensor& base, bool postpone) {
  postpone = postpone && kernels(x.device()).conv_pair && x.numel() > 0;
  std::array<Tensor, 2> both{
      towards_input(gy, w, x.dim(1), x.dim(2), options, Tensor(), Tensor(), {}, base),
      postpone ? Tensor::full(w.shape(), std::numeric_limits<double>::quiet_NaN(), w.dtype(), w.device())
               : towards_filter(x, gy, w.dim(1), w.dim(2), options, Tensor())};
  const auto vjp = [options, postpone](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor postponed = postpone ? ctx.inputs[kResult] : Tensor();
    GradMode::enabled() ? recorded_second(ctx, options, postponed, out) : fused_second(ctx, options, postponed, out);
    if (out.size() > kBase && ctx.needs(kBase)) out[kBase] = ctx.cotangents[0];
  };
  const Tensor result = alias(both[1], both[1].shape());
  if (base.defined())
    record_all(both, {gy, x, w, result, base}, "conv2d_gradients", vjp);
  else
    record_all(both, {gy, x, w, result}, "conv2d_gradients", vjp);
  return both;
}

// The derivatives of conv2d: recorded ops, or straight into the destinations.
void backward(const VjpContext& ctx, const Tensor& g, const ConvOptions& options, std::span<Tensor> out) {
  const Tensor &x = ctx.inputs[0], &w = ctx.inputs[1];
  if (ctx.needs(0) && ctx.needs(1) && recording({g, x, w})) {
    std::array<Tensor, 2> both =
        both_gradients(g, x, w, options, std::exchange(ctx.received(0), Tensor()), ctx.may_postpone(1));
    out[0] = std::move(both[0]), out[1] = std::move(both[1]);
    return;
  }
  if (ctx.needs(0) && recording({g, w})) {
    out[0] = conv2d_dx(g, w, x.dim(1), x.dim(2), options);
  } else if (ctx.needs(0)) {
    Second second = take_late_part(ctx, g, w, options);
    if (second.image.defined() && ctx.needs(1)) second = with_filter_gradient(second, x, w, ctx.destination(1), out[1]);
    out[0] = towards_input(g, w, x.dim(1), x.dim(2), options, ctx.destination(0), ctx.sum(0), second);
  }
  if (ctx.needs(1) && !out[1].defined())
    out[1] = recording({x, g}) ? conv2d_dw(x, g, w.dim(1), w.dim(2), options)
                               : towards_filter(x, g, w.dim(1), w.dim(2), options, ctx.destination(1));
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& w, const ConvOptions& options) {
  return record(
      forward("conv2d", x, w, Tensor(), Activation::none, options), {x, w}, "conv2d",
      [options](const VjpContext& ctx, std::span<Tensor> out) { backward(ctx, ctx.cotangent, options, out); });
}

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, Activation act, const ConvOptions& options) {
  if (bias.defined()) {
    ops::check_beside("conv2d", x, bias);
    SINEW_CHECK(w.ndim() == 4 && bias.shape() == Shape({w.dim(0)}), "conv2d", "bias ", bias.shape(), " for filters ",
                w.shape());
  }
  // The kernels fuse what networks put behind convolutions; the other two are passes of their own.
  if (act == Activation::tanh) return tanh(conv2d(x, w, bias, Activation::none, options));
  if (act == Activation::sigmoid) return sigmoid(conv2d(x, w, bias, Activation::none, options));
  const Tensor y = forward("conv2d", x, w, bias, act, options);
  auto vjp = [act, options](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor g = act == Activation::relu ? relu_grad(ctx.cotangent, ctx.output) : ctx.cotangent;
    backward(ctx, g, options, out);
    if (ctx.inputs.size() < 3 || !ctx.needs(2)) return;
    const int64_t k = g.dim(3);
    out[2] = recording({g}) ? sum(g, {0, 1, 2}) : ops::sum_rows_into(alias(g, {g.numel() / k, k}), ctx.destination(2));
  };
  return bias.defined() ? record(y, {x, w, bias}, "conv2d", vjp) : record(y, {x, w}, "conv2d", vjp);
}

Tensor conv2d_dx(const Tensor& gy, const Tensor& w, int64_t height, int64_t width, const ConvOptions& options) {
  return record(towards_input(gy, w, height, width, options, Tensor(), Tensor()), {gy, w}, "conv2d_dx",
                [options](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor &gy = ctx.inputs[0], &w = ctx.inputs[1], &c = ctx.cotangent;
                  if (ctx.needs(0)) out[0] = conv2d_onto(ctx.sum(0), c, w, options);
                  if (ctx.needs(1)) out[1] = conv2d_dw(c, gy, w.dim(1), w.dim(2), options);
                });
}

Tensor conv2d_dw(const Tensor& x, const Tensor& gy, int64_t rows, int64_t cols, const ConvOptions& options) {
  return record(towards_filter(x, gy, rows, cols, options, Tensor()), {x, gy}, "conv2d_dw",
                [options](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor &x = ctx.inputs[0], &gy = ctx.inputs[1], &c = ctx.cotangent;
                  if (ctx.needs(0))
                    out[0] = recording({gy, c})
                                 ? conv2d_dx(gy, c, x.dim(1), x.dim(2), options)
                                 : towards_input(gy, c, x.dim(1), x.dim(2), options, ctx.destination(0), ctx.sum(0));
                  if (ctx.needs(1)) out[1] = conv2d_onto(ctx.sum(1), x, c, options);
                });
}

}  // namespace sinew
