// What the convolution kernels share: the register tile, and a zero-padded window of an image.
//
// The idea of both files: in a padded N,H,W,C image the s * c values that one filter row meets are contiguous. So for
// a fixed filter row a convolution is a matrix product whose left operand's rows overlap (they start stride * c apart),
// and nothing is ever unfolded. Vectors run over the other side's channels.
#pragma once

#include "core/cpu/kernels/simd.h"

namespace sinew::SINEW_CPU_NS {

// A register tile is up to kConvRows values of the scalar operand by one or two vectors.
#if defined(__AVX512F__)
inline constexpr int kConvRows = 8;
#elif defined(__AVX__)
inline constexpr int kConvRows = 6;
#else
inline constexpr int kConvRows = 4;
#endif
template <class T>
inline constexpr int kConvCols = 2 * Simd<T>::kLanes;

// What a block of images may take while it is worked on: it should stay in the second-level cache.
inline constexpr int64_t kConvBlockBytes = 192 << 10;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

// out (rows, cols, c) = rows [h0, h0 + rows) and columns [w0, w0 + cols) of the image x (h, w, c), zero outside it.
template <class T>
void copy_window(const T* x, int64_t h, int64_t w, int64_t c, int64_t h0, int64_t rows, int64_t w0, int64_t cols,
                 T* out) {
  const int64_t left = min64(cols, max64(0, -w0)), right = max64(left, min64(cols, w - w0));
  for (int64_t i = 0; i < rows; ++i, out += cols * c) {
    if (h0 + i < 0 || h0 + i >= h) {
      memset(out, 0, static_cast<size_t>(cols * c) * sizeof(T));
      continue;
    }
    memset(out, 0, static_cast<size_t>(left * c) * sizeof(T));
    if (right > left)
      memcpy(out + left * c, x + ((h0 + i) * w + w0 + left) * c, static_cast<size_t>((right - left) * c) * sizeof(T));
    memset(out + right * c, 0, static_cast<size_t>((cols - right) * c) * sizeof(T));
  }
}

}  // namespace sinew::SINEW_CPU_NS
