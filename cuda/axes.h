// Host side of indexing.h: axes that two operands are walked along, simplified before a kernel sees them.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "core/shape.h"
#include "cuda/indexing.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// Innermost axis first. No axes: one element.
struct Axes {
  int count = 0;
  int64_t extent[kMaxDims] = {}, a[kMaxDims] = {}, b[kMaxDims] = {};

  // Adds an axis outside of those that are there: an extent of 1 is left out, and an axis that both operands walk
  // evenly with the one inside is merged with it. At most kMaxDims times.
  void add_outer(int64_t extent_, int64_t stride_a, int64_t stride_b) {
    if (extent_ == 1) return;
    const int inner = count - 1;
    if (inner >= 0 && stride_a == extent[inner] * a[inner] && stride_b == extent[inner] * b[inner]) {
      extent[inner] *= extent_;
      return;
    }
    extent[count] = extent_;
    a[count] = stride_a;
    b[count] = stride_b;
    ++count;
  }
  int64_t elements() const {
    int64_t product = 1;
    for (int i = 0; i < count; ++i) product *= extent[i];
    return product;
  }
};

// The innermost axis becomes one of groups of `width` elements, which its extent is a multiple of. An operand with
// stride 1 there is walked in groups, which all its other strides are multiples of; one with stride 0 in elements.
inline Axes in_groups(Axes axes, int64_t width) {
  axes.extent[0] /= width;
  for (int64_t* stride : {axes.a, axes.b}) {
    if (stride[0] == 0) continue;
    for (int i = 1; i < axes.count; ++i) stride[i] /= width;
  }
  return axes;
}

// Calls launch(space, elements, offset of a, offset of b, index of the first element) for parts of the space, one as
// a rule, with at most `largest` elements and offsets of at most `reach`.
template <class Launch>
void in_parts(const Axes& axes, const Launch& launch, int64_t largest = INT32_MAX, int64_t reach = INT32_MAX,
              int64_t at_a = 0, int64_t at_b = 0, int64_t first = 0) {
  int64_t reach_a = 0, reach_b = 0;
  int outer = 0;
  int64_t inside = 1;  // elements of one index of the outermost axis that can be split
  for (int i = 0; i < axes.count; ++i) {
    reach_a += (axes.extent[i] - 1) * std::abs(axes.a[i]);
    reach_b += (axes.extent[i] - 1) * std::abs(axes.b[i]);
    if (axes.extent[i] == 1) continue;
    outer = i;
    inside = 1;
    for (int k = 0; k < i; ++k) inside *= axes.extent[k];
  }
  const int64_t elements = axes.elements();
  if (elements <= 1 || (elements <= largest && reach_a <= reach && reach_b <= reach)) {
    Space space;
    space.axes = axes.count > 0 ? axes.count : 1;
    for (int i = 0; i < axes.count; ++i) {
      space.extent[i] = Divisor(axes.extent[i]);
      space.stride_a[i] = elements > 1 ? static_cast<int32_t>(axes.a[i]) : 0;
      space.stride_b[i] = elements > 1 ? static_cast<int32_t>(axes.b[i]) : 0;
    }
    launch(space, elements, at_a, at_b, first);
    return;
  }
  Axes part = axes;
  const int64_t half = axes.extent[outer] / 2;
  part.extent[outer] = half;
  in_parts(part, launch, largest, reach, at_a, at_b, first);
  part.extent[outer] = axes.extent[outer] - half;
  in_parts(part, launch, largest, reach, at_a + half * axes.a[outer], at_b + half * axes.b[outer],
           first + half * inside);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
