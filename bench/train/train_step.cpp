// Training steps (forward, backward, update) of the zoo's networks: SGD with momentum, and AdaHessian.
//
//   OMP_NUM_THREADS=1 bench_train_train_step --benchmark_filter=mlp1024
//   bench_train_train_step --device cuda [--graph on]
//   bench_train_train_step --memory resnet20_b128 [--steps 5]
//
// --graph on: whole steps are recorded once and replayed (models/step_graph.h), each with a copy of its batch.
//
// --memory prints two numbers of bytes: by how much the process's peak rose over the steps, from just before the first
// one, and from before the model was made. scripts/bench_memory.sh does the same with PyTorch.
//
// Each case is verified before it is timed: the gradient is compared with a central difference along itself.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include "bench/support/device.h"
#include "bench/support/memory.h"
#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/ops.h"
#include "models/curvature.h"
#include "models/step_graph.h"
#include "models/zoo/zoo.h"
#include "nn/loss.h"
#include "optim/optimizer.h"

namespace sinew {

namespace {

Device the_device = Device::cpu;
bool use_graph = false;

struct Case {
  std::string model;
  Shape sample;  // (features) or (h, w, c)
  int64_t batch;
  std::vector<int64_t> hidden = {};  // mlp
  std::string optimizer = "momentum";
  int64_t hessian_every = 1;  // the time of a step is the mean over so many
  bool bf16 = false;
};

nn::Model build(const Case& c) {
  train::Options::Model options;
  options.name = c.model;
  options.hidden = c.hidden;
  options.init = train::default_init(c.model);
  options.dropout = train::default_dropout(c.model);
  Result<nn::Model> model = train::make_model(options, c.sample, 10);
  SINEW_CHECK(model.ok(), "bench", model.status().message());
  return std::move(*model);
}

class Step {
 public:
  explicit Step(const Case& c)
      : bf16_(c.bf16),
        model_(build(c)),
        optimizer_(optim::make_optimizer({.name = c.optimizer, .lr = 0.001, .hessian_every = c.hessian_every})),
        theta_(model_.initialize(1, DType::f32, the_device)),
        weights_(theta_.slice(0, model_.layout().size())),
        gradient_(Vec::zeros(weights_.size(), theta_.dtype(), the_device)),
        parameters_(model_.parameters(theta_)),
        buffers_(model_.buffers(theta_)),
        views_(nn::Parameters(model_.layout(), gradient_, false).all()) {
    std::vector<int64_t> dims = {c.batch};
    for (int i = 0; i < c.sample.ndim(); ++i) dims.push_back(c.sample[i]);
    x_ = random_normal(Shape(std::span<const int64_t>(dims)), 0, 1, {1, 1000, 0, 0}, DType::f32, the_device);
    std::vector<int64_t> labels(static_cast<size_t>(c.batch));
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i % 10);
    labels_ = Tensor::from_vector(labels, {c.batch}, the_device);
    optimizer_->init(model_.layout(), theta_.dtype(), the_device);
  }

  void run() {
    const optim::Needs needs = optimizer_->needs();
    const auto pass = [&](const nn::Batch& batch) {
      train::ForwardPass made = forward(batch);
      train::StepGraph::Results results{made.loss.detach(), made.logits.detach()};
      if (needs.curvature == optim::Curvature::none)
        grad({made.loss}, parameters_.all(), {}, {.into = views_});
      else
        results.diagonal =
            train::gradient_and_diagonal(model_.layout(), std::move(made), parameters_.all(), views_, needs, {1, 0, 0});
      return results;
    };
    const auto update = [this](train::StepGraph::Results& results) {
      optimizer_->step(weights_.mutable_view(), gradient_.mutable_view(), results.diagonal.mutable_view());
    };
    if (use_graph) {
      (needs.curvature == optim::Curvature::none ? graph_ : curvature_graph_)
          .run({x_, labels_}, count_++, gradient_.view().data, pass, update);
    } else {
      train::StepGraph::Results results = pass({x_, labels_});
      update(results);
    }
  }

  // bf16's gradient against f32's: differences of its losses would be those of their rounding. On these random batches
  // they differ by 0.13 (resnet20) and 0.52 (vgg16) of their length, in PyTorch by 0.14 and 0.51; unrelated ones
  // by 1.4.
  bool verified() {
    const bool bf16 = std::exchange(bf16_, false);
    bool ok = differentiates();
    if (bf16) {
      const Vec f32 = gradient_.clone();
      bf16_ = true;
      backward();
      ok = ok && std::sqrt(squared_distance(gradient_.view(), f32.view())) < 0.7 * norm(f32.view());
    }
    return ok;
  }

