// Pooling over N,H,W,C and its transposes.
//
// Parallel over what is written: a block takes a row of output pixels of one image, or a part of it (blockIdx.y); a
// thread takes 16 bytes of channels of one pixel, or one element where the arrays do not allow that. The transposes
// gather, for each pixel of the input, what the windows over it hold: no two threads write one place, and the order of
// additions is fixed. kKernel: the windows' extent where it is 2 or 3, so that all loads of a thread are under way
// together; 0 for any other. The transposes of the usual windows (2 or 3 wide, stride 2) write 2x2 pixels a thread: the
// same one or four windows cover these, and which of their places is where is known when compiling.
// Bytes: with stride >= kernel, each input once; overlapping windows find each other's pixels in the caches. The places
// cost a byte an output. Flops: one per element of a window; bound by memory.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "cuda/device/values.cuh"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// A thread's pixel and channels, among `width` pixels a row; number counts pixels of all rows.
struct Pixel {
  int image, row, column, channel;
  int64_t number;
  bool inside;
};
template <int kWidth>
SINEW_DEVICE Pixel pixel_of(const PoolShape& s, int height, int width) {
  const unsigned i = blockIdx.y * blockDim.x + threadIdx.x, groups = unsigned(s.c) / kWidth;
  const unsigned column = i / groups, image = blockIdx.x / unsigned(height);
  return {int(image),
          int(blockIdx.x - image * unsigned(height)),
          int(column),
          int(i - column * groups) * kWidth,
          int64_t(blockIdx.x) * width + column,
          column < unsigned(width)};
}

// use(place in the window, load(pixel of x)) for the pixels of a window that are not padding, in order. Where the
// window's extent is known, all loads come first: a place in the padding loads the pixel nearest to it, for nothing.
template <int kKernel, class Load, class Use>
SINEW_DEVICE void for_window(const PoolShape& s, const Pixel& at, Load load, Use use) {
  const int kernel = kKernel ? kKernel : s.kernel;
  const int h0 = at.row * s.stride - s.pad, w0 = at.column * s.stride - s.pad;
  const auto is_inside = [&](int i, int j) {
    return unsigned(h0 + i) < unsigned(s.h) && unsigned(w0 + j) < unsigned(s.w);
  };
  const int64_t image = int64_t(at.image) * s.h;
  if constexpr (kKernel > 0) {
    const auto clamp = [](int i, int n) { return i < 0 ? 0 : i < n ? i : n - 1; };
    decltype(load(image)) values[kKernel][kKernel];
    SINEW_UNROLL
    for (int i = 0; i < kKernel; ++i) {
      SINEW_UNROLL
      for (int j = 0; j < kKernel; ++j) values[i][j] = load((image + clamp(h0 + i, s.h)) * s.w + clamp(w0 + j, s.w));
    }
    SINEW_UNROLL
    for (int i = 0; i < kKernel; ++i) {
      SINEW_UNROLL
      for (int j = 0; j < kKernel; ++j)
        if (is_inside(i, j)) use(i * kKernel + j, values[i][j]);
    }
  } else {
    for (int i = 0; i < kernel; ++i)
      for (int j = 0; j < kernel; ++j)
        if (is_inside(i, j)) use(i * kernel + j, load((image + h0 + i) * s.w + w0 + j));
  }
}

// fn(place in the window, window) for the windows that cover a pixel of the input, in order.
template <class Fn>
SINEW_DEVICE void for_windows_over(const PoolShape& s, const Pixel& at, Fn fn) {
  const int h = at.row + s.pad, w = at.column + s.pad;
  // The last window that starts at or before the pixel, and the first that reaches it.
  const int p_last = h / s.stride < s.p ? h / s.stride : s.p - 1, q_last = w / s.stride < s.q ? w / s.stride : s.q - 1;
  const int p_first = h < s.kernel ? 0 : (h - s.kernel) / s.stride + 1;
  const int q_first = w < s.kernel ? 0 : (w - s.kernel) / s.stride + 1;
  for (int p = p_first; p <= p_last; ++p)
    for (int q = q_first; q <= q_last; ++q)
      fn((h - p * s.stride) * s.kernel + w - q * s.stride, (int64_t(at.image) * s.p + p) * s.q + q);
}

