// The optimizers' rules, one pass over memory each, and the mean over blocks of the Hessian's diagonal.
//
// Updates: parallel over groups of 16 bytes in a grid-stride loop, all vectors of a group are asked for before any is
// used. Bytes per element in numbers: plain SGD 3, with momentum 5, Lion 5, Adam 7, AdaHessian and Sophia 6, with a new
// diagonal 8. Flops: 5 to 20, some with a root and a division; bound by memory.
// Block means: parallel over columns, a thread adds a column of a block of elements; or with inner == 1 over blocks of
// elements, some threads of a warp or all of a block on each, so that neighbours read neighbours. Bytes: 2 n sizeof(T).
// GPU figures: docs/gpu.md.
#include "cuda/device/vector.cuh"

#include "core/functors.h"
#include "cuda/kernels/optim.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

namespace fn = SINEW_FUNCTOR_NS::fn;

// What a rule sees of one element. Vectors that it does not have hold nothing.
template <class T>
struct Element {
  T x, g, m, v, d;
};

// A rule says which vectors it has, and which of them it writes (m whenever it has it); update() changes e.m and e.v
// and returns u. e.g is scaled and decayed already.
template <bool kMomentum, bool kNesterov>
struct Sgd {
  static constexpr bool kHasM = kMomentum, kHasV = false, kWritesV = false, kHasD = false;
  template <class T>
  SINEW_DEVICE static T update(const UpdateNumbers<T>& k, Element<T>& e) {
    if constexpr (!kMomentum) return e.g;
    e.m = k.beta1 * e.m + k.m_scale * e.g;
    return kNesterov ? e.g + k.beta1 * e.m : e.m;
  }
};

struct Adam {
  static constexpr bool kHasM = true, kHasV = true, kWritesV = true, kHasD = false;
  template <class T>
  SINEW_DEVICE static T update(const UpdateNumbers<T>& k, Element<T>& e) {
    e.v = k.beta2 * e.v + k.rest2 * (e.g * e.g);
    e.m = k.beta1 * e.m + k.rest1 * e.g;
    return k.m_scale * e.m / (fn::sqrt(k.v_scale * e.v) + k.eps);
  }
};

// kPower: 1 the curvature itself, 2 its square root, 0 any power.
template <int kPower, bool kNew>
struct AdaHessian {
  static constexpr bool kHasM = true, kHasV = true, kWritesV = kNew, kHasD = kNew;
  template <class T>
  SINEW_DEVICE static T update(const UpdateNumbers<T>& k, Element<T>& e) {
    if constexpr (kNew) e.v = k.beta2 * e.v + k.rest2 * (e.d * e.d);
    e.m = k.beta1 * e.m + k.rest1 * e.g;
    T size = fn::sqrt(k.v_scale * e.v);
    if constexpr (kPower == 2) size = fn::sqrt(size);
    if constexpr (kPower == 0) size = fn::pow(size, k.special);
    return k.m_scale * e.m / (size + k.eps);
  }
};

template <bool kNew>
struct Sophia {
  static constexpr bool kHasM = true, kHasV = true, kWritesV = kNew, kHasD = kNew;
  template <class T>
  SINEW_DEVICE static T update(const UpdateNumbers<T>& k, Element<T>& e) {
    if constexpr (kNew) e.v = k.beta2 * e.v + k.rest2 * e.d;
    e.m = k.beta1 * e.m + k.rest1 * e.g;
    const T curvature = k.special * e.v;
    const T u = k.m_scale * e.m / (curvature > k.eps ? curvature : k.eps);
    return u > T(1) ? T(1) : u < T(-1) ? T(-1) : u;
  }
};

struct Lion {
  static constexpr bool kHasM = true, kHasV = false, kWritesV = false, kHasD = false;
  template <class T>
  SINEW_DEVICE static T update(const UpdateNumbers<T>& k, Element<T>& e) {
    const T c = k.beta1 * e.m + k.rest1 * e.g;
    e.m = k.beta2 * e.m + k.rest2 * e.g;
    return c > T(0) ? T(1) : c < T(0) ? T(-1) : T(0);
  }
};

