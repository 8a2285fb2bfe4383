// Dropout (Srivastava et al. 2014), inverted: in training x / (1 - rate) with probability 1 - rate, else 0; in
// evaluation the identity.
//
// The mask is a pure function of (pass.seed, layer number, pass.rank, pass.step), so a repeated step draws it again, on
// any device, in any order. Masks of different layers, ranks and steps are independent streams.
#pragma once

#include "nn/module.h"

namespace sinew::nn {

class Dropout : public Module {
 public:
  // Throws Error unless rate is in [0, 1).
  explicit Dropout(double rate);
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  double rate_;
  uint32_t layer_ = 0;
};

}  // namespace sinew::nn
