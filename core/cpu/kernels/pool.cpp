// Pooling over N,H,W,C: every loop runs over the channels of one pixel. The transposes gather, for each pixel of the
// input, what the windows over it hold, so that no two threads write one place and the order of additions is fixed.
// Sums are kept in the type of the arithmetic, a strip of channels at a time, and rounded once.
#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// fn(image, row, first pixel's number) for rows of `width` pixels, in parallel.
template <class Fn>
void for_rows(const kernel::PoolArgs& a, int64_t height, int64_t width, Fn fn) {
  const int64_t rows = a.n * height, cost = width * a.c * a.kernel * a.kernel;
  parallel_blocks(rows, max64(1, (1 << 14) / cost), rows * cost, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) fn(row / height, row % height, row * width);
  });
}

// fn(offset in the window, pixel of x) for the pixels of the window at (p, q) that are not padding, in order.
template <class Fn>
inline void for_window(const kernel::PoolArgs& a, int64_t image, int64_t p, int64_t q, Fn fn) {
  const int64_t h0 = p * a.stride - a.pad, w0 = q * a.stride - a.pad;
  for (int64_t r = max64(0, -h0); r < min64(a.kernel, a.h - h0); ++r)
    for (int64_t s = max64(0, -w0); s < min64(a.kernel, a.w - w0); ++s)
      fn(r * a.kernel + s, (image * a.h + h0 + r) * a.w + w0 + s);
}

// fn(offset in the window, window's number) for the windows that cover pixel (h, w) of x, in order.
template <class Fn>
inline void for_windows_over(const kernel::PoolArgs& a, int64_t image, int64_t h, int64_t w, Fn fn) {
  auto first = [&](int64_t i) { return max64(0, (i + a.pad - a.kernel + a.stride) / a.stride); };
  const int64_t p1 = min64(a.p - 1, (h + a.pad) / a.stride), q1 = min64(a.q - 1, (w + a.pad) / a.stride);
  for (int64_t p = first(h); p <= p1; ++p)
    for (int64_t q = first(w); q <= q1; ++q)
      fn((h + a.pad - p * a.stride) * a.kernel + w + a.pad - q * a.stride, (image * a.p + p) * a.q + q);
}

constexpr int64_t kStrip = 256;

// y (a.c) = the sums of what visit(first channel, channels, sums) adds.
template <class T, class Visit>
inline void sum_pixel(const kernel::PoolArgs& a, T* y, Visit visit) {
  Wide<T> sum[kStrip];
  for (int64_t c0 = 0; c0 < a.c; c0 += kStrip) {
    const int64_t width = min64(kStrip, a.c - c0);
    for (int64_t c = 0; c < width; ++c) sum[c] = 0;
    visit(c0, width, sum);
    for (int64_t c = 0; c < width; ++c) y[c0 + c] = static_cast<T>(sum[c]);
  }
}

template <class T>
void max_pool_typed(const kernel::PoolArgs& a) {
  for_rows(a, a.p, a.q, [&](int64_t image, int64_t p, int64_t pixel) {
    int32_t best[kStrip];
    for (int64_t q = 0; q < a.q; ++q, ++pixel)
      for (int64_t c0 = 0; c0 < a.c; c0 += kStrip) {
        const int64_t width = min64(kStrip, a.c - c0);
        T* y = static_cast<T*>(a.y) + pixel * a.c + c0;
        bool first = true;
        for_window(a, image, p, q, [&](int64_t offset, int64_t from) {
          const T* x = static_cast<const T*>(a.x) + from * a.c + c0;
          const int32_t here = static_cast<int32_t>(offset);
#pragma GCC ivdep
          for (int64_t c = 0; c < width; ++c) {
            const Wide<T> v = x[c], old = y[c];
            // A NaN wins over numbers, so that it is seen.
            const bool take = first || v > old || v != v;
            y[c] = static_cast<T>(take ? v : old);
            best[c] = take ? here : best[c];
          }
          first = false;
        });
        if (a.index)
          for (int64_t c = 0; c < width; ++c) a.index[pixel * a.c + c0 + c] = static_cast<uint8_t>(best[c]);
      }
  });
}

template <class T>
void max_pool_gather_typed(const kernel::PoolArgs& a) {
  for_rows(a, a.p, a.q, [&](int64_t image, int64_t p, int64_t pixel) {
    for (int64_t q = 0; q < a.q; ++q, ++pixel) {
      T* y = static_cast<T*>(a.y) + pixel * a.c;
      const uint8_t* index = a.index + pixel * a.c;
      memset(y, 0, static_cast<size_t>(a.c) * sizeof(T));
      for_window(a, image, p, q, [&](int64_t offset, int64_t from) {
        const T* x = static_cast<const T*>(a.x) + from * a.c;
#pragma GCC ivdep
        for (int64_t c = 0; c < a.c; ++c) {
          const Wide<T> v = x[c], old = y[c];
          y[c] = static_cast<T>(index[c] == offset ? v : old);
        }
      });
    }
  });
}

