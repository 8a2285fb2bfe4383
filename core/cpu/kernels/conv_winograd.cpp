// Tiles of kTile x kTile outputs, each from 6 x 6 inputs d: B^T d B for a block of tiles (a matrix of tiles by channels
// for each of the 36 positions in a tile), 36 matrix products with G g G^T of the filters g, and A^T m A of the
// products m. What lies between stays in the second-level cache, and every output is summed in one order, by one
// thread. Compiled with -ffp-contract=fast.
#include "core/cpu/kernels/conv_winograd_products.h"
#include "core/cpu/kernels/conv_winograd_spread.h"
#include "core/cpu/kernels/conv_winograd_sums.h"

namespace sinew::SINEW_CPU_NS {
namespace {

using namespace winograd;

// What a block's transformed inputs and products take: more where the transformed filters, which every block reads,
// take so much that they do not stay in the second-level cache.
constexpr int64_t kBlockBytes = 128 << 10, kLargeBlockBytes = 512 << 10, kLargeFilters = 2 << 20;
// So many blocks at least, for the threads, where that leaves full register tiles.
constexpr int64_t kBlocks = 16;
// Of a gradient: tiles enough for its sums, which are read and written with each block; and channels times outputs up
// to which it is the faster one, alone and beside a target.
constexpr int64_t kGradientTiles = 32, kMostSums = 1 << 14, kMostSumsBeside = 1 << 11;

template <int kTaps>
class Blocks {
  static constexpr int kTile = kTileOf<kTaps>;

 public:
  explicit Blocks(const Winograd& w)
      : w_(w),
        g_(w.g),
        tiles_{w.g},
        sums_(g_.channels, w.outputs),
        depth_(w.second_source ? 2 * g_.channels : g_.channels),
        products_(depth_, w.outputs) {
    const int64_t bytes = kPositions * static_cast<int64_t>(sizeof(float)), tile_bytes = bytes * (depth_ + w.outputs);
    const bool large = w.target && bytes * depth_ * w.outputs > kLargeFilters;
    const int64_t fitting = (large ? kLargeBlockBytes : kBlockBytes) / tile_bytes;
    block_ = max64(w.gradient ? kGradientTiles : 1, min64(fitting, tiles_.count(w.images) / kBlocks));
    block_ = ceil_div(block_, kRows) * kRows;
    // Apart by no power of two, so that the positions fall on different sets of the cache.
    in_pitch_ = block_ * depth_ + kLanes, out_pitch_ = block_ * w_.outputs + kLanes;
  }

  void run() {
    const int64_t tiles = tiles_.count(w_.images), blocks = ceil_div(tiles, block_);
    const int64_t chunks = w_.gradient ? sums_.chunks(blocks) : blocks, size = sums_.size();
    const int64_t filter_floats = w_.target ? products_.size() : 0;
    const int64_t gradients = w_.second_gradient ? 2 : w_.gradient ? 1 : 0;
    float* const filters = kept_for_call.reserve(filter_floats + gradients * chunks * size);
    float* const partial = filters + filter_floats;
    float* const second_partial = partial + (gradients == 2 ? chunks * size : 0);
    if (w_.target) products_.transform_filters(w_.filter, w_.strides, 0, g_.channels, filters);
    if (w_.second_source) products_.transform_filters(w_.second_filter, w_.strides, g_.channels, g_.channels, filters);
    // Also takes the place of rows outside the image.
    const int64_t in_floats = kPositions * in_pitch_, out_floats = kPositions * out_pitch_;
#pragma omp parallel
    {
      float* zeros = kept_for_block.reserve(tiles_.source_row + in_floats + 2 * out_floats);
      float *in = zeros + tiles_.source_row, *out = in + in_floats, *beside = out + out_floats;
      memset(zeros, 0, static_cast<size_t>(tiles_.source_row) * sizeof(float));
#pragma omp for schedule(dynamic)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const int64_t first = blocks * chunk / chunks;
        for (int64_t b = first; b < blocks * (chunk + 1) / chunks; ++b) {
          const int64_t begin = b * block_, count = min64(block_, tiles - begin);
          tiles_.transform_inputs(w_.source, begin, count, zeros, in_pitch_, depth_, in);
          if (w_.second_source)
            tiles_.transform_inputs(w_.second_source, begin, count, zeros, in_pitch_, depth_, in + g_.channels);
          const int64_t rows = w_.target ? products_.fill_rows(count, in_pitch_, in) : 0;
          if (w_.gradient) tiles_.transform_cotangents(w_.beside, w_.outputs, begin, count, out_pitch_, beside);
          for (int64_t p = 0; p < kPositions; ++p) {  // one by one: all products read the same inputs
            if (w_.target) products_.multiply(p, rows, filters, in, in_pitch_, out, out_pitch_);
            if (w_.gradient)
              sums_.add_block(p, count, in, in_pitch_, depth_, beside, out_pitch_, partial + chunk * size, b == first);
            if (w_.second_gradient)
              sums_.add_block(p, count, in + g_.channels, in_pitch_, depth_, beside, out_pitch_,
                              second_partial + chunk * size, b == first);
          }
          if (w_.target) finish(begin, count, out);
        }
      }
    }
    if (w_.gradient) sums_.combine(partial, chunks, w_.gradient, w_.strides);
    if (w_.second_gradient) sums_.combine(second_partial, chunks, w_.second_gradient, w_.strides);
  }

