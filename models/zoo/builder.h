// Builds a network layer by layer while following the shape of a sample, so that sizes come from the data and an image
// that is too small is one clear line.
//
// Example (the start of lenet):
//   NetworkBuilder net("lenet", options, input);
//   net.conv("conv1", 32, 5, {.padding = 2, .activation = Activation::relu}).max_pool(2).flatten();
//   return net.linear("fc2", outputs).build(outputs);
#pragma once

#include <memory>
#include <string>

#include "models/options.h"
#include "nn/layers.h"

namespace sinew::train {

class NetworkBuilder {
 public:
  // Weights start by options.init; biases as nn::Linear and nn::Conv2d say, or at `bias` when it is given, or, with
  // pytorch_biases, as PyTorch's, whatever the weights.
  NetworkBuilder(std::string model, const Options::Model& options, const Shape& input);
  NetworkBuilder& bias(double value);
  NetworkBuilder& pytorch_biases();
  // Filters in place of options.init, for networks that have their own.
  NetworkBuilder& init(const nn::Initializer& weights);

  NetworkBuilder& conv(const std::string& name, int64_t out, int64_t kernel, nn::Conv2dOptions options = {});
  NetworkBuilder& batch_norm(const std::string& name, Activation activation);
  NetworkBuilder& max_pool(int64_t kernel, int64_t stride = 0, int64_t padding = 0);  // stride 0: the kernel's size
  NetworkBuilder& global_average();
  NetworkBuilder& flatten();
  NetworkBuilder& linear(const std::string& name, int64_t out, Activation activation = Activation::none);
  NetworkBuilder& dropout(double rate);  // none at rate 0
  // A module that makes `channels` of the sample's channels and divides its height and width by `stride`, rounding up.
  NetworkBuilder& add(const std::string& name, nn::ModulePtr module, int64_t channels, int64_t stride);

  int64_t channels() const { return shape_.dim(-1); }
  const nn::Initializer& initializer() const { return init_; }
  // invalid_argument when the input did not fit.
  Result<nn::Model> build(int64_t outputs);

 private:
  bool fits(int64_t ndim, const char* layer);
  void shrink(int64_t kernel, int64_t stride, int64_t padding);
  std::optional<nn::Initializer> bias_of(int64_t fan_in) const;  // of a layer

  std::string model_;
  Shape input_, shape_;
  Shape flattened_;  // the map that the last flatten() saw; empty once a linear layer used it
  nn::Initializer init_;
  std::optional<nn::Initializer> bias_;
  std::unique_ptr<nn::Sequential> net_;
  int unnamed_ = 0;
  Status status_;
};

}  // namespace sinew::train
