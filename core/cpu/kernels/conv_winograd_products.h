// The products of Winograd's filtering: for each of the 36 positions, transformed images (tiles by depth) times the
// transformed filters (depth by outputs).
#pragma once

#include "core/cpu/kernels/conv_winograd.h"
#include "core/cpu/kernels/conv_winograd_tiles.h"

namespace sinew::SINEW_CPU_NS::winograd {

// c (kRows x kVecs vectors) = a (kRows, depth) b (depth, kVecs vectors).
template <int kVecs>
inline void product(int64_t depth, const float* a, const float* b, float* c, int64_t ldc) {
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

template <int kTaps>
class Products {
 public:
  Products(int64_t depth, int64_t outputs) : depth_(depth), outputs_(outputs) {}

  // Floats of the transformed filters: (position, block of columns, depth, one or two vectors of outputs).
  int64_t size() const { return kPositions * depth_ * outputs_; }

  // G g G^T of the filters of `channels` channels, from row `first_row` of the depth on. In f64, which costs little
  // here and takes 2 to 5 % of the outputs' errors away.
  void transform_filters(const float* filter, const FilterStrides& strides, int64_t first_row, int64_t channels,
                         float* filters) const {
    using Wide = Simd<double>::V;
    typedef float Narrow __attribute__((vector_size(kVectorBytes / 2), aligned(alignof(float)), may_alias));
    constexpr int64_t kHalf = kLanes / 2;
    const int64_t size = depth_ * outputs_;
    parallel_blocks(outputs_, kHalf, kPositions * size, [&](int64_t k, int64_t) {
      const int64_t first = k / kCols * kCols, width = min64(kCols, outputs_ - first);
      for (int64_t c = 0; c < channels; ++c) {
        Wide columns[kTaps][kPatch];  // of G g
        for (int s = 0; s < kTaps; ++s) {
          const float* from = filter + s * strides.col + c * strides.channel + k * strides.output;
          Wide f[kTaps];
          for (int r = 0; r < kTaps; ++r)
            for (int l = 0; l < kHalf; ++l) f[r][l] = static_cast<double>(from[r * strides.row + l * strides.output]);
          transform_filter<kTaps>(f, columns[s]);
        }
        float* to = filters + first * depth_ + (first_row + c) * width + (k - first);
        for (int i = 0; i < kPatch; ++i) {
          Wide f[kTaps], row[kPatch];
          for (int s = 0; s < kTaps; ++s) f[s] = columns[s][i];
          transform_filter<kTaps>(f, row);
          for (int j = 0; j < kPatch; ++j)
            *reinterpret_cast<Narrow*>(to + (kPatch * i + j) * size) = __builtin_convertvector(row[j], Narrow);
        }
      }
    });
  }

  // Fills a block of transformed tiles to a multiple of kRows with zeros. Returns their number.
  int64_t fill_rows(int64_t count, int64_t pitch, float* in) const {
    const int64_t rows = ceil_div(count, kRows) * kRows, missing = (rows - count) * depth_;
    for (int64_t p = 0; p < kPositions && missing; ++p)
      memset(in + p * pitch + count * depth_, 0, static_cast<size_t>(missing) * sizeof(float));
    return rows;
  }

  // out: (position, tile, output), of which those of position p.
  void multiply(int64_t p, int64_t rows, const float* filters, const float* in, int64_t in_pitch, float* out,
                int64_t out_pitch) const {
    for (int64_t k = 0; k < outputs_; k += kCols) {
      const auto multiply_rows = outputs_ - k > kLanes ? product<2> : product<1>;
      for (int64_t t = 0; t < rows; t += kRows)
        multiply_rows(depth_, in + p * in_pitch + t * depth_, filters + (p * outputs_ + k) * depth_,
                      out + p * out_pitch + t * outputs_ + k, outputs_);
    }
  }

 private:
  int64_t depth_, outputs_;
};

}  // namespace sinew::SINEW_CPU_NS::winograd
