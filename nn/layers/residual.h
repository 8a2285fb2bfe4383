// Residual blocks: He et al. 2016 (arXiv:1512.03385) with batch norm and ReLU after the convolutions, and their
// pre-activation form (arXiv:1603.05027). x (n, h, w, in) -> (n, h / stride, w / stride, out). Parameter names are
// torchvision's: conv1, bn1, conv2, bn2, (conv3, bn3), downsample.0 and downsample.1.
//
// Shortcut where shapes change: a 1x1 convolution with batch norm (option B), or every stride-th pixel with zeros for
// the new channels (option A, without parameters).
#pragma once

#include <memory>

#include "nn/layers/batch_norm.h"
#include "nn/layers/conv2d.h"
#include "nn/layers/dropout.h"

namespace sinew::nn {

enum class Shortcut { projection, padding };

struct ResidualOptions {
  int64_t stride = 1;
  Shortcut shortcut = Shortcut::projection;
  double dropout = 0;  // PreActivationBlock: rate before the second convolution
  Initializer init = {.kind = Initializer::Kind::pytorch_default};  // of the convolutions
};

// conv 3x3, bn, relu, conv 3x3, bn, + shortcut, relu.
class BasicBlock : public Module {
 public:
  BasicBlock(int64_t in, int64_t out, const ResidualOptions& options = {});
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  int64_t out_;
  ResidualOptions options_;
  Conv2d conv1_, conv2_;
  BatchNorm bn1_, bn2_;
  std::unique_ptr<Conv2d> project_;  // null: identity, or option A
  std::unique_ptr<BatchNorm> project_bn_;
};

// conv 1x1 to `width`, conv 3x3 with the stride (torchvision's place for it), conv 1x1 to 4 width, each with bn.
class Bottleneck : public Module {
 public:
  static constexpr int64_t kExpansion = 4;
  Bottleneck(int64_t in, int64_t width, const ResidualOptions& options = {});
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  Conv2d conv1_, conv2_, conv3_;
  BatchNorm bn1_, bn2_, bn3_;
  std::unique_ptr<Conv2d> project_;
  std::unique_ptr<BatchNorm> project_bn_;
};

// bn, relu, conv 3x3, bn, relu, conv 3x3, + shortcut. Where shapes change, the shortcut is a 1x1 convolution of the
// activated input ("shortcut.weight", no batch norm). Wide residual networks (arXiv:1605.07146) are made of these, with
// dropout between the convolutions.
class PreActivationBlock : public Module {
 public:
  PreActivationBlock(int64_t in, int64_t out, const ResidualOptions& options = {});
  void declare(Declarations& declarations) override;
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  BatchNorm bn1_, bn2_;
  Conv2d conv1_, conv2_;
  std::unique_ptr<Dropout> dropout_;
  std::unique_ptr<Conv2d> project_;
};

}  // namespace sinew::nn
