// What the oneDNN wrappers share. Primitives are cached per calling thread and geometry; their memory objects are made
// without memory and pointed at the operands for each call. Scratchpads are the user's: Debian's oneDNN crashes
// when a primitive with a library scratchpad runs on another thread than its maker's.
#pragma once

#include <cstdint>
#include <cstring>
#include <dnnl.hpp>

namespace sinew::onednn {

inline dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

inline void point(const dnnl::memory& m, const void* data) {
  dnnl_memory_set_data_handle_v2(m.get(), const_cast<void*>(data), nullptr);
}

// Of a key without padding, whose size is a multiple of eight bytes.
template <class Key>
struct BytesHash {
  size_t operator()(const Key& key) const {
    uint64_t words[sizeof(Key) / 8];
    std::memcpy(words, &key, sizeof(Key));
    uint64_t h = 0x9E3779B97F4A7C15u;
    for (uint64_t w : words) h = (h ^ w) * 0xD6E8FEB86659FD93u, h ^= h >> 32;
    return static_cast<size_t>(h);
  }
};

}  // namespace sinew::onednn
