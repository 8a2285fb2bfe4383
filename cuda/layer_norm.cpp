// Host side of layer_norm.cu.
#include <algorithm>

#include "cuda/columns.h"
#include "cuda/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

Dim grid_of(int64_t rows, int64_t rows_per_block) {
  const int64_t blocks = ceil_divide(rows, rows_per_block);
  SINEW_CHECK(blocks <= 0x7fffffff, "layer_norm", "too many rows for one launch");
  return {static_cast<unsigned>(blocks)};
}

double share_of(int64_t cols) { return 1.0 / static_cast<double>(cols); }

template <class T>
void run(const kernel::LayerNormArgs& args) {
  const auto rows =
      LayerNormKernels<T>::rows(args.cols, rows_in_packs<T>(args.cols, args.x, args.gamma, args.beta, args.y));
  launch(rows.kernel, grid_of(args.rows, rows.rows_per_block), {kLayerThreads}, 0, stream(), args.rows, args.cols,
         share_of(args.cols), args.eps, in<T>(args.x), in<Wide<T>>(args.gamma), in<Wide<T>>(args.beta), out<T>(args.y),
         out<Wide<T>>(args.mean), out<Wide<T>>(args.inv_std));
}

template <class T>
void finish(const kernel::LayerNormGradArgs& args, const ColumnGrid& grid, const double* partial) {
  launch(LayerNormKernels<T>::finish_grad(), grid.totals, grid.totals_block, 0, stream(), args.cols, grid.chunks,
         partial, out<Wide<T>>(args.dgamma), out<Wide<T>>(args.dbeta));
}

// In one pass: blocks for each of an H100's 132 multiprocessors, all at once.
template <class T>
void run_short(const kernel::LayerNormGradArgs& args) {
  const auto grad =
      LayerNormKernels<T>::grad(args.cols, rows_in_packs<T>(args.cols, args.g, args.x, args.gamma, args.dx));
  const int64_t blocks = int64_t{grad.resident} * 132, together = grad.rows_together;
  const int64_t chunk = std::max<int64_t>(1, ceil_divide(ceil_divide(args.rows, blocks), together)) * together;
  ColumnGrid grid{};
  grid.channels = args.cols;
  grid.chunks = std::max<int64_t>(1, ceil_divide(args.rows, chunk));
  share_totals(grid);
  const ColumnScratch<Wide<T>> scratch(grid, LayerNormKernels<T>::kGradSums, 0);
  launch(grad.kernel, {static_cast<unsigned>(grid.chunks)}, {kLayerThreads}, grad.shared_bytes, stream(), args.rows,
         args.cols, chunk, share_of(args.cols), in<T>(args.g), in<T>(args.x), in<Wide<T>>(args.gamma),
         in<Wide<T>>(args.mean), in<Wide<T>>(args.inv_std), out<T>(args.dx), scratch.partial());
  finish<T>(args, grid, scratch.partial());
}

template <class T>
void run(const kernel::LayerNormGradArgs& args) {
  using K = LayerNormKernels<T>;
  if (args.cols <= K::kGradColumns) return run_short<T>(args);
  if (args.dx && args.rows > 0) {
    const auto dx = K::dx(args.cols, rows_in_packs<T>(args.cols, args.g, args.x, args.gamma, args.dx));
    launch(dx.kernel, grid_of(args.rows, dx.rows_per_block), {kLayerThreads}, 0, stream(), args.rows, args.cols,
           share_of(args.cols), in<T>(args.g), in<T>(args.x), in<Wide<T>>(args.gamma), in<Wide<T>>(args.mean),
           in<Wide<T>>(args.inv_std), out<T>(args.dx));
  }
  const ColumnGrid grid = column_grid<T>(args.rows, args.cols, {args.g, args.x});
  const ColumnScratch<Wide<T>> scratch(grid, K::kGradSums, 0);
  launch(K::grad_sums(grid.packs), grid.sums, grid.block, 0, stream(), args.rows, args.cols, grid.sums_chunk,
         in<T>(args.g), in<T>(args.x), in<Wide<T>>(args.mean), in<Wide<T>>(args.inv_std), scratch.partial());
  finish<T>(args, grid, scratch.partial());
}

}  // namespace

void layer_norm(const kernel::LayerNormArgs& args) {
  if (args.rows == 0 || args.cols == 0) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "layer_norm", run<T>(args));
}
void layer_norm_grad(const kernel::LayerNormGradArgs& args) {
  if (args.cols == 0) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "layer_norm_grad", run<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
