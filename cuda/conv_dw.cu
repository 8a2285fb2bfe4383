// Derivative of a convolution towards its filters, as a matrix product summed over pixels.
//
// Rows are filters, columns taps and channels (r, s, c), the summed extent is the pixels of y of all images: y is a
// plain matrix, x is gathered. Parallel over tiles (blockIdx.x) and chunks of pixels (blockIdx.y), whose sums the host
// adds up afterwards: how many chunks there are depends on the shape alone. A thread gathers the same taps all the way,
// at one pixel a slice, which moves on by a constant. Flops: 2 pixels filters taps channels. Bytes, from cache mostly:
// per tile, its share of y, and of x once a tap; from memory: x and y about once. GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "cuda/device/conv_walk.cuh"
#include "cuda/device/shares.cuh"
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
        if (n < shape.columns) *as_vector<Pack<T>>(to) = pack;
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

// The pixel of a tap's rectangle whose values a thread loads, of y and of x; there are no edges in it.
struct TapPixel {
  const ConvDwTap& tap;
  int i, j, x, y;

  // `first` counts pixels of the tap; offsets are from image first_image on.
  SINEW_DEVICE TapPixel(const ConvDwTapsShape& shape, const ConvDwTap& tap_, int first_image, int first) : tap(tap_) {
    const int image = divide(tap.per_image, first), rest = first - image * tap.per_image.divisor;
    i = divide(tap.per_row, rest);
    j = rest - i * tap.per_row.divisor;
    x = (image - first_image) * int(shape.x_image) + tap.x + i * shape.x_row + j * shape.x_column;
    y = (image - first_image) * int(shape.y_image) + tap.y + i * shape.y_row + j * shape.all.filters;
  }
  SINEW_DEVICE void advance() {
    i += tap.skip_i;
    j += tap.skip_j;
    x += tap.skip_x;
    y += tap.skip_y;
    if (j >= tap.width) {
      j -= tap.width;
      ++i;
      x += tap.row_x;
      y += tap.row_y;
    }
    if (i >= tap.height) {
      i -= tap.height;
      x += tap.image_x;
      y += tap.image_y;
    }
  }
};

template <class Shape>
struct TapRows : AlongX<Shape, Shape::kExtentM, Shape::kWidth> {
  using Base = AlongX<Shape, Shape::kExtentM, Shape::kWidth>;
  using T = typename Shape::T;
  const T* from;
  const TapPixel& pixel;
  int x_left;

  SINEW_DEVICE TapRows(const T* y, const TapPixel& pixel_, int m0, int extent)
      : from(y + m0 + Base::own_x()), pixel(pixel_), x_left(Base::idle() ? 0 : extent - m0 - Base::own_x()) {}
  SINEW_DEVICE void fetch(int k_left) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<Shape::kWidth>(Base::own_k() < k_left && i * Base::kStep < x_left, from + pixel.y + i * Base::kStep,
                                  this->staged[i]);
  }
};

// Moves the pixel on, for both.
template <class Shape>
struct TapColumns : AlongX<Shape, Shape::kExtentN, Shape::kWidth> {
  using Base = AlongX<Shape, Shape::kExtentN, Shape::kWidth>;
  using T = typename Shape::T;
  const T* from;
  TapPixel& pixel;

  SINEW_DEVICE TapColumns(const T* x, TapPixel& pixel_, int n0) : from(x + n0 + Base::own_x()), pixel(pixel_) {}
  SINEW_DEVICE void fetch(int k_left) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<Shape::kWidth>(!Base::idle() && Base::own_k() < k_left, from + pixel.x + i * Base::kStep,
                                  this->staged[i]);
    pixel.advance();
  }
};

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinBlocks)
    conv_dw_taps(const typename Shape::T* __restrict__ x, const typename Shape::T* __restrict__ y,
                 typename Shape::T* __restrict__ out, typename Shape::T* __restrict__ sums, ConvDwTapsShape shape,
                 ConvDwTaps taps) {
  using T = typename Shape::T;
  static_assert(TapRows<Shape>::Base::kThreadsPerK == TapColumns<Shape>::Base::kThreadsPerK);  // the same pixels
  SINEW_DYNAMIC_SHARED(T, shared);
  const int tiles_n = shape.all.c / Shape::kExtentN;
  int p = 0, slice = int(blockIdx.x) * shape.all.share;
  int left = shape.all.all - slice < shape.all.share ? shape.all.all - slice : shape.all.share;
  while (p + 1 < shape.taps && slice >= taps.at[p + 1].first) ++p;
  slice -= taps.at[p].first;
  int t = divide(taps.at[p].slices, slice);
  slice -= t * taps.at[p].slices.divisor;
  while (left > 0) {
    if (t == shape.tiles) {
      ++p, t = 0;
      continue;
    }
    const ConvDwTap& tap = taps.at[p];
    const int m0 = t / tiles_n * Shape::kExtentM, n0 = t % tiles_n * Shape::kExtentN;
    const int all = tap.slices.divisor, count = all - slice < left ? all - slice : left;
    const int begin = slice * Shape::kDepth, pixels = tap.pixels - begin;
    const int image = divide(tap.per_image, begin);
    TapPixel pixel(shape, tap, image, begin + TapRows<Shape>::Base::own_k());
    TapRows<Shape> load_a(y + image * shape.y_image, pixel, m0, shape.all.filters);
    TapColumns<Shape> load_b(x + image * shape.x_image, pixel, n0);
    Shape tile;
    tile.accumulate(shared, pixels < count * Shape::kDepth ? pixels : count * Shape::kDepth, load_a, load_b);
    if (count == all)
      write_tile(tile, out, shape.all, m0, p * shape.all.c + n0);
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
          Shape::kSharedBytes,
          {}};
}
template <class Shape>
ConvDwKernel<typename Shape::T> with_taps() {
  ConvDwKernel<typename Shape::T> kernel = kernel_for<Shape, Shape::kWidth>();
  kernel.taps = {"conv_dw, tap by tap", &conv_dw_taps<Shape>};
  return kernel;
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
  if (filters <= 64 || !large) return with_taps<Square>();
  return with_taps<Large>();
}

template <>
ConvDwKernel<double> conv_dw_kernel(bool pack, int64_t filters, bool) {
  using Low = Tile<double, 32, 64, 4, 4, 4, 8, 4>;
  using Square = Tile<double, 64, 64, 4, 4, 4, 8, 2>;
  if (!pack) return kernel_for<Low, 1>();
  return filters <= 32 ? kernel_for<Low, 2>() : with_taps<Square>();
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
