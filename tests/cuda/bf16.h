// For tests of bf16 on the device: operands and results, and how near a sum has to come.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cuda/kernels/matrix.h"
#include "tests/cuda/support.h"

namespace sinew::testing {

inline constexpr double kHalfStep = 1.0 / 256;  // the largest relative error of rounding to bf16

// An operand as the kernel gets it, and the values that it then computes with.
struct Operand {
  Operand(size_t n, bool is_f32, uint32_t stream, size_t offset) : f32(is_f32) {
    const std::vector<float> wide = random_values<float>(n, -1, 1, stream);
    std::vector<bfloat16> narrow;
    for (float x : wide) narrow.push_back(bfloat16(x));
    values.assign(narrow.begin(), narrow.end());
    if (f32)
      as_f32 = std::make_unique<DeviceArray<float>>(wide, offset);
    else
      as_bf16 = std::make_unique<DeviceArray<bfloat16>>(narrow, offset);
  }
  const void* data() const { return f32 ? static_cast<const void*>(as_f32->data()) : as_bf16->data(); }

  bool f32;
  std::vector<double> values;
  std::unique_ptr<DeviceArray<float>> as_f32;
  std::unique_ptr<DeviceArray<bfloat16>> as_bf16;
};

// A result of either type, with `guard` more elements behind it that must stay.
class Result {
 public:
  Result(size_t n, bool narrow, size_t offset) : n_(n), narrow_(narrow) {
    if (narrow)
      bf16_ = std::make_unique<DeviceArray<bfloat16>>(std::vector<bfloat16>(n + 1, bfloat16(77)), offset);
    else
      f32_ = std::make_unique<DeviceArray<float>>(std::vector<float>(n + 1, 77.0f), offset);
  }
  void* data() const { return narrow_ ? static_cast<void*>(bf16_->data()) : f32_->data(); }
  std::vector<double> read() const {
    std::vector<double> got;
    if (narrow_)
      for (bfloat16 x : bf16_->read()) got.push_back(static_cast<double>(float(x)));
    else
      for (float x : f32_->read()) got.push_back(static_cast<double>(x));
    EXPECT_EQ(got.back(), 77) << "wrote beyond the end";
    got.pop_back();
    return got;
  }

 private:
  size_t n_;
  bool narrow_;
  std::unique_ptr<DeviceArray<bfloat16>> bf16_;
  std::unique_ptr<DeviceArray<float>> f32_;
};

// A sum of products of values up to 1, the size of its terms and their number.
struct Sum {
  double value = 0, size = 0, terms = 0;
  void add(double term) { value += term, size += std::abs(term), ++terms; }
};
// Sums are f32's; a result in bf16 is rounded once more.
inline void expect_near(double got, double want, const Sum& sum, bool narrow, const std::string& where) {
  const double summing = 2.4e-7 * (sum.size + 1) * std::sqrt(sum.terms + 1);
  ASSERT_NEAR(got, want, summing + (narrow ? kHalfStep * (std::abs(want) + summing) : 0)) << where;
}

// Which kernels make products and convolutions while it lives.
struct Using {
  explicit Using(cuda::WgmmaUse use, cuda::WgmmaCopies copies = cuda::WgmmaCopies::threads) {
    cuda::set_wgmma_use(use);
    cuda::set_wgmma_copies(copies);
  }
  ~Using() {
    cuda::set_wgmma_use(cuda::WgmmaUse::filling);
    cuda::set_wgmma_copies(cuda::WgmmaCopies::bulk);
  }
  Using(const Using&) = delete;
  Using& operator=(const Using&) = delete;
};

}  // namespace sinew::testing
