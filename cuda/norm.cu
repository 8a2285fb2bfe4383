// Batch norm with its first and second derivative (formulas: core/ops/norm.cpp), and the affine map of evaluation.
//
// Parallel over channels and chunks of rows. Each is one pass that leaves sums over rows per channel and chunk, a small
// launch that adds up the chunks and works out a few numbers a channel, and one pass that writes.
// Bytes, in arrays of rows * channels * sizeof(T): batch_norm 2 reads, 1 write (one read more with a residual);
// grad 4 and 1 (with y: 5 and 2); grad2 6 and 2 (with y: 9 and 2); affine 1 and 1. Flops: 5 to 30 an element; bound by
// memory. Sums are in double: of squares about the first row's value, so that a mean far from zero costs no digits.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include <type_traits>

#include "core/functors.h"
#include "cuda/device/channels.cuh"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

namespace fn = SINEW_FUNCTOR_NS::fn;

// Rows that a thread loads together: as many bytes of bf16 as of floats.
template <class T>
constexpr int kRowsTogether = sizeof(T) == 2 ? 8 : 4;

template <class T, int kWidth>
__global__ void __launch_bounds__(kColumnThreads, 4)
    sum_statistics(int64_t rows, int64_t channels, int64_t chunk, const T* __restrict__ x,
                   double* __restrict__ partial) {
  const RowWalk walk(rows, channels, chunk, kWidth);
  double pivot[kWidth];
  SINEW_UNROLL
  for (int j = 0; j < kWidth; ++j) pivot[j] = walk.inside ? double(x[walk.channel + j]) : 0;
  sum_rows<kRowsTogether<T>, NormKernels<T>::kStatisticsSums, kWidth, double>(
      walk, partial, [=](int64_t, int64_t at) { return load<kWidth>(x + at); },
      [&](const Values<T, kWidth>& v, int64_t, auto& sums) {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          const double d = double(v.v[j]) - pivot[j];
          sums[0][j] += d;
          sums[1][j] += d * d;
        }
      });
}

template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    total_statistics(int64_t channels, int64_t chunks, double rows, double eps, const double* __restrict__ partial,
                     const T* __restrict__ x, const Wide<T>* __restrict__ gamma, Wide<T>* __restrict__ mean,
                     Wide<T>* __restrict__ inv_std, Wide<T>* __restrict__ variance, Wide<T>* __restrict__ scale) {
  using W = Wide<T>;
  double total[NormKernels<T>::kStatisticsSums];
  if (!total_sums(channels, chunks, partial, total)) return;
  const int64_t j = total_channel();
  const double offset = total[0] / rows, squares = total[1] - total[0] * offset;
  const double m2 = squares < 0 ? 0 : squares;
  const W s = W(1.0 / fn::sqrt(m2 / rows + eps));
  mean[j] = W(double(x[j]) + offset);
  inv_std[j] = s;
  variance[j] = W(m2 / (rows - 1));
  scale[j] = gamma[j] * s;
}

template <class T, int kWidth, bool kResidual>
__global__ void __launch_bounds__(kColumnThreads, 4)
    apply_affine(int64_t rows, int64_t channels, int64_t chunk, bool relu, const T* __restrict__ x,
                 const Wide<T>* __restrict__ center, const Wide<T>* __restrict__ scale,
                 const Wide<T>* __restrict__ shift, const T* __restrict__ residual, T* __restrict__ y) {
  using W = Wide<T>;
  const RowWalk walk(rows, channels, chunk, kWidth);
  if (!walk.inside) return;
  struct In {
    Values<T, kWidth> x, residual;
  };
  const Values<W, kWidth> c = load_each<kWidth>(center + walk.channel), a = load_each<kWidth>(scale + walk.channel);
  const Values<W, kWidth> b = load_each<kWidth>(shift + walk.channel);
  walk_rows<kRowsTogether<T>>(
      walk,
      [=](int64_t, int64_t at) {
        In in{};
        in.x = load<kWidth>(x + at);
        if constexpr (kResidual) in.residual = load<kWidth>(residual + at);
        return in;
      },
      [&](const In& in, int64_t at) {
        Values<T, kWidth> out;
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          W v = (in.x.v[j] - c.v[j]) * a.v[j] + b.v[j];
          if constexpr (kResidual) v += in.residual.v[j];
          out.v[j] = T(relu && v <= W(0) ? W(0) : v);
        }
        store(y + at, out);
      });
}

