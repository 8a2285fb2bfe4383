// Elementwise kernels and memory movement. Bound by memory except for the transcendental functions. The arithmetic on
// bf16 is f32's, rounded once.
#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {
namespace {

template <class Op, class T>
void unary_loop(const kernel::UnaryArgs& args) {
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  const Wide<T> p0 = static_cast<Wide<T>>(args.p0), p1 = static_cast<Wide<T>>(args.p1);
  parallel_elements(args.n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = static_cast<T>(Op::apply(Wide<T>(x[i]), p0, p1));
  });
}

template <class T>
void unary_typed(const kernel::UnaryArgs& args) {
  switch (args.op) {
#define SINEW_CASE(name)           \
  case UnaryOp::name:              \
    unary_loop<op::name, T>(args); \
    break;
    SINEW_UNARY_OPS(SINEW_CASE)
#undef SINEW_CASE
  }
}

// A row-major index space with up to three operands, innermost axis last.
struct Space {
  int ndim;
  int64_t shape[kMaxDims];
  int64_t stride_a[kMaxDims], stride_b[kMaxDims];
};

// Drops axes of extent 1 and merges neighbours that both operands walk evenly.
void collapse(Space& s) {
  Space out{};
  for (int i = 0; i < s.ndim; ++i) {
    if (s.shape[i] == 1) continue;
    int k = out.ndim;
    if (k > 0 && out.stride_a[k - 1] == s.shape[i] * s.stride_a[i] &&
        out.stride_b[k - 1] == s.shape[i] * s.stride_b[i]) {
      out.shape[k - 1] *= s.shape[i];
      out.stride_a[k - 1] = s.stride_a[i];
      out.stride_b[k - 1] = s.stride_b[i];
    } else {
      out.shape[k] = s.shape[i];
      out.stride_a[k] = s.stride_a[i];
      out.stride_b[k] = s.stride_b[i];
      ++out.ndim;
    }
  }
  if (out.ndim == 0) {
    out.ndim = 1;
    out.shape[0] = 1;
    out.stride_a[0] = out.stride_b[0] = 1;
  }
  s = out;
}

// Calls row(offset of a, offset of b, first output row number) for each run of the innermost axis.
template <class Row>
void for_rows(const Space& s, Row row) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < s.ndim; ++i) rows *= s.shape[i];
  const int64_t inner = s.shape[s.ndim - 1];
  const int64_t block = max64(1, (1 << 13) / max64(inner, 1));
  parallel_blocks(rows, block, rows * inner, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t rest = r, a = 0, b = 0;
      for (int i = s.ndim - 2; i >= 0; --i) {
        const int64_t k = rest % s.shape[i];
        rest /= s.shape[i];
        a += k * s.stride_a[i];
        b += k * s.stride_b[i];
      }
      row(a, b, r);
    }
  });
}

template <class Op, class T>
inline T apply(T a, T b) {
  return static_cast<T>(Op::apply(Wide<T>(a), Wide<T>(b)));
}

template <class Op, class T>
void binary_loop(const Space& s, const T* a, const T* b, T* y) {
  const int64_t inner = s.shape[s.ndim - 1];
  const int64_t sa = s.stride_a[s.ndim - 1], sb = s.stride_b[s.ndim - 1];
  if (s.ndim == 1 && sa == 1 && sb == 1) {
    parallel_elements(inner, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = apply<Op>(a[i], b[i]);
    });
    return;
  }
  for_rows(s, [=](int64_t oa, int64_t ob, int64_t r) {
    const T* pa = a + oa;
    const T* pb = b + ob;
    T* py = y + r * inner;
    if (sa == 1 && sb == 1) {
      for (int64_t i = 0; i < inner; ++i) py[i] = apply<Op>(pa[i], pb[i]);
    } else if (sa == 1 && sb == 0) {
      const T v = *pb;
      for (int64_t i = 0; i < inner; ++i) py[i] = apply<Op>(pa[i], v);
    } else {
      for (int64_t i = 0; i < inner; ++i) py[i] = apply<Op>(pa[i * sa], pb[i * sb]);
    }
  });
}

