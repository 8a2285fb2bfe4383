// Host side of elementwise.cu.
#include <algorithm>

#include "cuda/entries.h"
#include "cuda/kernels.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Enough blocks to fill any GPU; a block's threads then loop.
constexpr int64_t kMaxBlocks = 2048;

bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T>
void run(const kernel::UnaryArgs& args) {
  const int64_t width = 16 / static_cast<int64_t>(sizeof(T));
  const int64_t packs = is_aligned(args.x) && is_aligned(args.y) ? args.n / width : 0;
  const int64_t steps = packs > 0 ? packs : args.n;
  const int64_t blocks = std::min(kMaxBlocks, (steps + kElementwiseThreads - 1) / kElementwiseThreads);
  launch(unary_kernel<T>(args.op), {static_cast<unsigned>(blocks)}, {kElementwiseThreads}, 0, stream(), args.n, packs,
         static_cast<const T*>(args.x), static_cast<T*>(args.y), args.p0, args.p1);
}

}  // namespace

void unary(const kernel::UnaryArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "unary", run<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