 private:
  // With one of three step sizes: rounding disturbs the small ones, curvature and kinks the large ones.
  bool differentiates() {
    backward();
    const double slope = dot(gradient_.view(), gradient_.view());
    const auto agrees = [&](double distance) {
      const double h = distance / std::sqrt(slope);
      return std::abs((loss_at(h) - loss_at(-h)) / (2 * h) - slope) < 0.02 * slope;
    };
    return agrees(1e-2) || agrees(1e-3) || agrees(1e-4);
  }
  train::ForwardPass forward(const nn::Batch& batch) {
    const nn::Pass settings{
        .parameters = parameters_, .training = true, .seed = 1, .buffers = &buffers_, .bf16 = bf16_};
    train::ForwardPass pass{model_.forward(batch.inputs, settings), {}};
    pass.loss = softmax_cross_entropy(pass.logits, batch.labels);
    return pass;
  }
  // A step along the gradient away.
  double loss_at(double step) {
    axpby(step, gradient_.view(), 1, weights_.view(), weights_.mutable_view());
    const double value = forward({x_, labels_}).loss.item<float>();
    axpby(-step, gradient_.view(), 1, weights_.view(), weights_.mutable_view());
    return value;
  }
  void backward() { grad({forward({x_, labels_}).loss}, parameters_.all(), {}, {.into = views_}); }

  bool bf16_;
  nn::Model model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  Vec theta_, weights_, gradient_;
  nn::Parameters parameters_;
  nn::Buffers buffers_;
  std::vector<Tensor> views_;
  Tensor x_, labels_;
  train::StepGraph graph_, curvature_graph_;
  uint64_t count_ = 0;
};

void train_step(benchmark::State& state, const Case& c) {
  Step step(c);
  if (!step.verified()) {
    state.SkipWithError("the gradient is wrong");
    return;
  }
  const auto seconds = [&](int64_t steps) {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < steps; ++i) step.run();
    kernels(the_device).synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  // A device that works on its own is not waited for after every step.
  int64_t steps = c.hessian_every;
  if (the_device != Device::cpu) {
    seconds(steps);
    const double one = seconds(steps) / static_cast<double>(steps);
    steps *= std::max<int64_t>(1, static_cast<int64_t>(0.02 / one) / steps);
  }
  for (auto _ : state) state.SetIterationTime(seconds(steps) / static_cast<double>(steps));
  state.SetItemsProcessed(state.iterations() * c.batch);
  state.counters["threads"] = num_threads();
}

const std::pair<const char*, Case> kCases[] = {
    {"mlp1024_b128", {"mlp", {784}, 128, {1024, 1024}}},
    {"mlp1024_b32", {"mlp", {784}, 32, {1024, 1024}}},
    {"small64_b16", {"mlp", {64}, 16, {64}}},
    {"lenet_b64", {"lenet", {28, 28, 1}, 64}},
    {"easgd_cifar_b128", {"easgd_cifar", {28, 28, 3}, 128}},
    {"resnet20_b128", {"resnet20", {32, 32, 3}, 128}},
    {"vgg16_b64", {"vgg16", {32, 32, 3}, 64}},
    {"mlp1024_bf16_b128", {.model = "mlp", .sample = {784}, .batch = 128, .hidden = {1024, 1024}, .bf16 = true}},
    {"lenet_bf16_b64", {.model = "lenet", .sample = {28, 28, 1}, .batch = 64, .bf16 = true}},
    {"resnet20_bf16_b128", {.model = "resnet20", .sample = {32, 32, 3}, .batch = 128, .bf16 = true}},
    {"vgg16_bf16_b64", {.model = "vgg16", .sample = {32, 32, 3}, .batch = 64, .bf16 = true}},
    {"resnet20_adahessian_b128", {"resnet20", {32, 32, 3}, 128, {}, "adahessian"}},
    {"resnet20_adahessian_every5_b128", {"resnet20", {32, 32, 3}, 128, {}, "adahessian", 5}},
};

// What --memory prints; in a process that has done nothing else.
void print_growth(const std::string& name, int steps) {
  for (const auto& [known, c] : kCases) {
    if (name != known) continue;
    const bench::PeakGrowth whole;
    Step step(c);
    const bench::PeakGrowth of_steps;
    for (int i = 0; i < steps; ++i) step.run();
    std::printf("%lld\t%lld\n", static_cast<long long>(of_steps.bytes()), static_cast<long long>(whole.bytes()));
    return;
  }
  bench::fail("--memory " + name + ": no such case; --benchmark_list_tests=true lists them");
}

int run_main(int argc, char** argv) {
  the_device = bench::take_device(argc, argv);
  use_graph = bench::take_option(argc, argv, "--graph") == "on";
  const std::string memory = bench::take_option(argc, argv, "--memory"),
                    steps = bench::take_option(argc, argv, "--steps");
  if (!memory.empty()) {
    print_growth(memory, steps.empty() ? 5 : std::stoi(steps));
    return 0;
  }
  for (const auto& [name, c] : kCases)
    benchmark::RegisterBenchmark((std::string("train_step/") + name).c_str(), train_step, c)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("device", to_string(the_device));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace sinew

int main(int argc, char** argv) { return sinew::run_main(argc, argv); }