template <class T>
void binary_typed(const kernel::BinaryArgs& args) {
  Space s{};
  s.ndim = args.ndim;
  for (int i = 0; i < args.ndim; ++i) {
    if (args.shape[i] == 0) return;
    s.shape[i] = args.shape[i];
    s.stride_a[i] = args.stride_a[i];
    s.stride_b[i] = args.stride_b[i];
  }
  collapse(s);
  const T* a = static_cast<const T*>(args.a);
  const T* b = static_cast<const T*>(args.b);
  T* y = static_cast<T*>(args.y);
  switch (args.op) {
#define SINEW_CASE(name)               \
  case BinaryOp::name:                 \
    binary_loop<op::name>(s, a, b, y); \
    break;
    SINEW_BINARY_OPS(SINEW_CASE)
#undef SINEW_CASE
  }
}

template <class From, class To>
void cast_loop(const kernel::CastArgs& args) {
  const From* x = static_cast<const From*>(args.x);
  To* y = static_cast<To*>(args.y);
  parallel_elements(args.n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = static_cast<To>(x[i]);
  });
}

template <class Unit>
void strided_copy_typed(const kernel::StridedCopyArgs& args, const Space& s) {
  const Unit* x = static_cast<const Unit*>(args.x);
  Unit* y = static_cast<Unit*>(args.y);
  const int64_t inner = s.shape[s.ndim - 1];
  const int64_t sx = s.stride_a[s.ndim - 1], sy = s.stride_b[s.ndim - 1];
  for_rows(s, [=](int64_t ox, int64_t oy, int64_t) {
    const Unit* px = x + ox;
    Unit* py = y + oy;
    if (sx == 1 && sy == 1) {
      memcpy(py, px, static_cast<size_t>(inner) * sizeof(Unit));
    } else if (sx == 0 && sy == 1) {
      const Unit v = *px;
      for (int64_t i = 0; i < inner; ++i) py[i] = v;
    } else {
      for (int64_t i = 0; i < inner; ++i) py[i * sy] = px[i * sx];
    }
  });
}

}  // namespace

void unary(const kernel::UnaryArgs& args) { KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, unary_typed<T>(args)) }

void binary(const kernel::BinaryArgs& args) { KERNEL_DISPATCH_ALL(args.dtype, binary_typed<T>(args)) }

void where(const kernel::WhereArgs& args) {
  KERNEL_DISPATCH_ALL(args.dtype, {
    const T* m = static_cast<const T*>(args.mask);
    const T* a = static_cast<const T*>(args.a);
    const T* b = static_cast<const T*>(args.b);
    T* y = static_cast<T*>(args.y);
    parallel_elements(args.n, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = Wide<T>(m[i]) != Wide<T>(0) ? a[i] : b[i];
    });
  })
}

void fill(const kernel::FillArgs& args) {
  KERNEL_DISPATCH_ALL(args.dtype, {
    T* y = static_cast<T*>(args.y);
    const T value = static_cast<T>(args.value);
    parallel_elements(args.n, [=](int64_t begin, int64_t end) {
      const T v = value;  // a stored element could be the captured one
      for (int64_t i = begin; i < end; ++i) y[i] = v;
    });
  })
}

namespace {
template <class From>
void cast_from(const kernel::CastArgs& args) {
  KERNEL_DISPATCH_ALL(args.to, (cast_loop<From, T>(args)))
}
}  // namespace
void cast(const kernel::CastArgs& args) { KERNEL_DISPATCH_ALL(args.from, cast_from<T>(args)) }

void strided_copy(const kernel::StridedCopyArgs& args) {
  Space s{};
  s.ndim = args.ndim;
  for (int i = 0; i < args.ndim; ++i) {
    if (args.shape[i] == 0) return;
    s.shape[i] = args.shape[i];
    s.stride_a[i] = args.src_stride[i];
    s.stride_b[i] = args.dst_stride[i];
  }
  collapse(s);
  switch (size_of(args.dtype)) {
    case 1:
      strided_copy_typed<uint8_t>(args, s);
      break;
    case 2:
      strided_copy_typed<uint16_t>(args, s);
      break;
    case 4:
      strided_copy_typed<uint32_t>(args, s);
      break;
    default:
      strided_copy_typed<uint64_t>(args, s);
      break;
  }
}

}  // namespace sinew::SINEW_CPU_NS
