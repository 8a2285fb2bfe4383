// What kernels share that serve one row with a group of threads: sums and maxima over the group.
//
// A group is 8 or 32 lanes of a warp, or a block. Every thread of the group gets the same bits: + and max do not mind
// the order of their two operands, and the threads of a block read the warps' results in one order.
#pragma once

#include "cuda/device/device.cuh"

#include <math.h>

namespace sinew::cuda::SINEW_CUDA_NS {

inline constexpr unsigned kWarp = 32;

// A NaN wins over numbers, so that it is seen.
template <class T>
SINEW_DEVICE T larger(T a, T b) {
  return b > a || b != b ? b : a;
}

template <unsigned kLanes, class T>
SINEW_DEVICE T lanes_sum(T value) {
  SINEW_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value += warp_shuffle_xor(value, mask);
  return value;
}

template <unsigned kLanes, class T>
SINEW_DEVICE T lanes_max(T value) {
  SINEW_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value = larger(value, warp_shuffle_xor(value, mask));
  return value;
}

// Over a one-dimensional block; `partial` is shared memory that the block may write again after its next barrier.
template <unsigned kWarps, class T>
SINEW_DEVICE T block_sum(T value, T (&partial)[kWarps]) {
  value = lanes_sum<kWarp>(value);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  block_sync();
  value = partial[0];
  SINEW_UNROLL
  for (unsigned i = 1; i < kWarps; ++i) value += partial[i];
  return value;
}

template <unsigned kWarps, class T>
SINEW_DEVICE T block_max(T value, T (&partial)[kWarps]) {
  value = lanes_max<kWarp>(value);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  block_sync();
  value = partial[0];
  SINEW_UNROLL
  for (unsigned i = 1; i < kWarps; ++i) value = larger(value, partial[i]);
  return value;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
