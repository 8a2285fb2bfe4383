// The estimator (specification, section 2.5) and the golden vectors G4 to G7 of its appendix.
#include "optim/hutchinson.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/ops.h"
#include "optim/optimizer.h"
#include "tests/support/guard_device.h"

namespace sinew::optim {
namespace {

using Values = std::vector<double>;

// f(x) = x'Hx / 2 with H of G4.
const Values kH = {2, .5, 0, .5, 1, -.25, 0, -.25, 4};

ParamLayout three() {
  ParamLayout layout;
  layout.add("x", {3});
  return layout;
}
Vec padded(const Values& values) {
  Vec v = Vec::zeros(16, DType::f64);
  upload(values.data(), v.mutable_view().slice(0, static_cast<int64_t>(values.size())));
  return v;
}
Values first(const Vec& v, size_t n) {
  Values values = to_doubles(v.view());
  values.resize(n);
  return values;
}

// z (.) Hz at x by double backward, and the gradient.
struct Derivatives {
  Values gradient, diagonal;
};
Derivatives quadratic(const Values& x, const Values& z) {
  const ParamLayout layout = three();
  Vec theta = padded(x), product = Vec::zeros(16, DType::f64);
  const Tensor leaf = Tensor::view_of(theta, 0, {3}, true);
  const Tensor column = reshape(leaf, {3, 1});
  const Tensor loss = 0.5 * sum(column * matmul(Tensor::from_vector(kH, {3, 3}), column));
  const std::vector<Tensor> g = grad({loss}, {&leaf, 1}, {}, {.create_graph = true});
  hessian_product(layout, g, {&leaf, 1}, padded(z), product);
  Derivatives out{g[0].to_vector<double>(), first(product, 3)};
  for (size_t i = 0; i < 3; ++i) out.diagonal[i] *= z[i];
  return out;
}

TEST(AdaHessianGolden, G4) {
  const Values probes[] = {{1, -1, 1}, {-1, -1, 1}, {1, 1, -1}};
  const Values diagonals[] = {{1.5, .75, 4.25}, {2.5, 1.75, 4.25}, {2.5, 1.75, 4.25}};
  struct Case {
    double power;
    Values x[3];
  };
  const Case cases[] = {{1,
                         {{0.90000666622225189, -1.6750433275563257, 0.41176678195807159},
                          {0.82869421652634734, -1.5114480838834148, 0.33159848945248344},
                          {0.76435506474515713, -1.3746325057235886, 0.25881746512238502}}},
                        {.5,
                         {{0.87753551204441116, -1.718574240017714, 0.31810710432417877},
                          {0.77880788489507191, -1.5266081027302387, 0.1667694588777428},
                          {0.68921863396709204, -1.3581920776569683, 0.043120020424944366}}}};
  for (const Case& c : cases) {
    auto optimizer = make_optimizer({.name = "adahessian", .hessian_power = c.power});
    optimizer->init(three(), DType::f64, Device::cpu);
    Vec theta = padded({1, -2, .5});
    for (size_t t = 0; t < 3; ++t) {
      const Derivatives d = quadratic(first(theta, 3), probes[t]);
      for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(d.diagonal[i], diagonals[t][i], 1e-15);
      Vec gradient = padded(d.gradient), diagonal = padded(d.diagonal);
      optimizer->step(theta.mutable_view(), gradient.mutable_view(), diagonal.mutable_view());
      for (size_t i = 0; i < 3; ++i)
        EXPECT_NEAR(first(theta, 3)[i], c.x[t][i], 1e-15) << "power " << c.power << " step " << t;
    }
  }
}

TEST(AdaHessianGolden, G5ByEnumeration) {
  Values mean(3), square(3);
  for (int bits = 0; bits < 8; ++bits) {
    const Derivatives d = quadratic({1, -2, .5}, {bits & 1 ? 1. : -1., bits & 2 ? 1. : -1., bits & 4 ? 1. : -1.});
    for (size_t i = 0; i < 3; ++i) mean[i] += d.diagonal[i] / 8, square[i] += d.diagonal[i] * d.diagonal[i] / 8;
  }
  const Values expected = {2, 1, 4}, variance = {0.25, 0.3125, 0.0625};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(mean[i], expected[i], 1e-15);
    EXPECT_NEAR(square[i] - mean[i] * mean[i], variance[i], 1e-14);
  }
}

// The block of G6 as a 3x3 filter: after one step from zero with power 1 and tiny eps, x = -lr g / D.
TEST(AdaHessianGolden, G6) {
  const Values block = {.3, -.1, .2, .4, -.2, .1, .05, .15, -.3};
  for (const auto& [average, expected] : {std::pair{"signed_mean", 0.066666666666666680}, {"abs_mean", 0.2}}) {
    auto optimizer = make_optimizer({.name = "adahessian", .lr = 1, .eps = 1e-300, .hessian_average = average});
    ParamLayout layout;
    layout.add("w", {1, 3, 3, 1});
    optimizer->init(layout, DType::f64, Device::cpu);
    Vec theta = padded({}), gradient = padded(Values(9, 1)), diagonal = padded(block);
    optimizer->step(theta.mutable_view(), gradient.mutable_view(), diagonal.mutable_view());
    for (double x : first(theta, 9)) EXPECT_NEAR(-1 / x, expected, 1e-15) << average;
  }
}

// ---- the draws ----

constexpr int64_t kDraws = 1 << 16;
Values probe(const ProbeKey& key) {
  Vec z = Vec::empty(kDraws, DType::f32);
  draw_probe(key, z.mutable_view());
  return to_doubles(z.view());
}
double agreement(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum / static_cast<double>(a.size());
}

TEST(Probe, IsPlusOrMinusOneAndBalanced) {
  const Values z = probe({.seed = 5, .rank = 1, .step = 9});
  double sum = 0;
  for (double v : z) {
    ASSERT_TRUE(v == 1 || v == -1) << v;
    sum += v;
  }
  EXPECT_LT(std::fabs(sum), 4 * std::sqrt(static_cast<double>(kDraws)));
  EXPECT_NE(sum, static_cast<double>(kDraws));
}

// Balanced, and those of two seeds, ranks, steps or samples agree in half of the places.
TEST(Probe, IsIndependentPerSeedRankStepAndSample) {
  const std::vector<ProbeKey> keys = {{.seed = 5},
                                      {.seed = 6},
                                      {.seed = 5, .rank = 1},
                                      {.seed = 5, .rank = 2},
                                      {.seed = 5, .step = 1},
                                      {.seed = 5, .step = 2},
                                      {.seed = 5, .sample = 1},
                                      {.seed = 5, .step = 1, .sample = 1}};
  const double four_sigma = 4 / std::sqrt(static_cast<double>(kDraws));
  for (size_t i = 0; i < keys.size(); ++i) {
    const Values a = probe(keys[i]);
    EXPECT_EQ(a, probe(keys[i]));
    EXPECT_LT(std::fabs(agreement(a, Values(a.size(), 1))), four_sigma) << i;
    for (size_t j = 0; j < i; ++j) EXPECT_LT(std::fabs(agreement(a, probe(keys[j]))), four_sigma) << i << " " << j;
  }
}

// G7: the shares of +1 among the signs of sums of W ranks' draws, where 0 counts as +1. Ranks that share their draws,
// or of which some follow from others, have other shares. (The estimate takes each rank's draws as they are.)
TEST(AdaHessianGolden, G7) {
  for (const auto& [ranks, share] : {std::pair{1u, 0.5}, {2u, 0.75}, {3u, 0.5}, {4u, 0.6875}, {8u, 0.63671875}}) {
    Values sum(static_cast<size_t>(kDraws));
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      const Values z = probe({.seed = 5, .rank = rank, .step = 9});
      for (size_t i = 0; i < z.size(); ++i) sum[i] += z[i];
    }
    const auto plus = std::count_if(sum.begin(), sum.end(), [](double s) { return s >= 0; });
    const double n = static_cast<double>(kDraws);
    EXPECT_NEAR(static_cast<double>(plus) / n, share, 4 * std::sqrt(share * (1 - share) / n)) << ranks;
  }
}

