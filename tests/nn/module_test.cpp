#include "nn/module.h"

#include <gtest/gtest.h>

#include "core/ops.h"
#include "nn/layers.h"

namespace sinew::nn {
namespace {

Model small_model() {
  auto block = std::make_unique<Sequential>();
  block->add(std::make_unique<Linear>(4, 5)).add(std::make_unique<Tanh>()).add(std::make_unique<Linear>(5, 3));
  auto net = std::make_unique<Sequential>();
  net->add(std::make_unique<Flatten>(), "flatten").add(std::move(block), "block");
  return Model("small", std::move(net), {2, 2}, 3);
}

std::vector<std::string> names(const ParamLayout& layout) {
  std::vector<std::string> out;
  for (const Segment& s : layout.segments()) out.push_back(s.name);
  return out;
}

TEST(Model, ParametersAreNamedAsInPyTorch) {
  Model model = small_model();
  EXPECT_EQ(names(model.layout()),
            (std::vector<std::string>{"block.0.weight", "block.0.bias", "block.2.weight", "block.2.bias"}));
  EXPECT_EQ(model.layout().segments()[0].shape, (Shape{5, 4}));
  EXPECT_EQ(model.layout().parameter_count(), 5 * 4 + 5 + 3 * 5 + 3);
}

TEST(Model, InitialisationIsReproducibleAndKeepsPaddingZero) {
  Model model = small_model();
  std::vector<double> a = to_doubles(model.initialize(1).view());
  EXPECT_EQ(a, to_doubles(small_model().initialize(1).view()));
  EXPECT_NE(a, to_doubles(model.initialize(2).view()));
  int64_t end = 0;
  for (const Segment& s : model.layout().segments()) {
    for (int64_t i = end; i < s.offset; ++i) EXPECT_EQ(a[static_cast<size_t>(i)], 0) << i;
    for (int64_t i = s.offset; i < s.offset + s.numel; ++i) EXPECT_NE(a[static_cast<size_t>(i)], 0) << s.name;
    end = s.offset + s.numel;
  }
  for (int64_t i = end; i < model.layout().size(); ++i) EXPECT_EQ(a[static_cast<size_t>(i)], 0) << i;
}

TEST(Model, ParametersOfOneShapeAreDrawnFromTheirOwnStreams) {
  auto net = std::make_unique<Sequential>();
  net->add(std::make_unique<Linear>(4, 4)).add(std::make_unique<Linear>(4, 4));
  Model model("twins", std::move(net), {4}, 4);
  Vec theta = model.initialize(1);
  Parameters parameters(model.layout(), theta);
  EXPECT_NE(parameters.all()[0].to_vector<float>(), parameters.all()[2].to_vector<float>());
  EXPECT_NE(parameters.all()[1].to_vector<float>(), parameters.all()[3].to_vector<float>());
}

TEST(Model, ParametersAreViewsOfTheVector) {
  Model model = small_model();
  Vec theta = model.initialize(1, DType::f64);
  Parameters parameters(model.layout(), theta);
  ASSERT_EQ(parameters.all().size(), 4u);
  EXPECT_TRUE(parameters.all()[0].requires_grad());
  fill(theta.mutable_view(), 3);
  EXPECT_EQ(parameters.all()[1].to_vector<double>(), std::vector<double>(5, 3.0));
  Vec other = Vec::zeros(model.layout().size() + 16, DType::f64);
  EXPECT_THROW(Parameters(model.layout(), other), Error);
}

TEST(Model, ParametersMayBeAnyTensorsOfTheRightShapes) {
  Model model = small_model();
  Vec theta = model.initialize(1, DType::f64);
  Parameters views(model.layout(), theta);
  std::vector<Tensor> doubled;
  for (const Tensor& t : views.all()) doubled.push_back(2.0 * t);
  Parameters parameters(model.layout(), doubled);
  EXPECT_TRUE(parameters.all()[2].is_same(doubled[2]));
  doubled.pop_back();
  EXPECT_THROW(Parameters(model.layout(), doubled), Error);
  doubled.push_back(doubled[0]);
  EXPECT_THROW(Parameters(model.layout(), doubled), Error);
}

TEST(Model, OneModelRunsOnSeveralVectors) {
  Model model = small_model();
  Vec a = model.initialize(1, DType::f64), b = Vec::zeros(model.layout().size(), DType::f64);
  Parameters pa(model.layout(), a), pb(model.layout(), b);
  Tensor x = Tensor::ones({1, 2, 2}, DType::f64);
  std::vector<double> from_a = model.forward(x, Pass{pa}).to_vector<double>();
  EXPECT_EQ(model.forward(x, Pass{pb}).to_vector<double>(), std::vector<double>(3, 0.0));
  EXPECT_EQ(model.forward(x, Pass{pa}).to_vector<double>(), from_a);
  EXPECT_NE(from_a, std::vector<double>(3, 0.0));
}

TEST(Model, NamesBothShapesWhenTheInputDoesNotFit) {
  Model model = small_model();
  Vec theta = model.initialize(1);
  Parameters parameters(model.layout(), theta);
  for (const Shape& wrong : {Shape{3, 4}, Shape{1, 2, 3}, Shape{4}, Shape{1, 2, 2, 1}}) {
    try {
      model.forward(Tensor::zeros(wrong), Pass{parameters});
      ADD_FAILURE() << "accepted " << wrong;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("(2, 2)"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(wrong.str()), std::string::npos) << e.what();
    }
  }
}

TEST(Model, RefusesOutputsOtherThanDeclared) {
  Model model("wrong", std::make_unique<Linear>(4, 5), {4}, 3);
  Vec theta = model.initialize(1);
  Parameters parameters(model.layout(), theta);
  EXPECT_THROW(model.forward(Tensor::zeros({2, 4}), Pass{parameters}), Error);
  EXPECT_THROW(Model("none", nullptr, {4}, 3), Error);
}

}  // namespace
}  // namespace sinew::nn
