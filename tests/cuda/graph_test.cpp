// Recorded graphs: memory, what is done when, random keys, and whole trainings that replay their steps.
#include <functional>
#include <thread>

#include "core/ops.h"
#include "core/vec.h"
#include "cuda/memory_cache.h"
#include "tests/cuda/parity.h"
#if SINEW_HAVE_TRAIN
#include "dist/solo_world.h"
#include "models/trainer.h"
#include "nn/layers.h"
#endif

namespace sinew::testing {
namespace {

// ---- the cache of freed memory, by itself ----

TEST(CudaMemoryCache, LendsFreedBlocksAgain) {
  cuda::MemoryCache cache;
  int a, b;
  cuda::Stream one = &a, two = &b;
  EXPECT_EQ(cache.take(64, one), nullptr);
  cache.lend(&a, 64);
  cache.give(&a, one);
  EXPECT_THROW(cache.give(&a, one), Error);
  EXPECT_EQ(cache.take(32, one), nullptr);
  EXPECT_EQ(cache.take(64, two), nullptr);
  EXPECT_EQ(cache.take(64, one), &a);
}

TEST(CudaMemoryCache, AGraphKeepsWhatWasLentWhileItWasRecorded) {
  cuda::MemoryCache cache;
  int before, inside, left;
  const cuda::Stream stream = &before;
  cache.lend(&before, 64);
  cache.record();
  EXPECT_EQ(cache.take(64, stream), nullptr);
  cache.lend(&inside, 64);
  cache.give(&inside, stream);
  EXPECT_EQ(cache.take(64, stream), &inside);  // again, inside
  cache.lend(&inside, 64);
  cache.lend(&left, 64);
  cache.give(&before, stream);  // may be in the graph: held
  cache.give(&inside, stream);
  const auto kept = cache.stop();
  EXPECT_EQ(cache.take(64, stream), nullptr) << "a graph's block was lent out";
  cache.give(&left, stream);  // what outlived the recording stays too
  EXPECT_EQ(cache.take(64, stream), nullptr) << "a graph's block was lent out";
  cache.forget(*kept, stream);
  std::vector<void*> free;
  while (void* p = cache.take(64, stream)) free.push_back(p);
  std::sort(free.begin(), free.end());
  std::vector<void*> all = {&before, &inside, &left};
  std::sort(all.begin(), all.end());
  EXPECT_EQ(free, all);
}

TEST(CudaMemoryCache, ABlockThatOutlivesItsGraphIsFreedLater) {
  cuda::MemoryCache cache;
  int block;
  cache.record();
  cache.lend(&block, 64);
  const auto kept = cache.stop();
  cache.forget(*kept, nullptr);
  EXPECT_EQ(cache.take(64, nullptr), nullptr);
  cache.give(&block, nullptr);
  EXPECT_EQ(cache.take(64, nullptr), &block);
}

// ---- recording and replaying ----

TEST(CudaGraph, DoesNothingUntilItIsLaunched) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(std::vector<float>{1, 2, 3}), y(std::vector<float>{0, 0, 0});
  t.graph_begin();
  t.unary({UnaryOp::affine, DType::f32, 3, x.data(), y.data(), 2, 1});  // y = 2 x + 1
  void* const inner = t.allocate(12);
  t.copy(inner, y.data(), 12);
  t.copy(x.data(), inner, 12);  // x = y
  t.release(inner, 12);
  void* const graph = t.graph_end(true);
  EXPECT_EQ(x.read(), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(y.read(), (std::vector<float>{0, 0, 0}));
  t.graph_launch(graph, 0);
  EXPECT_EQ(x.read(), (std::vector<float>{3, 5, 7}));
  const DeviceArray<float> other(std::vector<float>{9, 9, 9});  // not the graph's memory
  t.graph_launch(graph, 1);
  t.graph_launch(graph, 2);
  EXPECT_EQ(x.read(), (std::vector<float>{15, 23, 31}));
  EXPECT_EQ(other.read(), (std::vector<float>{9, 9, 9}));
  t.graph_release(graph);
}

TEST(CudaGraph, RefusesToWaitAndCanBeDropped) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(std::vector<float>{1, 2, 3});
  float host[3] = {};
  t.graph_begin();
  t.fill({DType::f32, 3, x.data(), 7});
  for (const std::function<void()>& waits : std::vector<std::function<void()>>{
           [&] { t.download(host, x.data(), 12); }, [&] { t.upload(x.data(), host, 12); }, [&] { t.synchronize(); }})
    try {
      waits();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("cannot be recorded in a graph"), std::string::npos) << error.what();
    }
  EXPECT_EQ(t.graph_end(false), nullptr);
  EXPECT_EQ(x.read(), (std::vector<float>{1, 2, 3}));
}

