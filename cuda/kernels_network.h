// The kernels of networks' layers as host code sees them; see cuda/kernels.h for the rules.
#pragma once

#include <cstdint>

#include "core/kernel_api.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// ---- loss.cu ----

// How rows of `cols` elements are shared out: short ones stay in the registers of a few lanes, a long one keeps a
// block. packs: x and the output are moved 16 bytes at a time; their addresses and `cols` must be multiples of that.
struct RowShare {
  unsigned threads, rows_per_block;
};
// Parameters: rows, cols, log, x, y. Any one-dimensional grid.
template <class T>
struct SoftmaxKernel {
  Kernel<int64_t, int64_t, bool, const T*, T*> kernel;
  RowShare share;
};
template <class T>
SoftmaxKernel<T> softmax_kernel(int64_t cols, bool packs);
// Parameters: rows, cols, x, labels, scale, dx, loss, partial. scale and dx may be null. With partial, block b leaves
// the sum of its rows' losses in partial[b]; otherwise loss, unless null, receives the mean, and there is one block.
template <class T>
struct CrossEntropyKernel {
  Kernel<int64_t, int64_t, const T*, const int64_t*, const T*, T*, T*, double*> kernel;
  RowShare share;
};
template <class T>
CrossEntropyKernel<T> cross_entropy_kernel(int64_t cols, bool packs);
// loss = sum of n partial sums / rows. Parameters: n, rows, partial, loss. One block of kMeanThreads threads.
inline constexpr unsigned kMeanThreads = 256;
template <class T>
Kernel<int64_t, int64_t, const double*, T*> mean_loss_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
