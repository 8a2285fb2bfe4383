// The kernels as host code sees them: each .cu file hands out its kernels by operation and type, the .cpp file of the
// same name chooses grids and launches. All pointers are device memory; none is checked.
#pragma once

#include <cstdint>

#include "core/kernel_api.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// ---- elementwise.cu ----

inline constexpr unsigned kElementwiseThreads = 256;
// y[i] = op(x[i]) for i < n; the first `packs` groups of 16 bytes are moved as such, and must be aligned to it.
// Parameters: n, packs, x, y, p0, p1. Any one-dimensional grid.
template <class T>
using UnaryKernel = Kernel<int64_t, int64_t, const T*, T*, Wide<T>, Wide<T>>;
template <class T>
UnaryKernel<T> unary_kernel(UnaryOp op);

// ---- reduce.cu ----

// Every block reduces a chunk [split * chunk, (split + 1) * chunk) of the reduced axis; split is blockIdx.y, and its
// results are y[split * outputs + output]. Out is T, or int64_t for argmax (one split only).
inline constexpr unsigned kReduceThreads = 256;
inline constexpr unsigned kReduceColumns = 32;  // outputs of a block of the columns kernel
// x is (outputs, reduced): a group of threads per row. Parameters: outputs, reduced, chunk, x, y.
// A block has kReduceThreads threads and serves kReduceThreads / threads_per_row rows, counted by blockIdx.x.
template <class T, class Out>
struct ReduceRowsKernel {
  Kernel<int64_t, int64_t, int64_t, const T*, Out*> kernel;
  unsigned threads_per_row;
};
// Sums of bf16 are float, maxima bf16.
template <class T, class Out>
ReduceRowsKernel<T, Out> reduce_rows_kernel(ReduceOp op, int64_t reduced);
template <class T>
ReduceRowsKernel<T, int64_t> argmax_rows_kernel(int64_t reduced);
// x is (outer, reduced, inner): a thread column per output. Parameters: outputs, reduced, chunk, inner, x, y.
// Block (kReduceColumns, kReduceThreads / kReduceColumns); blockIdx.x counts groups of kReduceColumns outputs.
template <class T, class Out>
using ReduceColumnsKernel = Kernel<int64_t, int64_t, int64_t, int64_t, const T*, Out*>;
template <class T, class Out>
ReduceColumnsKernel<T, Out> reduce_columns_kernel(ReduceOp op);
template <class T>
ReduceColumnsKernel<T, int64_t> argmax_columns_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
