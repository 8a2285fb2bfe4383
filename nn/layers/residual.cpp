#include "nn/layers/residual.h"

#include "core/ops.h"

namespace sinew::nn {
namespace {

Conv2dOptions conv_options(int64_t stride, int64_t padding, const Initializer& init) {
  return {.stride = stride, .padding = padding, .bias = false, .init = init};
}
constexpr BatchNormOptions kRelu{.activation = Activation::relu};

void declare_child(Declarations& d, const char* name, Module& child) {
  d.scope(name, [&] { child.declare(d); });
}
void declare_projection(Declarations& d, Conv2d* conv, BatchNorm* norm) {
  if (!conv) return;
  declare_child(d, "downsample.0", *conv);
  declare_child(d, "downsample.1", *norm);
}

// Every stride-th pixel, zeros for the channels that x does not have.
Tensor pad_shortcut(const Tensor& x, int64_t stride, int64_t out) {
  Tensor y = x;
  if (stride > 1) y = slice_axis(slice_axis(y, 1, 0, y.dim(1), stride), 2, 0, y.dim(2), stride);
  const int64_t missing = out - x.dim(3);
  // Half of the new channels on each side, as in Facebook's and Yerlan Idelbayev's networks.
  return missing > 0 ? pad_axis(y, 3, missing / 2, missing - missing / 2) : y;
}

}  // namespace

BasicBlock::BasicBlock(int64_t in, int64_t out, const ResidualOptions& options)
    : out_(out),
      options_(options),
      conv1_(in, out, 3, conv_options(options.stride, 1, options.init)),
      conv2_(out, out, 3, conv_options(1, 1, options.init)),
      bn1_(out, kRelu),
      bn2_(out, kRelu) {
  if ((options.stride == 1 && in == out) || options.shortcut == Shortcut::padding) return;
  project_ = std::make_unique<Conv2d>(in, out, 1, conv_options(options.stride, 0, options.init));
  project_bn_ = std::make_unique<BatchNorm>(out);
}

void BasicBlock::declare(Declarations& d) {
  declare_child(d, "conv1", conv1_);
  declare_child(d, "bn1", bn1_);
  declare_child(d, "conv2", conv2_);
  declare_child(d, "bn2", bn2_);
  declare_projection(d, project_.get(), project_bn_.get());
}

Tensor BasicBlock::forward(const Tensor& x, const Pass& pass) const {
  const Tensor shortcut =
      project_ ? project_bn_->forward(project_->forward(x, pass), pass) : pad_shortcut(x, options_.stride, out_);
  const Tensor y = bn1_.forward(conv1_.forward(x, pass), pass);
  return bn2_.forward(conv2_.forward(y, pass), shortcut, pass);
}

Bottleneck::Bottleneck(int64_t in, int64_t width, const ResidualOptions& options)
    : conv1_(in, width, 1, conv_options(1, 0, options.init)),
      conv2_(width, width, 3, conv_options(options.stride, 1, options.init)),
      conv3_(width, kExpansion * width, 1, conv_options(1, 0, options.init)),
      bn1_(width, kRelu),
      bn2_(width, kRelu),
      bn3_(kExpansion * width, kRelu) {
  if (options.stride == 1 && in == kExpansion * width) return;
  project_ = std::make_unique<Conv2d>(in, kExpansion * width, 1, conv_options(options.stride, 0, options.init));
  project_bn_ = std::make_unique<BatchNorm>(kExpansion * width);
}

void Bottleneck::declare(Declarations& d) {
  declare_child(d, "conv1", conv1_);
  declare_child(d, "bn1", bn1_);
  declare_child(d, "conv2", conv2_);
  declare_child(d, "bn2", bn2_);
  declare_child(d, "conv3", conv3_);
  declare_child(d, "bn3", bn3_);
  declare_projection(d, project_.get(), project_bn_.get());
}

Tensor Bottleneck::forward(const Tensor& x, const Pass& pass) const {
  const Tensor shortcut = project_ ? project_bn_->forward(project_->forward(x, pass), pass) : x;
  Tensor y = bn1_.forward(conv1_.forward(x, pass), pass);
  y = bn2_.forward(conv2_.forward(y, pass), pass);
  return bn3_.forward(conv3_.forward(y, pass), shortcut, pass);
}

PreActivationBlock::PreActivationBlock(int64_t in, int64_t out, const ResidualOptions& options)
    : bn1_(in, kRelu),
      bn2_(out, kRelu),
      conv1_(in, out, 3, conv_options(options.stride, 1, options.init)),
      conv2_(out, out, 3, conv_options(1, 1, options.init)) {
  if (options.dropout > 0) dropout_ = std::make_unique<Dropout>(options.dropout);
  if (options.stride == 1 && in == out) return;
  project_ = std::make_unique<Conv2d>(in, out, 1, conv_options(options.stride, 0, options.init));
}

void PreActivationBlock::declare(Declarations& d) {
  declare_child(d, "bn1", bn1_);
  declare_child(d, "conv1", conv1_);
  declare_child(d, "bn2", bn2_);
  if (dropout_) declare_child(d, "dropout", *dropout_);
  declare_child(d, "conv2", conv2_);
  if (project_) declare_child(d, "shortcut", *project_);
}

Tensor PreActivationBlock::forward(const Tensor& x, const Pass& pass) const {
  const Tensor active = bn1_.forward(x, pass);
  const Tensor shortcut = project_ ? project_->forward(active, pass) : x;
  Tensor y = bn2_.forward(conv1_.forward(active, pass), pass);
  if (dropout_) y = dropout_->forward(y, pass);
  return conv2_.forward(y, pass) + shortcut;
}

}  // namespace sinew::nn
