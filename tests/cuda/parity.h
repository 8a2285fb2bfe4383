// Whole operations, layers, optimizers and schemes on the device against the CPU.
//
//   CUDA_PARITY(Layers, EveryLayer) { EXPECT_TRUE(close(on(Device::cuda), on(Device::cpu))); }
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "tests/cuda/support.h"

namespace sinew::testing {

// One result after the other: a tensor, a vector, a loss. Each is compared relative to its own largest element.
using Results = std::vector<std::vector<double>>;

// Floats are compared relative to the largest magnitude among them, or to `floor` where that is larger: the size of
// terms that cancel and leave their rounding.
inline ::testing::AssertionResult close(const std::vector<double>& got, const std::vector<double>& want,
                                        double tolerance, double floor = 0) {
  if (got.size() != want.size())
    return ::testing::AssertionFailure() << got.size() << " values, expected " << want.size();
  double largest = floor;
  for (double w : want) largest = std::max(largest, std::abs(w));
  for (size_t i = 0; i < want.size(); ++i)
    if (!(std::abs(got[i] - want[i]) <= tolerance * largest))
      return ::testing::AssertionFailure() << "[" << i << "] is " << got[i] << " on the device, " << want[i]
                                           << " on the CPU; the largest is " << largest;
  return ::testing::AssertionSuccess();
}
inline ::testing::AssertionResult close(const Results& got, const Results& want, double tolerance, double floor = 0) {
  if (got.size() != want.size())
    return ::testing::AssertionFailure() << got.size() << " results, expected " << want.size();
  for (size_t i = 0; i < want.size(); ++i)
    if (::testing::AssertionResult same = close(got[i], want[i], tolerance, floor); !same)
      return same << " (result " << i << ")";
  return ::testing::AssertionSuccess();
}

// The bound of the comparisons: sums in another order, products and sums in one rounding.
inline double tolerance_of(DType dtype) { return dtype == DType::f64 ? 1e-12 : 1e-5; }

// A test that compares; skipped where there is no device.
#define CUDA_PARITY(suite, name)         \
  static void parity_##suite##_##name(); \
  TEST(suite, name) {                    \
    SINEW_NEEDS_CUDA();                  \
    parity_##suite##_##name();           \
  }                                      \
  static void parity_##suite##_##name()

}  // namespace sinew::testing
