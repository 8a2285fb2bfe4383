// y = act(x weight^T + bias): x (n, in) -> y (n, out). Parameters "weight" (out, in) and "bias" (out), as PyTorch's
// nn.Linear; the activation is fused into the matrix product.
#pragma once

#include <optional>

#include "core/kernel_api.h"
#include "nn/module.h"

namespace sinew::nn {

struct LinearOptions {
  bool bias = true;
  Activation activation = Activation::none;
  // Of the weight. pytorch_default draws the bias from U(+-1/sqrt(in)) too; with any other the bias starts at zero.
  Initializer init = {.kind = Initializer::Kind::pytorch_default};
  std::optional<Initializer> bias_init = {};  // in place of that rule
  // (H, W, C) of the map that a Flatten before this layer made its input of; empty: none. For files (nn/file_layout.h).
  Shape flattened = {};
};

class Linear : public Module {
 public:
  // Throws Error unless in and out are positive.
  Linear(int64_t in, int64_t out, const LinearOptions& options = {});
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  int64_t in_, out_;
  LinearOptions options_;
  ParamId weight_, bias_;
};

}  // namespace sinew::nn
