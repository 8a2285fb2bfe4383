// Convolution by Winograd's minimal filtering (Lavin and Gray 2016, arXiv:1509.09308): F(4x4, 3x3) for filters of 3 x 3
// pixels, 36 products for 16 outputs instead of 144, and F(2x2, 5x5) for 5 x 5, 36 for 4 instead of 100. An image's
// outputs are cut into tiles of 4 x 4 or 2 x 2; 6 x 6 inputs and the points of interpolation are the same.
//
// Their errors against f64, root of the mean square, are those of the direct kernels times 1.7 to 2.4 forward (5 x
// 5: 1.2 to 1.6) and 1.5 to 2.1 towards the filters (3.0 to 4.4), with operands around zero; times 0.8 to 1.2 (0.6 to
// 0.8 forward, 1.6 to 2.4 towards the filters) with inputs that are not negative.
//
// An infinite input, or one near the largest number, can give NaN where a sum of products is infinite or finite; only
// in the tiles that such an input reaches.
//
// serves(): 3 x 3 or 5 x 5 taps with step 1, whole vectors of channels, and sizes for which it is the faster one.
#pragma once

#include "core/cpu/kernels/conv_pixels.h"

namespace sinew::SINEW_CPU_NS {

// Tap (r, s) of (channel, output) lies at r * row + s * col + channel * channel + output * output.
struct FilterStrides {
  int64_t row, col, channel, output;
};

struct Winograd {
  PixelGeometry g;
  int64_t images, outputs;
  const float* source;
  FilterStrides strides;

  // Where there is a target: its pixels become the sum over the taps of the source pixel there times the filter, plus
  // bias, rectified; where there is a base, which is like the target and may be it, that is added to this. A second
  // source with its filter, where there is one, is of the same sizes, and its sum is added: the sum of two such
  // convolutions in one pass over the target.
  float* target = nullptr;
  const float* filter = nullptr;
  const float* bias = nullptr;  // or null
  bool relu = false;
  const float* base = nullptr;
  const float *second_source = nullptr, *second_filter = nullptr;

  // Where there is one: `gradient`, which lies as the filter does, becomes the sum over the pixels of `beside`, which
  // is like the target, of their taps of the source times them. With it may come `second_gradient`, the same of the
  // second source.
  const float* beside = nullptr;
  float *gradient = nullptr, *second_gradient = nullptr;

  bool serves() const;
  // Results do not depend on the number of threads.
  void run() const;
};

// The derivative towards the input as the transpose of the forward convolution: every tile of cotangents is spread over
// the 6 x 6 inputs that it comes from. Fewer tiles than in Winograd towards the input where there are fewer cotangents
// than inputs, since filters reach beyond the images little or not at all.
struct WinogradSpread {
  PixelGeometry g;  // of the forward convolution
  int64_t images, outputs;
  const float* cotangents;
  const float* filter;
  FilterStrides strides;
  float* target;
  const float* base = nullptr;  // or what is added; it is like the target and may be it

  // The sizes that Winograd serves, if there are at most three quarters of the tiles.
  bool serves() const;
  // Results do not depend on the number of threads.
  void run() const;
};

}  // namespace sinew::SINEW_CPU_NS
