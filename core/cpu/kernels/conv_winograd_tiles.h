// What the kernels of Winograd's filtering F(4x4, 3x3) and F(2x2, 5x5) share: tiles of outputs and their 6 x 6 inputs.
#pragma once

#include <new>

#include "core/cpu/kernels/conv_pixels.h"

namespace sinew::SINEW_CPU_NS::winograd {

using V = Simd<float>::V;
using Unaligned = Simd<float>::Unaligned;
inline constexpr int64_t kLanes = Simd<float>::kLanes, kCols = kConvCols<float>, kRows = kConvRows;
inline constexpr int kPatch = 6;  // inputs of a tile along an axis
inline constexpr int64_t kPositions = kPatch * kPatch;
// Outputs of a tile along an axis.
template <int kTaps>
inline constexpr int kTileOf = kPatch + 1 - kTaps;

inline V load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void store(float* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }

// The transforms along one axis, with the interpolation points 0, a, -a, 1/a, -1/a and infinity.
inline constexpr float kRoot = 0.707106781f;  // a, and 1/a = 2a. With 1, -1, 2, -2 the errors are twice as large

// B^T d
inline void transform_input(const V* d, V* t) {
  const V even = d[4] - 2.0f * d[2], odd = kRoot * (d[3] - 2.0f * d[1]);
  const V far_even = d[4] - 0.5f * d[2], far_odd = 2 * kRoot * (d[3] - 0.5f * d[1]);
  t[0] = d[0] - 2.5f * d[2] + d[4];
  t[1] = even + odd, t[2] = even - odd;
  t[3] = far_even + far_odd, t[4] = far_even - far_odd;
  t[5] = d[1] - 2.5f * d[3] + d[5];
}
// B t
inline void spread_input(const V* t, V* d) {
  const V even = t[1] + t[2], odd = kRoot * (t[1] - t[2]), far_even = t[3] + t[4], far_odd = 2 * kRoot * (t[3] - t[4]);
  d[0] = t[0];
  d[1] = t[5] - 2.0f * odd - 0.5f * far_odd;
  d[2] = -2.5f * t[0] - 2.0f * even - 0.5f * far_even;
  d[3] = odd + far_odd - 2.5f * t[5];
  d[4] = t[0] + even + far_even;
  d[5] = t[5];
}
// The polynomial with these coefficients at the points: A y of kTerms = kTile cotangents.
template <int kTerms, class T>
inline void evaluate(const T* y, T* t) {
  T even = y[0], odd = y[1], far_even = y[0], far_odd = y[1];
  if constexpr (kTerms > 2) even += 0.5f * y[2], far_even += 2.0f * y[2];
  if constexpr (kTerms > 3) odd += 0.5f * y[3], far_odd += 2.0f * y[3];
  if constexpr (kTerms > 4) even += 0.25f * y[4], far_even += 4.0f * y[4];
  odd *= kRoot, far_odd *= 2 * kRoot;
  t[0] = y[0];
  t[1] = even + odd, t[2] = even - odd;
  t[3] = far_even + far_odd, t[4] = far_even - far_odd;
  t[5] = y[kTerms - 1];
}
// Its transpose: A^T m to kTerms = kTile outputs.
template <int kTerms>
inline void gather(const V* m, V* y) {
  const V even = m[1] + m[2], odd = m[1] - m[2], far_even = m[3] + m[4], far_odd = m[3] - m[4];
  y[0] = m[0] + even + far_even;
  y[1] = kRoot * (odd + 2.0f * far_odd);
  if constexpr (kTerms > 2) y[2] = 0.5f * even + 2.0f * far_even;
  if constexpr (kTerms > 3) y[3] = kRoot * (0.5f * odd + 4.0f * far_odd);
  if constexpr (kTerms > 4) y[4] = 0.25f * even + 4.0f * far_even;
  y[kTerms - 1] += m[5];
}
inline constexpr float kNearScale = -2 / 3.0f, kFarScale = 1 / 6.0f;
// G g
template <int kTaps, class T>
inline void transform_filter(const T* f, T* t) {
  evaluate<kTaps>(f, t);
  t[1] *= kNearScale, t[2] *= kNearScale, t[3] *= kFarScale, t[4] *= kFarScale;
}
// G^T u
template <int kTaps>
inline void gather_filter(const V* u, V* f) {
  const V scaled[kPatch] = {u[0], u[1] * kNearScale, u[2] * kNearScale, u[3] * kFarScale, u[4] * kFarScale, u[5]};
  gather<kTaps>(scaled, f);
}

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
    constexpr int64_t kMost = 3 << 20;
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

// The tiles of some images, numbered image by image, row by row. The last of a row or column may reach beyond the
// outputs.
template <int kTaps>
struct Tiles {
  static constexpr int kTile = kTileOf<kTaps>, kShared = kPatch - kTile;
  const PixelGeometry& g;
  int64_t source_row = g.source_w * g.channels;  // elements
  int64_t down = ceil_div(g.rows, kTile), across = ceil_div(g.cols, kTile);

