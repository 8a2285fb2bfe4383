// Sums of tiles that several blocks share, for conv.cu, conv_dw.cu and conv_finish.cu (cuda/kernels/matrix.h).
#pragma once

#include "cuda/device/tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

// Where the part's pixel m begins in the target.
SINEW_DEVICE int64_t target_place(const CorrelationShape& shape, const CorrelationPart& part, int m) {
  const int image = divide(part.per_image, m), rest = m - image * part.per_image.divisor;
  const int row = divide(part.per_row, rest), column = rest - row * part.per_row.divisor;
  return image * shape.target_image + part.target + row * shape.target_step_h + column * shape.target_step_w;
}

// The whole tile, row by row; `to` is aligned to 16 bytes.
template <class Shape>
SINEW_DEVICE void write_sums(const Shape& tile, typename Shape::T* to) {
  using T = typename Shape::T;
  to += Shape::first_row() * Shape::kExtentN + Shape::first_column();
  SINEW_UNROLL
  for (int i = 0; i < Shape::kThreadM; ++i) {
    SINEW_UNROLL
    for (int g = 0; g < Shape::kGroupsN; ++g) {
      Pack<T> pack;
      SINEW_UNROLL
      for (int j = 0; j < Shape::kWidth; ++j) pack.v[j] = tile.acc[i][g * Shape::kWidth + j];
      *reinterpret_cast<Pack<T>*>(to + Shape::row_step(i) * Shape::kExtentN + Shape::group_step(g)) = pack;
    }
  }
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
