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

// A block moves 64 x 64 elements, 16 bytes at a time.
__global__ void __launch_bounds__(kPackThreads)
    pack_tf32(const float* __restrict__ x, float* __restrict__ y, PackTf32Shape shape) {
  constexpr int kWidth = Pack<float>::kWidth, kGroups = kPackTf32Tile / kWidth, kStep = int(kPackThreads) / kGroups;
  constexpr int kCount = kPackTf32Tile / kStep;
  const int k = int(blockIdx.x) * kPackTf32Tile + int(threadIdx.x) % kGroups * kWidth;
  const int first = int(blockIdx.y) * kPackTf32Tile + int(threadIdx.x) / kGroups;
  x += blockIdx.z * shape.stride_x;
  y += blockIdx.z * shape.stride_y;
  Pack<float> groups[kCount];
  SINEW_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const int row = first + i * kStep;
    const float* const from = x + row * shape.ld_x + k;
    if (shape.vector && row < shape.rows && k + kWidth <= shape.k) {
      groups[i] = *as_vector<const Pack<float>>(from);
    } else {
      SINEW_UNROLL
      for (int e = 0; e < kWidth; ++e) groups[i].v[e] = row < shape.rows && k + e < shape.k ? from[e] : 0.0f;
    }
  }
  SINEW_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const int row = first + i * kStep;
    if (row >= shape.rows || k >= shape.ld_y) continue;
    SINEW_UNROLL
    for (int e = 0; e < kWidth; ++e) {
      const uint32_t rounded = to_tf32(groups[i].v[e]);
      memcpy(groups[i].v + e, &rounded, sizeof(rounded));
    }
    *as_vector<Pack<float>>(y + row * shape.ld_y + k) = groups[i];
  }
}

// The same where k runs across the rows of x: through shared memory.
__global__ void __launch_bounds__(kPackThreads)
    pack_tf32_transposed(const float* __restrict__ x, float* __restrict__ y, PackTf32Shape shape) {
  constexpr int kTile = kPackTf32Tile, kStep = int(kPackThreads) / kTile;
  SINEW_SHARED(float, tile, [kTile][kTile + 1]);
  const int k0 = int(blockIdx.x) * kTile, row0 = int(blockIdx.y) * kTile;
  const int column = int(threadIdx.x) % kTile, first = int(threadIdx.x) / kTile;
  x += blockIdx.z * shape.stride_x;
  y += blockIdx.z * shape.stride_y;
  SINEW_UNROLL
  for (int i = first; i < kTile; i += kStep) {
    const int row = row0 + column, k = k0 + i;
    tile[i][column] = row < shape.rows && k < shape.k ? x[k * shape.ld_x + row] : 0.0f;
  }
  block_sync();
  SINEW_UNROLL
  for (int i = first; i < kTile; i += kStep) {
    const int row = row0 + i, k = k0 + column;
    if (row >= shape.rows || k >= shape.ld_y) continue;
    const uint32_t rounded = to_tf32(tile[column][i]);
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
  return {"packing into tf32", transposed ? &pack_tf32_transposed : &pack_tf32};
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
