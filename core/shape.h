// A shape is up to kMaxDims extents, row-major, held inline (no allocation). Rank 0 is a scalar with one element.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "core/check.h"

namespace sinew {

inline constexpr int kMaxDims = 6;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims) {
    SINEW_CHECK(dims.size() <= size_t{kMaxDims}, "shape", dims.size(), " dimensions, at most ", kMaxDims);
    for (int64_t d : dims) push_back(d);
  }
  int ndim() const { return ndim_; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  // axis may be negative, counted from the end. Throws Error when out of range.
  int64_t dim(int axis) const { return dims_[static_cast<size_t>(normalize_axis(axis))]; }
  int normalize_axis(int axis) const {
    int a = axis < 0 ? axis + ndim_ : axis;
    SINEW_CHECK(a >= 0 && a < ndim_, "shape", "axis ", axis, " of a shape with ", ndim_, " dimensions");
    return a;
  }
  void set(int axis, int64_t extent) { dims_[static_cast<size_t>(axis)] = extent; }
  void push_back(int64_t extent) {
    SINEW_CHECK(ndim_ < kMaxDims, "shape", "more than ", kMaxDims, " dimensions");
    SINEW_CHECK(extent >= 0, "shape", "negative extent ", extent);
    dims_[static_cast<size_t>(ndim_++)] = extent;
  }
  // Product of the extents; throws Error when it does not fit 62 bits.
  int64_t numel() const;
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(ndim_)}; }
  bool operator==(const Shape& other) const {
    if (ndim_ != other.ndim_) return false;
    for (int i = 0; i < ndim_; ++i)
      if ((*this)[i] != other[i]) return false;
    return true;
  }
  // "(2, 3, 4)"
  std::string str() const;

 private:
  std::array<int64_t, kMaxDims> dims_{};
  int ndim_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.str(); }

// NumPy's rule: align at the right, extents equal or one of them 1. Throws Error naming op.
Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op);

}  // namespace sinew
