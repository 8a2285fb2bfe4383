// Matrix product of bf16 by the tensor cores of sm_90a (wgmma), sums in float; C as in gemm_tensor.cu, whose kernel
// this is with tiles of cuda/device/wgmma_tile.cuh. Compiled for sm_90a alone.
//
// A block of two warpgroups makes 128 x 256 of C, or 128 x 128. Flops: 2 m n k; bytes as gemm.cu with such tiles. GPU
// figures: docs/gpu.md.
#include "cuda/device/gemm_tensor.cuh"
#include "cuda/device/wgmma_tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <bool kTransposedA, bool kTransposedB, bool kTf32>
__global__ void __launch_bounds__(128) wgmma_probe(const uint16_t* a, const uint16_t* b, float* d) {
  constexpr int kElements = 4096;
  SINEW_DYNAMIC_SHARED(uint16_t, shared);
  for (int i = int(threadIdx.x); i < kElements; i += 128) {
    shared[i] = a[i];
    shared[kElements + i] = b[i];
  }
  float acc[32] = {};
  proxy_fence();
  block_sync();
  wgmma_fence();
  const uint64_t at_a = matrix_descriptor(shared, 8192, 1024);
  const uint64_t at_b = matrix_descriptor(shared + kElements, 8192, 1024);
  if constexpr (kTf32)
    wgmma_tf32<64>(acc, at_a, at_b);
  else
    wgmma<64, kTransposedA, kTransposedB>(acc, at_a, at_b);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(acc);
  SINEW_UNROLL
  for (int i = 0; i < 32; ++i) d[int(threadIdx.x) * 32 + i] = acc[i];
}

__global__ void __launch_bounds__(32)
    load_box_probe(const __grid_constant__ TensorMap map, int rank, int x, int y, int z, int bytes, uint32_t* image) {
  SINEW_DYNAMIC_SHARED(uint32_t, shared);
  Mbarrier* const there = reinterpret_cast<Mbarrier*>(shared + bytes / 4);
  if (threadIdx.x == 0) {
    mbarrier_init(there, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(there, unsigned(bytes));
    if (rank == 2)
      load_box(shared, &map, there, x, y);
    else
      load_box(shared, &map, there, x, y, z);
  }
  block_sync();
  mbarrier_wait(there, 0);
  for (int i = int(threadIdx.x); i < bytes / 4; i += 32) image[i] = shared[i];
}

}  // namespace

Kernel<TensorMap, int, int, int, int, int, uint32_t*> load_box_probe_kernel() {
  return {"load_box probe", &load_box_probe};
}

Kernel<const uint16_t*, const uint16_t*, float*> wgmma_probe_kernel(bool transposed_a, bool transposed_b) {
  if (transposed_a)
    return {"wgmma probe", transposed_b ? &wgmma_probe<true, true, false> : &wgmma_probe<true, false, false>};
  return {"wgmma probe", transposed_b ? &wgmma_probe<false, true, false> : &wgmma_probe<false, false, false>};
}

Kernel<const uint16_t*, const uint16_t*, float*> wgmma_tf32_probe_kernel() {
  return {"wgmma probe", &wgmma_probe<false, false, true>};
}

template <class C>
GemmKernel<bfloat16, C> gemm_wgmma_kernel(bool trans_a, bool trans_b, bool large) {
  if (large) return kernel_for<WgmmaTile<2, 256, 4, 1>, C>(trans_a, trans_b);
  return kernel_for<WgmmaTile<2, 128, 3, 2>, C>(trans_a, trans_b);
}
template GemmKernel<bfloat16, float> gemm_wgmma_kernel(bool trans_a, bool trans_b, bool large);
template GemmKernel<bfloat16, bfloat16> gemm_wgmma_kernel(bool trans_a, bool trans_b, bool large);

}  // namespace sinew::cuda::SINEW_CUDA_NS
