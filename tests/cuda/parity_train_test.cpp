// Whole networks trained by the trainer on the device: every step's loss equals the CPU's.
#if SINEW_HAVE_TRAIN
#include "dist/solo_world.h"
#include "models/evaluate.h"
#include "models/recalibrate.h"
#include "models/trainer.h"
#include "models/weights_file.h"
#include "models/zoo/builder.h"
#include "models/zoo/zoo.h"
#include "tests/cuda/parity.h"

namespace sinew::testing {
namespace {

// Digits of 12 x 12, so that a step is some million multiply-adds.
const nn::DataSplit& digits() {
  static const nn::DataSplit data =
      nn::open_data({.name = "synthetic", .train_size = 40, .image = {.resize = 12}}).value();
  return data;
}

nn::Model small_resnet() {
  train::Options::Model options;
  options.init = train::default_init("resnet20");
  train::NetworkBuilder net("small_resnet", options, digits().train->sample_shape());
  net.conv("conv1", 8, 3, {.padding = 1, .bias = false}).batch_norm("bn1", Activation::relu);
  int64_t in = 8;
  for (int64_t out : {8, 16}) {
    const nn::ResidualOptions block{.stride = out / in, .init = net.initializer()};
    net.add("layer" + std::to_string(out / 8), std::make_unique<nn::BasicBlock>(in, out, block), out, out / in);
    in = out;
  }
  return net.global_average().linear("fc", 10).build(10).value();
}

nn::Model zoo(const std::string& name, std::vector<int64_t> hidden = {}) {
  train::Options::Model options;
  options.name = name, options.hidden = std::move(hidden);
  options.init = train::default_init(name), options.dropout = train::default_dropout(name);
  return train::make_model(options, digits().train->sample_shape(), 10).value();
}

struct Trained {
  std::vector<double> losses;
  double test_loss = 0;
  Vec theta;
};

Trained train_on(Device device, const nn::Model& model, const optim::OptimizerOptions& options, int64_t steps,
                 bool bf16 = false) {
  Trained result;
  nn::Loader loader(digits().train, {.batch = 4, .prefetch = 2, .device = device});
  const auto optimizer = optim::make_optimizer(options);
  const auto world = dist::make_solo_world();
  Vec theta = model.initialize(3, DType::f32, device);
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), theta.dtype(), device);
  train::Trainer trainer(model, loader, *optimizer, *scheme, *world, std::move(theta));
  const Status status =
      trainer.run({.steps = steps, .bf16 = bf16, .skip_nonfinite = true, .on_step = [&](const auto& report) {
                     result.losses.push_back(report.loss);
                     return Status::Ok();
                   }});
  SINEW_CHECK(status.ok(), "test", status.message());
  result.theta = trainer.evaluation_point().value();
  std::vector<int64_t> some(100);
  for (size_t i = 0; i < some.size(); ++i) some[i] = static_cast<int64_t>(i);
  result.test_loss = train::evaluate(model, result.theta, *digits().test, some).loss;
  return result;
}

void expect_equal_training(const nn::Model& model, const optim::OptimizerOptions& optimizer, int64_t steps,
                           double tolerance = 1e-5) {
  const Trained want = train_on(Device::cpu, model, optimizer, steps);
  const Trained got = train_on(Device::cuda, model, optimizer, steps);
  ASSERT_EQ(got.losses.size(), static_cast<size_t>(steps));
  for (size_t i = 0; i < got.losses.size(); ++i)
    EXPECT_NEAR(got.losses[i], want.losses[i], tolerance * want.losses[i]) << "step " << i;
  EXPECT_NEAR(got.test_loss, want.test_loss, 1e-4 * want.test_loss);
  EXPECT_LT(want.losses.back(), want.losses.front());
}

CUDA_PARITY(CudaTraining, Mlp) { expect_equal_training(zoo("mlp", {24}), {.name = "momentum", .lr = 0.01}, 20); }
CUDA_PARITY(CudaTraining, LeNet) { expect_equal_training(zoo("lenet"), {.name = "momentum", .lr = 0.02}, 20); }
CUDA_PARITY(CudaTraining, SmallResNet) { expect_equal_training(small_resnet(), {.name = "momentum", .lr = 0.02}, 20); }
// Its first steps divide a momentum by a diagonal of the same batch: small elements of that magnify rounding.
CUDA_PARITY(CudaTraining, SmallResNetWithAdaHessian) {
  expect_equal_training(small_resnet(), {.name = "adahessian", .lr = 0.01, .hessian_every = 2}, 4, 1e-4);
}

// Close, not equal: a step's sums are f32's in another order, some of them rounded to the neighbour in bf16, 1/128 of
// the value.
CUDA_PARITY(CudaTraining, SmallResNetInBf16) {
  const optim::OptimizerOptions sgd{.name = "sgd", .lr = 0.02};
  const Trained want = train_on(Device::cpu, small_resnet(), sgd, 3, true),
                f32 = train_on(Device::cpu, small_resnet(), sgd, 3);
  const Trained got = train_on(Device::cuda, small_resnet(), sgd, 3, true);
  ASSERT_EQ(got.losses.size(), want.losses.size());
  for (size_t i = 0; i < got.losses.size(); ++i)
    EXPECT_NEAR(got.losses[i], want.losses[i], want.losses[i] / 128) << "step " << i;
  EXPECT_NE(got.losses, f32.losses);
  EXPECT_EQ(got.theta.dtype(), DType::f32);
}

CUDA_PARITY(CudaTraining, WeightsFilesAndRecalibration) {
  const nn::Model model = small_resnet();
  Vec theta = model.initialize(3, DType::f32, Device::cuda), host = model.initialize(3);
  train::recalibrate(model, theta, *digits().train, 6, 3);
  train::recalibrate(model, host, *digits().train, 6, 3);
  EXPECT_TRUE(close(to_doubles(theta.view()), to_doubles(host.view()), tolerance_of(DType::f32)));
  const std::string path = ::testing::TempDir() + "sinew_cuda_weights.safetensors";
  ASSERT_TRUE(train::save_weights(path, model, theta.view()).ok());
  for (Device device : {Device::cpu, Device::cuda}) {
    Result<Vec> read = train::load_weights(path, model, DType::f32, device);
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read->device(), device);
    EXPECT_EQ(to_doubles(read->view()), to_doubles(theta.view()));
  }
  std::remove(path.c_str());
}

}  // namespace
}  // namespace sinew::testing
#endif
