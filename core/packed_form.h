// Numbers in fewer bits, as messages carry them (dist/packing.h): the one formula of every device.
//
//   bf16   2 bytes a number
//   int8   blocks of kPackedBlock numbers: 2 bytes for an exponent e, little-endian, then a byte q for each number,
//          which is q 2^e with |q| <= 127. The last block may be shorter.
//
// Inline in the namespace of the file's flavour, as core/functors.h is, and for the same reason.
#pragma once

#include <math.h>
#include <stdint.h>

#include "core/bfloat16.h"
#include "core/functors.h"

namespace sinew {
inline constexpr int64_t kPackedBlock = 256;
inline constexpr int64_t kPackedBlockBytes = kPackedBlock + 2;  // of int8
}  // namespace sinew

namespace sinew::SINEW_FUNCTOR_NS {

// Magnitudes are compared as integers, in which order and finiteness are the same and loops become vectors.
template <class T>
struct Magnitude;
template <>
struct Magnitude<float> {
  using Bits = int32_t;
  static constexpr Bits kMask = 0x7FFFFFFF;
  static constexpr int kMantissa = 23, kBias = 127;
};
template <>
struct Magnitude<double> {
  using Bits = int64_t;
  static constexpr Bits kMask = 0x7FFFFFFFFFFFFFFF;
  static constexpr int kMantissa = 52, kBias = 1023;
};
template <class T>
using MagnitudeBits = typename Magnitude<T>::Bits;

template <class T>
SINEW_HD MagnitudeBits<T> magnitude(T x) {
  return __builtin_bit_cast(MagnitudeBits<T>, x) & Magnitude<T>::kMask;
}
template <class T>
SINEW_HD bool finite_magnitude(MagnitudeBits<T> bits) {
  using M = Magnitude<T>;
  return bits < static_cast<MagnitudeBits<T>>(2 * M::kBias + 1) << M::kMantissa;
}

// The scale of a block of int8.
template <class T>
struct Int8Scale {
  int exponent;
  T step, inverse;
};
template <class T>
SINEW_HD Int8Scale<T> int8_scale(int exponent) {
  using M = Magnitude<T>;
  using Bits = MagnitudeBits<T>;
  return {exponent, __builtin_bit_cast(T, static_cast<Bits>(M::kBias + exponent) << M::kMantissa),
          __builtin_bit_cast(T, static_cast<Bits>(M::kBias - exponent) << M::kMantissa)};
}
// Of a block that somebody sent: not a number where no numbers have this exponent.
template <class T>
SINEW_HD T int8_step_of(int16_t exponent) {
  const bool valid = exponent >= 1 - Magnitude<T>::kBias && exponent <= Magnitude<T>::kBias;
  return valid ? int8_scale<T>(exponent).step : __builtin_bit_cast(T, Magnitude<T>::kMask);
}
// For a block whose largest magnitude is finite and not small: the least e with largest <= 127 2^e. A block that was
// rounded with it has it again.
template <class T>
SINEW_HD Int8Scale<T> int8_scale_of(MagnitudeBits<T> largest) {
  using M = Magnitude<T>;
  using Bits = MagnitudeBits<T>;
  constexpr Bits k127 = static_cast<Bits>(63) << (M::kMantissa - 6);  // the mantissa of 127
  const Bits mantissa = largest & ((static_cast<Bits>(1) << M::kMantissa) - 1);
  return int8_scale<T>(static_cast<int>(largest >> M::kMantissa) - M::kBias - 6 + (mantissa > k127));
}
// Blocks whose numbers are all smaller than 2^-100 become zeros: their exponents would be out of range.
template <class T>
SINEW_HD bool small_for_int8(MagnitudeBits<T> largest) {
  using M = Magnitude<T>;
  return largest < static_cast<MagnitudeBits<T>>(M::kBias - 100) << M::kMantissa;
}

SINEW_HD float nearest_integer(float x) { return ::rintf(x); }
SINEW_HD double nearest_integer(double x) { return ::rint(x); }

// + 0: the packed form has no -0.
template <class T>
SINEW_HD T rounded_to_int8(T x, Int8Scale<T> scale) {
  return nearest_integer(x * scale.inverse) * scale.step + T(0);
}
template <class T>
SINEW_HD T rounded_to_bf16(T x) {
  return static_cast<T>(static_cast<float>(bfloat16(x)));
}

}  // namespace sinew::SINEW_FUNCTOR_NS
