#include "models/zoo/mlp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/autograd.h"
#include "core/ops.h"
#include "models/curvature.h"
#include "nn/loss.h"
#include "optim/optimizer.h"

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

// The parts together, as a trainer joins them: gradients land in one flat vector, which the optimizer applies.
TEST(Mlp, EveryOptimizerFitsRandomLabels) {
  constexpr int64_t kSamples = 32, kFeatures = 16, kClasses = 3;
  RngKey key{1, static_cast<uint32_t>(RngPurpose::test), 0, 0};
  Tensor x = random_normal({kSamples, kFeatures}, 0, 1, key);
  std::vector<int64_t> label_values(kSamples);
  for (size_t i = 0; i < label_values.size(); ++i) label_values[i] = below(philox_u32(key, 1000 + i), kClasses);
  Tensor labels = Tensor::from_vector(label_values, {kSamples});
  nn::Model model = make_mlp({.input = {kFeatures}, .hidden = {64}, .outputs = kClasses});
  for (const std::string& name : optim::optimizer_names()) {
    Vec theta = model.initialize(3), gradient = Vec::zeros(theta.size(), DType::f32);
    nn::Parameters parameters(model.layout(), theta), gradients(model.layout(), gradient, false);
    const std::map<std::string, double> rates = {
        {"sgd", 0.5},  {"momentum", 0.1},   {"nesterov", 0.1},  {"nag", 0.1},       {"adam", 0.01}, {"adamw", 0.01},
        {"qgm", 0.05}, {"adahessian", 0.1}, {"sophia_h", 0.01}, {"sophia_g", 0.01}, {"lars", 2},    {"lion", 0.005}};
    auto optimizer = optim::make_optimizer({.name = name, .lr = rates.at(name)});
    optimizer->init(model.layout(), DType::f32, Device::cpu);
    auto loss = [&] { return nn::cross_entropy(model.forward(x, {parameters}), labels); };
    float before = loss().item<float>();
    for (int step = 0; step < 200; ++step) {
      optimizer->before_gradient(theta.mutable_view());
      Vec diagonal;
      if (const optim::Needs needs = optimizer->needs(); needs.curvature != optim::Curvature::none) {
        const Tensor logits = model.forward(x, {parameters});
        diagonal = gradient_and_diagonal(model.layout(), {logits, nn::cross_entropy(logits, labels)}, parameters.all(),
                                         gradients.all(), needs, {.step = static_cast<uint64_t>(step)});
      } else {
        grad({loss()}, parameters.all(), {}, {.into = gradients.all()});
      }
      optimizer->step(theta.mutable_view(), gradient.mutable_view(), diagonal.mutable_view());
    }
    EXPECT_NEAR(before, std::log(3.0), 0.3) << name;
    EXPECT_LT(loss().item<float>(), 0.05) << name;
    std::vector<int64_t> predicted = argmax(model.forward(x, {parameters}), 1).to_vector<int64_t>();
    EXPECT_EQ(predicted, label_values) << name;
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
