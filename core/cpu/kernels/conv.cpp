// Our own direct convolution, forward and towards the input, for every floating-point type, and the path of builds
// without oneDNN. In f32, what Winograd's filtering serves goes there (conv_winograd.h).
//
// Both are one routine, Correlation. The derivative towards the input falls apart into stride_h * stride_w
// independent correlations of the cotangent, one per residue of the input position, each with every stride-th tap of
// the flipped filter (for stride 1 just one, as fast as the forward). Each output element is summed in one order, by
// one thread. Compiled with -ffp-contract=fast.
#include "core/cpu/kernels/conv_winograd.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// What the images of a task may take: they should stay in the second-level cache beside a block of filters.
constexpr int64_t kTaskBytes = 256 << 10;
constexpr int64_t kFilterBytes = 128 << 10;
constexpr int64_t kStrip = 8 * kConvRows;

// What happens to a finished tile: row i goes to out + target[i], `width` elements of it.
template <class T>
struct Finish {
  T* out;
  const int64_t* target;
  const T* bias;  // or null
  bool relu;
  bool add;  // to what is there
  int64_t width;
};

// tile (kRows x kVecs vectors) = sum over taps of x[offset[row] + tap] * w[tap][:], for filter_rows rows of `length`
// taps; the next row lies `pitch` further in x and `w_pitch` further in w.
template <class T, int kRows, int kVecs>
void dot_tile(int64_t filter_rows, int64_t length, int64_t pitch, int64_t w_pitch, const T* x, const int64_t* offset,
              const T* __restrict w, const Finish<T>& finish) {
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
    const T* wr = w + r * w_pitch;
    for (int64_t l = 0; l < length; ++l) {
      V wv[kVecs];
      for (int v = 0; v < kVecs; ++v) wv[v] = *reinterpret_cast<const V*>(wr + v * kLanes);
      wr += kVecs * kLanes;
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const T s = row[i][l];
        for (int v = 0; v < kVecs; ++v) acc[i][v] += s * wv[v];
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) row[i] += pitch;
  }
  if (finish.width < kVecs * kLanes) {
    alignas(64) T tile[kRows][kVecs * kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVecs; ++v) *reinterpret_cast<V*>(&tile[i][v * kLanes]) = acc[i][v];
    for (int i = 0; i < kRows; ++i)
      for (int64_t k = 0; k < finish.width; ++k) {
        const T y = finish.bias ? tile[i][k] + finish.bias[k] : tile[i][k];
        T& out = finish.out[finish.target[i] + k];
        out = finish.add ? out + y : finish.relu && y <= T(0) ? T(0) : y;
      }
    return;
  }
  using Unaligned = typename Simd<T>::Unaligned;
  if (finish.bias)
    for (int v = 0; v < kVecs; ++v) {
      const V b = *reinterpret_cast<const Unaligned*>(finish.bias + v * kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) acc[i][v] += b;
    }
  if (finish.relu) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVecs; ++v) acc[i][v] = acc[i][v] <= V{} ? V{} : acc[i][v];
  }
  if (finish.add) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVecs; ++v)
        acc[i][v] += *reinterpret_cast<const Unaligned*>(finish.out + finish.target[i] + v * kLanes);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v)
      *reinterpret_cast<Unaligned*>(finish.out + finish.target[i] + v * kLanes) = acc[i][v];
}

template <class T>
using DotTile = void (*)(int64_t, int64_t, int64_t, int64_t, const T*, const int64_t*, const T*, const Finish<T>&);
template <class T, int kVecs, int... kRows>
struct DotTiles {
  static constexpr DotTile<T> at[] = {nullptr, dot_tile<T, kRows, kVecs>...};
};
template <class T>
DotTile<T> dot_tile_for(int64_t rows, bool wide) {
  if (wide) return DotTiles<T, 2, 1, 2, 3, 4, 5, 6, 7, 8>::at[rows];
  return DotTiles<T, 1, 1, 2, 3, 4, 5, 6, 7, 8>::at[rows];
}

// target pixel = sum over its taps_h x taps_w taps of the source pixel there times the filter, plus bias, rectified.
template <class T>
struct Correlation {
  PixelGeometry g;
  const T* source;
  T* target;
  int64_t images, outputs;
  const T* weights;  // blocks of output channels, each (taps_h, taps_w * channels, one or two vectors), zero filled
  const T* bias;
  bool relu, add;

  int64_t taps() const { return g.taps_h * g.taps_w * g.channels; }

