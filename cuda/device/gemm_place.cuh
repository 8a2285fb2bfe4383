// What the kernels of gemm.cu and gemm_tensor.cu share.
#pragma once

#include "cuda/device/device.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// Tiles go down a group of rows, then on to the next column of it.
struct GemmPlace {
  int row, column;
};
SINEW_DEVICE GemmPlace gemm_place(int tile, int rows, int columns) {
  const int group = tile / (kGemmRowGroup * columns), first = group * kGemmRowGroup;
  const int height = rows - first < kGemmRowGroup ? rows - first : kGemmRowGroup;
  const int rest = tile - first * columns;
  return {first + rest % height, rest / height};
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
