// The multi-layer perceptron: flatten, then fully connected layers fc1, fc2, ... with an activation and, where asked,
// dropout after every hidden one; the last has neither.
//
// Example:
//   MlpOptions options{.input = {28, 28, 1}, .hidden = {1024, 1024}, .outputs = 10};
//   nn::Model model = make_mlp(options);                 // fc1.weight (1024, 784), fc1.bias, fc2.weight, ...
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "nn/module.h"

namespace sinew::train {

struct MlpOptions {
  Shape input = {28, 28, 1};  // of one sample
  std::vector<int64_t> hidden = {1024, 1024};
  int64_t outputs = 10;
  std::string activation = "relu";       // nn::activation_names()
  std::string init = "pytorch_default";  // nn::initializer_names()
  double dropout = 0;                    // rate, in [0, 1)
};

// invalid_argument, in one line that names the option and what is allowed.
Status validate(const MlpOptions& options);
nn::Model make_mlp(const MlpOptions& options);  // REQUIRES: validate(options).ok()

}  // namespace sinew::train