// What the derivatives know of a thread's channels, and the rectifier's mask: from the input of the rectifier as
// `affine` computed it, or from its output.
template <class T, int kWidth, NormMask kMask>
struct Channels {
  using W = Wide<T>;
  Values<W, kWidth> mean, scale, beta;

  SINEW_DEVICE W masked(int j, W g, W centered, W y) const {
    if constexpr (kMask == NormMask::from_x) return centered * scale.v[j] + beta.v[j] > W(0) ? g : W(0);
    if constexpr (kMask == NormMask::from_y) return y > W(0) ? g : W(0);
    return g;
  }
};
template <class T, int kWidth, NormMask kMask>
SINEW_DEVICE Channels<T, kWidth, kMask> channels_of(const RowWalk& walk, const Wide<T>* gamma, const Wide<T>* beta,
                                                    const Wide<T>* mean, const Wide<T>* inv_std) {
  Channels<T, kWidth, kMask> c{};
  if (!walk.inside) return c;
  c.mean = load_each<kWidth>(mean + walk.channel);
  if constexpr (kMask == NormMask::from_x) {
    c.beta = load_each<kWidth>(beta + walk.channel);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) c.scale.v[j] = gamma[walk.channel + j] * inv_std[walk.channel + j];
  }
  return c;
}

template <class T, int kWidth, NormMask kMask>
__global__ void __launch_bounds__(kColumnThreads, 3)
    sum_grad(int64_t rows, int64_t channels, int64_t chunk, const T* __restrict__ g, const T* __restrict__ x,
             const T* __restrict__ y, const Wide<T>* __restrict__ gamma, const Wide<T>* __restrict__ beta,
             const Wide<T>* __restrict__ mean, const Wide<T>* __restrict__ inv_std, T* __restrict__ dresidual,
             double* __restrict__ partial) {
  using W = Wide<T>;
  const RowWalk walk(rows, channels, chunk, kWidth);
  const auto c = channels_of<T, kWidth, kMask>(walk, gamma, beta, mean, inv_std);
  struct In {
    Values<T, kWidth> g, x, y;
  };
  sum_rows<kRowsTogether<T>, NormKernels<T>::kGradSums, kWidth, W>(
      walk, partial,
      [=](int64_t, int64_t at) {
        In in{};
        in.g = load<kWidth>(g + at);
        in.x = load<kWidth>(x + at);
        if constexpr (kMask == NormMask::from_y) in.y = load<kWidth>(y + at);
        return in;
      },
      [&](const In& in, int64_t at, auto& sums) {
        Values<T, kWidth> out;
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          const W d = in.x.v[j] - c.mean.v[j];
          const W m = c.masked(j, in.g.v[j], d, kMask == NormMask::from_y ? W(in.y.v[j]) : W(0));
          out.v[j] = T(m);
          sums[0][j] += m;
          sums[1][j] += m * d;
        }
        if constexpr (kMask == NormMask::from_y) store(dresidual + at, out);
      });
}

