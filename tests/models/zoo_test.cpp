// The networks of the papers: parameter counts, names, and what they say to samples that do not fit.
#include "models/zoo/zoo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
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

// Dropout scales what it keeps by 1 / (1 - rate). Every logit hangs on a path of one unit a layer: 0 hangs on the bias
// of the last hidden layer, 1 and 2 on those before it, and 3 on one pixel.
TEST(Zoo, GossipMlpDropsAsTheThesis) {
  constexpr int64_t kSamples = 600;
  const Result<nn::Model> model = make("gossip_mlp", {28, 28, 1}, 10);
  ASSERT_TRUE(model.ok());
  Vec theta = Vec::zeros(model->state_layout().size(), DType::f32);
  const auto set = [&](const char* name, int64_t row, int64_t column) {
    const Segment& s = model->layout().segments()[static_cast<size_t>(model->layout().find(name))];
    const int64_t columns = s.shape.ndim() == 2 ? s.shape[1] : 1;
    fill(theta.mutable_view().slice(s.offset + row * columns + column, 1), 1);
  };
  for (int64_t logit = 0; logit < 4; ++logit) {
    set("fc4.weight", logit, logit);
    if (logit >= 1) set("fc3.weight", logit, logit);
    if (logit >= 2) set("fc2.weight", logit, logit);
  }
  set("fc3.bias", 0, 0), set("fc2.bias", 1, 0), set("fc1.bias", 2, 0), set("fc1.weight", 3, 400);
  const nn::Parameters parameters = model->parameters(theta, false);
  const Tensor x = random_uniform({kSamples, 28, 28, 1}, 1, 1, RngKey{});
  for (const bool training : {false, true}) {
    const std::vector<float> logits =
        model->forward(x, {.parameters = parameters, .training = training, .seed = 3}).to_vector<float>();
    for (size_t logit = 0; logit < 4; ++logit) {
      const double kept =
          !training ? 1 : std::pow(0.5, static_cast<double>(std::min<size_t>(logit + 1, 3))) * (logit == 3 ? 0.8 : 1);
      double there = 0;
      for (size_t i = 0; i < kSamples; ++i) {
        const double v = logits[10 * i + logit];
        if (v != 0) {
          EXPECT_NEAR(v, 1 / kept, 1e-5 / kept) << logit;
        }
        there += v != 0;
      }
      EXPECT_NEAR(there / kSamples, kept, 4 * std::sqrt(kept * (1 - kept) / kSamples)) << logit;
    }
  }
}

// Section 7 of the EASGD specification, from the authors' settings.
TEST(Zoo, EasgdsBiasesStartAsInThePaper) {
  for (const auto& [name, side, bias] : {std::tuple{"easgd_cifar", 28, 0.0}, {"easgd_imagenet", 101, 0.1}}) {
    const Result<nn::Model> model = make(name, {side, side, 3}, 10);
    ASSERT_TRUE(model.ok());
    const std::vector<double> theta = to_doubles(model->initialize(5).view());
    for (const Segment& s : model->layout().segments()) {
      const auto begin = theta.begin() + s.offset, end = begin + s.numel;
      if (s.name.ends_with("bias")) {
        EXPECT_TRUE(std::all_of(begin, end, [b = bias](double v) { return v == static_cast<float>(b); })) << s.name;
        continue;
      }
      const double fan_in = static_cast<double>(s.numel / s.shape[0]);
      const auto [low, high] = std::minmax_element(begin, end);
      EXPECT_NEAR(*low * std::sqrt(fan_in), -1, 0.01) << s.name;  // Torch's default, uniform
      EXPECT_NEAR(*high * std::sqrt(fan_in), 1, 0.01) << s.name;
    }
  }
}

TEST(Zoo, Resnet50HasTorchvisionsTensors) {
  const Result<nn::Model> model = make("resnet50", {64, 64, 3}, 1000);
  ASSERT_TRUE(model.ok());
  std::map<std::string, Shape> expected, got;
  const auto conv_and_norm = [&](const std::string& conv, const std::string& norm, int64_t out, int64_t in, int64_t k) {
    expected[conv + ".weight"] = {out, in, k, k};
    for (const char* name : {".weight", ".bias", ".running_mean", ".running_var"}) expected[norm + name] = {out};
  };
  conv_and_norm("conv1", "bn1", 64, 3, 7);
  int64_t in = 64;
  for (int layer = 0; layer < 4; ++layer) {
    const int64_t width = int64_t{64} << layer;
    for (int block = 0; block < std::array{3, 4, 6, 3}[static_cast<size_t>(layer)]; ++block) {
      const std::string at = "layer" + std::to_string(layer + 1) + "." + std::to_string(block) + ".";
      conv_and_norm(at + "conv1", at + "bn1", width, in, 1);
      conv_and_norm(at + "conv2", at + "bn2", width, width, 3);
      conv_and_norm(at + "conv3", at + "bn3", 4 * width, width, 1);
      if (block == 0) conv_and_norm(at + "downsample.0", at + "downsample.1", 4 * width, in, 1);
      in = 4 * width;
    }
  }
  expected["fc.weight"] = {1000, 2048};
  expected["fc.bias"] = {1000};
  for (size_t i = 0; i < model->state_layout().segments().size(); ++i) {
    const Segment& s = model->state_layout().segments()[i];
    got[s.name] = nn::file_shape(model->file_layout(i), s.shape);
  }
  EXPECT_EQ(got, expected);
  EXPECT_EQ(got.size(), 267u);  // torchvision's 320 without 53 num_batches_tracked
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
