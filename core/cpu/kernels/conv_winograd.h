// Convolution with filters of 3 x 3 pixels by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2016,
// arXiv:1509.09308): 16 products for four outputs instead of 36. An image's outputs are cut into tiles of 2 x 2.
//
// An infinite input, or one near the largest number, can give NaN where a sum of products is infinite or finite; only
// outputs that such an input reaches.
//
// serves(): 3 x 3 taps with step 1, even sizes, whole vectors of channels, and sizes for which it is the faster one.
#pragma once

#include "core/cpu/kernels/conv_pixels.h"

namespace sinew::SINEW_CPU_NS {

// Tap (r, s) of (channel, output) lies at r * row + s * col + channel * channel + output * output.
struct FilterStrides {
  int64_t row, col, channel, output;
};

// target pixel = sum over 3 x 3 taps of the source pixel there times the filter, plus bias, rectified; or added to what
// is there. A second source with its filter, where there is one, is of the same sizes, and its sum is added: the sum of
// two such convolutions in one pass over the target.
struct Winograd {
  PixelGeometry g;
  const float* source;
  float* target;
  int64_t images, outputs;
  const float* filter;
  FilterStrides strides;
  const float* bias;  // or null
  bool relu, add;
  const float *second_source = nullptr, *second_filter = nullptr;
  // Where there is one: `gradient`, which lies as the filter does, becomes the sum over the pixels of `beside`, which
  // is like the target, of their taps of the source times them: WinogradGradient, of tiles transformed once for both.
  const float* beside = nullptr;
  float* gradient = nullptr;

  bool serves() const;
  void run() const;
};

// out (outputs, 3, 3, channels) = sum over the pixels y of their taps of x times y, for x and y as the source and
// target of g. Results do not depend on the number of threads.
struct WinogradGradient {
  PixelGeometry g;
  const float *x, *y;
  float* out;
  int64_t images, outputs;

  bool serves() const;
  void run() const;
};

}  // namespace sinew::SINEW_CPU_NS
