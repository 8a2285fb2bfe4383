// A network of every layer and what one training pass of it gives, to compare devices.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/autograd.h"
#include "core/ops.h"
#include "nn/layers.h"
#include "nn/loss.h"
#include "tests/nn/module_fixture.h"

namespace sinew::nn {

inline Tensor values_on(Device device) {
  std::vector<float> values(4 * 12);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * static_cast<float>(i % 17) - 0.7f;
  return Tensor::from_vector(values, {4, 2, 3, 2}, device);
}

// Five channels: the largest of two sums over a channel's pixels may be small against their terms where a layer behind
// takes the mean away, and the terms' rounding is then large against it.
inline Model every_layer() {
  constexpr int64_t kChannels = 5;
  auto net = std::make_unique<Sequential>();
  net->add(std::make_unique<Conv2d>(2, kChannels, 3, Conv2dOptions{.padding = 1, .activation = Activation::relu}));
  net->add(std::make_unique<BatchNorm>(kChannels)).add(std::make_unique<BasicBlock>(kChannels, kChannels));
  net->add(std::make_unique<LayerNorm>(Shape{2, 3, kChannels}));
  net->add(std::make_unique<MaxPool2d>(PoolOptions{3, 1, 1})).add(std::make_unique<AvgPool2d>(PoolOptions{3, 1, 1}));
  net->add(std::make_unique<Flatten>()).add(std::make_unique<Linear>(2 * 3 * kChannels, 12));
  for (const std::string& name : activation_names())
    net->add(std::make_unique<Linear>(12, 12, LinearOptions{.activation = activation_named(name)}));
  net->add(std::make_unique<ReLU>()).add(std::make_unique<Tanh>()).add(std::make_unique<Sigmoid>());
  net->add(std::make_unique<Dropout>(0.2)).add(std::make_unique<Linear>(12, 3, LinearOptions{.bias = false}));
  return Model("every layer", std::move(net), {2, 3, 2}, 3);
}

enum class Precision { bf16, f32, f64 };  // of parameters and data; bf16: of activations, the rest in f32

struct PassResults {
  std::vector<double> theta;  // with the running statistics that the pass left
  std::vector<double> outputs;
  double loss;
  std::vector<std::vector<double>> gradients;
  std::vector<std::vector<double>> hessian_products;  // with a vector of 1 and -1; of bf16 passes none
};
// The parameters and the data are the same numbers in every precision.
inline PassResults training_pass(Device device, const std::string& loss_name, Precision precision = Precision::f32) {
  const DType dtype = precision == Precision::f64 ? DType::f64 : DType::f32;
  const bool bf16 = precision == Precision::bf16;
  Model model = every_layer();
  Vec theta = model.initialize(10, DType::f32, device);
  if (dtype == DType::f64) {
    const std::vector<double> values = to_doubles(theta.view());
    theta = Vec::empty(theta.size(), dtype, device);
    upload(values.data(), theta.mutable_view());
  }
  Parameters parameters = model.parameters(theta);
  Tensor labels = Tensor::from_vector<int64_t>({0, 2, 1, 2}, {4}, device);
  Buffers buffers = model.buffers(theta);
  Tensor outputs =
      model.forward(cast(values_on(device), dtype),
                    {.parameters = parameters, .training = true, .step = 7, .buffers = &buffers, .bf16 = bf16});
  Tensor loss = loss_named(loss_name)(outputs, labels);
  PassResults r{to_doubles(theta.view()), to_doubles(outputs.view()), to_doubles(loss.view()).at(0), {}, {}};
  const std::vector<Tensor> gradients = grad({loss}, parameters.all(), {}, {.create_graph = !bf16});
  for (const Tensor& g : gradients) r.gradients.push_back(to_doubles(g.view()));
  if (bf16) return r;
  std::vector<Tensor> z;
  for (const Tensor& g : gradients) {
    std::vector<float> signs(static_cast<size_t>(g.numel()));
    for (size_t i = 0; i < signs.size(); ++i) signs[i] = (i * 7 + z.size() * 3) % 5 < 2 ? -1.0f : 1.0f;
    z.push_back(cast(Tensor::from_vector(signs, g.shape(), device), dtype));
  }
  for (const Tensor& h : grad(gradients, parameters.all(), z)) r.hessian_products.push_back(to_doubles(h.view()));
  return r;
}

}  // namespace sinew::nn