// dx = scale m + (slope d + offset), d = x - mean.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    total_grad(int64_t channels, int64_t chunks, double rows, const double* __restrict__ partial,
               const T* __restrict__ gamma, const T* __restrict__ inv_std, T* __restrict__ dgamma,
               T* __restrict__ dbeta, T* __restrict__ coefficients) {
  double total[NormKernels<T>::kGradSums];
  if (!total_sums(channels, chunks, partial, total)) return;
  const int64_t j = total_channel();
  const double s = double(inv_std[j]);
  const T scale = gamma[j] * inv_std[j];
  if (dbeta) dbeta[j] = T(total[0]);
  if (dgamma) dgamma[j] = T(total[1] * s);
  coefficients[j] = scale;
  coefficients[channels + j] = T(-double(gamma[j]) * s * s * s * total[1] / rows);
  coefficients[2 * channels + j] = T(-double(scale) * total[0] / rows);
}

template <class T, int kWidth, NormMask kMask, bool kAccumulate>
__global__ void __launch_bounds__(kColumnThreads, kAccumulate || sizeof(T) == 2 ? 2 : 3)
    apply_grad(int64_t rows, int64_t channels, int64_t chunk, const T* __restrict__ g, const T* __restrict__ x,
               const Wide<T>* __restrict__ mean, const Wide<T>* __restrict__ beta,
               const Wide<T>* __restrict__ coefficients, T* __restrict__ dx) {
  using W = Wide<T>;
  const RowWalk walk(rows, channels, chunk, kWidth);
  if (!walk.inside) return;
  struct In {
    Values<T, kWidth> g, x, before;  // before: where that is added to
  };
  Channels<T, kWidth, kMask> c{};
  c.mean = load_each<kWidth>(mean + walk.channel);
  c.scale = load_each<kWidth>(coefficients + walk.channel);
  if constexpr (kMask == NormMask::from_x) c.beta = load_each<kWidth>(beta + walk.channel);
  const Values<W, kWidth> slope = load_each<kWidth>(coefficients + channels + walk.channel);
  const Values<W, kWidth> offset = load_each<kWidth>(coefficients + 2 * channels + walk.channel);
  walk_rows<kRowsTogether<T>>(
      walk,
      [=](int64_t, int64_t at) {
        In in{load<kWidth>(g + at), load<kWidth>(x + at), {}};
        if constexpr (kAccumulate) in.before = load<kWidth>(dx + at);
        return in;
      },
      [&](const In& in, int64_t at) {
        Values<T, kWidth> out;
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          const W d = in.x.v[j] - c.mean.v[j];
          const W m = c.masked(j, in.g.v[j], d, W(0));
          out.v[j] = T(c.scale.v[j] * m + (slope.v[j] * d + offset.v[j]));
          // To the bit what a sum afterwards would be.
          if constexpr (kAccumulate) out.v[j] = T(W(in.before.v[j]) + W(out.v[j]));
        }
        store(dx + at, out);
      });
}

template <class T, int kWidth, NormMask kMask>
__global__ void __launch_bounds__(kColumnThreads, 2)
    sum_grad2(int64_t rows, int64_t channels, int64_t chunk, const T* __restrict__ g, const T* __restrict__ x,
              const T* __restrict__ y, const T* __restrict__ u, const T* __restrict__ gamma, const T* __restrict__ beta,
              const T* __restrict__ mean, const T* __restrict__ inv_std, double* __restrict__ partial) {
  const RowWalk walk(rows, channels, chunk, kWidth);
  const auto c = channels_of<T, kWidth, kMask>(walk, gamma, beta, mean, inv_std);
  struct In {
    Values<T, kWidth> g, x, y, u;
  };
  sum_rows<2, NormKernels<T>::kGrad2Sums, kWidth, T>(
      walk, partial,
      [=](int64_t, int64_t at) {
        In in{};
        in.g = load<kWidth>(g + at);
        in.x = load<kWidth>(x + at);
        in.u = load<kWidth>(u + at);
        if constexpr (kMask == NormMask::from_y) in.y = load<kWidth>(y + at);
        return in;
      },
      [&](const In& in, int64_t, auto& sums) {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          const T d = in.x.v[j] - c.mean.v[j];
          const T m = c.masked(j, in.g.v[j], d, kMask == NormMask::from_y ? in.y.v[j] : T(0));
          sums[0][j] += m;
          sums[1][j] += m * d;
          sums[2][j] += in.u.v[j];
          sums[3][j] += in.u.v[j] * d;
          sums[4][j] += m * in.u.v[j];
        }
      });
}

