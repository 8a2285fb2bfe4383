// The networks of the papers: parameter counts, names, and what they say to samples that do not fit.
#include "models/zoo/zoo.h"

#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

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

// The smaller ones run; the layers of the others are the same.
TEST(Zoo, NetworksTrainAndEvaluateOnABatch) {
  for (const auto& [name, side, channels] : {std::tuple{"lenet", 28, 1},
                                             {"cnn_mnist", 28, 1},
                                             {"easgd_cifar", 28, 3},
                                             {"gossip_mlp", 28, 1},
                                             {"resnet20", 16, 3},
                                             {"resnet18", 32, 3},
                                             {"vgg16", 32, 3}}) {
    const Result<nn::Model> model = make(name, {side, side, channels}, 10);
    ASSERT_TRUE(model.ok()) << model.status().message();
    Vec theta = model->initialize(1);
    const nn::Parameters parameters = model->parameters(theta);
    const nn::Buffers buffers = model->buffers(theta);
    const Tensor x = random_uniform({2, side, side, channels}, 0, 1, RngKey{1, 0, 0, 0});
    const Tensor labels = Tensor::from_vector<int64_t>({3, 7}, {2});
    const Tensor logits = model->forward(x, {.parameters = parameters, .training = true, .buffers = &buffers});
    double squares = 0;
    for (const Tensor& g : grad({softmax_cross_entropy(logits, labels)}, parameters.all()))
      squares += dot(g.view(), g.view());
    EXPECT_TRUE(std::isfinite(squares) && squares > 0) << name;
    GradMode off(false);
    const Tensor tested = model->forward(x, {.parameters = parameters, .buffers = &buffers});
    EXPECT_TRUE(all_finite(tested.view())) << name;
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
