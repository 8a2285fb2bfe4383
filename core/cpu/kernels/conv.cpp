// Our own direct convolution, forward and towards the input: the oracle for every floating-point type, and the path of
// builds without oneDNN.
//
// Both are one routine, `Correlation`. The derivative towards the input falls apart into stride_h * stride_w
// independent correlations of the cotangent, one per residue of the input position, each with every stride-th tap of
// the flipped filter (for stride 1 just one, as fast as the forward). Each output element is summed in one order, by
// one thread. Compiled with -ffp-contract=fast.
#include "core/cpu/kernels/conv_window.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// tile (kRows x kVecs vectors) = sum over taps of x[offset[row] + tap] * w[tap][:]; a filter row has `length` taps,
// the next one lies `pitch` further in x.
template <class T, int kRows, int kVecs>
void dot_tile(int64_t filter_rows, int64_t length, int64_t pitch, const T* x, const int64_t* offset,
              const T* __restrict w, T* __restrict tile) {
  using V = typename Simd<T>::V;
  constexpr int kLanes = Simd<T>::kLanes;
  V acc[kRows][kVecs];
  const T* row[kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    row[i] = x + offset[i];
    for (int v = 0; v < kVecs; ++v) acc[i][v] = V{};
  }
  for (int64_t r = 0; r < filter_rows; ++r) {
    for (int64_t l = 0; l < length; ++l) {
      V wv[kVecs];
      for (int v = 0; v < kVecs; ++v) wv[v] = *reinterpret_cast<const V*>(w + v * kLanes);
      w += kVecs * kLanes;
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const T s = row[i][l];
        for (int v = 0; v < kVecs; ++v) acc[i][v] += s * wv[v];
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) row[i] += pitch;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v) *reinterpret_cast<V*>(tile + (i * kVecs + v) * kLanes) = acc[i][v];
}

template <class T>
using DotTile = void (*)(int64_t, int64_t, int64_t, const T*, const int64_t*, const T*, T*);
template <class T, int kVecs, int... kRows>
struct DotTiles {
  static constexpr DotTile<T> at[] = {nullptr, dot_tile<T, kRows, kVecs>...};
};
template <class T>
DotTile<T> dot_tile_for(int64_t rows, bool wide) {
  if (wide) return DotTiles<T, 2, 1, 2, 3, 4, 5, 6, 7, 8>::at[rows];
  return DotTiles<T, 1, 1, 2, 3, 4, 5, 6, 7, 8>::at[rows];
}

// One correlation with unit dilation: output pixel (i, j), for i < rows and j < cols, sums taps_h x taps_w pixels of
// the source from (first_h + i * step_h, first_w + j * step_w) on, zero outside the source, and lands at target[image *
// image_size + target_of(i, j)].
template <class T>
struct Correlation {
  const T* source;
  int64_t images, source_h, source_w, channels;  // of the source
  int64_t first_h, first_w, step_h, step_w, taps_h, taps_w;
  int64_t rows, cols;
  T* target;
  int64_t image_size, target_row, target_col,
      outputs;       // strides of the target in elements; channels of an output pixel
  const T* weights;  // blocks of columns, each (taps_h, taps_w * channels, lanes or 2 lanes), zero filled
  const T* bias;
  bool relu;

  int64_t taps() const { return taps_h * taps_w * channels; }

