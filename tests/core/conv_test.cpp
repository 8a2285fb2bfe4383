// Convolutions against the definition's plain loops: our own kernels in both types, oneDNN's, and the table's, which
// are one of the two.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <thread>
#include <vector>

#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/kernel_api.h"
#include "core/ops.h"
#include "tests/support/conv_definition.h"

namespace sinew {
namespace {

using kernel::ConvArgs;
using Values = std::vector<double>;

template <class T>
std::vector<T> random_values(int64_t n, uint32_t stream) {
  const RngKey key{13, static_cast<uint32_t>(RngPurpose::test), stream, 0};
  return random_uniform({n}, -1, 1, key, dtype_of<T>).template to_vector<T>();
}

struct Case {
  int64_t n, h, w, c, k, r, s, stride_h, stride_w, pad_h, pad_w;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.n << " x " << c.h << " x " << c.w << " x " << c.c << ", " << c.k << " filters " << c.r << " x " << c.s
       << ", stride " << c.stride_h << " x " << c.stride_w << ", padding " << c.pad_h << " x " << c.pad_w;
}

ConvArgs args_of(const Case& c, DType dtype) {
  ConvArgs a{};
  a.dtype = dtype;
  a.n = c.n, a.h = c.h, a.w = c.w, a.c = c.c, a.k = c.k, a.r = c.r, a.s = c.s;
  a.p = (c.h + 2 * c.pad_h - c.r) / c.stride_h + 1, a.q = (c.w + 2 * c.pad_w - c.s) / c.stride_w + 1;
  a.stride_h = c.stride_h, a.stride_w = c.stride_w, a.pad_h = c.pad_h, a.pad_w = c.pad_w;
  return a;
}
int64_t x_size(const ConvArgs& a) { return a.n * a.h * a.w * a.c; }
int64_t filter_size(const ConvArgs& a) { return a.k * a.r * a.s * a.c; }
int64_t y_size(const ConvArgs& a) { return a.n * a.p * a.q * a.k; }

ConvKernels table() { return {cpu_kernels().conv_forward, cpu_kernels().conv_dx, cpu_kernels().conv_dw}; }

template <class T>
void expect_near(const std::vector<T>& got, const Values& want, int64_t terms, const char* what) {
  const double epsilon = sizeof(T) == 4 ? 6e-8 : 1.2e-16, tolerance = epsilon * static_cast<double>(2 * terms + 8);
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), want[i], tolerance) << what << " [" << i << "]";
}

// To the bit what a sum afterwards would be. `plain` is what the kernel makes without accumulating.
template <class T>
void expect_accumulates(void (*kernel)(const ConvArgs&), ConvArgs a, const std::vector<T>& plain, const char* what) {
  const std::vector<T> before = random_values<T>(static_cast<int64_t>(plain.size()), 5);
  std::vector<T> sum = before;
  a.out = sum.data(), a.bias = nullptr, a.act = Activation::none, a.accumulate = true;
  kernel(a);
  for (size_t i = 0; i < plain.size(); ++i) ASSERT_EQ(sum[i], before[i] + plain[i]) << what << " [" << i << "]";
}

