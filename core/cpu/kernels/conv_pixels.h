// What the convolution kernels share: register tiles, and the pixels of some images in groups.
//
// The idea of both kernels: in an N,H,W,C image the s * c values under one filter row are contiguous. So for a fixed
// filter row a convolution is a matrix product whose left operand's rows overlap (they start stride * c apart), and
// nothing is ever unfolded. Vectors run over the other side's channels. Pixels near the border meet only some taps:
// pixels with the same ones form a group, so that padding costs neither arithmetic nor a padded copy.
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

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

// Along one axis: positions [begin, end), all of which meet the taps [low, high).
struct Run {
  int64_t begin, end, low, high;
};

// Position i < count meets the taps t < taps with 0 <= first + i * step + t < extent. Fills at most `count` runs.
inline int64_t make_runs(int64_t begin, int64_t end, int64_t first, int64_t step, int64_t taps, int64_t extent,
                         Run* runs) {
  int64_t count = 0;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t at = first + i * step, low = min64(max64(0, -at), taps), high = max64(low, min64(taps, extent - at));
    if (count > 0 && runs[count - 1].low == low && runs[count - 1].high == high)
      runs[count - 1].end = i + 1;
    else
      runs[count++] = {i, i + 1, low, high};
  }
  return count;
}

struct PixelGroup {
  int64_t begin, per_image;  // its pixels in the arrays below: per_image of the first image, then of the second...
  Run rows, cols;
};

// How pixel (i, j) of an image lies over a source image and in a target.
struct PixelGeometry {
  int64_t source_h, source_w, channels;
  int64_t first_h, first_w, step_h, step_w, taps_h, taps_w;  // tap (0, 0) of pixel (0, 0), which may lie outside
  int64_t rows, cols;
  int64_t target_image, target_row, target_col;  // strides in elements
};

// The pixels of rows [row_begin, row_end) of `images` images, group by group. source[p] is where pixel p's first valid
// tap lies, target[p] where the pixel itself does, both relative to the first image.
class Pixels {
 public:
  Pixels(const PixelGeometry& g, int64_t images, int64_t row_begin, int64_t row_end) {
    const int64_t rows = row_end - row_begin, pixels = images * rows * g.cols;
    Run* row_runs = static_cast<Run*>(malloc(static_cast<size_t>(rows + g.cols) * sizeof(Run)));
    Run* col_runs = row_runs + rows;
    const int64_t nr = make_runs(row_begin, row_end, g.first_h, g.step_h, g.taps_h, g.source_h, row_runs);
    const int64_t nc = make_runs(0, g.cols, g.first_w, g.step_w, g.taps_w, g.source_w, col_runs);
    groups = static_cast<PixelGroup*>(malloc(static_cast<size_t>(nr * nc) * sizeof(PixelGroup)));
    source = static_cast<int64_t*>(malloc(static_cast<size_t>(2 * pixels) * sizeof(int64_t)));
    target = source + pixels;
    int64_t at = 0;
    for (int64_t a = 0; a < nr; ++a)
      for (int64_t b = 0; b < nc; ++b) {
        const Run &r = row_runs[a], &c = col_runs[b];
        groups[count++] = {at, (r.end - r.begin) * (c.end - c.begin), r, c};
        for (int64_t m = 0; m < images; ++m)
          for (int64_t i = r.begin; i < r.end; ++i)
            for (int64_t j = c.begin; j < c.end; ++j, ++at) {
              const int64_t h = g.first_h + i * g.step_h + r.low, w = g.first_w + j * g.step_w + c.low;
              const bool empty = r.low == r.high || c.low == c.high;
              source[at] = empty ? 0 : ((m * g.source_h + h) * g.source_w + w) * g.channels;
              target[at] = m * g.target_image + i * g.target_row + j * g.target_col;
            }
      }
    free(row_runs);
  }
  ~Pixels() {
    free(groups);
    free(source);
  }
  Pixels(const Pixels&) = delete;
  Pixels& operator=(const Pixels&) = delete;

  PixelGroup* groups = nullptr;
  int64_t count = 0;
  int64_t *source = nullptr, *target = nullptr;
};

}  // namespace sinew::SINEW_CPU_NS