  void run() const {
    if (rows <= 0 || cols <= 0) return;
    const bool inside = first_h >= 0 && first_w >= 0 && first_h + (rows - 1) * step_h + taps_h <= source_h &&
                        first_w + (cols - 1) * step_w + taps_w <= source_w;
    // A task is some rows of one image, or several whole images when they are small, so that the filters that it
    // streams through the cache meet enough pixels.
    int64_t task_rows = rows, task_images = 1;
    auto window_h = [&] { return (task_rows - 1) * step_h + taps_h; };
    const int64_t window_w = inside ? source_w : (cols - 1) * step_w + taps_w;
    auto bytes = [&] { return window_h() * window_w * channels * static_cast<int64_t>(sizeof(T)); };
    auto tasks = [&] { return ceil_div(images, task_images) * ceil_div(rows, task_rows); };
    while (task_rows > 1 && (bytes() > kConvBlockBytes || tasks() < 16)) task_rows = ceil_div(task_rows, 2);
    if (task_rows == rows)
      while (tasks() >= 32 && task_images * rows * cols < 128 && 2 * task_images * bytes() <= kConvBlockBytes)
        task_images *= 2;
    const int64_t row_pitch = window_w * channels;
    const int64_t image_pitch = inside ? source_h * row_pitch : window_h() * row_pitch;
    const int64_t pixels = task_images * task_rows * cols;
    int64_t* offsets = static_cast<int64_t*>(malloc(static_cast<size_t>(2 * pixels) * sizeof(int64_t)));
    int64_t* targets = offsets + pixels;
    for (int64_t m = 0, at = 0; m < task_images; ++m)
      for (int64_t i = 0; i < task_rows; ++i)
        for (int64_t j = 0; j < cols; ++j, ++at) {
          offsets[at] = m * image_pitch + i * step_h * row_pitch + j * step_w * channels;
          targets[at] = m * image_size + i * target_row + j * target_col;
        }
    const int64_t row_blocks = ceil_div(rows, task_rows);
    parallel_blocks(tasks(), 1, images * rows * cols * outputs * (taps() + 1) / 16, [&](int64_t task, int64_t) {
      const int64_t image = task / row_blocks * task_images, row = task % row_blocks * task_rows;
      const int64_t m = min64(task_images, images - image), n = min64(task_rows, rows - row);
      const T* from = source + image * source_h * source_w * channels;
      const int64_t h0 = first_h + row * step_h;
      T* window = nullptr;
      if (inside) {
        from += (h0 * source_w + first_w) * channels;
      } else {
        window = static_cast<T*>(malloc(static_cast<size_t>(m * image_pitch) * sizeof(T)));
        for (int64_t i = 0; i < m; ++i)
          copy_window(from + i * source_h * source_w * channels, source_h, source_w, channels, h0,
                      (n - 1) * step_h + taps_h, first_w, window_w, window + i * image_pitch);
        from = window;
      }
      // m > 1 only with whole images, so that the pixels of a task are the first of the offsets in any case.
      tile_all(from, row_pitch, offsets, targets, m * n * cols, target + image * image_size + row * target_row);
      free(window);
    });
    free(offsets);
  }

  void tile_all(const T* from, int64_t pitch, const int64_t* offsets, const int64_t* targets, int64_t pixels,
                T* to) const {
    constexpr int kLanes = Simd<T>::kLanes;
    alignas(64) T tile[kConvRows * kConvCols<T>];
    const T* w = weights;
    for (int64_t k = 0; k < outputs; k += kConvCols<T>) {
      const bool wide = outputs - k > kLanes;
      const int64_t width = min64(kConvCols<T>, outputs - k), ld = wide ? 2 * kLanes : kLanes;
      for (int64_t i = 0; i < pixels; i += kConvRows) {
        const int64_t n = min64(kConvRows, pixels - i);
        dot_tile_for<T>(n, wide)(taps_h, taps_w * channels, pitch, from, offsets + i, w, tile);
        for (int64_t j = 0; j < n; ++j) store(tile + j * ld, to + targets[i + j] + k, bias ? bias + k : nullptr, width);
      }
      w += taps() * ld;
    }
  }

  void store(const T* __restrict from, T* __restrict to, const T* __restrict b, int64_t width) const {
    if (!b && !relu) {
      if (width == kConvCols<T>)
        memcpy(to, from, kConvCols<T> * sizeof(T));
      else
        for (int64_t k = 0; k < width; ++k) to[k] = from[k];
      return;
    }
    for (int64_t k = 0; k < width; ++k) {
      const T y = b ? from[k] + b[k] : from[k];
      to[k] = relu && !(y > T(0)) ? T(0) : y;
    }
  }
};

