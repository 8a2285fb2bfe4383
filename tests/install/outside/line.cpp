// Fits y = w x + b to points of y = 3 x - 1 by gradient descent, with nothing but an installed sinew::core.
#include <cmath>
#include <cstdio>
#include <vector>

#include "core/autograd.h"
#include "core/ops.h"
#include "core/tensor.h"

int main() {
  using namespace sinew;
  std::vector<float> xs, ys;
  for (int i = 0; i < 16; ++i) {
    xs.push_back(static_cast<float>(i) / 8 - 1);
    ys.push_back(3 * xs.back() - 1);
  }
  const Tensor x = Tensor::from_vector(xs, {16, 1}), y = Tensor::from_vector(ys, {16, 1});
  float w = 0, b = 0, loss = 0;
  for (int step = 0; step < 200; ++step) {
    Tensor tw = Tensor::from_vector<float>({w}, {1, 1}), tb = Tensor::from_vector<float>({b}, {1});
    tw.set_requires_grad();
    tb.set_requires_grad();
    const Tensor error = mse(linear(x, tw, tb), y);
    const std::vector<Tensor> gradient = grad({error}, std::vector<Tensor>{tw, tb});
    w -= 0.5f * gradient[0].item<float>();
    b -= 0.5f * gradient[1].item<float>();
    loss = error.item<float>();
  }
  std::printf("w %.4f b %.4f loss %.2e\n", w, b, loss);
  return std::fabs(w - 3) < 1e-3f && std::fabs(b + 1) < 1e-3f ? 0 : 1;
}
