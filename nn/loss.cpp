#include "nn/loss.h"

#include <array>
#include <utility>

#include "core/ops.h"
#include "nn/names.h"

namespace sinew::nn {
namespace {
constexpr std::array<std::pair<const char*, Loss>, 2> kNamed{{
    {"cross_entropy", cross_entropy},
    {"mse", mean_squared_error},
}};
}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& labels) { return softmax_cross_entropy(logits, labels); }

Tensor mean_squared_error(const Tensor& predictions, const Tensor& targets) {
  if (targets.dtype() == DType::i64 && predictions.ndim() == 2)
    return mse(predictions, one_hot(targets, predictions.dim(1), predictions.dtype()));
  // Broadcasting here would hide a mistake: (n) against (n, 1) averages n * n differences.
  SINEW_CHECK(predictions.shape() == targets.shape(), "mse", "predictions ", predictions.shape(), ", targets ",
              targets.shape());
  return mse(predictions, targets);
}

std::vector<std::string> loss_names() { return names_of(kNamed); }
Loss loss_named(const std::string& name) { return entry_named(kNamed, name, "loss"); }

}  // namespace sinew::nn
