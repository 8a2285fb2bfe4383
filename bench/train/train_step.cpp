// Training steps (forward, backward, SGD with momentum) of small networks, per second.
//
//   OMP_NUM_THREADS=1 bench_train --benchmark_filter=mlp1024
//
// Each case is verified before it is timed: the gradient is compared with a central difference along itself.
#include <benchmark/benchmark.h>

#include <cmath>
#include <memory>

#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/ops.h"
#include "models/zoo/mlp.h"
#include "nn/loss.h"
#include "optim/optimizer.h"

namespace sinew {
namespace {

class Step {
 public:
  Step(int64_t inputs, std::vector<int64_t> hidden, int64_t batch)
      : model_(train::make_mlp({.input = {inputs}, .hidden = std::move(hidden), .outputs = 10})),
        optimizer_(optim::make_optimizer({.name = "momentum", .lr = 0.01, .momentum = 0.9})),
        theta_(model_.initialize(1)),
        gradient_(Vec::zeros(theta_.size(), theta_.dtype())),
        parameters_(model_.layout(), theta_),
        views_(nn::Parameters(model_.layout(), gradient_, false).all()),
        x_(random_normal({batch, inputs}, 0, 1, {1, 1000, 0, 0})) {
    std::vector<int64_t> labels(static_cast<size_t>(batch));
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i % 10);
    labels_ = Tensor::from_vector(labels, {batch});
    optimizer_->init(model_.layout(), theta_.dtype(), Device::cpu);
  }

  Tensor loss() { return softmax_cross_entropy(model_.forward(x_, nn::Pass{parameters_, true, 1, 0, 0}), labels_); }
  void backward(const Tensor& loss) { grad({loss}, parameters_.all(), {}, {.into = views_}); }
  void run() {
    backward(loss());
    optimizer_->step(theta_.mutable_view(), gradient_.mutable_view());
  }

  bool verified() {
    backward(loss());
    const double slope = dot(gradient_.view(), gradient_.view()), h = 1e-2 / std::sqrt(slope);
    auto at = [&](double step) {
      axpby(step, gradient_.view(), 1, theta_.view(), theta_.mutable_view());
      const double value = loss().item<float>();
      axpby(-step, gradient_.view(), 1, theta_.view(), theta_.mutable_view());
      return value;
    };
    return std::abs((at(h) - at(-h)) / (2 * h) - slope) < 0.02 * slope;
  }

 private:
  nn::Model model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  Vec theta_, gradient_;
  nn::Parameters parameters_;
  std::vector<Tensor> views_;
  Tensor x_, labels_;
};

void train_step(benchmark::State& state, int64_t inputs, std::vector<int64_t> hidden, int64_t batch) {
  Step step(inputs, std::move(hidden), batch);
  if (!step.verified()) {
    state.SkipWithError("the gradient is wrong");
    return;
  }
  for (auto _ : state) step.run();
  state.SetItemsProcessed(state.iterations() * batch);
  state.counters["threads"] = num_threads();
}

BENCHMARK_CAPTURE(train_step, mlp1024_b128, 784, {1024, 1024}, 128)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(train_step, mlp1024_b32, 784, {1024, 1024}, 32)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(train_step, small64_b16, 64, {64}, 16)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sinew

BENCHMARK_MAIN();