template <class R, class T>
__global__ void __launch_bounds__(kUpdateThreads)
    update(int64_t n, T* __restrict__ x, const T* __restrict__ g, T* __restrict__ m, T* __restrict__ v,
           const T* __restrict__ d, UpdateNumbers<T> numbers, bool aligned) {
  const int64_t groups = groups_of<T>(n), stride = int64_t(gridDim.x) * blockDim.x;
  const bool decays = numbers.decay != T(0), shrinks = numbers.keep != T(1);
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < groups; i += stride) {
    Pack<T> px = load_pack(x, i, n, aligned), pm, pv, pd;
    const Pack<T> pg = load_pack(g, i, n, aligned);
    if constexpr (R::kHasM) pm = load_pack(m, i, n, aligned);
    if constexpr (R::kHasV) pv = load_pack(v, i, n, aligned);
    if constexpr (R::kHasD) pd = load_pack(d, i, n, aligned);
    SINEW_UNROLL
    for (int j = 0; j < Pack<T>::kWidth; ++j) {
      Element<T> e{px.v[j], numbers.grad_scale * pg.v[j], T(0), T(0), T(0)};
      if constexpr (R::kHasM) e.m = pm.v[j];
      if constexpr (R::kHasV) e.v = pv.v[j];
      if constexpr (R::kHasD) e.d = pd.v[j];
      if (decays) e.g += numbers.decay * e.x;
      const T u = R::update(numbers, e);
      px.v[j] = (shrinks ? numbers.keep * e.x : e.x) + numbers.x_scale * u;
      if constexpr (R::kHasM) pm.v[j] = e.m;
      if constexpr (R::kWritesV) pv.v[j] = e.v;
    }
    store_pack(x, i, n, px, aligned);
    if constexpr (R::kHasM) store_pack(m, i, n, pm, aligned);
    if constexpr (R::kWritesV) store_pack(v, i, n, pv, aligned);
  }
}

// ---- block means ----

template <class T>
SINEW_DEVICE T term(T value, bool absolute) {
  return absolute && value < T(0) ? -value : value;
}

// A 64-bit division only where it is needed.
SINEW_DEVICE int64_t quotient(int64_t a, int64_t b) {
  return (a | b) >> 32 == 0 ? int64_t(uint32_t(a) / uint32_t(b)) : a / b;
}

// A thread asks for kTogether elements of its column at a time; neighbouring threads have neighbouring columns.
template <class T>
__global__ void __launch_bounds__(kUpdateThreads, 3)
    mean_columns(int64_t blocks, int64_t blocks_of_outer, int64_t block, int64_t length, int64_t inner, bool absolute,
                 T* x) {
  constexpr int kTogether = 9;  // filters of 3x3 in one go
  const int64_t columns = blocks * inner, stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < columns; i += stride) {
    const int64_t number = quotient(i, inner), outer = quotient(number, blocks_of_outer);
    const int64_t first = (number - outer * blocks_of_outer) * block;
    const int64_t count = length - first < block ? length - first : block;
    T* const column = x + (outer * length + first) * inner + (i - number * inner);
    T sum = T(0);
    for (int64_t k = 0; k < count; k += kTogether) {
      const T* from = column + k * inner;
      const int left = static_cast<int>(count - k < kTogether ? count - k : kTogether);
      T v[kTogether];
      SINEW_UNROLL
      for (int u = 0; u < kTogether; ++u, from += inner) v[u] = u < left ? *from : T(0);
      SINEW_UNROLL
      for (int u = 0; u < kTogether; ++u)
        if (u < left) sum += term(v[u], absolute);
    }
    sum /= static_cast<T>(count);
    T* to = column;
    for (int64_t k = 0; k < count; ++k, to += inner) *to = sum;
  }
}

