// The op table on the device: forward, gradient and Hessian-vector product of every row equal the CPU's.
#include "core/autograd.h"
#include "core/ops.h"
#include "tests/core/op_table.h"
#include "tests/cuda/parity.h"

namespace sinew::testing {
namespace {

// Not along ones: there the second derivative of softmax and its kin vanishes, and rounding would be compared.
Tensor direction(const Shape& shape, DType dtype, Device device) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * 37 % 17) / 8 - 1;
  return cast(Tensor::from_vector(values, shape, device), dtype);
}

// y, the gradient of sum(y^2) and its derivative along a direction.
Results all_derivatives(const OpRow& row, DType dtype, Device device) {
  std::vector<Tensor> x, inputs;
  for (Tensor t : op_inputs(row, dtype, Device::cpu)) {
    std::vector<std::byte> bytes(t.bytes());
    t.read(bytes.data());
    x.push_back(Tensor::from_host(bytes.data(), t.shape(), t.dtype(), device));
    if (is_float(t.dtype())) inputs.push_back(x.back().set_requires_grad());
  }
  const Tensor y = row.f(x);
  Results results{values(y)};
  const std::vector<Tensor> g = grad({sum(square(y))}, inputs, {}, {.create_graph = true});
  std::vector<Tensor> on_graph, along;
  for (const Tensor& t : g) {
    results.push_back(values(t));
    if (t.requires_grad()) on_graph.push_back(t), along.push_back(direction(t.shape(), t.dtype(), device));
  }
  for (const Tensor& h : grad(on_graph, inputs, along)) results.push_back(values(h));
  return results;
}

class CudaOps : public ::testing::TestWithParam<size_t> {};

TEST_P(CudaOps, ForwardGradientAndHvEqualTheCpu) {
  const OpRow& row = op_table()[GetParam()];
  SINEW_NEEDS_CUDA();
  // The squares of normalised values add up to nearly the same whatever the input: terms of about 0.1 cancel.
  const double floor = row.name == "batch_norm" ? 0.1 : 0;
  for (DType dtype : {DType::f32, DType::f64})
    EXPECT_TRUE(close(all_derivatives(row, dtype, Device::cuda), all_derivatives(row, dtype, Device::cpu),
                      tolerance_of(dtype), floor))
        << to_string(dtype);
}

// Rows are up to three ops, each of which may round to the neighbour where sums were added in another order: three
// steps of 1/128.
TEST_P(CudaOps, Bf16EqualsTheCpu) {
  const OpRow& row = op_table()[GetParam()];
  SINEW_NEEDS_CUDA();
  const std::optional<std::vector<DType>> types = bf16_types(row);
  if (!types) return;
  const auto value_and_gradient = [&](Device device) {
    std::vector<Tensor> x, floats;
    for (Tensor t : op_inputs(row, *types, Device::cpu)) {
      std::vector<std::byte> bytes(t.bytes());
      t.read(bytes.data());
      x.push_back(Tensor::from_host(bytes.data(), t.shape(), t.dtype(), device));
      if (is_float_or_bf16(t.dtype())) floats.push_back(x.back().set_requires_grad());
    }
    const Tensor y = row.f(x);
    Results results{values(y)};
    for (const Tensor& g : grad({sum(y)}, floats)) results.push_back(values(g));
    return results;
  };
  EXPECT_TRUE(close(value_and_gradient(Device::cuda), value_and_gradient(Device::cpu), 3.0 / 128));
}

INSTANTIATE_TEST_SUITE_P(Ops, CudaOps, ::testing::Range<size_t>(0, op_table().size()),
                         [](const auto& info) { return op_table()[info.param].name; });

}  // namespace
}  // namespace sinew::testing
