// Pooling of (n, h, w, c) by maximum or average, PyTorch's MaxPool2d and AvgPool2d without ceil_mode (sizes and
// padding: core/ops.h), and the average over the whole map, (n, h, w, c) -> (n, c). No parameters.
//
// Example: MaxPool2d({.kernel = 2, .stride = 2}) halves an image.
#pragma once

#include "core/ops.h"
#include "nn/module.h"

namespace sinew::nn {

class MaxPool2d : public Module {
 public:
  explicit MaxPool2d(const PoolOptions& options) : options_(options) {}
  void declare(Declarations&) override {}
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  PoolOptions options_;
};

class AvgPool2d : public Module {
 public:
  explicit AvgPool2d(const PoolOptions& options) : options_(options) {}
  void declare(Declarations&) override {}
  Tensor forward(const Tensor& x, const Pass& pass) const override;

 private:
  PoolOptions options_;
};

class GlobalAvgPool : public Module {
 public:
  void declare(Declarations&) override {}
  Tensor forward(const Tensor& x, const Pass& pass) const override;
};

}  // namespace sinew::nn
