// First and second derivatives of every layer and of a small MLP, with respect to the input and all parameters.
#include <gtest/gtest.h>

#include "nn/layers.h"
#include "nn/loss.h"
#include "tests/nn/module_fixture.h"
#include "tests/support/gradcheck.h"

namespace sinew::nn {
namespace {

using testing::check_gradient;
using testing::check_hessian_symmetry;
using testing::check_hvp;
using testing::random_input;

struct Case {
  std::string name;
  std::function<ModulePtr()> make;
  Shape input;
};

ModulePtr small_mlp(Activation activation, double dropout) {
  LinearOptions options{.activation = activation};
  auto net = std::make_unique<Sequential>();
  net->add(std::make_unique<Flatten>(), "flatten");
  net->add(std::make_unique<Linear>(6, 5, options), "fc1");
  net->add(std::make_unique<Dropout>(dropout), "drop1");
  net->add(std::make_unique<Linear>(5, 4, options), "fc2");
  net->add(std::make_unique<Linear>(4, 3), "fc3");
  return net;
}

std::vector<Case> cases() {
  std::vector<Case> all = {
      {"ReLU", [] { return std::make_unique<ReLU>(); }, {3, 2, 2}},
      {"Tanh", [] { return std::make_unique<Tanh>(); }, {3, 2, 2}},
      {"Sigmoid", [] { return std::make_unique<Sigmoid>(); }, {3, 2, 2}},
      {"Flatten", [] { return std::make_unique<Flatten>(); }, {3, 2, 2}},
      {"Dropout", [] { return std::make_unique<Dropout>(0.4); }, {5, 6}},
      {"LinearWithoutBias", [] { return std::make_unique<Linear>(4, 3, LinearOptions{.bias = false}); }, {5, 4}},
      {"Conv2dWithoutBias",
       [] { return std::make_unique<Conv2d>(2, 3, 3, Conv2dOptions{.bias = false}); },
       {2, 4, 5, 2}},
      {"LayerNorm", [] { return std::make_unique<LayerNorm>(Shape{4}); }, {3, 2, 4}},
      {"LayerNormOfTwoAxes",
       [] {
         return std::make_unique<LayerNorm>(Shape{2, 4}, 0.1);
       },
       {3, 2, 4}},
      {"BatchNorm", [] { return std::make_unique<BatchNorm>(3); }, {2, 3, 2, 3}},
      {"BatchNormReLU",
       [] { return std::make_unique<BatchNorm>(3, BatchNormOptions{.activation = Activation::relu}); },
       {2, 3, 2, 3}},
      {"MaxPool2d",
       [] {
         return std::make_unique<MaxPool2d>(PoolOptions{2, 2, 0});
       },
       {2, 4, 5, 2}},
      {"MaxPool2dOverlapping",
       [] {
         return std::make_unique<MaxPool2d>(PoolOptions{3, 2, 1});
       },
       {2, 4, 5, 2}},
      {"AvgPool2d",
       [] {
         return std::make_unique<AvgPool2d>(PoolOptions{3, 2, 1});
       },
       {2, 4, 5, 2}},
      {"GlobalAvgPool", [] { return std::make_unique<GlobalAvgPool>(); }, {2, 3, 2, 3}},
      {"SmallResNet",
       [] {
         auto net = std::make_unique<Sequential>();
         net->add(std::make_unique<Conv2d>(2, 2, 3, Conv2dOptions{.padding = 1, .bias = false}), "conv1");
         net->add(std::make_unique<BatchNorm>(2, BatchNormOptions{.activation = Activation::relu}), "bn1");
         net->add(std::make_unique<MaxPool2d>(PoolOptions{3, 2, 1}), "pool");
         net->add(std::make_unique<BasicBlock>(2, 4, ResidualOptions{.stride = 2, .shortcut = Shortcut::padding}));
         net->add(std::make_unique<BasicBlock>(4, 4));
         net->add(std::make_unique<GlobalAvgPool>()).add(std::make_unique<Linear>(4, 3), "fc");
         return net;
       },
       {3, 8, 8, 2}},
      {"BasicBlock", [] { return std::make_unique<BasicBlock>(2, 2); }, {2, 3, 3, 2}},
      {"BasicBlockProjection",
       [] { return std::make_unique<BasicBlock>(2, 4, ResidualOptions{.stride = 2}); },
       {2, 4, 3, 2}},
      {"BasicBlockPadding",
       [] { return std::make_unique<BasicBlock>(2, 4, ResidualOptions{.stride = 2, .shortcut = Shortcut::padding}); },
       {2, 4, 3, 2}},
      {"Bottleneck", [] { return std::make_unique<Bottleneck>(4, 1); }, {2, 3, 3, 4}},
      {"BottleneckProjection",
       [] { return std::make_unique<Bottleneck>(3, 2, ResidualOptions{.stride = 2}); },
       {2, 4, 4, 3}},
      {"PreActivationBlock", [] { return std::make_unique<PreActivationBlock>(2, 2); }, {2, 3, 3, 2}},
      {"PreActivationBlockProjection",
       [] { return std::make_unique<PreActivationBlock>(2, 3, ResidualOptions{.stride = 2, .dropout = 0.3}); },
       {2, 4, 4, 2}},
  };
  for (const std::string& name : activation_names()) {
    Activation activation = activation_named(name);
    Conv2dOptions conv{.stride = {2, 1}, .padding = {1, 2}, .activation = activation};
    all.push_back(
        {"Conv2d_" + name, [=] { return std::make_unique<Conv2d>(2, 3, Extent2d(3, 2), conv); }, {2, 4, 3, 2}});
    LinearOptions options{.activation = activation};
    all.push_back({"Linear_" + name, [=] { return std::make_unique<Linear>(4, 3, options); }, {5, 4}});
    all.push_back({"Mlp_" + name, [=] { return small_mlp(activation, 0); }, {4, 2, 3}});
    all.push_back({"MlpWithDropout_" + name, [=] { return small_mlp(activation, 0.3); }, {4, 2, 3}});
  }
  return all;
}

// Running statistics as after some training: neither 0 nor 1, variances positive.
Buffers some_statistics(const ParamLayout& layout) {
  Vec values = Vec::zeros(layout.size(), DType::f64);
  uint32_t stream = 100;
  for (const Segment& s : layout.segments()) {
    const bool variance = s.name.ends_with("running_var");
    const Tensor part = random_input(s.shape, stream++, variance ? 0.4 : -0.5, variance ? 2.2 : 0.5);
    copy(part.view(), values.mutable_view().slice(s.offset, s.numel));
  }
  return Buffers(layout, values);
}

class LayerGradient : public ::testing::TestWithParam<Case> {
 protected:
  // Inputs: x, then the parameters in order of declaration.
  std::vector<Tensor> inputs() const {
    std::vector<Tensor> in{random_input(GetParam().input, 1)};
    uint32_t stream = 2;
    for (const Segment& s : fixture_.layout().segments()) in.push_back(random_input(s.shape, stream++));
    return in;
  }
  testing::TensorFn function(bool training = true) const {
    return [this, training](const std::vector<Tensor>& in) {
      Parameters parameters(fixture_.layout(), std::vector<Tensor>(in.begin() + 1, in.end()));
      return fixture_.module().forward(
          in[0],
          {.parameters = parameters, .training = training, .seed = 3, .buffers = training ? nullptr : &buffers_});
    };
  }

