#include "nn/layers/conv2d.h"

#include "core/ops.h"

namespace sinew::nn {

Conv2d::Conv2d(int64_t in, int64_t out, Extent2d kernel, const Conv2dOptions& options)
    : in_(in), out_(out), kernel_(kernel), options_(options) {
  SINEW_CHECK(in > 0 && out > 0, "conv2d", "a layer from ", in, " to ", out, " channels; both must be positive");
  const Extent2d s = options.stride, p = options.padding;
  SINEW_CHECK(kernel.h > 0 && kernel.w > 0 && s.h > 0 && s.w > 0 && p.h >= 0 && p.w >= 0, "conv2d", "kernel ", kernel.h,
              " x ", kernel.w, " and stride ", s.h, " x ", s.w, " must be positive, padding ", p.h, " x ", p.w,
              " not negative");
}

void Conv2d::declare(Declarations& declarations) {
  const Shape shape{out_, kernel_.h, kernel_.w, in_};
  weight_ = declarations.parameter("weight", shape, options_.init, FileLayout::filters(shape));
  if (!options_.bias) return;
  Initializer init;
  if (options_.init.kind == Initializer::Kind::pytorch_default)
    init = {options_.init.kind, 0, kernel_.h * kernel_.w * in_};
  bias_ = declarations.parameter("bias", {out_}, options_.bias_init.value_or(init));
}

Tensor Conv2d::forward(const Tensor& x, const Pass& pass) const {
  const Parameters& p = pass.parameters;
  return conv2d(x, p[weight_], bias_.exists() ? p[bias_] : Tensor(), options_.activation,
                {options_.stride.h, options_.stride.w, options_.padding.h, options_.padding.w});
}

}  // namespace sinew::nn
