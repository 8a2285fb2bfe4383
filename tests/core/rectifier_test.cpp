// NaN goes through every rectifier, fused or not, so that a network whose numbers are spoilt has a loss that says so.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/ops.h"
#include "tests/support/gradcheck.h"

namespace sinew::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Of the last axis's values, those of `bad` are NaN and the others are not; a rectifier let no negative one through.
void expect_nan_in(const Tensor& y, int64_t bad) {
  const int64_t channels = y.shape().dim(-1);
  const std::vector<double> v = values(y);
  for (size_t i = 0; i < v.size(); ++i) {
    const bool is_bad = static_cast<int64_t>(i) % channels == bad;
    ASSERT_EQ(std::isnan(v[i]), is_bad) << "element " << i << " of " << v.size();
    ASSERT_TRUE(is_bad || v[i] >= 0) << "element " << i;
  }
}

// Small numbers of both signs, and NaN at one place.
Tensor with_nan(int64_t n, int64_t bad, DType dtype) {
  std::vector<double> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = i == bad ? kNaN : 0.1 * static_cast<double>(i % 5 - 2);
  return cast(Tensor::from_vector(v, {n}), dtype);
}

TEST(Rectifier, KeepsNaN) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (int64_t n : {1, 7, 64, 1001}) {
      const Tensor x = with_nan(n, n / 2, dtype), zero = Tensor::zeros({n}, dtype);
      expect_nan_in(relu(x), n / 2);
      expect_nan_in(add_relu(x, zero), n / 2);
      expect_nan_in(maximum(x, zero), n / 2);
      expect_nan_in(maximum(zero, x), n / 2);
      EXPECT_TRUE(std::isnan(values(minimum(x, zero))[static_cast<size_t>(n / 2)]));
      EXPECT_TRUE(std::isnan(values(minimum(zero, x))[static_cast<size_t>(n / 2)]));
    }
}

TEST(Rectifier, KeepsNaNOfProducts) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (int64_t rows : {1, 5, 200})  // the larger ones may be another library's
      for (int64_t inner : {3, 70})
        for (int64_t cols : {6, 48, 300}) {
          SCOPED_TRACE(::testing::Message() << to_string(dtype) << " " << rows << " x " << inner << " x " << cols);
          const DType parameters = dtype == DType::bf16 ? DType::f32 : dtype;
          const Tensor x = cast(random_input({rows, inner}, 1), dtype);
          const Tensor w = cast(random_input({cols, inner}, 2), parameters);
          const Tensor bias = with_nan(cols, cols / 3, parameters);
          expect_nan_in(linear(x, w, bias, Activation::relu), cols / 3);
        }
}

TEST(Rectifier, KeepsNaNOfConvolutions) {
  struct Case {
    int64_t n, size, c, k, filter, stride;
  };
  // Among them Winograd's filtering, single pixels, tiny images and few channels.
  for (const Case& t : {Case{1, 5, 3, 6, 3, 1},
                        {40, 16, 16, 32, 3, 1},
                        {2, 12, 16, 24, 3, 2},
                        {8, 16, 32, 64, 1, 1},
                        {4, 14, 8, 20, 5, 1},
                        {8, 14, 16, 32, 5, 1},
                        {16, 4, 64, 64, 3, 1},
                        {3, 2, 5, 7, 1, 1}})
    for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      SCOPED_TRACE(::testing::Message() << to_string(dtype) << " " << t.n << " images of " << t.size << " x " << t.size
                                        << " x " << t.c << ", " << t.k << " filters of " << t.filter << ", step "
                                        << t.stride);
      const Tensor x = cast(random_input({t.n, t.size, t.size, t.c}, 1), dtype);
      const DType parameters = dtype == DType::bf16 ? DType::f32 : dtype;
      const Tensor w = cast(random_input({t.k, t.filter, t.filter, t.c}, 2), parameters);
      const ConvOptions options{t.stride, t.stride, t.filter / 2, t.filter / 2};
      expect_nan_in(conv2d(x, w, with_nan(t.k, t.k - 2, parameters), Activation::relu, options), t.k - 2);
    }
}

TEST(Rectifier, KeepsNaNOfNormalisations) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (int64_t channels : {3, 16, 40})
      for (bool residual : {false, true}) {
        SCOPED_TRACE(::testing::Message() << to_string(dtype) << " " << channels << " channels, residual " << residual);
        const DType parameters = dtype == DType::bf16 ? DType::f32 : dtype;
        const Tensor x = cast(random_input({6, 5, channels}, 1), dtype);
        const Tensor r = residual ? cast(random_input({6, 5, channels}, 2), dtype) : Tensor();
        const Tensor one = Tensor::full({channels}, 1, parameters), bad = with_nan(channels, 1, parameters);
        expect_nan_in(batch_norm(x, one, bad, r, Activation::relu).y, 1);
        expect_nan_in(channel_affine(x, one, one, bad, r, Activation::relu), 1);
      }
}

}  // namespace
}  // namespace sinew::testing