// g2 = masked(scale u + (gd d + g1) + r), x2 = (gd m + xu u) + (xd d + x1); the coefficients are in this order.
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    total_grad2(int64_t channels, int64_t chunks, double rows, const double* __restrict__ partial,
                const T* __restrict__ gamma, const T* __restrict__ inv_std, const T* __restrict__ a,
                const T* __restrict__ b, T* __restrict__ gamma2, T* __restrict__ coefficients) {
  double total[NormKernels<T>::kGrad2Sums];
  if (!total_sums(channels, chunks, partial, total)) return;
  const int64_t j = total_channel();
  const double s = double(inv_std[j]), scale = double(gamma[j]) * s;
  const double aj = a ? double(a[j]) : 0, bj = b ? double(b[j]) : 0;
  // Means of m, m xh, u, u xh, and the covariance that is left of m and u.
  const double m0 = total[0] / rows, m1 = s * total[1] / rows, u0 = total[2] / rows, u1 = s * total[3] / rows;
  const double q = total[4] / rows - m0 * u0 - m1 * u1;
  const double h0 = aj * m0 - scale * (u1 * m0 + m1 * u0), h1 = aj * m1 - 2 * scale * u1 * m1;
  if (gamma2) gamma2[j] = T(rows * s * q);
  const double values[NormKernels<T>::kGrad2Coefficients] = {
      scale, s * (aj - scale * u1), bj - scale * u0, -s * scale * m1, -s * s * (h1 + scale * q), -s * h0};
  SINEW_UNROLL
  for (int i = 0; i < NormKernels<T>::kGrad2Coefficients; ++i) coefficients[i * channels + j] = T(values[i]);
}

template <class T, int kWidth, NormMask kMask>
__global__ void __launch_bounds__(kColumnThreads, 2)
    apply_grad2(int64_t rows, int64_t channels, int64_t chunk, const T* __restrict__ g, const T* __restrict__ x,
                const T* __restrict__ y, const T* __restrict__ u, const T* __restrict__ r, const T* __restrict__ mean,
                const T* __restrict__ beta, const T* __restrict__ coefficients, T* __restrict__ g2,
                T* __restrict__ x2) {
  const RowWalk walk(rows, channels, chunk, kWidth);
  if (!walk.inside) return;
  struct In {
    Values<T, kWidth> g, x, u, y, r;
  };
  const auto coefficient = [&](int i) { return load_each<kWidth>(coefficients + i * channels + walk.channel); };
  Channels<T, kWidth, kMask> c{};
  c.mean = load_each<kWidth>(mean + walk.channel);
  c.scale = coefficient(0);
  if constexpr (kMask == NormMask::from_x) c.beta = load_each<kWidth>(beta + walk.channel);
  const Values<T, kWidth> gd = coefficient(1), g1 = coefficient(2);
  const Values<T, kWidth> xu = coefficient(3), xd = coefficient(4), x1 = coefficient(5);
  walk_rows<2>(
      walk,
      [=](int64_t, int64_t at) {
        In in{};
        in.g = load<kWidth>(g + at);
        in.x = load<kWidth>(x + at);
        in.u = load<kWidth>(u + at);
        if constexpr (kMask == NormMask::from_y) {
          in.y = load<kWidth>(y + at);
          in.r = load<kWidth>(r + at);
        }
        return in;
      },
      [&](const In& in, int64_t at) {
        Values<T, kWidth> to_g, to_x;
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          const T d = in.x.v[j] - c.mean.v[j], rectified = kMask == NormMask::from_y ? in.y.v[j] : T(0);
          const T m = c.masked(j, in.g.v[j], d, rectified), uj = in.u.v[j];
          T v = c.scale.v[j] * uj + (gd.v[j] * d + g1.v[j]);
          if constexpr (kMask == NormMask::from_y) v += in.r.v[j];
          to_g.v[j] = c.masked(j, v, d, rectified);
          to_x.v[j] = (gd.v[j] * m + xu.v[j] * uj) + (xd.v[j] * d + x1.v[j]);
        }
        store(g2 + at, to_g);
        store(x2 + at, to_x);
      });
}

}  // namespace

