// The tensor instructions by themselves, for tests of which lane holds which element: one warp, one instruction.
#include "cuda/device/device.cuh"

#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <bool kBf16>
__global__ void __launch_bounds__(32) mma_probe(const uint32_t* a, const uint32_t* b, float* d) {
  const int lane = int(threadIdx.x);
  uint32_t ra[4], rb[2];
  float rd[4];
  SINEW_UNROLL
  for (int i = 0; i < 4; ++i) {
    ra[i] = a[lane * 4 + i];
    rd[i] = d[lane * 4 + i];
  }
  SINEW_UNROLL
  for (int i = 0; i < 2; ++i) rb[i] = b[lane * 2 + i];
  if constexpr (kBf16)
    mma_bf16(rd, ra, rb);
  else
    mma_tf32(rd, ra, rb);
  SINEW_UNROLL
  for (int i = 0; i < 4; ++i) d[lane * 4 + i] = rd[i];
}

template <bool kTransposed>
__global__ void __launch_bounds__(32) load_matrices_probe(const uint32_t* words, uint32_t* registers) {
  SINEW_SHARED(Pack<uint32_t>, rows, [32]);
  const int lane = int(threadIdx.x);
  SINEW_UNROLL
  for (int i = 0; i < 4; ++i) rows[lane].v[i] = words[lane * 4 + i];
  block_sync();
  uint32_t to[4];
  if constexpr (kTransposed)
    load_matrices_transposed(to, &rows[lane]);
  else
    load_matrices(to, &rows[lane]);
  SINEW_UNROLL
  for (int i = 0; i < 4; ++i) registers[lane * 4 + i] = to[i];
}

__global__ void __launch_bounds__(32) tf32_probe(int n, const float* x, uint32_t* y) {
  for (int i = int(threadIdx.x); i < n; i += 32) y[i] = to_tf32(x[i]);
}

}  // namespace

Kernel<const uint32_t*, const uint32_t*, float*> mma_probe_kernel(bool bf16) {
  return {"mma probe", bf16 ? &mma_probe<true> : &mma_probe<false>};
}
Kernel<const uint32_t*, uint32_t*> load_matrices_probe_kernel(bool transposed) {
  return {"load_matrices probe", transposed ? &load_matrices_probe<true> : &load_matrices_probe<false>};
}
Kernel<int, const float*, uint32_t*> tf32_probe_kernel() { return {"tf32 probe", &tf32_probe}; }

}  // namespace sinew::cuda::SINEW_CUDA_NS
