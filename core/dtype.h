// Element types. f64 exists because gradient checks need it; every floating-point kernel serves f32 and f64. bf16 is
// for what lies between a network's layers (core/bfloat16.h); which kernels and ops take it says core/kernel_api.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/bfloat16.h"
#include "core/check.h"

namespace sinew {

enum class DType : uint8_t { f32, f64, i32, i64, u8, bf16 };

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}
// What parameters, flat vectors, statistics and losses are made of.
constexpr bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f64; }
// What derivatives exist for.
constexpr bool is_float_or_bf16(DType dtype) { return is_float(dtype) || dtype == DType::bf16; }
// The type of what belongs to tensors of `dtype` but is never rounded to bf16: sums over them, channel vectors,
// filters.
constexpr DType wide_of(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }
// "f32", "f64", "i32", "i64", "u8", "bf16".
constexpr const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
    case DType::bf16:
      return "bf16";
  }
  return "?";
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<bfloat16> {
  static constexpr DType value = DType::bf16;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace sinew

// Runs the statement(s) with T bound to the C++ type; op names the caller in the error.
#define SINEW_DISPATCH_CASE(name, type, ...) \
  case ::sinew::DType::name: {               \
    using T = type;                          \
    __VA_ARGS__;                             \
    break;                                   \
  }
#define SINEW_DISPATCH_FLOAT(dtype, op, ...)                                         \
  switch (dtype) {                                                                   \
    SINEW_DISPATCH_CASE(f32, float, __VA_ARGS__)                                     \
    SINEW_DISPATCH_CASE(f64, double, __VA_ARGS__)                                    \
    default:                                                                         \
      SINEW_FAIL(op, "type ", ::sinew::to_string(dtype), " is not one of f32, f64"); \
  }
#define SINEW_DISPATCH_FLOAT_OR_BF16(dtype, op, ...)                                       \
  switch (dtype) {                                                                         \
    SINEW_DISPATCH_CASE(f32, float, __VA_ARGS__)                                           \
    SINEW_DISPATCH_CASE(f64, double, __VA_ARGS__)                                          \
    SINEW_DISPATCH_CASE(bf16, ::sinew::bfloat16, __VA_ARGS__)                              \
    default:                                                                               \
      SINEW_FAIL(op, "type ", ::sinew::to_string(dtype), " is not one of f32, f64, bf16"); \
  }
// Every type but bf16, which few of the backends' entries for all types take.
#define SINEW_DISPATCH_ALL(dtype, op, ...)                                                         \
  switch (dtype) {                                                                                 \
    SINEW_DISPATCH_CASE(f32, float, __VA_ARGS__)                                                   \
    SINEW_DISPATCH_CASE(f64, double, __VA_ARGS__)                                                  \
    SINEW_DISPATCH_CASE(i32, int32_t, __VA_ARGS__)                                                 \
    SINEW_DISPATCH_CASE(i64, int64_t, __VA_ARGS__)                                                 \
    SINEW_DISPATCH_CASE(u8, uint8_t, __VA_ARGS__)                                                  \
    default:                                                                                       \
      SINEW_FAIL(op, "type ", ::sinew::to_string(dtype), " is not one of f32, f64, i32, i64, u8"); \
  }
#define SINEW_DISPATCH_ALL_AND_BF16(dtype, op, ...)                    \
  switch (dtype) {                                                     \
    SINEW_DISPATCH_CASE(f32, float, __VA_ARGS__)                       \
    SINEW_DISPATCH_CASE(f64, double, __VA_ARGS__)                      \
    SINEW_DISPATCH_CASE(i32, int32_t, __VA_ARGS__)                     \
    SINEW_DISPATCH_CASE(i64, int64_t, __VA_ARGS__)                     \
    SINEW_DISPATCH_CASE(u8, uint8_t, __VA_ARGS__)                      \
    SINEW_DISPATCH_CASE(bf16, ::sinew::bfloat16, __VA_ARGS__)          \
    default:                                                           \
      SINEW_FAIL(op, "type ", static_cast<int>(dtype), " is unknown"); \
  }