// Blocks of columns for Correlation. value(tap_h, tap_w, channel, output) is the filter.
template <class T, class Value>
T* pack_weights(int64_t taps_h, int64_t taps_w, int64_t channels, int64_t outputs, Value value) {
  constexpr int kLanes = Simd<T>::kLanes;
  const int64_t taps = taps_h * taps_w * channels;
  const int64_t blocks = ceil_div(outputs, kConvCols<T>);
  const size_t bytes = static_cast<size_t>(blocks * taps * kConvCols<T>) * sizeof(T);
  T* packed = static_cast<T*>(aligned_alloc(64, (bytes + 63) / 64 * 64 + 64));
  parallel_blocks(blocks, 1, taps * outputs, [&](int64_t block, int64_t) {
    const int64_t k0 = block * kConvCols<T>, left = outputs - k0;
    const int64_t ld = left > kLanes ? 2 * kLanes : kLanes;
    T* out = packed + block * taps * kConvCols<T>;
    for (int64_t r = 0; r < taps_h; ++r)
      for (int64_t s = 0; s < taps_w; ++s)
        for (int64_t c = 0; c < channels; ++c, out += ld)
          for (int64_t k = 0; k < ld; ++k) out[k] = k < left ? value(r, s, c, k0 + k) : T(0);
  });
  return packed;
}

template <class T>
void forward(const kernel::ConvArgs& a) {
  const T* filter = static_cast<const T*>(a.filter);
  T* packed = pack_weights<T>(a.r, a.s, a.c, a.k, [&](int64_t r, int64_t s, int64_t c, int64_t k) {
    return filter[((k * a.r + r) * a.s + s) * a.c + c];
  });
  const Correlation<T> correlation{static_cast<const T*>(a.x),
                                   a.n,
                                   a.h,
                                   a.w,
                                   a.c,
                                   -a.pad_h,
                                   -a.pad_w,
                                   a.stride_h,
                                   a.stride_w,
                                   a.r,
                                   a.s,
                                   a.p,
                                   a.q,
                                   static_cast<T*>(a.out),
                                   a.p * a.q * a.k,
                                   a.q * a.k,
                                   a.k,
                                   a.k,
                                   packed,
                                   static_cast<const T*>(a.bias),
                                   a.act == Activation::relu};
  correlation.run();
  free(packed);
}

// Input positions h with (h + pad) mod stride == phase meet the taps r = phase, phase + stride, ... at the outputs
// p = (h + pad - r) / stride.
struct Phase {
  int64_t taps, start, count, first;  // taps; smallest h and how many; the first output that `start` reads
  Phase(int64_t phase, int64_t stride, int64_t pad, int64_t extent, int64_t filter) {
    taps = phase < filter ? ceil_div(filter - phase, stride) : 0;
    start = (phase - pad % stride + stride) % stride;
    count = start < extent ? ceil_div(extent - start, stride) : 0;
    first = floor_div(start + pad - phase, stride) - taps + 1;
  }
};

template <class T>
void towards_input(const kernel::ConvArgs& a) {
  const T* filter = static_cast<const T*>(a.filter);
  for (int64_t i = 0; i < a.stride_h; ++i) {
    const Phase v(i, a.stride_h, a.pad_h, a.h, a.r);
    for (int64_t j = 0; j < a.stride_w; ++j) {
      const Phase u(j, a.stride_w, a.pad_w, a.w, a.s);
      const int64_t taps_h = u.taps ? v.taps : 0, taps_w = v.taps ? u.taps : 0;
      T* packed = pack_weights<T>(taps_h, taps_w, a.k, a.c, [&](int64_t r, int64_t s, int64_t k, int64_t c) {
        const int64_t row = i + a.stride_h * (taps_h - 1 - r), col = j + a.stride_w * (taps_w - 1 - s);
        return filter[((k * a.r + row) * a.s + col) * a.c + c];
      });
      const Correlation<T> correlation{static_cast<const T*>(a.y),
                                       a.n,
                                       a.p,
                                       a.q,
                                       a.k,
                                       v.first,
                                       u.first,
                                       1,
                                       1,
                                       taps_h,
                                       taps_w,
                                       v.count,
                                       u.count,
                                       static_cast<T*>(a.out) + (v.start * a.w + u.start) * a.c,
                                       a.h * a.w * a.c,
                                       a.stride_h * a.w * a.c,
                                       a.stride_w * a.c,
                                       a.c,
                                       packed,
                                       nullptr,
                                       false};
      correlation.run();
      free(packed);
    }
  }
}

}  // namespace

void conv_forward(const kernel::ConvArgs& args) { KERNEL_DISPATCH_FLOAT(args.dtype, forward<T>(args)) }
void conv_dx(const kernel::ConvArgs& args) { KERNEL_DISPATCH_FLOAT(args.dtype, towards_input<T>(args)) }

}  // namespace sinew::SINEW_CPU_NS
