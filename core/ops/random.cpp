// Dropout and random tensors, by counter.
#include "core/ops/common.h"

namespace sinew {

Tensor dropout(const Tensor& x, double rate, const RngKey& key) {
  ops::check_float_or_bf16("dropout", x);
  SINEW_CHECK(rate >= 0 && rate < 1, "dropout", "rate ", rate, " is not in [0, 1)");
  Tensor y = ops::like(x);
  if (x.numel()) kernels(x.device()).dropout({x.dtype(), x.numel(), 1 - rate, key, x.data(), y.data()});
  return record(y, {x}, "dropout", [rate, key](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = dropout(ctx.cotangent, rate, key);
  });
}

namespace {
Tensor random(RandomDist dist, const Shape& shape, const RngKey& key, DType dtype, Device device, double p0,
              double p1) {
  SINEW_CHECK(is_float(dtype), "random", "needs f32 or f64, got ", to_string(dtype));
  Tensor y = Tensor::empty(shape, dtype, device);
  if (y.numel()) kernels(device).random({dist, dtype, y.numel(), key, y.data(), p0, p1});
  return y;
}
}  // namespace

Tensor random_uniform(const Shape& shape, double low, double high, const RngKey& key, DType dtype, Device device) {
  return random(RandomDist::uniform, shape, key, dtype, device, low, high);
}
Tensor random_normal(const Shape& shape, double mean, double stddev, const RngKey& key, DType dtype, Device device) {
  return random(RandomDist::normal, shape, key, dtype, device, mean, stddev);
}
Tensor random_rademacher(const Shape& shape, const RngKey& key, DType dtype, Device device) {
  return random(RandomDist::rademacher, shape, key, dtype, device, 0, 0);
}

}  // namespace sinew
