// y = act(conv(x, weight) + bias): x (n, h, w, in) -> y (n, p, q, out) with p = (h + 2 padding - kernel) / stride + 1
// and q alike. Parameters "weight" and "bias" (out) as PyTorch's nn.Conv2d, but activations are N,H,W,C and the weight
// is stored (out, kernel_h, kernel_w, in), PyTorch's being (out, in, kernel_h, kernel_w). Bias and ReLU are fused.
//
// Example: Conv2d(16, 32, {3, 3}, {.stride = {2, 2}, .padding = {1, 1}, .bias = false}) halves an image.
#pragma once

#include <optional>

#include "core/kernel_api.h"
#include "nn/module.h"

namespace sinew::nn {

// Down and across; one number means both.
struct Extent2d {
  int64_t h, w;
  constexpr Extent2d(int64_t both) : h(both), w(both) {}
  constexpr Extent2d(int64_t down, int64_t across) : h(down), w(across) {}
};

struct Conv2dOptions {
  Extent2d stride = 1;
  Extent2d padding = 0;  // zeros on both sides
  bool bias = true;
  Activation activation = Activation::none;
  // Of the weight; fans count the receptive field (nn/init.h). pytorch_default draws the bias from U(+-1/sqrt(fan_in))
  // too; with any other the bias starts at zero.
  Initializer init = {.kind = Initializer::Kind::pytorch_default};
  std::optional<Initializer> bias_init = {};  // in place of that rule
};

class Conv2d : public Module {
 public:
  // Throws Error unless channels, kernel and stride are positive and the padding is not negative.
  Conv2d(int64_t in, int64_t out, Extent2d kernel, const Conv2dOptions& options = {});
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  int64_t in_, out_;
  Extent2d kernel_;
  Conv2dOptions options_;
  ParamId weight_, bias_;
};

}  // namespace sinew::nn
