// Tiles of 2 x 2 outputs, each from 4 x 4 inputs d: B^T d B for a block of tiles (a matrix of tiles by channels for
// each of the 16 positions in a tile), 16 matrix products with G g G^T of the filters g, and A^T m A of the products m.
// What lies between stays in the second-level cache, and every output is summed in one order, by one thread. Compiled
// with -ffp-contract=fast.
#include "core/cpu/kernels/conv_winograd.h"

#include "core/cpu/kernels/conv_winograd_tiles.h"

namespace sinew::SINEW_CPU_NS {
namespace {

using namespace winograd;

// What a block's transformed inputs and products take.
constexpr int64_t kBlockBytes = 64 << 10;

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
  explicit Blocks(const Winograd& w) : w_(w), g_(w.g), tiles_{w.g} {
    const int64_t tile_bytes = kPositions * (g_.channels + w_.outputs) * static_cast<int64_t>(sizeof(float));
    block_ = ceil_div(max64(1, kBlockBytes / tile_bytes), kRows) * kRows;
    // Apart by no power of two, so that the positions fall on different sets of the cache.
    in_pitch_ = block_ * g_.channels + kLanes, out_pitch_ = block_ * w_.outputs + kLanes;
  }

  void run() {
    transform_filters();
    const int64_t tiles = tiles_.count(w_.images), blocks = ceil_div(tiles, block_);
    // Also takes the place of rows outside the image.
    const int64_t floats = tiles_.source_row + kPositions * (in_pitch_ + out_pitch_);
#pragma omp parallel
    {
      float* zeros = kept_for_block.reserve(floats);
      float *in = zeros + tiles_.source_row, *out = in + kPositions * in_pitch_;
      memset(zeros, 0, static_cast<size_t>(tiles_.source_row) * sizeof(float));
#pragma omp for schedule(dynamic)
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t begin = b * block_, count = min64(block_, tiles - begin);
        tiles_.transform_inputs(w_.source, begin, count, zeros, in_pitch_, in);
        multiply(fill_rows(count, in), in, out);
        finish(begin, count, out);
      }
    }
  }

 private:
  // filters_: (position, block of columns, channel, one or two vectors of outputs).
  void transform_filters() {
    const FilterStrides& strides = w_.strides;
    const int64_t size = g_.channels * w_.outputs;
    filters_ = kept_for_call.reserve(kPositions * size);
    parallel_blocks(w_.outputs, kLanes, kPositions * size, [&](int64_t begin, int64_t end) {
      const int64_t first = begin / kCols * kCols, width = min64(kCols, w_.outputs - first);
      for (int64_t c = 0; c < g_.channels; ++c)
        for (int64_t k = begin; k < end; ++k) {
          const float *f0 = w_.filter + c * strides.channel + k * strides.output, *f1 = f0 + strides.row,
                      *f2 = f1 + strides.row;
          const int64_t s = strides.col;
          const FilterRow left(f0[0], f1[0], f2[0]), middle(f0[s], f1[s], f2[s]),
              right(f0[2 * s], f1[2 * s], f2[2 * s]);
          float* to = filters_ + first * g_.channels + c * width + (k - first);
          for (int i = 0; i < 4; ++i) {
            const FilterRow row(left.t[i], middle.t[i], right.t[i]);
            for (int j = 0; j < 4; ++j) to[(4 * i + j) * size] = row.t[j];
          }
        }
    });
  }

  // To a multiple of kRows tiles, with zeros. Returns their number.
  int64_t fill_rows(int64_t count, float* in) const {
    const int64_t rows = ceil_div(count, kRows) * kRows, missing = (rows - count) * g_.channels;
    for (int64_t p = 0; p < kPositions && missing; ++p)
      memset(in + p * in_pitch_ + count * g_.channels, 0, static_cast<size_t>(missing) * sizeof(float));
    return rows;
  }

  // out: (position, tile, output).
  void multiply(int64_t rows, const float* in, float* out) const {
    const int64_t depth = g_.channels, outputs = w_.outputs;
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
  int64_t block_, in_pitch_, out_pitch_;
  float* filters_ = nullptr;
};

}  // namespace

bool Winograd::serves() const { return Tiles{g}.fit(images, outputs); }
void Winograd::run() const {
  Blocks(*this).run();
  kept_for_call.trim();
}

}  // namespace sinew::SINEW_CPU_NS
