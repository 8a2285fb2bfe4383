// Products by wgmma with warps of two kinds: one brings slices of both operands to shared memory by bulk copies, those
// of a WgmmaTile multiply them.
//
// Slices go around in a ring of buffers. Each has two mbarriers: `full` waits for its bytes, `empty` for the warps
// whose products have read it. One thread copies; it is as far ahead as the ring is long, also over the end of a tile,
// so that the next one's slices come while this one's results are written: a block makes every gridDim.x-th tile.
#pragma once

#include "cuda/device/gemm_tensor.cuh"
#include "cuda/device/wgmma_tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class Tile>
constexpr int kBulkThreads = Tile::kThreads + 32;
constexpr int kBoxElements = 64 * 64;  // of a box of bf16 whose rows are k

// The place in the ring: the buffer, and the parity of the phase of its mbarriers.
template <int kStages>
struct RingPlace {
  int stage = 0;
  unsigned parity = 0;
  SINEW_DEVICE void next() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// What a block makes at a time: a tile of a matrix, from a chunk of k.
struct Work {
  int m0, n0, k0, k_end, matrix, chunk;
};
template <class Tile>
SINEW_DEVICE Work work_at(int index, const GemmShape<float>& shape) {
  const int rows = (shape.m + Tile::kExtentM - 1) / Tile::kExtentM;
  const int columns = (shape.n + Tile::kExtentN - 1) / Tile::kExtentN;
  const GemmPlace place = gemm_place(index % (rows * columns), rows, columns);
  const int of = index / (rows * columns), chunk = of / int(shape.batch), k0 = chunk * shape.chunk;
  return {place.row * Tile::kExtentM,
          place.column * Tile::kExtentN,
          k0,
          shape.k - k0 < shape.chunk ? shape.k : k0 + shape.chunk,
          of % int(shape.batch),
          chunk};
}

template <class Slices, int kStages>
constexpr size_t bulk_shared_bytes() {
  return size_t{kStages} * ((Slices::A::kElements + Slices::B::kElements) * sizeof(typename Slices::Tile::Element) +
                            2 * sizeof(Mbarrier));
}

// C from `all` works, each of some k: one without would count as done with a buffer that it never had. Slices has Tile,
// the layouts A and B of a slice's operands (wgmma_tile.cuh), `product`, how many rows and columns there are,
// begin(work), after which load(k, a, b, full) begins the copies of the slice from k on, all bytes of both layouts,
// slice after slice; and kWholeColumns, whether write_whole_columns() has registers enough.
template <class Slices, int kStages, class C>
SINEW_DEVICE void bulk_tiles(typename Slices::Tile::Element* shared, Slices& slices, C* c, const float* bias, int all) {
  using Tile = typename Slices::Tile;
  using A = typename Slices::A;
  using B = typename Slices::B;
  using Element = typename Tile::Element;
  constexpr int kStage = A::kElements + B::kElements, kMultiplying = Tile::kThreads;
  const GemmShape<float>& shape = slices.product;
  Mbarrier* const full = reinterpret_cast<Mbarrier*>(shared + kStages * kStage);
  Mbarrier* const empty = full + kStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, kMultiplying / 32);
    }
    mbarrier_init_fence();
  }
  block_sync();

  RingPlace<kStages> at;
  if (int(threadIdx.x) >= kMultiplying) {
    if (threadIdx.x % 32 != 0) return;
    for (int index = int(blockIdx.x); index < all; index += int(gridDim.x)) {
      const Work work = work_at<Tile>(index, shape);
      slices.begin(work);
      for (int k = work.k0; k < work.k_end; k += Tile::kDepth, at.next()) {
        mbarrier_wait(empty + at.stage, at.parity ^ 1);
        mbarrier_arrive_expect(full + at.stage, kStage * sizeof(Element));
        Element* const slice = shared + at.stage * kStage;
        slices.load(k, slice, slice + A::kElements, full + at.stage);
      }
    }
    return;
  }

  const int row = int(threadIdx.x) / 128 * 64;
  for (int index = int(blockIdx.x); index < all; index += int(gridDim.x)) {
    const Work work = work_at<Tile>(index, shape);
    Tile tile;
    int last = at.stage;
    for (int k = work.k0; k < work.k_end; k += Tile::kDepth, at.next()) {
      mbarrier_wait(full + at.stage, at.parity);
      const Element* const slice_a = shared + at.stage * kStage;
      const Element* const slice_b = slice_a + A::kElements;
      wgmma_fence();
      tile.template multiply<A, B>(slice_a, slice_b, row);
      wgmma_commit();
      wgmma_wait<1>();  // the slice before this one is done with
      if (k > work.k0 && threadIdx.x % 32 == 0) mbarrier_arrive(empty + last);
      last = at.stage;
    }
    wgmma_wait<0>();
    wgmma_results(tile.acc);
    if (threadIdx.x % 32 == 0) mbarrier_arrive(empty + last);
    write_tile<Slices::kWholeColumns>(tile, work.m0, work.n0,
                                      c + work.matrix * shape.batch_stride_c + work.chunk * shape.split_stride_c, bias,
                                      shape);
  }
}

}  // namespace
}  // namespace sinew::cuda::SINEW_CUDA_NS
