#include "nn/layers/pool.h"

namespace sinew::nn {

Tensor MaxPool2d::forward(const Tensor& x, const Pass&) const { return max_pool2d(x, options_); }

Tensor AvgPool2d::forward(const Tensor& x, const Pass&) const { return avg_pool2d(x, options_); }

Tensor GlobalAvgPool::forward(const Tensor& x, const Pass&) const {
  SINEW_CHECK(x.ndim() == 4, "global_avg_pool", "of shape ", x.shape(), "; needs (n, h, w, c)");
  return mean(x, {1, 2});
}

}  // namespace sinew::nn