// The same pair, whose result is `want` up to rounding, with the derivative towards the filters: both, or nothing.
void check_pair_beside_dw(kernel::ConvPairArgs a, const ConvKernels& kernels, const std::vector<float>& want) {
  const std::vector<float> other = random_values<float>(a.towards_input ? x_size(a) : y_size(a), 6);
  (a.towards_input ? a.x : a.y) = other.data();
  std::vector<float> out(want.size(), NAN), dw(static_cast<size_t>(filter_size(a)) + 1, NAN);
  a.out = out.data(), a.dw = dw.data();
  const bool served = kernels.pair(a);
  EXPECT_EQ(served, a.c * a.k <= 1 << 11);
  EXPECT_TRUE(std::isnan(dw.back())) << "wrote beyond the end";
  dw.pop_back();
  if (!served) {
    for (float v : dw) EXPECT_TRUE(std::isnan(v));
    return;
  }
  Values want_dw(dw.size());
  const auto *x = static_cast<const float*>(a.x), *y = static_cast<const float*>(a.y);
  sinew::testing::for_every_conv_product(
      a, [&](size_t i, size_t j, size_t k) { want_dw[j] += static_cast<double>(y[k]) * static_cast<double>(x[i]); });
  expect_near(dw, want_dw, a.n * a.p * a.q, "dw beside a pair");
  expect_near(out, Values(want.begin(), want.end()), 2 * a.r * a.s * std::max(a.k, a.c), "pair beside dw");
  // And that of the second's image: the rest stays as it is, to the bit.
  const std::vector<float> out_alone = out, dw_alone = dw;
  std::vector<float> second_dw(dw.size() + 1, NAN);
  a.second_dw = second_dw.data();
  EXPECT_TRUE(kernels.pair(a));
  EXPECT_TRUE(std::isnan(second_dw.back())) << "wrote beyond the end";
  second_dw.pop_back();
  EXPECT_EQ(out, out_alone);
  EXPECT_EQ(dw, dw_alone);
  Values want_second(dw.size());
  (a.towards_input ? y : x) = static_cast<const float*>(a.second);
  sinew::testing::for_every_conv_product(a, [&](size_t i, size_t j, size_t k) {
    want_second[j] += static_cast<double>(y[k]) * static_cast<double>(x[i]);
  });
  expect_near(second_dw, want_second, a.n * a.p * a.q, "the second dw beside a pair");
}

// Two convolutions added. False: the kernel leaves it to two calls, and has written nothing.
bool check_pair(const Case& c, const ConvKernels& kernels, bool towards_input) {
  ConvArgs a = args_of(c, DType::f32);
  const int64_t size = towards_input ? y_size(a) : x_size(a);  // of the images
  const std::vector<float> image[2] = {random_values<float>(size, 1), random_values<float>(size, 2)};
  const std::vector<float> f[2] = {random_values<float>(filter_size(a), 3), random_values<float>(filter_size(a), 4)};
  std::vector<float> out(static_cast<size_t>(towards_input ? x_size(a) : y_size(a)) + 1, NAN);
  (towards_input ? a.y : a.x) = image[0].data(), a.filter = f[0].data(), a.out = out.data();
  if (!kernels.pair({a, towards_input, image[1].data(), f[1].data()})) {
    for (float v : out) EXPECT_TRUE(std::isnan(v));
    return false;
  }
  EXPECT_TRUE(std::isnan(out.back())) << "wrote beyond the end";
  out.pop_back();
  Values want(out.size());
  sinew::testing::for_every_conv_product(a, [&](size_t i, size_t j, size_t k) {
    for (int m = 0; m < 2; ++m)
      want[towards_input ? i : k] +=
          static_cast<double>(image[m][towards_input ? k : i]) * static_cast<double>(f[m][j]);
  });
  const char* what = towards_input ? "pair towards the input" : "pair forward";
  expect_near(out, want, 2 * a.r * a.s * (towards_input ? a.k : a.c), what);
  check_pair_beside_dw({a, towards_input, image[1].data(), f[1].data()}, kernels, out);
  const std::vector<float> before = random_values<float>(static_cast<int64_t>(out.size()), 5);
  std::vector<float> sum = before;
  a.out = sum.data(), a.accumulate = true;
  EXPECT_TRUE(kernels.pair({a, towards_input, image[1].data(), f[1].data()}));
  for (size_t i = 0; i < sum.size() && !::testing::Test::HasFailure(); ++i)
    EXPECT_EQ(sum[i], before[i] + out[i]) << what << " [" << i << "]";
  // One convolution and something else that is like its result.
  std::vector<float> plain(out.size()), onto(out.size(), NAN);
  a.accumulate = false, a.out = plain.data();
  (towards_input ? kernels.dx : kernels.forward)(a);
  kernel::ConvPairArgs with_base{a, towards_input, nullptr, nullptr};
  with_base.base = before.data(), with_base.out = onto.data();
  EXPECT_TRUE(kernels.pair(with_base));
  for (size_t i = 0; i < onto.size() && !::testing::Test::HasFailure(); ++i)
    EXPECT_EQ(onto[i], before[i] + plain[i]) << what << " onto a base [" << i << "]";
  return true;
}

