// Host side of flat.cu.
#include "cuda/kernels/flat.h"
#include "cuda/entries.h"
#include "cuda/grid.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Of sums: few enough for the second launch of one block, and about as many as an H100 holds at a time.
constexpr int64_t kMaxShares = 768, kGroupsPerThread = 4;

template <class T>
int64_t groups_for(int64_t n) {
  return ceil_divide(n, 16 / static_cast<int64_t>(sizeof(T)));
}

// Calls launch_shares(blocks, partial) so that partial[i] is block i's share, and adds the shares up.
template <class T, class Launch>
void run_sum(int64_t n, double* result, const Launch& launch_shares) {
  if (n == 0) {
    memory_set(result, 0, sizeof(double), stream());
    return;
  }
  const auto blocks =
      static_cast<unsigned>(std::min(kMaxShares, ceil_divide(groups_for<T>(n), kGroupsPerThread * kFlatThreads)));
  if (blocks == 1) {
    launch_shares(blocks, result);
    return;
  }
  void* partial = memory_allocate(blocks * sizeof(double), stream());
  launch_shares(blocks, static_cast<double*>(partial));
  launch(sum_partials_kernel(), {1}, {kFlatThreads}, 0, stream(), blocks, static_cast<const double*>(partial), result);
  memory_free(partial, stream());
}

template <class T>
void run_axpby(const kernel::AxpbyArgs& args) {
  const bool reads_y = static_cast<T>(args.b) != T(0);
  const bool aligned =
      is_aligned_to(16, args.x) && is_aligned_to(16, args.z) && (!reads_y || is_aligned_to(16, args.y));
  launch(axpby_kernel<T>(reads_y), {grid_blocks(groups_for<T>(args.n), kFlatThreads * kFlatUnroll)}, {kFlatThreads}, 0,
         stream(), args.n, args.a, args.b, static_cast<const T*>(args.x), static_cast<const T*>(args.y),
         static_cast<T*>(args.z), aligned);
}

template <class T>
void run_dot(const kernel::DotArgs& args) {
  run_sum<T>(args.n, args.result, [&](unsigned blocks, double* partial) {
    launch(dot_kernel<T>(), {blocks}, {kFlatThreads}, 0, stream(), args.n, static_cast<const T*>(args.x),
           static_cast<const T*>(args.y), partial, is_aligned_to(16, args.x) && is_aligned_to(16, args.y));
  });
}

template <class T>
void run_elastic(const kernel::ElasticArgs& args) {
  auto launch_on = [&](unsigned blocks, double* partial) {
    launch(elastic_kernel<T>(partial != nullptr), {blocks}, {kFlatThreads}, 0, stream(), args.n, args.alpha,
           static_cast<T*>(args.x), static_cast<T*>(args.c), static_cast<T*>(args.d), partial, args.move_x, args.move_c,
           is_aligned_to(16, args.x) && is_aligned_to(16, args.c) && is_aligned_to(16, args.d));
  };
  if (args.distance2 != nullptr)
    run_sum<T>(args.n, args.distance2, launch_on);
  else if (args.n > 0)
    launch_on(grid_blocks(groups_for<T>(args.n), kFlatThreads), nullptr);
}

}  // namespace

void axpby(const kernel::AxpbyArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "axpby", run_axpby<T>(args));
}
void dot(const kernel::DotArgs& args) { SINEW_DISPATCH_FLOAT(args.dtype, "dot", run_dot<T>(args)); }
void elastic(const kernel::ElasticArgs& args) { SINEW_DISPATCH_FLOAT(args.dtype, "elastic", run_elastic<T>(args)); }

}  // namespace sinew::cuda::SINEW_CUDA_NS
