// bfloat16: the upper half of an f32. Eight bits of significand (one of them implied), f32's exponents.
//
// Only a form of storage: every value is an f32 exactly, arithmetic happens in f32, and converting back rounds once, to
// nearest with ties to even. NaNs stay NaNs, what exceeds the largest value by half a step becomes infinite.
// Integer operations alone, so that compilers vectorise loops over it for every instruction set.
#pragma once

#include <stdint.h>

#include "core/host_device.h"

namespace sinew {

struct bfloat16 {
  uint16_t bits;

  bfloat16() = default;
  template <class Number>
  SINEW_HD explicit constexpr bfloat16(Number x) : bits(rounded(static_cast<float>(x))) {}
  SINEW_HD constexpr operator float() const { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }

 private:
  SINEW_HD static constexpr uint16_t rounded(float x) {
#if defined(__CUDA_ARCH__)
    if (!__builtin_is_constant_evaluated()) {
      uint16_t to_nearest;  // one instruction where the lines below are six
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to_nearest) : "f"(x));
      return to_nearest;
    }
#endif
    const uint32_t f32 = __builtin_bit_cast(uint32_t, x);
    const uint32_t nearest = (f32 + 0x7FFFu + (f32 >> 16 & 1u)) >> 16;
    const bool nan = (f32 & 0x7FFFFFFFu) > 0x7F800000u;
    // A NaN keeps its sign and upper payload, and is quiet: the payload's lower half may be all that it had.
    return static_cast<uint16_t>(nan ? f32 >> 16 | 0x40u : nearest);
  }
};

// The type that arithmetic on elements of T is done in.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<bfloat16> {
  using type = float;
};
template <class T>
using Wide = typename WideOf<T>::type;

}  // namespace sinew
