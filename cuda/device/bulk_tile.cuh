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

// The ring and what the two kinds of warps do. Slices has Tile, the layouts A and B of a slice's operands
// (wgmma_tile.cuh), `product`, how many rows and columns there are, begin(work), after which load(k, a, b, full) begins
// the copies of the slice from k on, all bytes of both layouts, slice after slice; and kWholeColumns, whether
// write_whole_columns() has registers enough. Each work has some k: one without would count as done with a buffer that
// it never had.
template <class Slices, int kStages_>
struct BulkRing {
  using Tile = typename Slices::Tile;
  using Element = typename Tile::Element;
  using A = typename Slices::A;
  using B = typename Slices::B;
  static constexpr int kStages = kStages_, kStage = A::kElements + B::kElements, kMultiplying = Tile::kThreads;

  Element* const shared;
  SINEW_DEVICE Mbarrier* full() const { return reinterpret_cast<Mbarrier*>(shared + kStages * kStage); }
  SINEW_DEVICE Mbarrier* empty() const { return full() + kStages; }

  // By all threads of the block.
  SINEW_DEVICE void begin() const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        mbarrier_init(full() + i, 1);
        mbarrier_init(empty() + i, kMultiplying / 32);
      }
      mbarrier_init_fence();
    }
    block_sync();
  }

  // By one thread of those that bring: from kMultiplying on. (A function that says so would cost: ptxas then has every
  // wgmma wait for the one before.)
  SINEW_DEVICE void bring(Slices& slices, const Work& work, RingPlace<kStages>& at) const {
    slices.begin(work);
    for (int k = work.k0; k < work.k_end; k += Tile::kDepth, at.next()) {
      mbarrier_wait(empty() + at.stage, at.parity ^ 1);
      mbarrier_arrive_expect(full() + at.stage, kStage * sizeof(Element));
      Element* const slice = shared + at.stage * kStage;
      slices.load(k, slice, slice + A::kElements, full() + at.stage);
    }
  }

  // By all that multiply.
  SINEW_DEVICE void multiply(Tile& tile, const Work& work, RingPlace<kStages>& at) const {
    const int row = int(threadIdx.x) / 128 * 64;
    int last = at.stage;
    for (int k = work.k0; k < work.k_end; k += Tile::kDepth, at.next()) {
      mbarrier_wait(full() + at.stage, at.parity);
      const Element* const slice_a = shared + at.stage * kStage;
      const Element* const slice_b = slice_a + A::kElements;
      wgmma_fence();
      tile.template multiply<A, B>(slice_a, slice_b, row);
      wgmma_commit();
      wgmma_wait<1>();  // the slice before this one is done with
      if (k > work.k0 && threadIdx.x % 32 == 0) mbarrier_arrive(empty() + last);
      last = at.stage;
    }
    wgmma_wait<0>();
    wgmma_results(tile.acc);
    if (threadIdx.x % 32 == 0) mbarrier_arrive(empty() + last);
  }
};

// C from `all` works.
template <class Slices, int kStages, class C>
SINEW_DEVICE void bulk_tiles(typename Slices::Tile::Element* shared, Slices& slices, C* c, const float* bias, int all) {
  using Ring = BulkRing<Slices, kStages>;
  using Tile = typename Ring::Tile;
  const GemmShape<float>& shape = slices.product;
  const Ring ring{shared};
  ring.begin();
  RingPlace<kStages> at;
  if (int(threadIdx.x) >= Ring::kMultiplying) {
    if (threadIdx.x % 32 != 0) return;
    for (int index = int(blockIdx.x); index < all; index += int(gridDim.x))
      ring.bring(slices, work_at<Tile>(index, shape), at);
    return;
  }
  for (int index = int(blockIdx.x); index < all; index += int(gridDim.x)) {
    const Work work = work_at<Tile>(index, shape);
    Tile tile;
    ring.multiply(tile, work, at);
    write_tile<Slices::kWholeColumns>(tile, work.m0, work.n0,
                                      c + work.matrix * shape.batch_stride_c + work.chunk * shape.split_stride_c, bias,
                                      shape);
  }
}

// C, one matrix, from tiles whose k is cut into two chunks, one for each block of a cluster of two, in a grid of one
// cluster a tile. The blocks exchange halves of their sums through shared memory, a thread with that of its number in
// the other block, and each writes the columns of one half.
template <class Slices, int kStages, class C>
SINEW_DEVICE void bulk_pair(typename Slices::Tile::Element* shared, Slices& slices, C* c, const float* bias) {
  using Ring = BulkRing<Slices, kStages>;
  using Tile = typename Ring::Tile;
  using Half = typename Tile::Half;
  constexpr int kSums = Half::kSums, kWidth = Pack<float>::kWidth, kThreads = Ring::kMultiplying;
  static_assert(kSums * kThreads * sizeof(float) <= kStages * Ring::kStage * sizeof(typename Ring::Element));
  const GemmShape<float>& shape = slices.product;
  const int rank = int(blockIdx.x) % 2, tiles = int(gridDim.x) / 2;
  const Work work = work_at<Tile>(int(blockIdx.x) / 2 + rank * tiles, shape);
  const Ring ring{shared};
  ring.begin();
  RingPlace<kStages> at;
  if (int(threadIdx.x) >= Ring::kMultiplying) {
    if (threadIdx.x % 32 == 0) ring.bring(slices, work, at);
    return;
  }
  Tile tile;
  ring.multiply(tile, work, at);
  Pack<float>* const mailbox = reinterpret_cast<Pack<float>*>(shared) + threadIdx.x;
  Half half;
  cluster_sync();  // both are done with their rings
  SINEW_UNROLL
  for (int i = 0; i < kSums; i += kWidth) {
    Pack<float> other;
    SINEW_UNROLL
    for (int e = 0; e < kWidth; ++e) {
      const float first = tile.acc[i + e], second = tile.acc[kSums + i + e];
      half.acc[i + e] = rank == 0 ? first : second;
      other.v[e] = rank == 0 ? second : first;
    }
    cluster_store(mailbox + i / kWidth * kThreads, 1 - rank, other);
  }
  cluster_sync();
  SINEW_UNROLL
  for (int i = 0; i < kSums; i += kWidth) {
    const Pack<float> other = mailbox[i / kWidth * kThreads];
    SINEW_UNROLL
    for (int e = 0; e < kWidth; ++e) half.acc[i + e] += other.v[e];
  }
  write_tile<Slices::kWholeColumns>(half, work.m0, work.n0 + rank * Half::kExtentN, c, bias, shape);
}

}  // namespace
}  // namespace sinew::cuda::SINEW_CUDA_NS
