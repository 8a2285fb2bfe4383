// Losses by name, with labels as the loaders give them: the mean over a batch, as a tensor with one element.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace sinew::nn {

// -1/n sum_i log softmax(logits_i)[label_i]: logits (n, c), labels i64 (n).
Tensor cross_entropy(const Tensor& logits, const Tensor& labels);

// Mean of (prediction - target)^2 over all elements. targets: the shape and type of predictions; or i64 labels (n)
// for predictions (n, c), which stand for their one-hot rows.
Tensor mean_squared_error(const Tensor& predictions, const Tensor& targets);

using Loss = Tensor (*)(const Tensor& outputs, const Tensor& targets);
// "cross_entropy", "mse".
std::vector<std::string> loss_names();
// Throws Error with the list of names.
Loss loss_named(const std::string& name);

}  // namespace sinew::nn
