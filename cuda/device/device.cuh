// The language kernels are written in, and the only header they include for it. nvcc gets the real thing; another
// C++ compiler gets cuda/emulate/device.h, which runs the same source on the CPU. No CUDA API here.
//
// A kernel is `__global__ void name(plain values and pointers)`, with threadIdx, blockIdx, blockDim, gridDim and
// __launch_bounds__ as in CUDA. It does not return before its last block_sync(). Everything else goes through these
// names:
//
//   SINEW_SHARED(type, name, [8][32])    shared array of fixed size; contents undefined (the emulation: NaN)
//   SINEW_DYNAMIC_SHARED(type, name)     pointer to the launch's shared_bytes, 128-byte aligned; once per kernel
//   SINEW_UNROLL                         before a loop of constant length
//   SINEW_DEVICE                         a function kernels call
//   block_sync()                         barrier of all threads of the block
//   warp_shuffle_xor(value, mask)        value of lane (own ^ mask); all 32 lanes take part
//   atomic_add(pointer, value)           relaxed; returns the old value
//   Pack<T>                              16 bytes of T, moved in one access; its address is 16-byte aligned
#pragma once

#include <stdint.h>

#include "cuda/namespace.h"

#if defined(__CUDACC__)

#define SINEW_FUNCTOR_NS functor_cuda
#define SINEW_DEVICE __device__ __forceinline__
#define SINEW_UNROLL _Pragma("unroll")
#define SINEW_SHARED(type, name, extents) __shared__ type name extents
#define SINEW_DYNAMIC_SHARED(type, name)                                  \
  extern __shared__ __align__(128) unsigned char sinew_dynamic_shared_[]; \
  type* const name = reinterpret_cast<type*>(sinew_dynamic_shared_)

namespace sinew::cuda::SINEW_CUDA_NS {

SINEW_DEVICE void block_sync() { __syncthreads(); }

// Any trivial type: moved in words of 4 bytes, smaller ones widened.
template <class T>
SINEW_DEVICE T warp_shuffle_xor(T value, int mask) {
  if constexpr (sizeof(T) % 4 != 0) {
    return static_cast<T>(__shfl_xor_sync(0xffffffffu, static_cast<int>(value), mask));
  } else {
    unsigned words[sizeof(T) / 4];
    memcpy(words, &value, sizeof(T));
    SINEW_UNROLL
    for (unsigned& word : words) word = __shfl_xor_sync(0xffffffffu, word, mask);
    memcpy(&value, words, sizeof(T));
    return value;
  }
}

template <class T>
SINEW_DEVICE T atomic_add(T* pointer, T value) {
  return atomicAdd(pointer, value);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS

#else
#if !defined(SINEW_CUDA_EMULATE)
#error "kernel files are compiled by nvcc, or by the host compiler with SINEW_CUDA_EMULATE defined"
#endif
#define SINEW_FUNCTOR_NS functor_emulated
#include "cuda/emulate/device.h"
#endif

namespace sinew::cuda::SINEW_CUDA_NS {

template <class T>
struct alignas(16) Pack {
  static constexpr int kWidth = 16 / sizeof(T);
  T v[kWidth];
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
