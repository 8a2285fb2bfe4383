// Sums of tiles that several blocks share, for conv.cu, conv_dw.cu and conv_finish.cu (cuda/kernels/matrix.h).
#pragma once

#include "cuda/device/conv_walk.cuh"
#include "cuda/device/tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

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
      *as_vector<Pack<T>>(to + Shape::row_step(i) * Shape::kExtentN + Shape::group_step(g)) = pack;
    }
  }
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