 private:
  ModuleFixture fixture_{GetParam().make()};
  Buffers buffers_ = some_statistics(fixture_.buffer_layout());
};

TEST_P(LayerGradient, MatchesCentralDifferences) { EXPECT_TRUE(check_gradient(function(), inputs())); }
TEST_P(LayerGradient, HessianVectorProductMatches) { EXPECT_TRUE(check_hvp(function(), inputs())); }
TEST_P(LayerGradient, HessianIsSymmetric) { EXPECT_TRUE(check_hessian_symmetry(function(), inputs())); }
TEST_P(LayerGradient, EvaluationToo) {
  EXPECT_TRUE(check_gradient(function(false), inputs()));
  EXPECT_TRUE(check_hvp(function(false), inputs()));
  EXPECT_TRUE(check_hessian_symmetry(function(false), inputs()));
}

INSTANTIATE_TEST_SUITE_P(Layers, LayerGradient, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

// The losses on top of a whole network: what training differentiates.
TEST(LossGradient, OfASmallMlp) {
  ModuleFixture net(small_mlp(Activation::tanh, 0));
  std::vector<Tensor> inputs{random_input({4, 2, 3}, 1)};
  for (const Segment& s : net.layout().segments()) inputs.push_back(random_input(s.shape, 2));
  Tensor labels = Tensor::from_vector<int64_t>({0, 2, 1, 2}, {4});
  for (const std::string& name : loss_names()) {
    Loss loss = loss_named(name);
    auto f = [&](const std::vector<Tensor>& in) {
      Parameters parameters(net.layout(), std::vector<Tensor>(in.begin() + 1, in.end()));
      return loss(net.module().forward(in[0], Pass{parameters}), labels);
    };
    EXPECT_TRUE(check_gradient(f, inputs)) << name;
    EXPECT_TRUE(check_hvp(f, inputs)) << name;
    EXPECT_TRUE(check_hessian_symmetry(f, inputs)) << name;
  }
}

}  // namespace
}  // namespace sinew::nn
