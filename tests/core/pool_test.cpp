// Pooling beyond its rows of the op table: PyTorch's documented semantics by hand, the transposes, threads.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/ops.h"
#include "tests/support/gradcheck.h"

namespace sinew::testing {
namespace {

// One image of one channel.
Tensor image(std::vector<double> v, int64_t h, int64_t w) { return Tensor::from_vector(v, {1, h, w, 1}); }

TEST(MaxPool, KnownValues) {
  const Tensor x = image({1, 5, 2, 8, 3,  //
                          4, 0, 7, 6, 9,  //
                          -1, -2, -3, -4, -5},
                         3, 5);
  EXPECT_EQ(values(max_pool2d(x, {2, 2, 0})), (std::vector<double>{5, 8}));  // the last row and column are left out
  EXPECT_EQ(values(max_pool2d(x, {2, 1, 0})), (std::vector<double>{5, 7, 8, 9, 4, 7, 7, 9}));
  EXPECT_EQ(max_pool2d_places(x, {2, 2, 0}).to_vector<uint8_t>(), (std::vector<uint8_t>{1, 1}));
  EXPECT_EQ(values(max_pool2d(x, {3, 2, 1})), (std::vector<double>{5, 8, 9, 4, 7, 9}));
  // Padding never wins, not even over negative numbers.
  EXPECT_EQ(values(max_pool2d(image({-1, -2, -3, -4}, 2, 2), {2, 2, 1})), (std::vector<double>{-1, -2, -3, -4}));
}

TEST(MaxPool, TheFirstOfEqualsGetsTheDerivative) {
  const Tensor x = image({1, 1, 1, 1}, 2, 2).set_requires_grad();
  const std::vector<Tensor> wrt{x};
  EXPECT_EQ(values(grad({sum(max_pool2d(x, {2, 2, 0}))}, wrt)[0]), (std::vector<double>{1, 0, 0, 0}));
}

TEST(MaxPool, NanAndInfinity) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isnan(values(max_pool2d(image({1, nan, 3, 4}, 2, 2), {2, 2, 0}))[0]));
  EXPECT_TRUE(std::isnan(values(max_pool2d(image({nan, 2, 3, 4}, 2, 2), {2, 2, 0}))[0]));
  const Tensor low = image({-inf, -inf, -inf, -inf}, 2, 2);
  EXPECT_EQ(values(max_pool2d(low, {2, 2, 0})), (std::vector<double>{-inf}));
  EXPECT_EQ(max_pool2d_places(low, {2, 2, 0}).to_vector<uint8_t>(), (std::vector<uint8_t>{0}));
}

TEST(AvgPool, PaddingCounts) {
  const Tensor x = image({4, 8, 12, 16}, 2, 2);
  EXPECT_EQ(values(avg_pool2d(x, {2, 2, 0})), (std::vector<double>{10}));
  EXPECT_EQ(values(avg_pool2d(x, {2, 2, 1})), (std::vector<double>{1, 2, 3, 4}));
}

// Against the definition, several geometries: more channels than a strip, windows that overlap or leave gaps.
TEST(Pool, EqualsTheDefinition) {
  for (const PoolOptions& o : {PoolOptions{2, 2, 0}, {3, 2, 1}, {3, 1, 1}, {2, 3, 0}, {5, 4, 2}, {7, 7, 0}})
    for (const Shape& shape : {Shape{2, 9, 8, 3}, Shape{1, 7, 11, 300}}) {
      const Tensor x = random_input(shape, 1);
      const std::vector<double> v = values(x), maximum = values(max_pool2d(x, o)), average = values(avg_pool2d(x, o));
      const int64_t h = shape[1], w = shape[2], channels = shape[3];
      const int64_t p = (h + 2 * o.padding - o.kernel) / o.stride + 1,
                    q = (w + 2 * o.padding - o.kernel) / o.stride + 1;
      ASSERT_EQ(max_pool2d(x, o).shape(), (Shape{shape[0], p, q, channels}));
      size_t at = 0;
      for (int64_t n = 0; n < shape[0]; ++n)
        for (int64_t i = 0; i < p; ++i)
          for (int64_t j = 0; j < q; ++j)
            for (int64_t c = 0; c < channels; ++c, ++at) {
              double best = -std::numeric_limits<double>::infinity(), total = 0;
              for (int64_t r = 0; r < o.kernel; ++r)
                for (int64_t s = 0; s < o.kernel; ++s) {
                  const int64_t y = i * o.stride - o.padding + r, z = j * o.stride - o.padding + s;
                  if (y < 0 || y >= h || z < 0 || z >= w) continue;
                  const double value = v[static_cast<size_t>(((n * h + y) * w + z) * channels + c)];
                  best = std::max(best, value);
                  total += value;
                }
              ASSERT_EQ(maximum[at], best);
              ASSERT_NEAR(average[at], total / static_cast<double>(o.kernel * o.kernel), 1e-14);
            }
    }
}

