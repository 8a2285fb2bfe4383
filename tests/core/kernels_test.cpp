// The CPU kernels against plain loops, and their independence of the number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "core/cpu/cpu_info.h"
#include "core/kernel_api.h"
#include "core/ops.h"
#include "core/vec.h"

namespace sinew {
namespace {

RngKey key(uint32_t stream) { return {11, static_cast<uint32_t>(RngPurpose::test), stream, 0}; }

template <class T>
std::vector<T> random_values(int64_t n, uint32_t stream) {
  return random_uniform({n}, -1, 1, key(stream), dtype_of<T>).template to_vector<T>();
}

struct GemmCase {
  int64_t m, n, k;
  bool trans_a, trans_b;
};

template <class T>
void check_gemm(const GemmCase& c, double beta, bool bias, Activation act, void (*run)(const kernel::GemmArgs&)) {
  const int64_t batch = 2, pad = 3;
  const int64_t lda = (c.trans_a ? c.m : c.k) + pad, ldb = (c.trans_b ? c.k : c.n) + pad, ldc = c.n + pad;
  const int64_t sa = lda * (c.trans_a ? c.k : c.m), sb = ldb * (c.trans_b ? c.n : c.k), sc = ldc * c.m;
  const std::vector<T> a = random_values<T>(batch * sa, 1), b = random_values<T>(batch * sb, 2),
                       bias_values = random_values<T>(c.n, 4);
  std::vector<T> y = random_values<T>(batch * sc, 3);
  const std::vector<T> before = y;
  run({dtype_of<T>,
       c.trans_a,
       c.trans_b,
       c.m,
       c.n,
       c.k,
       0.75,
       beta,
       a.data(),
       lda,
       b.data(),
       ldb,
       y.data(),
       ldc,
       batch,
       sa,
       sb,
       sc,
       bias ? bias_values.data() : nullptr,
       act});
  const double tolerance = sizeof(T) == 4 ? 1e-6 * static_cast<double>(c.k + 8) : 1e-14 * static_cast<double>(c.k + 8);
  for (int64_t q = 0; q < batch; ++q)
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < ldc; ++j) {
        const size_t at = static_cast<size_t>(q * sc + i * ldc + j);
        if (j >= c.n) {
          ASSERT_EQ(y[at], before[at]) << "wrote beyond column " << c.n;
          continue;
        }
        double want = 0;
        for (int64_t p = 0; p < c.k; ++p)
          want += static_cast<double>(a[static_cast<size_t>(q * sa + (c.trans_a ? p * lda + i : i * lda + p))]) *
                  static_cast<double>(b[static_cast<size_t>(q * sb + (c.trans_b ? j * ldb + p : p * ldb + j))]);
        want = 0.75 * want + beta * static_cast<double>(before[at]) +
               (bias ? static_cast<double>(bias_values[static_cast<size_t>(j)]) : 0);
        if (act == Activation::relu) want = std::max(want, 0.0);
        if (act == Activation::tanh) want = std::tanh(want);
        if (act == Activation::sigmoid) want = 1 / (1 + std::exp(-want));
        ASSERT_NEAR(y[at], want, tolerance) << "at " << q << ", " << i << ", " << j;
      }
}

class Gemm : public ::testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(Gemm, MatchesPlainLoops) {
  static const int64_t sizes[][3] = {{1, 1, 1},      {3, 5, 7},      {16, 64, 64},  {13, 33, 65},
                                     {65, 129, 257}, {150, 70, 300}, {12, 2100, 9}, {1, 40, 600}};
  const auto& s = sizes[std::get<0>(GetParam())];
  const int flags = std::get<1>(GetParam());
  const GemmCase c{s[0], s[1], s[2], (flags & 1) != 0, (flags & 2) != 0};
  for (auto run : {cpu_kernels().gemm, reference_gemm}) {
    check_gemm<float>(c, 0, false, Activation::none, run);
    check_gemm<float>(c, 0, true, Activation::relu, run);
    check_gemm<float>(c, 0.5, false, Activation::none, run);
    check_gemm<double>(c, 0, true, Activation::tanh, run);
    check_gemm<double>(c, 1, false, Activation::none, run);
    check_gemm<double>(c, 0, true, Activation::sigmoid, run);
  }
}
INSTANTIATE_TEST_SUITE_P(Sizes, Gemm, ::testing::Combine(::testing::Range(0, 8), ::testing::Range(0, 4)));

TEST(Threads, DoNotChangeAnyBit) {
  const Tensor a = random_uniform({300, 257}, -1, 1, key(1)), b = random_uniform({257, 310}, -1, 1, key(2));
  auto all = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    std::vector<float> out;
    auto append = [&](const Tensor& t) {
      for (float v : t.to_vector<float>()) out.push_back(v);
    };
    std::vector<float> product(300 * 310);
    const kernel::GemmArgs gemm{.dtype = DType::f32,
                                .trans_a = false,
                                .trans_b = false,
                                .m = 300,
                                .n = 310,
                                .k = 257,
                                .alpha = 1,
                                .beta = 0,
                                .a = a.data(),
                                .lda = 257,
                                .b = b.data(),
                                .ldb = 310,
                                .c = product.data(),
                                .ldc = 310,
                                .batch = 1};
    reference_gemm(gemm);  // oneDNN's may differ: it splits long sums between threads where there is no AVX-512
    out.insert(out.end(), product.begin(), product.end());
    append(sum(a));
    append(sum(a, {0}));
    append(sum(a, {1}));
    append(sum(reshape(a, {25700, 3}), {0}));
    append(exp(a));
    append(dropout(a, 0.3, key(3)));
    append(random_normal({70000}, 0, 1, key(4)));
    out.push_back(static_cast<float>(dot(a.view(), a.view())));
    set_num_threads(before);
    return out;
  };
  const std::vector<float> one = all(1);
  EXPECT_EQ(one, all(2));
  EXPECT_EQ(one, all(3));
}

