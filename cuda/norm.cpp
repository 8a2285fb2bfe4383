// Host side of norm.cu.
#include <algorithm>

#include "cuda/columns.h"
#include "cuda/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class T>
void run(const kernel::ChannelAffineArgs& args) {
  using W = Wide<T>;
  const ColumnGrid grid = column_grid<T>(args.rows, args.channels, {args.x, args.residual, args.y});
  launch(NormKernels<T>::affine(grid.packs, args.residual), grid.pass, grid.block, 0, stream(), args.rows,
         args.channels, grid.pass_chunk, args.relu, in<T>(args.x), in<W>(args.center), in<W>(args.scale),
         in<W>(args.shift), in<T>(args.residual), out<T>(args.y));
}

template <class T>
void run(const kernel::BatchNormArgs& args) {
  using K = NormKernels<T>;
  using W = Wide<T>;
  const ColumnGrid grid = column_grid<T>(args.rows, args.channels, {args.x, args.residual, args.y});
  const ColumnScratch<W> scratch(grid, K::kStatisticsSums, 1);
  W* const scale = scratch.vectors();
  launch(K::statistics(grid.packs), grid.sums, grid.block, 0, stream(), args.rows, args.channels, grid.sums_chunk,
         in<T>(args.x), scratch.partial());
  launch(K::finish_statistics(), grid.totals, grid.totals_block, 0, stream(), args.channels, grid.chunks, args.rows,
         args.eps, scratch.partial(), in<T>(args.x), in<W>(args.gamma), out<W>(args.mean), out<W>(args.inv_std),
         out<W>(args.variance), scale);
  launch(K::affine(grid.packs, args.residual), grid.pass, grid.block, 0, stream(), args.rows, args.channels,
         grid.pass_chunk, args.relu, in<T>(args.x), in<W>(args.mean), scale, in<W>(args.beta), in<T>(args.residual),
         out<T>(args.y));
}

NormMask mask_of(bool relu, const void* y) { return !relu ? NormMask::none : y ? NormMask::from_y : NormMask::from_x; }

template <class T>
void run(const kernel::BatchNormGradArgs& args) {
  using K = NormKernels<T>;
  using W = Wide<T>;
  const NormMask mask = mask_of(args.relu, args.y);
  const ColumnGrid grid = column_grid<T>(args.rows, args.channels, {args.g, args.x, args.y, args.dx, args.dresidual});
  const ColumnScratch<W> scratch(grid, K::kGradSums, K::kGradCoefficients);
  launch(K::grad_sums(grid.packs, mask), grid.sums, grid.block, 0, stream(), args.rows, args.channels, grid.sums_chunk,
         in<T>(args.g), in<T>(args.x), in<T>(args.y), in<W>(args.gamma), in<W>(args.beta), in<W>(args.mean),
         in<W>(args.inv_std), out<T>(args.dresidual), scratch.partial());
  launch(K::finish_grad(), grid.totals, grid.totals_block, 0, stream(), args.channels, grid.chunks, args.rows,
         scratch.partial(), in<W>(args.gamma), in<W>(args.inv_std), out<W>(args.dgamma), out<W>(args.dbeta),
         scratch.vectors());
  if (!args.dx) return;
  const void* g = mask == NormMask::from_y ? args.dresidual : args.g;
  launch(K::grad(grid.packs, mask, args.accumulate), grid.pass, grid.block, 0, stream(), args.rows, args.channels,
         grid.pass_chunk, in<T>(g), in<T>(args.x), in<W>(args.mean), in<W>(args.beta), scratch.vectors(),
         out<T>(args.dx));
}

template <class T>
void run(const kernel::BatchNormGrad2Args& args) {
  using K = NormKernels<T>;
  using W = Wide<T>;
  const NormMask mask = mask_of(args.relu, args.y);
  const ColumnGrid grid =
      column_grid<T>(args.rows, args.channels, {args.g, args.x, args.y, args.u, args.r, args.g2, args.x2});
  const ColumnScratch<W> scratch(grid, K::kGrad2Sums, K::kGrad2Coefficients);
  launch(K::grad2_sums(grid.packs, mask), grid.sums, grid.block, 0, stream(), args.rows, args.channels, grid.sums_chunk,
         in<T>(args.g), in<T>(args.x), in<T>(args.y), in<T>(args.u), in<W>(args.gamma), in<W>(args.beta),
         in<W>(args.mean), in<W>(args.inv_std), scratch.partial());
  launch(K::finish_grad2(), grid.totals, grid.totals_block, 0, stream(), args.channels, grid.chunks, args.rows,
         scratch.partial(), in<W>(args.gamma), in<W>(args.inv_std), in<W>(args.a), in<W>(args.b), out<W>(args.gamma2),
         scratch.vectors());
  launch(K::grad2(grid.packs, mask), grid.pass, grid.block, 0, stream(), args.rows, args.channels, grid.pass_chunk,
         in<T>(args.g), in<T>(args.x), in<T>(args.y), in<T>(args.u), in<T>(args.r), in<W>(args.mean), in<W>(args.beta),
         scratch.vectors(), out<T>(args.g2), out<T>(args.x2));
}

}  // namespace

void channel_affine(const kernel::ChannelAffineArgs& args) {
  if (args.rows == 0 || args.channels == 0) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "channel_affine", run<T>(args));
}
void batch_norm(const kernel::BatchNormArgs& args) {
  if (args.rows == 0 || args.channels == 0) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "batch_norm", run<T>(args));
}
void batch_norm_grad(const kernel::BatchNormGradArgs& args) {
  if (args.channels == 0) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "batch_norm_grad", run<T>(args));
}
void batch_norm_grad2(const kernel::BatchNormGrad2Args& args) {
  if (args.channels == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "batch_norm_grad2", run<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
