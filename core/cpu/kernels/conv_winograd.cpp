// Tiles of 2 x 2 outputs, each from 4 x 4 inputs d: B^T d B for a block of tiles (a matrix of tiles by channels for
// each of the 16 positions in a tile), 16 matrix products with G g G^T of the filters g, and A^T m A of the products m.
// What lies between stays in the second-level cache, and every output is summed in one order, by one thread. Compiled
// with -ffp-contract=fast.
#include "core/cpu/kernels/conv_winograd_sums.h"

namespace sinew::SINEW_CPU_NS {
namespace {

using namespace winograd;

// What a block's transformed inputs and products take.
constexpr int64_t kBlockBytes = 64 << 10;
// Beside a gradient: tiles enough for its sums, which are read and written with each block; and the most sums with
// which that is faster than apart.
constexpr int64_t kGradientTiles = 32, kMostSumsBeside = 1 << 15;

// c (kRows x kVecs vectors) = a (kRows, depth) b (depth, kVecs vectors).
template <int kVecs>
void product(int64_t depth, const float* a, const float* b, float* c, int64_t ldc) {
  V acc[kRows][kVecs];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v) acc[i][v] = V{};
  for (int64_t l = 0; l < depth; ++l, b += kVecs * kLanes) {
    V bv[kVecs];
    for (int v = 0; v < kVecs; ++v) bv[v] = load(b + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const float s = a[i * depth + l];
      for (int v = 0; v < kVecs; ++v) acc[i][v] += s * bv[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVecs; ++v) store(c + i * ldc + v * kLanes, acc[i][v]);
}

// A row of G g.
struct FilterRow {
  float t[4];
  FilterRow(float f0, float f1, float f2) : t{f0, 0.5f * (f0 + f1 + f2), 0.5f * (f0 - f1 + f2), f2} {}
};

class Blocks {
 public:
  explicit Blocks(const Winograd& w)
      : w_(w),
        g_(w.g),
        tiles_{w.g},
        sums_(g_.channels, w.outputs),
        depth_(w.second_source ? 2 * g_.channels : g_.channels) {
    const int64_t tile_bytes = kPositions * (depth_ + w_.outputs) * static_cast<int64_t>(sizeof(float));
    block_ = ceil_div(max64(w.gradient ? kGradientTiles : 1, kBlockBytes / tile_bytes), kRows) * kRows;
    // Apart by no power of two, so that the positions fall on different sets of the cache.
    in_pitch_ = block_ * depth_ + kLanes, out_pitch_ = block_ * w_.outputs + kLanes;
  }

  void run() {
    const int64_t tiles = tiles_.count(w_.images), blocks = ceil_div(tiles, block_);
    const int64_t chunks = w_.gradient ? sums_.chunks(blocks) : blocks, size = w_.gradient ? sums_.size() : 0;
    const int64_t filter_floats = kPositions * depth_ * w_.outputs, beside_pitch = w_.gradient ? out_pitch_ : 0;
    filters_ = kept_for_call.reserve(filter_floats + chunks * size);
    float* const partial = filters_ + filter_floats;
    transform_filters(w_.filter, 0);
    if (w_.second_source) transform_filters(w_.second_filter, g_.channels);
    // Also takes the place of rows outside the image.
    const int64_t floats = tiles_.source_row + kPositions * (in_pitch_ + out_pitch_ + beside_pitch);
#pragma omp parallel
    {
      float* zeros = kept_for_block.reserve(floats);
      float *in = zeros + tiles_.source_row, *out = in + kPositions * in_pitch_,
            *beside = out + kPositions * out_pitch_;
      memset(zeros, 0, static_cast<size_t>(tiles_.source_row) * sizeof(float));
#pragma omp for schedule(dynamic)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        float* sums = partial + chunk * size;
        memset(sums, 0, static_cast<size_t>(size) * sizeof(float));
        for (int64_t b = blocks * chunk / chunks; b < blocks * (chunk + 1) / chunks; ++b) {
          const int64_t begin = b * block_, count = min64(block_, tiles - begin);
          tiles_.transform_inputs(w_.source, begin, count, zeros, in_pitch_, depth_, in);
          if (w_.second_source)
            tiles_.transform_inputs(w_.second_source, begin, count, zeros, in_pitch_, depth_, in + g_.channels);
          multiply(fill_rows(count, in), in, out);
          finish(begin, count, out);
          if (!w_.gradient) continue;
          sums_.transform_cotangents(tiles_, w_.beside, begin, count, beside_pitch, beside);
          sums_.add_block(count, in, in_pitch_, depth_, beside, beside_pitch, sums);
        }
      }
    }
    if (w_.gradient) sums_.combine(partial, chunks, w_.gradient, w_.strides);
  }

 private:
  // filters_: (position, block of columns, channel, one or two vectors of outputs); these from channel `first_row` on.
  void transform_filters(const float* filter, int64_t first_row) const {
    const FilterStrides& strides = w_.strides;
    const int64_t size = depth_ * w_.outputs;
    parallel_blocks(w_.outputs, kLanes, kPositions * size, [&](int64_t begin, int64_t end) {
      const int64_t first = begin / kCols * kCols, width = min64(kCols, w_.outputs - first);
      for (int64_t c = 0; c < g_.channels; ++c)
        for (int64_t k = begin; k < end; ++k) {
          const float *f0 = filter + c * strides.channel + k * strides.output, *f1 = f0 + strides.row,
                      *f2 = f1 + strides.row;
          const int64_t s = strides.col;
          const FilterRow left(f0[0], f1[0], f2[0]), middle(f0[s], f1[s], f2[s]),
              right(f0[2 * s], f1[2 * s], f2[2 * s]);
          float* to = filters_ + first * depth_ + (first_row + c) * width + (k - first);
          for (int i = 0; i < 4; ++i) {
            const FilterRow row(left.t[i], middle.t[i], right.t[i]);
            for (int j = 0; j < 4; ++j) to[(4 * i + j) * size] = row.t[j];
          }
        }
    });
  }

  // To a multiple of kRows tiles, with zeros. Returns their number.
  int64_t fill_rows(int64_t count, float* in) const {
    const int64_t rows = ceil_div(count, kRows) * kRows, missing = (rows - count) * depth_;
    for (int64_t p = 0; p < kPositions && missing; ++p)
      memset(in + p * in_pitch_ + count * depth_, 0, static_cast<size_t>(missing) * sizeof(float));
    return rows;
  }

  // out: (position, tile, output).
  void multiply(int64_t rows, const float* in, float* out) const {
    const int64_t depth = depth_, outputs = w_.outputs;
    for (int64_t p = 0; p < kPositions; ++p)
      for (int64_t k = 0; k < outputs; k += kCols) {
        const float* filters = filters_ + (p * outputs + k) * depth;
        const auto multiply_rows = outputs - k > kLanes ? product<2> : product<1>;
        for (int64_t t = 0; t < rows; t += kRows)
          multiply_rows(depth, in + p * in_pitch_ + t * depth, filters, out + p * out_pitch_ + t * outputs + k,
                        outputs);
      }
  }

  // The outputs of the tiles [begin, begin + count).
  void finish(int64_t begin, int64_t count, const float* out) const {
    const int64_t pitch = out_pitch_, outputs = w_.outputs;
    tiles_.for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      float* first = w_.target + run.image * g_.target_image + run.row * g_.target_row + run.col * g_.target_col;
      for (int64_t k = 0; k < outputs; k += kLanes) {
        const V bias = w_.bias ? load(w_.bias + k) : V{};
        const float* from = out + t * outputs + k;
        float* to = first + k;
        for (int64_t n = 0; n < run.count; ++n, from += outputs, to += 2 * g_.target_col) {
          V s[2][4];
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) {
            const V m0 = load(from + j * pitch), m1 = load(from + (4 + j) * pitch);
            const V m2 = load(from + (8 + j) * pitch), m3 = load(from + (12 + j) * pitch);
            s[0][j] = m0 + m1 + m2, s[1][j] = m1 - m2 - m3;
          }
#pragma GCC unroll 2
          for (int i = 0; i < 2; ++i) {
            put(to + i * g_.target_row, s[i][0] + s[i][1] + s[i][2] + bias);
            put(to + i * g_.target_row + g_.target_col, s[i][1] - s[i][2] - s[i][3] + bias);
          }
        }
      }
    });
  }
  void put(float* to, V y) const {
    if (w_.relu) y = y <= V{} ? V{} : y;  // an infinite input makes NaN, which stays in sight
    store(to, w_.add ? load(to) + y : y);
  }

  const Winograd& w_;
  const PixelGeometry& g_;
  const Tiles tiles_;
  const FilterSums sums_;
  const int64_t depth_;  // of the products: the channels of all sources
  int64_t block_, in_pitch_, out_pitch_;
  float* filters_ = nullptr;
};

}  // namespace

bool Winograd::serves() const {
  return Tiles{g}.fit(images, outputs) && (!gradient || FilterSums(g.channels, outputs).size() <= kMostSumsBeside);
}
void Winograd::run() const {
  Blocks(*this).run();
  kept_for_call.trim();
}

}  // namespace sinew::SINEW_CPU_NS
