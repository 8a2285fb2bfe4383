// Host side of elementwise.cu.
#include <algorithm>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Enough blocks to fill any GPU; a block's threads then loop.
constexpr int64_t kMaxBlocks = 2048;

template <class T>
void run(const kernel::UnaryArgs& args) {
  const int64_t packs = packs_of<T>(args.n, in<T>(args.x), out<T>(args.y));
  const int64_t steps = packs > 0 ? packs : args.n;
  const int64_t blocks = std::min(kMaxBlocks, ceil_divide(steps, kElementwiseThreads));
  launch(unary_kernel<T>(args.op), {static_cast<unsigned>(blocks)}, {kElementwiseThreads}, 0, stream(), args.n, packs,
         in<T>(args.x), out<T>(args.y), args.p0, args.p1);
}

}  // namespace

void unary(const kernel::UnaryArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "unary", run<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