template <class T>
void check(const Case& c, const ConvKernels& kernels) {
  ConvArgs a = args_of(c, dtype_of<T>);
  const std::vector<T> x = random_values<T>(x_size(a), 1), f = random_values<T>(filter_size(a), 2),
                       y = random_values<T>(y_size(a), 3), bias = random_values<T>(a.k, 4);
  a.x = x.data(), a.filter = f.data(), a.y = y.data();
  auto run = [&](void (*kernel)(const ConvArgs&), size_t size, const T* with_bias, Activation act) {
    std::vector<T> out(size + 1, T(NAN));  // the element behind the end must stay
    a.out = out.data(), a.bias = with_bias, a.act = act;
    kernel(a);
    EXPECT_TRUE(std::isnan(out.back())) << "wrote beyond the end";
    out.pop_back();
    return out;
  };
  Values want_y(y.size()), want_x(x.size()), want_f(f.size());
  sinew::testing::for_every_conv_product(a, [&](size_t i, size_t j, size_t k) {
    want_y[k] += static_cast<double>(x[i]) * static_cast<double>(f[j]);
    want_x[i] += static_cast<double>(y[k]) * static_cast<double>(f[j]);
    want_f[j] += static_cast<double>(y[k]) * static_cast<double>(x[i]);
  });
  const auto none = Activation::none, relu = Activation::relu;
  expect_near(run(kernels.forward, y.size(), nullptr, none), want_y, a.r * a.s * a.c, "forward");
  expect_near(run(kernels.dx, x.size(), nullptr, none), want_x, a.r * a.s * a.k, "dx");
  expect_near(run(kernels.dw, f.size(), nullptr, none), want_f, a.n * a.p * a.q, "dw");
  if (kernels.forward == table().forward || kernels.forward == own_conv().forward) {
    expect_accumulates(kernels.forward, a, run(kernels.forward, y.size(), nullptr, none), "forward");
    expect_accumulates(kernels.dx, a, run(kernels.dx, x.size(), nullptr, none), "dx");
  }
  auto relu_of = [](Values v) {
    for (double& d : v) d = std::max(d, 0.0);
    return v;
  };
  expect_near(run(kernels.forward, y.size(), nullptr, relu), relu_of(want_y), a.r * a.s * a.c, "relu");
  for (size_t i = 0; i < want_y.size(); ++i) want_y[i] += static_cast<double>(bias[i % bias.size()]);
  expect_near(run(kernels.forward, y.size(), bias.data(), none), want_y, a.r * a.s * a.c, "bias");
  expect_near(run(kernels.forward, y.size(), bias.data(), relu), relu_of(want_y), a.r * a.s * a.c, "bias and relu");
}

class Conv : public ::testing::TestWithParam<Case> {};

TEST_P(Conv, OwnKernelsMatchTheDefinition) {
  check<float>(GetParam(), own_conv());
  check<double>(GetParam(), own_conv());
}
TEST_P(Conv, PairsMatchTheDefinition) {
  check_pair(GetParam(), own_conv(), false);
  check_pair(GetParam(), own_conv(), true);
}
TEST_P(Conv, OneDnnMatchesTheDefinition) { check<float>(GetParam(), onednn_conv()); }
TEST_P(Conv, TheTablesKernelsMatchTheDefinition) { check<float>(GetParam(), table()); }

