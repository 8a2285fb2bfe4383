// The networks of the papers: parameter counts, names, and what they say to samples that do not fit.
#include "models/zoo/zoo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/ops.h"

namespace sinew::train {
namespace {

Result<nn::Model> make(const std::string& name, const Shape& input, int64_t outputs) {
  Options::Model options;
  options.name = name;
  options.dropout = default_dropout(name);
  options.init = default_init(name);
  return make_model(options, input, outputs);
}

struct Count {
  const char* name;
  Shape input;
  int64_t outputs, parameters;
};
class ZooCount : public ::testing::TestWithParam<Count> {};

TEST_P(ZooCount, IsThePapers) {
  const auto& [name, input, outputs, parameters] = GetParam();
  const Result<nn::Model> model = make(name, input, outputs);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->layout().parameter_count(), parameters);
}

INSTANTIATE_TEST_SUITE_P(
    Networks, ZooCount,
    ::testing::Values(Count{"lenet", {28, 28, 1}, 10, 1663370}, Count{"cnn_mnist", {28, 28, 1}, 10, 1199882},
                      Count{"easgd_cifar", {28, 28, 3}, 10, 351946},
                      Count{"easgd_imagenet", {221, 221, 3}, 1000, 61128808},
                      Count{"gossip_mlp", {28, 28, 1}, 10, 2913290}, Count{"resnet20", {32, 32, 3}, 10, 269722},
                      Count{"resnet32", {32, 32, 3}, 10, 464154}, Count{"resnet56", {32, 32, 3}, 10, 853018},
                      Count{"resnet18", {224, 224, 3}, 1000, 11689512},
                      Count{"resnet50", {224, 224, 3}, 1000, 25557032},
                      Count{"preact_resnet18", {32, 32, 3}, 10, 11171146}, Count{"vgg16", {32, 32, 3}, 10, 15253578},
                      Count{"wrn28_10", {32, 32, 3}, 10, 36479194}),
    [](const auto& info) { return std::string(info.param.name); });

// A network and the side of the smallest image whose last map still has several pixels (batch norm needs them).
struct Small {
  const char* name;
  int64_t side, channels;
};
class ZooPass : public ::testing::TestWithParam<Small> {};

TEST_P(ZooPass, TrainsAndEvaluatesOnABatch) {
  const auto& [name, side, channels] = GetParam();
  const Result<nn::Model> model = make(name, {side, side, channels}, 10);
  ASSERT_TRUE(model.ok()) << model.status().message();
  Vec theta = model->initialize(1);
  const nn::Parameters parameters = model->parameters(theta);
  const nn::Buffers buffers = model->buffers(theta);
  const Tensor x = random_uniform({2, side, side, channels}, 0, 1, RngKey{1, 0, 0, 0});
  const Tensor labels = Tensor::from_vector<int64_t>({3, 7}, {2});
  const Tensor loss = softmax_cross_entropy(
      model->forward(x, {.parameters = parameters, .training = true, .buffers = &buffers}), labels);
  EXPECT_TRUE(std::isfinite(loss.item<float>()));
  const std::vector<Tensor> gradients = grad({loss}, parameters.all());
  const std::vector<Segment>& segments = model->layout().segments();
  for (size_t i = 0; i < gradients.size(); ++i) {
    // A bias before batch norm (vgg16) has no influence: its gradient is rounding.
    const bool cancels =
        segments[i].name.ends_with("bias") && i + 1 < segments.size() && segments[i + 1].shape.ndim() == 1;
    const double squares = dot(gradients[i].view(), gradients[i].view());
    EXPECT_TRUE(std::isfinite(squares) && (squares > 0 || cancels)) << segments[i].name;
  }
  GradMode off(false);
  const Tensor tested = model->forward(x, {.parameters = parameters, .buffers = &buffers});
  EXPECT_EQ(tested.shape(), (Shape{2, 10}));
  EXPECT_TRUE(all_finite(tested.view()));
}

std::string name_of(const ::testing::TestParamInfo<Small>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Networks, ZooPass,
                         ::testing::Values(Small{"mlp", 28, 1}, Small{"lenet", 28, 1}, Small{"cnn_mnist", 28, 1},
                                           Small{"easgd_cifar", 28, 3}, Small{"gossip_mlp", 28, 1},
                                           Small{"resnet20", 16, 3}, Small{"resnet32", 16, 3}, Small{"resnet56", 16, 3},
                                           Small{"resnet18", 64, 3}, Small{"resnet50", 64, 3},
                                           Small{"preact_resnet18", 16, 3}, Small{"vgg16", 32, 3},
                                           Small{"wrn28_10", 8, 3}, Small{"easgd_imagenet", 101, 3}),
                         name_of);

// As the code of the Elastic Gossip thesis (Pramod 2018) does: weights by He et al.'s rule, biases as PyTorch draws
// them.
TEST(Zoo, GossipMlpStartsAsTheThesis) {
  const Result<nn::Model> model = make("gossip_mlp", {28, 28, 1}, 10);
  ASSERT_TRUE(model.ok());
  const Vec theta = model->initialize(5);
  const std::vector<double> values = to_doubles(theta.view());
  int64_t fan_in = 784;
  for (const Segment& s : model->layout().segments()) {
    double squares = 0, fourth = 0, largest = 0;
    for (int64_t i = s.offset; i < s.offset + s.numel; ++i) {
      const double v = values[static_cast<size_t>(i)];
      squares += v * v, fourth += v * v * v * v, largest = std::max(largest, std::abs(v));
    }
    const double n = static_cast<double>(s.numel), fan = static_cast<double>(fan_in);
    if (s.name.ends_with("weight")) {  // normal, variance 2 / fan_in, fourth moment three squares of it
      EXPECT_NEAR(squares / n * fan / 2, 1, 5 * std::sqrt(2 / n)) << s.name;
      EXPECT_NEAR(fourth / n / std::pow(squares / n, 2), 3, 5 * std::sqrt(24 / n)) << s.name;
    } else {  // uniform in +-1 / sqrt(fan_in)
      const double bound = 1 / std::sqrt(fan);
      EXPECT_LE(largest, bound) << s.name;
      EXPECT_NEAR(squares / n / (bound * bound / 3), 1, 5 * std::sqrt(0.8 / n)) << s.name;
      fan_in = s.numel;
    }
  }
}

TEST(Zoo, NamesAreTorchvisions) {
  const Result<nn::Model> model = make("resnet18", {64, 64, 3}, 10);
  ASSERT_TRUE(model.ok());
  for (const char* name :
       {"conv1.weight", "bn1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.running_var", "layer4.1.bn2.bias", "fc.weight", "fc.bias"})
    EXPECT_GE(model->state_layout().find(name), 0) << name;
  EXPECT_EQ(model->state_layout().segments().size(), 102u);  // torchvision's 122 without 20 num_batches_tracked
  const Result<nn::Model> small = make("resnet20", {32, 32, 3}, 10);
  ASSERT_TRUE(small.ok());
  for (const char* name : {"layer3.2.conv2.weight", "layer2.0.bn1.bias"})
    EXPECT_GE(small->layout().find(name), 0) << name;
  EXPECT_LT(small->layout().find("layer2.0.downsample.0.weight"), 0);
}

TEST(Zoo, SamplesThatDoNotFitAreOneClearLine) {
  for (const auto& [name, input] : {std::pair{"easgd_imagenet", Shape{32, 32, 3}}, {"lenet", Shape{784}}}) {
    const Result<nn::Model> model = make(name, input, 10);
    ASSERT_FALSE(model.ok()) << name;
    EXPECT_EQ(model.status().code(), StatusCode::invalid_argument);
    EXPECT_NE(model.status().message().find(input.str()), std::string::npos) << model.status().message();
    EXPECT_EQ(model.status().message().find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace sinew::train
