// (n, ...) -> (n, rest). No copy.
#pragma once

#include "nn/module.h"

namespace sinew::nn {

class Flatten : public Module {
 public:
  void declare(Declarations&) override {}
  Tensor forward(const Tensor& x, const Pass& pass) const override;
};

}  // namespace sinew::nn