INSTANTIATE_TEST_SUITE_P(Geometries, Conv,
                         ::testing::Values(Case{1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0},     //
                                           Case{2, 8, 9, 16, 16, 3, 3, 1, 1, 1, 1},   // as in residual networks
                                           Case{3, 8, 8, 16, 32, 3, 3, 2, 2, 1, 1},   //
                                           Case{2, 8, 8, 16, 32, 1, 1, 2, 2, 0, 0},   // three quarters of dx are zero
                                           Case{5, 7, 6, 24, 40, 1, 1, 1, 1, 0, 0},   //
                                           Case{3, 12, 12, 1, 32, 5, 5, 1, 1, 2, 2},  // one channel
                                           Case{2, 14, 14, 3, 17, 5, 5, 1, 1, 0, 0},  // three, and odd filters
                                           Case{2, 11, 13, 3, 20, 7, 7, 2, 2, 0, 0},  //
                                           Case{2, 5, 4, 7, 5, 3, 2, 2, 1, 1, 0},     // nothing square
                                           Case{2, 4, 6, 5, 9, 2, 3, 1, 3, 0, 2},     //
                                           Case{1, 2, 3, 4, 6, 5, 5, 1, 1, 2, 1},     // filters larger than x
                                           Case{2, 7, 7, 8, 8, 2, 2, 3, 3, 0, 0},     // rows that no filter meets
                                           Case{1, 6, 6, 2, 3, 1, 1, 1, 1, 2, 1},     // outputs of padding only
                                           Case{1, 3, 3, 8, 8, 3, 3, 4, 4, 1, 1},     //
                                           Case{40, 2, 2, 64, 64, 3, 3, 1, 1, 1, 1},  // small images, several a task
                                           Case{33, 4, 4, 33, 70, 3, 3, 1, 1, 1, 1},  //
                                           Case{9, 16, 18, 32, 48, 3, 3, 1, 1, 1,
                                                1},  // Winograd's, with half a block for AVX-512,
                                           Case{9, 16, 18, 24, 40, 3, 3, 1, 1, 1, 1},   // AVX2
                                           Case{9, 16, 18, 12, 20, 3, 3, 1, 1, 1, 1},   // and without
                                           Case{5, 26, 24, 16, 16, 3, 3, 1, 1, 0, 2},   //
                                           Case{24, 7, 9, 16, 32, 3, 3, 1, 1, 1, 1},    // tiles beyond the outputs
                                           Case{3, 34, 36, 64, 16, 3, 3, 1, 1, 2, 0},   //
                                           Case{4, 16, 18, 16, 48, 5, 5, 1, 1, 2, 2},   // the same of 5 x 5 taps
                                           Case{4, 16, 18, 24, 40, 5, 5, 1, 1, 2, 2},   //
                                           Case{4, 16, 18, 12, 20, 5, 5, 1, 1, 2, 2},   //
                                           Case{2, 26, 24, 16, 16, 5, 5, 1, 1, 0, 4},   //
                                           Case{18, 7, 9, 16, 16, 5, 5, 1, 1, 2, 2},    //
                                           Case{103, 7, 6, 16, 16, 5, 5, 1, 1, 1, 0},   //
                                           Case{1, 34, 36, 32, 16, 5, 5, 1, 1, 3, 0},   //
                                           Case{33, 10, 10, 16, 16, 5, 5, 1, 1, 0, 0},  // spread towards the input
                                           Case{33, 10, 9, 24, 40, 5, 5, 1, 1, 0, 0},   //
                                           Case{33, 10, 9, 12, 20, 5, 5, 1, 1, 0, 0},   //
                                           Case{3, 24, 24, 16, 16, 5, 5, 1, 1, 0, 0},   //
                                           Case{20, 10, 11, 16, 32, 3, 3, 1, 1, 0, 0},  //
                                           Case{1, 40, 50, 12, 8, 3, 3, 1, 1, 1, 1}));  // rows of one image as tasks

