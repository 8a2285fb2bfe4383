// Batch norm and its derivatives against the CPU's table; statistics against the definition in double.
#include <cmath>
#include <limits>
#include <memory>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

struct Case {
  int64_t rows, channels;
  size_t offset = 0;  // of every pointer, in elements
};
// One and several tiles of channels, one and several chunks, ragged ends, channels that do not fill 16 bytes, two rows.
constexpr Case kCases[] = {{2, 1},    {5, 3},    {130, 16},   {300, 7},  {9, 300},
                           {70, 132}, {2100, 8}, {600, 8, 1}, {1500, 3}, {33, 64, 3}};

// Arrays of one case: on the host, and as pointers to memory of either device.
template <class T>
class Arrays {
 public:
  Arrays(const Case& c, bool on_device) : c_(c), on_device_(on_device) {}
  const void* in(const std::vector<T>& values) {
    if (on_device_) return device_.emplace_back(std::make_unique<DeviceArray<T>>(values, c_.offset))->data();
    return values.data();
  }
  // Result i of `n` elements.
  void* out(size_t n) {
    results_.push_back(std::vector<T>(n, std::numeric_limits<T>::quiet_NaN()));
    places_.push_back(device_.size());
    if (on_device_) return device_.emplace_back(std::make_unique<DeviceArray<T>>(n, c_.offset))->data();
    return results_.back().data();
  }
  std::vector<std::vector<T>> results() {
    if (on_device_)
      for (size_t i = 0; i < results_.size(); ++i) results_[i] = device_[places_[i]]->read();
    return std::move(results_);
  }
  const KernelTable& table() const { return on_device_ ? device() : cpu_kernels(); }

 private:
  Case c_;
  bool on_device_;
  std::vector<std::unique_ptr<DeviceArray<T>>> device_;
  std::vector<std::vector<T>> results_;
  std::vector<size_t> places_;
};

// What the calls of one case read: arrays over rows (x, g, u, r, residual) and vectors (gamma, beta, ...).
template <class T>
struct Inputs {
  explicit Inputs(const Case& c) : n(static_cast<size_t>(c.rows * c.channels)), m(static_cast<size_t>(c.channels)) {
    x = random_values<T>(n, -1, 2, 1), g = random_values<T>(n, -1, 1, 2), u = random_values<T>(n, -1, 1, 3);
    r = random_values<T>(n, -1, 1, 4), residual = random_values<T>(n, -1, 1, 5);
    gamma = random_values<T>(m, 0.5, 1.5, 6), beta = random_values<T>(m, -0.5, 0.5, 7);
    a = random_values<T>(m, -1, 1, 8), b = random_values<T>(m, -1, 1, 9);
  }
  size_t n, m;
  std::vector<T> x, g, u, r, residual, gamma, beta, a, b;
};

enum class Mask { none, from_x, from_y };

// y, mean, inv_std, variance.
template <class T>
std::vector<std::vector<T>> forward(const Case& c, const Inputs<T>& v, bool on_device, bool relu, bool residual) {
  Arrays<T> arrays(c, on_device);
  arrays.table().batch_norm({dtype_of<T>, relu, c.rows, c.channels, 1e-5, arrays.in(v.x), arrays.in(v.gamma),
                             arrays.in(v.beta), residual ? arrays.in(v.residual) : nullptr, arrays.out(v.n),
                             arrays.out(v.m), arrays.out(v.m), arrays.out(v.m)});
  return arrays.results();
}

// dx, dgamma, dbeta, dresidual, as far as wanted.
template <class T>
std::vector<std::vector<T>> grad(const Case& c, const Inputs<T>& v, const std::vector<std::vector<T>>& f,
                                 bool on_device, Mask mask, bool want_dx = true, bool want_vectors = true) {
  Arrays<T> arrays(c, on_device);
  const bool from_y = mask == Mask::from_y;
  arrays.table().batch_norm_grad({dtype_of<T>, mask != Mask::none, c.rows, c.channels, arrays.in(v.g), arrays.in(v.x),
                                  from_y ? arrays.in(f[0]) : nullptr, arrays.in(v.gamma), arrays.in(v.beta),
                                  arrays.in(f[1]), arrays.in(f[2]), want_dx ? arrays.out(v.n) : nullptr,
                                  want_vectors ? arrays.out(v.m) : nullptr, want_vectors ? arrays.out(v.m) : nullptr,
                                  from_y ? arrays.out(v.n) : nullptr});
  return arrays.results();
}

