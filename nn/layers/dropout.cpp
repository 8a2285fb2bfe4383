#include "nn/layers/dropout.h"

#include "core/ops.h"

namespace sinew::nn {

Dropout::Dropout(double rate) : rate_(rate) {
  SINEW_CHECK(rate >= 0 && rate < 1, "dropout", "rate ", rate, " is not in [0, 1)");
}

void Dropout::declare(Declarations& declarations) {
  layer_ = declarations.random_layer();
  SINEW_CHECK(layer_ < 1u << 16, "dropout", "more than 65536 dropout layers");
}

Tensor Dropout::forward(const Tensor& x, const Pass& pass) const {
  if (!pass.training || rate_ == 0) return x;
  // All four words of the key are taken; purposes stay below 2^16, so the layer's number goes above them.
  uint32_t purpose = static_cast<uint32_t>(RngPurpose::dropout) | layer_ << 16;
  return dropout(x, rate_, RngKey{pass.seed, purpose, pass.rank, pass.step});
}

}  // namespace sinew::nn