 private:
  // The outputs of the tiles [begin, begin + count).
  void finish(int64_t begin, int64_t count, const float* out) const {
    const int64_t pitch = out_pitch_, outputs = w_.outputs;
    tiles_.for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      const int64_t first = run.image * g_.target_image + run.row * g_.target_row + run.col * g_.target_col;
      const int64_t high = min64(kTile, g_.rows - run.row);
      for (int64_t k = 0; k < outputs; k += kLanes) {
        const V bias = w_.bias ? load(w_.bias + k) : V{};
        const float* from = out + t * outputs + k;
        float* to = w_.target + first + k;
        const float* base = w_.base ? w_.base + first + k : nullptr;
        for (int64_t n = 0; n < run.count; ++n, from += outputs, to += kTile * g_.target_col) {
          const auto put = [&](int64_t at, V y) {
            if (w_.relu) y = y <= V{} ? V{} : y;  // an infinite input makes NaN, which stays in sight
            store(to + at, base ? load(base + at) + y : y);
          };
          const int64_t wide = min64(kTile, g_.cols - run.col - n * kTile);
          V columns[kPatch][kTile];  // of A^T m
#pragma GCC unroll 4
          for (int i = kTile; i < 2 * kTile; ++i)  // of the run below
#pragma GCC unroll 4
            for (int j = 0; j < kTile; ++j) {
              __builtin_prefetch(to + i * g_.target_row + j * g_.target_col, 1);
              if (base) __builtin_prefetch(base + i * g_.target_row + j * g_.target_col);
            }
          for (int j = 0; j < kPatch; ++j) {
            V m[kPatch];
#pragma GCC unroll 6
            for (int i = 0; i < kPatch; ++i) m[i] = load(from + (kPatch * i + j) * pitch);
            gather<kTile>(m, columns[j]);
          }
          for (int i = 0; i < high; ++i) {
            V m[kPatch], y[kTile];
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) m[j] = columns[j][i];
            gather<kTile>(m, y);
#pragma GCC unroll 4
            for (int j = 0; j < kTile; ++j)
              if (j < wide) put(i * g_.target_row + j * g_.target_col, y[j] + bias);
          }
          if (base) base += kTile * g_.target_col;
        }
      }
    });
  }

  const Winograd& w_;
  const PixelGeometry& g_;
  const Tiles<kTaps> tiles_;
  const FilterSums<kTaps> sums_;
  const int64_t depth_;  // of the products: the channels of all sources
  const Products<kTaps> products_;
  int64_t block_, in_pitch_, out_pitch_;
};

}  // namespace

bool Winograd::serves() const {
  const int64_t most_sums = target ? kMostSumsBeside : kMostSums;
  return (Tiles<3>{g}.fit(images, outputs) || Tiles<5>{g}.fit(images, outputs)) &&
         (!gradient || g.channels * outputs <= most_sums);
}
void Winograd::run() const {
  g.taps_h == 3 ? Blocks<3>(*this).run() : Blocks<5>(*this).run();
  kept_for_call.trim();
}

bool WinogradSpread::serves() const { return Spread<3>::serves(*this) || Spread<5>::serves(*this); }
void WinogradSpread::run() const {
  g.taps_h == 3 ? Spread<3>(*this).run() : Spread<5>(*this).run();
  kept_for_call.trim();
}

}  // namespace sinew::SINEW_CPU_NS
