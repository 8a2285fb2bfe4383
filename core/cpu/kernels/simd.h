// The widest vector of the instruction set that a kernel file is compiled for, as the compiler's vector type.
#pragma once

#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Simd {
  typedef T V __attribute__((vector_size(kVectorBytes)));
  // The same for memory that is aligned to an element only.
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
};

}  // namespace sinew::SINEW_CPU_NS
