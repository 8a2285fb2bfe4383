// Convolution, forward and towards the input, as a matrix product whose left operand is gathered (implicit gemm).
//
// Both are one kernel: target pixels (rows) x target channels (columns), summed over taps and source channels. Parallel
// over tiles (blockIdx.x) and parts (blockIdx.y, see CorrelationPart). A thread gathers from the same few pixels all
// the way, so where they lie is computed once; what changes from slice to slice is the tap, kept as a running offset.
// Flops: 2 pixels outputs taps channels, exactly, for every stride. Bytes, from cache mostly: per tile, its pixels and
// its filters once per tap; from memory: source, filters and target about once. Sums run over taps and channels in
// order, whatever the tile. GPU figures: not measured yet.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/conv_walk.cuh"
#include "cuda/device/tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// kVec neighbouring channels at a time.
template <class Shape, int kDirection, int kVec>
struct GatherPacks : AlongK<Shape, Shape::kExtentM, kVec> {
  using Base = AlongK<Shape, Shape::kExtentM, kVec>;
  using T = typename Shape::T;
  const CorrelationShape& shape;
  const T* source;
  Walk walk;
  Pixel pixel[Base::kCount];

  SINEW_DEVICE GatherPacks(const T* source_, const CorrelationShape& shape_, const CorrelationPart& part,
                           int first_image, int m0)
      : shape(shape_), source(source_), walk(source_walk<kDirection>(shape_, part)) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      pixel[i] = pixel_at<kDirection>(shape, part, first_image, m0 + Base::own_x() + i * Base::kStep);
    walk.advance(Base::own_k());
  }
  SINEW_DEVICE void fetch(int) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(!Base::idle() && inside<kDirection>(shape, walk, pixel[i]),
                         source + pixel[i].offset + walk.offset, this->staged[i]);
    walk.advance(Shape::kDepth);
  }
};

// Element by element, for few or odd numbers of channels. Neighbouring threads have neighbouring pixels, which lie near
// each other when channels are few; all threads are at about the same tap.
template <class Shape, int kDirection>
struct GatherElements {
  using T = typename Shape::T;
  static constexpr int kThreads = Shape::kThreads, kExtent = Shape::kExtentM, kDepth = Shape::kDepth;
  static constexpr int kPixels = kExtent <= kThreads ? 1 : kExtent / kThreads;
  static constexpr int kStepK = kExtent <= kThreads ? kThreads / kExtent : 1;
  static constexpr int kCount = kDepth / kStepK;
  const CorrelationShape& shape;
  const T* source;
  Walk walk;
  Pixel pixel[kPixels];
  T staged[kPixels][kCount];

  SINEW_DEVICE static int own_k() { return int(threadIdx.x) / kExtent % kStepK; }
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) % kExtent; }
  SINEW_DEVICE GatherElements(const T* source_, const CorrelationShape& shape_, const CorrelationPart& part,
                              int first_image, int m0)
      : shape(shape_), source(source_), walk(source_walk<kDirection>(shape_, part)) {
    SINEW_UNROLL
    for (int i = 0; i < kPixels; ++i)
      pixel[i] = pixel_at<kDirection>(shape, part, first_image, m0 + own_x() + i * kThreads);
    walk.advance(own_k());
  }
  SINEW_DEVICE void fetch(int) {
    SINEW_UNROLL
    for (int k = 0; k < kCount; ++k) {
      SINEW_UNROLL
      for (int i = 0; i < kPixels; ++i)
        staged[i][k] = inside<kDirection>(shape, walk, pixel[i]) ? source[pixel[i].offset + walk.offset] : T(0);
      walk.advance(kStepK);
    }
  }
  SINEW_DEVICE void store(T* slice) const {
    SINEW_UNROLL
    for (int k = 0; k < kCount; ++k) {
      SINEW_UNROLL
      for (int i = 0; i < kPixels; ++i)
        slice[(own_k() + k * kStepK) * Shape::kPitchM + own_x() + i * kThreads] = staged[i][k];
    }
  }
};

// The filters towards the input: (channels of the source, taps, outputs), of which a part has every stride-th tap.
template <class Shape, int kVec>
struct FiltersAlongX : AlongX<Shape, Shape::kExtentN, kVec> {
  using Base = AlongX<Shape, Shape::kExtentN, kVec>;
  using T = typename Shape::T;
  const T* filter;
  Walk walk;
  int x_left;

  SINEW_DEVICE FiltersAlongX(const T* filter_, const CorrelationShape& shape, const CorrelationPart& part, int n0)
      : filter(filter_ + part.filter + n0 + Base::own_x()),
        walk(filter_walk(shape, part)),
        x_left(Base::idle() ? 0 : shape.outputs - n0 - Base::own_x()) {
    walk.advance(Base::own_k());
  }
  SINEW_DEVICE void fetch(int) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(i * Base::kStep < x_left && walk.there(), filter + walk.offset + i * Base::kStep,
                         this->staged[i]);
    walk.advance(Shape::kDepth);
  }
};

