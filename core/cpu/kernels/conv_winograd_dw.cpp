// The derivative of Winograd's filtering towards the filters: over the tiles, with inputs d and cotangents y,
//   dg = G^T (sum of B^T d B (.) A y A^T) G
// so that it is 16 matrix products summed over tiles, and one small transform. Blocks of tiles are cut into chunks
// whose number depends on the sizes alone, each sums into products of its own, and these are added in order. Compiled
// with -ffp-contract=fast.
#include "core/cpu/kernels/conv_winograd.h"
#include "core/cpu/kernels/conv_winograd_tiles.h"

namespace sinew::SINEW_CPU_NS {
namespace {

using namespace winograd;

// What a block's transformed inputs and cotangents take.
constexpr int64_t kBlockBytes = 256 << 10;
// Sums of a chunk beyond the second-level cache cost what is won.
constexpr int64_t kMostSums = 1 << 18;
// Of a register tile: they divide the channels.
constexpr int64_t kGradientRows = kLanes % kRows ? kLanes / 2 : kRows;

// sums (kGradientRows x kVecs vectors) += x (tiles, kGradientRows)^T y (tiles, kVecs vectors).
template <int kVecs>
void add_products(int64_t tiles, const float* x, int64_t ldx, const float* y, int64_t ldy, float* sums) {
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

class Gradient {
 public:
  explicit Gradient(const WinogradGradient& w)
      : w_(w), tiles_{w.g}, channels_(w.g.channels), outputs_(w.outputs), size_(kPositions * channels_ * outputs_) {
    const int64_t tile_bytes = kPositions * (channels_ + outputs_) * static_cast<int64_t>(sizeof(float));
    block_ = max64(32, kBlockBytes / tile_bytes);
    x_pitch_ = block_ * channels_ + kLanes, y_pitch_ = block_ * outputs_ + kLanes;
  }

  void run() {
    const int64_t tiles = tiles_.count(w_.images), blocks = ceil_div(tiles, block_);
    const int64_t chunks = min64(blocks, min64(16, (int64_t{1} << 21) / size_));
    const int64_t floats = tiles_.source_row + kPositions * (x_pitch_ + y_pitch_);
    float* partial = kept_for_call.reserve(chunks * size_);
#pragma omp parallel
    {
      float* zeros = kept_for_block.reserve(floats);
      float *x = zeros + tiles_.source_row, *y = x + kPositions * x_pitch_;
      memset(zeros, 0, static_cast<size_t>(tiles_.source_row) * sizeof(float));
#pragma omp for schedule(dynamic)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        float* sums = partial + chunk * size_;
        memset(sums, 0, static_cast<size_t>(size_) * sizeof(float));
        for (int64_t b = blocks * chunk / chunks; b < blocks * (chunk + 1) / chunks; ++b) {
          const int64_t begin = b * block_, count = min64(block_, tiles - begin);
          tiles_.transform_inputs(w_.x, begin, count, zeros, x_pitch_, x);
          transform_cotangents(begin, count, y);
          add_block(count, x, y, sums);
        }
      }
    }
    combine(partial, chunks);
  }

 private:
  // A y A^T: (position, tile, output).
  void transform_cotangents(int64_t begin, int64_t count, float* to) const {
    const PixelGeometry& g = w_.g;
    const int64_t pitch = y_pitch_;
    tiles_.for_runs(begin, count, [&](const TileRun& run, int64_t t) {
      const float* first = w_.y + run.image * g.target_image + run.row * g.target_row + run.col * g.target_col;
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

  // sums: (position, block of columns, channel, one or two vectors of outputs).
  void add_block(int64_t count, const float* x, const float* y, float* sums) const {
    for (int64_t p = 0; p < kPositions; ++p)
      for (int64_t k = 0; k < outputs_; k += kCols) {
        const bool wide = outputs_ - k > kLanes;
        const auto add = wide ? add_products<2> : add_products<1>;
        float* to = sums + (p * outputs_ + k) * channels_;
        for (int64_t c = 0; c < channels_; c += kGradientRows, to += kGradientRows * (wide ? kCols : kLanes))
          add(count, x + p * x_pitch_ + c, channels_, y + p * y_pitch_ + k, outputs_, to);
      }
  }

  // G^T s G of the chunks' sums s, added in order.
  void combine(const float* partial, int64_t chunks) const {
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
          for (int s = 0; s < 3; ++s)
            for (int l = 0; l < kLanes; ++l) w_.out[(((k + l) * 3 + r) * 3 + s) * channels_ + c] = taps[s][l];
        }
      }
    });
  }

  const WinogradGradient& w_;
  const Tiles tiles_;
  int64_t channels_, outputs_, size_;  // size_: elements of the products
  int64_t block_, x_pitch_, y_pitch_;
};

}  // namespace

bool WinogradGradient::serves() const {
  return Tiles{g}.fit(images, outputs) && kPositions * g.channels * outputs <= kMostSums;
}

void WinogradGradient::run() const { Gradient(*this).run(); }

}  // namespace sinew::SINEW_CPU_NS
