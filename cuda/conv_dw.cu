// Derivative of a convolution towards its filters, as a matrix product summed over pixels.
//
// Rows are filters, columns taps and channels (r, s, c), the summed extent is the pixels of y of all images: y is a
// plain matrix, x is gathered. Parallel over tiles (blockIdx.x) and chunks of pixels (blockIdx.y), whose sums the host
// adds up afterwards: how many chunks there are depends on the shape alone. A thread gathers the same taps all the way,
// at one pixel a slice, which moves on by a constant. Flops: 2 pixels filters taps channels. Bytes, from cache mostly:
// per tile, its share of y, and of x once a tap; from memory: x and y about once. GPU figures: not measured yet.
#include "cuda/device/device.cuh"

#include "cuda/device/shares.cuh"
#include "cuda/device/tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int kNowhere = -(1 << 30);  // a coordinate outside every image

template <class Shape, int kVec>
struct GatherTaps : AlongX<Shape, Shape::kExtentN, kVec> {
  using Base = AlongX<Shape, Shape::kExtentN, kVec>;
  using T = typename Shape::T;
  const ConvDwShape& shape;
  const T* x;
  // The pixel's tap (0, 0): coordinates, offset;
  int h, w, offset;
  int tap_h[Base::kCount], tap_w[Base::kCount], tap[Base::kCount];

  // Pixels from `begin` on; x points to their first image.
  SINEW_DEVICE GatherTaps(const T* x_, const ConvDwShape& s, int begin_in_image, int n0) : shape(s), x(x_) {
    const int first = begin_in_image + Base::own_k();
    const int image = first / (s.p * s.q), row = first / s.q - image * s.p, column = first % s.q;
    h = row * s.stride_h - s.pad_h;
    w = column * s.stride_w - s.pad_w;
    const int row_elements = s.w * s.c;
    offset = image * int(s.x_image) + h * row_elements + w * s.c;
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i) {
      const int n = n0 + Base::own_x() + i * Base::kStep;
      const int place = n / s.c, r = place / s.taps_w;
      tap_h[i] = n < s.columns && !Base::idle() ? r : kNowhere;
      tap_w[i] = place - r * s.taps_w;
      tap[i] = r * row_elements + tap_w[i] * s.c + n - place * s.c;
    }
  }
  SINEW_DEVICE void fetch(int k_left) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(Base::own_k() < k_left && unsigned(h + tap_h[i]) < unsigned(shape.h) &&
                             unsigned(w + tap_w[i]) < unsigned(shape.w),
                         x + offset + tap[i], this->staged[i]);
    h += shape.skip_h;
    w += shape.skip_w;
    offset += shape.skip;
    if (w >= shape.end_w) {
      w -= shape.q * shape.stride_w;
      h += shape.stride_h;
      offset += shape.wrap_row;
    }
    if (h >= shape.end_h) {
      h -= shape.p * shape.stride_h;
      offset += shape.wrap_image;
    }
  }
};

template <class Shape>
SINEW_DEVICE void write_tile(const Shape& tile, typename Shape::T* out, const ConvDwShape& shape, int m0, int n0) {
  using T = typename Shape::T;
  constexpr int kWidth = Shape::kWidth;
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
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinBlocks)
    conv_dw(const typename Shape::T* __restrict__ x, const typename Shape::T* __restrict__ y,
            typename Shape::T* __restrict__ out, typename Shape::T* __restrict__ sums, ConvDwShape shape) {
  using T = typename Shape::T;
  SINEW_DYNAMIC_SHARED(T, shared);
  const int tiles_n = (shape.columns + Shape::kExtentN - 1) / Shape::kExtentN, all = shape.slices.divisor;
  // What is to do: from `slice` of tile t on, `left` slices.
  int t = int(blockIdx.x), slice = int(blockIdx.y) * (shape.chunk / Shape::kDepth), left = shape.chunk / Shape::kDepth;
  if (shape.share != 0) {
    slice = int(blockIdx.x) * shape.share;
    left = shape.all - slice < shape.share ? shape.all - slice : shape.share;
    t = divide(shape.slices, slice);
    slice -= t * all;
  } else {
    out += int64_t(blockIdx.y) * shape.filters * shape.columns;
    if (left > all - slice) left = all - slice;
  }
  while (left > 0) {
    const int m0 = t / tiles_n * Shape::kExtentM, n0 = t % tiles_n * Shape::kExtentN;
    const int count = all - slice < left ? all - slice : left;
    const int64_t begin = int64_t(slice) * Shape::kDepth;
    const int image = int(begin / (shape.p * shape.q));
    const int64_t pixels = shape.pixels - begin;
    MatrixAlongX<Shape, Shape::kExtentM, kVec> load_a(y + begin * shape.filters, shape.filters, m0, shape.filters);
    GatherTaps<Shape, kVec> load_b(x + image * shape.x_image, shape, int(begin - int64_t(image) * shape.p * shape.q),
                                   n0);
    Shape tile;
    tile.accumulate(shared, pixels < count * Shape::kDepth ? int(pixels) : count * Shape::kDepth, load_a, load_b);
    if (shape.share == 0 || count == all)
      write_tile(tile, out, shape, m0, n0);
    else
      write_sums(tile, sums + (2 * int64_t(blockIdx.x) + (slice == 0)) * (Shape::kExtentM * Shape::kExtentN));
    left -= count;
    slice = 0;
    ++t;
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
ConvDwKernel<float> conv_dw_kernel(bool pack, int64_t filters, bool large) {
  using Flat = Tile<float, 16, 64, 4, 4, 4, 16, 8>;
  using FlatElements = Tile<float, 16, 64, 4, 4, 4, 8, 8>;
  using LowElements = Tile<float, 32, 64, 4, 4, 4, 8, 4>;
  using Low = Tile<float, 32, 64, 4, 4, 4, 16, 5>;
  using Square = Tile<float, 64, 64, 8, 4, 4, 16, 4>;
  using Large = Tile<float, 128, 128, 8, 16, 4, 8, 2>;
  if (!pack) return filters <= 16 ? kernel_for<FlatElements, 1>() : kernel_for<LowElements, 1>();
  if (filters <= 16) return kernel_for<Flat, 4>();
  if (filters <= 32) return kernel_for<Low, 4>();
  if (filters <= 64 || !large) return kernel_for<Square, 4>();
  return kernel_for<Large, 4>();
}

template <>
ConvDwKernel<double> conv_dw_kernel(bool pack, int64_t filters, bool) {
  using Low = Tile<double, 32, 64, 4, 4, 4, 8, 4>;
  using Square = Tile<double, 64, 64, 4, 4, 4, 8, 2>;
  if (!pack) return kernel_for<Low, 1>();
  return filters <= 32 ? kernel_for<Low, 2>() : kernel_for<Square, 2>();
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
