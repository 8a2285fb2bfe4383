// What the kernels of Winograd's filtering F(2x2, 3x3) share: tiles of 2 x 2 outputs and their 4 x 4 inputs.
#pragma once

#include <new>

#include "core/cpu/kernels/conv_pixels.h"

namespace sinew::SINEW_CPU_NS::winograd {

using V = Simd<float>::V;
using Unaligned = Simd<float>::Unaligned;
inline constexpr int64_t kLanes = Simd<float>::kLanes, kCols = kConvCols<float>, kRows = kConvRows;
inline constexpr int64_t kPositions = 16;  // in a tile of inputs

inline V load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }

// Memory that its thread keeps for its next call: the system hands out large blocks page by page, at a price. Throws
// std::bad_alloc.
class Kept {
 public:
  Kept() = default;
  ~Kept() { give_back(); }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  float* reserve(int64_t floats) {
    if (floats > size_) {
      give_back();
      data_ = static_cast<float*>(aligned_alloc(64, (static_cast<size_t>(floats) * sizeof(float) + 63) / 64 * 64));
      if (!data_) throw std::bad_alloc();
      size_ = floats;
    }
    return data_;
  }
  // At the end of a call: what only the largest layers need is not kept.
  void trim() {
    constexpr int64_t kMost = 2 << 20;
    if (size_ > kMost) give_back();
  }

 private:
  void give_back() {
    free(data_);
    data_ = nullptr, size_ = 0;
  }
  float* data_ = nullptr;
  int64_t size_ = 0;
};
// What a call's threads share, and what each needs for a block of tiles.
inline thread_local Kept kept_for_call, kept_for_block;

// Tiles beside each other in an image.
struct TileRun {
  int64_t image, row, col, count;  // (row, col) is the first one's first output
};

// The tiles of some images, numbered image by image, row by row.
struct Tiles {
  const PixelGeometry& g;
  int64_t source_row = g.source_w * g.channels;  // elements

  int64_t count(int64_t images) const { return images * (g.rows / 2) * (g.cols / 2); }
  // With fewer tiles, transforming the filters takes what is won; in images of 2 rows or columns, where the direct
  // kernels skip the taps that meet padding, there is little to win.
  bool fit(int64_t images, int64_t outputs) const {
    return g.taps_h == 3 && g.taps_w == 3 && g.step_h == 1 && g.step_w == 1 && g.rows % 2 == 0 && g.cols % 2 == 0 &&
           g.channels % kLanes == 0 && outputs % kLanes == 0 && g.rows > 2 && g.cols > 2 && count(images) >= 512;
  }

  // fn(run, its first tile's number from `begin`) for the tiles [begin, begin + count).
  template <class Fn>
  void for_runs(int64_t begin, int64_t count, Fn fn) const {
    const int64_t across = g.cols / 2, down = g.rows / 2;
    for (int64_t t = 0; t < count;) {
      const int64_t row = (begin + t) / across, col = (begin + t) % across, n = min64(across - col, count - t);
      fn(TileRun{row / down, row % down * 2, col * 2, n}, t);
      t += n;
    }
  }

  // B^T d B of the inputs d: in[position * pitch + tile * tile_pitch + channel]. `zeros`, a row of the source, takes
  // the place of those outside. Tiles beside each other share two columns; the rows that the tiles below will need are
  // fetched ahead.
  void transform_inputs(const float* source, int64_t begin, int64_t count, const float* zeros, int64_t pitch,
                        int64_t tile_pitch, float* in) const {
    struct Column {  // of B^T d
      V t[4];
    };
    for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      const float* row[4];
      for (int i = 0; i < 4; ++i) {
        const int64_t h = run.row + g.first_h + i;
        row[i] = h >= 0 && h < g.source_h ? source + (run.image * g.source_h + h) * source_row : zeros;
      }
      for (int64_t c = 0; c < g.channels; c += kLanes) {
        const auto column = [&](int64_t w) {
          if (w < 0 || w >= g.source_w) return Column{};
          const int64_t at = w * g.channels + c;
          __builtin_prefetch(row[3] + at + source_row), __builtin_prefetch(row[3] + at + 2 * source_row);
          const V d0 = load(row[0] + at), d1 = load(row[1] + at), d2 = load(row[2] + at), d3 = load(row[3] + at);
          return Column{{d0 - d2, d1 + d2, d2 - d1, d1 - d3}};
        };
        int64_t w = run.col + g.first_w;
        float* to = in + t * tile_pitch + c;
        Column c0 = column(w), c1 = column(w + 1);
        for (int64_t n = 0; n < run.count; ++n, to += tile_pitch) {
          const Column c2 = column(w + 2), c3 = column(w + 3);
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            float* const at = to + 4 * i * pitch;
            store(at, c0.t[i] - c2.t[i]);
            store(at + pitch, c1.t[i] + c2.t[i]);
            store(at + 2 * pitch, c2.t[i] - c1.t[i]);
            store(at + 3 * pitch, c1.t[i] - c3.t[i]);
          }
          c0 = c2, c1 = c3, w += 2;
        }
      }
    });
  }
};

}  // namespace sinew::SINEW_CPU_NS::winograd
