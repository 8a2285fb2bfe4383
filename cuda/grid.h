// Host side: grids and alignment of kernels that walk arrays.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cuda/namespace.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// Of kernels whose threads go on in steps of the grid: several waves on any GPU, so that the last one, which does not
// fill it, weighs little.
inline constexpr int64_t kMaxGridBlocks = 4096;

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `items` when a block takes `per_block` of them at a time.
inline unsigned grid_blocks(int64_t items, int64_t per_block) {
  return static_cast<unsigned>(std::clamp<int64_t>(ceil_divide(items, per_block), 1, kMaxGridBlocks));
}

inline bool is_aligned_to(size_t bytes, const void* p) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// Whether rows of `length` elements are moved 16 bytes at a time: whole groups, and all pointers aligned (null is).
template <class T, class... Pointers>
bool rows_in_packs(int64_t length, const Pointers*... pointers) {
  return length % (16 / static_cast<int64_t>(sizeof(T))) == 0 && (is_aligned_to(16, pointers) && ...);
}

// An argument struct's array, as what it is.
template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}

// Of n elements of T, how many groups of 16 bytes may be moved as such: none unless all pointers are aligned (null is).
template <class T, class... Pointers>
int64_t packs_of(int64_t n, const Pointers*... pointers) {
  return (is_aligned_to(16, pointers) && ...) ? n / (16 / static_cast<int64_t>(sizeof(T))) : 0;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
