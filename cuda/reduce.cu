// Reductions over the middle axis of (outer, reduced, inner).
//
// inner == 1: parallel over rows, a warp or a block per row; neighbouring threads read neighbouring elements.
// inner > 1: parallel over outputs, 32 columns a block; 8 threads share a column.
// Few outputs with a long reduced axis: the axis is split over blockIdx.y and the partial results are reduced by a
// second launch; rows of fewer than 32 outputs are taken side by side as rows of 32. No atomics: the order of additions
// depends on the shape alone.
// Bytes: (reduced + 1) * outer * inner * sizeof(T). Flops: one per element; bound by memory.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include <math.h>

#include <type_traits>

#include "cuda/kernels.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kWarps = kReduceThreads / kWarp;
constexpr unsigned kColumnRows = kReduceThreads / kReduceColumns;

// The smallest value: what max starts from.
template <class T>
SINEW_DEVICE T lowest() {
  if constexpr (T(1) / T(2) != T(0)) {
    return T(-INFINITY);
  } else if constexpr (T(-1) > T(0)) {
    return T(0);
  } else {
    return T(T(1) << (8 * sizeof(T) - 1));
  }
}

// An operation reduces values of State: load makes one of element `index`, combine joins two, result gives the output.
template <class T>
struct Sum {
  using State = Wide<T>;
  using Out = Wide<T>;
  SINEW_DEVICE static State identity() { return State(0); }
  SINEW_DEVICE static State load(T x, int64_t) { return x; }
  SINEW_DEVICE static State combine(State a, State b) { return State(a + b); }
  SINEW_DEVICE static Out result(State s) { return s; }
};

// A NaN wins over numbers, so that it is seen.
template <class T>
struct Max {
  using State = Wide<T>;
  using Out = T;
  SINEW_DEVICE static State identity() { return lowest<State>(); }
  SINEW_DEVICE static State load(T x, int64_t) { return x; }
  SINEW_DEVICE static State combine(State a, State b) { return b > a || b != b ? b : a; }
  SINEW_DEVICE static Out result(State s) { return Out(s); }
};

// The first of equals, the first NaN.
template <class T>
struct ArgMax {
  struct State {
    int64_t index;
    Wide<T> value;
  };
  using Out = int64_t;
  SINEW_DEVICE static State identity() { return {INT64_MAX, lowest<Wide<T>>()}; }
  SINEW_DEVICE static State load(T x, int64_t index) { return {index, x}; }
  SINEW_DEVICE static State combine(State a, State b) {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    const bool equal = a.value == b.value || (a_nan && b_nan);
    const bool b_wins = equal ? b.index < a.index : (b.value > a.value || b_nan) && !a_nan;
    return b_wins ? b : a;
  }
  SINEW_DEVICE static Out result(State s) { return s.index; }
};

// All lanes get the result.
template <class Op>
SINEW_DEVICE typename Op::State warp_reduce(typename Op::State s) {
  SINEW_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) s = Op::combine(s, warp_shuffle_xor(s, mask));
  return s;
}

template <class Op, class T, unsigned kThreadsPerRow>
__global__ void __launch_bounds__(kReduceThreads)
    rows(int64_t outputs, int64_t reduced, int64_t chunk, const T* __restrict__ x, typename Op::Out* __restrict__ y) {
  using State = typename Op::State;
  const unsigned thread = threadIdx.x % kThreadsPerRow;
  const int64_t row = int64_t(blockIdx.x) * (kReduceThreads / kThreadsPerRow) + threadIdx.x / kThreadsPerRow;
  const int64_t begin = blockIdx.y * chunk;
  const int64_t end = row >= outputs ? 0 : begin + chunk < reduced ? begin + chunk : reduced;
  State s = Op::identity();
  for (int64_t r = begin + thread; r < end; r += kThreadsPerRow) s = Op::combine(s, Op::load(x[row * reduced + r], r));
  s = warp_reduce<Op>(s);
  if constexpr (kThreadsPerRow > kWarp) {
    SINEW_SHARED(State, partial, [kWarps]);
    if (thread % kWarp == 0) partial[thread / kWarp] = s;
    block_sync();
    s = thread < kWarps ? partial[thread] : Op::identity();
    if (thread < kWarp) s = warp_reduce<Op>(s);
  }
  if (thread == 0 && row < outputs) y[blockIdx.y * outputs + row] = Op::result(s);
}

