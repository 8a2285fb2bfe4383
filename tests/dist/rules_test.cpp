#include "dist/rules.h"

#include <gtest/gtest.h>

#include "core/philox.h"

namespace sinew::dist {
namespace {

std::vector<double> draws(uint32_t stream, int64_t n) {
  std::vector<double> v(n);
  for (int64_t i = 0; i < n; ++i)
    v[i] = 4 * uniform01(philox_u64({1, uint32_t(RngPurpose::test), stream, 0}, static_cast<uint64_t>(i))) - 2;
  return v;
}

TEST(Rules, ElasticDifference) {
  for (int64_t n : {0, 1, 3, 4096, 100'003}) {
    std::vector<double> x = draws(0, n), c = draws(1, n), d(n), x0 = x, c0 = c;
    double distance2 = 0;
    for (int64_t i = 0; i < n; ++i) distance2 += (x[i] - c[i]) * (x[i] - c[i]);
    EXPECT_NEAR(elastic_difference(0.3, x, c, d), distance2, 1e-12 * (1 + distance2));
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(d[i], 0.3 * (x[i] - c[i]));
    EXPECT_EQ(x, x0);
    EXPECT_EQ(c, c0);
  }
}

TEST(Rules, ElasticMoveConservesTheSum) {
  const int64_t n = 10'001;
  std::vector<double> x = draws(0, n), c = draws(1, n), x0 = x, c0 = c;
  EXPECT_NEAR(elastic_move(0.3, x, c), squared_distance(ConstVecView(x0), ConstVecView(c0)), 1e-9);
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_NEAR(x[i] + c[i], x0[i] + c0[i], 1e-15 * 8);
    ASSERT_NEAR(x[i], x0[i] - 0.3 * (x0[i] - c0[i]), 1e-15 * 8);
  }
}

TEST(Rules, MomentumMoveConservesThePotential) {
  const int64_t n = 10'001;
  std::vector<double> u = draws(0, n), v = draws(1, n), c = draws(2, n), v0 = v, c0 = c;
  momentum_move(0.9, u, v, c);
  for (int64_t i = 0; i < n; ++i) {
    ASSERT_NEAR(v[i], 0.9 * v0[i] + u[i], 1e-15 * 8);
    ASSERT_NEAR(c[i] + 9 * v[i], c0[i] + 9 * v0[i] + 10 * u[i], 1e-13);
  }
}

TEST(Rules, AverageTowardIsTheMean) {
  const int64_t n = 1001;
  std::vector<double> mean(n), sum(n);
  for (uint32_t t = 0; t < 20; ++t) {
    std::vector<double> c = draws(t, n);
    std::vector<float> single(c.begin(), c.end());
    for (int64_t i = 0; i < n; ++i) sum[i] += single[i];
    average_toward(1.0 / (t + 1), single, mean);
  }
  for (int64_t i = 0; i < n; ++i) ASSERT_NEAR(mean[i], sum[i] / 20, 1e-14);
}

TEST(Rules, Accumulate) {
  std::vector<float> x{1, 2, 3}, y{10, 20, 30};
  accumulate(-2, x, y);
  EXPECT_EQ(y, (std::vector<float>{8, 16, 24}));
}

TEST(Rules, MismatchesAreErrors) {
  std::vector<double> a(3), b(4);
  std::vector<float> f(3);
  std::vector<int64_t> i(3);
  EXPECT_THROW(elastic_difference(0.1, a, b, a), Error);
  EXPECT_THROW(elastic_difference(0.1, a, a, b), Error);
  EXPECT_THROW(elastic_move(0.1, a, f), Error);
  EXPECT_THROW(elastic_move(0.1, i, i), Error);
  EXPECT_THROW(accumulate(1, a, b), Error);
  EXPECT_THROW(momentum_move(0.5, a, b, a), Error);
  EXPECT_THROW(momentum_move(0.5, a, a, b), Error);
  EXPECT_THROW(average_toward(0.5, a, b), Error);
  EXPECT_THROW(average_toward(0.5, i, a), Error);
}

}  // namespace
}  // namespace sinew::dist
