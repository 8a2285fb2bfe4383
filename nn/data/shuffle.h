// Philox's Fisher-Yates shuffle, one for all orders of samples.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/philox.h"

namespace sinew::nn {

// The draw of a position is off uniform by less than values.size() / 2^32.
template <class Index>
void shuffle(std::vector<Index>& values, const RngKey& key) {
  PhiloxBlock block{};
  for (size_t i = values.size(), word = 0; i > 1; --i, ++word) {
    if (word % 4 == 0) block = philox_block(key, word / 4);
    std::swap(values[i - 1], values[below(block.v[word % 4], static_cast<uint32_t>(i))]);
  }
}

}  // namespace sinew::nn