// Channels in whole vectors of every instruction set; and what is left to two calls.
TEST(ConvPair, IsForFiltersOfThreeOrFiveTapsWithStepOne) {
  for (bool towards_input : {false, true}) {
    EXPECT_TRUE(check_pair({9, 16, 18, 32, 16, 3, 3, 1, 1, 1, 1}, own_conv(), towards_input));
    EXPECT_TRUE(check_pair({9, 16, 18, 16, 48, 3, 3, 1, 1, 1, 1}, own_conv(), towards_input));
    EXPECT_TRUE(check_pair({9, 16, 18, 64, 48, 3, 3, 1, 1, 1, 1}, own_conv(), towards_input));
    EXPECT_TRUE(check_pair({24, 7, 9, 16, 32, 3, 3, 1, 1, 1, 1}, own_conv(), towards_input));
    EXPECT_FALSE(check_pair({9, 16, 18, 32, 16, 3, 3, 2, 2, 1, 1}, own_conv(), towards_input));
    EXPECT_TRUE(check_pair({4, 16, 18, 32, 16, 5, 5, 1, 1, 2, 2}, own_conv(), towards_input));
    EXPECT_TRUE(check_pair({18, 9, 7, 16, 32, 5, 5, 1, 1, 2, 2}, own_conv(), towards_input));
    EXPECT_FALSE(check_pair({9, 16, 18, 32, 16, 5, 5, 2, 2, 2, 2}, own_conv(), towards_input));
    EXPECT_FALSE(check_pair({9, 16, 18, 32, 16, 5, 3, 1, 1, 2, 1}, own_conv(), towards_input));
    EXPECT_FALSE(check_pair({9, 16, 18, 32, 16, 7, 7, 1, 1, 3, 3}, own_conv(), towards_input));
    EXPECT_FALSE(check_pair({1, 16, 18, 32, 16, 3, 3, 1, 1, 1, 1}, own_conv(), towards_input));
  }
}

TEST(ConvThreads, DoNotChangeAnyBitOfOurKernels) {
  auto all = [](const Case& c, int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    ConvArgs a = args_of(c, DType::f32);
    const std::vector<float> x = random_values<float>(x_size(a), 1), f = random_values<float>(filter_size(a), 2),
                             y = random_values<float>(y_size(a), 3);
    std::vector<float> out(static_cast<size_t>(x_size(a) + filter_size(a) + 2 * y_size(a) + filter_size(a)));
    a.x = x.data(), a.filter = f.data(), a.y = y.data();
    a.out = out.data();
    own_conv().dx(a);
    a.out = out.data() + x_size(a);
    own_conv().dw(a);
    a.out = out.data() + x_size(a) + filter_size(a);
    own_conv().forward(a);
    a.out = out.data() + x_size(a) + filter_size(a) + y_size(a);
    own_conv().pair({a, false, x.data(), f.data(), out.data() + x_size(a) + filter_size(a) + 2 * y_size(a)});
    set_num_threads(before);
    return out;
  };
  for (const Case& c : {Case{20, 16, 17, 9, 24, 3, 3, 1, 1, 1, 1}, Case{20, 16, 18, 16, 32, 3, 3, 1, 1, 1, 1},
                        Case{20, 14, 15, 16, 32, 5, 5, 1, 1, 2, 0}, Case{40, 10, 10, 16, 32, 5, 5, 1, 1, 0, 0}}) {
    const std::vector<float> one = all(c, 1);
    EXPECT_EQ(one, all(c, 2));
    EXPECT_EQ(one, all(c, 3));
  }
}

// The program's threads come and go; a primitive made on one must not be run on another.
TEST(ConvThreads, EachThreadMayConvolve) {
  const Case c{4, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1};
  for (int round = 0; round < 3; ++round) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) threads.emplace_back([&] { check<float>(c, onednn_conv()); });
    for (std::thread& t : threads) t.join();
  }
}

TEST(ConvOp, AnEmptyBatchHasEmptyResultsAndNoGradient) {
  const Tensor x = Tensor::zeros({0, 5, 4, 2}), w = Tensor::ones({3, 3, 3, 2});
  const ConvOptions options{1, 1, 1, 1};
  const Tensor y = conv2d(x, w, options);
  EXPECT_EQ(y.shape(), (Shape{0, 5, 4, 3}));
  EXPECT_EQ(conv2d_dx(y, w, 5, 4, options).shape(), x.shape());
  EXPECT_EQ(conv2d_dw(x, y, 3, 3, options).to_vector<float>(), std::vector<float>(54, 0.0f));
}

