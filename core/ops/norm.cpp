// Batch norm (Ioffe and Szegedy 2015, algorithm 1) with an optional residual and rectifier.
//
// Per channel over n rows, m = g where the rectifier let the element through, xh = (x - mean) s, s = inv_std, < > the
// mean over rows, P(v) = v - <v> - xh <v xh>, which is self-adjoint:
//   dx = gamma s P(m)     dgamma = n <m xh>     dbeta = n <m>     dresidual = m
// Again, for cotangents u of dx, a of dgamma, b of dbeta, r of dresidual, with q = <m u> - <m><u> - <m xh><u xh>:
//   to g      gamma s P(u) + a xh + b + r, masked
//   to gamma  n s q
//   to x      s P(h) - gamma s^2 q xh,  h = a m - gamma s (<u xh> m + <m xh> u)
// The first two orders are one kernel each, of two passes over memory; higher ones go through the composite. Of bf16
// data (vectors are f32 then) there is the first order.
#include "core/ops/common.h"

namespace sinew {
namespace {

int64_t rows_of(const Tensor& x) { return x.numel() / x.dim(-1); }

void check_channels(const char* op, const Tensor& x, std::initializer_list<Tensor> vectors) {
  ops::check_float_or_bf16(op, x);
  SINEW_CHECK(x.ndim() >= 2 && x.numel() > 0, op, "of shape ", x.shape(), "; needs (..., channels) with elements");
  for (const Tensor& v : vectors) {
    ops::check_beside(op, x, v);
    SINEW_CHECK(v.shape() == Shape({x.dim(-1)}), op, "vector ", v.shape(), " for ", x.dim(-1), " channels of ",
                x.shape());
  }
}
void check_residual(const char* op, const Tensor& x, const Tensor& residual, Activation act) {
  if (residual.defined()) ops::check_same(op, x, residual);
  SINEW_CHECK(act == Activation::none || act == Activation::relu, op, "takes no activation but relu");
}

std::vector<int> row_axes(const Tensor& x) {
  std::vector<int> axes;
  for (int i = 0; i + 1 < x.ndim(); ++i) axes.push_back(i);
  return axes;
}

const void* data_of(const Tensor& t) { return t.defined() ? t.data() : nullptr; }

// What one evaluation of batch norm's first derivative works on. y is undefined unless the mask comes from it.
struct GradInputs {
  Tensor g, x, gamma, beta, mean, inv_std, y;
  bool relu;
  double eps;
};
// kMasked: g where y is positive, which is dresidual; only there to be read. It comes with y.
enum Position { kG, kX, kGamma, kBeta, kMean, kInvStd, kY, kMasked };

// dx, dgamma, dbeta and, with y, dresidual, from public ops.
std::vector<Tensor> grad_composite(std::span<const Tensor> in, bool relu, double eps) {
  const Tensor &x = in[kX], &gamma = in[kGamma];
  const std::vector<int> axes = row_axes(x);
  const Tensor centered = x - mean(x, axes);
  const Tensor s = reciprocal(sqrt(mean(square(centered), axes) + eps)), xh = centered * s;
  const bool from_y = in.size() > kY;
  const Tensor m = relu ? relu_grad(in[kG], from_y ? in[kY] : xh * gamma + in[kBeta]) : in[kG];
  std::vector<Tensor> out{gamma * s * (m - mean(m, axes) - xh * mean(m * xh, axes)), sum(m * xh, axes), sum(m, axes)};
  if (from_y) out.push_back(m);
  return out;
}

void grad_vjp(const VjpContext& ctx, std::span<Tensor> out, bool relu, double eps) {
  const std::span<const Tensor>& in = ctx.inputs;
  SINEW_CHECK(in[kX].dtype() != DType::bf16, "batch_norm", "has no second derivative of bf16 data; use f32");
  if (GradMode::enabled()) {
    ops::derivative_by_composite(
        ctx, out, [relu, eps](std::span<const Tensor> inputs) { return grad_composite(inputs, relu, eps); });
    return;
  }
  const bool from_y = in.size() > kY;
  auto or_zeros = [&](size_t i) {
    return ctx.cotangents[i].defined() ? ctx.cotangents[i]
                                       : Tensor::zeros(in[kX].shape(), in[kX].dtype(), in[kX].device());
  };
  const Tensor u = or_zeros(0), r = from_y ? or_zeros(3) : Tensor();
  out[kG] = ops::like(in[kX]);
  out[kX] = ops::like(in[kX]);
  if (ctx.needs(kGamma)) out[kGamma] = ops::output(ctx.destination(kGamma), in[kGamma].shape(), in[kGamma]);
  kernel::BatchNormGrad2Args args{};
  args.dtype = u.dtype(), args.relu = relu;
  args.rows = rows_of(in[kX]), args.channels = in[kX].dim(-1);
  args.g = in[from_y ? kMasked : kG].data(), args.masked = from_y;
  args.x = in[kX].data(), args.y = from_y ? in[kY].data() : nullptr;
  args.gamma = in[kGamma].data(), args.beta = in[kBeta].data();
  args.mean = in[kMean].data(), args.inv_std = in[kInvStd].data();
  args.u = u.data(), args.a = data_of(ctx.cotangents[1]), args.b = data_of(ctx.cotangents[2]), args.r = data_of(r);
  args.g2 = out[kG].data(), args.x2 = out[kX].data();
  args.gamma2 = out[kGamma].defined() ? out[kGamma].data() : nullptr;
  kernels(u.device()).batch_norm_grad2(args);
}

// dx (undefined unless needed), dgamma, dbeta and, with y, dresidual. One op of several results.
// dx is added to `sum` where that is defined, which is never while recording.
std::vector<Tensor> batch_norm_grad(const GradInputs& in, bool need_dx, const Tensor& dgamma_to, const Tensor& dbeta_to,
                                    const Tensor& sum) {
  const Shape channels = in.gamma.shape();
  // A recorded op has all its results.
  need_dx = need_dx || recording({in.g, in.x, in.gamma, in.beta});
  std::vector<Tensor> out{!need_dx        ? Tensor()
                          : sum.defined() ? sum
                                          : ops::like(in.x),
                          ops::output(dgamma_to, channels, in.gamma), ops::output(dbeta_to, channels, in.gamma)};
  if (in.y.defined()) out.push_back(ops::like(in.x));
  kernels(in.x.device())
      .batch_norm_grad({in.x.dtype(), in.relu, rows_of(in.x), in.x.dim(-1), in.g.data(), in.x.data(), data_of(in.y),
                        in.gamma.data(), in.beta.data(), in.mean.data(), in.inv_std.data(),
                        need_dx ? out[0].data() : nullptr, out[1].data(), out[2].data(),
                        in.y.defined() ? out[3].data() : nullptr, sum.defined()});
  auto vjp = [relu = in.relu, eps = in.eps](const VjpContext& ctx, std::span<Tensor> to) {
    grad_vjp(ctx, to, relu, eps);
  };
  if (in.y.defined())
    record_all(out, {in.g, in.x, in.gamma, in.beta, in.mean, in.inv_std, in.y, alias(out[3], out[3].shape())},
               "batch_norm_grad", vjp);
  else
    record_all(out, {in.g, in.x, in.gamma, in.beta, in.mean, in.inv_std}, "batch_norm_grad", vjp);
  return out;
}

}  // namespace

BatchNorm batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& residual, Activation act,
                     double eps) {
  check_channels("batch_norm", x, {gamma, beta});
  check_residual("batch_norm", x, residual, act);
  SINEW_CHECK(rows_of(x) > 1, "batch_norm", "of shape ", x.shape(), ": one value a channel has no variance");
  const bool relu = act == Activation::relu;
  BatchNorm r{ops::like(x), ops::like(gamma), ops::like(gamma), ops::like(gamma)};
  kernels(x.device())
      .batch_norm({x.dtype(), relu, rows_of(x), x.dim(-1), eps, x.data(), gamma.data(), beta.data(), data_of(residual),
                   r.y.data(), r.mean.data(), r.inv_std.data(), r.variance.data()});
  auto vjp = [relu, eps](const VjpContext& ctx, std::span<Tensor> out) {
    const std::span<const Tensor>& in = ctx.inputs;  // x, gamma, beta, mean, inv_std, residual
    const bool residual = in.size() > 5;
    const GradInputs inputs{
        ctx.cotangent, in[0], in[1], in[2], in[3], in[4], relu && residual ? ctx.output.detach() : Tensor(), relu, eps};
    std::vector<Tensor> g = batch_norm_grad(inputs, ctx.needs(0), ctx.destination(1), ctx.destination(2), ctx.sum(0));
    for (size_t i = 0; i < 3; ++i)
      if (ctx.needs(i)) out[i] = g[i];
    if (residual && ctx.needs(5)) out[5] = relu ? g[3] : ctx.cotangent;
  };
  r.y = residual.defined() ? record(r.y, {x, gamma, beta, r.mean, r.inv_std, residual}, "batch_norm", vjp)
                           : record(r.y, {x, gamma, beta, r.mean, r.inv_std}, "batch_norm", vjp);
  return r;
}

