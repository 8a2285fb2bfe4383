// Layer norm and its derivative against the CPU's table, which sums in double.
#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

struct Case {
  int64_t rows, cols;
  size_t offset = 0;  // of every pointer, in elements
};
// Few and many columns of a warp's row, a block's rows, each in packs and unaligned; several chunks of rows.
constexpr Case kCases[] = {{1, 1},    {3, 5},      {9, 32},      {17, 256}, {5, 250},     {10, 256, 1},
                           {3, 1000}, {9, 1023},   {2, 1024, 2}, {3, 1028}, {2, 1500, 1}, {2, 2049},
                           {140, 33}, {130, 132},  {70, 16},     {5, 12},   {9, 7},       {40, 64},
                           {9, 60},   {11, 50, 1}, {33, 400},    {20, 512}, {3, 512, 1},  {3, 516}};

template <class T>
struct Inputs {
  explicit Inputs(const Case& c) : n(static_cast<size_t>(c.rows * c.cols)) {
    const size_t m = static_cast<size_t>(c.cols);
    x = random_values<T>(n, 0, 3, 1), g = random_values<T>(n, -1, 1, 2);
    gamma = random_values<T>(m, 0.5, 1.5, 3), beta = random_values<T>(m, -1, 1, 4);
  }
  size_t n;
  std::vector<T> x, g, gamma, beta;
};
template <class T>
struct Normalized {
  std::vector<T> y, mean, inv_std;
};
template <class T>
struct Slopes {
  std::vector<T> dx, dgamma, dbeta;
};

template <class T>
Normalized<T> on_cpu(const Case& c, const Inputs<T>& v) {
  Normalized<T> r{std::vector<T>(v.n), std::vector<T>(static_cast<size_t>(c.rows)),
                  std::vector<T>(static_cast<size_t>(c.rows))};
  cpu_kernels().layer_norm({dtype_of<T>, c.rows, c.cols, 1e-5, v.x.data(), v.gamma.data(), v.beta.data(), r.y.data(),
                            r.mean.data(), r.inv_std.data()});
  return r;
}
template <class T>
Normalized<T> on_device(const Case& c, const Inputs<T>& v) {
  const DeviceArray<T> x(v.x, c.offset), gamma(v.gamma, c.offset), beta(v.beta, c.offset), y(v.n, c.offset);
  const DeviceArray<T> mean(static_cast<size_t>(c.rows), c.offset), inv_std(static_cast<size_t>(c.rows), c.offset);
  device().layer_norm(
      {dtype_of<T>, c.rows, c.cols, 1e-5, x.data(), gamma.data(), beta.data(), y.data(), mean.data(), inv_std.data()});
  return {y.read(), mean.read(), inv_std.read()};
}

template <class T>
Slopes<T> grad_on_cpu(const Case& c, const Inputs<T>& v, const Normalized<T>& f) {
  Slopes<T> r{std::vector<T>(v.n), v.gamma, v.gamma};
  cpu_kernels().layer_norm_grad({dtype_of<T>, c.rows, c.cols, v.g.data(), v.x.data(), v.gamma.data(), f.mean.data(),
                                 f.inv_std.data(), r.dx.data(), r.dgamma.data(), r.dbeta.data()});
  return r;
}
template <class T>
Slopes<T> grad_on_device(const Case& c, const Inputs<T>& v, const Normalized<T>& f, bool want_dx = true) {
  const DeviceArray<T> g(v.g, c.offset), x(v.x, c.offset), gamma(v.gamma, c.offset), mean(f.mean, c.offset);
  const DeviceArray<T> inv_std(f.inv_std, c.offset), dx(v.n, c.offset), dgamma(v.gamma.size(), c.offset);
  const DeviceArray<T> dbeta(v.gamma.size(), c.offset);
  device().layer_norm_grad({dtype_of<T>, c.rows, c.cols, g.data(), x.data(), gamma.data(), mean.data(), inv_std.data(),
                            want_dx ? dx.data() : nullptr, dgamma.data(), dbeta.data()});
  return {dx.read(), dgamma.read(), dbeta.read()};
}

template <class T>
void check(const Case& c) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.cols << " " << to_string(dtype_of<T>));
  const Inputs<T> v(c);
  const Normalized<T> want = on_cpu(c, v), got = on_device(c, v);
  expect_close(got.mean, want.mean, "mean");
  expect_close(got.inv_std, want.inv_std, "inv_std");
  expect_close(got.y, want.y, "y");
  const Slopes<T> slopes = grad_on_cpu(c, v, want), slopes_here = grad_on_device(c, v, want);
  expect_close(slopes_here.dx, slopes.dx, "dx");
  expect_close(slopes_here.dgamma, slopes.dgamma, "dgamma");
  expect_close(slopes_here.dbeta, slopes.dbeta, "dbeta");
  EXPECT_EQ(grad_on_device(c, v, want, false).dgamma, slopes_here.dgamma);
}

TEST(CudaLayerNorm, EqualsTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) check<float>(c);
  });
}

TEST(CudaLayerNorm, InDoubleEqualsTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) check<double>(c);
  });
}

TEST(CudaLayerNorm, TheVarianceKeepsItsDigits) {
  SINEW_NEEDS_CUDA();
  for (const int64_t cols : {16, 64, 100, 512, 1000, 1040, 1500}) {
    const Case c{2, cols};
    Inputs<float> v(c);
    for (float& x : v.x) x = 10000 + x;
    v.x[0] = -1000;
    const Normalized<float> got = on_device(c, v), want = on_cpu(c, v);
    for (size_t r = 0; r < 2; ++r) {
      EXPECT_NEAR(got.mean[r], want.mean[r], 2e-3);
      EXPECT_NEAR(got.inv_std[r], want.inv_std[r], 1e-6 * want.inv_std[r]);
    }
  }
}

TEST(CudaLayerNorm, TheSameBitsInEveryOrder) {
  SINEW_NEEDS_CUDA();
  for (const Case& c : {Case{140, 33}, Case{140, 16}, Case{20, 300}, Case{4, 1500}}) {
    const Inputs<float> v(c);
    const Normalized<float> f = on_device(c, v);
    const Slopes<float> g = grad_on_device(c, v, f);
    in_all_orders([&] {
      const Normalized<float> again = on_device(c, v);
      EXPECT_EQ(again.y, f.y);
      EXPECT_EQ(again.inv_std, f.inv_std);
      const Slopes<float> slopes = grad_on_device(c, v, f);
      EXPECT_EQ(slopes.dx, g.dx);
      EXPECT_EQ(slopes.dgamma, g.dgamma);
      EXPECT_EQ(slopes.dbeta, g.dbeta);
    });
  }
}

TEST(CudaLayerNorm, EmptyArrays) {
  SINEW_NEEDS_CUDA();
  for (const Case& c : {Case{0, 4}, Case{4, 0}}) {
    const Inputs<float> v(c);
    const Normalized<float> f = on_device(c, v);
    EXPECT_TRUE(f.y.empty());
    const Slopes<float> slopes = grad_on_device(c, v, f);
    EXPECT_EQ(slopes.dgamma, std::vector<float>(static_cast<size_t>(c.cols), 0.0f));
    EXPECT_EQ(slopes.dbeta, std::vector<float>(static_cast<size_t>(c.cols), 0.0f));
  }
}

}  // namespace
}  // namespace sinew::testing
