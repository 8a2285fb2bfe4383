// The optimizers' rules, one pass over memory each, and the mean over blocks of the Hessian's diagonal.
//
// Bound by memory: SGD with momentum moves 5 numbers per element, Adam and AdaHessian 7 (8 with a new diagonal).
#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// The part that all rules share (kernel::UpdateFrame), for one range of elements.
template <class T>
struct Frame {
  T* x;
  const T* g;
  T grad_scale, decay, keep, x_scale;
  explicit Frame(const kernel::UpdateFrame& f)
      : x(static_cast<T*>(f.x)),
        g(static_cast<const T*>(f.g)),
        grad_scale(static_cast<T>(f.grad_scale)),
        decay(static_cast<T>(f.weight_decay)),
        keep(static_cast<T>(1.0 - f.decoupled)),
        x_scale(static_cast<T>(f.x_scale)) {}
  T gradient(int64_t i) const { return grad_scale * g[i] + decay * x[i]; }
  void update(int64_t i, T u) const { x[i] = keep * x[i] + x_scale * u; }
};

// m = beta m + (1 - beta) value; returns the new m.
template <class T>
struct Average {
  T* m;
  T beta, rest;
  Average(void* values, double b)
      : m(static_cast<T*>(values)), beta(static_cast<T>(b)), rest(static_cast<T>(1.0 - b)) {}
  T add(int64_t i, T value) const { return m[i] = beta * m[i] + rest * value; }
};

// The vectors of one call do not overlap, which the compiler cannot know.
#define SINEW_EACH_ELEMENT _Pragma("GCC ivdep") for (int64_t i = begin; i < end; ++i)

template <class T, bool kMomentum, bool kNesterov, bool kDecay>
void sgd_range(const kernel::SgdArgs& args, int64_t begin, int64_t end) {
  T* __restrict x = static_cast<T*>(args.x);
  const T* __restrict g = static_cast<const T*>(args.g);
  T* __restrict v = static_cast<T*>(args.v);
  const T grad_scale = static_cast<T>(args.grad_scale), decay = static_cast<T>(args.weight_decay);
  const T momentum = static_cast<T>(args.momentum), v_scale = static_cast<T>(args.v_scale);
  const T keep = static_cast<T>(1.0 - args.decoupled), x_scale = static_cast<T>(args.x_scale);
  for (int64_t i = begin; i < end; ++i) {
    T u = grad_scale * g[i];
    if (kDecay) u += decay * x[i];
    if (kMomentum) {
      const T w = momentum * v[i] + v_scale * u;
      v[i] = w;
      u = kNesterov ? u + momentum * w : w;
    }
    const T old = kDecay ? keep * x[i] : x[i];
    x[i] = old + x_scale * u;
  }
}

template <class T>
void adam_range(const kernel::AdamArgs& args, int64_t begin, int64_t end) {
  const Frame<T> frame(args);
  const Average<T> m(args.m, args.beta1), v(args.v, args.beta2);
  const T m_scale = static_cast<T>(args.m_scale), v_scale = static_cast<T>(args.v_scale);
  const T eps = static_cast<T>(args.eps);
  SINEW_EACH_ELEMENT {
    const T g = frame.gradient(i);
    const T size = op::fn::sqrt(v_scale * v.add(i, g * g));
    frame.update(i, m_scale * m.add(i, g) / (size + eps));
  }
}

// kPower: 1 the curvature itself, 2 its square root, 0 any power.
template <class T, bool kNew, int kPower>
void adahessian_range(const kernel::AdaHessianArgs& args, int64_t begin, int64_t end) {
  const Frame<T> frame(args);
  const Average<T> m(args.m, args.beta1), v(args.v, args.beta2);
  const T* d = static_cast<const T*>(args.d);
  const T m_scale = static_cast<T>(args.m_scale), v_scale = static_cast<T>(args.v_scale);
  const T power = static_cast<T>(args.power), eps = static_cast<T>(args.eps);
  SINEW_EACH_ELEMENT {
    T size = op::fn::sqrt(v_scale * (kNew ? v.add(i, d[i] * d[i]) : v.m[i]));
    if (kPower == 2) size = op::fn::sqrt(size);
    if (kPower == 0) size = op::fn::pow(size, power);
    frame.update(i, m_scale * m.add(i, frame.gradient(i)) / (size + eps));
  }
}

