// Host side of pool.cu.
#include <algorithm>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Whether threads move 16 bytes of channels at a time, and a byte of places for each of them.
template <class T>
bool in_packs(const kernel::PoolArgs& args, bool places) {
  constexpr int64_t kWidth = 16 / static_cast<int64_t>(sizeof(T));
  return rows_in_packs<T>(args.c, in<T>(args.x), in<T>(args.y)) && (!places || is_aligned_to(kWidth, args.index));
}

template <class T, class K>
void run(const K& pool, const kernel::PoolArgs& args, bool packs, int64_t height, int64_t width) {
  constexpr int64_t kWidth = 16 / static_cast<int64_t>(sizeof(T)), kWarp = 32;
  const int64_t rows = args.n * height, threads = width * (packs ? args.c / kWidth : args.c);
  constexpr int64_t kMost = 0x7fffffff;
  SINEW_CHECK(rows <= kMost && threads <= 65535 * int64_t{kPoolThreads}, "pool",
              "too many rows or channels for one launch");
  const int64_t block = std::min<int64_t>(kPoolThreads, (threads + kWarp - 1) / kWarp * kWarp);
  const PoolShape shape{static_cast<int>(args.h),      static_cast<int>(args.w),  static_cast<int>(args.c),
                        static_cast<int>(args.p),      static_cast<int>(args.q),  static_cast<int>(args.kernel),
                        static_cast<int>(args.stride), static_cast<int>(args.pad)};
  launch(pool, {static_cast<unsigned>(rows), static_cast<unsigned>((threads + block - 1) / block)},
         {static_cast<unsigned>(block)}, 0, stream(), shape, static_cast<const T*>(args.x), static_cast<T*>(args.y),
         args.index);
}

// The transposes, which write h x w pixels or, for the usual windows, the cells of 2x2 that these are in.
int64_t cells_of(const kernel::PoolArgs& args) {
  const bool usual = args.stride == 2 && (args.kernel == 2 || args.kernel == 3);
  return usual && args.p > 0 && args.q > 0 ? args.kernel : 0;
}
template <class T, class K>
void run_transpose(const K& pool, const kernel::PoolArgs& args, bool packs) {
  const auto extent = [&](int64_t n) { return cells_of(args) ? (args.pad + n - 1) / 2 - args.pad / 2 + 1 : n; };
  run<T>(pool, args, packs, extent(args.h), extent(args.w));
}

bool writes_nothing(const kernel::PoolArgs& args, int64_t height, int64_t width) {
  return args.n == 0 || args.c == 0 || height == 0 || width == 0;
}

}  // namespace

void max_pool(const kernel::PoolArgs& args) {
  if (writes_nothing(args, args.p, args.q)) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "max_pool", const bool packs = in_packs<T>(args, true);
                               run<T>(PoolKernels<T>::max(packs, args.kernel), args, packs, args.p, args.q));
}
void max_pool_gather(const kernel::PoolArgs& args) {
  if (writes_nothing(args, args.p, args.q)) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "max_pool_gather", const bool packs = in_packs<T>(args, true);
                               run<T>(PoolKernels<T>::gather(packs, args.kernel), args, packs, args.p, args.q));
}
void max_pool_scatter(const kernel::PoolArgs& args) {
  if (writes_nothing(args, args.h, args.w)) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "max_pool_scatter", const bool packs = in_packs<T>(args, true);
                               run_transpose<T>(PoolKernels<T>::scatter(packs, cells_of(args)), args, packs));
}
void avg_pool(const kernel::PoolArgs& args) {
  if (writes_nothing(args, args.p, args.q)) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "avg_pool", const bool packs = in_packs<T>(args, false);
                               run<T>(PoolKernels<T>::average(packs, args.kernel), args, packs, args.p, args.q));
}
void avg_pool_grad(const kernel::PoolArgs& args) {
  if (writes_nothing(args, args.h, args.w)) return;
  SINEW_DISPATCH_FLOAT_OR_BF16(args.dtype, "avg_pool_grad", const bool packs = in_packs<T>(args, false);
                               run_transpose<T>(PoolKernels<T>::average_grad(packs, cells_of(args)), args, packs));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