Tensor batch_norm_composite(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                            Activation act, double eps) {
  ops::check_float("batch_norm", x);
  check_channels("batch_norm", x, {gamma, beta});
  const std::vector<int> axes = row_axes(x);
  const Tensor centered = x - mean(x, axes);
  Tensor y = centered * reciprocal(sqrt(mean(square(centered), axes) + eps)) * gamma + beta;
  if (residual.defined()) y = y + residual;
  return act == Activation::relu ? relu(y) : y;
}

Tensor channel_affine(const Tensor& x, const Tensor& center, const Tensor& scale, const Tensor& shift,
                      const Tensor& residual, Activation act) {
  check_channels("channel_affine", x, {center, scale, shift});
  check_residual("channel_affine", x, residual, act);
  const bool relu = act == Activation::relu;
  Tensor y = ops::like(x);
  kernels(x.device())
      .channel_affine({x.dtype(), relu, rows_of(x), x.dim(-1), x.data(), center.data(), scale.data(), shift.data(),
                       data_of(residual), y.data()});
  auto vjp = [relu](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor &center = ctx.inputs[1], &scale = ctx.inputs[2];
    const DType dtype = ctx.inputs[0].dtype(), wide = wide_of(dtype);
    const Tensor x = ops::in_type(ctx.inputs[0], wide);
    const Tensor m = ops::in_type(relu ? relu_grad(ctx.cotangent, ctx.output) : ctx.cotangent, wide);
    const std::vector<int> axes = row_axes(x);
    if (ctx.needs(0)) out[0] = ops::in_type(m * scale, dtype);
    if (ctx.needs(1)) out[1] = -(sum(m, axes) * scale);
    if (ctx.needs(2)) out[2] = sum(m * (x - center), axes);
    if (ctx.needs(3)) out[3] = sum(m, axes);
    if (ctx.inputs.size() > 4 && ctx.needs(4)) out[4] = ops::in_type(m, dtype);
  };
  return residual.defined() ? record(y, {x, center, scale, shift, residual}, "channel_affine", vjp)
                            : record(y, {x, center, scale, shift}, "channel_affine", vjp);
}

}  // namespace sinew