template <class T, bool kNew>
void sophia_range(const kernel::SophiaArgs& args, int64_t begin, int64_t end) {
  const Frame<T> frame(args);
  const Average<T> m(args.m, args.beta1), h(args.h, args.beta2);
  const T* d = static_cast<const T*>(args.d);
  const T m_scale = static_cast<T>(args.m_scale), rho = static_cast<T>(args.rho), eps = static_cast<T>(args.eps);
  SINEW_EACH_ELEMENT {
    const T curvature = rho * (kNew ? h.add(i, d[i]) : h.m[i]);
    const T u = m_scale * m.add(i, frame.gradient(i)) / (curvature > eps ? curvature : eps);
    frame.update(i, u > T(1) ? T(1) : u < T(-1) ? T(-1) : u);
  }
}

template <class T>
void lion_range(const kernel::LionArgs& args, int64_t begin, int64_t end) {
  const Frame<T> frame(args);
  const Average<T> m(args.m, args.beta2);
  const T beta1 = static_cast<T>(args.beta1), rest1 = static_cast<T>(1.0 - args.beta1);
  SINEW_EACH_ELEMENT {
    const T g = frame.gradient(i);
    const T c = beta1 * m.m[i] + rest1 * g;
    m.add(i, g);
    frame.update(i, c > T(0) ? T(1) : c < T(0) ? T(-1) : T(0));
  }
}
#undef SINEW_EACH_ELEMENT

// One block of `count` rows of `inner` elements, some columns at a time.
template <class T>
void mean_of_block(T* x, int64_t count, int64_t inner, bool absolute) {
  constexpr int64_t kColumns = 64;
  for (int64_t first = 0; first < inner; first += kColumns) {
    const int64_t columns = min64(kColumns, inner - first);
    T sum[kColumns] = {};
    for (int64_t k = 0; k < count; ++k) {
      const T* row = x + k * inner + first;
      for (int64_t i = 0; i < columns; ++i) sum[i] += absolute ? op::abs::apply(row[i], T(0), T(0)) : row[i];
    }
    for (int64_t i = 0; i < columns; ++i) sum[i] /= static_cast<T>(count);
    for (int64_t k = 0; k < count; ++k)
      for (int64_t i = 0; i < columns; ++i) x[k * inner + first + i] = sum[i];
  }
}

}  // namespace

void sgd(const kernel::SgdArgs& args) {
  const bool decay = args.weight_decay != 0 || args.decoupled != 0;
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    using Range = void (*)(const kernel::SgdArgs&, int64_t, int64_t);
    Range range;
    if (!args.v)
      range = decay ? sgd_range<T, false, false, true> : sgd_range<T, false, false, false>;
    else if (args.nesterov)
      range = decay ? sgd_range<T, true, true, true> : sgd_range<T, true, true, false>;
    else
      range = decay ? sgd_range<T, true, false, true> : sgd_range<T, true, false, false>;
    parallel_elements(args.n, [&](int64_t begin, int64_t end) { range(args, begin, end); });
  })
}

void adam(const kernel::AdamArgs& args) {
  KERNEL_DISPATCH_FLOAT(
      args.dtype, { parallel_elements(args.n, [&](int64_t begin, int64_t end) { adam_range<T>(args, begin, end); }); })
}

void adahessian(const kernel::AdaHessianArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    using Range = void (*)(const kernel::AdaHessianArgs&, int64_t, int64_t);
    Range range;
    if (args.power == 1)
      range = args.d ? adahessian_range<T, true, 1> : adahessian_range<T, false, 1>;
    else if (args.power == 0.5)
      range = args.d ? adahessian_range<T, true, 2> : adahessian_range<T, false, 2>;
    else
      range = args.d ? adahessian_range<T, true, 0> : adahessian_range<T, false, 0>;
    parallel_elements(args.n, [&](int64_t begin, int64_t end) { range(args, begin, end); });
  })
}

void sophia(const kernel::SophiaArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    parallel_elements(args.n, [&](int64_t begin, int64_t end) {
      args.d ? sophia_range<T, true>(args, begin, end) : sophia_range<T, false>(args, begin, end);
    });
  })
}

void lion(const kernel::LionArgs& args) {
  KERNEL_DISPATCH_FLOAT(
      args.dtype, { parallel_elements(args.n, [&](int64_t begin, int64_t end) { lion_range<T>(args, begin, end); }); })
}

void block_mean(const kernel::BlockMeanArgs& args) {
  const int64_t blocks = (args.length + args.block - 1) / args.block;  // of one outer index
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    T* x = static_cast<T*>(args.x);
    parallel_blocks(args.outer * blocks, 16, args.outer * args.length * args.inner, [=](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b % blocks * args.block;
        mean_of_block(x + (b / blocks * args.length + first) * args.inner, min64(args.block, args.length - first),
                      args.inner, args.absolute);
      }
    });
  })
}

}  // namespace sinew::SINEW_CPU_NS
