// Memory movement: fill, where, casts, and copies between any strides (permute, broadcast, slice, pad, concatenation).
//
// Parallel over groups of 16 bytes, or over the largest units that strides and pointers allow, in grid-stride loops;
// a thread asks for several before it writes. Transposes go through shared memory, a tile a block, so that
// both sides are read and written along rows.
// Bytes: every operand once; a copy whose innermost axis is not contiguous on both sides, and is no transpose, moves
// up to a sector of 32 bytes per element. Flops: none; about 8 instructions per axis and unit for the subscripts.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "cuda/kernels/copy.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int kTransposeThreads = 32;

template <class Unit>
SINEW_DEVICE Pack<Unit> spread_over_pack(Unit value) {
  Pack<Unit> pack;
  SINEW_UNROLL
  for (int j = 0; j < Pack<Unit>::kWidth; ++j) pack.v[j] = value;
  return pack;
}

template <class Unit>
__global__ void __launch_bounds__(kCopyThreads) fill(int64_t n, int64_t packs, Unit value, Unit* y) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  const Pack<Unit> pack = spread_over_pack(value);
  for (int64_t i = first; i < packs; i += stride) as_vector<Pack<Unit>>(y)[i] = pack;
  for (int64_t i = packs * Pack<Unit>::kWidth + first; i < n; i += stride) y[i] = value;
}

template <class T>
__global__ void __launch_bounds__(kCopyThreads)
    where(int64_t n, int64_t packs, const T* mask, const T* a, const T* b, T* y) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t base = first; base < packs; base += kWhereUnroll * stride) {
    Pack<T> m[kWhereUnroll], yes[kWhereUnroll], no[kWhereUnroll];
    SINEW_UNROLL
    for (unsigned u = 0; u < kWhereUnroll; ++u) {
      const int64_t i = base + u * stride;
      if (i >= packs) continue;
      m[u] = as_vector<const Pack<T>>(mask)[i];
      yes[u] = as_vector<const Pack<T>>(a)[i];
      no[u] = as_vector<const Pack<T>>(b)[i];
    }
    SINEW_UNROLL
    for (unsigned u = 0; u < kWhereUnroll; ++u) {
      if (base + u * stride >= packs) continue;
      SINEW_UNROLL
      for (int j = 0; j < Pack<T>::kWidth; ++j) yes[u].v[j] = m[u].v[j] != Wide<T>(0) ? yes[u].v[j] : no[u].v[j];
      as_vector<Pack<T>>(y)[base + u * stride] = yes[u];
    }
  }
  for (int64_t i = packs * Pack<T>::kWidth + first; i < n; i += stride) y[i] = mask[i] != Wide<T>(0) ? a[i] : b[i];
}

// As many elements as the larger type has in 16 bytes.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Group {
  T v[kWidth];
};

template <class From, class To>
__global__ void __launch_bounds__(kCopyThreads) cast(int64_t n, int64_t groups, const From* x, To* y) {
  constexpr int kWidth = kCastWidth<From, To>;
  constexpr unsigned kUnroll = kCastUnroll<From, To>;
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t base = first; base < groups; base += kUnroll * stride) {
    Group<From, kWidth> from[kUnroll];
    SINEW_UNROLL
    for (unsigned u = 0; u < kUnroll; ++u)
      if (base + u * stride < groups) from[u] = reinterpret_cast<const Group<From, kWidth>*>(x)[base + u * stride];
    SINEW_UNROLL
    for (unsigned u = 0; u < kUnroll; ++u) {
      if (base + u * stride >= groups) continue;
      Group<To, kWidth> to;
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) to.v[j] = static_cast<To>(from[u].v[j]);
      reinterpret_cast<Group<To, kWidth>*>(y)[base + u * stride] = to;
    }
  }
  for (int64_t i = groups * kWidth + first; i < n; i += stride) y[i] = static_cast<To>(x[i]);
}

template <class Unit, bool kSpread>
__global__ void __launch_bounds__(kCopyThreads)
    copy(uint32_t n, const Unit* __restrict__ x, Unit* __restrict__ y, Space space) {
  const uint32_t stride = gridDim.x * blockDim.x;
  for (uint32_t base = blockIdx.x * blockDim.x + threadIdx.x; base < n; base += kCopyUnroll * stride) {
    Unit value[kCopyUnroll];
    int32_t to[kCopyUnroll];
    SINEW_UNROLL
    for (unsigned u = 0; u < kCopyUnroll; ++u) {
      if (base + u * stride >= n) continue;
      const Offsets at = offsets_of(space, base + u * stride);
      value[u] = x[at.a];
      to[u] = at.b;
    }
    SINEW_UNROLL
    for (unsigned u = 0; u < kCopyUnroll; ++u) {
      if (base + u * stride >= n) continue;
      if constexpr (kSpread)
        as_vector<Pack<Unit>>(y)[to[u]] = spread_over_pack(value[u]);
      else
        y[to[u]] = value[u];
    }
  }
}

