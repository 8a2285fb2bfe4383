// Softmax and losses.
#include "core/ops/common.h"

namespace sinew {
namespace {

Tensor run_softmax(const char* name, bool log, const Tensor& x) {
  ops::check_float(name, x);
  SINEW_CHECK(x.ndim() >= 1 && x.dim(-1) > 0, name, "of shape ", x.shape(), "; needs a last axis with elements");
  Tensor y = ops::like(x);
  if (x.numel()) kernels(x.device()).softmax({x.dtype(), log, x.numel() / x.dim(-1), x.dim(-1), x.data(), y.data()});
  return y;
}

void check_loss(const char* name, const Tensor& logits, const Tensor& labels) {
  ops::check_float(name, logits);
  ops::check_index(name, labels, logits.device());
  SINEW_CHECK(logits.ndim() == 2 && logits.dim(0) == labels.numel() && logits.numel() > 0, name, "logits ",
              logits.shape(), " for labels ", labels.shape());
  ops::check_range(name, labels, logits.dim(1));
}

}  // namespace

Tensor softmax(const Tensor& x) {
  return record(run_softmax("softmax", false, x), {x}, "softmax", [](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor &y = ctx.output, &g = ctx.cotangent;
    out[0] = y * (g - sum(g * y, {-1}, true));
  });
}

Tensor log_softmax(const Tensor& x) {
  return record(run_softmax("log_softmax", true, x), {x}, "log_softmax",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor &y = ctx.output, &g = ctx.cotangent;
                  out[0] = g - exp(y) * sum(g, {-1}, true);
                });
}

// While recording, the forward pass also leaves d loss / d logits: its exponentials are needed for both.
Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels) {
  check_loss("softmax_cross_entropy", logits, labels);
  Tensor loss = Tensor::empty({}, logits.dtype(), logits.device());
  const bool differentiate = recording({logits});
  const Tensor slope = differentiate ? ops::like(logits) : Tensor();
  kernels(logits.device())
      .cross_entropy({logits.dtype(), logits.dim(0), logits.dim(1), logits.data(),
                      static_cast<const int64_t*>(labels.data()), loss.data(), differentiate ? slope.data() : nullptr,
                      nullptr});
  if (!differentiate) return loss;
  return record(
      std::move(loss), {logits, labels, slope}, "softmax_cross_entropy",
      [](const VjpContext& ctx, std::span<Tensor> out) {
        const Tensor &g = ctx.cotangent, &logits = ctx.inputs[0];
        out[0] = recording({g, logits}) ? softmax_cross_entropy_grad(g, logits, ctx.inputs[1]) : ctx.inputs[2] * g;
      });
}

Tensor softmax_cross_entropy_grad(const Tensor& g, const Tensor& logits, const Tensor& labels) {
  check_loss("softmax_cross_entropy_grad", logits, labels);
  ops::check_pair("softmax_cross_entropy_grad", g, logits);
  SINEW_CHECK(g.numel() == 1, "softmax_cross_entropy_grad", "cotangent ", g.shape(), " of a scalar loss");
  Tensor dx = ops::like(logits);
  kernels(logits.device())
      .cross_entropy({logits.dtype(), logits.dim(0), logits.dim(1), logits.data(),
                      static_cast<const int64_t*>(labels.data()), nullptr, dx.data(), g.data()});
  return record(dx, {g, logits, labels}, "softmax_cross_entropy_grad",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor &g = ctx.inputs[0], &logits = ctx.inputs[1], &labels = ctx.inputs[2], &c = ctx.cotangent;
                  const double scale = 1.0 / static_cast<double>(logits.dim(0));
                  const Tensor s = softmax(logits);
                  if (ctx.needs(0)) {
                    const Tensor d = s - one_hot(labels, logits.dim(1), logits.dtype());
                    out[0] = reshape(scale * sum(c * d), g.shape());
                  }
                  if (ctx.needs(1)) out[1] = (scale * s) * (c - sum(c * s, {-1}, true)) * reshape(g, {1, 1});
                });
}

Tensor softmax_cross_entropy_composite(const Tensor& logits, const Tensor& labels) {
  check_loss("softmax_cross_entropy", logits, labels);
  return nll_loss(log_softmax(logits), labels);
}

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& labels) {
  check_loss("nll_loss", log_probabilities, labels);
  // Not a product: another class may have the probability 0, and 0 times -inf is no number.
  const Tensor& p = log_probabilities;
  const Tensor picked = where(one_hot(labels, p.dim(1), p.dtype()), p, Tensor::zeros(p.shape(), p.dtype(), p.device()));
  return affine(sum(picked), -1.0 / static_cast<double>(log_probabilities.dim(0)), 0);
}

Tensor mse(const Tensor& prediction, const Tensor& target) {
  ops::check_float("mse", prediction);
  ops::check_same("mse", prediction, target);
  return mean(square(prediction - target));
}

}  // namespace sinew
