#include "nn/layers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/nn/module_fixture.h"

namespace sinew::nn {
namespace {

using Values = std::vector<double>;

template <class M, class... Args>
ModuleFixture fixture(Args&&... args) {
  return ModuleFixture(std::make_unique<M>(std::forward<Args>(args)...));
}
Tensor matrix(const Values& values, const Shape& shape) { return Tensor::from_vector(values, shape); }

void expect_near(const Tensor& got, const Values& expected) {
  Values values = got.to_vector<double>();
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-15) << i;
}

TEST(Linear, ComputesXTimesWeightTransposedPlusBias) {
  ModuleFixture layer = fixture<Linear>(2, 3);
  layer.set("weight", {1, 2, 3, 4, 5, 6});
  layer.set("bias", {0.5, -0.5, 1});
  Tensor y = layer.forward(matrix({1, -1, 2, 0.5}, {2, 2}));
  EXPECT_EQ(y.shape(), (Shape{2, 3}));
  expect_near(y, {-0.5, -1.5, 0, 3.5, 7.5, 14});
}

TEST(Linear, FusesItsActivation) {
  const Tensor x = matrix({1, -1}, {1, 2});
  const Values pre = {-0.5, 2};
  auto run = [&](Activation activation) {
    ModuleFixture layer = fixture<Linear>(2, 2, LinearOptions{.activation = activation});
    layer.set("weight", {1, 2, 3, 1});
    layer.set("bias", {0.5, 0});
    return layer.forward(x);
  };
  expect_near(run(Activation::none), pre);
  expect_near(run(Activation::relu), {0, 2});
  expect_near(run(Activation::tanh), {std::tanh(-0.5), std::tanh(2.0)});
  expect_near(run(Activation::sigmoid), {1 / (1 + std::exp(0.5)), 1 / (1 + std::exp(-2.0))});
}

TEST(Linear, WithoutBiasHasOneParameter) {
  ModuleFixture layer = fixture<Linear>(2, 1, LinearOptions{.bias = false});
  ASSERT_EQ(layer.layout().segments().size(), 1u);
  layer.set("weight", {3, 4});
  expect_near(layer.forward(matrix({1, 2}, {1, 2})), {11});
}

TEST(Linear, BiasFollowsPyTorchsDefaultElseStartsAtZero) {
  auto bias = [](ModuleFixture layer) {
    const Segment& s = layer.layout().segments()[1];
    return to_doubles(layer.theta().view().slice(s.offset, s.numel));
  };
  for (double b : bias(fixture<Linear>(100, 50))) {
    EXPECT_NE(b, 0);
    EXPECT_LE(std::abs(b), 0.1);
  }
  LinearOptions options{.init = initializer_named("kaiming_uniform")};
  EXPECT_EQ(bias(fixture<Linear>(100, 50, options)), Values(50, 0.0));
}

TEST(Linear, RefusesEmptyLayersAndOtherWidths) {
  EXPECT_THROW(Linear(0, 3), Error);
  EXPECT_THROW(Linear(3, -1), Error);
  EXPECT_THROW(fixture<Linear>(2, 3).forward(matrix({1, 2, 3}, {1, 3})), Error);
}

// One image of 3 x 3 with two channels: 1 to 9, and ten times that. Filters (1, 2, 2, 2).
TEST(Conv2d, CorrelatesChannelsLast) {
  Values image;
  for (double v = 1; v <= 9; ++v) image.insert(image.end(), {v, 10 * v});
  const Tensor x = matrix(image, {1, 3, 3, 2});
  auto run = [&](const Conv2dOptions& options) {
    ModuleFixture layer = fixture<Conv2d>(2, 1, 2, options);
    layer.set("weight", {1, 0, 0, 0.1, 0, 0, -1, 0.1});  // x[0,0,0] + x[0,1,1] / 10 - x[1,1,0] + x[1,1,1] / 10
    if (options.bias) layer.set("bias", {-3});
    return layer.forward(x);
  };
  // In terms of the first channel: x[i,j] + x[i,j+1].
  Tensor y = run({.bias = false});
  EXPECT_EQ(y.shape(), (Shape{1, 2, 2, 1}));
  expect_near(y, {3, 5, 9, 11});
  expect_near(run({.activation = Activation::relu}), {0, 2, 6, 8});
  y = run({.stride = {2, 1}, .padding = {1, 0}, .bias = false});
  EXPECT_EQ(y.shape(), (Shape{1, 2, 2, 1}));
  expect_near(y, {0, 0, 9, 11});
}

TEST(Conv2d, FollowsPyTorchsDefaultInitialisation) {
  // fan_in 4 * 3 * 3 = 36, so both lie within 1 / 6.
  ModuleFixture layer = fixture<Conv2d>(4, 64, 3);
  const std::vector<Segment>& segments = layer.layout().segments();
  ASSERT_EQ(segments.size(), 2u);
  EXPECT_EQ(segments[0].shape, (Shape{64, 3, 3, 4}));
  EXPECT_EQ(segments[1].shape, (Shape{64}));
  for (const Segment& s : segments) {
    double largest = 0;
    for (double v : to_doubles(layer.theta().view().slice(s.offset, s.numel))) largest = std::max(largest, std::abs(v));
    EXPECT_LE(largest, 1.0 / 6) << s.name;
    EXPECT_GT(largest, 0.9 / 6) << s.name;
  }
  ModuleFixture other = fixture<Conv2d>(4, 8, 3, Conv2dOptions{.init = initializer_named("kaiming_normal")});
  const Segment& bias = other.layout().segments()[1];
  EXPECT_EQ(to_doubles(other.theta().view().slice(bias.offset, bias.numel)), Values(8, 0.0));
}

TEST(Conv2d, RefusesWhatMakesNoSense) {
  EXPECT_THROW(Conv2d(0, 3, 3), Error);
  EXPECT_THROW(Conv2d(3, 3, Extent2d(3, 0)), Error);
  EXPECT_THROW(Conv2d(3, 3, 3, {.stride = 0}), Error);
  EXPECT_THROW(Conv2d(3, 3, 3, {.padding = {1, -1}}), Error);
  EXPECT_THROW(fixture<Conv2d>(2, 3, 3).forward(Tensor::zeros({1, 4, 4, 3}, DType::f64)), Error);
}

TEST(LayerNorm, NormalisesTheLastAxes) {
  ModuleFixture layer = fixture<LayerNorm>(Shape{2, 2}, 3);
  // Ones and zeros at the start. Mean 2 and variance 1 + eps 3: a root of 2.
  const Tensor x = matrix({1, 3, 3, 1, 5, 5, 5, 5}, {2, 2, 2});
  EXPECT_EQ(layer.forward(x).shape(), x.shape());
  expect_near(layer.forward(x), {-0.5, 0.5, 0.5, -0.5, 0, 0, 0, 0});
  layer.set("weight", {1, 2, 3, 4});
  layer.set("bias", {0, 0, 1, -1});
  expect_near(layer.forward(x), {-0.5, 1, 2.5, -3, 0, 0, 1, -1});
}

TEST(LayerNorm, RefusesOtherShapes) {
  EXPECT_THROW(LayerNorm(Shape{}), Error);
  EXPECT_THROW(LayerNorm(Shape{3}, 0), Error);
  EXPECT_THROW(fixture<LayerNorm>(Shape{3}).forward(matrix({1, 2}, {1, 2})), Error);
  EXPECT_THROW(fixture<LayerNorm>(Shape{1, 1, 2}).forward(matrix({1, 2}, {1, 2})), Error);
}

TEST(Activations, ComputeTheirFunctionOnAnyShape) {
  Tensor x = matrix({-1, 0, 0.5, 2}, {2, 1, 2});
  EXPECT_EQ(fixture<ReLU>().forward(x).shape(), x.shape());
  expect_near(fixture<ReLU>().forward(x), {0, 0, 0.5, 2});
  expect_near(fixture<Tanh>().forward(x), {std::tanh(-1.0), 0, std::tanh(0.5), std::tanh(2.0)});
  expect_near(fixture<Sigmoid>().forward(x),
              {1 / (1 + std::exp(1.0)), 0.5, 1 / (1 + std::exp(-0.5)), 1 / (1 + std::exp(-2.0))});
}

TEST(Activations, AreKnownByName) {
  EXPECT_EQ(activation_names(), (std::vector<std::string>{"none", "relu", "tanh", "sigmoid"}));
  EXPECT_EQ(activation_named("tanh"), Activation::tanh);
  EXPECT_THROW(activation_named("swish"), Error);
}

TEST(Flatten, KeepsTheBatchAxis) {
  Tensor x = matrix({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2, 1});
  Tensor y = fixture<Flatten>().forward(x);
  EXPECT_EQ(y.shape(), (Shape{2, 4}));
  EXPECT_EQ(y.to_vector<double>(), x.to_vector<double>());
  Tensor flat = matrix({1, 2, 3, 4}, {2, 2});
  EXPECT_TRUE(fixture<Flatten>().forward(flat).is_same(flat));
}

TEST(Sequential, RunsItsChildrenInOrder) {
  auto net = std::make_unique<Sequential>();
  net->add(std::make_unique<Linear>(1, 1)).add(std::make_unique<ReLU>()).add(std::make_unique<Linear>(1, 1), "last");
  ModuleFixture f(std::move(net));
  f.set("0.weight", {-2});
  f.set("0.bias", {1});
  f.set("last.weight", {3});
  f.set("last.bias", {10});
  expect_near(f.forward(matrix({-1, 1}, {2, 1})), {19, 10});
}

TEST(Sequential, RefusesTwoChildrenOfOneName) {
  Sequential net;
  net.add(std::make_unique<ReLU>(), "1");
  EXPECT_THROW(net.add(std::make_unique<ReLU>()), Error);  // would be called "1"
  EXPECT_THROW(net.add(nullptr), Error);
}

TEST(Sequential, EmptyIsTheIdentity) {
  Tensor x = matrix({1, 2}, {1, 2});
  EXPECT_TRUE(fixture<Sequential>().forward(x).is_same(x));
}

TEST(Dropout, IsTheIdentityInEvaluationAndAtRateZero) {
  Tensor x = matrix({1, 2, 3, 4}, {2, 2});
  EXPECT_TRUE(fixture<Dropout>(0.5).forward(x).is_same(x));
  EXPECT_TRUE(fixture<Dropout>(0.0).forward(x, true).is_same(x));
}

TEST(Dropout, KeepsTheExpectedShareScaled) {
  // 20,000 draws at 0.7: the standard error of the share is 0.0032.
  Values y = fixture<Dropout>(0.3).forward(Tensor::ones({200, 100}, DType::f64), true).to_vector<double>();
  int64_t kept = 0;
  for (double v : y) {
    if (v == 0) continue;
    EXPECT_DOUBLE_EQ(v, 1 / 0.7);
    ++kept;
  }
  EXPECT_NEAR(static_cast<double>(kept) / 20000, 0.7, 0.016);
}

TEST(Dropout, TheMaskIsAFunctionOfSeedRankStepAndLayer) {
  auto two = [] {
    auto net = std::make_unique<Sequential>();
    net->add(std::make_unique<Dropout>(0.5)).add(std::make_unique<Dropout>(0.5));
    return ModuleFixture(std::move(net));
  };
  ModuleFixture one = fixture<Dropout>(0.5);
  Tensor x = Tensor::ones({32, 32}, DType::f64);
  Values base = one.forward(x, true, 1, 2, 3).to_vector<double>();
  EXPECT_EQ(base, one.forward(x, true, 1, 2, 3).to_vector<double>());
  // Half the elements of independent masks differ; 1024 draws, five standard errors are 0.08.
  auto differing = [&](const Values& other) {
    double n = 0;
    for (size_t i = 0; i < base.size(); ++i) n += base[i] != other[i];
    return n / static_cast<double>(base.size());
  };
  EXPECT_NEAR(differing(one.forward(x, true, 2, 2, 3).to_vector<double>()), 0.5, 0.08);
  EXPECT_NEAR(differing(one.forward(x, true, 1, 3, 3).to_vector<double>()), 0.5, 0.08);
  EXPECT_NEAR(differing(one.forward(x, true, 1, 2, 4).to_vector<double>()), 0.5, 0.08);
  // Two layers after one another keep a quarter, so their masks are not the same one.
  Values both = two().forward(x, true, 1, 2, 3).to_vector<double>();
  double kept = 0;
  for (double v : both) kept += v != 0;
  EXPECT_NEAR(kept / 1024, 0.25, 0.07);
}

TEST(Dropout, RefusesRatesOutOfRange) {
  EXPECT_THROW(Dropout(1), Error);
  EXPECT_THROW(Dropout(-0.1), Error);
  EXPECT_THROW(Dropout(std::nan("")), Error);
}

}  // namespace
}  // namespace sinew::nn
