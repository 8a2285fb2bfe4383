// Our own direct convolution towards the filters; see conv_pixels.h and conv.cpp.
//
// A register tile holds some contiguous taps of one filter row by one or two vectors of output channels, and runs
// over a hundred pixels at a time, whose cotangents are packed first. Images are cut into chunks whose number depends
// on the sizes alone, each chunk sums into its own copy of the filters, and the copies are added in order: results do
// not depend on the number of threads. In f32, what Winograd's filtering serves goes there (conv_winograd.h). Compiled
// with -ffp-contract=fast.
#include "core/cpu/kernels/conv_winograd.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// tile[row][:] += sum over pixels of x[offset[pixel] + row] * y[pixel][:].
template <class T, int kRows, int kVecs>
void outer_tile(int64_t pixels, const T* x, const int64_t* offset, const T* __restrict y, T* __restrict tile) {
  using V = typename Simd<T>::V;
  constexpr int kLanes = Simd<T>::kLanes;
  V acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v) acc[i][v] = *reinterpret_cast<const V*>(tile + (i * kVecs + v) * kLanes);
  for (int64_t p = 0; p < pixels; ++p) {
    V yv[kVecs];
    for (int v = 0; v < kVecs; ++v) yv[v] = *reinterpret_cast<const V*>(y + v * kLanes);
    y += kVecs * kLanes;
    const T* from = x + offset[p];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const T s = from[i];
      for (int v = 0; v < kVecs; ++v) acc[i][v] += s * yv[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v) *reinterpret_cast<V*>(tile + (i * kVecs + v) * kLanes) = acc[i][v];
}

template <class T>
using OuterTile = void (*)(int64_t, const T*, const int64_t*, const T*, T*);
template <class T, int kVecs, int... kRows>
struct OuterTiles {
  static constexpr OuterTile<T> at[] = {nullptr, outer_tile<T, kRows, kVecs>...};
};
template <class T>
OuterTile<T> outer_tile_for(int64_t rows, bool wide) {
  if (wide) return OuterTiles<T, 2, 1, 2, 3, 4, 5, 6, 7, 8>::at[rows];
  return OuterTiles<T, 1, 1, 2, 3, 4, 5, 6, 7, 8>::at[rows];
}

// So many pixels' cotangents and the values that one tile reads fit the first-level cache.
constexpr int64_t kPiece = 128;

template <class T>
struct FilterGradient {
  const kernel::ConvArgs& a;
  const PixelGeometry& g;
  const T *x, *y;
  T* out;
  const int64_t length = a.s * a.c, columns = ceil_div(a.k, kConvCols<T>);

  // Output channels are cut into column blocks of two vectors, the last of one where that is enough.
  static int64_t width_of(int64_t left) { return left > Simd<T>::kLanes ? 2 * Simd<T>::kLanes : Simd<T>::kLanes; }
  int64_t partial_size() const { return a.r * length * columns * kConvCols<T>; }

  void run() const {
    const int64_t chunks = max64(1, min64(min64(a.n, 16), (int64_t{1} << 21) / partial_size()));
    const int64_t splits = chunks >= 16 ? 1 : columns;  // with few chunks the column blocks are tasks of their own
    const int64_t task_columns = columns / splits;
    // Images are taken together, so that a tile's sums stay in registers over enough pixels, in border groups too.
    int64_t block_images = 1;
    while ((block_images < 8 || block_images * a.p * a.q < 4 * kPiece) && 2 * block_images * chunks <= a.n)
      block_images *= 2;
    const Pixels pixels(g, block_images, 0, a.p);
    const size_t bytes = static_cast<size_t>(chunks * partial_size()) * sizeof(T);
    T* partial = static_cast<T*>(aligned_alloc(64, (bytes + 63) / 64 * 64));
    parallel_blocks(chunks * splits, 1, a.n * a.p * a.q * a.k * a.r * length / 16, [&](int64_t task, int64_t) {
      const int64_t chunk = task / splits, column = task % splits * task_columns;
      const int64_t begin = a.n * chunk / chunks, end = a.n * (chunk + 1) / chunks;
      T* sums = partial + chunk * partial_size() + column * a.r * length * kConvCols<T>;
      memset(sums, 0, static_cast<size_t>(task_columns * a.r * length * kConvCols<T>) * sizeof(T));
      for (int64_t image = begin; image < end; image += block_images)
        for (int64_t b = 0; b < task_columns; ++b)
          add_images(pixels, image, min64(block_images, end - image), (column + b) * kConvCols<T>,
                     sums + b * a.r * length * kConvCols<T>);
    });
    combine(partial, chunks);
    free(partial);
  }

