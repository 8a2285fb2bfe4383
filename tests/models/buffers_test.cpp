// Buffers (running statistics) through the trainer, the schemes, files and recalibration, with a small module that has
// one: "mean" follows the mean of the batch; evaluation subtracts it.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>

#include "core/ops.h"
#include "dist/solo_world.h"
#include "models/evaluate.h"
#include "models/recalibrate.h"
#include "models/trainer.h"
#include "models/weights_file.h"
#include "nn/layers.h"
#include "tests/support/spawn_nodes.h"

namespace sinew::train {
namespace {

using dist::testing::Numbers;

constexpr double kMomentum = 0.25, kInitial = 3;
constexpr int64_t kBatch = 4, kSamples = 16;

class Centered : public nn::Module {
 public:
  void declare(nn::Declarations& d) override {
    d.scope("norm", [&] { mean_ = d.buffer("mean", {1}, kInitial); });
    d.scope("fc", [&] { fc_.declare(d); });
  }
  Tensor forward(const Tensor& x, const nn::Pass& pass) const override {
    const Tensor batch_mean = mean(x);
    if (pass.training && pass.buffers) {
      const Tensor& running = (*pass.buffers)[mean_];
      const double w = pass.buffer_momentum < 0 ? kMomentum : pass.buffer_momentum;
      axpby(w, batch_mean.view(), 1 - w, running.view(), running.output_view());
    }
    return fc_.forward(x - (pass.training ? batch_mean : (*pass.buffers)[mean_]), pass);
  }

 private:
  nn::BufferId mean_;
  nn::Linear fc_{2, 2};
};

nn::Model make_centered() { return nn::Model("centered", std::make_unique<Centered>(), {2}, 2); }

// Both features of sample i are i; sample kPoisoned, when it is asked for, is infinite.
class Numbered : public nn::Dataset {
 public:
  explicit Numbered(int64_t poisoned = -1) : poisoned_(poisoned) {}
  std::string name() const override { return "numbered"; }
  int64_t size() const override { return kSamples; }
  Shape sample_shape() const override { return {2}; }
  int64_t classes() const override { return 2; }
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override {
    for (size_t i = 0; i < indices.size(); ++i) {
      inputs[2 * i] = inputs[2 * i + 1] = indices[i] == poisoned_ ? INFINITY : static_cast<float>(indices[i]);
      labels[i] = indices[i] % 2;
    }
  }