template <class Shape>
SINEW_DEVICE void write_tile(const Shape& tile, const typename Shape::T* bias, typename Shape::T* target,
                             const CorrelationShape& shape, const CorrelationPart& part, int m0, int n0) {
  using T = typename Shape::T;
  constexpr int kWidth = Shape::kWidth;
  SINEW_UNROLL
  for (int i = 0; i < Shape::kThreadM; ++i) {
    const int m = m0 + Shape::first_row() + Shape::row_step(i);
    if (m >= part.pixels) continue;
    T* const to = target + target_offset(shape, part, m);
    SINEW_UNROLL
    for (int g = 0; g < Shape::kGroupsN; ++g) {
      const int n = n0 + Shape::first_column() + Shape::group_step(g);
      Pack<T> pack;
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        T value = tile.acc[i][g * kWidth + j];
        if (bias != nullptr && n + j < shape.outputs) value += bias[n + j];
        pack.v[j] = shape.relu ? SINEW_FUNCTOR_NS::relu::apply(value, T(0), T(0)) : value;
      }
      if (shape.pack_target) {
        if (n < shape.outputs) *reinterpret_cast<Pack<T>*>(to + n) = pack;
      } else {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j)
          if (n + j < shape.outputs) to[n + j] = pack.v[j];
      }
    }
  }
}

template <class Shape, bool kForward, int kVec>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinBlocks)
    correlate(const typename Shape::T* __restrict__ source, const typename Shape::T* __restrict__ filter,
              const typename Shape::T* __restrict__ bias, typename Shape::T* __restrict__ target,
              CorrelationShape shape, CorrelationParts parts) {
  using T = typename Shape::T;
  constexpr int kDirection = kForward ? 1 : -1;
  SINEW_DYNAMIC_SHARED(T, shared);
  const CorrelationPart& part = parts.at[blockIdx.y];
  const CorrelationTile place = correlation_tile(shape, part, Shape::kExtentM, Shape::kExtentN);
  if (!place.there) return;  // the whole block
  const T* const images = source + place.first_image * shape.source_image;
  const int depth = part.taps_h * part.taps_w * shape.channels;

  using Gather = std::conditional_t<kVec == 1, GatherElements<Shape, kDirection>, GatherPacks<Shape, kDirection, kVec>>;
  Gather load_a(images, shape, part, place.first_image, place.m0);
  Shape tile;
  if constexpr (kForward) {
    MatrixAlongK<Shape, Shape::kExtentN, kVec> load_b(filter, depth, place.n0, shape.outputs);
    tile.accumulate(shared, depth, load_a, load_b);
  } else {
    FiltersAlongX<Shape, kVec> load_b(filter, shape, part, place.n0);
    tile.accumulate(shared, depth, load_a, load_b);
  }
  write_tile(tile, bias, target, shape, part, place.m0, place.n0);
}

template <class Shape, int kVec>
CorrelationKernel<typename Shape::T> kernel_for(bool forward) {
  CorrelationKernel<typename Shape::T> k{{"conv_forward", &correlate<Shape, true, kVec>},
                                         Shape::kExtentM,
                                         Shape::kExtentN,
                                         Shape::kThreads,
                                         Shape::kSharedBytes};
  if (!forward) k.kernel = {"conv_dx", &correlate<Shape, false, kVec>};
  return k;
}

// Enough blocks for two on each multiprocessor of a large GPU. Not tuned yet.
constexpr int64_t kEnoughTiles = 264;

template <class Shape>
bool fills(int64_t pixels, int64_t outputs) {
  const int64_t rows = (pixels + Shape::kExtentM - 1) / Shape::kExtentM;
  return rows * ((outputs + Shape::kExtentN - 1) / Shape::kExtentN) >= kEnoughTiles;
}

}  // namespace

template <>
CorrelationKernel<float> correlation_kernel(bool forward, bool pack, int64_t pixels, int64_t outputs) {
  using Narrow = Tile<float, 256, 16, 8, 4, 8, 8, 4>;
  using Low = Tile<float, 64, 32, 4, 4, 4, 16, 6>;
  using Middle = Tile<float, 128, 32, 8, 4, 4, 8, 4>;
  using Square = Tile<float, 64, 64, 8, 4, 4, 16, 4>;
  using Large = Tile<float, 128, 128, 8, 16, 4, 16, 2>;
  if (!pack)
    return outputs <= 16 && fills<Narrow>(pixels, outputs) ? kernel_for<Narrow, 1>(forward)
                                                           : kernel_for<Low, 1>(forward);
  if (outputs <= 16 && fills<Narrow>(pixels, outputs)) return kernel_for<Narrow, 4>(forward);
  if (outputs > 64 && fills<Large>(pixels, outputs)) return kernel_for<Large, 4>(forward);
  if (outputs > 32 && fills<Square>(pixels, outputs)) return kernel_for<Square, 4>(forward);
  if (outputs <= 32 && fills<Middle>(pixels, outputs)) return kernel_for<Middle, 4>(forward);
  return kernel_for<Low, 4>(forward);
}

template <>
CorrelationKernel<double> correlation_kernel(bool forward, bool pack, int64_t pixels, int64_t outputs) {
  using Low = Tile<double, 64, 32, 4, 4, 4, 8, 4>;
  using Square = Tile<double, 64, 64, 4, 4, 4, 8, 2>;
  if (!pack) return kernel_for<Low, 1>(forward);
  if (outputs > 32 && fills<Square>(pixels, outputs)) return kernel_for<Square, 2>(forward);
  return kernel_for<Low, 2>(forward);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
