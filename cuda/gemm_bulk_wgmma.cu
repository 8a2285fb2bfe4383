// Matrix product of bf16 or TF32 by the tensor cores of sm_90a, sums in float, like gemm_wgmma.cu but with warps of two
// kinds: one brings slices of both operands to shared memory by bulk copies, eight multiply them (wgmma), a warpgroup
// 64 rows of the tile each. Compiled for sm_90a alone.
//
// Slices of 64 k (TF32: 32) go around in a ring of buffers. Each has two mbarriers: `full` waits for its bytes, `empty`
// for the eight warps whose products have read it. One thread copies; it is as far ahead as the ring is long, also over
// the end of a tile, so that the next one's slices come while this one's results are written: a block makes every
// gridDim.x-th tile. 288 threads leave room for the sums, 128 registers a thread where the tile has 256 columns.
//
// Parallel over tiles of C of 128 x 256, or 128 x 128. Flops: 2 m n k; bytes as gemm.cu with such tiles.
// Not run on a GPU yet.
#include "cuda/device/gemm_tensor.cuh"
#include "cuda/device/wgmma_tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int kConsumerWarps = 8, kThreads = 32 * (kConsumerWarps + 1);
constexpr int kBoxElements = 64 * 64;  // of a box whose rows are k

// An operand's slices: how they lie in shared memory (as in wgmma_tile.cuh), and the boxes they come in. Along k, rows
// of the box are the operand's; else they are k, with 64 of the operand, and there are as many boxes as it has of them.
template <class Tile, int kExtent, bool kAlongK>
struct Operand
    : std::conditional_t<kAlongK, typename Tile::template AlongK<kExtent>, typename Tile::template AlongX<kExtent>> {
  SINEW_DEVICE static void load(typename Tile::Element* slice, const TensorMap* map, Mbarrier* full, int x, int k,
                                int matrix) {
    if constexpr (kAlongK) {
      load_box(slice, map, full, k, x, matrix);
    } else {
      SINEW_UNROLL
      for (int i = 0; i < kExtent; i += 64) load_box(slice + i / 64 * kBoxElements, map, full, x + i, k, matrix);
    }
  }
};

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

template <class Tile, int kStages, class C, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(kThreads, Tile::kMinBlocks)
    gemm_bulk(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b, C* __restrict__ c,
              const float* __restrict__ bias, GemmShape<float> shape, int all) {
  using A = Operand<Tile, Tile::kExtentM, !kTransA>;
  using B = Operand<Tile, Tile::kExtentN, kTransB>;
  using Element = typename Tile::Element;
  constexpr int kStage = A::kElements + B::kElements;
  SINEW_DYNAMIC_SHARED(Element, shared);
  Mbarrier* const full = reinterpret_cast<Mbarrier*>(shared + kStages * kStage);
  Mbarrier* const empty = full + kStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, kConsumerWarps);
    }
    mbarrier_init_fence();
  }
  block_sync();

  RingPlace<kStages> at;
  if (int(threadIdx.x) >= 32 * kConsumerWarps) {
    if (threadIdx.x % 32 != 0) return;
    for (int index = int(blockIdx.x); index < all; index += int(gridDim.x)) {
      const Work work = work_at<Tile>(index, shape);
      for (int k = work.k0; k < work.k_end; k += Tile::kDepth, at.next()) {
        mbarrier_wait(empty + at.stage, at.parity ^ 1);
        mbarrier_arrive_expect(full + at.stage, kStage * sizeof(Element));
        Element* const slice = shared + at.stage * kStage;
        A::load(slice, &map_a, full + at.stage, work.m0, k, work.matrix);
        B::load(slice + A::kElements, &map_b, full + at.stage, work.n0, k, work.matrix);
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
    write_tile(tile, work.m0, work.n0, c + work.matrix * shape.batch_stride_c + work.chunk * shape.split_stride_c, bias,
               shape);
  }
}

template <class Tile, int kStages, class C, bool kTransA, bool kTransB>
GemmBulkKernel<C> bulk_instance(const char* name) {
  constexpr int kStage =
      Operand<Tile, Tile::kExtentM, !kTransA>::kElements + Operand<Tile, Tile::kExtentN, kTransB>::kElements;
  return {{name, &gemm_bulk<Tile, kStages, C, kTransA, kTransB>},
          Tile::kExtentM,
          Tile::kExtentN,
          kThreads,
          size_t{kStages} * (kStage * sizeof(typename Tile::Element) + 2 * sizeof(Mbarrier)),
          Tile::kMinBlocks};
}

template <class Tile, int kStages, class C>
GemmBulkKernel<C> bulk_kernel_for(bool trans_a, bool trans_b) {
  if (trans_a && trans_b) return bulk_instance<Tile, kStages, C, true, true>("gemm tt, bf16, bulk copies");
  if (trans_a) return bulk_instance<Tile, kStages, C, true, false>("gemm tn, bf16, bulk copies");
  if (trans_b) return bulk_instance<Tile, kStages, C, false, true>("gemm nt, bf16, bulk copies");
  return bulk_instance<Tile, kStages, C, false, false>("gemm nn, bf16, bulk copies");
}

}  // namespace

template <class C>
GemmBulkKernel<C> gemm_bulk_kernel(bool trans_a, bool trans_b, bool large) {
  if (large) return bulk_kernel_for<WgmmaTile<2, 256, 4, 1>, 4, C>(trans_a, trans_b);
  return bulk_kernel_for<WgmmaTile<2, 128, 3, 2>, 3, C>(trans_a, trans_b);
}
template GemmBulkKernel<float> gemm_bulk_kernel(bool trans_a, bool trans_b, bool large);
template GemmBulkKernel<bfloat16> gemm_bulk_kernel(bool trans_a, bool trans_b, bool large);

GemmBulkKernel<float> gemm_bulk_tf32_kernel(bool large) {
  if (large) return bulk_instance<WgmmaTile<2, 256, 4, 1, float>, 4, float, false, true>("gemm nt, tf32, bulk copies");
  return bulk_instance<WgmmaTile<2, 128, 3, 2, float>, 3, float, false, true>("gemm nt, tf32, bulk copies");
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