// kernel<T, width, ...> for groups of kColumnWidth or for single elements.
#define SINEW_BY_WIDTH(title, kernel, ...)                             \
  if (packs) return {title, &kernel<T, kColumnWidth<T>, __VA_ARGS__>}; \
  return {title ", unaligned", &kernel<T, 1, __VA_ARGS__>};
#define SINEW_BY_MASK(title, kernel)                \
  if (mask == NormMask::from_x) {                   \
    SINEW_BY_WIDTH(title, kernel, NormMask::from_x) \
  }                                                 \
  if (mask == NormMask::from_y) {                   \
    SINEW_BY_WIDTH(title, kernel, NormMask::from_y) \
  }                                                 \
  SINEW_BY_WIDTH(title, kernel, NormMask::none)

template <class T>
auto NormKernels<T>::statistics(bool packs) -> Statistics {
  if (packs) return {"batch norm statistics", &sum_statistics<T, kColumnWidth<T>>};
  return {"batch norm statistics, unaligned", &sum_statistics<T, 1>};
}
template <class T>
auto NormKernels<T>::finish_statistics() -> FinishStatistics {
  return {"batch norm statistics' totals", &total_statistics<T>};
}
template <class T>
auto NormKernels<T>::affine(bool packs, bool residual) -> Affine {
  if (residual) {
    SINEW_BY_WIDTH("channel affine with residual", apply_affine, true)
  }
  SINEW_BY_WIDTH("channel affine", apply_affine, false)
}

template <class T>
auto NormKernels<T>::grad_sums(bool packs, NormMask mask) -> GradSums {
  SINEW_BY_MASK("batch norm grad's sums", sum_grad)
}
template <class T>
auto NormKernels<T>::finish_grad() -> FinishGrad {
  return {"batch norm grad's totals", &total_grad<W>};
}
template <class T>
auto NormKernels<T>::grad(bool packs, NormMask mask, bool accumulate) -> Grad {
  if (mask == NormMask::from_x) {
    if (accumulate) {
      SINEW_BY_WIDTH("batch norm grad, added", apply_grad, NormMask::from_x, true)
    }
    SINEW_BY_WIDTH("batch norm grad", apply_grad, NormMask::from_x, false)
  }
  if (accumulate) {
    SINEW_BY_WIDTH("batch norm grad, added", apply_grad, NormMask::none, true)
  }
  SINEW_BY_WIDTH("batch norm grad", apply_grad, NormMask::none, false)
}

template <class T>
auto NormKernels<T>::grad2_sums(bool packs, NormMask mask) -> Grad2Sums {
  if constexpr (std::is_same_v<T, W>) {
    SINEW_BY_MASK("batch norm grad2's sums", sum_grad2)
  }
  return {};
}
template <class T>
auto NormKernels<T>::finish_grad2() -> FinishGrad2 {
  if constexpr (std::is_same_v<T, W>) return {"batch norm grad2's totals", &total_grad2<T>};
  return {};
}
template <class T>
auto NormKernels<T>::grad2(bool packs, NormMask mask) -> Grad2 {
  if constexpr (std::is_same_v<T, W>) {
    SINEW_BY_MASK("batch norm grad2", apply_grad2)
  }
  return {};
}
#undef SINEW_BY_MASK
#undef SINEW_BY_WIDTH

template struct NormKernels<float>;
template struct NormKernels<double>;
template struct NormKernels<bfloat16>;  // but for grad2

}  // namespace sinew::cuda::SINEW_CUDA_NS
