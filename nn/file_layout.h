// How parameters lie in files, which follow PyTorch: filters K,C,R,S instead of K,R,S,C, and the columns of a Linear
// behind a Flatten ordered by (C,H,W) instead of (H,W,C).
//
// Both are one exchange: seen as (rows, pixels, channels), a parameter's file holds (rows, channels, pixels).
//
// Thread safety: free functions on their arguments.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/shape.h"

namespace sinew::nn {

struct FileLayout {
  enum class Kind { same, filters, flattened } kind = Kind::same;
  int64_t pixels = 1, channels = 1;

  // Of filters (K, R, S, C).
  static FileLayout filters(const Shape& shape);
  // Of a matrix whose columns stand for a map (H, W, C).
  static FileLayout flattened(const Shape& map);
};

// The shape that a parameter of `shape` has in a file.
Shape file_shape(const FileLayout& layout, const Shape& shape);
// Reorders a parameter of `numel` elements in host memory. from and to do not overlap.
void to_file(const FileLayout& layout, DType dtype, int64_t numel, const void* from, void* to);
void from_file(const FileLayout& layout, DType dtype, int64_t numel, const void* from, void* to);

}  // namespace sinew::nn
