// Vector kernels of flat vectors and update rules: one pass over memory each.
//
// Parallel over groups of 16 bytes in a grid-stride loop; a thread asks for two groups of each vector before it
// computes. Sums are of doubles: every thread its groups in order, threads and warps as a tree, the blocks' shares by
// a second launch of one block. How the sum is split depends on n alone, not on the GPU and not on the alignment.
// Bytes per element: axpby 3 sizeof(T) (2 with b == 0), dot 2 (1 for a norm), elastic 2 + 1 for each of x, c, d
// written. Flops: 2 to 5 per element; bound by memory.
// GPU figures: docs/gpu.md.
#include "cuda/device/vector.cuh"
#include "cuda/kernels/flat.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// z may be x or y: a thread reads what it overwrites first.
template <class T, bool kReadsY>
__global__ void __launch_bounds__(kFlatThreads) axpby(int64_t n, T a, T b, const T* x, const T* y, T* z, bool aligned) {
  const int64_t groups = groups_of<T>(n), stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t base = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; base < groups; base += kFlatUnroll * stride) {
    Pack<T> px[kFlatUnroll], py[kFlatUnroll];
    SINEW_UNROLL
    for (unsigned u = 0; u < kFlatUnroll; ++u) {
      const int64_t i = base + u * stride;
      if (i >= groups) continue;
      px[u] = load_pack(x, i, n, aligned);
      if constexpr (kReadsY) py[u] = load_pack(y, i, n, aligned);
    }
    SINEW_UNROLL
    for (unsigned u = 0; u < kFlatUnroll; ++u) {
      if (base + u * stride >= groups) continue;
      SINEW_UNROLL
      for (int j = 0; j < Pack<T>::kWidth; ++j) {
        if constexpr (kReadsY)
          px[u].v[j] = a * px[u].v[j] + b * py[u].v[j];
        else
          px[u].v[j] = a * px[u].v[j];
      }
      store_pack(z, base + u * stride, n, px[u], aligned);
    }
  }
}

// Thread 0 gets the sum over the block's kFlatThreads threads.
SINEW_DEVICE double block_sum(double value) {
  constexpr unsigned kWarp = 32, kWarps = kFlatThreads / kWarp;
  SINEW_SHARED(double, warps, [kWarps]);
  SINEW_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value += warp_shuffle_xor(value, mask);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  block_sync();
  double sum = 0;
  if (threadIdx.x == 0) {
    SINEW_UNROLL
    for (unsigned i = 0; i < kWarps; ++i) sum += warps[i];
  }
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kFlatThreads) dot(int64_t n, const T* x, const T* y, double* partial, bool aligned) {
  const int64_t groups = groups_of<T>(n), stride = int64_t(gridDim.x) * blockDim.x;
  double sum = 0;
  for (int64_t base = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; base < groups; base += kFlatUnroll * stride) {
    Pack<T> px[kFlatUnroll] = {}, py[kFlatUnroll] = {};
    SINEW_UNROLL
    for (unsigned u = 0; u < kFlatUnroll; ++u) {
      const int64_t i = base + u * stride;
      if (i >= groups) continue;
      px[u] = load_pack(x, i, n, aligned);
      py[u] = load_pack(y, i, n, aligned);
    }
    SINEW_UNROLL
    for (unsigned u = 0; u < kFlatUnroll; ++u) {
      SINEW_UNROLL
      for (int j = 0; j < Pack<T>::kWidth; ++j) sum += double(px[u].v[j]) * double(py[u].v[j]);
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <class T, bool kDistance>
__global__ void __launch_bounds__(kFlatThreads)
    elastic(int64_t n, T alpha, T* x, T* c, T* d, double* partial, bool move_x, bool move_c, bool aligned) {
  const int64_t groups = groups_of<T>(n), stride = int64_t(gridDim.x) * blockDim.x;
  double sum = 0;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < groups; i += stride) {
    Pack<T> px = load_pack(x, i, n, aligned), pc = load_pack(c, i, n, aligned), pd;
    SINEW_UNROLL
    for (int j = 0; j < Pack<T>::kWidth; ++j) {
      if constexpr (kDistance) {
        const double e = double(px.v[j]) - double(pc.v[j]);
        sum += e * e;
      }
      pd.v[j] = alpha * (px.v[j] - pc.v[j]);
      px.v[j] -= pd.v[j];
      pc.v[j] += pd.v[j];
    }
    if (d != nullptr) store_pack(d, i, n, pd, aligned);
    if (move_x) store_pack(x, i, n, px, aligned);
    if (move_c) store_pack(c, i, n, pc, aligned);
  }
  if constexpr (kDistance) {
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
  }
}

__global__ void __launch_bounds__(kFlatThreads) sum_partials(unsigned n, const double* partials, double* result) {
  double sum = 0;
  for (unsigned i = threadIdx.x; i < n; i += kFlatThreads) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *result = sum;
}

}  // namespace

template <class T>
AxpbyKernel<T> axpby_kernel(bool reads_y) {
  if (reads_y) return {"axpby", &axpby<T, true>};
  return {"scaled copy", &axpby<T, false>};
}
template AxpbyKernel<float> axpby_kernel(bool reads_y);
template AxpbyKernel<double> axpby_kernel(bool reads_y);

template <class T>
DotKernel<T> dot_kernel() {
  return {"dot", &dot<T>};
}
template DotKernel<float> dot_kernel();
template DotKernel<double> dot_kernel();

template <class T>
ElasticKernel<T> elastic_kernel(bool distance) {
  if (distance) return {"elastic with distance", &elastic<T, true>};
  return {"elastic", &elastic<T, false>};
}
template ElasticKernel<float> elastic_kernel(bool distance);
template ElasticKernel<double> elastic_kernel(bool distance);

SumPartialsKernel sum_partials_kernel() { return {"sum of partial sums", &sum_partials}; }

}  // namespace sinew::cuda::SINEW_CUDA_NS