// <A x, y> = <x, A^T y>.
TEST(Pool, TransposesAreAdjoint) {
  for (const PoolOptions& o :
       {PoolOptions{2, 2, 0}, {3, 2, 1}, {3, 1, 1}, {2, 3, 0}, {2, 2, 1}, {3, 4, 1}, {5, 4, 2}}) {
    const Tensor x = random_input({2, 9, 8, 5}, 1), places = max_pool2d_places(random_input({2, 9, 8, 5}, 2), o);
    const Tensor y = random_input(places.shape(), 3);
    auto inner = [](const Tensor& a, const Tensor& b) { return sum(a * b).item<double>(); };
    EXPECT_NEAR(inner(avg_pool2d(x, o), y), inner(x, avg_pool2d_grad(y, 9, 8, o)), 1e-12);
    EXPECT_NEAR(inner(max_pool2d_gather(x, places, o), y), inner(x, max_pool2d_scatter(y, places, 9, 8, o)), 1e-12);
  }
}

TEST(Pool, ThreadsDoNotChangeAnyBit) {
  const Tensor x = cast(random_input({3, 33, 31, 20}, 1), DType::f32).set_requires_grad();
  auto run = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    const Tensor loss = sum(square(max_pool2d(x, {3, 2, 1}))) + sum(square(avg_pool2d(x, {3, 2, 1})));
    const std::vector<float> g = grad({loss}, std::vector<Tensor>{x})[0].to_vector<float>();
    set_num_threads(before);
    return g;
  };
  EXPECT_EQ(run(1), run(2));
  EXPECT_EQ(run(1), run(3));
}

TEST(Pool, ErrorsNameTheOpAndTheShapes) {
  auto message = [](auto fn) -> std::string {
    try {
      fn();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  const Tensor x = Tensor::ones({1, 4, 4, 2}), y = Tensor::ones({1, 2, 2, 2});
  EXPECT_NE(message([&] { max_pool2d(Tensor::ones({4, 4}), {}); }).find("[max_pool2d] x (4, 4)"), std::string::npos);
  EXPECT_NE(message([&] {
              avg_pool2d(x, {5, 1, 0});
            }).find("windows of 5 do not fit x (1, 4, 4, 2)"),
            std::string::npos);
  EXPECT_NE(message([&] { avg_pool2d(x, {2, 0, 0}); }).find("stride 0"), std::string::npos);
  EXPECT_NE(message([&] { avg_pool2d(x, {2, 2, 2}); }).find("at most half the kernel"), std::string::npos);
  EXPECT_NE(message([&] {
              max_pool2d(Tensor::ones({1, 20, 20, 1}), {17, 1, 0});
            }).find("at most 16"),
            std::string::npos);
  EXPECT_NE(message([&] { avg_pool2d_grad(y, 9, 9, {}); }).find("pooled (1, 2, 2, 2) of x (1, 9, 9, 2)"),
            std::string::npos);
  EXPECT_NE(message([&] { max_pool2d_gather(x, y, {}); }).find("places must be u8 (1, 2, 2, 2)"), std::string::npos);
}

}  // namespace
}  // namespace sinew::testing
