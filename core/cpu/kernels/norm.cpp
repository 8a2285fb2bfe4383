// Batch norm and its first and second derivatives (formulas: core/ops/norm.cpp). Bound by memory: each does one pass
// that reads for the sums of a channel and one that writes. T is the data's type, A = Wide<T> the vectors', the sums'
// and the arithmetic's.
#include "core/cpu/kernels/channels.h"
#include "core/cpu/kernels/simd.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// Elements a chunk: small enough for the second look at a chunk to come from the first-level cache.
constexpr int64_t kStatisticsChunk = 1 << 12, kSumsChunk = 1 << 14;
// Results of the second derivative from this many elements on leave the second-level cache anyhow.
constexpr int64_t kPastCaches = 1 << 18;

// Where the rectifier's mask comes from.
enum class Mask { none, from_x, from_y };

// Mean and sum of squared deviations of each channel. A chunk's deviations are taken from its own mean, and the chunks
// are combined by Chan, Golub and LeVeque (1983), so that a mean far from zero does not cost digits.
template <class T>
void statistics(const Channels& c, const T* x, double* mean, double* m2) {
  using A = Wide<T>;
  const int64_t channels = c.channels, rows = c.elements / channels;
  Scratch<double> partial(2 * c.chunks * channels);
  parallel_chunks<A>(c, 2 * c.length, [&](int64_t chunk, int64_t begin, int64_t end, A* lanes) {
    A* __restrict pivot = lanes + c.length;
    double* sum = &partial[2 * chunk * channels];
    lane_sums<1>(c, begin, end, lanes, [=](int64_t i, int64_t, A* v) { v[0] += x[i]; });
    fold(c, lanes, sum);
    const double inverse = static_cast<double>(channels) / static_cast<double>(end - begin);
    for (int64_t j = 0; j < channels; ++j) pivot[j] = static_cast<A>(sum[j] * inverse);
    repeat(c, pivot);
    lane_sums<1>(c, begin, end, lanes, [=](int64_t i, int64_t l, A* v) {
      const A d = x[i] - pivot[l];
      v[0] += d * d;
    });
    fold(c, lanes, sum + channels);
  });
  for (int64_t j = 0; j < channels; ++j) mean[j] = m2[j] = 0;
  for (int64_t k = 0; k < c.chunks; ++k)
    for (int64_t j = 0; j < channels; ++j) mean[j] += partial[2 * k * channels + j];
  for (int64_t j = 0; j < channels; ++j) mean[j] /= static_cast<double>(rows);
  for (int64_t k = 0; k < c.chunks; ++k) {
    const double n = static_cast<double>((min64(c.elements, (k + 1) * c.chunk) - k * c.chunk) / channels);
    const double* sum = &partial[2 * k * channels];
    for (int64_t j = 0; j < channels; ++j) {
      const double d = sum[j] / n - mean[j];
      m2[j] += sum[channels + j] + n * d * d;
    }
  }
}

// y = act((x - center) * scale + shift + residual); the vectors are repeated.
template <class T, bool kResidual, bool kRelu>
void affine_pass(const Channels& c, const T* x, const Wide<T>* center, const Wide<T>* scale, const Wide<T>* shift,
                 const T* residual, T* y) {
  using A = Wide<T>;
  for_elements<A>(c, [=](int64_t i, int64_t l) {
    A v = (x[i] - center[l]) * scale[l] + shift[l];
    if (kResidual) v += residual[i];
    y[i] = static_cast<T>(kRelu && v <= A(0) ? A(0) : v);
  });
}
template <class T>
void affine_pass(const Channels& c, bool relu, const T* x, const Wide<T>* center, const Wide<T>* scale,
                 const Wide<T>* shift, const T* residual, T* y) {
  auto pass = residual ? (relu ? affine_pass<T, true, true> : affine_pass<T, true, false>)
                       : (relu ? affine_pass<T, false, true> : affine_pass<T, false, false>);
  pass(c, x, center, scale, shift, residual, y);
}

