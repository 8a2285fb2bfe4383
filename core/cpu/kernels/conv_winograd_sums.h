// The derivative of Winograd's filtering towards the filters: over the tiles, with inputs d and cotangents y,
//   dg = G^T (sum of B^T d B (.) A y A^T) G
// so that it is one matrix product summed over tiles for each position, and one small transform. Blocks of tiles are
// cut into chunks whose number depends on the sizes alone, each sums into products of its own, and these are added in
// order.
#pragma once

#include "core/cpu/kernels/conv_winograd.h"
#include "core/cpu/kernels/conv_winograd_tiles.h"

namespace sinew::SINEW_CPU_NS::winograd {

// Of a register tile: they divide the channels.
inline constexpr int64_t kGradientRows = kLanes % kRows ? kLanes / 2 : kRows;

// sums (kGradientRows x kVecs vectors) += x (tiles, kGradientRows)^T y (tiles, kVecs vectors); or = where they are
// fresh.
template <int kVecs>
inline void add_products(int64_t tiles, const float* x, int64_t ldx, const float* y, int64_t ldy, float* sums,
                         bool fresh) {
  V acc[kGradientRows][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < kGradientRows; ++i)
    for (int v = 0; v < kVecs; ++v) acc[i][v] = fresh ? V{} : load(sums + (i * kVecs + v) * kLanes);
  for (int64_t t = 0; t < tiles; ++t, x += ldx, y += ldy) {
    V yv[kVecs];
    for (int v = 0; v < kVecs; ++v) yv[v] = load(y + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kGradientRows; ++i) {
      const float s = x[i];
      for (int v = 0; v < kVecs; ++v) acc[i][v] += s * yv[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kGradientRows; ++i)
    for (int v = 0; v < kVecs; ++v) store(sums + (i * kVecs + v) * kLanes, acc[i][v]);
}

// sums: (position, block of columns, channel, one or two vectors of outputs).
template <int kTaps>
class FilterSums {
 public:
  FilterSums(int64_t channels, int64_t outputs)
      : channels_(channels), outputs_(outputs), size_(kPositions * channels * outputs) {}

  int64_t size() const { return size_; }  // elements
  // Beside each other in the caches, if they are not too few for the threads.
  int64_t chunks(int64_t blocks) const { return min64(blocks, min64(16, max64(4, (int64_t{1} << 20) / size_))); }

  // Position p of a block's transformed inputs, tile_pitch apart, and cotangents; the first block of `fresh` sums makes
  // them.
  void add_block(int64_t p, int64_t count, const float* x, int64_t x_pitch, int64_t tile_pitch, const float* y,
                 int64_t y_pitch, float* sums, bool fresh) const {
    for (int64_t k = 0; k < outputs_; k += kCols) {
      const bool wide = outputs_ - k > kLanes;
      const auto add = wide ? add_products<2> : add_products<1>;
      float* to = sums + (p * outputs_ + k) * channels_;
      for (int64_t c = 0; c < channels_; c += kGradientRows, to += kGradientRows * (wide ? kCols : kLanes))
        add(count, x + p * x_pitch + c, tile_pitch, y + p * y_pitch + k, outputs_, to, fresh);
    }
  }

  // G^T s G of the chunks' sums s, which are added in order, to the first.
  void combine(float* partial, int64_t chunks, float* out, const FilterStrides& strides) const {
    parallel_blocks(size_, 1 << 10, size_ * (chunks - 1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kLanes) {
        V sum = load(partial + i);
        for (int64_t chunk = 1; chunk < chunks; ++chunk) sum += load(partial + chunk * size_ + i);
        store(partial + i, sum);
      }
    });
    parallel_blocks(outputs_, kLanes, size_, [&](int64_t k, int64_t) {
      const int64_t first = k / kCols * kCols, width = min64(kCols, outputs_ - first);
      for (int64_t c = 0; c < channels_; ++c) {
        const float* from = partial + first * channels_ + c * width + (k - first);
        V columns[kPatch][kTaps];  // of G^T s
        for (int64_t j = 0; j < kPatch; ++j) {
          V u[kPatch];
          for (int64_t i = 0; i < kPatch; ++i) u[i] = load(from + (kPatch * i + j) * channels_ * outputs_);
          gather_filter<kTaps>(u, columns[j]);
        }
        for (int r = 0; r < kTaps; ++r) {
          V u[kPatch], taps[kTaps];
          for (int j = 0; j < kPatch; ++j) u[j] = columns[j][r];
          gather_filter<kTaps>(u, taps);
          for (int s = 0; s < kTaps; ++s) {
            float* to = out + k * strides.output + r * strides.row + s * strides.col + c * strides.channel;
            for (int l = 0; l < kLanes; ++l) to[l * strides.output] = taps[s][l];
          }
        }
      }
    });
  }

 private:
  int64_t channels_, outputs_, size_;
};

}  // namespace sinew::SINEW_CPU_NS::winograd
