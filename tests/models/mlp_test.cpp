#include "models/zoo/mlp.h"

#include <gtest/gtest.h>

namespace sinew::train {
namespace {

TEST(Mlp, HasTheLayersAndParametersOfItsOptions) {
  nn::Model model = make_mlp({.input = {28, 28, 1}, .hidden = {1024, 1024}, .outputs = 10});
  const auto& segments = model.layout().segments();
  ASSERT_EQ(segments.size(), 6u);
  const char* names[] = {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"};
  const Shape shapes[] = {{1024, 784}, {1024}, {1024, 1024}, {1024}, {10, 1024}, {10}};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(segments[i].name, names[i]);
    EXPECT_EQ(segments[i].shape, shapes[i]);
  }
  EXPECT_EQ(model.layout().parameter_count(), 1863690);
  EXPECT_EQ(make_mlp({.input = {64}, .hidden = {64}}).layout().parameter_count(), 64 * 64 + 64 + 640 + 10);
}

TEST(Mlp, WithoutHiddenLayersIsASoftmaxRegression) {
  EXPECT_EQ(make_mlp({.hidden = {}}).layout().parameter_count(), 7850);
}

TEST(Mlp, TakesImagesAndAppliesDropoutOnlyInTraining) {
  nn::Model model = make_mlp({.hidden = {32}, .activation = "tanh", .init = "xavier_uniform", .dropout = 0.5});
  Vec theta = model.initialize(1);
  nn::Parameters parameters(model.layout(), theta);
  Tensor x = Tensor::ones({3, 28, 28, 1});
  std::vector<float> evaluated = model.forward(x, {parameters}).to_vector<float>();
  ASSERT_EQ(evaluated.size(), 30u);
  EXPECT_EQ(evaluated, model.forward(x, {parameters}).to_vector<float>());
  std::vector<float> trained = model.forward(x, {.parameters = parameters, .training = true}).to_vector<float>();
  EXPECT_NE(trained, evaluated);
  // The last layer's outputs are not dropped.
  for (float y : trained) EXPECT_NE(y, 0);
}

TEST(Mlp, TheActivationChangesTheValues) {
  Tensor x = Tensor::ones({1, 28, 28, 1});
  std::vector<std::vector<float>> seen;
  for (const char* activation : {"none", "relu", "tanh", "sigmoid"}) {
    nn::Model model = make_mlp({.hidden = {16}, .activation = activation});
    Vec theta = model.initialize(1);
    nn::Parameters parameters(model.layout(), theta);
    seen.push_back(model.forward(x, {parameters}).to_vector<float>());
    for (size_t i = 0; i + 1 < seen.size(); ++i) EXPECT_NE(seen[i], seen.back()) << activation;
  }
}

TEST(Mlp, BadOptionsAreOneLineThatNamesTheOption) {
  struct Case {
    const char* part;
    MlpOptions options;
  };
  const Case cases[] = {
      {"model.hidden", {.hidden = {128, 0}}}, {"model.dropout", {.dropout = 1}},
      {"model.dropout", {.dropout = -0.5}},   {"model.activation", {.activation = "swish"}},
      {"model.init", {.init = "he"}},         {"outputs", {.outputs = 0}},
      {"input shape", {.input = {28, 0}}},
  };
  for (const Case& c : cases) {
    Status status = validate(c.options);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << c.part;
    EXPECT_NE(status.message().find(c.part), std::string::npos) << status.message();
    EXPECT_THROW(make_mlp(c.options), Error);
  }
  EXPECT_NE(validate({.activation = "swish"}).message().find("none, relu, tanh, sigmoid"), std::string::npos);
}

}  // namespace
}  // namespace sinew::train
