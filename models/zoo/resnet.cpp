// Residual networks. Names are torchvision's; those for CIFAR have three layers.
#include "models/zoo/builder.h"
#include "models/zoo/networks.h"

namespace sinew::train {
namespace {

constexpr Activation kRelu = Activation::relu;

// `count` blocks that make_block(in, stride) makes, the first with the stride and the others with 1.
template <class MakeBlock>
void add_layer(NetworkBuilder& net, const std::string& name, int count, int64_t out, int64_t stride, MakeBlock make) {
  auto layer = std::make_unique<nn::Sequential>();
  for (int i = 0; i < count; ++i) layer->add(make(i == 0 ? net.channels() : out, i == 0 ? stride : 1));
  net.add(name, std::move(layer), out, stride);
}

// He et al. 2016, section 4.2: 6 blocks + 2 layers, shortcuts without parameters (option A).
Result<nn::Model> cifar_resnet(const char* name, int blocks, const Options::Model& options, const Shape& input,
                               int64_t outputs) {
  NetworkBuilder net(name, options, input);
  net.conv("conv1", 16, 3, {.padding = 1, .bias = false}).batch_norm("bn1", kRelu);
  int64_t stride = 1;
  int number = 1;
  for (int64_t width : {16, 32, 64}) {
    add_layer(net, "layer" + std::to_string(number++), blocks, width, stride, [&](int64_t in, int64_t s) {
      return std::make_unique<nn::BasicBlock>(
          in, width, nn::ResidualOptions{.stride = s, .shortcut = nn::Shortcut::padding, .init = net.initializer()});
    });
    stride = 2;
  }
  return net.global_average().linear("fc", outputs).build(outputs);
}

// He et al. 2016, table 1.
template <class Block, int64_t kExpansion>
Result<nn::Model> imagenet_resnet(const char* name, const int (&blocks)[4], const Options::Model& options,
                                  const Shape& input, int64_t outputs) {
  NetworkBuilder net(name, options, input);
  net.conv("conv1", 64, 7, {.stride = 2, .padding = 3, .bias = false}).batch_norm("bn1", kRelu).max_pool(3, 2, 1);
  int64_t width = 64;
  for (int i = 0; i < 4; ++i, width *= 2)
    add_layer(net, "layer" + std::to_string(i + 1), blocks[i], kExpansion * width, i == 0 ? 1 : 2,
              [&](int64_t in, int64_t s) {
                return std::make_unique<Block>(in, width, nn::ResidualOptions{.stride = s, .init = net.initializer()});
              });
  return net.global_average().linear("fc", outputs).build(outputs);
}

nn::ModulePtr pre_activation(const NetworkBuilder& net, int64_t in, int64_t out, int64_t stride, double dropout = 0) {
  return std::make_unique<nn::PreActivationBlock>(
      in, out, nn::ResidualOptions{.stride = stride, .dropout = dropout, .init = net.initializer()});
}

}  // namespace

Result<nn::Model> make_resnet20(const Options::Model& options, const Shape& input, int64_t outputs) {
  return cifar_resnet("resnet20", 3, options, input, outputs);
}
Result<nn::Model> make_resnet32(const Options::Model& options, const Shape& input, int64_t outputs) {
  return cifar_resnet("resnet32", 5, options, input, outputs);
}
Result<nn::Model> make_resnet56(const Options::Model& options, const Shape& input, int64_t outputs) {
  return cifar_resnet("resnet56", 9, options, input, outputs);
}
Result<nn::Model> make_resnet18(const Options::Model& options, const Shape& input, int64_t outputs) {
  return imagenet_resnet<nn::BasicBlock, 1>("resnet18", {2, 2, 2, 2}, options, input, outputs);
}
Result<nn::Model> make_resnet50(const Options::Model& options, const Shape& input, int64_t outputs) {
  return imagenet_resnet<nn::Bottleneck, nn::Bottleneck::kExpansion>("resnet50", {3, 4, 6, 3}, options, input, outputs);
}

Result<nn::Model> make_preact_resnet18(const Options::Model& options, const Shape& input, int64_t outputs) {
  NetworkBuilder net("preact_resnet18", options, input);
  net.conv("conv1", 64, 3, {.padding = 1, .bias = false});
  int64_t width = 64;
  for (int i = 0; i < 4; ++i, width *= 2)
    add_layer(net, "layer" + std::to_string(i + 1), 2, width, i == 0 ? 1 : 2,
              [&](int64_t in, int64_t s) { return pre_activation(net, in, width, s); });
  return net.global_average().linear("fc", outputs).build(outputs);
}

Result<nn::Model> make_wrn28_10(const Options::Model& options, const Shape& input, int64_t outputs) {
  constexpr int kBlocks = (28 - 4) / 6;
  constexpr int64_t kWiden = 10;
  NetworkBuilder net("wrn28_10", options, input);
  net.conv("conv1", 16, 3, {.padding = 1, .bias = false});
  int number = 1;
  for (int64_t width : {16, 32, 64}) {
    add_layer(net, "layer" + std::to_string(number), kBlocks, kWiden * width, number == 1 ? 1 : 2,
              [&](int64_t in, int64_t s) { return pre_activation(net, in, kWiden * width, s, options.dropout); });
    ++number;
  }
  net.batch_norm("bn1", kRelu);
  return net.global_average().linear("fc", outputs).build(outputs);
}

}  // namespace sinew::train
