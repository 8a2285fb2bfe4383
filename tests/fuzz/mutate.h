// Mutations of a valid file for the regression form of the fuzz targets: the same bytes on every machine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "core/philox.h"

namespace sinew::fuzz {

using Bytes = std::vector<uint8_t>;

// Mutation number `number` of `seed`: one to four edits, each a flipped bit, a byte set to a value that parsers
// mind, a cut, an insertion, a removal, or a copy of one part over another.
inline Bytes mutate(const Bytes& seed, uint64_t number) {
  static constexpr uint8_t kValues[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '"', '{', '}', '[', ']', ',', ':', '-', '9', ' '};
  const RngKey key{.seed = 1, .purpose = static_cast<uint32_t>(RngPurpose::test), .rank = 0, .step = number};
  uint64_t word = 0;
  auto draw = [&](size_t bound) {
    return bound == 0 ? size_t{0} : size_t{below(philox_u32(key, word++), static_cast<uint32_t>(bound))};
  };
  Bytes bytes = seed;
  for (size_t edits = 1 + draw(4); edits > 0; --edits) {
    const size_t at = draw(bytes.size());
    // Half of the edits hit the first bytes, where the lengths and the types are.
    const size_t where = draw(2) == 0 ? draw(std::min<size_t>(bytes.size(), 32)) : at;
    const auto position = bytes.begin() + static_cast<std::ptrdiff_t>(where);
    switch (bytes.empty() ? 3 : draw(6)) {
      case 0:
        bytes[where] ^= static_cast<uint8_t>(1u << draw(8));
        break;
      case 1:
        bytes[where] = kValues[draw(std::size(kValues))];
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.insert(position, 1 + draw(9), kValues[draw(std::size(kValues))]);
        break;
      case 4:
        bytes.erase(position, position + static_cast<std::ptrdiff_t>(1 + draw(bytes.size() - where)));
        break;
      case 5: {
        const size_t count = draw(std::min(bytes.size() - where, bytes.size() - at));
        const Bytes part(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                         bytes.begin() + static_cast<std::ptrdiff_t>(at + count));
        std::copy(part.begin(), part.end(), position);
        break;
      }
    }
  }
  return bytes;
}

// A message for the user: one line of printable text.
inline bool is_one_line(const std::string& text) {
  for (unsigned char c : text)
    if (c < 0x20 || c == 0x7f) return false;
  return !text.empty();
}

}  // namespace sinew::fuzz
