// Index arithmetic of kernels over several axes: plain data that host code prepares (cuda/axes.h) and kernels use.
//
// 32 bits throughout: a 64-bit division costs a GPU about a hundred instructions, a multiplication by a prepared number
// three. Host code splits what is larger (in_parts).
#pragma once

#include <stdint.h>

#include "core/philox.h"
#include "core/shape.h"
#include "cuda/namespace.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// Division by a number in [1, 2^31) as a multiplication and a shift: Granlund and Montgomery, "Division by invariant
// integers using multiplication" (PLDI 1994), figure 4.1, for dividends below 2^31, which leave room for the sum.
struct Divisor {
  uint32_t value = 1, multiplier = 1, shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t divisor) : value(static_cast<uint32_t>(divisor)) {
    while ((uint64_t{1} << shift) < value) ++shift;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - value)) / value + 1);
  }
};
SINEW_HD uint32_t divide(uint32_t n, const Divisor& by) {
  return (uint32_t((uint64_t(n) * by.multiplier) >> 32) + n) >> by.shift;
}

// A row-major index space with two operands, innermost axis first: an index below the product of the extents has the
// offsets sum(coordinate * stride).
struct Space {
  int axes = 1;
  Divisor extent[kMaxDims];
  int32_t stride_a[kMaxDims] = {}, stride_b[kMaxDims] = {};
};
struct Offsets {
  int32_t a, b;
};
SINEW_HD Offsets offsets_of(const Space& space, uint32_t index) {
  Offsets at{0, 0};
#if defined(__CUDACC__)
#pragma unroll
#endif
  // All subscripts are constants once unrolled: the space stays in constant memory.
  for (int axis = 0; axis < kMaxDims; ++axis) {
    uint32_t coordinate = index;
    const bool last = axis + 1 >= space.axes;
    if (!last) {
      index = divide(index, space.extent[axis]);
      coordinate -= index * space.extent[axis].value;
    }
    at.a += int32_t(coordinate) * space.stride_a[axis];
    at.b += int32_t(coordinate) * space.stride_b[axis];
    if (last) break;
  }
  return at;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