// g2, x2, gamma2.
template <class T>
std::vector<std::vector<T>> grad2(const Case& c, const Inputs<T>& v, const std::vector<std::vector<T>>& f,
                                  bool on_device, Mask mask, bool vectors = true) {
  Arrays<T> arrays(c, on_device);
  const bool from_y = mask == Mask::from_y;
  arrays.table().batch_norm_grad2({dtype_of<T>, mask != Mask::none, c.rows, c.channels, arrays.in(v.g), arrays.in(v.x),
                                   from_y ? arrays.in(f[0]) : nullptr, arrays.in(v.gamma), arrays.in(v.beta),
                                   arrays.in(f[1]), arrays.in(f[2]), arrays.in(v.u), vectors ? arrays.in(v.a) : nullptr,
                                   vectors ? arrays.in(v.b) : nullptr, from_y ? arrays.in(v.r) : nullptr,
                                   arrays.out(v.n), arrays.out(v.n), vectors ? arrays.out(v.m) : nullptr});
  return arrays.results();
}

template <class T>
void expect_all_close(const std::vector<std::vector<T>>& got, const std::vector<std::vector<T>>& want,
                      const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "result " << i);
    expect_close(got[i], want[i], what);
  }
}

template <class T>
void check(const Case& c, bool derivatives) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.channels << " " << to_string(dtype_of<T>));
  const Inputs<T> v(c);
  for (const Mask mask : {Mask::none, Mask::from_x, Mask::from_y}) {
    SCOPED_TRACE(::testing::Message() << "mask " << static_cast<int>(mask));
    const bool relu = mask != Mask::none, residual = mask == Mask::from_y;
    const auto f = forward(c, v, false, relu, residual);
    if (!derivatives) {
      expect_all_close(forward(c, v, true, relu, residual), f, "batch_norm");
      continue;
    }
    expect_all_close(grad(c, v, f, true, mask), grad(c, v, f, false, mask), "batch_norm_grad");
    expect_all_close(grad2(c, v, f, true, mask), grad2(c, v, f, false, mask), "batch_norm_grad2");
  }
}

TEST(CudaBatchNorm, EqualsTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) {
      check<float>(c, false);
      check<double>(c, false);
    }
  });
}

TEST(CudaBatchNorm, DerivativesEqualTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) check<float>(c, true);
  });
}

TEST(CudaBatchNorm, DerivativesInDoubleEqualTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) check<double>(c, true);
  });
}

// More chunks than the launch that adds them up has threads for a channel.
TEST(CudaBatchNorm, ManyChunks) {
  SINEW_NEEDS_CUDA();
  check<float>({2100, 31}, false);
  check<float>({2100, 31}, true);
}

TEST(CudaBatchNorm, WhatIsNotWantedIsNotWritten) {
  SINEW_NEEDS_CUDA();
  const Case c{40, 12};
  const Inputs<float> v(c);
  for (const Mask mask : {Mask::none, Mask::from_x, Mask::from_y}) {
    const auto f = forward(c, v, false, mask != Mask::none, mask == Mask::from_y);
    for (const bool dx : {false, true})
      expect_all_close(grad(c, v, f, true, mask, dx, !dx), grad(c, v, f, false, mask, dx, !dx), "batch_norm_grad");
    expect_all_close(grad2(c, v, f, true, mask, false), grad2(c, v, f, false, mask, false), "batch_norm_grad2");
  }
}

TEST(CudaBatchNorm, GradientAccumulates) {
  SINEW_NEEDS_CUDA();
  const Case c{40, 12};
  const Inputs<float> v(c);
  const auto f = forward(c, v, false, true, false);
  const std::vector<float> plain = grad(c, v, f, true, Mask::from_x)[0];
  const DeviceArray<float> sum(v.u, c.offset);
  Arrays<float> arrays(c, true);
  device().batch_norm_grad({DType::f32, true, c.rows, c.channels, arrays.in(v.g), arrays.in(v.x), nullptr,
                            arrays.in(v.gamma), arrays.in(v.beta), arrays.in(f[1]), arrays.in(f[2]), sum.data(),
                            nullptr, nullptr, nullptr, true});
  const std::vector<float> got = sum.read();
  for (size_t i = 0; i < plain.size(); ++i) ASSERT_EQ(got[i], v.u[i] + plain[i]) << i;
}

