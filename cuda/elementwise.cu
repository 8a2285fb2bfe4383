// Elementwise kernels.
//
// Parallel over elements: a thread takes 16 bytes at a time in a grid-stride loop; the ragged end, or everything when
// a pointer is not aligned, goes element by element.
// Bytes: 2 n sizeof(T) (one read, one write). Flops: 1 to about 20 per element; bound by memory.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/kernels.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// x == y is allowed: a thread reads what it overwrites first.
template <class Op, class T>
__global__ void __launch_bounds__(kElementwiseThreads)
    unary(int64_t n, int64_t packs, const T* x, T* y, Wide<T> p0, Wide<T> p1) {
  using W = Wide<T>;
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < packs; i += stride) {
    Pack<T> pack = as_vector<const Pack<T>>(x)[i];
    SINEW_UNROLL
    for (int j = 0; j < Pack<T>::kWidth; ++j) pack.v[j] = T(Op::template apply<W>(pack.v[j], p0, p1));
    as_vector<Pack<T>>(y)[i] = pack;
  }
  for (int64_t i = packs * Pack<T>::kWidth + first; i < n; i += stride) y[i] = T(Op::template apply<W>(x[i], p0, p1));
}

}  // namespace

template <class T>
UnaryKernel<T> unary_kernel(UnaryOp op) {
  switch (op) {
#define SINEW_CASE(name) \
  case UnaryOp::name:    \
    return {"unary " #name, &unary<SINEW_FUNCTOR_NS::name, T>};
    SINEW_UNARY_OPS(SINEW_CASE)
#undef SINEW_CASE
  }
  return {"unary", nullptr};
}
template UnaryKernel<float> unary_kernel(UnaryOp op);
template UnaryKernel<double> unary_kernel(UnaryOp op);
template UnaryKernel<bfloat16> unary_kernel(UnaryOp op);

}  // namespace sinew::cuda::SINEW_CUDA_NS
