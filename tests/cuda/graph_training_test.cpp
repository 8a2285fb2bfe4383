// Trainings that replay their steps as recorded graphs: the same bits as op by op.
#include "tests/cuda/parity.h"

#if SINEW_HAVE_TRAIN
#include "core/ops.h"
#include "core/vec.h"
#include "dist/solo_world.h"
#include "models/trainer.h"
#include "nn/layers.h"

namespace sinew::testing {
namespace {

nn::Model small_net(const Shape& input) {
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Conv2d>(input[2], 8, 3, nn::Conv2dOptions{.padding = 1, .bias = false}));
  net->add(std::make_unique<nn::BatchNorm>(8, nn::BatchNormOptions{.activation = Activation::relu}));
  net->add(std::make_unique<nn::BasicBlock>(8, 8)).add(std::make_unique<nn::MaxPool2d>(PoolOptions{2, 2, 0}));
  net->add(std::make_unique<nn::GlobalAvgPool>()).add(std::make_unique<nn::Dropout>(0.3));
  net->add(std::make_unique<nn::Linear>(8, 10));
  return nn::Model("small net", std::move(net), input, 10);
}
// One filter, so that AdaHessian has means to take, and else as little as may be.
nn::Model tiny_net(const Shape& input) {
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Conv2d>(input[2], 3, 3));
  net->add(std::make_unique<nn::GlobalAvgPool>()).add(std::make_unique<nn::Dropout>(0.3));
  net->add(std::make_unique<nn::Linear>(3, 10));
  return nn::Model("tiny net", std::move(net), input, 10);
}

// In bf16 its convolutions go by bulk copies, whose maps hold addresses.
nn::Model wide_net(const Shape& input) {
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Conv2d>(input[2], 64, 3, nn::Conv2dOptions{.padding = 1, .bias = false}));
  net->add(std::make_unique<nn::BatchNorm>(64, nn::BatchNormOptions{.activation = Activation::relu}));
  net->add(std::make_unique<nn::BasicBlock>(64, 64)).add(std::make_unique<nn::GlobalAvgPool>());
  net->add(std::make_unique<nn::Linear>(64, 10));
  return nn::Model("wide net", std::move(net), input, 10);
}

struct Settings {
  optim::OptimizerOptions optimizer = {};
  int64_t steps = 4;
  bool bf16 = false;
  nn::Model (*net)(const Shape& input) = tiny_net;
  int64_t external_write_after = 0;  // a step after which others replace theta
  bool skip_nonfinite = false;
};
struct Trained {
  std::vector<double> losses, theta;
  std::map<std::string, std::vector<double>> state;
  std::map<std::string, double> counters;
  int64_t replayed = 0, replayed_updates = 0;
};
Trained train(const Settings& settings, bool graph) {
  static const nn::DatasetPtr data =
      nn::open_data({.name = "synthetic", .train_size = 40, .image = {.resize = 6}}).value().train;
  const nn::Model model = settings.net(data->sample_shape());
  Trained result;
  nn::Loader loader(data, {.batch = 4, .prefetch = 0, .device = Device::cuda});
  const auto optimizer = optim::make_optimizer(settings.optimizer);
  const auto world = dist::make_solo_world();
  Vec theta = model.initialize(3, DType::f32, Device::cuda);
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), theta.dtype(), Device::cuda);
  train::Trainer trainer(model, loader, *optimizer, *scheme, *world, theta);
  const Status status = trainer.run({.steps = settings.steps,
                                     .bf16 = settings.bf16,
                                     .graph = graph ? train::Recorded::step : train::Recorded::nothing,
                                     .skip_nonfinite = settings.skip_nonfinite,
                                     .on_step = [&](const train::StepReport& report) {
                                       result.losses.push_back(report.loss);
                                       if (report.step != settings.external_write_after) return Status::Ok();
                                       axpby(0.5, theta.view(), 0, theta.view(), theta.mutable_view());
                                       optimizer->on_external_write(1);
                                       return Status::Ok();
                                     }});
  SINEW_CHECK(status.ok(), "test", status.message());
  result.theta = to_doubles(trainer.theta().view());
  const optim::State state = optimizer->save();
  for (const auto& [name, vector] : state.vectors) result.state[name] = to_doubles(vector.view());
  result.counters = state.numbers;
  result.replayed = trainer.replayed_steps();
  result.replayed_updates = trainer.replayed_updates();
  return result;
}

