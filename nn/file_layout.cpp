#include "nn/file_layout.h"

#include <cstddef>
#include <cstring>

#include "core/check.h"

namespace sinew::nn {
namespace {

// to (rows, b, a) = from (rows, a, b), elements of `width` bytes.
void exchange(int64_t rows, int64_t a, int64_t b, size_t width, const void* from, void* to) {
  const auto* in = static_cast<const std::byte*>(from);
  auto* out = static_cast<std::byte*>(to);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < b; ++j)
      for (int64_t i = 0; i < a; ++i, out += width)
        std::memcpy(out, in + static_cast<size_t>((r * a + i) * b + j) * width, width);
}

int64_t rows_of(const FileLayout& layout, int64_t numel) { return numel / (layout.pixels * layout.channels); }

}  // namespace

FileLayout FileLayout::filters(const Shape& shape) {
  SINEW_CHECK(shape.ndim() == 4, "file_layout", "filters are (K, R, S, C), not ", shape);
  return {Kind::filters, shape[1] * shape[2], shape[3]};
}

FileLayout FileLayout::flattened(const Shape& map) {
  SINEW_CHECK(map.ndim() == 3, "file_layout", "a map is (H, W, C), not ", map);
  return {Kind::flattened, map[0] * map[1], map[2]};
}

Shape file_shape(const FileLayout& layout, const Shape& shape) {
  if (layout.kind != FileLayout::Kind::filters) return shape;
  return {shape[0], shape[3], shape[1], shape[2]};
}

void to_file(const FileLayout& layout, DType dtype, int64_t numel, const void* from, void* to) {
  exchange(rows_of(layout, numel), layout.pixels, layout.channels, size_of(dtype), from, to);
}

void from_file(const FileLayout& layout, DType dtype, int64_t numel, const void* from, void* to) {
  exchange(rows_of(layout, numel), layout.channels, layout.pixels, size_of(dtype), from, to);
}

}  // namespace sinew::nn
