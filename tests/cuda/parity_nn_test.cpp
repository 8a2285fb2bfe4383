// Layers, losses, initialisers, batches and optimizers on the device against the CPU.
#include <array>

#include "nn/data/loader.h"
#include "tests/cuda/parity.h"
#include "tests/nn/every_layer.h"
#include "tests/optim/device_body.h"

namespace sinew::testing {
namespace {

Results results_of(Device device, const std::string& loss, nn::Precision precision) {
  nn::PassResults pass = nn::training_pass(device, loss, precision);
  Results results{std::move(pass.theta), std::move(pass.outputs), {pass.loss}};
  for (auto* parts : {&pass.gradients, &pass.hessian_products})
    results.insert(results.end(), parts->begin(), parts->end());
  return results;
}

// Where the terms of a gradient cancel, what is left is their rounding, on either device. That they do not is seen by
// f64: the CPU's own error is to be well below what the device may differ by.
CUDA_PARITY(CudaLayers, EveryLayerUnderEveryLoss) {
  const double tolerance = tolerance_of(DType::f32);
  for (const std::string& loss : nn::loss_names()) {
    SCOPED_TRACE(loss);
    const Results cpu = results_of(Device::cpu, loss, nn::Precision::f32);
    EXPECT_TRUE(close(cpu, results_of(Device::cpu, loss, nn::Precision::f64), tolerance / 3))
        << "That is f32 (\"on the device\") and f64 (\"on the CPU\") on one CPU: gradients of this network cancel.";
    EXPECT_TRUE(close(results_of(Device::cuda, loss, nn::Precision::f32), cpu, tolerance));
  }
}

// In units of the CPU's length: twenty layers may each round to the neighbour, 1/128, where sums were added in another
// order.
CUDA_PARITY(CudaLayers, EveryLayerInBf16) {
  const Results got = results_of(Device::cuda, "cross_entropy", nn::Precision::bf16),
                want = results_of(Device::cpu, "cross_entropy", nn::Precision::bf16);
  ASSERT_EQ(got.size(), want.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i)
    for (size_t j = 0; j < want[i].size(); ++j) {
      difference += std::pow(got[i][j] - want[i][j], 2);
      size += std::pow(want[i][j], 2);
    }
  EXPECT_LT(std::sqrt(difference / size), 20.0 / 128);
}

// Drawn on the CPU and copied: the same bits.
CUDA_PARITY(CudaLayers, EveryInitialiser) {
  const Shape shape{20, 30};
  for (const std::string& name : nn::initializer_names())
    for (DType dtype : {DType::f32, DType::f64}) {
      Vec cpu = Vec::zeros(shape.numel(), dtype), cuda = Vec::zeros(shape.numel(), dtype, Device::cuda);
      for (Vec* v : {&cpu, &cuda})
        initialize(nn::initializer_named(name), shape, RngKey{3, 1, 2, 0}, v->mutable_view());
      EXPECT_EQ(to_doubles(cpu.view()), to_doubles(cuda.view())) << name;
    }
}

CUDA_PARITY(CudaLoader, BatchesAreUploaded) {
  const nn::DatasetPtr data = nn::open_data({.name = "synthetic", .train_size = 40}).value().train;
  for (int prefetch : {0, 2}) {
    nn::LoaderOptions options{.batch = 7, .prefetch = prefetch};
    nn::Loader plain(data, options);
    options.device = Device::cuda;
    nn::Loader loader(data, options);
    for (int step = 0; step < 8; ++step) {
      const nn::Batch want = plain.next(), got = loader.next();
      ASSERT_EQ(got.inputs.device(), Device::cuda);
      EXPECT_EQ(got.inputs.to_vector<float>(), want.inputs.to_vector<float>());
      EXPECT_EQ(got.labels.to_vector<int64_t>(), want.labels.to_vector<int64_t>());
    }
  }
}

class CudaOptimizers : public ::testing::TestWithParam<std::string> {};

TEST_P(CudaOptimizers, StepAndStateEqualTheCpu) {
  SINEW_NEEDS_CUDA();
  optim::check_optimizer_on(Device::cuda, GetParam(), tolerance_of(DType::f32));
}

INSTANTIATE_TEST_SUITE_P(All, CudaOptimizers, ::testing::ValuesIn(optim::optimizer_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sinew::testing
