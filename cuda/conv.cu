// Convolution, forward and towards the input, as a matrix product whose left operand is gathered (implicit gemm).
//
// Both are one kernel: target pixels (rows) x target channels (columns), summed over taps and source channels. Parallel
// over tiles (blockIdx.x) and parts (blockIdx.y, see CorrelationPart). A thread gathers from the same few pixels all
// the way, so where they lie is computed once; what changes from slice to slice is the tap, kept as a running offset.
// Flops: 2 pixels outputs taps channels, exactly, for every stride. Bytes, from cache mostly: per tile, its pixels and
// its filters once per tap; from memory: source, filters and target about once. Sums run over taps and channels in
// order, whatever the tile. GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/conv_walk.cuh"
#include "cuda/device/shares.cuh"
#include "cuda/device/tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// kVec neighbouring channels at a time. Which pixels exist is found anew only when it is another tap's turn.
template <class Shape, int kDirection, int kVec>
struct GatherPacks : AlongK<Shape, Shape::kExtentM, kVec> {
  using Base = AlongK<Shape, Shape::kExtentM, kVec>;
  using T = typename Shape::T;
  const CorrelationShape& shape;
  const T* source;
  TapWalk walk;
  Pixel pixel[Base::kCount];
  bool there[Base::kCount];

  SINEW_DEVICE GatherPacks(const T* source_, const CorrelationShape& shape_, const CorrelationPart& part,
                           int first_image, int m0, int k0)
      : shape(shape_), source(source_), walk(source_walk<kDirection>(shape_, part)) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      pixel[i] = pixel_at<kDirection>(shape, part, first_image,
                                      Base::idle() ? part.pixels : m0 + Base::own_x() + i * Base::kStep);
    walk.advance(k0 + Base::own_k());
    look();
  }
  SINEW_DEVICE void look() {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i) there[i] = inside<kDirection>(shape, walk, pixel[i]);
  }
  SINEW_DEVICE void fetch(int) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(there[i], source + pixel[i].offset + walk.offset, this->staged[i]);
    if (walk.advance(Shape::kDepth)) look();
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
  TapWalk walk;
  Pixel pixel[kPixels];
  T staged[kPixels][kCount];

  SINEW_DEVICE static int own_k() { return int(threadIdx.x) / kExtent % kStepK; }
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) % kExtent; }
  SINEW_DEVICE GatherElements(const T* source_, const CorrelationShape& shape_, const CorrelationPart& part,
                              int first_image, int m0, int k0)
      : shape(shape_), source(source_), walk(source_walk<kDirection>(shape_, part)) {
    SINEW_UNROLL
    for (int i = 0; i < kPixels; ++i)
      pixel[i] = pixel_at<kDirection>(shape, part, first_image, m0 + own_x() + i * kThreads);
    walk.advance(k0 + own_k());
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

// The filters forward: (outputs, taps, channels), of which a part has some taps.
template <class Shape, int kVec>
struct FiltersAlongK : AlongK<Shape, Shape::kExtentN, kVec> {
  using Base = AlongK<Shape, Shape::kExtentN, kVec>;
  using T = typename Shape::T;
  const T* filter;
  int step;
  TapWalk walk;
  int x_left;

  SINEW_DEVICE FiltersAlongK(const T* filter_, const CorrelationShape& shape, const CorrelationPart& part, int n0,
                             int k0)
      : filter(filter_ + part.filter + int64_t(n0 + Base::own_x()) * shape.output_step),
        step(Base::kStep * shape.output_step),
        walk(filter_walk(shape, part)),
        x_left(Base::idle() ? 0 : shape.outputs - n0 - Base::own_x()) {
    walk.advance(k0 + Base::own_k());
  }
  SINEW_DEVICE void fetch(int) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(i * Base::kStep < x_left && walk.there(), filter + walk.offset + i * step, this->staged[i]);
    walk.advance(Shape::kDepth);
  }
};

// The filters towards the input: (channels of the source, taps, outputs), of which a part has every stride-th tap.
template <class Shape, int kVec>
struct FiltersAlongX : AlongX<Shape, Shape::kExtentN, kVec> {
  using Base = AlongX<Shape, Shape::kExtentN, kVec>;
  using T = typename Shape::T;
  const T* filter;
  TapWalk walk;
  int x_left;

  SINEW_DEVICE FiltersAlongX(const T* filter_, const CorrelationShape& shape, const CorrelationPart& part, int n0,
                             int k0)
      : filter(filter_ + part.filter + n0 + Base::own_x()),
        walk(filter_walk(shape, part)),
        x_left(Base::idle() ? 0 : shape.outputs - n0 - Base::own_x()) {
    walk.advance(k0 + Base::own_k());
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
        if (shape.accumulate && n + j < shape.outputs) pack.v[j] += to[n + j];
      }
      if (shape.pack_target) {
        if (n < shape.outputs) *as_vector<Pack<T>>(to + n) = pack;
      } else {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j)
          if (n + j < shape.outputs) to[n + j] = pack.v[j];
      }
    }
  }
}