TEST(Sum, IsAccurateOnManyElements) {
  const Tensor x = Tensor::full({1 << 22}, 0.1);
  EXPECT_NEAR(sum(x).item<float>(), static_cast<double>(0.1f) * (1 << 22), 0.04);
}

// Columns longer than the pieces that they are summed in, wider than a strip.
TEST(Sum, OfLongColumns) {
  for (const Shape& shape : {Shape{10000, 5}, Shape{4097, 300}, Shape{2, 9000, 3}}) {
    const Tensor x = random_uniform(shape, -1, 1, key(7), DType::f64);
    const std::vector<double> v = x.to_vector<double>(), got = sum(x, {-2}).to_vector<double>();
    const auto rows = static_cast<size_t>(shape.dim(-2)), inner = static_cast<size_t>(shape.dim(-1));
    for (size_t i = 0; i < got.size(); ++i) {
      double want = 0;
      for (size_t r = 0; r < rows; ++r) want += v[(i / inner * rows + r) * inner + i % inner];
      ASSERT_NEAR(got[i], want, 1e-10) << shape << " " << i;
    }
  }
}

TEST(Max, NanWins) {
  const Tensor x = Tensor::from_vector<float>({1, NAN, 3}, {3});
  EXPECT_TRUE(std::isnan(max(x).item<float>()));
}

