// Host side of index_random.cu.
#include "cuda/entries.h"
#include "cuda/graph.h"
#include "cuda/grid.h"
#include "cuda/kernels/index.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

unsigned blocks_for(int64_t n) { return grid_blocks(ceil_divide(n, 4), kRandomThreads); }

}  // namespace

void random(const kernel::RandomArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "random", {
    launch(random_kernel<T>(args.dist), {blocks_for(args.n)}, {kRandomThreads}, 0, stream(), args.n, mixed(args.key),
           recorded_key(args.key), args.p0, args.p1, static_cast<T*>(args.y), is_aligned_to(16, args.y));
  });
}

void dropout(const kernel::DropoutArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "dropout", {
    launch(dropout_kernel<T>(), {blocks_for(args.n)}, {kRandomThreads}, 0, stream(), args.n, mixed(args.key),
           recorded_key(args.key), args.keep, 1.0 / args.keep, static_cast<const T*>(args.x), static_cast<T*>(args.y),
           is_aligned_to(16, args.x) && is_aligned_to(16, args.y));
  });
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
