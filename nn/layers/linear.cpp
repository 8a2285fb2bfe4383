#include "nn/layers/linear.h"

#include "core/ops.h"

namespace sinew::nn {

Linear::Linear(int64_t in, int64_t out, const LinearOptions& options) : in_(in), out_(out), options_(options) {
  SINEW_CHECK(in > 0 && out > 0, "linear", "a layer from ", in, " to ", out, " features; both must be positive");
}

void Linear::declare(Declarations& declarations) {
  weight_ = declarations.parameter("weight", {out_, in_}, options_.init);
  if (!options_.bias) return;
  Initializer init;
  if (options_.init.kind == Initializer::Kind::pytorch_default) init = {options_.init.kind, 0, in_};
  bias_ = declarations.parameter("bias", {out_}, init);
}

Tensor Linear::forward(const Tensor& x, const Pass& pass) const {
  const Parameters& p = pass.parameters;
  return linear(x, p[weight_], bias_.exists() ? p[bias_] : Tensor(), options_.activation);
}

}  // namespace sinew::nn
