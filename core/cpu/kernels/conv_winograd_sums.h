// The derivative of Winograd's filtering towards the filters: over the tiles, with inputs d and cotangents y,
//   dg = G^T (sum of B^T d B (.) A y A^T) G
// so that it is 16 matrix products summed over tiles, and one small transform. Blocks of tiles are cut into chunks
// whose number depends on the sizes alone, each sums into products of its own, and these are added in order.
#pragma once

#include "core/cpu/kernels/conv_winograd.h"
#include "core/cpu/kernels/conv_winograd_tiles.h"

namespace sinew::SINEW_CPU_NS::winograd {

// Sums of a chunk beyond the second-level cache cost what is won.
inline constexpr int64_t kMostSums = 1 << 18;
// Of a register tile: they divide the channels.
inline constexpr int64_t kGradientRows = kLanes % kRows ? kLanes / 2 : kRows;

// sums (kGradientRows x kVecs vectors) += x (tiles, kGradientRows)^T y (tiles, kVecs vectors).
template <int kVecs>
inline void add_products(int64_t tiles, const float* x, int64_t ldx, const float* y, int64_t ldy, float* sums) {
  V acc[kGradientRows][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < kGradientRows; ++i)
    for (int v = 0; v < kVecs; ++v) acc[i][v] = load(sums + (i * kVecs + v) * kLanes);
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
class FilterSums {
 public:
  FilterSums(int64_t channels, int64_t outputs)
      : channels_(channels), outputs_(outputs), size_(kPositions * channels * outputs) {}

  bool fit() const { return size_ <= kMostSums; }
  int64_t size() const { return size_; }  // elements
  int64_t chunks(int64_t blocks) const { return min64(blocks, min64(16, (int64_t{1} << 21) / size_)); }

  // A y A^T: (position, tile, output).
  void transform_cotangents(const Tiles& tiles, const float* y, int64_t begin, int64_t count, int64_t pitch,
                            float* to) const {
    const PixelGeometry& g = tiles.g;
    tiles.for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      const float* first = y + run.image * g.target_image + run.row * g.target_row + run.col * g.target_col;
      for (int64_t k = 0; k < outputs_; k += kLanes) {
        const float* from = first + k;
        float* at = to + t * outputs_ + k;
        for (int64_t n = 0; n < run.count; ++n, from += 2 * g.target_col, at += outputs_) {
          const float* below = from + g.target_row;
          for (int64_t ahead = 1; ahead <= 2; ++ahead) {  // of the run below
            __builtin_prefetch(below + ahead * g.target_row);
            __builtin_prefetch(below + ahead * g.target_row + g.target_col);
          }
          const V y00 = load(from), y01 = load(from + g.target_col), y10 = load(below),
                  y11 = load(below + g.target_col);
          const V left[4] = {y00, y00 + y10, y00 - y10, -y10}, right[4] = {y01, y01 + y11, y01 - y11, -y11};
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            float* const row = at + 4 * i * pitch;
            store(row, left[i]);
            store(row + pitch, left[i] + right[i]);
            store(row + 2 * pitch, left[i] - right[i]);
            store(row + 3 * pitch, -right[i]);
          }
        }
      }
    });
  }

  // Of a block's transformed inputs, tile_pitch apart, and cotangents.
  void add_block(int64_t count, const float* x, int64_t x_pitch, int64_t tile_pitch, const float* y, int64_t y_pitch,
                 float* sums) const {
    for (int64_t p = 0; p < kPositions; ++p)
      for (int64_t k = 0; k < outputs_; k += kCols) {
        const bool wide = outputs_ - k > kLanes;
        const auto add = wide ? add_products<2> : add_products<1>;
        float* to = sums + (p * outputs_ + k) * channels_;
        for (int64_t c = 0; c < channels_; c += kGradientRows, to += kGradientRows * (wide ? kCols : kLanes))
          add(count, x + p * x_pitch + c, tile_pitch, y + p * y_pitch + k, outputs_, to);
      }
  }

  // G^T s G of the chunks' sums s, added in order.
  void combine(const float* partial, int64_t chunks, float* out, const FilterStrides& strides) const {
    parallel_blocks(outputs_, kLanes, size_ * chunks, [&](int64_t k, int64_t) {
      const int64_t first = k / kCols * kCols, width = min64(kCols, outputs_ - first);
      for (int64_t c = 0; c < channels_; ++c) {
        const float* from = partial + first * channels_ + c * width + (k - first);
        V u[4][4], t[3][4];
        for (int64_t p = 0; p < kPositions; ++p) {
          V sum = load(from + p * channels_ * outputs_);
          for (int64_t i = 1; i < chunks; ++i) sum += load(from + p * channels_ * outputs_ + i * size_);
          u[p / 4][p % 4] = sum;
        }
        for (int j = 0; j < 4; ++j) {
          const V plus = 0.5f * (u[1][j] + u[2][j]), minus = 0.5f * (u[1][j] - u[2][j]);
          t[0][j] = u[0][j] + plus, t[1][j] = minus, t[2][j] = plus + u[3][j];
        }
        for (int r = 0; r < 3; ++r) {
          const V plus = 0.5f * (t[r][1] + t[r][2]), minus = 0.5f * (t[r][1] - t[r][2]);
          const V taps[3] = {t[r][0] + plus, minus, plus + t[r][3]};
          for (int s = 0; s < 3; ++s) {
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