// Per-channel vectors of T, repeated to the length of a walk.
template <class T>
class ChannelVectors {
 public:
  ChannelVectors(const Channels& c, int n) : c_(c), data_(n * c.length) {}
  T* operator[](int i) const { return data_.get() + i * c_.length; }
  // Vector i from a pointer to `channels` values, or from a formula.
  const T* load(int i, const void* values) const {
    memcpy((*this)[i], values, static_cast<size_t>(c_.channels) * sizeof(T));
    repeat(c_, (*this)[i]);
    return (*this)[i];
  }
  template <class Fn>
  const T* make(int i, Fn fn) const {
    for (int64_t j = 0; j < c_.channels; ++j) (*this)[i][j] = static_cast<T>(fn(j));
    repeat(c_, (*this)[i]);
    return (*this)[i];
  }

 private:
  Channels c_;
  Scratch<T> data_;
};

template <class T>
void batch_norm_typed(const kernel::BatchNormArgs& args) {
  const Channels c = channels_of(args.rows, args.channels, kStatisticsChunk);
  using A = Wide<T>;
  const double rows = static_cast<double>(args.rows);
  const A *gamma = static_cast<const A*>(args.gamma), *beta = static_cast<const A*>(args.beta);
  A *mean = static_cast<A*>(args.mean), *inv_std = static_cast<A*>(args.inv_std);
  A* variance = static_cast<A*>(args.variance);
  Scratch<double> totals(2 * c.channels);
  statistics(c, static_cast<const T*>(args.x), totals.get(), &totals[c.channels]);
  for (int64_t j = 0; j < c.channels; ++j) {
    const double m2 = totals[c.channels + j];
    mean[j] = static_cast<A>(totals[j]);
    inv_std[j] = static_cast<A>(1.0 / op::fn::sqrt(m2 / rows + args.eps));
    variance[j] = static_cast<A>(m2 / (rows - 1));
  }
  ChannelVectors<A> v(c, 3);
  affine_pass<T>(c, args.relu, static_cast<const T*>(args.x), v.load(0, mean),
                 v.make(1, [=](int64_t j) { return gamma[j] * inv_std[j]; }), v.load(2, beta),
                 static_cast<const T*>(args.residual), static_cast<T*>(args.y));
}

// g where the rectifier let the element through; v is its input as affine_pass computed it.
template <class T, Mask kMask>
inline T masked(T g, T centered, T scale, T beta, T y) {
  if (kMask == Mask::from_x) return centered * scale + beta > T(0) ? g : T(0);
  if (kMask == Mask::from_y) return y > T(0) ? g : T(0);
  return g;
}

template <class T, Mask kMask, bool kAccumulate>
void batch_norm_grad_typed(const kernel::BatchNormGradArgs& args) {
  using A = Wide<T>;
  const Channels c = channels_of(args.rows, args.channels, kSumsChunk);
  const double n = static_cast<double>(args.rows);
  const T *g = static_cast<const T*>(args.g), *x = static_cast<const T*>(args.x), *y = static_cast<const T*>(args.y);
  const A *gamma = static_cast<const A*>(args.gamma), *inv_std = static_cast<const A*>(args.inv_std);
  T* through = static_cast<T*>(args.dresidual);
  ChannelVectors<A> v(c, 5);
  const A *mean = v.load(0, args.mean), *beta = v.load(1, args.beta);
  const A* scale = v.make(2, [=](int64_t j) { return gamma[j] * inv_std[j]; });
  Scratch<double> totals(2 * c.channels);
  channel_sums<2, A>(c, totals.get(), [=](int64_t i, int64_t l, A* sum) {
    const A d = x[i] - mean[l], gv = g[i];
    const A m = masked<A, kMask>(gv, d, scale[l], beta[l], kMask == Mask::from_y ? A(y[i]) : A(0));
    if (kMask == Mask::from_y) through[i] = static_cast<T>(m);  // g or zero: exact
    sum[0] += m;
    sum[1] += m * d;
  });
  const double *g0 = totals.get(), *gd = &totals[c.channels];
  for (int64_t j = 0; j < c.channels; ++j) {
    if (args.dbeta) static_cast<A*>(args.dbeta)[j] = static_cast<A>(g0[j]);
    if (args.dgamma) static_cast<A*>(args.dgamma)[j] = static_cast<A>(gd[j] * static_cast<double>(inv_std[j]));
  }
  if (!args.dx) return;
  T* dx = static_cast<T*>(args.dx);
  const A* slope = v.make(3, [=](int64_t j) {
    const double s = static_cast<double>(inv_std[j]);
    return -static_cast<double>(gamma[j]) * s * s * s * gd[j] / n;
  });
  const A* offset = v.make(4, [=](int64_t j) { return -static_cast<double>(scale[j]) * g0[j] / n; });
  const T* from = kMask == Mask::from_y ? through : g;
  for_elements<A>(c, [=](int64_t i, int64_t l) {
    const A d = x[i] - mean[l], gv = from[i];
    const A m = kMask == Mask::from_x ? masked<A, kMask>(gv, d, scale[l], beta[l], A(0)) : gv;
    A v = scale[l] * m + (slope[l] * d + offset[l]);
    if (kAccumulate) v = dx[i] + static_cast<A>(static_cast<T>(v));
    dx[i] = static_cast<T>(v);
  });
}

