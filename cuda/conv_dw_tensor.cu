// Derivative of a convolution towards its filters on the tensor cores, sums and result in float: of f32, factors
// rounded to TF32 (10 bits of mantissa), or of bf16. The kernel of conv_dw.cu with tiles of
// cuda/device/tensor_tile.cuh; conv_dw.cu is used instead where channels or filters of f32 do not allow accesses of 16
// bytes; bf16 is made to (conv_bf16.cpp).
//
// Parallel over tiles and chunks of pixels, flops and bytes as there. GPU figures: docs/gpu.md.
#include "cuda/device/conv_dw_tensor.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

template <class T>
ConvDwKernel<T> conv_dw_tensor_kernel(int64_t filters) {
  if (filters <= 32) return conv_dw_for<TensorTile<T, 32, 64, 32, 16, 4>>();
  if (filters <= 64) return conv_dw_for<TensorTile<T, 64, 64, 32, 32, 4>>();
  return conv_dw_for<TensorTile<T, 128, 128, 64, 64, 2>>();
}
template ConvDwKernel<float> conv_dw_tensor_kernel(int64_t filters);
template ConvDwKernel<bfloat16> conv_dw_tensor_kernel(int64_t filters);

}  // namespace sinew::cuda::SINEW_CUDA_NS
