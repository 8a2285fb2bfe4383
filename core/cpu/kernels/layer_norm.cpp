// Layer norm and its first derivative (formulas: core/ops/layer_norm.cpp). A row is small and stays in cache, so each
// kernel is one pass over memory. T is the data's type, A = Wide<T> the vectors', the statistics' and the arithmetic's.
#include "core/cpu/kernels/channels.h"

namespace sinew::SINEW_CPU_NS {
namespace {

template <class T>
void layer_norm_typed(const kernel::LayerNormArgs& args) {
  using A = Wide<T>;
  const int64_t d = args.cols;
  const A *gamma = static_cast<const A*>(args.gamma), *beta = static_cast<const A*>(args.beta);
  parallel_blocks(args.rows, max64(1, (1 << 13) / d), args.rows * d, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = static_cast<const T*>(args.x) + r * d;
      T* y = static_cast<T*>(args.y) + r * d;
      const double n = static_cast<double>(d);
      const double mean = block_sum(d, [=](int64_t i) { return static_cast<double>(x[i]); }) / n;
      const double m2 = block_sum(d, [=](int64_t i) {
        const double e = static_cast<double>(x[i]) - mean;
        return e * e;
      });
      const A center = static_cast<A>(mean), s = static_cast<A>(1.0 / op::fn::sqrt(m2 / n + args.eps));
      static_cast<A*>(args.mean)[r] = center;
      static_cast<A*>(args.inv_std)[r] = s;
#pragma GCC ivdep
      for (int64_t i = 0; i < d; ++i) y[i] = static_cast<T>((x[i] - center) * s * gamma[i] + beta[i]);
    }
  });
}

template <class T>
void layer_norm_grad_typed(const kernel::LayerNormGradArgs& args) {
  using A = Wide<T>;
  const int64_t d = args.cols;
  const A* gamma = static_cast<const A*>(args.gamma);
  // Rows a chunk, of which each adds up its share of dgamma and dbeta: a function of the shape alone.
  const Channels c = channels_of(args.rows, d, max64(1 << 14, 16 * d));
  Scratch<double> partial(2 * c.chunks * d);
  parallel_chunks<A>(c, 2 * d, [&](int64_t chunk, int64_t begin, int64_t end, A* sums) {
    A *to_gamma = sums, *to_beta = sums + d;
    memset(sums, 0, static_cast<size_t>(2 * d) * sizeof(A));
    for (int64_t r = begin / d; r < end / d; ++r) {
      const T *x = static_cast<const T*>(args.x) + r * d, *g = static_cast<const T*>(args.g) + r * d;
      const A center = static_cast<const A*>(args.mean)[r], s = static_cast<const A*>(args.inv_std)[r];
      const double n = static_cast<double>(d);
      const double g0 = block_sum(d, [=](int64_t i) { return static_cast<double>(g[i] * gamma[i]); }) / n;
      const double g1 =
          block_sum(d,
                    [=](int64_t i) {
                      return static_cast<double>(g[i] * gamma[i]) * static_cast<double>((x[i] - center) * s);
                    }) /
          n;
      const A mean = static_cast<A>(g0), slope = static_cast<A>(g1);
      T* dx = args.dx ? static_cast<T*>(args.dx) + r * d : nullptr;
      if (dx) {
#pragma GCC ivdep
        for (int64_t i = 0; i < d; ++i)
          dx[i] = static_cast<T>(s * ((g[i] * gamma[i] - mean) - (x[i] - center) * s * slope));
      }
#pragma GCC ivdep
      for (int64_t i = 0; i < d; ++i) {
        to_gamma[i] += g[i] * ((x[i] - center) * s);
        to_beta[i] += g[i];
      }
    }
    for (int64_t i = 0; i < 2 * d; ++i) partial[2 * chunk * d + i] = static_cast<double>(sums[i]);
  });
  for (int64_t i = 0; i < d; ++i) {
    double to_gamma = 0, to_beta = 0;
    for (int64_t k = 0; k < c.chunks; ++k) {
      to_gamma += partial[2 * k * d + i];
      to_beta += partial[(2 * k + 1) * d + i];
    }
    static_cast<A*>(args.dgamma)[i] = static_cast<A>(to_gamma);
    static_cast<A*>(args.dbeta)[i] = static_cast<A>(to_beta);
  }
}

}  // namespace

void layer_norm(const kernel::LayerNormArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, layer_norm_typed<T>(args))
}
void layer_norm_grad(const kernel::LayerNormGradArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, layer_norm_grad_typed<T>(args))
}

}  // namespace sinew::SINEW_CPU_NS
