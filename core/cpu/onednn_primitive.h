// What the oneDNN wrappers share. Primitives are cached per calling thread and geometry; their memory objects are made
// without memory and pointed at the operands for each call. Scratchpads are the user's: Debian's oneDNN crashes
// when a primitive with a library scratchpad runs on another thread than its maker's.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>

#include "core/check.h"
#include "core/dtype.h"

namespace sinew::onednn {

inline dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

inline void point(const dnnl::memory& m, const void* data) {
  dnnl_memory_set_data_handle_v2(m.get(), const_cast<void*>(data), nullptr);
}

constexpr auto kF32 = dnnl::memory::data_type::f32, kBf16 = dnnl::memory::data_type::bf16;

// Whether oneDNN serves this type here: bf16 where the processor has instructions for its products (AVX-512 BF16, AMX).
inline bool serves(DType dtype) {
  static const bool has_bf16 = (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & dnnl_cpu_isa_avx512_core_bf16) ==
                               dnnl_cpu_isa_avx512_core_bf16;
  return dtype == DType::f32 || (dtype == DType::bf16 && has_bf16);
}

// Memory of one thread, for what a call needs besides its operands.
class Workspace {
 public:
  Workspace() = default;
  ~Workspace() { std::free(data_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  char* reserve(size_t wanted) {
    if (wanted > bytes_) {
      std::free(data_);
      bytes_ = (wanted + 4095) / 4096 * 4096;
      data_ = static_cast<char*>(std::aligned_alloc(4096, bytes_));
      if (!data_) SINEW_FAIL("onednn", bytes_, " bytes of workspace: out of memory");
    }
    return data_;
  }

 private:
  char* data_ = nullptr;
  size_t bytes_ = 0;
};

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
