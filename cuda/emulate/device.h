// The emulation's half of cuda/device/device.cuh: CUDA's words as plain C++ over the executor.
//
// Barriers and shuffles take the place of the call as a hidden argument, so that an error can name both lines.
#pragma once

#include <source_location>
#include <type_traits>

#include "cuda/emulate/executor.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define threadIdx (::sinew::cuda::emulate::current.thread_index)
#define blockIdx (::sinew::cuda::emulate::current.block_index)
#define blockDim (::sinew::cuda::emulate::current.block_dim)
#define gridDim (::sinew::cuda::emulate::current.grid_dim)

#define SINEW_DEVICE inline __attribute__((always_inline))
#define SINEW_UNROLL
// The address of the static names the array: one per place in the source and per template instance, as in CUDA.
#define SINEW_SHARED(type, name, extents)             \
  static const char name##_site_ = 0;                 \
  using name##_array_ = type extents;                 \
  name##_array_& name = *static_cast<name##_array_*>( \
      ::sinew::cuda::emulate::static_shared(&name##_site_, sizeof(name##_array_), alignof(name##_array_)))
#define SINEW_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::sinew::cuda::emulate::dynamic_shared())

namespace sinew::cuda::SINEW_CUDA_NS {

inline void block_sync(std::source_location site = std::source_location::current()) { emulate::block_barrier(site); }

template <class T>
T warp_shuffle_xor(T value, int mask, std::source_location site = std::source_location::current()) {
  struct Lane {
    T value;
    T result;
    int source;
  };
  Lane lane{value, value, emulate::current_lane() ^ mask};
  emulate::warp_collective(
      "warp_shuffle_xor", &lane,
      [](void* const* lanes, int count) {
        for (int i = 0; i < count; ++i) {
          Lane& to = *static_cast<Lane*>(lanes[i]);
          if (to.source >= count) emulate::fail("warp_shuffle_xor reads a lane that does not exist");
          to.result = static_cast<Lane*>(lanes[to.source])->value;
        }
      },
      site);
  return lane.result;
}

template <class T>
T atomic_add(T* pointer, T value) {
  if constexpr (std::is_integral_v<T>) {
    return __atomic_fetch_add(pointer, value, __ATOMIC_RELAXED);
  } else {
    T old, sum;
    __atomic_load(pointer, &old, __ATOMIC_RELAXED);
    do {
      sum = old + value;
    } while (!__atomic_compare_exchange(pointer, &old, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
  }
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