// The transposes where the stride is 2 and windows are kKernel = 2 or 3 wide. A thread writes the pixels (2 row - pad,
// 2 column - pad) and their right and lower neighbours, at.row and at.column being counted from the first such cell
// that holds a pixel; the windows over them are the one that starts there and, of extent 3, those before it. add(sum,
// what load gave for a window, place in it) comes in the order of for_windows_over.
template <int kKernel, int kWidth, class T, class Load, class Add>
SINEW_DEVICE void write_cell(const PoolShape& s, T* y, Load load, Add add) {
  constexpr int kReach = (kKernel + 1) / 2;  // windows over a cell, each way
  const int first = s.pad / 2, height = (s.pad + s.h - 1) / 2 - first + 1, width = (s.pad + s.w - 1) / 2 - first + 1;
  const Pixel at = pixel_of<kWidth>(s, height, width);
  if (!at.inside) return;
  const int p0 = at.row + first - (kReach - 1), q0 = at.column + first - (kReach - 1);
  const auto clamp = [](int i, int n) { return i < 0 ? 0 : i < n ? i : n - 1; };
  decltype(load(int64_t(0))) in[kReach][kReach];
  SINEW_UNROLL
  for (int p = 0; p < kReach; ++p) {
    SINEW_UNROLL
    for (int q = 0; q < kReach; ++q)
      in[p][q] = load(((int64_t(at.image) * s.p + clamp(p0 + p, s.p)) * s.q + clamp(q0 + q, s.q)) * s.c + at.channel);
  }
  SINEW_UNROLL
  for (int i = 0; i < 2; ++i) {
    SINEW_UNROLL
    for (int j = 0; j < 2; ++j) {
      const int h = 2 * (at.row + first) + i - s.pad, w = 2 * (at.column + first) + j - s.pad;
      Values<Wide<T>, kWidth> sum{};
      SINEW_UNROLL
      for (int p = 0; p < kReach; ++p) {
        SINEW_UNROLL
        for (int q = 0; q < kReach; ++q) {
          const int a = i + 2 * (kReach - 1 - p), b = j + 2 * (kReach - 1 - q);  // of the pixel in the window
          if (a < kKernel && b < kKernel && unsigned(p0 + p) < unsigned(s.p) && unsigned(q0 + q) < unsigned(s.q))
            add(sum, in[p][q], a * kKernel + b);
        }
      }
      if (unsigned(h) < unsigned(s.h) && unsigned(w) < unsigned(s.w))
        store_rounded<kWidth>(y + ((int64_t(at.image) * s.h + h) * s.w + w) * s.c + at.channel, sum);
    }
  }
}

template <class T, int kWidth, int kKernel>
__global__ void __launch_bounds__(kPoolThreads, 4)
    max_pool(PoolShape s, const T* __restrict__ x, T* __restrict__ y, uint8_t* __restrict__ index) {
  const Pixel at = pixel_of<kWidth>(s, s.p, s.q);
  if (!at.inside) return;
  Values<T, kWidth> best{};
  Values<uint8_t, kWidth> place{};
  bool first = true;
  const auto value_of = [&](int64_t pixel) { return load<kWidth>(x + pixel * s.c + at.channel); };
  for_window<kKernel>(s, at, value_of, [&](int offset, const Values<T, kWidth>& v) {
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      // A NaN wins over numbers, so that it is seen.
      const bool take = first || v.v[j] > best.v[j] || v.v[j] != v.v[j];
      best.v[j] = take ? v.v[j] : best.v[j];
      place.v[j] = take ? uint8_t(offset) : place.v[j];
    }
    first = false;
  });
  store(y + at.number * s.c + at.channel, best);
  if (index) store(index + at.number * s.c + at.channel, place);
}

template <class T, int kWidth, int kKernel>
__global__ void __launch_bounds__(kPoolThreads, 4)
    max_pool_gather(PoolShape s, const T* __restrict__ x, T* __restrict__ y, const uint8_t* __restrict__ index) {
  const Pixel at = pixel_of<kWidth>(s, s.p, s.q);
  if (!at.inside) return;
  Values<T, kWidth> value{};
  const Values<uint8_t, kWidth> place = load<kWidth>(index + at.number * s.c + at.channel);
  const auto value_of = [&](int64_t pixel) { return load<kWidth>(x + pixel * s.c + at.channel); };
  for_window<kKernel>(s, at, value_of, [&](int offset, const Values<T, kWidth>& v) {
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) value.v[j] = place.v[j] == offset ? v.v[j] : value.v[j];
  });
  store(y + at.number * s.c + at.channel, value);
}

template <class T, int kWidth>
struct Scattered {
  Values<T, kWidth> value;
  Values<uint8_t, kWidth> place;

  SINEW_DEVICE void add_to(Values<Wide<T>, kWidth>& sum, int offset) const {
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) sum.v[j] += place.v[j] == offset ? Wide<T>(value.v[j]) : Wide<T>(0);
  }
};

