// Host side of loss.cu.
#include <algorithm>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Blocks beyond this go round again. Those that leave a sum behind are fewer, as one block adds these up: 16 for each
// of an H100's 132 multiprocessors. One block takes this many rounds rather than leaving a second launch to do.
constexpr int64_t kMaxBlocks = 1 << 16, kMaxSums = 16 * 132, kRoundsOfOneBlock = 4;

int64_t blocks_for(int64_t rows, const RowShare& share) {
  return std::clamp<int64_t>(ceil_divide(rows, share.rows_per_block), 1, kMaxBlocks);
}

template <class T>
void run(const kernel::SoftmaxArgs& args) {
  const bool packs = rows_in_packs<T>(args.cols, in<T>(args.x), in<T>(args.y));
  const SoftmaxKernel<T> softmax = softmax_kernel<T>(args.cols, args.log, packs);
  launch(softmax.kernel, {static_cast<unsigned>(blocks_for(args.rows, softmax.share))}, {softmax.share.threads}, 0,
         stream(), args.rows, args.cols, static_cast<const T*>(args.x), static_cast<T*>(args.y));
}

template <class T>
void run(const kernel::CrossEntropyArgs& args) {
  const bool packs = rows_in_packs<T>(args.cols, in<T>(args.x), in<T>(args.dx));
  const CrossEntropyKernel<T> entropy = cross_entropy_kernel<T>(args.cols, packs);
  int64_t blocks = blocks_for(args.rows, entropy.share);
  if (args.loss && entropy.share.rows_per_block > 1 && blocks <= kRoundsOfOneBlock) blocks = 1;
  if (args.loss) blocks = std::min(blocks, kMaxSums);
  T* const loss = static_cast<T*>(args.loss);
  double* partial = nullptr;
  const size_t bytes = static_cast<size_t>(blocks) * sizeof(double);
  if (loss && blocks > 1) partial = static_cast<double*>(memory_allocate(bytes, stream()));
  launch(entropy.kernel, {static_cast<unsigned>(blocks)}, {entropy.share.threads}, 0, stream(), args.rows, args.cols,
         static_cast<const T*>(args.x), args.labels, static_cast<const T*>(args.scale), static_cast<T*>(args.dx), loss,
         partial);
  if (!partial) return;
  launch(mean_loss_kernel<T>(), {1}, {kMeanThreads}, 0, stream(), blocks, args.rows, partial, loss);
  memory_free(partial, stream());
}

}  // namespace

void softmax(const kernel::SoftmaxArgs& args) {
  if (args.rows == 0 || args.cols == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "softmax", run<T>(args));
}

void cross_entropy(const kernel::CrossEntropyArgs& args) {
  SINEW_DISPATCH_FLOAT(args.dtype, "cross_entropy", run<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