// kMasked: so is g already.
template <class T, Mask kMask, bool kMasked>
void batch_norm_grad2_typed(const kernel::BatchNormGrad2Args& args) {
  constexpr Mask kMaskOfG = kMasked ? Mask::none : kMask;
  const Channels c = channels_of(args.rows, args.channels, kSumsChunk);
  const double n = static_cast<double>(args.rows);
  const T *g = static_cast<const T*>(args.g), *x = static_cast<const T*>(args.x), *y = static_cast<const T*>(args.y);
  const T *u = static_cast<const T*>(args.u), *r = static_cast<const T*>(args.r);
  const T *gamma = static_cast<const T*>(args.gamma), *inv_std = static_cast<const T*>(args.inv_std);
  const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
  ChannelVectors<T> v(c, 8);
  const T *mean = v.load(0, args.mean), *beta = v.load(1, args.beta);
  const T* scale = v.make(2, [=](int64_t j) { return gamma[j] * inv_std[j]; });
  const int64_t channels = c.channels;
  Scratch<double> totals(5 * channels);
  channel_sums<5, T>(c, totals.get(), [=](int64_t i, int64_t l, T* sum) {
    const T d = x[i] - mean[l], gv = g[i], uv = u[i];
    const T m = masked<T, kMaskOfG>(gv, d, scale[l], beta[l], kMaskOfG == Mask::from_y ? y[i] : T(0));
    sum[0] += m;
    sum[1] += m * d;
    sum[2] += uv;
    sum[3] += uv * d;
    sum[4] += m * uv;
  });
  T *to_gamma = static_cast<T*>(args.gamma2), *pu = v[3], *pd = v[4], *p1 = v[5], *xd = v[6], *x1 = v[7];
  Scratch<T> xu_store(c.length);
  T* xu = xu_store.get();
  for (int64_t j = 0; j < channels; ++j) {
    const double s = static_cast<double>(inv_std[j]), gs = static_cast<double>(gamma[j]) * s;
    const double aj = a ? static_cast<double>(a[j]) : 0, bj = b ? static_cast<double>(b[j]) : 0;
    // Means of m, m xh, u, u xh, and the covariance that is left of m and u.
    const double g0 = totals[j] / n, g1 = s * totals[channels + j] / n, u0 = totals[2 * channels + j] / n;
    const double u1 = s * totals[3 * channels + j] / n, q = totals[4 * channels + j] / n - g0 * u0 - g1 * u1;
    const double h0 = aj * g0 - gs * (u1 * g0 + g1 * u0), h1 = aj * g1 - 2 * gs * u1 * g1;
    if (to_gamma) to_gamma[j] = static_cast<T>(n * s * q);
    pu[j] = static_cast<T>(gs);
    pd[j] = static_cast<T>(s * (aj - gs * u1));
    p1[j] = static_cast<T>(bj - gs * u0);
    xu[j] = static_cast<T>(-s * gs * g1);
    xd[j] = static_cast<T>(-s * s * (h1 + gs * q));
    x1[j] = static_cast<T>(-s * h0);
  }
  T* const vectors[] = {pu, pd, p1, xu, xd, x1};
  for (T* vector : vectors) repeat(c, vector);
  T *g2 = static_cast<T*>(args.g2), *x2 = static_cast<T*>(args.x2);
  // Of the element i in lane l, or as many as what `read` returns.
  const auto element = [=](auto read, int64_t i, int64_t l, auto& to_g, auto& to_x) {
    auto d = read(x + i) - read(mean + l), uv = read(u + i), zero = decltype(d){};
    auto m = read(g + i);
    to_g = read(pu + l) * uv + (read(pd + l) * d + read(p1 + l));
    if constexpr (kMask == Mask::from_y) to_g += read(r + i);
    if constexpr (kMask != Mask::none) {
      const auto on = (kMask == Mask::from_y ? read(y + i) : d * read(scale + l) + read(beta + l)) > zero;
      if constexpr (kMaskOfG != Mask::none) m = on ? m : zero;
      to_g = on ? to_g : zero;
    }
    to_x = (read(pd + l) * m + read(xu + l) * uv) + (read(xd + l) * d + read(x1 + l));
  };
  const bool past_caches =
      c.elements >= kPastCaches && c.length % Simd<T>::kLanes == 0 && starts_vector(g2) && starts_vector(x2);
  parallel_chunks<T>(c, 0, [=](int64_t, int64_t begin, int64_t end, T*) {
    using Unaligned = typename Simd<T>::Unaligned;
    constexpr int64_t kLanes = Simd<T>::kLanes;
    const auto vector_at = [](const T* p) -> typename Simd<T>::V { return *reinterpret_cast<const Unaligned*>(p); };
    const auto one_at = [](const T* p) { return *p; };
    for (int64_t i = begin; i < end; i += c.length) {
      const int64_t count = min64(c.length, end - i);
      int64_t l = 0;
      for (; l + kLanes <= count; l += kLanes) {
        typename Simd<T>::V to_g, to_x;
        element(vector_at, i + l, l, to_g, to_x);
        if (past_caches) {
          store_past_caches(g2 + i + l, to_g);
          store_past_caches(x2 + i + l, to_x);
        } else {
          *reinterpret_cast<Unaligned*>(g2 + i + l) = to_g;
          *reinterpret_cast<Unaligned*>(x2 + i + l) = to_x;
        }
      }
      for (; l < count; ++l) element(one_at, i + l, l, g2[i + l], x2[i + l]);
    }
    if (past_caches) end_of_stores_past_caches();
  });
}

}  // namespace