template <class Op, class T>
__global__ void __launch_bounds__(kReduceThreads)
    columns(int64_t outputs, int64_t reduced, int64_t chunk, int64_t inner, const T* __restrict__ x,
            typename Op::Out* __restrict__ y) {
  using State = typename Op::State;
  SINEW_SHARED(State, partial, [kColumnRows][kReduceColumns]);
  const int64_t output = int64_t(blockIdx.x) * kReduceColumns + threadIdx.x;
  const int64_t begin = blockIdx.y * chunk;
  const int64_t end = output >= outputs ? 0 : begin + chunk < reduced ? begin + chunk : reduced;
  const T* column = x + output / inner * reduced * inner + output % inner;
  State s = Op::identity();
  for (int64_t r = begin + threadIdx.y; r < end; r += kColumnRows) s = Op::combine(s, Op::load(column[r * inner], r));
  partial[threadIdx.y][threadIdx.x] = s;
  block_sync();
  if (threadIdx.y == 0 && output < outputs) {
    SINEW_UNROLL
    for (unsigned i = 1; i < kColumnRows; ++i) s = Op::combine(s, partial[i][threadIdx.x]);
    y[blockIdx.y * outputs + output] = Op::result(s);
  }
}

// A row this short does not keep a block busy.
constexpr int64_t kWarpRow = 1024;

template <class Op, class T>
ReduceRowsKernel<T, typename Op::Out> rows_for(const char* name, int64_t reduced) {
  if (reduced <= kWarpRow) return {{name, &rows<Op, T, kWarp>}, kWarp};
  return {{name, &rows<Op, T, kReduceThreads>}, kReduceThreads};
}

}  // namespace

template <class T, class Out>
ReduceRowsKernel<T, Out> reduce_rows_kernel(ReduceOp op, int64_t reduced) {
  if constexpr (std::is_same_v<Out, Wide<T>>)
    if (op == ReduceOp::sum) return rows_for<Sum<T>, T>("sum of rows", reduced);
  if constexpr (std::is_same_v<Out, T>)
    if (op == ReduceOp::max) return rows_for<Max<T>, T>("max of rows", reduced);
  return {};
}
template <class T>
ReduceRowsKernel<T, int64_t> argmax_rows_kernel(int64_t reduced) {
  return rows_for<ArgMax<T>, T>("argmax of rows", reduced);
}
template <class T, class Out>
ReduceColumnsKernel<T, Out> reduce_columns_kernel(ReduceOp op) {
  if constexpr (std::is_same_v<Out, Wide<T>>)
    if (op == ReduceOp::sum) return {"sum of columns", &columns<Sum<T>, T>};
  if constexpr (std::is_same_v<Out, T>)
    if (op == ReduceOp::max) return {"max of columns", &columns<Max<T>, T>};
  return {};
}
template <class T>
ReduceColumnsKernel<T, int64_t> argmax_columns_kernel() {
  return {"argmax of columns", &columns<ArgMax<T>, T>};
}

#define SINEW_INSTANTIATE(T)                                                        \
  template ReduceRowsKernel<T, T> reduce_rows_kernel(ReduceOp op, int64_t reduced); \
  template ReduceRowsKernel<T, int64_t> argmax_rows_kernel(int64_t reduced);        \
  template ReduceColumnsKernel<T, T> reduce_columns_kernel(ReduceOp op);            \
  template ReduceColumnsKernel<T, int64_t> argmax_columns_kernel<T>();
SINEW_INSTANTIATE(float)
SINEW_INSTANTIATE(double)
SINEW_INSTANTIATE(int32_t)
SINEW_INSTANTIATE(int64_t)
SINEW_INSTANTIATE(uint8_t)
SINEW_INSTANTIATE(bfloat16)
#undef SINEW_INSTANTIATE
template ReduceRowsKernel<bfloat16, float> reduce_rows_kernel(ReduceOp op, int64_t reduced);
template ReduceColumnsKernel<bfloat16, float> reduce_columns_kernel(ReduceOp op);

}  // namespace sinew::cuda::SINEW_CUDA_NS
