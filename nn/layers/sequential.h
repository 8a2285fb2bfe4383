// Children one after the other. Parameter names are "<child's name>.<parameter>".
#pragma once

#include <utility>

#include "nn/module.h"

namespace sinew::nn {

class Sequential : public Module {
 public:
  // Without a name the child is called by its position, "0", "1", ..., as in PyTorch. Throws Error when two children
  // share a name, and on a null module.
  Sequential& add(ModulePtr module, std::string name = "");
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  std::vector<std::pair<std::string, ModulePtr>> children_;
};

}  // namespace sinew::nn
