// Convolution on the tensor cores, forward and towards the input: factors rounded to TF32 (10 bits of mantissa), sums
// in float. The kernels of conv.cu with tiles of cuda/device/tensor_tile.cuh; conv.cu is used instead where channels or
// filters do not allow accesses of 16 bytes.
//
// Parallel over tiles and parts, flops and bytes as there. GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/conv_walk.cuh"
#include "cuda/device/tensor_tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// 4 neighbouring channels of the pixels under a tap at a time.
template <class Tile, int kDirection>
struct GatherCopies : SliceAlongK<Tile, Tile::kExtentM> {
  using Slice = SliceAlongK<Tile, Tile::kExtentM>;
  static_assert(!(Slice::kStep > Slice::kExtent), "every thread has a pixel");
  const CorrelationShape& shape;
  const float* source;
  TapWalk walk;
  Pixel pixel[Slice::kCount];

  SINEW_DEVICE GatherCopies(const float* source_, const CorrelationShape& shape_, const CorrelationPart& part,
                            const CorrelationPlace& place)
      : shape(shape_), source(source_), walk(source_walk<kDirection>(shape_, part)) {
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i)
      pixel[i] = pixel_at<kDirection>(shape, part, place.first_image, place.m0 + Slice::own_x() + i * Slice::kStep);
    walk.advance(Slice::own_k());
  }
  SINEW_DEVICE void fetch(float* slice, int) {
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i) {
      const bool there = inside<kDirection>(shape, walk, pixel[i]);
      copy_async(Slice::place(slice, i), source + (there ? pixel[i].offset + walk.offset : 0), there);
    }
    walk.advance(kTensorDepth);
  }
};

template <class Tile>
struct FilterCopies : SliceAlongX<Tile, Tile::kExtentN> {
  using Slice = SliceAlongX<Tile, Tile::kExtentN>;
  const float* filter;
  TapWalk walk;
  int x_left;

  SINEW_DEVICE FilterCopies(const float* filter_, const CorrelationShape& shape, const CorrelationPart& part, int n0)
      : filter(filter_ + part.filter + n0 + Slice::own_x()),
        walk(filter_walk(shape, part)),
        x_left(shape.outputs - n0 - Slice::own_x()) {
    walk.advance(Slice::own_k());
  }
  SINEW_DEVICE void fetch(float* slice, int) {
    if (!Slice::idle()) {
      SINEW_UNROLL
      for (int i = 0; i < Slice::kCount; ++i) {
        const bool there = i * Slice::kStep < x_left && walk.there();
        copy_async(Slice::place(slice, i), filter + (there ? walk.offset + i * Slice::kStep : 0), there);
      }
    }
    walk.advance(kTensorDepth);
  }
};

template <class Tile>
SINEW_DEVICE void write_tile(const Tile& tile, const float* bias, float* target, const CorrelationShape& shape,
                             const CorrelationPart& part, const CorrelationPlace& place) {
  const int n0 = place.n0 + Tile::first_column();
  SINEW_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    const int m = place.m0 + Tile::first_row() + i * 8;
    if (m >= part.pixels) continue;
    float* const to = target + target_offset(shape, part, m) + n0;
    SINEW_UNROLL
    for (int j = 0; j < Tile::kBlocksN; ++j) {
      const int n = n0 + j * 8;
      Pair pair;
      SINEW_UNROLL
      for (int e = 0; e < 2; ++e) {
        pair.v[e] = tile.value(i, j, e);
        if (bias != nullptr && n + e < shape.outputs) pair.v[e] += bias[n + e];
        if (shape.relu) pair.v[e] = SINEW_FUNCTOR_NS::relu::apply(pair.v[e], 0.0f, 0.0f);
      }
      write_pair(to + j * 8, pair, n, shape.outputs, shape.pack_target);
    }
  }
}

template <class Tile, bool kForward>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    correlate_tensor(const float* __restrict__ source, const float* __restrict__ filter, const float* __restrict__ bias,
                     float* __restrict__ target, float*, CorrelationShape shape, CorrelationParts parts) {
  SINEW_DYNAMIC_SHARED(float, shared);
  const CorrelationPart& part = parts.at[blockIdx.y];
  const CorrelationPlace place = correlation_place(shape, part, Tile::kExtentM, Tile::kExtentN);
  if (!place.there) return;  // the whole block
  const int depth = part.taps_h * part.taps_w * shape.channels;
  GatherCopies<Tile, kForward ? 1 : -1> load_a(source + place.first_image * shape.source_image, shape, part, place);
  Tile tile;
  if constexpr (kForward) {
    MatrixCopiesAlongK<Tile, Tile::kExtentN> load_b(filter, depth, place.n0, shape.outputs);
    tile.accumulate(shared, depth, load_a, load_b);
  } else {
    FilterCopies<Tile> load_b(filter, shape, part, place.n0);
    tile.accumulate(shared, depth, load_a, load_b);
  }
  write_tile(tile, bias, target, shape, part, place);
}

template <class Tile>
CorrelationKernel<float> kernel_for(bool forward) {
  using A = SliceAlongK<Tile, Tile::kExtentM>;
  if (forward)
    return {{"conv_forward, tf32", &correlate_tensor<Tile, true>},
            Tile::kExtentM,
            Tile::kExtentN,
            kTensorDepth,
            Tile::kThreads,
            Tile::kMinBlocks,
            Tile::template shared_bytes<A, SliceAlongK<Tile, Tile::kExtentN>>(),
            false};
  return {{"conv_dx, tf32", &correlate_tensor<Tile, false>},
          Tile::kExtentM,
          Tile::kExtentN,
          kTensorDepth,
          Tile::kThreads,
          Tile::kMinBlocks,
          Tile::template shared_bytes<A, SliceAlongX<Tile, Tile::kExtentN>>(),
          false};
}

// A large tile is worth it when there is one for every multiprocessor of a large GPU. There are no shares of tiles here
// yet: on small images f32 is faster (docs/gpu.md).
constexpr int64_t kEnoughTiles = 132;

template <class Tile>
bool fills(int64_t pixels, int64_t outputs) {
  const int64_t rows = (pixels + Tile::kExtentM - 1) / Tile::kExtentM;
  return rows * ((outputs + Tile::kExtentN - 1) / Tile::kExtentN) >= kEnoughTiles;
}

}  // namespace

CorrelationKernel<float> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs) {
  using Large = TensorTile<128, 128, 64, 64, 2>;
  using Middle = TensorTile<128, 64, 64, 32, 3>;
  using Narrow = TensorTile<128, 32, 32, 32, 4>;
  using Low = TensorTile<64, 32, 32, 16, 4>;
  if (outputs > 64 && fills<Large>(pixels, outputs)) return kernel_for<Large>(forward);
  if (outputs > 32 && fills<Middle>(pixels, outputs)) return kernel_for<Middle>(forward);
  if (fills<Narrow>(pixels, outputs)) return kernel_for<Narrow>(forward);
  return kernel_for<Low>(forward);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