// With graphs and without: returns the former.
Trained expect_same_bits(const Settings& settings) {
  const Trained want = train(settings, false), got = train(settings, true);
  EXPECT_EQ(want.replayed, 0);
  EXPECT_EQ(got.losses, want.losses);
  EXPECT_EQ(got.theta, want.theta);
  EXPECT_EQ(got.state, want.state);
  EXPECT_EQ(got.counters, want.counters);
  return got;
}

// All but the first step are replays, whose dropout masks, rates and running statistics are their own.
CUDA_PARITY(CudaGraphTraining, SameBitsAsOpByOp) {
  for (const bool bf16 : {false, true}) {
    SCOPED_TRACE(bf16);
    const optim::OptimizerOptions options{
        .name = "adam", .lr = 0.01, .schedule = "cosine", .total_steps = 4, .warmup_steps = 2};
    const Trained got = expect_same_bits({.optimizer = options, .bf16 = bf16, .net = small_net});
    EXPECT_EQ(got.replayed, 3);
    EXPECT_EQ(got.replayed_updates, 3);
  }
}

CUDA_PARITY(CudaGraphTraining, BulkCopiesReadWhereTheyWereRecorded) {
  const optim::OptimizerOptions options{.name = "momentum", .lr = 0.01};
  EXPECT_EQ(expect_same_bits({.optimizer = options, .bf16 = true, .net = wide_net}).replayed, 3);
}

// The rate rises, falls and ends at zero; theta is replaced on the way, which restarts some momentum.
CUDA_PARITY(CudaGraphTraining, EveryOptimizersUpdate) {
  for (const std::string& name : optim::optimizer_names()) {
    SCOPED_TRACE(name);
    const optim::OptimizerOptions options{.name = name,
                                          .weight_decay = 0.01,
                                          .decoupled_decay = 0.02,
                                          .hessian_every = 2,
                                          .schedule = "cosine",
                                          .total_steps = 6,
                                          .warmup_steps = 3};
    const Trained got = expect_same_bits({.optimizer = options, .steps = 8, .external_write_after = 4});
    const bool curvature = name == "adahessian" || name.starts_with("sophia");
    // The first step of each kind is not replayed, nor are those whose labels the host draws.
    EXPECT_EQ(got.replayed, name == "sophia_g" ? 3 : curvature ? 6 : 7);
    EXPECT_EQ(got.replayed_updates, name == "lars" ? 0 : got.replayed);
  }
}

CUDA_PARITY(CudaGraphTraining, StepsThatEstimateTheCurvature) {
  for (const int64_t every : {1, 3})
    for (const int samples : {1, 2})
      for (const char* stale : {"keep", "repeat"}) {
        SCOPED_TRACE(::testing::Message() << "every " << every << ", samples " << samples << ", " << stale);
        const optim::OptimizerOptions options{.name = "adahessian",
                                              .lr = 0.01,
                                              .weight_decay = 0.01,
                                              .hessian_every = every,
                                              .hessian_samples = samples,
                                              .hessian_stale = stale,
                                              .warmup_steps = 5};
        const int64_t steps = 2 * every + 2;
        const Trained got = expect_same_bits({.optimizer = options, .steps = steps});
        EXPECT_EQ(got.replayed, steps - (every == 1 ? 1 : 2));
        EXPECT_EQ(got.replayed_updates, got.replayed);
      }
}

CUDA_PARITY(CudaGraphTraining, CurvatureOfAWholeNet) {
  const optim::OptimizerOptions options{.name = "adahessian", .lr = 0.01, .hessian_every = 2};
  EXPECT_EQ(expect_same_bits({.optimizer = options, .steps = 5, .net = small_net}).replayed, 3);
}

