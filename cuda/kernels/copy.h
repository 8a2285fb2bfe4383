// The kernels of elementwise_copy.cu as host code sees them; cuda/kernels.h says how such headers are used.
#pragma once

#include <algorithm>

#include "core/kernel_api.h"
#include "cuda/indexing.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

inline constexpr unsigned kCopyThreads = 256;

// 16 bytes, the largest unit that is moved; the others are unsigned integers.
struct alignas(16) Unit16 {
  uint32_t word[4];
};

// Units that a thread takes at a time.
inline constexpr unsigned kFillUnroll = 4, kCopyUnroll = 4, kWhereUnroll = 2;

// y[i] = value for i < n; the first `packs` groups of 16 bytes as such.
// Parameters: n, packs, value, y. Any one-dimensional grid, as with all kernels of this file that do not say otherwise.
template <class Unit>
using FillKernel = Kernel<int64_t, int64_t, Unit, Unit*>;
template <class Unit>
FillKernel<Unit> fill_kernel();

// y[i] = mask[i] != 0 ? a[i] : b[i]. Parameters: n, packs, mask, a, b, y.
template <class T>
using WhereKernel = Kernel<int64_t, int64_t, const T*, const T*, const T*, T*>;
template <class T>
WhereKernel<T> where_kernel();

// y[i] = To(x[i]); groups of kCastWidth elements when the pointers are aligned to that many, else groups == 0.
// Parameters: n, groups, x, y.
template <class From, class To>
inline constexpr int kCastWidth = 16 / static_cast<int>(sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));
// Groups that a thread takes at a time: 32 bytes of x, at most 8.
template <class From, class To>
inline constexpr unsigned kCastUnroll = std::min<unsigned>(8, 32 / (kCastWidth<From, To> * sizeof(From)));
template <class From, class To>
using CastKernel = Kernel<int64_t, int64_t, const From*, To*>;
template <class From, class To>
CastKernel<From, To> cast_kernel();

// For i < n with offsets at of i in the space: y[at.b] = x[at.a], in units. spread: y is in groups of 16 bytes that
// at.b counts, which are filled with the one unit x[at.a]. Parameters: n, x, y, space.
template <class Unit>
using CopyKernel = Kernel<uint32_t, const Unit*, Unit*, Space>;
template <class Unit>
CopyKernel<Unit> copy_kernel(bool spread);

// Matrices with rows along x's contiguous axis into matrices with rows along y's: y[column * y_pitch + row] =
// x[row * x_pitch + column], for every matrix at the offsets that `outer` gives for its number.
// Parameters: rows, columns, x_pitch, y_pitch, tiles along the columns, tiles of a matrix, outer, x, y. One block of
// (32, kTransposeRows) threads a tile: blockIdx.x = (matrix, tile along the rows, tile along the columns). Tiles of 32
// x 32, or of 64 x 64 for units of at most 4 bytes.
inline constexpr unsigned kTransposeRows = 8;
template <class Unit>
using TransposeKernel = Kernel<int, int, int64_t, int64_t, Divisor, Divisor, Space, const Unit*, Unit*>;
template <class Unit>
TransposeKernel<Unit> transpose_kernel(bool large);

}  // namespace sinew::cuda::SINEW_CUDA_NS
