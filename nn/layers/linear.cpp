#include "nn/layers/linear.h"

#include "core/ops.h"

namespace sinew::nn {

Linear::Linear(int64_t in, int64_t out, const LinearOptions& options) : in_(in), out_(out), options_(options) {
  SINEW_CHECK(in > 0 && out > 0, "linear", "a layer from ", in, " to ", out, " features; both must be positive");
  SINEW_CHECK(options.flattened.ndim() == 0 || options.flattened.numel() == in, "linear", "a map ", options.flattened,
              " does not flatten to ", in, " features");
}

void Linear::declare(Declarations& declarations) {
  const FileLayout file = options_.flattened.ndim() == 3 ? FileLayout::flattened(options_.flattened) : FileLayout();
  weight_ = declarations.parameter("weight", {out_, in_}, options_.init, file);
  if (!options_.bias) return;
  Initializer init;
  if (options_.init.kind == Initializer::Kind::pytorch_default) init = {options_.init.kind, 0, in_};
  bias_ = declarations.parameter("bias", {out_}, options_.bias_init.value_or(init));
}

Tensor Linear::forward(const Tensor& x, const Pass& pass) const {
  const Parameters& p = pass.parameters;
  return linear(x, p[weight_], bias_.exists() ? p[bias_] : Tensor(), options_.activation);
}

}  // namespace sinew::nn
