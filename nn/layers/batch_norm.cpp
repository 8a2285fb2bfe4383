#include "nn/layers/batch_norm.h"

#include "core/ops.h"

namespace sinew::nn {

BatchNorm::BatchNorm(int64_t channels, const BatchNormOptions& options) : channels_(channels), options_(options) {
  SINEW_CHECK(channels > 0, "batch_norm", "a layer of ", channels, " channels; there must be at least 1");
  SINEW_CHECK(options.momentum >= 0 && options.momentum <= 1 && options.eps >= 0, "batch_norm", "momentum ",
              options.momentum, " must be in [0, 1], eps ", options.eps, " not negative");
}

void BatchNorm::declare(Declarations& declarations) {
  weight_ = declarations.parameter("weight", {channels_}, {Initializer::Kind::constant, options_.weight});
  bias_ = declarations.parameter("bias", {channels_}, {});
  mean_ = declarations.buffer("running_mean", {channels_}, 0);
  variance_ = declarations.buffer("running_var", {channels_}, 1);
}

Tensor BatchNorm::forward(const Tensor& x, const Tensor& residual, const Pass& pass) const {
  const Tensor &gamma = pass.parameters[weight_], &beta = pass.parameters[bias_];
  if (!pass.training) {
    SINEW_CHECK(pass.buffers, "batch_norm", "evaluation needs the running statistics, and the pass has no buffers");
    const Buffers& b = *pass.buffers;
    const Tensor scale = gamma / sqrt(b[variance_] + options_.eps);
    return channel_affine(x, b[mean_], scale, beta, residual, options_.activation);
  }
  const sinew::BatchNorm norm = batch_norm(x, gamma, beta, residual, options_.activation, options_.eps);
  if (pass.buffers) {
    const double w = pass.buffer_momentum < 0 ? options_.momentum : pass.buffer_momentum;
    for (const auto& [id, batch] : {std::pair{mean_, norm.mean}, {variance_, norm.variance}}) {
      const Tensor& running = (*pass.buffers)[id];
      axpby(w, batch.view(), 1 - w, running.view(), running.output_view());
    }
  }
  return norm.y;
}

}  // namespace sinew::nn
