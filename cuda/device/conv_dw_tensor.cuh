// The kernel of conv_dw_tensor.cu and conv_wgmma.cu: a convolution's derivative towards its filters by a tile of the
// tensor cores.
#pragma once

#include "cuda/device/device.cuh"

#include "cuda/device/conv_walk.cuh"
#include "cuda/device/tensor_tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class Tile>
struct TapCopies : SliceAlongX<Tile, Tile::kExtentN> {
  using Slice = SliceAlongX<Tile, Tile::kExtentN>;
  const ConvDwShape& shape;
  const typename Tile::Element* x;
  TapOrigin origin;
  Tap tap[Slice::kCount];

  SINEW_DEVICE TapCopies(const typename Tile::Element* x_, const ConvDwShape& s, const DwTile& place)
      : shape(s), x(x_), origin(s, place.first + Slice::own_k()) {
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i) tap[i] = tap_of(s, place.n0 + Slice::own_x() + i * Slice::kStep);
  }
  SINEW_DEVICE void fetch(typename Tile::Element* slice, int k_left) {
    if (!Slice::idle()) {
      SINEW_UNROLL
      for (int i = 0; i < Slice::kCount; ++i) {
        const bool there = Slice::own_k() < k_left && inside(shape, origin, tap[i]);
        copy_async(Slice::place(slice, i), x + (there ? origin.offset + tap[i].offset : 0), there);
      }
    }
    origin.advance(shape);
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    conv_dw_tensor(const typename Tile::Element* __restrict__ x, const typename Tile::Element* __restrict__ y,
                   float* __restrict__ out, float*, ConvDwShape shape) {
  SINEW_DYNAMIC_SHARED(typename Tile::Element, shared);
  const DwTile place = dw_tile(shape, Tile::kExtentM, Tile::kExtentN);
  MatrixCopiesAlongX<Tile, Tile::kExtentM> load_a(y + place.begin * shape.filters, shape.filters, place.m0,
                                                  shape.filters);
  TapCopies<Tile> load_b(x + place.image * shape.x_image, shape, place);
  Tile tile;
  tile.accumulate(shared, place.count, load_a, load_b);

  out += int64_t(blockIdx.y) * shape.filters * shape.columns;
  SINEW_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    const int m = place.m0 + Tile::first_row() + i * 8;
    if (m >= shape.filters) continue;
    SINEW_UNROLL
    for (int j = 0; j < Tile::kBlocksN; ++j) {
      const int n = place.n0 + Tile::first_column() + j * 8;
      write_pair(out + int64_t(m) * shape.columns + n, Pair<float>{{tile.value(i, j, 0), tile.value(i, j, 1)}}, n,
                 shape.columns, shape.pack_out);
    }
  }
}

template <class Tile>
ConvDwKernel<typename Tile::Element> conv_dw_for() {
  return {{sizeof(typename Tile::Element) == 2 ? "conv_dw, bf16" : "conv_dw, tf32", &conv_dw_tensor<Tile>},
          Tile::kExtentM,
          Tile::kExtentN,
          Tile::kDepth,
          Tile::kThreads,
          Tile::kMinBlocks,
          Tile::template shared_bytes<SliceAlongX<Tile, Tile::kExtentM>, SliceAlongX<Tile, Tile::kExtentN>>(),
          {}};
}

}  // namespace
}  // namespace sinew::cuda::SINEW_CUDA_NS