  int64_t count(int64_t images) const { return images * down * across; }
  // With fewer pixels, transforming the filters takes what is won; small images may leave tiles half empty.
  bool fit(int64_t images, int64_t outputs) const {
    const int64_t pixels = g.rows * g.cols, covered = kTile * kTile * down * across;
    return g.taps_h == kTaps && g.taps_w == kTaps && g.step_h == 1 && g.step_w == 1 && g.channels % kLanes == 0 &&
           outputs % kLanes == 0 && g.rows >= kTile && g.cols >= kTile && 2 * pixels > covered &&
           images * pixels >= max64(1024, g.channels * outputs / 64);
  }

  // fn(run, its first tile's number from `begin`) for the tiles [begin, begin + count).
  template <class Fn>
  void for_runs(int64_t begin, int64_t count, Fn fn) const {
    for (int64_t t = 0; t < count;) {
      const int64_t row = (begin + t) / across, col = (begin + t) % across, n = min64(across - col, count - t);
      fn(TileRun{row / down, row % down * kTile, col * kTile, n}, t);
      t += n;
    }
  }

  // B^T d B of the inputs d: in[position * pitch + tile * tile_pitch + channel]. `zeros`, a row of the source, takes
  // the place of those outside. Tiles beside each other share kShared columns; the rows that the tiles below will need
  // are fetched ahead.
  void transform_inputs(const float* source, int64_t begin, int64_t count, const float* zeros, int64_t pitch,
                        int64_t tile_pitch, float* in) const {
    for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      const float* row[kPatch];
      for (int i = 0; i < kPatch; ++i) {
        const int64_t h = run.row + g.first_h + i;
        row[i] = h >= 0 && h < g.source_h ? source + (run.image * g.source_h + h) * source_row : zeros;
      }
      const int64_t last = run.row + g.first_h + kPatch - 1;
      const float* ahead = source + (run.image * g.source_h + last) * source_row;
      const bool image_ends = last >= g.source_h;
      for (int64_t c = 0; c < g.channels; c += kLanes) {
        V columns[kPatch][kPatch];  // of B^T d
        const auto column = [&](int64_t w, V* to) {
          if (w < 0 || w >= g.source_w) {
            for (int i = 0; i < kPatch; ++i) to[i] = V{};
            return;
          }
          const int64_t at = w * g.channels + c;
          V d[kPatch];
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i) d[i] = load(row[i] + at);
          if (image_ends) __builtin_prefetch(ahead + at);
#pragma GCC unroll 4
          for (int i = 1; i <= kTile; ++i) __builtin_prefetch(ahead + at + i * source_row);
          transform_input(d, to);
        };
        int64_t w = run.col + g.first_w;
        float* to = in + t * tile_pitch + c;
        for (int j = 0; j < kShared; ++j) column(w + j, columns[j]);
        for (int64_t n = 0; n < run.count; ++n, to += tile_pitch, w += kTile) {
#pragma GCC unroll 4
          for (int j = kShared; j < kPatch; ++j) column(w + j, columns[j]);
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i) {
            V d[kPatch], result[kPatch];
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) d[j] = columns[j][i];
            transform_input(d, result);
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) store(to + (kPatch * i + j) * pitch, result[j]);
          }
#pragma GCC unroll 4
          for (int j = 0; j < kShared; ++j)
#pragma GCC unroll 6
            for (int i = 0; i < kPatch; ++i) columns[j][i] = columns[j + kTile][i];
        }
      }
    });
  }

  // A y A^T of the cotangents y, which are like the target: to[position * pitch + tile * outputs + output].
  void transform_cotangents(const float* y, int64_t outputs, int64_t begin, int64_t count, int64_t pitch,
                            float* to) const {
    for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      const float* first = y + run.image * g.target_image + run.row * g.target_row + run.col * g.target_col;
      const int64_t high = min64(kTile, g.rows - run.row);
      for (int64_t k = 0; k < outputs; k += kLanes) {
        const float* from = first + k;
        float* at = to + t * outputs + k;
        for (int64_t n = 0; n < run.count; ++n, from += kTile * g.target_col, at += outputs) {
          const int64_t wide = min64(kTile, g.cols - run.col - n * kTile);
          V columns[kTile][kPatch];  // of A y
          for (int j = 0; j < kTile; ++j) {
            V d[kTile];
#pragma GCC unroll 4
            for (int i = 0; i < kTile; ++i) {
              d[i] = i < high && j < wide ? load(from + i * g.target_row + j * g.target_col) : V{};
              __builtin_prefetch(from + (kTile + i) * g.target_row + j * g.target_col);  // of the run below
            }
            evaluate<kTile>(d, columns[j]);
          }
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i) {
            V d[kTile], row[kPatch];
#pragma GCC unroll 4
            for (int j = 0; j < kTile; ++j) d[j] = columns[j][i];
            evaluate<kTile>(d, row);
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) store(at + (kPatch * i + j) * pitch, row[j]);
          }
        }
      }
    });
  }
};

}  // namespace sinew::SINEW_CPU_NS::winograd
