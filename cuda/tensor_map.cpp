#include "cuda/tensor_map.h"

#include "core/check.h"
#include "cuda/grid.h"
#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {

TensorMap make_tensor_map(const TensorBoxes& b) {
  constexpr const char* kWhere = "tensor map";
  SINEW_CHECK(b.element_bytes == 2 || b.element_bytes == 4, kWhere, "elements of ", b.element_bytes,
              " bytes; 2 and 4 are allowed");
  SINEW_CHECK(b.rank >= 1 && b.rank <= TensorBoxes::kRank, kWhere, "a rank of ", b.rank, "; 1 to ", TensorBoxes::kRank,
              " are allowed");
  SINEW_CHECK(b.data != nullptr && is_aligned_to(16, b.data), kWhere, "the tensor at ", b.data,
              " is not aligned to 16 bytes");
  for (int d = 0; d < b.rank; ++d) {
    SINEW_CHECK(b.extent[d] >= 1 && b.extent[d] <= int64_t{1} << 32, kWhere, "extent ", d, " is ", b.extent[d],
                "; 1 to 2^32 are allowed");
    SINEW_CHECK(b.box[d] >= 1 && b.box[d] <= 256, kWhere, "extent ", d, " of the box is ", b.box[d],
                "; 1 to 256 are allowed");
    SINEW_CHECK(d == 0 || (b.stride[d] > 0 && b.stride[d] % 16 == 0 && b.stride[d] < int64_t{1} << 40), kWhere,
                "stride ", d, " is ", b.stride[d], " bytes; 16, 32... below 2^40 are allowed");
  }
  const int row = b.box[0] * b.element_bytes;
  SINEW_CHECK(row % 16 == 0, kWhere, "rows of the box have ", row, " bytes; multiples of 16 are allowed");
  SINEW_CHECK(b.swizzle_bytes == 0 || b.swizzle_bytes == 32 || b.swizzle_bytes == 64 || b.swizzle_bytes == 128, kWhere,
              "a swizzle of ", b.swizzle_bytes, " bytes; 0, 32, 64 and 128 are allowed");
  SINEW_CHECK(b.swizzle_bytes == 0 || row == b.swizzle_bytes, kWhere, "rows of the box have ", row,
              " bytes, with a swizzle of ", b.swizzle_bytes, " bytes; they must be equal");
  return encode_tensor_map(b);
}

TensorMap make_pixel_map(const PixelBoxes& b) {
  constexpr const char* kWhere = "pixel map";
  SINEW_CHECK(b.data != nullptr && is_aligned_to(16, b.data), kWhere, "the images at ", b.data,
              " are not aligned to 16 bytes");
  for (const int64_t extent : {b.n, b.h, b.w, b.c})
    SINEW_CHECK(extent >= 1 && extent < int64_t{1} << 31, kWhere, "an extent of ", extent,
                "; 1 to 2^31 - 1 are allowed");
  SINEW_CHECK(b.c % 8 == 0, kWhere, b.c, " channels; multiples of 8 are allowed");
  for (const int corner : {b.first_h, b.first_w, b.end_h, b.end_w})
    SINEW_CHECK(corner >= -128 && corner <= 127, kWhere, "pixels begin or end ", corner,
                " from the image; -128 to 127 are allowed");
  SINEW_CHECK(b.h - 1 + b.end_h >= b.first_h && b.w - 1 + b.end_w >= b.first_w, kWhere, "there are no pixels");
  SINEW_CHECK(b.channels == 64, kWhere, "boxes of ", b.channels, " channels; 64 are allowed");
  SINEW_CHECK(b.pixels >= 1 && b.pixels <= 256, kWhere, "boxes of ", b.pixels, " pixels; 1 to 256 are allowed");
  return encode_pixel_map(b);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
