// Vector kernels of flat vectors and update rules: one pass over memory each.
#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {

void axpby(const kernel::AxpbyArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    const T* x = static_cast<const T*>(args.x);
    const T* y = static_cast<const T*>(args.y);
    T* z = static_cast<T*>(args.z);
    const T a = static_cast<T>(args.a), b = static_cast<T>(args.b);
    parallel_elements(args.n, [=](int64_t begin, int64_t end) {
      if (b == T(0)) {
        for (int64_t i = begin; i < end; ++i) z[i] = a * x[i];
      } else if (b == T(1)) {
        for (int64_t i = begin; i < end; ++i) z[i] = a * x[i] + y[i];
      } else {
        for (int64_t i = begin; i < end; ++i) z[i] = a * x[i] + b * y[i];
      }
    });
  })
}

void dot(const kernel::DotArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    const T* x = static_cast<const T*>(args.x);
    const T* y = static_cast<const T*>(args.y);
    *args.result =
        parallel_sum(args.n, [=](int64_t i) { return static_cast<double>(x[i]) * static_cast<double>(y[i]); });
  })
}

namespace {
// The block keeps x and c in cache between the move and the distance.
template <class T>
double elastic_block(const kernel::ElasticArgs& args, int64_t begin, int64_t end) {
  T* x = static_cast<T*>(args.x);
  T* c = static_cast<T*>(args.c);
  T* d = static_cast<T*>(args.d);
  const T alpha = static_cast<T>(args.alpha);
  double distance2 = 0;
  if (args.distance2)
    distance2 = block_sum(end - begin, [=](int64_t i) {
      const double e = static_cast<double>(x[begin + i]) - static_cast<double>(c[begin + i]);
      return e * e;
    });
  if (d && !args.move_x && !args.move_c) {
    for (int64_t i = begin; i < end; ++i) d[i] = alpha * (x[i] - c[i]);
    return distance2;
  }
  for (int64_t i = begin; i < end; ++i) {
    const T e = alpha * (x[i] - c[i]);
    if (d) d[i] = e;
    if (args.move_x) x[i] -= e;
    if (args.move_c) c[i] += e;
  }
  return distance2;
}
}  // namespace

void elastic(const kernel::ElasticArgs& args) {
  const int64_t blocks = (args.n + kSumBlock - 1) / kSumBlock;
  double* partial = static_cast<double*>(malloc(static_cast<size_t>(max64(blocks, 1)) * sizeof(double)));
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    parallel_blocks(args.n, kSumBlock, args.n, [&](int64_t begin, int64_t end) {
      partial[begin / kSumBlock] = elastic_block<T>(args, begin, end);
    });
  })
  if (args.distance2) {
    double total = 0;
    for (int64_t i = 0; i < blocks; ++i) total += partial[i];
    *args.distance2 = total;
  }
  free(partial);
}

}  // namespace sinew::SINEW_CPU_NS
