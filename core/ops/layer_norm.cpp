// Layer norm (Ba, Kiros and Hinton 2016) over the last axis.
//
// Per row of d elements, h = g gamma, xh = (x - mean) s, s = inv_std, < > the mean over the row:
//   dx = s (h - <h> - xh <h xh>)     dgamma = sum over rows of g xh     dbeta = sum over rows of g
// Forward and first derivative are one kernel each; higher orders go through the composite. Of bf16 data (vectors and
// statistics are f32 then) there is the first order.
#include "core/ops/common.h"

namespace sinew {
namespace {

void check_operands(const Tensor& x, const Tensor& gamma, const Tensor& beta) {
  ops::check_float_or_bf16("layer_norm", x);
  SINEW_CHECK(x.ndim() >= 1 && x.numel() > 0, "layer_norm", "of shape ", x.shape(), "; needs (..., d) with elements");
  for (const Tensor* v : {&gamma, &beta}) {
    ops::check_beside("layer_norm", x, *v);
    SINEW_CHECK(v->shape() == Shape({x.dim(-1)}), "layer_norm", "vector ", v->shape(), " for rows of ", x.dim(-1),
                " in ", x.shape());
  }
}

enum Position { kG, kX, kGamma, kMean, kInvStd };

std::vector<int> row_axes(const Tensor& x) {
  std::vector<int> axes;
  for (int i = 0; i + 1 < x.ndim(); ++i) axes.push_back(i);
  return axes;
}
Tensor over_rows(const Tensor& t) { return t.ndim() == 1 ? t : sum(t, row_axes(t)); }

Tensor normalised(const Tensor& x, double eps, Tensor* inv_std) {
  const Tensor centered = x - mean(x, {-1}, true);
  *inv_std = reciprocal(sqrt(mean(square(centered), {-1}, true) + eps));
  return centered * *inv_std;
}

// dx, dgamma, dbeta from public ops.
std::vector<Tensor> grad_composite(std::span<const Tensor> in, double eps) {
  Tensor s;
  const Tensor &g = in[kG], xh = normalised(in[kX], eps, &s), h = g * in[kGamma];
  return {s * (h - mean(h, {-1}, true) - xh * mean(h * xh, {-1}, true)), over_rows(g * xh), over_rows(g)};
}

std::vector<Tensor> layer_norm_grad(const Tensor& g, const Tensor& x, const Tensor& gamma, const Tensor& mean,
                                    const Tensor& inv_std, double eps) {
  std::vector<Tensor> out{ops::like(x), ops::like(gamma), ops::like(gamma)};
  kernels(x.device())
      .layer_norm_grad({x.dtype(), x.numel() / x.dim(-1), x.dim(-1), g.data(), x.data(), gamma.data(), mean.data(),
                        inv_std.data(), out[0].data(), out[1].data(), out[2].data()});
  record_all(out, {g, x, gamma, mean, inv_std}, "layer_norm_grad", [eps](const VjpContext& ctx, std::span<Tensor> to) {
    SINEW_CHECK(ctx.inputs[kX].dtype() != DType::bf16, "layer_norm", "has no second derivative of bf16 data; use f32");
    ops::derivative_by_composite(ctx, to,
                                 [eps](std::span<const Tensor> inputs) { return grad_composite(inputs, eps); });
  });
  return out;
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  check_operands(x, gamma, beta);
  const int64_t rows = x.numel() / x.dim(-1);
  Tensor y = ops::like(x), mean = Tensor::empty({rows}, gamma.dtype(), x.device()), inv_std = ops::like(mean);
  kernels(x.device())
      .layer_norm({x.dtype(), rows, x.dim(-1), eps, x.data(), gamma.data(), beta.data(), y.data(), mean.data(),
                   inv_std.data()});
  return record(y, {x, gamma, beta, mean, inv_std}, "layer_norm", [eps](const VjpContext& ctx, std::span<Tensor> out) {
    const std::span<const Tensor>& in = ctx.inputs;
    const std::vector<Tensor> g = layer_norm_grad(ctx.cotangent, in[0], in[1], in[3], in[4], eps);
    for (size_t i = 0; i < 3; ++i)
      if (ctx.needs(i)) out[i] = g[i];
  });
}

Tensor layer_norm_composite(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  ops::check_float("layer_norm", x);
  check_operands(x, gamma, beta);
  Tensor s;
  return normalised(x, eps, &s) * gamma + beta;
}

}  // namespace sinew
