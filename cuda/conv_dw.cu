// Derivative of a convolution towards its filters, as a matrix product summed over pixels.
//
// Rows are filters, columns taps and channels (r, s, c), the summed extent is the pixels of y of all images: y is a
// plain matrix, x is gathered. Parallel over tiles (blockIdx.x) and chunks of pixels (blockIdx.y), whose sums the host
// adds up afterwards: how many chunks there are depends on the shape alone. A thread gathers the same taps all the way,
// at one pixel a slice, which moves on by a constant. Flops: 2 pixels filters taps channels. Bytes, from cache mostly:
// per tile, its share of y, and of x once a tap; from memory: x and y about once. GPU figures: not measured yet.
#include "cuda/device/device.cuh"

#include "cuda/device/conv_walk.cuh"
#include "cuda/device/tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class Shape, int kVec>
struct GatherTaps : AlongX<Shape, Shape::kExtentN, kVec> {
  using Base = AlongX<Shape, Shape::kExtentN, kVec>;
  using T = typename Shape::T;
  const ConvDwShape& shape;
  const T* x;
  TapOrigin origin;
  Tap tap[Base::kCount];

  // Pixels from number `first` of the image that x points to on.
  SINEW_DEVICE GatherTaps(const T* x_, const ConvDwShape& s, int first, int n0)
      : shape(s), x(x_), origin(s, first + Base::own_k()) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      tap[i] = tap_of(s, Base::idle() ? s.columns : n0 + Base::own_x() + i * Base::kStep);
  }
  SINEW_DEVICE void fetch(int k_left) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(Base::own_k() < k_left && inside(shape, origin, tap[i]), x + origin.offset + tap[i].offset,
                         this->staged[i]);
    origin.advance(shape);
  }
};

template <class Shape, int kVec>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinBlocks)
    conv_dw(const typename Shape::T* __restrict__ x, const typename Shape::T* __restrict__ y,
            typename Shape::T* __restrict__ out, ConvDwShape shape) {
  using T = typename Shape::T;
  constexpr int kWidth = Shape::kWidth;
  SINEW_DYNAMIC_SHARED(T, shared);
  const DwTile place = dw_tile(shape, Shape::kExtentM, Shape::kExtentN);
  const int m0 = place.m0, n0 = place.n0;
  MatrixAlongX<Shape, Shape::kExtentM, kVec> load_a(y + place.begin * shape.filters, shape.filters, m0, shape.filters);
  GatherTaps<Shape, kVec> load_b(x + place.image * shape.x_image, shape, place.first, n0);
  Shape tile;
  tile.accumulate(shared, place.count, load_a, load_b);

  out += int64_t(blockIdx.y) * shape.filters * shape.columns;
  SINEW_UNROLL
  for (int i = 0; i < Shape::kThreadM; ++i) {
    const int m = m0 + Shape::first_row() + Shape::row_step(i);
    if (m >= shape.filters) continue;
    SINEW_UNROLL
    for (int g = 0; g < Shape::kGroupsN; ++g) {
      const int n = n0 + Shape::first_column() + Shape::group_step(g);
      T* const to = out + int64_t(m) * shape.columns + n;
      if (shape.pack_out) {
        Pack<T> pack;
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) pack.v[j] = tile.acc[i][g * kWidth + j];
        if (n < shape.columns) *reinterpret_cast<Pack<T>*>(to) = pack;
      } else {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j)
          if (n + j < shape.columns) to[j] = tile.acc[i][g * kWidth + j];
      }
    }
  }
}

template <class Shape, int kVec>
ConvDwKernel<typename Shape::T> kernel_for() {
  return {{"conv_dw", &conv_dw<Shape, kVec>},
          Shape::kExtentM,
          Shape::kExtentN,
          Shape::kDepth,
          Shape::kThreads,
          Shape::kMinBlocks,
          Shape::kSharedBytes};
}

}  // namespace

template <>
ConvDwKernel<float> conv_dw_kernel(bool pack, int64_t filters) {
  using Flat = Tile<float, 16, 64, 4, 4, 4, 16, 8>;
  using FlatElements = Tile<float, 16, 64, 4, 4, 4, 8, 8>;
  using LowElements = Tile<float, 32, 64, 4, 4, 4, 8, 4>;
  using Low = Tile<float, 32, 64, 4, 4, 4, 16, 5>;
  using Square = Tile<float, 64, 64, 8, 4, 4, 16, 4>;
  using Large = Tile<float, 128, 128, 8, 16, 4, 16, 2>;
  if (!pack) return filters <= 16 ? kernel_for<FlatElements, 1>() : kernel_for<LowElements, 1>();
  if (filters <= 16) return kernel_for<Flat, 4>();
  if (filters <= 32) return kernel_for<Low, 4>();
  if (filters <= 64) return kernel_for<Square, 4>();
  return kernel_for<Large, 4>();
}

template <>
ConvDwKernel<double> conv_dw_kernel(bool pack, int64_t filters) {
  using Low = Tile<double, 32, 64, 4, 4, 4, 8, 4>;
  using Square = Tile<double, 64, 64, 4, 4, 4, 8, 2>;
  if (!pack) return kernel_for<Low, 1>();
  return filters <= 32 ? kernel_for<Low, 2>() : kernel_for<Square, 2>();
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