// Another thread's work is neither recorded nor lost.
TEST(CudaGraph, OtherThreadsWait) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> mine(std::vector<float>{1}), others(std::vector<float>{1});
  t.graph_begin();
  std::thread other([&] { t.fill({DType::f32, 1, others.data(), 5}); });
  t.unary({UnaryOp::affine, DType::f32, 1, mine.data(), mine.data(), 2, 0});
  void* const graph = t.graph_end(true);
  other.join();
  t.fill({DType::f32, 1, others.data(), 6});
  t.graph_launch(graph, 0);
  EXPECT_EQ(mine.read()[0], 2);
  EXPECT_EQ(others.read()[0], 6);
  t.graph_release(graph);
}

TEST(CudaGraph, RandomNumbersAreThoseOfTheReplaysStep) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const size_t n = 41;
  const DeviceArray<float> x(random_values<float>(n, -1, 1, 1)), y(n), z(n), want_y(n), want_z(n);
  const auto draw = [&](uint64_t step, float* masked, float* normal) {
    const RngKey key{3, static_cast<uint32_t>(RngPurpose::test), 1, step};
    t.dropout({DType::f32, n, 0.6, key, x.data(), masked});
    t.random({RandomDist::normal, DType::f32, n, {4, key.purpose, 2, step}, normal, 0, 1});
  };
  t.graph_begin();
  draw(10, y.data(), z.data());
  void* const graph = t.graph_end(true);
  for (const uint64_t steps : {0, 1, 7}) {
    t.graph_launch(graph, steps);
    draw(10 + steps, want_y.data(), want_z.data());
    EXPECT_EQ(y.read(), want_y.read()) << steps;
    EXPECT_EQ(z.read(), want_z.read()) << steps;
  }
  t.graph_release(graph);
}

// ---- training ----

#if SINEW_HAVE_TRAIN

nn::Model small_net(const Shape& input) {
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Conv2d>(input[2], 8, 3, nn::Conv2dOptions{.padding = 1, .bias = false}));
  net->add(std::make_unique<nn::BatchNorm>(8, nn::BatchNormOptions{.activation = Activation::relu}));
  net->add(std::make_unique<nn::BasicBlock>(8, 8)).add(std::make_unique<nn::MaxPool2d>(PoolOptions{2, 2, 0}));
  net->add(std::make_unique<nn::GlobalAvgPool>()).add(std::make_unique<nn::Dropout>(0.3));
  net->add(std::make_unique<nn::Linear>(8, 10));
  return nn::Model("small net", std::move(net), input, 10);
}

struct Trained {
  std::vector<double> losses, theta;
  int64_t replayed = 0;
};
Trained train(const optim::OptimizerOptions& options, int64_t steps, bool bf16, bool graph) {
  static const nn::DatasetPtr data =
      nn::open_data({.name = "synthetic", .train_size = 40, .image = {.resize = 6}}).value().train;
  const nn::Model model = small_net(data->sample_shape());
  Trained result;
  nn::Loader loader(data, {.batch = 4, .prefetch = 0, .device = Device::cuda});
  const auto optimizer = optim::make_optimizer(options);
  const auto world = dist::make_solo_world();
  Vec theta = model.initialize(3, DType::f32, Device::cuda);
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), theta.dtype(), Device::cuda);
  train::Trainer trainer(model, loader, *optimizer, *scheme, *world, std::move(theta));
  const Status status =
      trainer.run({.steps = steps, .bf16 = bf16, .graph = graph, .on_step = [&](const train::StepReport& report) {
                     result.losses.push_back(report.loss);
                     return Status::Ok();
                   }});
  SINEW_CHECK(status.ok(), "test", status.message());
  result.theta = to_doubles(trainer.theta().view());
  result.replayed = trainer.replayed_steps();
  return result;
}

// All but the first step are replays, whose dropout masks, rates and running statistics are their own.
CUDA_PARITY(CudaGraphTraining, SameBitsAsOpByOp) {
  for (const bool bf16 : {false, true}) {
    const optim::OptimizerOptions options{
        .name = "adam", .lr = 0.01, .schedule = "cosine", .total_steps = 4, .warmup_steps = 2};
    const Trained want = train(options, 4, bf16, false), got = train(options, 4, bf16, true);
    EXPECT_EQ(got.replayed, 3);
    EXPECT_EQ(want.replayed, 0);
    EXPECT_EQ(got.losses, want.losses) << bf16;
    EXPECT_EQ(got.theta, want.theta) << bf16;
  }
}

// Steps that estimate the curvature are not recorded, those between them are.
CUDA_PARITY(CudaGraphTraining, StepsWithCurvatureInBetween) {
  const optim::OptimizerOptions options{.name = "adahessian", .lr = 0.01, .hessian_every = 2};
  const Trained want = train(options, 4, false, false), got = train(options, 4, false, true);
  EXPECT_EQ(got.replayed, 1);
  EXPECT_EQ(got.losses, want.losses);
  EXPECT_EQ(got.theta, want.theta);
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

#endif

}  // namespace
}  // namespace sinew::testing
