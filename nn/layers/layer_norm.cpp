#include "nn/layers/layer_norm.h"

#include "core/ops.h"

namespace sinew::nn {

LayerNorm::LayerNorm(const Shape& shape, double eps) : shape_(shape), eps_(eps) {
  SINEW_CHECK(shape.ndim() > 0 && shape.numel() > 0 && eps > 0, "layer_norm", "over ", shape, " with eps ", eps,
              "; needs elements and a positive eps");
}

void LayerNorm::declare(Declarations& declarations) {
  weight_ = declarations.parameter("weight", shape_, {Initializer::Kind::constant, 1});
  bias_ = declarations.parameter("bias", shape_, {});
}

Tensor LayerNorm::forward(const Tensor& x, const Pass& pass) const {
  bool fits = x.ndim() >= shape_.ndim();
  for (int i = 1; fits && i <= shape_.ndim(); ++i) fits = x.dim(-i) == shape_.dim(-i);
  SINEW_CHECK(fits, "layer_norm", "over ", shape_, " of x ", x.shape());
  const Tensor &weight = pass.parameters[weight_], &bias = pass.parameters[bias_];
  if (shape_.ndim() == 1) return layer_norm(x, weight, bias, eps_);
  const int64_t d = shape_.numel();
  const Tensor y = layer_norm(reshape(x, {x.numel() / d, d}), reshape(weight, {d}), reshape(bias, {d}), eps_);
  return reshape(y, x.shape());
}

}  // namespace sinew::nn
