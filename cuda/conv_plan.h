// How conv.cpp deals out the work of a convolution, forward and towards the input; chosen by the shape alone.
#pragma once

#include <vector>

#include "core/kernel_api.h"
#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// Kernels count pixels, and elements from a tile's first image on, in 32 bits.
inline constexpr int64_t kMaxConvCount = (int64_t{1} << 31) - (int64_t{1} << 24);
// For how many multiprocessors work is dealt out (a large GPU's). Results must not depend on the GPU.
inline constexpr int64_t kMultiprocessors = 132;
// What a second pass costs: by itself, and moving sums in the second-level cache.
inline constexpr double kSecondPassUs = 3, kSumsBytesPerUs = 3e6;
// How much longer a multiprocessor takes that has fewer blocks than fit: latencies show. A guess.
inline double idling(int64_t on_each, int64_t fit) {
  return on_each >= fit ? 1 : 2 / (1 + static_cast<double>(on_each) / static_cast<double>(fit));
}

// The target's parts without `first`, `first_tile` and `slices`, which depend on the tile. edges: by the taps that
// exist.
std::vector<CorrelationPart> conv_parts(bool forward, const kernel::ConvArgs& args, bool edges);

template <class T>
struct ConvPlan {
  CorrelationKernel<T> kernel;
  std::vector<CorrelationPart> parts;
  int64_t tiles = 0, slices = 0;  // of all parts
  int64_t most_tiles = 0;         // of a part
  int64_t share = 0;              // of slices to a block; 0: blocks make whole tiles
  int64_t chunk = 0, chunks = 1;  // of the summed indices, where several blocks make a tile (tensor cores)
  double us = 0;                  // expected
};

template <class T>
ConvPlan<T> conv_plan(bool forward, bool pack, const kernel::ConvArgs& args);
template <>
ConvPlan<bfloat16> conv_plan(bool forward, bool pack, const kernel::ConvArgs& args);

// conv.cpp: the entries in bf16 where all operands, the filters too, are bf16, aligned to 16 bytes, and the channels of
// what is summed over and read (c; k towards x; both towards the filters) are multiples of 8.
void conv_forward_packed_bf16(const kernel::ConvArgs& args);
void conv_dx_packed_bf16(const kernel::ConvArgs& args);
void conv_dw_packed_bf16(const kernel::ConvArgs& args);
// conv_bulk.cpp: the same with bulk copies, where wgmma_copies() and the shape allow it: stride 1, channels of the
// source (c; k towards x) a multiple of 64. False: nothing is done.
bool conv_by_bulk_copies(bool forward, const kernel::ConvArgs& args);
bool conv_dw_by_bulk_copies(const kernel::ConvArgs& args);
// conv_bf16.cpp: in bf16, whatever the operands.
void conv_forward_bf16(const kernel::ConvArgs& args);
void conv_dx_bf16(const kernel::ConvArgs& args);
void conv_dw_bf16(const kernel::ConvArgs& args);

}  // namespace sinew::cuda::SINEW_CUDA_NS
