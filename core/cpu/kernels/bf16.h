// From bf16 to f32 and back, for products and convolutions of bf16 by way of f32: operands widened (what is f32 is
// rounded first), the f32 kernel, the result rounded once. The oracle, and the path of processors and builds without
// instructions for products of bf16.
#pragma once

#include "core/cpu/kernels/channels.h"

namespace sinew::SINEW_CPU_NS {

inline void widen(const bfloat16* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i];
}
inline void widen(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = bfloat16(x[i]);
}
inline void narrow(const float* x, int64_t n, bfloat16* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = bfloat16(x[i]);
}

}  // namespace sinew::SINEW_CPU_NS
