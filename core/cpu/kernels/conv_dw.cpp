// Our own direct convolution towards the filters; see conv_window.h and conv.cpp.
//
// A register tile holds some contiguous taps of one filter row by one or two vectors of output channels, and runs
// over all pixels of a block of images. Images are cut into chunks whose number depends on the sizes alone, each
// chunk sums into its own copy of the filters, and the copies are added in order: results do not depend on the number
// of threads. Compiled with -ffp-contract=fast.
#include "core/cpu/kernels/conv_window.h"

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

template <class T>
struct FilterGradient {
  const kernel::ConvArgs& a;
  const T *x, *y;
  T* out;
  int64_t length = 0, window_h = 0, window_w = 0, columns = 0, block_images = 1;
  int64_t* offsets = nullptr;

  // Output channels are cut into column blocks of two vectors, the last of one where that is enough.
  static int64_t width_of(int64_t left) { return left > Simd<T>::kLanes ? 2 * Simd<T>::kLanes : Simd<T>::kLanes; }
  int64_t partial_size() const { return a.r * length * columns * kConvCols<T>; }
  int64_t image_size() const { return window_h * window_w * a.c; }

  void run() {
    length = a.s * a.c;
    window_h = (a.p - 1) * a.stride_h + a.r, window_w = (a.q - 1) * a.stride_w + a.s;
    columns = ceil_div(a.k, kConvCols<T>);
    const int64_t pixels = a.p * a.q;
    const int64_t chunks = max64(1, min64(min64(a.n, 16), (int64_t{1} << 21) / partial_size()));
    // With few chunks the column blocks are tasks of their own: each copies the images again, which the many channels
    // outweigh.
    const int64_t splits = chunks >= 16 ? 1 : columns;
    const int64_t task_columns = columns / splits;
    const int64_t image_bytes = (image_size() + pixels * task_columns * kConvCols<T>)*static_cast<int64_t>(sizeof(T));
    while (2 * block_images * image_bytes <= kConvBlockBytes && 2 * block_images * chunks <= a.n) block_images *= 2;
    offsets = static_cast<int64_t*>(malloc(static_cast<size_t>(block_images * pixels) * sizeof(int64_t)));
    for (int64_t m = 0, at = 0; m < block_images; ++m)
      for (int64_t i = 0; i < a.p; ++i)
        for (int64_t j = 0; j < a.q; ++j)
          offsets[at++] = m * image_size() + (i * a.stride_h * window_w + j * a.stride_w) * a.c;
    T* partial =
        static_cast<T*>(aligned_alloc(64, (static_cast<size_t>(chunks * partial_size()) * sizeof(T) + 63) / 64 * 64));
    parallel_blocks(chunks * splits, 1, a.n * pixels * a.k * a.r * length / 16, [&](int64_t task, int64_t) {
      const int64_t chunk = task / splits, column = task % splits * task_columns;
      sum_images(a.n * chunk / chunks, a.n * (chunk + 1) / chunks, column, task_columns,
                 partial + chunk * partial_size() + column * a.r * length * kConvCols<T>);
    });
    combine(partial, chunks);
    free(partial);
    free(offsets);
  }

  // Sums images [begin, end) for column blocks [column, column + count) into `sums`: (count, r, length, width).
  void sum_images(int64_t begin, int64_t end, int64_t column, int64_t count, T* sums) const {
    memset(sums, 0, static_cast<size_t>(count * a.r * length * kConvCols<T>) * sizeof(T));
    const int64_t pixels = a.p * a.q;
    const size_t window_bytes = (static_cast<size_t>(block_images * image_size()) * sizeof(T) + 63) / 64 * 64;
    const size_t y_bytes = static_cast<size_t>(block_images * pixels * count * kConvCols<T>) * sizeof(T);
    char* space = static_cast<char*>(aligned_alloc(64, (window_bytes + y_bytes + 63) / 64 * 64));
    T* windows = reinterpret_cast<T*>(space);
    T* packed_y = reinterpret_cast<T*>(space + window_bytes);
    for (int64_t image = begin; image < end; image += block_images) {
      const int64_t m = min64(block_images, end - image);
      for (int64_t i = 0; i < m; ++i)
        copy_window(x + (image + i) * a.h * a.w * a.c, a.h, a.w, a.c, -a.pad_h, window_h, -a.pad_w, window_w,
                    windows + i * image_size());
      for (int64_t b = 0; b < count; ++b) {
        const int64_t k0 = (column + b) * kConvCols<T>, left = a.k - k0, width = width_of(left);
        T* from = packed_y + b * m * pixels * kConvCols<T>;
        pack_columns(y + image * pixels * a.k + k0, m * pixels, min64(left, width), width, from);
        add_tiles(windows, from, m * pixels, width, sums + b * a.r * length * kConvCols<T>);
      }
    }
    free(space);
  }

  void pack_columns(const T* from, int64_t pixels, int64_t used, int64_t width, T* to) const {
    for (int64_t p = 0; p < pixels; ++p, from += a.k, to += width) {
      for (int64_t k = 0; k < used; ++k) to[k] = from[k];
      for (int64_t k = used; k < width; ++k) to[k] = T(0);
    }
  }

  void add_tiles(const T* windows, const T* from, int64_t pixels, int64_t width, T* sums) const {
    const bool wide = width > Simd<T>::kLanes;
    for (int64_t r = 0; r < a.r; ++r)
      for (int64_t l = 0; l < length; l += kConvRows)
        outer_tile_for<T>(min64(kConvRows, length - l), wide)(pixels, windows + r * window_w * a.c + l, offsets, from,
                                                              sums + (r * length + l) * width);
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

}  // namespace

void conv_dw(const kernel::ConvArgs& args) {
  KERNEL_DISPATCH_FLOAT(args.dtype, {
    FilterGradient<T> gradient{args, static_cast<const T*>(args.x), static_cast<const T*>(args.y),
                               static_cast<T*>(args.out)};
    gradient.run();
  })
}

}  // namespace sinew::SINEW_CPU_NS
