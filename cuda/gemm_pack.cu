// Matrices of f32 or bf16 as the tensor cores' kernels want them: of bf16, whole rows of 16 bytes, zeros beyond; or of
// f32 rounded to TF32, in rows along k, for wgmma.
//
// Parallel over groups of 16 bytes of y, in a grid-stride loop. Bytes: x once, y once. Flops: none. Bound by memory;
// filters and weights, its usual work, are small: a launch. GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "cuda/device/values.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class T>
__global__ void __launch_bounds__(kPackThreads)
    pack(uint32_t groups, const T* __restrict__ x, bfloat16* __restrict__ y, PackShape shape) {
  constexpr int kWidth = Pack<bfloat16>::kWidth, kLoad = Pack<T>::kWidth;
  const uint32_t step = gridDim.x * blockDim.x;
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < groups; i += step) {
    const uint32_t matrix = i / shape.matrix_groups, in_matrix = i - matrix * shape.matrix_groups;
    const uint32_t row = in_matrix / shape.row_groups;
    const int64_t column = int64_t(in_matrix - row * shape.row_groups) * kWidth;
    const T* const from = x + matrix * shape.stride + row * shape.ld + column;
    Pack<bfloat16> to;
    if (shape.vector && row < shape.rows) {
      SINEW_UNROLL
      for (int j = 0; j < kWidth; j += kLoad) {
        const Pack<T> in = *as_vector<const Pack<T>>(from + j);
        SINEW_UNROLL
        for (int e = 0; e < kLoad; ++e) to.v[j + e] = bfloat16(in.v[e]);
      }
    } else {
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j)
        to.v[j] = bfloat16(row < shape.rows && column + j < shape.cols ? float(from[j]) : 0.0f);
    }
    as_vector<Pack<bfloat16>>(y)[i] = to;
  }
}

// A block moves 64 x 64 elements, through shared memory where k runs across the rows of x.
template <bool kTransposed>
__global__ void __launch_bounds__(kPackThreads)
    pack_tf32(const float* __restrict__ x, float* __restrict__ y, PackTf32Shape shape) {
  constexpr int kTile = kPackTf32Tile, kStep = int(kPackThreads) / kTile;
  SINEW_SHARED(float, tile, [kTile][kTile + 1]);
  const int k0 = int(blockIdx.x) * kTile, row0 = int(blockIdx.y) * kTile;
  const int column = int(threadIdx.x) % kTile, first = int(threadIdx.x) / kTile;
  x += blockIdx.z * shape.stride_x;
  y += blockIdx.z * shape.stride_y;
  SINEW_UNROLL
  for (int i = first; i < kTile; i += kStep) {
    const int row = row0 + (kTransposed ? column : i), k = k0 + (kTransposed ? i : column);
    const bool there = row < shape.rows && k < shape.k;
    tile[i][column] = there ? x[kTransposed ? k * shape.ld_x + row : row * shape.ld_x + k] : 0.0f;
  }
  block_sync();
  SINEW_UNROLL
  for (int i = first; i < kTile; i += kStep) {
    const int row = row0 + i, k = k0 + column;
    if (row >= shape.rows || k >= shape.ld_y) continue;
    const uint32_t rounded = to_tf32(kTransposed ? tile[column][i] : tile[i][column]);
    memcpy(y + row * shape.ld_y + k, &rounded, sizeof(rounded));
  }
}

}  // namespace

template <class T>
PackKernel<T> pack_kernel() {
  return {"packing into bf16", &pack<T>};
}
template PackKernel<float> pack_kernel();
template PackKernel<bfloat16> pack_kernel();

Kernel<const float*, float*, PackTf32Shape> pack_tf32_kernel(bool transposed) {
  return {"packing into tf32", transposed ? &pack_tf32<true> : &pack_tf32<false>};
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