  // Adds m images' products for the output channels from k on to sums (r, length, width).
  void add_images(const Pixels& pixels, int64_t image, int64_t m, int64_t k, T* sums) const {
    alignas(64) T packed[kPiece * kConvCols<T>];
    const int64_t left = a.k - k, width = width_of(left), used = min64(left, width);
    const bool wide = width > Simd<T>::kLanes;
    const T *from_x = x + image * a.h * a.w * a.c, *from_y = y + image * a.p * a.q * a.k + k;
    for (int64_t q = 0; q < pixels.count; ++q) {
      const PixelGroup& group = pixels.groups[q];
      const int64_t first = group.cols.low * a.c, last = group.cols.high * a.c;
      const int64_t end = group.begin + m * group.per_image;
      for (int64_t p = group.begin; p < end && first < last; p += kPiece) {
        const int64_t count = min64(kPiece, end - p);
        pack(from_y, pixels.target + p, count, used, width, packed);
        const int64_t taps = last - first, tiles = ceil_div(taps, kConvRows);
        for (int64_t r = group.rows.low; r < group.rows.high; ++r)
          for (int64_t t = 0; t < tiles; ++t) {
            const int64_t l = taps * t / tiles, rows = taps * (t + 1) / tiles - l;
            outer_tile_for<T>(rows, wide)(count, from_x + (r - group.rows.low) * a.w * a.c + l, pixels.source + p,
                                          packed, sums + (r * length + first + l) * width);
          }
      }
    }
  }

  static void pack(const T* from, const int64_t* offset, int64_t pixels, int64_t used, int64_t width, T* to) {
    for (int64_t p = 0; p < pixels; ++p, to += width) {
      const T* f = from + offset[p];
      if (used == kConvCols<T>) {
        memcpy(to, f, kConvCols<T> * sizeof(T));
        continue;
      }
      for (int64_t k = 0; k < used; ++k) to[k] = f[k];
      for (int64_t k = used; k < width; ++k) to[k] = T(0);
    }
  }

  // out (k, r, s, c) = the chunks' sums added in order.
  void combine(const T* partial, int64_t chunks) const {
    parallel_blocks(a.k, 1, a.k * a.r * length * chunks, [&](int64_t k, int64_t) {
      const int64_t block = k / kConvCols<T>, width = width_of(a.k - block * kConvCols<T>);
      const T* from = partial + block * a.r * length * kConvCols<T> + k % kConvCols<T>;
      T* to = out + k * a.r * length;
      for (int64_t l = 0; l < a.r * length; ++l) to[l] = from[l * width];
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        from += partial_size();
        for (int64_t l = 0; l < a.r * length; ++l) to[l] += from[l * width];
      }
    });
  }
};

template <class T>
void towards_filter(const kernel::ConvArgs& a) {
  const PixelGeometry g{a.h, a.w, a.c, -a.pad_h, -a.pad_w,        a.stride_h, a.stride_w,
                        a.r, a.s, a.p, a.q,      a.p * a.q * a.k, a.q * a.k,  a.k};
  const T *x = static_cast<const T*>(a.x), *y = static_cast<const T*>(a.y);
  T* out = static_cast<T*>(a.out);
  if constexpr (sizeof(T) == sizeof(float)) {
    const Winograd winograd{.g = g,
                            .images = a.n,
                            .outputs = a.k,
                            .source = x,
                            .strides = {a.s * a.c, a.c, 1, a.r * a.s * a.c},
                            .beside = y,
                            .gradient = out};
    if (winograd.serves()) return winograd.run();
  }
  const FilterGradient<T> gradient{a, g, x, y, out};
  gradient.run();
}

}  // namespace

void conv_dw(const kernel::ConvArgs& args) {
  if (args.dtype == DType::bf16) return conv_bf16(args, ConvKind::dw);
  KERNEL_DISPATCH_FLOAT(args.dtype, towards_filter<T>(args))
}

}  // namespace sinew::SINEW_CPU_NS
