// Convolution on the tensor cores, forward and towards the input, sums in float: of f32, factors rounded to TF32 (10
// bits of mantissa), or of bf16. The kernels of conv.cu with tiles of cuda/device/tensor_tile.cuh; conv.cu is used
// instead where channels or filters of f32 do not allow accesses of 16 bytes; bf16 is made to (conv_bf16.cpp).
//
// Parallel over tiles and parts, flops and bytes as there. GPU figures: docs/gpu.md.
#include "cuda/device/conv_tensor.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// A large tile is worth it when there is one for every multiprocessor of a large GPU. There are no shares of tiles here
// yet: on small images f32 is faster (docs/gpu.md).
constexpr int64_t kEnoughTiles = 132;

template <class Tile>
bool fills(int64_t pixels, int64_t outputs) {
  const int64_t rows = (pixels + Tile::kExtentM - 1) / Tile::kExtentM;
  return rows * ((outputs + Tile::kExtentN - 1) / Tile::kExtentN) >= kEnoughTiles;
}

}  // namespace

template <class T>
CorrelationKernel<T> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs) {
  using Large = TensorTile<T, 128, 128, 64, 64, 2>;
  using Middle = TensorTile<T, 128, 64, 64, 32, 3>;
  using Narrow = TensorTile<T, 128, 32, 32, 32, 4>;
  using Low = TensorTile<T, 64, 32, 32, 16, 4>;
  if (outputs > 64 && fills<Large>(pixels, outputs)) return correlation_for<Large>(forward);
  if (outputs > 32 && fills<Middle>(pixels, outputs)) return correlation_for<Middle>(forward);
  if (fills<Narrow>(pixels, outputs)) return correlation_for<Narrow>(forward);
  return correlation_for<Low>(forward);
}
template CorrelationKernel<float> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs);
template CorrelationKernel<bfloat16> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs);

}  // namespace sinew::cuda::SINEW_CUDA_NS