template <class T>
void max_pool_scatter_overlapping(const kernel::PoolArgs& a) {
  for_rows(a, a.h, a.w, [&](int64_t image, int64_t h, int64_t pixel) {
    for (int64_t w = 0; w < a.w; ++w, ++pixel)
      sum_pixel(a, static_cast<T*>(a.y) + pixel * a.c, [&](int64_t c0, int64_t width, Wide<T>* sum) {
        for_windows_over(a, image, h, w, [&](int64_t offset, int64_t window) {
          const T* x = static_cast<const T*>(a.x) + window * a.c + c0;
          const uint8_t* index = a.index + window * a.c + c0;
#pragma GCC ivdep
          for (int64_t c = 0; c < width; ++c) {
            const Wide<T> v = x[c];
            sum[c] += index[c] == offset ? v : Wide<T>(0);
          }
        });
      });
  });
}

// A pixel lies in one window at most: nothing to sum.
template <class T>
void max_pool_scatter_apart(const kernel::PoolArgs& a) {
  for_rows(a, a.h, a.w, [&](int64_t image, int64_t h, int64_t pixel) {
    const int64_t p = (h + a.pad) / a.stride, r = (h + a.pad) % a.stride;
    int64_t q = a.pad / a.stride, s = a.pad % a.stride;
    for (int64_t w = 0; w < a.w; ++w, ++pixel) {
      T* y = static_cast<T*>(a.y) + pixel * a.c;
      if (p < a.p && q < a.q && r < a.kernel && s < a.kernel) {
        const int64_t window = (image * a.p + p) * a.q + q;
        const T* x = static_cast<const T*>(a.x) + window * a.c;
        const uint8_t *index = a.index + window * a.c, here = static_cast<uint8_t>(r * a.kernel + s);
#pragma GCC ivdep
        for (int64_t c = 0; c < a.c; ++c) y[c] = index[c] == here ? x[c] : T(0);
      } else {
        memset(y, 0, static_cast<size_t>(a.c) * sizeof(T));
      }
      if (++s == a.stride) s = 0, ++q;
    }
  });
}

template <class T>
void avg_pool_typed(const kernel::PoolArgs& a) {
  const Wide<T> scale = Wide<T>(1) / static_cast<Wide<T>>(a.kernel * a.kernel);
  for_rows(a, a.p, a.q, [&](int64_t image, int64_t p, int64_t pixel) {
    for (int64_t q = 0; q < a.q; ++q, ++pixel)
      sum_pixel(a, static_cast<T*>(a.y) + pixel * a.c, [&](int64_t c0, int64_t width, Wide<T>* sum) {
        for_window(a, image, p, q, [&](int64_t, int64_t from) {
          const T* x = static_cast<const T*>(a.x) + from * a.c + c0;
#pragma GCC ivdep
          for (int64_t c = 0; c < width; ++c) sum[c] += scale * x[c];
        });
      });
  });
}

template <class T>
void avg_pool_grad_typed(const kernel::PoolArgs& a) {
  const Wide<T> scale = Wide<T>(1) / static_cast<Wide<T>>(a.kernel * a.kernel);
  for_rows(a, a.h, a.w, [&](int64_t image, int64_t h, int64_t pixel) {
    for (int64_t w = 0; w < a.w; ++w, ++pixel)
      sum_pixel(a, static_cast<T*>(a.y) + pixel * a.c, [&](int64_t c0, int64_t width, Wide<T>* sum) {
        for_windows_over(a, image, h, w, [&](int64_t, int64_t window) {
          const T* x = static_cast<const T*>(a.x) + window * a.c + c0;
#pragma GCC ivdep
          for (int64_t c = 0; c < width; ++c) sum[c] += scale * x[c];
        });
      });
  });
}

}  // namespace

void max_pool(const kernel::PoolArgs& args) { KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, max_pool_typed<T>(args)) }
void max_pool_gather(const kernel::PoolArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, max_pool_gather_typed<T>(args))
}
void max_pool_scatter(const kernel::PoolArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(
      args.dtype, args.stride < args.kernel ? max_pool_scatter_overlapping<T>(args) : max_pool_scatter_apart<T>(args))
}
void avg_pool(const kernel::PoolArgs& args) { KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, avg_pool_typed<T>(args)) }
void avg_pool_grad(const kernel::PoolArgs& args) {
  KERNEL_DISPATCH_FLOAT_OR_BF16(args.dtype, avg_pool_grad_typed<T>(args))
}

}  // namespace sinew::SINEW_CPU_NS
