// Matrix product on the tensor cores, sums in float: of f32, factors rounded to TF32 (10 bits of mantissa), or of bf16.
// C as in gemm.cu, which is used instead where A or B of f32 do not allow accesses of 16 bytes; bf16 is made to
// (gemm_bf16.cpp).
//
// Parallel over tiles, batches and chunks of k as in gemm.cu. A block of four warps makes 128 x 128 of C, a warp 64 x
// 64 of it, or 64 x 64 and 32 x 32; how it works: cuda/device/tensor_tile.cuh. Flops: 2 m n k; bytes as gemm.cu with
// such tiles. GPU figures: docs/gpu.md.
#include "cuda/device/gemm_tensor.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

GemmKernel<float> gemm_tensor_kernel(bool trans_a, bool trans_b) {
  return kernel_for<TensorTile<float, 128, 128, 64, 64, 2>, float>(trans_a, trans_b);
}

template <class C>
GemmKernel<bfloat16, C> gemm_bf16_kernel(bool trans_a, bool trans_b, bool large) {
  if (large) return kernel_for<TensorTile<bfloat16, 128, 128, 64, 64, 2>, C>(trans_a, trans_b);
  return kernel_for<TensorTile<bfloat16, 64, 64, 32, 32, 4>, C>(trans_a, trans_b);
}
template GemmKernel<bfloat16, float> gemm_bf16_kernel(bool trans_a, bool trans_b, bool large);
template GemmKernel<bfloat16, bfloat16> gemm_bf16_kernel(bool trans_a, bool trans_b, bool large);

}  // namespace sinew::cuda::SINEW_CUDA_NS
