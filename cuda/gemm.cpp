// Host side of gemm.cu.
#include <algorithm>
#include <limits>

#include "cuda/entries.h"
#include "cuda/kernels.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int64_t kMaxBatchBlocks = 65535;
// With fewer large tiles than this, smaller ones use more of the GPU. Not tuned yet.
constexpr int64_t kEnoughTiles = 128;

int64_t tiles(const kernel::GemmArgs& args, int tile) {
  return ((args.m + tile - 1) / tile) * ((args.n + tile - 1) / tile);
}

template <class T>
void run(const kernel::GemmArgs& args) {
  constexpr int64_t kMaxExtent = std::numeric_limits<int>::max() / 2;
  SINEW_CHECK(args.m <= kMaxExtent && args.n <= kMaxExtent && args.k <= kMaxExtent, "gemm", "(", args.m, ", ", args.k,
              ") x (", args.k, ", ", args.n, "): an extent is larger than ", kMaxExtent);
  GemmKernel<T> gemm = gemm_kernel<T>(args.trans_a, args.trans_b, true);
  if (tiles(args, gemm.tile) * args.batch < kEnoughTiles) gemm = gemm_kernel<T>(args.trans_a, args.trans_b, false);
  const int64_t blocks = tiles(args, gemm.tile);
  SINEW_CHECK(blocks <= std::numeric_limits<int>::max(), "gemm", "C is too large for one launch");
  const GemmShape<T> shape{static_cast<int>(args.m),
                           static_cast<int>(args.n),
                           static_cast<int>(args.k),
                           args.lda,
                           args.ldb,
                           args.ldc,
                           args.batch,
                           args.batch_stride_a,
                           args.batch_stride_b,
                           args.batch_stride_c,
                           static_cast<T>(args.alpha),
                           static_cast<T>(args.beta),
                           args.act};
  launch(gemm.kernel, {static_cast<unsigned>(blocks), static_cast<unsigned>(std::min(args.batch, kMaxBatchBlocks))},
         {kGemmThreads}, gemm.shared_bytes, stream(), static_cast<const T*>(args.a), static_cast<const T*>(args.b),
         static_cast<T*>(args.c), static_cast<const T*>(args.bias), shape);
}

}  // namespace

void gemm(const kernel::GemmArgs& args) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "gemm", run<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
