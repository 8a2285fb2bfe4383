// Plain convolutional networks of the papers.
#include "models/zoo/builder.h"
#include "models/zoo/networks.h"

namespace sinew::train {
namespace {
constexpr Activation kRelu = Activation::relu;
}

Result<nn::Model> make_lenet(const Options::Model& options, const Shape& input, int64_t outputs) {
  NetworkBuilder net("lenet", options, input);
  net.conv("conv1", 32, 5, {.padding = 2, .activation = kRelu}).max_pool(2);
  net.conv("conv2", 64, 5, {.padding = 2, .activation = kRelu}).max_pool(2);
  return net.flatten().linear("fc1", 512, kRelu).dropout(options.dropout).linear("fc2", outputs).build(outputs);
}

Result<nn::Model> make_cnn_mnist(const Options::Model& options, const Shape& input, int64_t outputs) {
  NetworkBuilder net("cnn_mnist", options, input);
  net.conv("conv1", 32, 3, {.activation = kRelu}).conv("conv2", 64, 3, {.activation = kRelu}).max_pool(2);
  return net.flatten().linear("fc1", 128, kRelu).dropout(options.dropout).linear("fc2", outputs).build(outputs);
}

Result<nn::Model> make_easgd_cifar(const Options::Model& options, const Shape& input, int64_t outputs) {
  NetworkBuilder net("easgd_cifar", options, input);
  net.bias(0);
  net.conv("conv1", 64, 5, {.activation = kRelu}).max_pool(2);
  net.conv("conv2", 128, 5, {.activation = kRelu}).max_pool(2);
  net.conv("conv3", 64, 3, {.activation = kRelu});
  return net.flatten().linear("fc1", 256, kRelu).dropout(options.dropout).linear("fc2", outputs).build(outputs);
}

Result<nn::Model> make_easgd_imagenet(const Options::Model& options, const Shape& input, int64_t outputs) {
  NetworkBuilder net("easgd_imagenet", options, input);
  net.bias(0.1);
  net.conv("conv1", 96, 7, {.stride = 2, .activation = kRelu}).max_pool(3);
  net.conv("conv2", 256, 5, {.activation = kRelu}).max_pool(2);
  net.conv("conv3", 384, 3, {.activation = kRelu});
  net.conv("conv4", 384, 2, {.activation = kRelu}).conv("conv5", 256, 2, {.activation = kRelu}).max_pool(2);
  net.flatten().linear("fc1", 4096, kRelu).dropout(options.dropout);
  return net.linear("fc2", 4096, kRelu).dropout(options.dropout).linear("fc3", outputs).build(outputs);
}

Result<nn::Model> make_gossip_mlp(const Options::Model& options, const Shape& input, int64_t outputs) {
  NetworkBuilder net("gossip_mlp", options, input);
  constexpr double kInputShare = 0.4;  // the thesis drops 0.2 of the inputs and 0.5 of the hidden units
  net.pytorch_biases();                // its weights alone were drawn by He et al.'s rule
  net.flatten().dropout(kInputShare * options.dropout);
  for (const char* name : {"fc1", "fc2", "fc3"}) net.linear(name, 1024, kRelu).dropout(options.dropout);
  return net.linear("fc4", outputs).build(outputs);
}

Result<nn::Model> make_vgg16(const Options::Model& options, const Shape& input, int64_t outputs) {
  constexpr int kConvolutions[5] = {2, 2, 3, 3, 3};
  constexpr int64_t kWidths[5] = {64, 128, 256, 512, 512};
  NetworkBuilder net("vgg16", options, input);
  int place = 0;  // torchvision numbers convolution, batch norm, ReLU and pooling through
  for (int group = 0; group < 5; ++group) {
    for (int i = 0; i < kConvolutions[group]; ++i, place += 3)
      net.conv("features." + std::to_string(place), kWidths[group], 3, {.padding = 1})
          .batch_norm("features." + std::to_string(place + 1), kRelu);
    net.max_pool(2);
    ++place;
  }
  net.flatten().dropout(options.dropout).linear("classifier.1", 512, kRelu);
  net.dropout(options.dropout).linear("classifier.4", 512, kRelu);
  return net.linear("classifier.6", outputs).build(outputs);
}

}  // namespace sinew::train
