// The kernels of elementwise_binary.cu as host code sees them; cuda/kernels.h says how such headers are used.
#pragma once

#include "core/kernel_api.h"
#include "cuda/indexing.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

inline constexpr unsigned kBinaryThreads = 256;
inline constexpr unsigned kBinaryUnroll = 2;  // groups that a thread takes at a time, for the grid

// y[i] = op(a[i], b[i]) for i < n, or a[0], b[0] where single; the first `packs` groups of 16 bytes are moved as such.
// Parameters: n, packs, a, b, y, a is single, b is single. Any one-dimensional grid.
template <class T>
using FlatBinaryKernel = Kernel<int64_t, int64_t, const T*, const T*, T*, bool, bool>;
template <class T>
FlatBinaryKernel<T> flat_binary_kernel(BinaryOp op);

// The same over a space: y is contiguous in groups of 16 bytes, the offsets of an operand count groups too, or elements
// where it is single: one value for the whole group.
// Parameters: packs, a, b, y, space, a is single, b is single. Any one-dimensional grid. Floats.
template <class T>
using PackedBinaryKernel = Kernel<uint32_t, const T*, const T*, T*, Space, bool, bool>;
template <class T>
PackedBinaryKernel<T> packed_binary_kernel(BinaryOp op);

// Any strides, element by element. Parameters: op, n, a, b, y, space. Any one-dimensional grid.
template <class T>
using StridedBinaryKernel = Kernel<BinaryOp, uint32_t, const T*, const T*, T*, Space>;
template <class T>
StridedBinaryKernel<T> strided_binary_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