 private:
  int64_t poisoned_;
};

double batch_mean(nn::Loader& loader) {
  double sum = 0;
  const std::vector<float> x = loader.next().inputs.to_vector<float>();
  for (float v : x) sum += v;
  return sum / static_cast<double>(x.size());
}
double buffer_of(const nn::Model& model, const Vec& theta) {
  return to_doubles(theta.view())[static_cast<size_t>(model.layout().size())];
}

TEST(Buffers, LieBehindTheParametersInOneVector) {
  const nn::Model model = make_centered();
  EXPECT_EQ(model.layout().parameter_count(), 6);
  EXPECT_EQ(model.buffer_layout().segments().size(), 1u);
  EXPECT_EQ(model.state_layout().size(), model.layout().size() + model.buffer_layout().size());
  const int at = model.state_layout().find("norm.mean");
  ASSERT_GE(at, 0);
  EXPECT_EQ(model.state_layout().segments()[static_cast<size_t>(at)].offset, model.layout().size());
  const Vec theta = model.initialize(1);
  EXPECT_EQ(theta.size(), model.state_layout().size());
  EXPECT_EQ(buffer_of(model, theta), kInitial);
  EXPECT_THROW((void)model.parameters(theta.slice(0, model.layout().size())), Error);
}

// Trains `steps` and returns theta.
Result<Vec> train(dist::World& world, const dist::SchemeOptions& options, int64_t steps, bool mix,
                  nn::DatasetPtr data = std::make_shared<Numbered>(), bool skip = false) {
  const nn::Model model = make_centered();
  nn::Loader loader(data, {.batch = kBatch, .worker = world.rank(), .workers = options.workers, .prefetch = 0});
  const auto optimizer = optim::make_optimizer({.name = "sgd", .lr = 0.01});
  Vec theta = model.initialize(1);
  const auto scheme = dist::make_scheme(options, world, mix ? theta.size() : model.layout().size(), DType::f32);
  Trainer trainer(model, loader, *optimizer, *scheme, world, std::move(theta), mix);
  SINEW_RETURN_IF_ERROR(trainer.run({.steps = steps, .skip_nonfinite = skip}));
  return trainer.theta();
}

TEST(Buffers, FollowTheBatchesOncePerStep) {
  const auto world = dist::make_solo_world();
  const Result<Vec> theta = train(*world, {.name = "local"}, 5, true);
  ASSERT_TRUE(theta.ok()) << theta.status().message();
  nn::Loader same(std::make_shared<Numbered>(), {.batch = kBatch, .prefetch = 0});
  double expected = kInitial;
  for (int step = 0; step < 5; ++step) expected += kMomentum * (batch_mean(same) - expected);
  EXPECT_NEAR(buffer_of(make_centered(), *theta), expected, 1e-5);
}

TEST(Buffers, AStepThatIsSkippedLeavesThem) {
  const auto world = dist::make_solo_world();
  const int64_t batches = kSamples / kBatch;  // an epoch: exactly one of them holds the sample
  const Result<Vec> theta = train(*world, {.name = "local"}, batches, true, std::make_shared<Numbered>(7), true);
  ASSERT_TRUE(theta.ok()) << theta.status().message();
  nn::Loader same(std::make_shared<Numbered>(7), {.batch = kBatch, .prefetch = 0});
  double expected = kInitial;
  for (int step = 0; step < batches; ++step)
    if (const double m = batch_mean(same); std::isfinite(m)) expected += kMomentum * (m - expected);
  EXPECT_NEAR(buffer_of(make_centered(), *theta), expected, 1e-5);
}

TEST(Buffers, AllReduceKeepsThemEqualToTheMeanOfTheWorkers) {
  const dist::SchemeOptions options{.name = "allreduce", .workers = 2};
  const auto run = dist::testing::simulate(2, [&](dist::World& world) -> Result<Numbers> {
    const Result<Vec> theta = train(world, options, 3, true);
    if (!theta.ok()) return theta.status();
    return to_doubles(theta->view());
  });
  ASSERT_TRUE(run.nodes[0].finished && run.nodes[1].finished) << run.nodes[0].status.message();
  EXPECT_EQ(run.nodes[0].numbers, run.nodes[1].numbers);
  nn::Loader first(std::make_shared<Numbered>(), {.batch = kBatch, .worker = 0, .workers = 2, .prefetch = 0});
  nn::Loader second(std::make_shared<Numbered>(), {.batch = kBatch, .worker = 1, .workers = 2, .prefetch = 0});
  double expected = kInitial;
  for (int step = 0; step < 3; ++step)
    expected += kMomentum * ((batch_mean(first) + batch_mean(second)) / 2 - expected);
  EXPECT_NEAR(run.nodes[0].numbers[static_cast<size_t>(make_centered().layout().size())], expected, 1e-5);
}

TEST(Buffers, AreElasticallyAveragedOrLeftToEachWorker) {
  const int workers = 2;
  for (const bool mix : {true, false}) {
    const dist::SchemeOptions options{.name = "easgd", .workers = workers, .period = 1, .alpha = 0.4};
    const auto run = dist::testing::simulate(workers + 1, [&](dist::World& world) -> Result<Numbers> {
      const nn::Model model = make_centered();
      if (world.rank() < workers) {
        const Result<Vec> theta = train(world, options, 20, mix);
        if (!theta.ok()) return theta.status();
        return Numbers{buffer_of(model, *theta)};
      }
      Vec theta = model.initialize(1), mixed = theta.slice(0, mix ? theta.size() : model.layout().size());
      const auto center = dist::make_center(options, world, mixed.size(), DType::f32);
      SINEW_RETURN_IF_ERROR(center->start(mixed.view()));
      SINEW_RETURN_IF_ERROR(dist::serve_all(*center, world));
      center->snapshot(mixed.mutable_view());
      return Numbers{buffer_of(model, theta)};
    });
    for (const auto& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
    const double center = run.nodes[workers].numbers[0];
    if (mix) {
      EXPECT_NEAR(center, 7.5, 2);  // the mean of all samples
    } else {
      EXPECT_EQ(center, kInitial);
      EXPECT_NEAR(run.nodes[0].numbers[0], 7.5, 3);
    }
  }
}

TEST(Buffers, RecalibrationIsTheMeanOverTheBatches) {
  const nn::Model model = make_centered();
  Vec theta = model.initialize(1);
  const Vec before = theta.clone();
  recalibrate(model, theta, Numbered(), kBatch, 100);
  EXPECT_NEAR(buffer_of(model, theta), 7.5, 1e-5);
  recalibrate(model, theta, Numbered(), 2, 2);  // samples 0, 1 and 8, 9
  EXPECT_NEAR(buffer_of(model, theta), 4.5, 1e-5);
  const int64_t n = model.layout().size();
  EXPECT_EQ(to_doubles(theta.slice(0, n).view()), to_doubles(before.slice(0, n).view()));
}

TEST(Buffers, AreUsedByEvaluationAndKeptInFiles) {
  const nn::Model model = make_centered();
  Vec theta = model.initialize(1);
  const double at_initial = evaluate(model, theta, Numbered()).loss;
  recalibrate(model, theta, Numbered(), kBatch, 100);
  const double calibrated = evaluate(model, theta, Numbered()).loss;
  EXPECT_NE(calibrated, at_initial);
  std::string dir = ::testing::TempDir() + "/sinew_buffers_XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const std::string path = dir + "/w.safetensors";
  ASSERT_TRUE(save_weights(path, model, theta.view()).ok());
  const Result<Vec> read = load_weights(path, model);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(evaluate(model, *read, Numbered()).loss, calibrated);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace sinew::train