// Clipping reads the gradient's norm, and with skip_nonfinite the loss decides: the update is not part of the graph.
CUDA_PARITY(CudaGraphTraining, UpdatesThatTheHostDecidesAreOutside) {
  for (const bool skip : {false, true}) {
    SCOPED_TRACE(skip);
    const optim::OptimizerOptions options{.name = "adam", .lr = 0.01, .clip_norm = skip ? 0 : 0.1, .warmup_steps = 3};
    const Trained got = expect_same_bits({.optimizer = options, .skip_nonfinite = skip});
    EXPECT_EQ(got.replayed, 3);
    EXPECT_EQ(got.replayed_updates, 0);
  }
}

// An update that makes other calls than it was recorded with ends the training; it is not repeated.
CUDA_PARITY(CudaGraphTraining, AnUpdateThatChangesIsAnError) {
  train::StepGraph graph;
  const Tensor x = Tensor::ones({2, 3}, DType::f32, Device::cuda),
               labels = Tensor::zeros({2}, DType::i64, Device::cuda);
  Vec y = Vec::zeros(4, DType::f32, Device::cuda);
  int updates = 0;
  const auto pass = [&](const nn::Batch& batch) { return train::StepGraph::Results{sum(batch.inputs), batch.inputs}; };
  const auto update = [&](train::StepGraph::Results&) {
    const int calls = ++updates == 3 ? 2 : 1;
    for (int i = 0; i < calls; ++i) axpby(2, y.view(), 0, y.view(), y.mutable_view());
  };
  for (uint64_t step = 0; step < 2; ++step) graph.run({x, labels}, step, nullptr, pass, update);
  EXPECT_THROW(graph.run({x, labels}, 2, nullptr, pass, update), Error);
  EXPECT_EQ(updates, 3);
  EXPECT_EQ(graph.replays(), 1);
  const auto waits = [&](train::StepGraph::Results& results) {
    ++updates;
    (void)results.loss.item<float>();
  };
  train::StepGraph other;
  other.run({x, labels}, 0, nullptr, pass, waits);
  EXPECT_THROW(other.run({x, labels}, 1, nullptr, pass, waits), Error);
  EXPECT_EQ(updates, 5);
}

CUDA_PARITY(CudaGraphTraining, WhatCannotBeRecordedIsDoneOpByOp) {
  train::StepGraph graph;
  const Tensor x = Tensor::ones({2, 3}, DType::f32, Device::cuda),
               labels = Tensor::zeros({2}, DType::i64, Device::cuda);
  int runs = 0;
  const auto waits = [&](const nn::Batch& batch) {
    ++runs;
    const float total = sum(batch.inputs).item<float>();  // the host waits
    return train::StepGraph::Results{Tensor::full({}, static_cast<double>(total), DType::f32, Device::cuda), x};
  };
  for (uint64_t step = 0; step < 4; ++step)
    EXPECT_EQ(graph.run({x, labels}, step, nullptr, waits).loss.item<float>(), 6);
  EXPECT_EQ(graph.replays(), 0);
  EXPECT_EQ(runs, 5);  // one of them was dropped
}

CUDA_PARITY(CudaGraphTraining, BatchesOfAnotherSizeAreDoneOpByOp) {
  train::StepGraph graph;
  const auto pass = [&](const nn::Batch& batch) { return train::StepGraph::Results{sum(batch.inputs), batch.inputs}; };
  int64_t replays = 0;
  for (const int64_t n : {4, 4, 4, 3, 4}) {
    const Tensor x = Tensor::full({n, 2}, static_cast<double>(n), DType::f32, Device::cuda);
    const nn::Batch batch{x, Tensor::zeros({n}, DType::i64, Device::cuda)};
    EXPECT_EQ(graph.run(batch, static_cast<uint64_t>(replays), nullptr, pass).loss.item<float>(),
              static_cast<float>(2 * n * n));
    replays = graph.replays();
  }
  EXPECT_EQ(replays, 3);
}

}  // namespace
}  // namespace sinew::testing

#endif
