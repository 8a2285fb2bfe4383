// Convolutions of bf16 by the tensor cores of sm_90a (wgmma): the kernels of conv_tensor.cu and conv_dw_tensor.cu with
// tiles of cuda/device/wgmma_tile.cuh. Compiled for sm_90a alone.
//
// A block of two warpgroups makes 128 pixels x 256, 128 or 64 outputs; of dw 128 filters x 128 columns, or 64 x 128
// with one warpgroup. Flops and bytes as there. GPU figures: docs/gpu.md.
#include "cuda/device/conv_dw_tensor.cuh"
#include "cuda/device/conv_tensor.cuh"
#include "cuda/device/wgmma_tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

CorrelationKernel<bfloat16> correlation_wgmma_kernel(bool forward, int tile_n) {
  if (tile_n == 256) return correlation_for<WgmmaTile<2, 256, 4, 1>>(forward);
  if (tile_n == 128) return correlation_for<WgmmaTile<2, 128, 3, 2>>(forward);
  return correlation_for<WgmmaTile<2, 64, 4, 2>>(forward);
}

ConvDwKernel<bfloat16> conv_dw_wgmma_kernel(int64_t filters) {
  if (filters <= 64) return conv_dw_for<WgmmaTile<1, 128, 4, 2>>();
  return conv_dw_for<WgmmaTile<2, 128, 3, 2>>();
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