// ---- the estimate ----

// tanh network with a parameter that is used linearly only and one that is not used at all.
struct Net {
  ParamLayout layout;
  Vec theta;
  std::vector<Tensor> parameters;
  Tensor x;

  explicit Net(Device device = Device::cpu) {
    layout.add("w", {4, 3});
    layout.add("b", {4});
    layout.add("linear", {5});
    layout.add("unused", {2});
    Values values(static_cast<size_t>(layout.size()), 0);
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<double>(i) + 1);
    theta = Vec::zeros(layout.size(), DType::f64, device);
    upload(values.data(), theta.mutable_view());
    for (const Segment& s : layout.segments()) parameters.push_back(Tensor::view_of(theta, s.offset, s.shape, true));
    x = random_normal({6, 3}, 0, 1, {1, static_cast<uint32_t>(RngPurpose::test), 0, 0}, DType::f64, device);
  }
  std::vector<Tensor> gradients() const {
    const Tensor hidden = tanh(linear(x, parameters[0], parameters[1]));
    const Tensor loss = mean(square(hidden)) + sum(parameters[2]);
    return grad({loss}, parameters, {}, {.create_graph = true});
  }
  Values product(const Vec& z) const {
    Vec out = Vec::zeros(layout.size(), DType::f64, theta.device());
    hessian_product(layout, gradients(), parameters, z, out);
    return to_doubles(out.view());
  }
};

