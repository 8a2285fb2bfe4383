// Gather, scatter-add, one-hot, softmax, cross entropy, dropout, random numbers.
#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {

void gather(const kernel::GatherArgs& args) {
  const size_t row = static_cast<size_t>(args.width) * size_of(args.dtype);
  const char* x = static_cast<const char*>(args.x);
  char* y = static_cast<char*>(args.y);
  parallel_blocks(args.n, max64(1, (1 << 13) / max64(args.width, 1)), args.n * args.width,
                  [=](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i)
                      memcpy(y + static_cast<size_t>(i) * row, x + static_cast<size_t>(args.index[i]) * row, row);
                  });
}

void scatter_add(const kernel::ScatterAddArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    const T* x = static_cast<const T*>(args.x);
    T* y = static_cast<T*>(args.y);
    memset(y, 0, static_cast<size_t>(args.rows * args.width) * sizeof(T));
    // Parallel over columns only: each output row receives its contributions in increasing i.
    parallel_blocks(args.width, 256, args.n * args.width, [=](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < args.n; ++i) {
        const T* from = x + i * args.width;
        T* to = y + args.index[i] * args.width;
        for (int64_t c = begin; c < end; ++c) to[c] += from[c];
      }
    });
  })
}

void one_hot(const kernel::OneHotArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    T* y = static_cast<T*>(args.y);
    memset(y, 0, static_cast<size_t>(args.n * args.classes) * sizeof(T));
    for (int64_t i = 0; i < args.n; ++i) y[i * args.classes + args.index[i]] = T(1);
  })
}

namespace {
template <class T>
T row_max(const T* x, int64_t cols) {
  T m = x[0];
  for (int64_t c = 1; c < cols; ++c) m = x[c] > m || x[c] != x[c] ? x[c] : m;
  return m;
}
}  // namespace

void softmax(const kernel::SoftmaxArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    const T* xs = static_cast<const T*>(args.x);
    T* ys = static_cast<T*>(args.y);
    parallel_blocks(args.rows, 64, args.rows * args.cols, [=](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* x = xs + r * args.cols;
        T* y = ys + r * args.cols;
        const T m = row_max(x, args.cols);
        T total = 0;
        for (int64_t c = 0; c < args.cols; ++c) {
          const T e = op::fn::exp(x[c] - m);
          total += e;
          if (!args.log) y[c] = e;
        }
        if (args.log) {
          const T lse = m + op::fn::log(total);
          for (int64_t c = 0; c < args.cols; ++c) y[c] = x[c] - lse;
        } else {
          const T inverse = T(1) / total;
          for (int64_t c = 0; c < args.cols; ++c) y[c] *= inverse;
        }
      }
    });
  })
}

void cross_entropy(const kernel::CrossEntropyArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    const T* xs = static_cast<const T*>(args.x);
    T* dxs = static_cast<T*>(args.dx);
    const T scale = (args.scale ? *static_cast<const T*>(args.scale) : T(1)) / static_cast<T>(args.rows);
    auto row = [=](int64_t r) {
      const T* x = xs + r * args.cols;
      const T m = row_max(x, args.cols);
      T total = 0;
      for (int64_t c = 0; c < args.cols; ++c) {
        const T e = op::fn::exp(x[c] - m);
        total += e;
        if (dxs) dxs[r * args.cols + c] = e;
      }
      if (dxs) {
        T* dx = dxs + r * args.cols;
        const T factor = scale / total;
        for (int64_t c = 0; c < args.cols; ++c) dx[c] *= factor;
        dx[args.labels[r]] -= scale;
      }
      return static_cast<double>(m + op::fn::log(total) - x[args.labels[r]]);
    };
    double total = 0;
    if (args.loss) {
      for (int64_t r = 0; r < args.rows; ++r) total += row(r);
      *static_cast<T*>(args.loss) = static_cast<T>(total / static_cast<double>(args.rows));
    } else {
      parallel_blocks(args.rows, 64, args.rows * args.cols, [=](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) (void)row(r);
      });
    }
  })
}

void dropout(const kernel::DropoutArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, {
    const T* x = static_cast<const T*>(args.x);
    T* y = static_cast<T*>(args.y);
    const float keep = static_cast<float>(args.keep);
    const Wide<T> scale = static_cast<Wide<T>>(1.0 / args.keep);
    parallel_blocks(args.n, 1 << 12, args.n, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += 4) {
        const PhiloxBlock block = philox_block(args.key, static_cast<uint64_t>(i / 4));
        for (int64_t k = 0; k < 4 && i + k < end; ++k)
          y[i + k] = static_cast<T>(uniform01(block.v[k]) < keep ? x[i + k] * scale : Wide<T>(0));
      }
    });
  })
}

void random(const kernel::RandomArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    T* y = static_cast<T*>(args.y);
    const T p0 = static_cast<T>(args.p0), p1 = static_cast<T>(args.p1);
    parallel_blocks(args.n, 1 << 12, args.n * 8, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += 4) {
        const PhiloxBlock block = philox_block(args.key, static_cast<uint64_t>(i / 4));
        T value[4] = {};
        for (int k = 0; k < 4; ++k) {
          switch (args.dist) {
            case RandomDist::uniform:
              value[k] = p0 + (p1 - p0) * static_cast<T>(uniform01(block.v[k]));
              break;
            case RandomDist::rademacher:
              value[k] = block.v[k] >> 31 ? T(1) : T(-1);
              break;
            case RandomDist::normal: {  // Box-Muller on the pair (k & ~1, k | 1); 1 - u keeps the log finite
              const T u = T(1) - static_cast<T>(uniform01(block.v[k & ~1]));
              const T angle = T(6.283185307179586) * static_cast<T>(uniform01(block.v[k | 1]));
              const T radius = op::fn::sqrt(T(-2) * op::fn::log(u));
              value[k] = p0 + p1 * radius * (k % 2 ? op::fn::sin(angle) : op::fn::cos(angle));
              break;
            }
          }
        }
        for (int64_t k = 0; k < 4 && i + k < end; ++k) y[i + k] = value[k];
      }
    });
  })
}

}  // namespace sinew::SINEW_CPU_NS