  void run() const {
    if (g.rows <= 0 || g.cols <= 0) return;
    // A task is several whole images, so that the filters it streams through the cache meet enough pixels and border
    // groups fill their tiles; or, with few images, some rows of one.
    int64_t task_images = 1, task_rows = g.rows;
    const int64_t image_bytes = g.source_h * g.source_w * g.channels * static_cast<int64_t>(sizeof(T));
    while (images >= 16 * task_images && task_images * g.rows * g.cols < 4096 &&
           2 * task_images * image_bytes <= kTaskBytes)
      task_images *= 2;
    while (task_rows > 1 && images * ceil_div(g.rows, task_rows) < 8) task_rows = ceil_div(task_rows, 2);
    const int64_t row_blocks = ceil_div(g.rows, task_rows), image_blocks = ceil_div(images, task_images);
    const int64_t work = images * g.rows * g.cols * outputs * (taps() + 1) / 16;
    parallel_tasks(image_blocks * row_blocks, work, [&](int64_t task) {
      const int64_t image = task / row_blocks * task_images, row = task % row_blocks * task_rows;
      const int64_t m = min64(task_images, images - image);
      const Pixels pixels(g, m, row, min64(g.rows, row + task_rows));
      const T* from = source + image * g.source_h * g.source_w * g.channels;
      T* to = target + image * g.target_image;
      // Small filters stay in the cache, and a strip of pixels meets them all before the next; large ones are streamed
      // once.
      const bool small = taps() * outputs * static_cast<int64_t>(sizeof(T)) <= kFilterBytes;
      if (small) {
        for (int64_t q = 0; q < pixels.count; ++q) {
          const PixelGroup& group = pixels.groups[q];
          const int64_t end = group.begin + m * group.per_image;
          for (int64_t p = group.begin; p < end; p += kStrip)
            for (int64_t k = 0; k < outputs; k += kConvCols<T>)
              tiles(pixels, group, p, min64(end, p + kStrip), k, from, to);
        }
        return;
      }
      for (int64_t k = 0; k < outputs; k += kConvCols<T>)
        for (int64_t q = 0; q < pixels.count; ++q) {
          const PixelGroup& group = pixels.groups[q];
          tiles(pixels, group, group.begin, group.begin + m * group.per_image, k, from, to);
        }
    });
  }