// Gradient and Hessian-vector product of a small network whose sizes Winograd's filtering serves, against f64's, which
// goes by the direct kernels. One filter is used twice, one image goes into two convolutions.
TEST(ConvOp, HessianProductsAgreeWithThoseOfF64) {
  auto products = [](DType dtype, int64_t taps) {
    const ConvOptions same{1, 1, taps / 2, taps / 2};
    auto random = [&](const Shape& shape, uint32_t stream) {
      return cast(random_uniform(shape, -1, 1, {13, static_cast<uint32_t>(RngPurpose::test), stream, 0}), dtype);
    };
    const Tensor x = random({9, 16, 16, 16}, 1);
    std::vector<Tensor> theta, z;
    for (uint32_t i = 0; i < 3; ++i) {
      theta.push_back(
          (0.3 / static_cast<double>(taps) * random({16, taps, taps, 16}, 2 + i)).detach().set_requires_grad());
      z.push_back(random({16, taps, taps, 16}, 5 + i));
    }
    const Tensor y = tanh(conv2d(x, theta[0], same));
    const Tensor a = tanh(conv2d(y, theta[1], same)), b = square(conv2d(y, theta[2], same)) + y;
    const Tensor loss = sum(square(conv2d(a, theta[1], same)) * b);
    const std::vector<Tensor> g = grad({loss}, theta, {}, {.create_graph = true});
    const std::vector<Tensor> hv = grad(g, theta, z);
    std::vector<std::vector<double>> out;
    for (const Tensor& t : {g[0], g[1], g[2], hv[0], hv[1], hv[2]}) out.push_back(to_doubles(t.view()));
    return out;
  };
  for (int64_t taps : {3, 5}) {
    const auto f32 = products(DType::f32, taps), f64 = products(DType::f64, taps);
    for (size_t i = 0; i < f64.size(); ++i) {
      double distance = 0, norm = 0;
      for (size_t j = 0; j < f64[i].size(); ++j)
        distance += std::pow(f32[i][j] - f64[i][j], 2), norm += std::pow(f64[i][j], 2);
      EXPECT_GT(norm, 0);
      EXPECT_LT(std::sqrt(distance), 3e-6 * std::sqrt(norm)) << taps << " taps: " << i;
    }
  }
}

// Gradients that are postponed are NaN until the next pass has made them, by each of its ways: beside a pair of
// convolutions, by a kernel of its own (f64; 64 channels), and while recording.
TEST(ConvOp, PostponedGradientsAreMadeByTheNextPass) {
  auto check = [](int64_t channels, DType dtype, bool create_graph) {
    const ConvOptions same{1, 1, 1, 1};
    auto random = [&](const Shape& shape, uint32_t stream) {
      return cast(random_uniform(shape, -1, 1, {17, static_cast<uint32_t>(RngPurpose::test), stream, 0}), dtype);
    };
    const Tensor x = random({9, 16, 16, channels}, 1);
    std::vector<Tensor> theta, z;
    for (uint32_t i = 0; i < 4; ++i) {
      theta.push_back((0.1 * random({channels, 3, 3, channels}, 2 + i)).detach().set_requires_grad());
      z.push_back(random({channels, 3, 3, channels}, 6 + i));
    }
    auto gradient = [&](bool postpone) {  // theta[0] meets no cotangent of x, theta[3] is used twice
      const Tensor a = tanh(conv2d(x, theta[0], same)), b = tanh(conv2d(a, theta[1], same));
      const Tensor c = tanh(conv2d(b, theta[2], same) + a);
      const Tensor loss = sum(square(conv2d(tanh(conv2d(c, theta[3], same)), theta[3], same)));
      return grad({loss}, theta, {}, {.create_graph = true, .postpone = postpone});
    };
    const std::vector<Tensor> want = gradient(false), got = gradient(true);
    for (size_t i = 0; i < theta.size(); ++i)
      EXPECT_EQ(std::isnan(to_doubles(got[i].view())[0]), i == 1 || i == 2) << i;
    const std::vector<Tensor> want_hv = grad(want, theta, z), hv = grad(got, theta, z, {.create_graph = create_graph});
    auto expect_alike = [&](const Tensor& mine, const Tensor& other, size_t i) {
      const std::vector<double> a = to_doubles(mine.view()), b = to_doubles(other.view());
      double distance = 0, norm = 0;
      for (size_t j = 0; j < a.size(); ++j) distance += std::pow(a[j] - b[j], 2), norm += std::pow(b[j], 2);
      EXPECT_GT(norm, 0);
      EXPECT_LE(std::sqrt(distance), (dtype == DType::f64 ? 1e-14 : 3e-6) * std::sqrt(norm)) << i;
    };
    for (size_t i = 0; i < theta.size(); ++i) expect_alike(got[i], want[i], i), expect_alike(hv[i], want_hv[i], i);
    const std::vector<Tensor> first = gradient(true);  // from one result: its op meets one cotangent only
    grad({first[1]}, theta, {&z[1], 1}, {.create_graph = create_graph});
    expect_alike(first[1], want[1], 1);
  };
  check(16, DType::f32, false);
  check(64, DType::f32, false);
  check(16, DType::f64, false);
  check(16, DType::f32, true);
}