void batch_norm(const kernel::BatchNormArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, batch_norm_typed<T>(args))
}

template <class T, bool kAccumulate>
static void batch_norm_grad_masked(const kernel::BatchNormGradArgs& args) {
  auto typed = !args.relu ? batch_norm_grad_typed<T, Mask::none, kAccumulate>
               : args.y   ? batch_norm_grad_typed<T, Mask::from_y, kAccumulate>
                          : batch_norm_grad_typed<T, Mask::from_x, kAccumulate>;
  typed(args);
}

void batch_norm_grad(const kernel::BatchNormGradArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, args.accumulate && args.dx ? batch_norm_grad_masked<T, true>(args)
                                                                       : batch_norm_grad_masked<T, false>(args))
}

void batch_norm_grad2(const kernel::BatchNormGrad2Args& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    auto typed = !args.relu    ? batch_norm_grad2_typed<T, Mask::none, false>
                 : !args.y     ? batch_norm_grad2_typed<T, Mask::from_x, false>
                 : args.masked ? batch_norm_grad2_typed<T, Mask::from_y, true>
                               : batch_norm_grad2_typed<T, Mask::from_y, false>;
    typed(args);
  })
}

void channel_affine(const kernel::ChannelAffineArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, {
    const Channels c = channels_of(args.rows, args.channels, kSumsChunk);
    ChannelVectors<Wide<T>> v(c, 3);
    affine_pass<T>(c, args.relu, static_cast<const T*>(args.x), v.load(0, args.center), v.load(1, args.scale),
                   v.load(2, args.shift), static_cast<const T*>(args.residual), static_cast<T*>(args.y));
  })
}

}  // namespace sinew::SINEW_CPU_NS
