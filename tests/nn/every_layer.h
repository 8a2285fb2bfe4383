// A network of every layer and what one training pass of it gives, to compare devices.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/autograd.h"
#include "nn/layers.h"
#include "nn/loss.h"
#include "tests/nn/module_fixture.h"

namespace sinew::nn {

inline Tensor values_on(Device device) {
  std::vector<float> values(4 * 12);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * static_cast<float>(i % 17) - 0.7f;
  return Tensor::from_vector(values, {4, 2, 3, 2}, device);
}

inline Model every_layer() {
  auto net = std::make_unique<Sequential>();
  net->add(std::make_unique<Conv2d>(2, 2, 3, Conv2dOptions{.padding = 1, .activation = Activation::relu}));
  net->add(std::make_unique<BatchNorm>(2)).add(std::make_unique<BasicBlock>(2, 2));
  net->add(std::make_unique<LayerNorm>(Shape{2, 3, 2}));
  net->add(std::make_unique<MaxPool2d>(PoolOptions{3, 1, 1})).add(std::make_unique<AvgPool2d>(PoolOptions{3, 1, 1}));
  net->add(std::make_unique<Flatten>());
  for (const std::string& name : activation_names())
    net->add(std::make_unique<Linear>(12, 12, LinearOptions{.activation = activation_named(name)}));
  net->add(std::make_unique<ReLU>()).add(std::make_unique<Tanh>()).add(std::make_unique<Sigmoid>());
  net->add(std::make_unique<Dropout>(0.2)).add(std::make_unique<Linear>(12, 3, LinearOptions{.bias = false}));
  return Model("every layer", std::move(net), {2, 3, 2}, 3);
}

struct PassResults {
  std::vector<double> theta;  // with the running statistics that the pass left
  std::vector<float> outputs;
  float loss;
  std::vector<std::vector<float>> gradients;
  std::vector<std::vector<float>> hessian_products;  // with a vector of 1 and -1; of bf16 passes none
};
inline PassResults training_pass(Device device, const std::string& loss_name, bool bf16 = false) {
  Model model = every_layer();
  Vec theta = model.initialize(5, DType::f32, device);
  Parameters parameters = model.parameters(theta);
  Tensor labels = Tensor::from_vector<int64_t>({0, 2, 1, 2}, {4}, device);
  Buffers buffers = model.buffers(theta);
  Tensor outputs = model.forward(
      values_on(device), {.parameters = parameters, .training = true, .step = 7, .buffers = &buffers, .bf16 = bf16});
  Tensor loss = loss_named(loss_name)(outputs, labels);
  PassResults r{to_doubles(theta.view()), outputs.to_vector<float>(), loss.item<float>(), {}};
  const std::vector<Tensor> gradients = grad({loss}, parameters.all(), {}, {.create_graph = !bf16});
  for (const Tensor& g : gradients) r.gradients.push_back(g.to_vector<float>());
  if (bf16) return r;
  std::vector<Tensor> z;
  for (const Tensor& g : gradients) {
    std::vector<float> signs(static_cast<size_t>(g.numel()));
    for (size_t i = 0; i < signs.size(); ++i) signs[i] = (i * 7 + z.size() * 3) % 5 < 2 ? -1.0f : 1.0f;
    z.push_back(Tensor::from_vector(signs, g.shape(), device));
  }
  for (const Tensor& h : grad(gradients, parameters.all(), z)) r.hessian_products.push_back(h.to_vector<float>());
  return r;
}

}  // namespace sinew::nn