TEST(HessianProduct, IsTheDerivativeOfTheGradient) {
  Net net;
  Vec z = Vec::zeros(net.layout.size(), DType::f64);
  draw_probe({.seed = 3}, z.mutable_view());
  const Values hz = net.product(z), probe = to_doubles(z.view());
  // Central differences of the gradient along z, parameter by parameter.
  const double h = 1e-5;
  auto gradient_at = [&](double step) {
    Net moved;
    axpby(step, z.view(), 1, net.theta.view(), moved.theta.mutable_view());
    Values flat(static_cast<size_t>(net.layout.size()), 0);
    const std::vector<Tensor> g = moved.gradients();
    for (size_t p = 0; p < g.size(); ++p) {
      const Values part = g[p].to_vector<double>();
      std::copy(part.begin(), part.end(), flat.begin() + net.layout.segments()[p].offset);
    }
    return flat;
  };
  const Values up = gradient_at(h), down = gradient_at(-h);
  double largest = 0;
  for (size_t i = 0; i < hz.size(); ++i) {
    EXPECT_NEAR(hz[i], (up[i] - down[i]) / (2 * h), 1e-9) << i;
    largest = std::max(largest, std::fabs(hz[i]));
  }
  EXPECT_GT(largest, 0.01);
  // Parameters without curvature, and the padding.
  for (const Segment& s : {net.layout.segments()[2], net.layout.segments()[3]})
    for (int64_t i = 0; i < s.numel; ++i) EXPECT_EQ(hz[static_cast<size_t>(s.offset + i)], 0) << s.name;
}

TEST(HessianProduct, IsSymmetric) {
  Net net;
  Vec z = Vec::zeros(net.layout.size(), DType::f64), w = Vec::zeros(net.layout.size(), DType::f64);
  draw_probe({.seed = 3}, z.mutable_view());
  draw_probe({.seed = 4}, w.mutable_view());
  const Values hz = net.product(z), hw = net.product(w), zs = to_doubles(z.view()), ws = to_doubles(w.view());
  double z_hw = 0, w_hz = 0;
  for (size_t i = 0; i < hz.size(); ++i) z_hw += zs[i] * hw[i], w_hz += ws[i] * hz[i];
  EXPECT_NEAR(z_hw, w_hz, 1e-14);
  EXPECT_GT(std::fabs(z_hw), 1e-3);
}