  // Pixels [begin, end) of a group; output channels from k on, as many as a tile is wide.
  void tiles(const Pixels& pixels, const PixelGroup& group, int64_t begin, int64_t end, int64_t k, const T* from,
             T* to) const {
    constexpr int kLanes = Simd<T>::kLanes;
    const bool wide = outputs - k > kLanes;
    const int64_t ld = wide ? 2 * kLanes : kLanes;
    const int64_t pitch = g.source_w * g.channels, w_pitch = g.taps_w * g.channels * ld;
    const T* w = weights + k * taps() + (group.rows.low * g.taps_w + group.cols.low) * g.channels * ld;
    const int64_t length = (group.cols.high - group.cols.low) * g.channels;
    const int64_t filter_rows = length ? group.rows.high - group.rows.low : 0;
    Finish<T> finish{to + k, nullptr, bias ? bias + k : nullptr, relu, add, min64(ld, outputs - k)};
    for (int64_t i = begin; i < end; i += kConvRows) {
      finish.target = pixels.target + i;
      dot_tile_for<T>(min64(kConvRows, end - i), wide)(filter_rows, length, pitch, w_pitch, from, pixels.source + i, w,
                                                       finish);
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

PixelGeometry forward_geometry(const kernel::ConvArgs& a) {
  return {a.h, a.w, a.c, -a.pad_h, -a.pad_w,        a.stride_h, a.stride_w,
          a.r, a.s, a.p, a.q,      a.p * a.q * a.k, a.q * a.k,  a.k};
}

Winograd winograd_forward(const kernel::ConvArgs& a) {
  return {.g = forward_geometry(a),
          .images = a.n,
          .outputs = a.k,
          .source = static_cast<const float*>(a.x),
          .strides = {a.s * a.c, a.c, 1, a.r * a.s * a.c},
          .target = static_cast<float*>(a.out),
          .filter = static_cast<const float*>(a.filter),
          .bias = static_cast<const float*>(a.bias),
          .relu = a.act == Activation::relu,
          .base = a.accumulate ? static_cast<const float*>(a.out) : nullptr};
}

template <class T>
void forward(const kernel::ConvArgs& a) {
  if constexpr (sizeof(T) == sizeof(float)) {
    const Winograd winograd = winograd_forward(a);
    if (winograd.serves()) return winograd.run();
  }
  const T* filter = static_cast<const T*>(a.filter);
  const PixelGeometry g = forward_geometry(a);
  const T *x = static_cast<const T*>(a.x), *bias = static_cast<const T*>(a.bias);
  T* y = static_cast<T*>(a.out);
  const bool relu = a.act == Activation::relu;
  T* packed = pack_weights<T>(a.r, a.s, a.c, a.k, [&](int64_t r, int64_t s, int64_t c, int64_t k) {
    return filter[((k * a.r + r) * a.s + s) * a.c + c];
  });
  const Correlation<T> correlation{g, x, y, a.n, a.k, packed, bias, relu, a.accumulate};
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

PixelGeometry towards_input_geometry(const kernel::ConvArgs& a, const Phase& v, const Phase& u) {
  return {a.p,
          a.q,
          a.k,
          v.first,
          u.first,
          1,
          1,
          u.taps ? v.taps : 0,
          v.taps ? u.taps : 0,
          v.count,
          u.count,
          a.h * a.w * a.c,
          a.stride_h * a.w * a.c,
          a.stride_w * a.c};
}

int64_t last_tap(const kernel::ConvArgs& a) { return (a.r * a.s - 1) * a.c; }
// With step 1.
Winograd winograd_towards_input(const kernel::ConvArgs& a) {
  const Phase v(0, 1, a.pad_h, a.h, a.r), u(0, 1, a.pad_w, a.w, a.s);
  return {.g = towards_input_geometry(a, v, u),
          .images = a.n,
          .outputs = a.c,
          .source = static_cast<const float*>(a.y),
          .strides = {-a.s * a.c, -a.c, a.r * a.s * a.c, 1},
          .target = static_cast<float*>(a.out),
          .filter = static_cast<const float*>(a.filter) + last_tap(a),
          .base = a.accumulate ? static_cast<const float*>(a.out) : nullptr};
}

WinogradSpread spread_towards_input(const kernel::ConvArgs& a) {
  return {.g = forward_geometry(a),
          .images = a.n,
          .outputs = a.k,
          .cotangents = static_cast<const float*>(a.y),
          .filter = static_cast<const float*>(a.filter),
          .strides = {a.s * a.c, a.c, a.r * a.s * a.c, 1},
          .target = static_cast<float*>(a.out),
          .base = a.accumulate ? static_cast<const float*>(a.out) : nullptr};
}

template <class T>
void towards_input(const kernel::ConvArgs& a) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (a.stride_h == 1 && a.stride_w == 1) {
      const WinogradSpread spread = spread_towards_input(a);
      if (spread.serves()) return spread.run();
      const Winograd winograd = winograd_towards_input(a);
      if (winograd.serves()) return winograd.run();
    }
  }
  const T* filter = static_cast<const T*>(a.filter);
  for (int64_t i = 0; i < a.stride_h; ++i) {
    const Phase v(i, a.stride_h, a.pad_h, a.h, a.r);
    for (int64_t j = 0; j < a.stride_w; ++j) {
      const Phase u(j, a.stride_w, a.pad_w, a.w, a.s);
      const PixelGeometry g = towards_input_geometry(a, v, u);
      const int64_t taps_h = g.taps_h, taps_w = g.taps_w;
      const T* y = static_cast<const T*>(a.y);
      T* x = static_cast<T*>(a.out) + (v.start * a.w + u.start) * a.c;
      T* packed = pack_weights<T>(taps_h, taps_w, a.k, a.c, [&](int64_t r, int64_t s, int64_t k, int64_t c) {
        const int64_t row = i + a.stride_h * (taps_h - 1 - r), col = j + a.stride_w * (taps_w - 1 - s);
        return filter[((k * a.r + row) * a.s + col) * a.c + c];
      });
      const Correlation<T> correlation{g, y, x, a.n, a.c, packed, nullptr, false, a.accumulate};
      correlation.run();
      free(packed);
    }
  }
}

}  // namespace

void conv_forward(const kernel::ConvArgs& args) {
  if (args.dtype == DType::bf16) return conv_bf16(args, ConvKind::forward);
  KERNEL_DISPATCH_FLOAT(args.dtype, forward<T>(args))
}
void conv_dx(const kernel::ConvArgs& args) {
  if (args.dtype == DType::bf16) return conv_bf16(args, ConvKind::dx);
  KERNEL_DISPATCH_FLOAT(args.dtype, towards_input<T>(args))
}

bool conv_pair(const kernel::ConvPairArgs& args) {
  if (args.dtype != DType::f32 || args.stride_h != 1 || args.stride_w != 1) return false;
  if (args.towards_input && !args.second && !args.dw) {
    WinogradSpread spread = spread_towards_input(args);
    if (args.base) spread.base = static_cast<const float*>(args.base);
    if (spread.serves()) {
      spread.run();
      return true;
    }
  }
  Winograd winograd = args.towards_input ? winograd_towards_input(args) : winograd_forward(args);
  // The order of the taps is turned round towards the input.
  const int64_t first = args.towards_input ? last_tap(args) : 0;
  if (args.second) {
    winograd.second_source = static_cast<const float*>(args.second);
    winograd.second_filter = static_cast<const float*>(args.second_filter) + first;
  }
  if (args.base) winograd.base = static_cast<const float*>(args.base);
  if (args.dw) {
    winograd.beside = static_cast<const float*>(args.towards_input ? args.x : args.y);
    winograd.gradient = static_cast<float*>(args.dw) + first;
    if (args.second_dw) winograd.second_gradient = static_cast<float*>(args.second_dw) + first;
  }
  if (!winograd.serves()) return false;
  winograd.run();
  return true;
}

}  // namespace sinew::SINEW_CPU_NS