template <class T, int kWidth, int kKernel>
__global__ void __launch_bounds__(kPoolThreads, 4)
    max_pool_scatter(PoolShape s, const T* __restrict__ x, T* __restrict__ y, const uint8_t* __restrict__ index) {
  const auto in = [&](int64_t at) { return Scattered<T, kWidth>{load<kWidth>(x + at), load<kWidth>(index + at)}; };
  if constexpr (kKernel > 0) {
    write_cell<kKernel, kWidth>(
        s, y, in,
        [](Values<Wide<T>, kWidth>& sum, const Scattered<T, kWidth>& from, int offset) { from.add_to(sum, offset); });
  } else {
    const Pixel at = pixel_of<kWidth>(s, s.h, s.w);
    if (!at.inside) return;
    Values<Wide<T>, kWidth> sum{};
    for_windows_over(s, at, [&](int offset, int64_t window) { in(window * s.c + at.channel).add_to(sum, offset); });
    store_rounded<kWidth>(y + at.number * s.c + at.channel, sum);
  }
}

template <class T, int kWidth, int kKernel>
__global__ void __launch_bounds__(kPoolThreads, 4)
    avg_pool(PoolShape s, const T* __restrict__ x, T* __restrict__ y, const uint8_t*) {
  const Pixel at = pixel_of<kWidth>(s, s.p, s.q);
  if (!at.inside) return;
  using W = Wide<T>;
  const W scale = W(1) / W(s.kernel * s.kernel);
  Values<W, kWidth> sum{};
  const auto value_of = [&](int64_t pixel) { return load<kWidth>(x + pixel * s.c + at.channel); };
  for_window<kKernel>(s, at, value_of, [&](int, const Values<T, kWidth>& v) {
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) sum.v[j] += scale * v.v[j];
  });
  store_rounded<kWidth>(y + at.number * s.c + at.channel, sum);
}

template <class T, int kWidth, int kKernel>
__global__ void __launch_bounds__(kPoolThreads, 4)
    avg_pool_grad(PoolShape s, const T* __restrict__ x, T* __restrict__ y, const uint8_t*) {
  const Wide<T> scale = Wide<T>(1) / Wide<T>(s.kernel * s.kernel);
  const auto add = [scale](Values<Wide<T>, kWidth>& sum, const Values<T, kWidth>& v, int) {
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) sum.v[j] += scale * v.v[j];
  };
  if constexpr (kKernel > 0) {
    write_cell<kKernel, kWidth>(
        s, y, [&](int64_t at) { return load<kWidth>(x + at); }, add);
  } else {
    const Pixel at = pixel_of<kWidth>(s, s.h, s.w);
    if (!at.inside) return;
    Values<Wide<T>, kWidth> sum{};
    for_windows_over(
        s, at, [&](int offset, int64_t window) { add(sum, load<kWidth>(x + window * s.c + at.channel), offset); });
    store_rounded<kWidth>(y + at.number * s.c + at.channel, sum);
  }
}

}  // namespace

#define SINEW_BY_KERNEL(title, function, width)            \
  if (kernel == 2) return {title, &function<T, width, 2>}; \
  if (kernel == 3) return {title, &function<T, width, 3>}; \
  return {title, &function<T, width, 0>};
#define SINEW_BY_WIDTH(title, function)               \
  if (packs) {                                        \
    SINEW_BY_KERNEL(title, function, Pack<T>::kWidth) \
  }                                                   \
  SINEW_BY_KERNEL(title ", unaligned", function, 1)

template <class T>
auto PoolKernels<T>::max(bool packs, int64_t kernel) -> WithPlaces {
  SINEW_BY_WIDTH("max pool", max_pool)
}
template <class T>
auto PoolKernels<T>::gather(bool packs, int64_t kernel) -> FromPlaces {
  SINEW_BY_WIDTH("max pool gather", max_pool_gather)
}
template <class T>
auto PoolKernels<T>::average(bool packs, int64_t kernel) -> FromPlaces {
  SINEW_BY_WIDTH("average pool", avg_pool)
}
template <class T>
auto PoolKernels<T>::scatter(bool packs, int64_t cells) -> FromPlaces {
  const int64_t kernel = cells;
  SINEW_BY_WIDTH("max pool scatter", max_pool_scatter)
}
template <class T>
auto PoolKernels<T>::average_grad(bool packs, int64_t cells) -> FromPlaces {
  const int64_t kernel = cells;
  SINEW_BY_WIDTH("average pool grad", avg_pool_grad)
}
#undef SINEW_BY_WIDTH
#undef SINEW_BY_KERNEL

template struct PoolKernels<float>;
template struct PoolKernels<double>;
template struct PoolKernels<bfloat16>;

}  // namespace sinew::cuda::SINEW_CUDA_NS
