// Activations as layers, for where they are not fused into a Linear. Any shape; no parameters.
#pragma once

#include "core/kernel_api.h"
#include "nn/module.h"

namespace sinew::nn {

class ReLU : public Module {
 public:
  void declare(Declarations&) override {}
  Tensor forward(const Tensor& x, const Pass& pass) const override;
};

class Tanh : public Module {
 public:
  void declare(Declarations&) override {}
  Tensor forward(const Tensor& x, const Pass& pass) const override;
};

class Sigmoid : public Module {
 public:
  void declare(Declarations&) override {}
  Tensor forward(const Tensor& x, const Pass& pass) const override;
};

// "none", "relu", "tanh", "sigmoid".
std::vector<std::string> activation_names();
// Throws Error with the list of names.
Activation activation_named(const std::string& name);

}  // namespace sinew::nn
