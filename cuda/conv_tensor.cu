// Convolution on the tensor cores, forward and towards the input, sums in float: of f32, factors rounded to TF32 (10
// bits of mantissa), or of bf16. The kernels of conv.cu with tiles of cuda/device/tensor_tile.cuh; conv.cu is used
// instead where channels or filters of f32 do not allow accesses of 16 bytes; bf16 is made to (conv_bf16.cpp).
//
// Parallel over tiles and parts, flops and bytes as there. GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/conv_walk.cuh"
#include "cuda/device/tensor_tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// 16 bytes of neighbouring channels of the pixels under a tap at a time.
template <class Tile, int kDirection>
struct GatherCopies : SliceAlongK<Tile, Tile::kExtentM> {
  using Slice = SliceAlongK<Tile, Tile::kExtentM>;
  using Element = typename Tile::Element;
  static_assert(!(Slice::kStep > Slice::kExtent), "every thread has a pixel");
  const CorrelationShape& shape;
  const Element* source;
  TapWalk walk;
  Pixel pixel[Slice::kCount];

  SINEW_DEVICE GatherCopies(const Element* source_, const CorrelationShape& shape_, const CorrelationPart& part,
                            const CorrelationPlace& place)
      : shape(shape_), source(source_), walk(source_walk<kDirection>(shape_, part)) {
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i)
      pixel[i] = pixel_at<kDirection>(shape, part, place.first_image, place.m0 + Slice::own_x() + i * Slice::kStep);
    walk.advance(Slice::own_k());
  }
  SINEW_DEVICE void fetch(Element* slice, int) {
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i) {
      const bool there = inside<kDirection>(shape, walk, pixel[i]);
      copy_async(Slice::place(slice, i), source + (there ? pixel[i].offset + walk.offset : 0), there);
    }
    walk.advance(Tile::kDepth);
  }
};

template <class Tile>
struct FilterCopies : SliceAlongX<Tile, Tile::kExtentN> {
  using Slice = SliceAlongX<Tile, Tile::kExtentN>;
  using Element = typename Tile::Element;
  const Element* filter;
  TapWalk walk;
  int x_left;

  SINEW_DEVICE FilterCopies(const Element* filter_, const CorrelationShape& shape, const CorrelationPart& part, int n0)
      : filter(filter_ + part.filter + n0 + Slice::own_x()),
        walk(filter_walk(shape, part)),
        x_left(shape.outputs - n0 - Slice::own_x()) {
    walk.advance(Slice::own_k());
  }
  SINEW_DEVICE void fetch(Element* slice, int) {
    if (!Slice::idle()) {
      SINEW_UNROLL
      for (int i = 0; i < Slice::kCount; ++i) {
        const bool there = i * Slice::kStep < x_left && walk.there();
        copy_async(Slice::place(slice, i), filter + (there ? walk.offset + i * Slice::kStep : 0), there);
      }
    }
    walk.advance(Tile::kDepth);
  }
};

template <class Tile>
SINEW_DEVICE void write_tile(const Tile& tile, const float* bias, typename Tile::Element* target,
                             const CorrelationShape& shape, const CorrelationPart& part,
                             const CorrelationPlace& place) {
  using Element = typename Tile::Element;
  const int n0 = place.n0 + Tile::first_column();
  SINEW_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    const int m = place.m0 + Tile::first_row() + i * 8;
    if (m >= part.pixels) continue;
    Element* const to = target + target_offset(shape, part, m) + n0;
    SINEW_UNROLL
    for (int j = 0; j < Tile::kBlocksN; ++j) {
      const int n = n0 + j * 8;
      Pair<Element> pair;
      SINEW_UNROLL
      for (int e = 0; e < 2; ++e) {
        float value = tile.value(i, j, e);
        if (bias != nullptr && n + e < shape.outputs) value += bias[n + e];
        if (shape.relu) value = SINEW_FUNCTOR_NS::relu::apply(value, 0.0f, 0.0f);
        pair.v[e] = Element(value);
        if (shape.accumulate && n + e < shape.outputs) pair.v[e] = Element(float(to[j * 8 + e]) + float(pair.v[e]));
      }
      write_pair(to + j * 8, pair, n, shape.outputs, shape.pack_target);
    }
  }
}

template <class Tile, bool kForward>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    correlate_tensor(const typename Tile::Element* __restrict__ source,
                     const typename Tile::Element* __restrict__ filter, const float* __restrict__ bias,
                     typename Tile::Element* __restrict__ target, float*, CorrelationShape shape,
                     CorrelationParts parts) {
  SINEW_DYNAMIC_SHARED(typename Tile::Element, shared);
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
CorrelationKernel<typename Tile::Element> kernel_for(bool forward) {
  constexpr bool kBf16 = sizeof(typename Tile::Element) == 2;
  using A = SliceAlongK<Tile, Tile::kExtentM>;
  if (forward)
    return {{kBf16 ? "conv_forward, bf16" : "conv_forward, tf32", &correlate_tensor<Tile, true>},
            Tile::kExtentM,
            Tile::kExtentN,
            Tile::kDepth,
            Tile::kThreads,
            Tile::kMinBlocks,
            Tile::template shared_bytes<A, SliceAlongK<Tile, Tile::kExtentN>>(),
            false};
  return {{kBf16 ? "conv_dx, bf16" : "conv_dx, tf32", &correlate_tensor<Tile, false>},
          Tile::kExtentM,
          Tile::kExtentN,
          Tile::kDepth,
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

template <class T>
CorrelationKernel<T> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs) {
  using Large = TensorTile<T, 128, 128, 64, 64, 2>;
  using Middle = TensorTile<T, 128, 64, 64, 32, 3>;
  using Narrow = TensorTile<T, 128, 32, 32, 32, 4>;
  using Low = TensorTile<T, 64, 32, 32, 16, 4>;
  if (outputs > 64 && fills<Large>(pixels, outputs)) return kernel_for<Large>(forward);
  if (outputs > 32 && fills<Middle>(pixels, outputs)) return kernel_for<Middle>(forward);
  if (fills<Narrow>(pixels, outputs)) return kernel_for<Narrow>(forward);
  return kernel_for<Low>(forward);
}
template CorrelationKernel<float> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs);
template CorrelationKernel<bfloat16> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs);

}  // namespace sinew::cuda::SINEW_CUDA_NS
