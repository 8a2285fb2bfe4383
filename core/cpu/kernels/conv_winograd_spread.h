// The derivative towards the input by the transpose of Winograd's filtering: with cotangents y and filters g,
//   dd = B ((G g G^T) (.) (A y A^T) summed over the outputs) B^T
// of every tile, added up in the order of the tiles over some images with their padding, which one thread holds in its
// cache.
#pragma once

#include "core/cpu/kernels/conv_winograd_products.h"

namespace sinew::SINEW_CPU_NS::winograd {

template <int kTaps>
class Spread {
  static constexpr int kTile = kTileOf<kTaps>;
  // What a block's transformed cotangents and products take.
  static constexpr int64_t kBlockBytes = 128 << 10;
  // Images are taken together up to so many tiles, if that leaves so many groups for the threads.
  static constexpr int64_t kGroupTiles = 64, kGroups = 16;

 public:
  static bool serves(const WinogradSpread& w) {
    const Tiles<kTaps> tiles{w.g};
    const int64_t others = ceil_div(w.g.source_h, kTile) * ceil_div(w.g.source_w, kTile);
    return tiles.fit(w.images, w.outputs) && 4 * tiles.count(1) <= 3 * others;
  }

  explicit Spread(const WinogradSpread& w)
      : w_(w),
        tiles_{w.g},
        channels_(w.g.channels),
        products_(w.outputs, channels_),
        row_((tiles_.across * kTile + kTaps - 1) * channels_),
        image_((tiles_.down * kTile + kTaps - 1) * row_) {
    group_ = max64(1, min64(kGroupTiles / tiles_.count(1), w.images / kGroups));
    const int64_t tile_bytes = kPositions * static_cast<int64_t>(sizeof(float)) * (channels_ + w.outputs);
    block_ = ceil_div(max64(1, min64(kBlockBytes / tile_bytes, tiles_.count(group_))), kRows) * kRows;
    // Apart by no power of two, so that the positions fall on different sets of the cache.
    in_pitch_ = block_ * w.outputs + kLanes, out_pitch_ = block_ * channels_ + kLanes;
  }

  void run() const {
    float* const filters = kept_for_call.reserve(products_.size());
    products_.transform_filters(w_.filter, w_.strides, 0, w_.outputs, filters);
    const int64_t groups = ceil_div(w_.images, group_);
#pragma omp parallel
    {
      float* const sums = kept_for_block.reserve(group_ * image_ + kPositions * (in_pitch_ + out_pitch_));
      float *const in = sums + group_ * image_, *const out = in + kPositions * in_pitch_;
#pragma omp for schedule(dynamic)
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t first = group * group_, images = min64(group_, w_.images - first);
        const int64_t tiles = tiles_.count(images);
        memset(sums, 0, static_cast<size_t>(images * image_) * sizeof(float));
        for (int64_t begin = 0; begin < tiles; begin += block_) {
          const int64_t count = min64(block_, tiles - begin);
          tiles_.transform_cotangents(w_.cotangents + first * w_.g.target_image, w_.outputs, begin, count, in_pitch_,
                                      in);
          const int64_t rows = products_.fill_rows(count, in_pitch_, in);
          for (int64_t p = 0; p < kPositions; ++p) products_.multiply(p, rows, filters, in, in_pitch_, out, out_pitch_);
          add(begin, count, out, sums);
        }
        finish(first, images, sums);
      }
    }
  }

 private:
  // B m B^T of the tiles [begin, begin + count) of a group to its sums: (image, padded row, padded column, channel).
  void add(int64_t begin, int64_t count, const float* out, float* sums) const {
    tiles_.for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      for (int64_t c = 0; c < channels_; c += kLanes) {
        const float* from = out + t * channels_ + c;
        float* to = sums + run.image * image_ + run.row * row_ + run.col * channels_ + c;
        for (int64_t n = 0; n < run.count; ++n, from += channels_, to += kTile * channels_) {
          V columns[kPatch][kPatch];  // of B m
          for (int j = 0; j < kPatch; ++j) {
            V m[kPatch];
#pragma GCC unroll 6
            for (int i = 0; i < kPatch; ++i) m[i] = load(from + (kPatch * i + j) * out_pitch_);
            spread_input(m, columns[j]);
          }
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i) {
            V m[kPatch], d[kPatch];
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) m[j] = columns[j][i];
            spread_input(m, d);
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) {
              float* at = to + i * row_ + j * channels_;
              store(at, load(at) + d[j]);
            }
          }
        }
      }
    });
  }

  // The images' sums without their padding.
  void finish(int64_t first, int64_t images, const float* sums) const {
    const int64_t width = w_.g.source_w * channels_;
    for (int64_t i = 0; i < images * w_.g.source_h; ++i) {
      const int64_t image = i / w_.g.source_h, h = i % w_.g.source_h;
      const float* from = sums + image * image_ + (h - w_.g.first_h) * row_ - w_.g.first_w * channels_;
      const int64_t at = (first * w_.g.source_h + i) * width;
      if (!w_.base) {
        memcpy(w_.target + at, from, static_cast<size_t>(width) * sizeof(float));
        continue;
      }
      for (int64_t l = 0; l < width; l += kLanes) store(w_.target + at + l, load(w_.base + at + l) + load(from + l));
    }
  }

  const WinogradSpread& w_;
  const Tiles<kTaps> tiles_;
  const int64_t channels_;
  const Products<kTaps> products_;
  const int64_t row_, image_;  // floats of the sums
  int64_t group_, block_, in_pitch_, out_pitch_;
};

}  // namespace sinew::SINEW_CPU_NS::winograd
