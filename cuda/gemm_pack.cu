// Matrices of f32 or bf16 as the tensor cores' kernels want bf16: rounded, whole rows of 16 bytes, zeros beyond.
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

}  // namespace

template <class T>
PackKernel<T> pack_kernel() {
  return {"packing into bf16", &pack<T>};
}
template PackKernel<float> pack_kernel();
template PackKernel<bfloat16> pack_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
