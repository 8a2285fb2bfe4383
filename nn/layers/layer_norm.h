// Layer norm (Ba, Kiros and Hinton 2016): every sample's `shape`, the last axes of x, is normalised to mean 0 and
// variance 1, then scaled and shifted elementwise. Parameters "weight" (ones) and "bias" (zeros) of that shape, as
// PyTorch's nn.LayerNorm. The same in training and evaluation.
#pragma once

#include "nn/module.h"

namespace sinew::nn {

class LayerNorm : public Module {
 public:
  // Throws Error unless `shape` has elements and eps is positive.
  explicit LayerNorm(const Shape& shape, double eps = 1e-5);
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  Shape shape_;
  double eps_;
  ParamId weight_, bias_;
};

}  // namespace sinew::nn
