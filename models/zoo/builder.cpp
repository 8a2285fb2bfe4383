#include "models/zoo/builder.h"

#include <utility>

namespace sinew::train {

NetworkBuilder::NetworkBuilder(std::string model, const Options::Model& options, const Shape& input)
    : model_(std::move(model)),
      input_(input),
      shape_(input),
      init_(nn::initializer_named(options.init)),
      net_(std::make_unique<nn::Sequential>()) {}

NetworkBuilder& NetworkBuilder::bias(double value) {
  bias_ = {nn::Initializer::Kind::constant, value};
  return *this;
}

NetworkBuilder& NetworkBuilder::pytorch_biases() {
  bias_ = {nn::Initializer::Kind::pytorch_default};
  return *this;
}

std::optional<nn::Initializer> NetworkBuilder::bias_of(int64_t fan_in) const {
  std::optional<nn::Initializer> init = bias_;
  if (init) init->fan_in = fan_in;
  return init;
}

NetworkBuilder& NetworkBuilder::init(const nn::Initializer& weights) {
  init_ = weights;
  return *this;
}

bool NetworkBuilder::fits(int64_t ndim, const char* layer) {
  if (!status_.ok()) return false;
  bool good = shape_.ndim() == ndim;
  for (int64_t extent : shape_.dims()) good = good && extent > 0;
  if (!good)
    status_ = make_status(
        StatusCode::invalid_argument, "model.name = ", model_, ": samples of shape ", input_,
        ndim == 3 ? " are not images (H, W, C) that are large enough for its " : " do not come as a vector to its ",
        layer, " layers; choose another model or data set");
  return good;
}

void NetworkBuilder::shrink(int64_t kernel, int64_t stride, int64_t padding) {
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t room = shape_[axis] + 2 * padding - kernel;
    shape_.set(axis, room < 0 ? 0 : room / stride + 1);
  }
}

NetworkBuilder& NetworkBuilder::conv(const std::string& name, int64_t out, int64_t kernel, nn::Conv2dOptions options) {
  if (!fits(3, "convolution")) return *this;
  options.init = init_;
  options.bias_init = bias_of(channels() * kernel * kernel);
  net_->add(std::make_unique<nn::Conv2d>(channels(), out, kernel, options), name);
  shrink(kernel, options.stride.h, options.padding.h);
  shape_.set(2, out);
  return *this;
}

NetworkBuilder& NetworkBuilder::batch_norm(const std::string& name, Activation activation) {
  if (!fits(3, "convolution")) return *this;
  net_->add(std::make_unique<nn::BatchNorm>(channels(), nn::BatchNormOptions{.activation = activation}), name);
  return *this;
}

NetworkBuilder& NetworkBuilder::max_pool(int64_t kernel, int64_t stride, int64_t padding) {
  if (!fits(3, "pooling")) return *this;
  if (stride == 0) stride = kernel;
  net_->add(std::make_unique<nn::MaxPool2d>(sinew::PoolOptions{kernel, stride, padding}),
            "pool" + std::to_string(++unnamed_));
  shrink(kernel, stride, padding);
  return *this;
}

NetworkBuilder& NetworkBuilder::global_average() {
  if (!fits(3, "pooling")) return *this;
  net_->add(std::make_unique<nn::GlobalAvgPool>(), "avgpool");
  shape_ = {channels()};
  return *this;
}

NetworkBuilder& NetworkBuilder::flatten() {
  if (!status_.ok()) return *this;
  net_->add(std::make_unique<nn::Flatten>(), "flatten");
  if (shape_.ndim() == 3) flattened_ = shape_;
  shape_ = {shape_.numel()};
  return *this;
}

NetworkBuilder& NetworkBuilder::linear(const std::string& name, int64_t out, Activation activation) {
  if (!fits(1, "fully connected")) return *this;
  const nn::LinearOptions options{.activation = activation,
                                  .init = init_,
                                  .bias_init = bias_of(shape_[0]),
                                  .flattened = std::exchange(flattened_, Shape())};
  net_->add(std::make_unique<nn::Linear>(shape_[0], out, options), name);
  shape_ = {out};
  return *this;
}

NetworkBuilder& NetworkBuilder::dropout(double rate) {
  if (rate > 0 && status_.ok()) net_->add(std::make_unique<nn::Dropout>(rate), "drop" + std::to_string(++unnamed_));
  return *this;
}

NetworkBuilder& NetworkBuilder::add(const std::string& name, nn::ModulePtr module, int64_t channels, int64_t stride) {
  if (!fits(3, "convolution")) return *this;
  net_->add(std::move(module), name);
  for (int axis = 0; axis < 2; ++axis) shape_.set(axis, (shape_[axis] + stride - 1) / stride);
  shape_.set(2, channels);
  return *this;
}

Result<nn::Model> NetworkBuilder::build(int64_t outputs) {
  if (!status_.ok()) return status_;
  return nn::Model(model_, std::move(net_), input_, outputs);
}

}  // namespace sinew::train
