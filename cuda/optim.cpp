// Host side of optim.cu.
#include "cuda/kernels/optim.h"
#include "cuda/entries.h"
#include "cuda/grid.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// The numbers of kernel_api.h's formulas, in double until the type is known.
struct Rates {
  double beta1 = 0, beta2 = 0, m_scale = 1, v_scale = 1, eps = 0, special = 0;
};

template <class T>
void run(Rule rule, const kernel::UpdateFrame& frame, void* m, void* v, const void* d, const Rates& r) {
  const UpdateNumbers<T> numbers{static_cast<T>(frame.grad_scale),
                                 static_cast<T>(frame.weight_decay),
                                 static_cast<T>(1.0 - frame.decoupled),
                                 static_cast<T>(frame.x_scale),
                                 static_cast<T>(r.beta1),
                                 static_cast<T>(1.0 - r.beta1),
                                 static_cast<T>(r.beta2),
                                 static_cast<T>(1.0 - r.beta2),
                                 static_cast<T>(r.m_scale),
                                 static_cast<T>(r.v_scale),
                                 static_cast<T>(r.eps),
                                 static_cast<T>(r.special)};
  const bool aligned = is_aligned_to(16, frame.x) && is_aligned_to(16, frame.g) && is_aligned_to(16, m) &&
                       is_aligned_to(16, v) && is_aligned_to(16, d);
  const int64_t groups = ceil_divide(frame.n, 16 / static_cast<int64_t>(sizeof(T)));
  launch(update_kernel<T>(rule), {grid_blocks(groups, kUpdateThreads)}, {kUpdateThreads}, 0, stream(), frame.n,
         static_cast<T*>(frame.x), static_cast<const T*>(frame.g), static_cast<T*>(m), static_cast<T*>(v),
         static_cast<const T*>(d), numbers, aligned);
}

void update(const char* op, Rule rule, const kernel::UpdateFrame& frame, void* m, void* v, const void* d,
            const Rates& rates) {
  if (frame.n == 0) return;
  SINEW_DISPATCH_FLOAT(frame.dtype, op, run<T>(rule, frame, m, v, d, rates));
}

template <class T>
void run_block_mean(const kernel::BlockMeanArgs& args) {
  T* x = static_cast<T*>(args.x);
  const int64_t block = std::min(args.block, args.length);
  const int64_t of_outer = ceil_divide(args.length, block), blocks = args.outer * of_outer;
  if (args.inner > 1 || block < 4) {
    constexpr int64_t kWidth = 16 / static_cast<int64_t>(sizeof(T));
    const bool packs = args.inner % kWidth == 0 && is_aligned_to(16, args.x);
    const int64_t threads = blocks * (packs ? args.inner / kWidth : args.inner);
    launch(block_mean_columns_kernel<T>(packs), {grid_blocks(threads, kUpdateThreads)}, {kUpdateThreads}, 0, stream(),
           blocks, of_outer, block, args.length, args.inner, args.absolute, x);
    return;
  }
  const unsigned threads = block <= 16 ? 8 : block <= 1024 ? 32 : kUpdateThreads;
  const int64_t grid = ceil_divide(blocks, kUpdateThreads / threads);
  SINEW_CHECK(grid <= INT32_MAX, "block_mean", blocks, " blocks of elements are too many for one launch");
  launch(block_mean_segments_kernel<T>(threads), {static_cast<unsigned>(grid)}, {kUpdateThreads}, 0, stream(), blocks,
         of_outer, block, args.length, args.inner, args.absolute, x);
}

}  // namespace

void sgd(const kernel::SgdArgs& args) {
  const Rule rule = args.v == nullptr ? Rule::sgd_plain : args.nesterov ? Rule::sgd_nesterov : Rule::sgd_heavy_ball;
  Rates rates;
  rates.beta1 = args.momentum;
  rates.m_scale = args.v_scale;
  update("sgd", rule, args, args.v, nullptr, nullptr, rates);
}

void adam(const kernel::AdamArgs& args) {
  update("adam", Rule::adam, args, args.m, args.v, nullptr,
         {args.beta1, args.beta2, args.m_scale, args.v_scale, args.eps, 0});
}

void adahessian(const kernel::AdaHessianArgs& args) {
  Rule rule = args.d == nullptr ? Rule::adahessian_power : Rule::adahessian_power_new;
  if (args.power == 1) rule = args.d == nullptr ? Rule::adahessian : Rule::adahessian_new;
  if (args.power == 0.5) rule = args.d == nullptr ? Rule::adahessian_half : Rule::adahessian_half_new;
  update("adahessian", rule, args, args.m, args.v, args.d,
         {args.beta1, args.beta2, args.m_scale, args.v_scale, args.eps, args.power});
}

void sophia(const kernel::SophiaArgs& args) {
  update("sophia", args.d == nullptr ? Rule::sophia : Rule::sophia_new, args, args.m, args.h, args.d,
         {args.beta1, args.beta2, args.m_scale, 1, args.eps, args.rho});
}

void lion(const kernel::LionArgs& args) {
  update("lion", Rule::lion, args, args.m, nullptr, nullptr, {args.beta1, args.beta2, 1, 1, 0, 0});
}

void block_mean(const kernel::BlockMeanArgs& args) {
  if (args.outer == 0 || args.length == 0 || args.inner == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "block_mean", run_block_mean<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