TEST(ConvOp, WritesItsGradientsWhereTheyAreWanted) {
  auto random = [](const Shape& shape, uint32_t stream) {
    return random_uniform(shape, -1, 1, {13, static_cast<uint32_t>(RngPurpose::test), stream, 0});
  };
  const Tensor x = random({2, 6, 6, 3}, 1);
  const std::vector<Tensor> leaves{random({4, 3, 3, 3}, 2).set_requires_grad(), random({4}, 3).set_requires_grad()};
  auto loss = [&] { return sum(square(conv2d(x, leaves[0], leaves[1], Activation::relu, {1, 1, 1, 1}))); };
  const std::vector<Tensor> into{Tensor::empty({4, 3, 3, 3}), Tensor::empty({4})};
  const std::vector<Tensor> want = grad({loss()}, leaves);
  const std::vector<Tensor> got = grad({loss()}, leaves, {}, {.into = into});
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(got[i].data(), into[i].data());
    EXPECT_EQ(got[i].to_vector<float>(), want[i].to_vector<float>());
  }
}

void expect_error(const std::function<void()>& fn, const std::string& part) {
  try {
    fn();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(ConvOp, ErrorsNameTheShapes) {
  const Tensor x = Tensor::zeros({2, 5, 4, 3}), w = Tensor::zeros({6, 3, 3, 3});
  expect_error([&] { conv2d(Tensor::zeros({5, 4, 3}), w); }, "[conv2d] x (5, 4, 3) must be (n, h, w, c)");
  expect_error([&] { conv2d(x, Tensor::zeros({6, 3, 3, 2})); }, "has 3 channels, the filters (6, 3, 3, 2) 2");
  expect_error([&] { conv2d(x, Tensor::zeros({0, 3, 3, 3})); }, "empty filters");
  expect_error([&] { conv2d(x, Tensor::zeros({6, 3, 5, 3})); }, "(6, 3, 5, 3) do not fit x (2, 5, 4, 3)");
  expect_error([&] { conv2d(x, w, {0, 1, 0, 0}); }, "stride (0, 1)");
  expect_error([&] { conv2d(x, w, {1, 1, 0, -1}); }, "padding (0, -1)");
  expect_error([&] { conv2d(x, Tensor::zeros({6, 3, 3, 3}, DType::f64)); }, "operands differ");
  expect_error([&] { conv2d(cast(x, DType::i32), cast(w, DType::i32)); }, "needs f32, f64 or bf16, got i32");
  expect_error([&] { conv2d(x, w, Tensor::zeros({5}), Activation::none); }, "bias (5) for filters (6, 3, 3, 3)");
  const Tensor y = Tensor::zeros({2, 3, 2, 6});
  expect_error([&] { conv2d_dx(y, w, 5, 5); }, "cotangent (2, 3, 2, 6) of a convolution that makes (2, 3, 3, 6)");
  expect_error([&] { conv2d_dx(Tensor::zeros({2, 3, 2, 5}), w, 5, 4); }, "[conv2d_dx]");
  expect_error([&] { conv2d_dw(x, y, 2, 3); }, "makes (2, 4, 2, 6)");
  expect_error([&] { conv2d_dw(x, Tensor::zeros({2, 3}), 3, 3); }, "[conv2d_dw] x (2, 5, 4, 3) and cotangent (2, 3)");
}

}  // namespace
}  // namespace sinew
