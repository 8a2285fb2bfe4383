// Batch normalisation (Ioffe and Szegedy 2015) of the last axis: x (..., channels) -> the same shape, with an optional
// residual and ReLU fused in. Parameters "weight" (ones) and "bias" (zeros), buffers "running_mean" (zeros) and
// "running_var" (ones), each (channels), as PyTorch's nn.BatchNorm2d.
//
// Training: the batch's statistics; a pass with buffers moves the running ones towards them by `momentum`, the variance
// being the unbiased one there (PyTorch's rule). Evaluation: the running statistics, which the pass must carry.
#pragma once

#include "core/kernel_api.h"
#include "nn/module.h"

namespace sinew::nn {

struct BatchNormOptions {
  Activation activation = Activation::none;  // none or relu
  double momentum = 0.1, eps = 1e-5;
  double weight = 1;  // where the weight starts: 0 in the last one of a residual branch makes the block an identity
};

class BatchNorm : public Module {
 public:
  // Throws Error unless channels is positive, momentum in [0, 1] and eps >= 0.
  explicit BatchNorm(int64_t channels, const BatchNormOptions& options = {});
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override { return forward(x, Tensor(), pass); }
  // act(norm(x) + residual); residual has x's shape or is undefined.
  Tensor forward(const Tensor& x, const Tensor& residual, const Pass& pass) const;

 private:
  int64_t channels_;
  BatchNormOptions options_;
  ParamId weight_, bias_;
  BufferId mean_, variance_;
};

}  // namespace sinew::nn
