// The kernels of packing.cu as host code sees them; cuda/kernels.h says how such headers are used.
#pragma once

#include "core/kernel_api.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

inline constexpr unsigned kPackingThreads = 256;
inline constexpr unsigned kPackingBlocks = kPackingThreads / 32;  // blocks of numbers that a block takes at a time

// All: any one-dimensional grid; numbers are moved in groups of 16 bytes as such when `aligned`, which every pointer to
// numbers then must be, and every pointer to bf16 bytes to what such a group becomes, 8 or 4 bytes.

// Parameters: n, values, residual (or null), aligned.
template <class T>
using RoundToPackedKernel = Kernel<int64_t, T*, T*, bool>;
template <class T>
RoundToPackedKernel<T> round_to_packed_kernel(PackedForm form);

// *inexact, which is 0 before, counts blocks with a number that the form does not hold.
// Parameters: n, values, bytes (aligned to 2), inexact, aligned.
template <class T>
using PackKernel = Kernel<int64_t, const T*, unsigned char*, int32_t*, bool>;
template <class T>
PackKernel<T> pack_kernel(PackedForm form);

// Parameters: n, bytes (aligned to 2), values, aligned.
template <class T>
using UnpackKernel = Kernel<int64_t, const unsigned char*, T*, bool>;
template <class T>
UnpackKernel<T> unpack_kernel(PackedForm form);

}  // namespace sinew::cuda::SINEW_CUDA_NS