TEST(Vectors, AxpbyDotElastic) {
  std::vector<double> x{1, 2, 3}, y{10, 20, 30}, z(3);
  axpby(2, x, 0.5, y, z);
  EXPECT_EQ(z, (std::vector<double>{7, 14, 21}));
  axpby(1, x, 1, y, y);
  EXPECT_EQ(y, (std::vector<double>{11, 22, 33}));
  EXPECT_EQ(dot(x, y), 11 + 44 + 99);
  EXPECT_EQ(squared_distance(x, y), 100 + 400 + 900);
  std::vector<double> d(3);
  double distance2 = 0;
  cpu_kernels().elastic({DType::f64, 3, 0.5, x.data(), y.data(), d.data(), true, true, &distance2});
  EXPECT_EQ(d, (std::vector<double>{-5, -10, -15}));
  EXPECT_EQ(x, (std::vector<double>{6, 12, 18}));
  EXPECT_EQ(y, (std::vector<double>{6, 12, 18}));
  EXPECT_EQ(distance2, 1400);
  std::vector<float> f(3);
  EXPECT_THROW(axpby(1, x, 1, f, z), Error);
  EXPECT_THROW(copy(x, VecView(z).slice(0, 2)), Error);
  EXPECT_THROW(VecView(z).slice(2, 2), Error);
  x[1] = INFINITY;
  EXPECT_FALSE(all_finite(x));
  EXPECT_TRUE(all_finite(y));
}

// Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 10 rounds).
TEST(Philox, KnownAnswers) {
  const PhiloxBlock zero = philox4x32_10(0, 0, 0, 0, 0, 0);
  EXPECT_EQ(zero.v[0], 0x6627e8d5u);
  EXPECT_EQ(zero.v[1], 0xe169c58du);
  EXPECT_EQ(zero.v[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.v[3], 0x9b00dbd8u);
  const PhiloxBlock ones = philox4x32_10(~0u, ~0u, ~0u, ~0u, ~0u, ~0u);
  EXPECT_EQ(ones.v[0], 0x408f276du);
  EXPECT_EQ(ones.v[1], 0x41c83b0eu);
  EXPECT_EQ(ones.v[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.v[3], 0x6d5451fdu);
  const PhiloxBlock pi = philox4x32_10(0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u, 0xa4093822u, 0x299f31d0u);
  EXPECT_EQ(pi.v[0], 0xd16cfe09u);
  EXPECT_EQ(pi.v[1], 0x94fdccebu);
  EXPECT_EQ(pi.v[2], 0x5001e420u);
  EXPECT_EQ(pi.v[3], 0x24126ea1u);
}

TEST(Random, MomentsAndIndependence) {
  const int64_t n = 200000;
  const Tensor u = random_uniform({n}, -1, 3, key(1), DType::f64), g = random_normal({n}, 2, 3, key(2), DType::f64),
               r = random_rademacher({n}, key(3), DType::f64);
  auto mean_of = [](const Tensor& t) { return mean(t).item<double>(); };
  auto variance = [&](const Tensor& t) { return mean_of(square(t + -mean_of(t))); };
  // Five standard errors.
  EXPECT_NEAR(mean_of(u), 1, 5 * std::sqrt(16 / 12.0 / n));
  EXPECT_NEAR(variance(u), 16 / 12.0, 0.02);
  EXPECT_NEAR(mean_of(g), 2, 5 * 3 / std::sqrt(n));
  EXPECT_NEAR(variance(g), 9, 0.2);
  EXPECT_NEAR(mean_of(r), 0, 5 / std::sqrt(n));
  EXPECT_EQ(mean_of(square(r)), 1);
  EXPECT_NEAR(mean_of(r * random_rademacher({n}, key(4), DType::f64)), 0, 5 / std::sqrt(n));
  EXPECT_EQ(max(u).item<double>() < 3 && -max(-u).item<double>() >= -1, true);
}

TEST(Dropout, KeepsTheRightShareAndScales) {
  const Tensor y = dropout(Tensor::ones({100000}), 0.25, key(5));
  double kept = 0;
  for (float v : y.to_vector<float>()) {
    EXPECT_TRUE(v == 0 || std::abs(v - 1 / 0.75f) < 1e-6f);
    kept += v != 0;
  }
  EXPECT_NEAR(kept / 100000, 0.75, 5 * std::sqrt(0.75 * 0.25 / 100000));
}

}  // namespace
}  // namespace sinew
