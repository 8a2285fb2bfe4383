// The kernels of flat.cu as host code sees them; cuda/kernels.h says how such headers are used.
#pragma once

#include "core/kernel_api.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

inline constexpr unsigned kFlatThreads = 256;
inline constexpr unsigned kFlatUnroll = 2;  // groups of 16 bytes that a thread takes at a time

// All: any one-dimensional grid; groups of 16 bytes are moved as such when `aligned`, which every pointer then must be.

// z = a x + b y; y is read when reads_y. Parameters: n, a, b, x, y, z, aligned.
template <class T>
using AxpbyKernel = Kernel<int64_t, T, T, const T*, const T*, T*, bool>;
template <class T>
AxpbyKernel<T> axpby_kernel(bool reads_y);

// partial[blockIdx.x] = the block's share of the sum of x y; the shares depend on n and the grid alone.
// Parameters: n, x, y, partial, aligned.
template <class T>
using DotKernel = Kernel<int64_t, const T*, const T*, double*, bool>;
template <class T>
DotKernel<T> dot_kernel();

// d = alpha (x - c), x -= d, c += d, and partial[blockIdx.x] = the block's share of the sum of (x - c)^2 when it is not
// null. Parameters: n, alpha, x, c, d (or null), partial, move_x, move_c, aligned.
template <class T>
using ElasticKernel = Kernel<int64_t, T, T*, T*, T*, double*, bool, bool, bool>;
template <class T>
ElasticKernel<T> elastic_kernel(bool distance);

// *result = sum of n partials, in a fixed order. One block of kFlatThreads. Parameters: n, partials, result.
using SumPartialsKernel = Kernel<unsigned, const double*, double*>;
SumPartialsKernel sum_partials_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
