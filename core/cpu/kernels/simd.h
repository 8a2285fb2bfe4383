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

inline bool starts_vector(const void* p) { return reinterpret_cast<uintptr_t>(p) % kVectorBytes == 0; }
// Stores past the caches, where a vector starts, so that no line is fetched only to be overwritten: for large results.
// A thread that has made such stores ends with end_of_stores_past_caches.
template <class T>
inline void store_past_caches(T* to, typename Simd<T>::V v) {
#if defined(__clang__)
  __builtin_nontemporal_store(v, reinterpret_cast<typename Simd<T>::V*>(to));
#elif defined(__AVX512F__)
  __builtin_ia32_movntps512(reinterpret_cast<float*>(to), (Simd<float>::V)v);
#elif defined(__AVX__)
  __builtin_ia32_movntps256(reinterpret_cast<float*>(to), (Simd<float>::V)v);
#elif defined(__SSE__)
  __builtin_ia32_movntps(reinterpret_cast<float*>(to), (Simd<float>::V)v);
#else
  *reinterpret_cast<typename Simd<T>::V*>(to) = v;
#endif
}
inline void end_of_stores_past_caches() {
#if defined(__SSE__)
  __builtin_ia32_sfence();
#endif
}

}  // namespace sinew::SINEW_CPU_NS