template <class Shape, bool kForward, int kVec, bool kShares>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinBlocks)
    correlate(const typename Shape::T* __restrict__ source, const typename Shape::T* __restrict__ filter,
              const typename Shape::T* __restrict__ bias, typename Shape::T* __restrict__ target,
              [[maybe_unused]] typename Shape::T* __restrict__ sums, CorrelationShape shape, CorrelationParts parts) {
  using T = typename Shape::T;
  constexpr int kDirection = kForward ? 1 : -1;
  using Gather = std::conditional_t<kVec == 1, GatherElements<Shape, kDirection>, GatherPacks<Shape, kDirection, kVec>>;
  using Filters = std::conditional_t<kForward, FiltersAlongK<Shape, kVec>, FiltersAlongX<Shape, kVec>>;
  SINEW_DYNAMIC_SHARED(T, shared);
  const int tiles_n = (shape.outputs + Shape::kExtentN - 1) / Shape::kExtentN;
  // What is to do: from `slice` of tile `t` of part p on, `left` slices.
  int p = int(blockIdx.y), t = int(blockIdx.x), slice = 0, left = 1;
  if constexpr (kShares) {
    slice = int(blockIdx.x) * shape.share;
    left = shape.slices - slice < shape.share ? shape.slices - slice : shape.share;
    while (p + 1 < shape.parts && slice >= parts.at[p + 1].first) ++p;
    slice -= parts.at[p].first;
    t = divide(parts.at[p].slices, slice);
    slice -= t * parts.at[p].slices.divisor;
  }
  do {
    const CorrelationPart& part = parts.at[p];
    const int64_t begin = int64_t(t / tiles_n) * Shape::kExtentM;
    if (begin >= part.pixels) {  // the part's last tile is behind us
      if (!kShares) return;      // the whole block: parts differ in size
      ++p, t = 0;
      continue;
    }
    const int m0 = int(begin), n0 = t % tiles_n * Shape::kExtentN;
    const int first_image = divide(part.per_image, m0);
    const int all = part.slices.divisor, count = !kShares ? all : all - slice < left ? all - slice : left;
    const int k0 = kShares ? slice * Shape::kDepth : 0, k_left = part.taps_h * part.taps_w * shape.channels - k0;
    Gather load_a(source + first_image * shape.source_image, shape, part, first_image, m0, k0);
    Filters load_b(filter, shape, part, n0, k0);
    Shape tile;
    tile.accumulate(shared, kShares && k_left > count * Shape::kDepth ? count * Shape::kDepth : k_left, load_a, load_b);
    if (!kShares || count == all)
      write_tile(tile, bias, target, shape, part, m0, n0);
    else
      write_sums(tile, sums + (2 * int64_t(blockIdx.x) + (slice == 0)) * (Shape::kExtentM * Shape::kExtentN));
    left -= count;
    slice = 0;
    ++t;
  } while (kShares && left > 0);
}

template <class Shape, int kVec, bool kShares>
CorrelationKernel<typename Shape::T> instance(bool forward) {
  CorrelationKernel<typename Shape::T> k{{"conv_forward", &correlate<Shape, true, kVec, kShares>},
                                         Shape::kExtentM,
                                         Shape::kExtentN,
                                         Shape::kDepth,
                                         Shape::kThreads,
                                         Shape::kMinBlocks,
                                         Shape::kSharedBytes,
                                         kShares};
  if (!forward) k.kernel = {"conv_dx", &correlate<Shape, false, kVec, kShares>};
  return k;
}

template <class Shape, int kVec>
CorrelationKernel<typename Shape::T> whole(bool forward) {
  return instance<Shape, kVec, false>(forward);
}
template <class Shape, int kVec>
CorrelationKernel<typename Shape::T> either(bool forward, bool shares) {
  return shares ? instance<Shape, kVec, true>(forward) : instance<Shape, kVec, false>(forward);
}

}  // namespace

template <>
CorrelationKernel<float> correlation_kernel(bool forward, bool pack, ConvTile tile, bool shares) {
  using Narrow = Tile<float, 256, 16, 8, 4, 8, 8, 4>;
  using Low = Tile<float, 64, 32, 4, 4, 4, 16, 5>;
  using Middle = Tile<float, 128, 32, 8, 4, 4, 8, 4>;
  using Square = Tile<float, 64, 64, 8, 4, 4, 16, 4>;
  using Tall = Tile<float, 256, 64, 16, 8, 8, 8, 2>;
  using Large = Tile<float, 128, 128, 8, 16, 4, 8, 2>;
  if (!pack) return tile == ConvTile::narrow ? whole<Narrow, 1>(forward) : whole<Low, 1>(forward);
  switch (tile) {
    case ConvTile::large:
      return either<Large, 4>(forward, shares);
    case ConvTile::tall:
      return either<Tall, 4>(forward, shares);
    case ConvTile::square:
      return either<Square, 4>(forward, shares);
    case ConvTile::middle:
      return whole<Middle, 4>(forward);
    case ConvTile::narrow:
      return whole<Narrow, 4>(forward);
    case ConvTile::low:
      break;
  }
  return whole<Low, 4>(forward);
}

template <>
CorrelationKernel<double> correlation_kernel(bool forward, bool pack, ConvTile tile, bool shares) {
  using Low = Tile<double, 64, 32, 4, 4, 4, 8, 3>;
  using Square = Tile<double, 64, 64, 4, 4, 4, 8, 2>;
  if (!pack) return whole<Low, 1>(forward);
  return tile == ConvTile::square ? either<Square, 2>(forward, shares) : whole<Low, 2>(forward);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