template <class T, unsigned kThreads>
__global__ void __launch_bounds__(kUpdateThreads) mean_segments(int64_t blocks, int64_t blocks_of_outer, int64_t block,
                                                                int64_t length, int64_t, bool absolute, T* x) {
  constexpr unsigned kWarp = 32, kWarps = kUpdateThreads / kWarp, kPerBlock = kUpdateThreads / kThreads;
  const unsigned thread = threadIdx.x % kThreads;
  const int64_t number = int64_t(blockIdx.x) * kPerBlock + threadIdx.x / kThreads;
  const int64_t outer = quotient(number, blocks_of_outer);
  const int64_t first = (number - outer * blocks_of_outer) * block;
  const int64_t left = number < blocks ? length - first : 0;
  const int64_t count = left < block ? left : block;
  T* const segment = x + outer * length + first;
  T sum = T(0);
  for (int64_t k = thread; k < count; k += kThreads) sum += term(segment[k], absolute);
  SINEW_UNROLL
  for (int mask = int(kThreads < kWarp ? kThreads : kWarp) / 2; mask > 0; mask /= 2) sum += warp_shuffle_xor(sum, mask);
  if constexpr (kThreads > kWarp) {
    SINEW_SHARED(T, warps, [kWarps]);
    if (thread % kWarp == 0) warps[thread / kWarp] = sum;
    block_sync();
    sum = T(0);
    SINEW_UNROLL
    for (unsigned i = 0; i < kWarps; ++i) sum += warps[i];
  }
  sum /= static_cast<T>(count);
  for (int64_t k = thread; k < count; k += kThreads) segment[k] = sum;
}

}  // namespace

template <class T>
UpdateKernel<T> update_kernel(Rule rule) {
  switch (rule) {
    case Rule::sgd_plain:
      return {"sgd", &update<Sgd<false, false>, T>};
    case Rule::sgd_heavy_ball:
      return {"sgd with momentum", &update<Sgd<true, false>, T>};
    case Rule::sgd_nesterov:
      return {"sgd with Nesterov's momentum", &update<Sgd<true, true>, T>};
    case Rule::adam:
      return {"adam", &update<Adam, T>};
    case Rule::adahessian:
      return {"adahessian", &update<AdaHessian<1, false>, T>};
    case Rule::adahessian_new:
      return {"adahessian, new diagonal", &update<AdaHessian<1, true>, T>};
    case Rule::adahessian_half:
      return {"adahessian, power 1/2", &update<AdaHessian<2, false>, T>};
    case Rule::adahessian_half_new:
      return {"adahessian, power 1/2, new diagonal", &update<AdaHessian<2, true>, T>};
    case Rule::adahessian_power:
      return {"adahessian, any power", &update<AdaHessian<0, false>, T>};
    case Rule::adahessian_power_new:
      return {"adahessian, any power, new diagonal", &update<AdaHessian<0, true>, T>};
    case Rule::sophia:
      return {"sophia", &update<Sophia<false>, T>};
    case Rule::sophia_new:
      return {"sophia, new diagonal", &update<Sophia<true>, T>};
    case Rule::lion:
      return {"lion", &update<Lion, T>};
  }
  return {"update", nullptr};
}
template UpdateKernel<float> update_kernel(Rule rule);
template UpdateKernel<double> update_kernel(Rule rule);

template <class T>
BlockMeanKernel<T> block_mean_columns_kernel() {
  return {"block mean, columns", &mean_columns<T>};
}
template <class T>
BlockMeanKernel<T> block_mean_segments_kernel(unsigned threads) {
  if (threads == 8) return {"block mean, 8 threads", &mean_segments<T, 8>};
  if (threads == 32) return {"block mean, a warp", &mean_segments<T, 32>};
  return {"block mean, a block", &mean_segments<T, kUpdateThreads>};
}
template BlockMeanKernel<float> block_mean_columns_kernel();
template BlockMeanKernel<double> block_mean_columns_kernel();
template BlockMeanKernel<float> block_mean_segments_kernel(unsigned threads);
template BlockMeanKernel<double> block_mean_segments_kernel(unsigned threads);

}  // namespace sinew::cuda::SINEW_CUDA_NS
