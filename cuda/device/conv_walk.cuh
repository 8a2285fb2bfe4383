// How the convolution kernels find their way: from rows, columns and summed indices of the product to places in memory.
#pragma once

#include "cuda/device/device.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// n / d without a division.
SINEW_DEVICE int divide(const Divider& by, int n) { return int((uint64_t(uint32_t(n)) * by.multiplier) >> by.shift); }

inline constexpr int kNowhere = -(1 << 30);  // a coordinate outside every image

// Where k = (row of taps r, tap s, channel) stands, and an offset into memory that goes with it.
struct TapWalk {
  int channels, taps_h, taps_w;
  int channel_step, tap_step, row_step;  // tap_step: to the next tap and back by all channels; row_step alike
  int channel = 0, s = 0, r = 0, offset = 0;

  // Whether it is another tap's turn.
  SINEW_DEVICE bool advance(int n) {
    channel += n;
    offset += n * channel_step;
    if (channel < channels) return false;
    do {
      channel -= channels;
      offset += tap_step;
      if (++s == taps_w) {
        s = 0;
        ++r;
        offset += row_step;
      }
    } while (channel >= channels);
    return true;
  }
  SINEW_DEVICE bool there() const { return r < taps_h; }
};

// One pixel of the target: where its tap (0, 0) lies in the source.
struct Pixel {
  int offset, h, w;
};

template <int kDirection>
SINEW_DEVICE Pixel pixel_at(const CorrelationShape& shape, const CorrelationPart& part, int first_image, int m) {
  if (m >= part.pixels) return {0, kNowhere, kNowhere};
  const int image = divide(part.per_image, m), rest = m - image * part.per_image.divisor;
  const int i = divide(part.per_row, rest), j = rest - i * part.per_row.divisor;
  const int h = part.base_h + i * shape.step_h, w = part.base_w + j * shape.step_w;
  return {(image - first_image) * int(shape.source_image) + (h * shape.source_w + w) * shape.channels, h, w};
}

template <int kDirection>
SINEW_DEVICE TapWalk source_walk(const CorrelationShape& shape, const CorrelationPart& part) {
  const int tap = kDirection * shape.channels;
  return {shape.channels,       part.taps_h,
          part.taps_w,          1,
          tap - shape.channels, kDirection * shape.source_w * shape.channels - part.taps_w * tap};
}

template <int kDirection>
SINEW_DEVICE bool inside(const CorrelationShape& shape, const TapWalk& walk, const Pixel& pixel) {
  return unsigned(pixel.h + kDirection * walk.r) < unsigned(shape.source_h) &&
         unsigned(pixel.w + kDirection * walk.s) < unsigned(shape.source_w) && walk.there();
}

// The filters, of which a part has some taps.
SINEW_DEVICE TapWalk filter_walk(const CorrelationShape& shape, const CorrelationPart& part) {
  return {shape.channels,
          part.taps_h,
          part.taps_w,
          shape.channel_step,
          shape.tap_step_w - shape.channels * shape.channel_step,
          shape.tap_step_h - part.taps_w * shape.tap_step_w};
}

// Where row m of the product lies in the target.
SINEW_DEVICE int64_t target_offset(const CorrelationShape& shape, const CorrelationPart& part, int m) {
  const int image = divide(part.per_image, m), rest = m - image * part.per_image.divisor;
  const int row = divide(part.per_row, rest), column = rest - row * part.per_row.divisor;
  return image * shape.target_image + part.target + row * shape.target_step_h + column * shape.target_step_w;
}

// A tile of the product: its part's first pixel and first output, and the images from the first one on. Not there when
// the part is smaller than the largest one.
struct CorrelationPlace {
  int m0, n0, first_image;
  bool there;
};
SINEW_DEVICE CorrelationPlace correlation_place(const CorrelationShape& shape, const CorrelationPart& part, int tile_m,
                                                int tile_n) {
  const int tiles_n = (shape.outputs + tile_n - 1) / tile_n;
  const int64_t begin = int64_t(blockIdx.x / tiles_n) * tile_m;
  if (begin >= part.pixels) return {0, 0, 0, false};
  return {int(begin), int(blockIdx.x % tiles_n) * tile_n, divide(part.per_image, int(begin)), true};
}

// ---- towards the filters ----

// Tap (0, 0) of a pixel of y: coordinates and offset in x.
struct TapOrigin {
  int h, w, offset;

  // Pixel number i from the first one of an image on.
  SINEW_DEVICE TapOrigin(const ConvDwShape& s, int i) {
    const int image = i / (s.p * s.q), row = i / s.q - image * s.p, column = i % s.q;
    h = row * s.stride_h - s.pad_h;
    w = column * s.stride_w - s.pad_w;
    offset = image * int(s.x_image) + (h * s.w + w) * s.c;
  }
  // To the pixel one slice further.
  SINEW_DEVICE void advance(const ConvDwShape& s) {
    h += s.skip_h;
    w += s.skip_w;
    offset += s.skip;
    if (w >= s.end_w) {
      w -= s.q * s.stride_w;
      h += s.stride_h;
      offset += s.wrap_row;
    }
    if (h >= s.end_h) {
      h -= s.p * s.stride_h;
      offset += s.wrap_image;
    }
  }
};

// Column n of dw: its tap, and its offset from tap (0, 0).
struct Tap {
  int h, w, offset;
};
SINEW_DEVICE Tap tap_of(const ConvDwShape& s, int n) {
  if (n >= s.columns) return {kNowhere, kNowhere, 0};
  const int place = n / s.c, r = place / s.taps_w, column = place - r * s.taps_w;
  return {r, column, (r * s.w + column) * s.c + n - place * s.c};
}
SINEW_DEVICE bool inside(const ConvDwShape& s, const TapOrigin& origin, const Tap& tap) {
  return unsigned(origin.h + tap.h) < unsigned(s.h) && unsigned(origin.w + tap.w) < unsigned(s.w);
}

// A tile of dw and its pixels: `count` from `begin` on, `first` from the first one of their first image on.
struct DwTile {
  int m0, n0, count, image, first;
  int64_t begin;
};
SINEW_DEVICE DwTile dw_tile(const ConvDwShape& s, int tile_m, int tile_n) {
  const int tiles_n = (s.columns + tile_n - 1) / tile_n;
  const int64_t begin = int64_t(blockIdx.y) * s.chunk, per_image = int64_t(s.p) * s.q;
  const int image = int(begin / per_image);
  return {int(blockIdx.x / tiles_n) * tile_m,
          int(blockIdx.x % tiles_n) * tile_n,
          int(begin + s.chunk < s.pixels ? s.chunk : s.pixels - begin),
          image,
          int(begin - image * per_image),
          begin};
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
