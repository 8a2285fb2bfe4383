// Matrix product of bf16 or TF32 by the tensor cores of sm_90a, sums in float, like gemm_wgmma.cu but with operands
// that come by bulk copies (cuda/device/bulk_tile.cuh): slices of 64 k (TF32: 32), two warpgroups with 64 rows of the
// tile each. Compiled for sm_90a alone. 288 threads leave room for the sums, 128 registers a thread where the tile has
// 256 columns.
//
// Parallel over tiles of C of 128 x 256, or 128 x 128. Flops: 2 m n k; bytes as gemm.cu with such tiles.
// GPU figures: docs/gpu.md.
#include "cuda/device/bulk_tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

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

template <class Tile_, bool kTransA, bool kTransB>
struct MatrixSlices {
  using Tile = Tile_;
  using A = Operand<Tile, Tile::kExtentM, !kTransA>;
  using B = Operand<Tile, Tile::kExtentN, kTransB>;
  static constexpr bool kWholeColumns = Tile::kMinBlocks == 1;
  const TensorMap *map_a, *map_b;
  const GemmShape<float>& product;
  int m0 = 0, n0 = 0, matrix = 0;

  SINEW_DEVICE void begin(const Work& work) { m0 = work.m0, n0 = work.n0, matrix = work.matrix; }
  SINEW_DEVICE void load(int k, typename Tile::Element* a, typename Tile::Element* b, Mbarrier* full) const {
    A::load(a, map_a, full, m0, k, matrix);
    B::load(b, map_b, full, n0, k, matrix);
  }
};

template <class Slices, int kStages, class C>
__global__ void __launch_bounds__(kBulkThreads<typename Slices::Tile>, Slices::Tile::kMinBlocks)
    gemm_bulk(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b, C* __restrict__ c,
              const float* __restrict__ bias, GemmShape<float> shape, int all) {
  SINEW_DYNAMIC_SHARED(typename Slices::Tile::Element, shared);
  if (threadIdx.x == 0) prefetch_map(&map_a), prefetch_map(&map_b);
  Slices slices{&map_a, &map_b, shape};
  bulk_tiles<Slices, kStages>(shared, slices, c, bias, all);
}

template <class Tile, int kStages, class C, bool kTransA, bool kTransB>
GemmBulkKernel<C> bulk_instance(const char* name) {
  using Slices = MatrixSlices<Tile, kTransA, kTransB>;
  return {{name, &gemm_bulk<Slices, kStages, C>}, Tile::kExtentM,  Tile::kExtentN, kBulkThreads<Tile>,
          bulk_shared_bytes<Slices, kStages>(),   Tile::kMinBlocks};
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
