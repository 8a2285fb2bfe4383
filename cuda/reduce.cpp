// Host side of reduce.cu.
#include <algorithm>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Splitting depends on the shape alone, never on the GPU: the same sums everywhere.
// Of the kernel over rows, whose threads share a row; a column is one thread's, and its chunks are shorter.
constexpr int64_t kEnoughBlocks = 512, kSmallestChunk = 2048;
constexpr int64_t kEnoughColumnBlocks = 1056, kSmallestColumnChunk = 256;

struct Problem {
  int64_t outer, reduced, inner;
  int64_t outputs() const { return outer * inner; }
};

unsigned grid_x(int64_t blocks) {
  SINEW_CHECK(blocks <= 0x7fffffff, "reduce", "too many outputs for one launch");
  return static_cast<unsigned>(blocks);
}

template <class T, class Out>
void run_rows(const ReduceRowsKernel<T, Out>& rows, const Problem& p, int64_t splits, const T* x, Out* y) {
  const int64_t rows_per_block = kReduceThreads / rows.threads_per_row;
  launch(rows.kernel, {grid_x(ceil_divide(p.outputs(), rows_per_block)), static_cast<unsigned>(splits)},
         {kReduceThreads}, 0, stream(), p.outputs(), p.reduced, ceil_divide(p.reduced, splits), x, y);
}

template <class T, class Out>
void run_columns(const ReduceColumnsKernel<T, Out>& columns, const Problem& p, int64_t splits, const T* x, Out* y) {
  launch(columns, {grid_x(ceil_divide(p.outputs(), kReduceColumns)), static_cast<unsigned>(splits)},
         {kReduceColumns, kReduceThreads / kReduceColumns}, 0, stream(), p.outputs(), p.reduced,
         ceil_divide(p.reduced, splits), p.inner, x, y);
}

template <class T, class Out>
void run_once(ReduceOp op, const Problem& p, int64_t splits, const T* x, Out* y) {
  if (p.inner == 1)
    run_rows(reduce_rows_kernel<T, Out>(op, ceil_divide(p.reduced, splits)), p, splits, x, y);
  else
    run_columns(reduce_columns_kernel<T, Out>(op), p, splits, x, y);
}

template <class T, class Out>
void run_folded(ReduceOp op, const Problem& p, int64_t fold, int64_t splits, const T* x, Out* y) {
  Out* const partial =
      static_cast<Out*>(memory_allocate(static_cast<size_t>(splits * kReduceColumns) * sizeof(Out), stream()));
  run_once<T, Out>(op, Problem{1, p.reduced / fold, kReduceColumns}, splits, x, partial);
  run_once<Out, Out>(op, Problem{1, splits * fold, p.inner}, 1, partial, y);
  memory_free(partial, stream());
}

template <class T, class Out>
void run_value(ReduceOp op, const Problem& p, const T* x, Out* y) {
  const bool rows = p.inner == 1;
  const int64_t blocks = ceil_divide(p.outputs(), rows ? 1 : kReduceColumns);
  const int64_t enough = rows ? kEnoughBlocks : kEnoughColumnBlocks;
  const int64_t chunk = rows ? kSmallestChunk : kSmallestColumnChunk;
  const int64_t splits = std::clamp<int64_t>(std::min(enough / blocks, p.reduced / chunk), 1, enough);
  if (splits == 1) return run_once<T, Out>(op, p, 1, x, y);
  // A block's columns would be few: neighbouring rows side by side fill it, and leave as many more partial results.
  if (p.outer == 1 && !rows && kReduceColumns % p.inner == 0 && p.reduced % (kReduceColumns / p.inner) == 0) {
    const int64_t fold = kReduceColumns / p.inner;
    if (fold > 1) return run_folded<T, Out>(op, p, fold, splits, x, y);
  }
  Out* const partial =
      static_cast<Out*>(memory_allocate(static_cast<size_t>(splits * p.outputs()) * sizeof(Out), stream()));
  run_once<T, Out>(op, p, splits, x, partial);
  run_once<Out, Out>(op, Problem{1, splits, p.outputs()}, 1, partial, y);
  memory_free(partial, stream());
}

template <class T>
void run_argmax(const Problem& p, const T* x, int64_t* y) {
  if (p.inner == 1)
    run_rows(argmax_rows_kernel<T>(p.reduced), p, 1, x, y);
  else
    run_columns(argmax_columns_kernel<T>(), p, 1, x, y);
}

template <class T>
void run(const kernel::ReduceArgs& args) {
  const Problem problem{args.outer, args.reduced, args.inner};
  const T* x = static_cast<const T*>(args.x);
  if (args.op == ReduceOp::argmax)
    run_argmax(problem, x, static_cast<int64_t*>(args.y));
  else if (args.op == ReduceOp::sum)
    run_value(args.op, problem, x, static_cast<Wide<T>*>(args.y));
  else
    run_value(args.op, problem, x, static_cast<T*>(args.y));
}

}  // namespace

void reduce(const kernel::ReduceArgs& args) {
  if (args.outer == 0 || args.inner == 0) return;
  SINEW_DISPATCH_ALL_AND_BF16(args.dtype, "reduce", run<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
