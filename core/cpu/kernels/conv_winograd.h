// Convolution with filters of 3 x 3 pixels by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2016,
// arXiv:1509.09308): 16 products for four outputs instead of 36.
#pragma once

#include "core/cpu/kernels/conv_pixels.h"

namespace sinew::SINEW_CPU_NS {

// Tap (r, s) of (channel, output) lies at r * row + s * col + channel * channel + output * output.
struct FilterStrides {
  int64_t row, col, channel, output;
};

// target pixel = sum over 3 x 3 taps of the source pixel there times the filter, plus bias, rectified; or added to what
// is there.
struct Winograd {
  PixelGeometry g;
  const float* source;
  float* target;
  int64_t images, outputs;
  const float* filter;
  FilterStrides strides;
  const float* bias;  // or null
  bool relu, add;

  int64_t tiles() const { return images * (g.rows / 2) * (g.cols / 2); }
  // Of 3 x 3 taps with step 1, even sizes and whole vectors of channels; and large enough to be faster.
  bool serves() const;
  void run() const;
};

}  // namespace sinew::SINEW_CPU_NS