template <class Unit, int kTile>
__global__ void __launch_bounds__(kTransposeThreads* kTransposeRows)
    transpose(int rows, int columns, int64_t x_pitch, int64_t y_pitch, Divisor tiles_across, Divisor tiles, Space outer,
              const Unit* __restrict__ x, Unit* __restrict__ y) {
  constexpr int kAcross = kTransposeThreads, kRows = kTransposeRows;
  SINEW_SHARED(Unit, tile, [kTile][kTile + 1]);  // the extra column puts a column's elements into different banks
  const uint32_t matrix = divide(blockIdx.x, tiles);
  const uint32_t number = blockIdx.x - matrix * tiles.value;
  const uint32_t tile_row = divide(number, tiles_across);
  const int row0 = int(tile_row) * kTile, column0 = int(number - tile_row * tiles_across.value) * kTile;
  const Offsets at = offsets_of(outer, matrix);
  // Units of a thread: all are asked for before the first is used.
  constexpr int kDown = kTile / kRows, kWide = kTile / kAcross;
  Unit unit[kDown][kWide];
  SINEW_UNROLL
  for (int u = 0; u < kDown; ++u) {
    const int row = row0 + int(threadIdx.y) + u * kRows;
    SINEW_UNROLL
    for (int v = 0; v < kWide; ++v) {
      const int column = column0 + int(threadIdx.x) + v * kAcross;
      unit[u][v] = row < rows && column < columns ? x[at.a + row * x_pitch + column] : Unit(0);
    }
  }
  SINEW_UNROLL
  for (int u = 0; u < kDown; ++u) {
    SINEW_UNROLL
    for (int v = 0; v < kWide; ++v) tile[int(threadIdx.y) + u * kRows][int(threadIdx.x) + v * kAcross] = unit[u][v];
  }
  block_sync();
  SINEW_UNROLL
  for (int u = 0; u < kDown; ++u) {
    const int of_tile = int(threadIdx.y) + u * kRows, column = column0 + of_tile;
    SINEW_UNROLL
    for (int v = 0; v < kWide; ++v) {
      const int in_row = int(threadIdx.x) + v * kAcross, row = row0 + in_row;
      if (row < rows && column < columns) y[at.b + column * y_pitch + row] = tile[in_row][of_tile];
    }
  }
}

}  // namespace

template <class Unit>
FillKernel<Unit> fill_kernel() {
  return {"fill", &fill<Unit>};
}
template <class T>
WhereKernel<T> where_kernel() {
  return {"where", &where<T>};
}
template <class From, class To>
CastKernel<From, To> cast_kernel() {
  return {"cast", &cast<From, To>};
}
template <class Unit>
CopyKernel<Unit> copy_kernel(bool spread) {
  if constexpr (sizeof(Unit) < 16)
    if (spread) return {"copy of one element to many", &copy<Unit, true>};
  return {"copy between strides", &copy<Unit, false>};
}
template <class Unit>
TransposeKernel<Unit> transpose_kernel(bool large) {
  if constexpr (sizeof(Unit) <= 4)
    if (large) return {"transpose", &transpose<Unit, 64>};
  return {"transpose", &transpose<Unit, 32>};
}

#define SINEW_INSTANTIATE(T)                     \
  template WhereKernel<T> where_kernel<T>();     \
  template CastKernel<T, float> cast_kernel();   \
  template CastKernel<T, double> cast_kernel();  \
  template CastKernel<T, int32_t> cast_kernel(); \
  template CastKernel<T, int64_t> cast_kernel(); \
  template CastKernel<T, uint8_t> cast_kernel(); \
  template CastKernel<T, bfloat16> cast_kernel();
SINEW_INSTANTIATE(float)
SINEW_INSTANTIATE(double)
SINEW_INSTANTIATE(int32_t)
SINEW_INSTANTIATE(int64_t)
SINEW_INSTANTIATE(uint8_t)
SINEW_INSTANTIATE(bfloat16)
#undef SINEW_INSTANTIATE
#define SINEW_INSTANTIATE(Unit)                       \
  template FillKernel<Unit> fill_kernel();            \
  template CopyKernel<Unit> copy_kernel(bool spread); \
  template TransposeKernel<Unit> transpose_kernel(bool large);
SINEW_INSTANTIATE(uint8_t)
SINEW_INSTANTIATE(uint16_t)
SINEW_INSTANTIATE(uint32_t)
SINEW_INSTANTIATE(uint64_t)
#undef SINEW_INSTANTIATE
template CopyKernel<Unit16> copy_kernel(bool spread);

}  // namespace sinew::cuda::SINEW_CUDA_NS