TEST(HessianProduct, OfALinearFunctionIsZero) {
  Net net;
  Vec product = Vec::zeros(net.layout.size(), DType::f64), z = Vec::zeros(net.layout.size(), DType::f64);
  fill(product.mutable_view(), 7);
  const std::vector<Tensor> g = grad({sum(net.parameters[2])}, net.parameters, {}, {.create_graph = true});
  hessian_product(net.layout, g, net.parameters, z, product);
  const Values values = to_doubles(product.view());
  for (const Segment& s : net.layout.segments())
    for (int64_t i = 0; i < s.numel; ++i) EXPECT_EQ(values[static_cast<size_t>(s.offset + i)], 0);
}

TEST(HutchinsonDiagonal, IsTheMeanOverItsSamples) {
  Net net;
  const ProbeKey key{.seed = 8, .rank = 2, .step = 30};
  Values expected(static_cast<size_t>(net.layout.size()), 0);
  for (uint64_t sample = 0; sample < 3; ++sample) {
    Vec z = Vec::zeros(net.layout.size(), DType::f64);
    draw_probe({key.seed, key.rank, key.step, sample}, z.mutable_view());
    const Values hz = net.product(z), zs = to_doubles(z.view());
    for (size_t i = 0; i < hz.size(); ++i) expected[i] += zs[i] * hz[i] / 3;
  }
  const Values three = to_doubles(hutchinson_diagonal(net.layout, net.gradients(), net.parameters, key, 3).view());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(three[i], expected[i], 1e-15) << i;
  const Values one = to_doubles(hutchinson_diagonal(net.layout, net.gradients(), net.parameters, key).view());
  EXPECT_NE(one, three);
  int64_t end = 0;
  for (const Segment& s : net.layout.segments()) {
    for (int64_t i = end; i < s.offset; ++i) EXPECT_EQ(three[static_cast<size_t>(i)], 0) << "padding " << i;
    end = s.offset + s.numel;
  }
}

// The mean over many draws is the diagonal, which a finite difference of the gradient gives one element at a time.
TEST(HutchinsonDiagonal, IsUnbiased) {
  Net net;
  const int kSamples = 4000;
  const Values mean =
      to_doubles(hutchinson_diagonal(net.layout, net.gradients(), net.parameters, {.seed = 1}, kSamples).view());
  const Segment& w = net.layout.segments()[0];
  for (int64_t i = 0; i < w.numel; ++i) {
    Values unit(static_cast<size_t>(net.layout.size()), 0);
    unit[static_cast<size_t>(i)] = 1;
    Vec z = Vec::zeros(net.layout.size(), DType::f64);
    upload(unit.data(), z.mutable_view());
    const Values column = net.product(z);
    double variance = 0;
    for (size_t j = 0; j < column.size(); ++j) variance += j == static_cast<size_t>(i) ? 0 : column[j] * column[j];
    EXPECT_NEAR(mean[static_cast<size_t>(i)], column[static_cast<size_t>(i)], 4 * std::sqrt(variance / kSamples)) << i;
  }
}

TEST(HutchinsonDiagonal, RunsOnTheGuardDeviceWithTheSameBits) {
  testing::install_guard_device();
  Net host, device(Device::guard);
  const ProbeKey key{.seed = 1, .step = 2};
  EXPECT_EQ(to_doubles(hutchinson_diagonal(host.layout, host.gradients(), host.parameters, key, 2).view()),
            to_doubles(hutchinson_diagonal(device.layout, device.gradients(), device.parameters, key, 2).view()));
}

// Nothing of the graphs stays: memory on the guard device is counted.
TEST(HutchinsonDiagonal, LeavesNothingBehind) {
  testing::install_guard_device();
  Net net(Device::guard);
  auto once = [&] { hutchinson_diagonal(net.layout, net.gradients(), net.parameters, {.seed = 1}, 2); };
  once();
  const size_t before = testing::guard_bytes_in_use();
  for (int i = 0; i < 10; ++i) once();
  EXPECT_EQ(testing::guard_bytes_in_use(), before);
}

}  // namespace
}  // namespace sinew::optim
