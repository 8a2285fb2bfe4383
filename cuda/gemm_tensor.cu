// Matrix product on the tensor cores: factors rounded to TF32 (10 bits of mantissa), sums in float. C as in gemm.cu,
// which is used instead where A or B do not allow accesses of 16 bytes.
//
// Parallel over tiles, batches and chunks of k as in gemm.cu. A block of four warps makes 128 x 128 of C, a warp 64 x
// 64 of it; how it works: cuda/device/tensor_tile.cuh. Flops: 2 m n k; bytes as gemm.cu with tiles of 128. GPU figures:
// docs/gpu.md.
#include "cuda/device/device.cuh"

#include <type_traits>

#include "core/functors.h"
#include "cuda/device/gemm_place.cuh"
#include "cuda/device/tensor_tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

using Large = TensorTile<128, 128, 64, 64, 2>;

template <class Tile>
SINEW_DEVICE void write_tile(const Tile& tile, int m0, int n0, float* c, const float* bias,
                             const GemmShape<float>& shape) {
  m0 += Tile::first_row();
  n0 += Tile::first_column();
  SINEW_UNROLL
  for (int j = 0; j < Tile::kBlocksN; ++j) {
    const int n = n0 + j * 8;
    float add[2];
    SINEW_UNROLL
    for (int e = 0; e < 2; ++e) add[e] = bias != nullptr && n + e < shape.n ? bias[n + e] : 0.0f;
    SINEW_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      const int m = m0 + i * 8;
      if (m >= shape.m) continue;
      float* const to = c + m * shape.ldc + n;
      Pair pair = {};
      SINEW_UNROLL
      for (int e = 0; e < 2; ++e) {
        if (shape.beta != 0.0f && n + e < shape.n) pair.v[e] = shape.beta * to[e];
        pair.v[e] += shape.alpha * tile.value(i, j, e) + add[e];
        if (shape.act == Activation::relu) pair.v[e] = SINEW_FUNCTOR_NS::relu::apply(pair.v[e], 0.0f, 0.0f);
      }
      write_pair(to, pair, n, shape.n, shape.pack_c);
    }
  }
}

template <class Tile, bool kTransA>
using LoaderA =
    std::conditional_t<kTransA, MatrixCopiesAlongX<Tile, Tile::kExtentM>, MatrixCopiesAlongK<Tile, Tile::kExtentM>>;
template <class Tile, bool kTransB>
using LoaderB =
    std::conditional_t<kTransB, MatrixCopiesAlongK<Tile, Tile::kExtentN>, MatrixCopiesAlongX<Tile, Tile::kExtentN>>;

template <class Tile, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    gemm_tensor(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
                const float* __restrict__ bias, GemmShape<float> shape) {
  SINEW_DYNAMIC_SHARED(float, shared);
  const GemmPlace place = gemm_place(int(blockIdx.x), (shape.m + Tile::kExtentM - 1) / Tile::kExtentM,
                                     (shape.n + Tile::kExtentN - 1) / Tile::kExtentN);
  const int m0 = place.row * Tile::kExtentM, n0 = place.column * Tile::kExtentN;
  const int k0 = int(blockIdx.z) * shape.chunk;
  const int depth = shape.k - k0 < shape.chunk ? shape.k - k0 : shape.chunk;
  LoaderA<Tile, kTransA> load_a(a + blockIdx.y * shape.batch_stride_a + (kTransA ? k0 * shape.lda : k0), shape.lda, m0,
                                shape.m);
  LoaderB<Tile, kTransB> load_b(b + blockIdx.y * shape.batch_stride_b + (kTransB ? k0 : k0 * shape.ldb), shape.ldb, n0,
                                shape.n);
  Tile tile;
  tile.accumulate(shared, depth, load_a, load_b);
  write_tile(tile, m0, n0, c + blockIdx.y * shape.batch_stride_c + blockIdx.z * shape.split_stride_c, bias, shape);
}

template <class Tile, bool kTransA, bool kTransB>
GemmKernel<float> kernel_for(const char* name) {
  return {{name, &gemm_tensor<Tile, kTransA, kTransB>},
          Tile::kExtentM,
          Tile::kExtentN,
          Tile::kThreads,
          Tile::template shared_bytes<LoaderA<Tile, kTransA>, LoaderB<Tile, kTransB>>()};
}

}  // namespace

GemmKernel<float> gemm_tensor_kernel(bool trans_a, bool trans_b) {
  if (trans_a && trans_b) return kernel_for<Large, true, true>("gemm tt, tf32");
  if (trans_a) return kernel_for<Large, true, false>("gemm tn, tf32");
  if (trans_b) return kernel_for<Large, false, true>("gemm nt, tf32");
  return kernel_for<Large, false, false>("gemm nn, tf32");
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
