#include "core/shape.h"

#include <algorithm>

namespace sinew {

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < ndim_; ++i) {
    int64_t d = (*this)[i];
    if (d != 0 && n > (int64_t{1} << 62) / d) SINEW_FAIL("shape", str(), " has too many elements");
    n *= d;
  }
  return n;
}

std::string Shape::str() const {
  std::string text = "(";
  for (int i = 0; i < ndim_; ++i) text += (i ? ", " : "") + std::to_string((*this)[i]);
  return text + ")";
}

Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op) {
  int n = std::max(a.ndim(), b.ndim());
  std::array<int64_t, kMaxDims> out{};
  for (int i = 0; i < n; ++i) {
    int ia = a.ndim() - 1 - i, ib = b.ndim() - 1 - i;
    int64_t da = ia >= 0 ? a[ia] : 1, db = ib >= 0 ? b[ib] : 1;
    SINEW_CHECK(da == db || da == 1 || db == 1, op, "shapes ", a, " and ", b, " do not broadcast");
    out[static_cast<size_t>(n - 1 - i)] = da == 1 ? db : da;
  }
  return Shape(std::span<const int64_t>(out.data(), static_cast<size_t>(n)));
}

}  // namespace sinew
