#include "models/zoo/zoo.h"

#include "models/zoo/mlp.h"
#include "models/zoo/networks.h"

namespace sinew::train {
namespace {

Result<nn::Model> make_mlp_of(const Options::Model& options, const Shape& input, int64_t outputs) {
  MlpOptions mlp{.input = input,
                 .hidden = options.hidden,
                 .outputs = outputs,
                 .activation = options.activation,
                 .init = options.init,
                 .dropout = options.dropout};
  SINEW_RETURN_IF_ERROR(validate(mlp));
  return make_mlp(mlp);
}

struct Entry {
  const char* name;
  const char* about;
  Result<nn::Model> (*make)(const Options::Model&, const Shape& input, int64_t outputs);
  double dropout = 0;
  const char* init = "pytorch_default";
};
constexpr const char* kHe = "kaiming_normal";
constexpr Entry kZoo[] = {
    {"mlp", "fully connected layers of the widths in model.hidden", make_mlp_of},
    {"gossip_mlp", "three hidden layers of 1024 with dropout (Elastic Gossip thesis)", make_gossip_mlp, 0.5, kHe},
    {"lenet", "two 5x5 convolutions, 512 hidden units", make_lenet},
    {"cnn_mnist", "two 3x3 convolutions, 128 hidden units (dynamic weighting)", make_cnn_mnist},
    {"easgd_cifar", "7 layers, for 28x28 crops (EASGD, LSGD)", make_easgd_cifar, 0.5},
    {"easgd_imagenet", "11 layers, for 221x221 crops (EASGD)", make_easgd_imagenet, 0.5},
    {"resnet20", "residual network for CIFAR, 20 layers", make_resnet20, 0, kHe},
    {"resnet32", "residual network for CIFAR, 32 layers", make_resnet32, 0, kHe},
    {"resnet56", "residual network for CIFAR, 56 layers", make_resnet56, 0, kHe},
    {"resnet18", "residual network for ImageNet, 18 layers", make_resnet18, 0, kHe},
    {"resnet50", "residual network for ImageNet, 50 layers", make_resnet50, 0, kHe},
    {"preact_resnet18", "pre-activation residual network for CIFAR (Elastic Gossip thesis)", make_preact_resnet18},
    {"vgg16", "VGG-16 with batch norm for 32x32 images", make_vgg16, 0.5},
    {"wrn28_10", "wide residual network, 28 layers, 10 times as wide", make_wrn28_10, 0, kHe},
};
const Entry* find(const std::string& name) {
  for (const Entry& entry : kZoo)
    if (name == entry.name) return &entry;
  return nullptr;
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kZoo) names.emplace_back(entry.name);
  return names;
}

std::string describe_model(const std::string& name) {
  const Entry* entry = find(name);
  return entry ? entry->about : "";
}

double default_dropout(const std::string& name) {
  const Entry* entry = find(name);
  return entry ? entry->dropout : 0;
}

std::string default_init(const std::string& name) {
  const Entry* entry = find(name);
  return entry ? entry->init : "pytorch_default";
}

Result<nn::Model> make_model(const Options::Model& options, const Shape& input, int64_t outputs) {
  if (const Entry* entry = find(options.name)) return entry->make(options, input, outputs);
  return make_status(StatusCode::invalid_argument, "model.name: there is no model '", options.name, "'",
                     did_you_mean(options.name, model_names(), "`sinew list` shows all"));
}

}  // namespace sinew::train