// A mean far from zero, and a first row (which the sums of squares are taken about) that is far from the others.
TEST(CudaBatchNorm, TheVarianceKeepsItsDigits) {
  SINEW_NEEDS_CUDA();
  const Case c{1000, 4};
  for (const bool outlier : {false, true}) {
    Inputs<float> v(c);
    for (float& x : v.x) x = 10000 + x;
    if (outlier)
      for (size_t j = 0; j < v.m; ++j) v.x[j] = -1000;
    const auto f = forward(c, v, true, false, false);
    for (size_t j = 0; j < v.m; ++j) {
      double mean = 0, m2 = 0;
      for (size_t i = j; i < v.n; i += v.m) mean += static_cast<double>(v.x[i]) / static_cast<double>(c.rows);
      for (size_t i = j; i < v.n; i += v.m)
        m2 += (static_cast<double>(v.x[i]) - mean) * (static_cast<double>(v.x[i]) - mean);
      const double variance = m2 / static_cast<double>(c.rows - 1);
      EXPECT_NEAR(static_cast<double>(f[1][j]), mean, 1e-3);
      EXPECT_NEAR(static_cast<double>(f[3][j]), variance, 1e-6 * variance);
      EXPECT_NEAR(static_cast<double>(f[2][j]), 1 / std::sqrt(m2 / static_cast<double>(c.rows) + 1e-5),
                  1e-6 / std::sqrt(variance));
    }
  }
}

TEST(CudaBatchNorm, TheSameBitsInEveryOrder) {
  SINEW_NEEDS_CUDA();
  for (const Case& c : {Case{2100, 8}, Case{100, 130}}) {
    const Inputs<float> v(c);
    const auto f = forward(c, v, true, true, true);
    const auto g = grad(c, v, f, true, Mask::from_y), g2 = grad2(c, v, f, true, Mask::from_y);
    in_all_orders([&] {
      EXPECT_EQ(forward(c, v, true, true, true), f);
      EXPECT_EQ(grad(c, v, f, true, Mask::from_y), g);
      EXPECT_EQ(grad2(c, v, f, true, Mask::from_y), g2);
    });
  }
}

template <class T>
void check_affine(const Case& c, bool relu, bool residual) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.channels << " " << to_string(dtype_of<T>));
  const Inputs<T> v(c);
  const auto run = [&](bool on_device) {
    Arrays<T> arrays(c, on_device);
    arrays.table().channel_affine({dtype_of<T>, relu, c.rows, c.channels, arrays.in(v.x), arrays.in(v.a),
                                   arrays.in(v.gamma), arrays.in(v.beta), residual ? arrays.in(v.residual) : nullptr,
                                   arrays.out(v.n)});
    return arrays.results();
  };
  expect_all_close(run(true), run(false), "channel_affine");
}

TEST(CudaChannelAffine, EqualsTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : {Case{1, 1}, Case{7, 5}, Case{600, 8}, Case{60, 8, 1}, Case{3, 260}})
      for (const bool relu : {false, true})
        for (const bool residual : {false, true}) {
          check_affine<float>(c, relu, residual);
          check_affine<double>(c, relu, residual);
        }
  });
}

TEST(CudaBatchNorm, EmptyArrays) {
  SINEW_NEEDS_CUDA();
  for (const Case& c : {Case{0, 4}, Case{4, 0}}) {
    EXPECT_TRUE(forward(c, Inputs<float>(c), true, false, false)[0].empty());
    const std::vector<std::vector<float>> f(3, std::vector<float>(static_cast<size_t>(c.channels), 1.0f));
    const auto g = grad(c, Inputs<float>(c), f, true, Mask::none);
    EXPECT_EQ(g[1], std::vector<float>(static_cast<size_t>(c.channels), 0.0f));
    EXPECT_EQ(g[2], std::vector<float>(static_cast<size_t>(c.channels), 0.0f));
    EXPECT_TRUE(grad2(c, Inputs<float>(c), f, true, Mask::none)[0].empty());
    Arrays<float> affine(c, true);
    const Inputs<float> v(c);
    device().channel_affine({DType::f32, true, c.rows, c.channels, affine.in(v.x), affine.in(v.a), affine.in(v.gamma),
                             affine.in(v.beta), nullptr, affine.out(0)});
  }
}

}  // namespace
}  // namespace sinew::testing
