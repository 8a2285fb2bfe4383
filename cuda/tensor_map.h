// A tensor in device memory whose boxes kernels copy to shared memory (load_box of cuda/device/device.cuh): the bulk
// copies of sm_90 and newer.
//
//   const TensorMap map = make_tensor_map({a, 2, 2, {k, m}, {0, lda * 2}, {64, 128}, 128});   // bf16 (m, k)
//   launch(kernel, grid, block, shared_bytes, stream, map, ...);   // a parameter `const __grid_constant__ TensorMap`
//
// A map holds the address, so that a recorded graph needs the memory to stay. Thread safety: as a value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/namespace.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// Only load_box knows what is in it. Aligned as CUtensorMap of CUDA 13; the emulation needs less, and g++ remarks on
// parameters with such an alignment.
#if defined(SINEW_CUDA_EMULATE)
inline constexpr size_t kTensorMapAlignment = 16;
#else
inline constexpr size_t kTensorMapAlignment = 128;
#endif
struct alignas(kTensorMapAlignment) TensorMap {
  uint64_t words[16];
};

struct TensorBoxes {
  static constexpr int kRank = 3;
  const void* data;       // aligned to 16 bytes
  int element_bytes;      // 2 (bf16) or 4 (f32)
  int rank;               // 1 to 3; what follows is innermost first
  int64_t extent[kRank];  // elements: 1 to 2^32; boxes have zeros beyond
  int64_t stride[kRank];  // bytes from one to the next: multiples of 16 below 2^40; the first is not used
  int box[kRank];         // elements: 1 to 256; the first a multiple of 16 bytes
  // 0: a box lies in shared memory as a dense array. 32, 64, 128: its rows have so many bytes, and their groups of 16
  // bytes change places: bits 4 to 6 (5; 4) of the address are xor'ed with bits 7 to 9 (8; 7).
  int swizzle_bytes;
};

// Errors: an Error that says what is not allowed, or that the driver is too old.
TensorMap make_tensor_map(const TensorBoxes& boxes);

// Images (n, h, w, c) of bf16, densely, for load_pixels: what a tap of a convolution of stride 1 reads. A box holds so
// many channels of so many pixels, one behind the other, across rows and images: of the pixels that are first_w to
// w - 1 + end_w, first_h to h - 1 + end_h, moved by the tap; zeros outside of the images. The swizzle is of 128 bytes.
struct PixelBoxes {
  const void* data;           // aligned to 16 bytes
  int64_t n, h, w, c;         // below 2^31; c a multiple of 8
  int first_h, first_w;       // -128 to 127: minus the padding
  int end_h, end_w;           // likewise: the padding minus the last tap
  int channels = 64, pixels;  // channels: 64; pixels: 1 to 256
};
TensorMap make_pixel_map(const PixelBoxes& boxes);

}  // namespace sinew::cuda::SINEW_CUDA_NS
