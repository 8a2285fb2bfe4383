// The kernel of conv_tensor.cu and conv_wgmma.cu: a convolution, forward or towards the input, by a tile of the tensor
// cores.
#pragma once

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
                            const CorrelationPlace& place, int k0)
      : shape(shape_), source(source_), walk(source_walk<kDirection>(shape_, part)) {
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i)
      pixel[i] = pixel_at<kDirection>(shape, part, place.first_image, place.m0 + Slice::own_x() + i * Slice::kStep);
    walk.advance(k0 + Slice::own_k());
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

  SINEW_DEVICE FilterCopies(const Element* filter_, const CorrelationShape& shape, const CorrelationPart& part, int n0,
                            int k0)
      : filter(filter_ + part.filter + n0 + Slice::own_x()),
        walk(filter_walk(shape, part)),
        x_left(shape.outputs - n0 - Slice::own_x()) {
    walk.advance(k0 + Slice::own_k());
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

// A tile's part of the sums, as it lies in the tile.
template <class Tile>
SINEW_DEVICE void write_chunk(const Tile& tile, float* sums) {
  float* const to = sums + Tile::first_row() * Tile::kExtentN + Tile::first_column();
  SINEW_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    SINEW_UNROLL
    for (int j = 0; j < Tile::kBlocksN; ++j)
      *reinterpret_cast<Pair<float>*>(to + i * 8 * Tile::kExtentN +
                                      j * 8) = {{tile.value(i, j, 0), tile.value(i, j, 1)}};
  }
}

template <class Tile, bool kForward>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    correlate_tensor(const typename Tile::Element* __restrict__ source,
                     const typename Tile::Element* __restrict__ filter, const float* __restrict__ bias,
                     typename Tile::Element* __restrict__ target, float* __restrict__ sums, CorrelationShape shape,
                     CorrelationParts parts) {
  SINEW_DYNAMIC_SHARED(typename Tile::Element, shared);
  const CorrelationPart& part = parts.at[blockIdx.y];
  const CorrelationPlace place = correlation_place(shape, part, Tile::kExtentM, Tile::kExtentN);
  if (!place.there) return;  // the whole block
  const int all = part.taps_h * part.taps_w * shape.channels, k0 = int(blockIdx.z) * shape.chunk;
  const int depth = all - k0 < shape.chunk ? all - k0 : shape.chunk;
  GatherCopies<Tile, kForward ? 1 : -1> load_a(source + place.first_image * shape.source_image, shape, part, place, k0);
  Tile tile;
  if constexpr (kForward) {
    MatrixCopiesAlongK<Tile, Tile::kExtentN> load_b(filter + k0, all, place.n0, shape.outputs);
    tile.accumulate(shared, depth, load_a, load_b);
  } else {
    FilterCopies<Tile> load_b(filter, shape, part, place.n0, k0);
    tile.accumulate(shared, depth, load_a, load_b);
  }
  if (sums == nullptr) {
    write_tile(tile, bias, target, shape, part, place);
  } else {
    const int64_t number = (int64_t(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    write_chunk(tile, sums + number * (Tile::kExtentM * Tile::kExtentN));
  }
}

template <class Tile>
CorrelationKernel<typename Tile::Element> correlation_for(bool forward) {
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

}  // namespace
}  // namespace sinew::cuda::SINEW_CUDA_NS
