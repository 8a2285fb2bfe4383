// train.precision = bf16 through the trainer and whole runs: losses follow f32's, parameters stay f32 and keep what an
// update adds to them, and the curvature is f32's to the bit.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>

#include "core/autograd.h"
#include "core/ops.h"
#include "dist/solo_world.h"
#include "models/config.h"
#include "models/node.h"
#include "models/run.h"
#include "models/trainer.h"
#include "models/zoo/mlp.h"
#include "nn/data/dataset.h"
#include "nn/layers.h"
#include "tests/support/spawn_nodes.h"

namespace sinew::train {
namespace {

nn::DatasetPtr data() {
  static const nn::DatasetPtr set = nn::open_data({.name = "synthetic", .train_size = 400}).value().train;
  return set;
}

nn::Model mlp() { return make_mlp({.input = data()->sample_shape(), .hidden = {32, 16}, .outputs = 10}); }

// A convolutional network with batch norm, a residual block, both poolings and layers of odd widths.
nn::Model small_net() {
  const Shape input = data()->sample_shape();
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Conv2d>(input[2], 8, 3, nn::Conv2dOptions{.padding = 1, .bias = false}));
  net->add(std::make_unique<nn::BatchNorm>(8, nn::BatchNormOptions{.activation = Activation::relu}));
  net->add(std::make_unique<nn::MaxPool2d>(PoolOptions{2, 2, 0}));
  net->add(std::make_unique<nn::BasicBlock>(8, 13));
  net->add(std::make_unique<nn::GlobalAvgPool>()).add(std::make_unique<nn::Linear>(13, 10));
  return nn::Model("small net", std::move(net), input, 10);
}

struct Training {
  std::vector<double> losses, start, theta;
};
struct Settings {
  bool bf16 = false;
  int64_t steps = 1;
  optim::OptimizerOptions optimizer;
};

Training train(const nn::Model& model, const Settings& settings) {
  const auto world = dist::make_solo_world();
  nn::Loader loader(data(), {.batch = 20, .prefetch = 0});
  const auto optimizer = optim::make_optimizer(settings.optimizer);
  Vec theta = model.initialize(1);
  Training run{.losses = {}, .start = to_doubles(theta.view()), .theta = {}};
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), theta.dtype());
  Trainer trainer(model, loader, *optimizer, *scheme, *world, std::move(theta));
  const Status status =
      trainer.run({.steps = settings.steps, .bf16 = settings.bf16, .on_step = [&](const StepReport& r) {
                     run.losses.push_back(r.loss);
                     return Status::Ok();
                   }});
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(trainer.theta().dtype(), DType::f32);
  run.theta = to_doubles(trainer.theta().view());
  return run;
}

double mean_of(const std::vector<double>& v, size_t from, size_t to) {
  double sum = 0;
  for (size_t i = from; i < to; ++i) sum += v[i];
  return sum / static_cast<double>(to - from);
}

class Precision : public ::testing::TestWithParam<nn::Model (*)()> {};

// In windows of ten steps: single batches' losses scatter. Without momentum, at a rate where training is no chaos that
// would blow up any difference.
TEST_P(Precision, LossesFollowF32s) {
  const nn::Model model = GetParam()();
  const optim::OptimizerOptions sgd{.name = "sgd", .lr = 0.05};
  const Training wide = train(model, {.steps = 60, .optimizer = sgd});
  const Training narrow = train(model, {.bf16 = true, .steps = 60, .optimizer = sgd});
  EXPECT_NE(wide.losses, narrow.losses);
  const double fall = mean_of(wide.losses, 0, 10) - mean_of(wide.losses, 50, 60);
  EXPECT_GT(fall, 0.05);
  for (size_t i = 0; i < 60; i += 10)
    EXPECT_NEAR(mean_of(narrow.losses, i, i + 10), mean_of(wide.losses, i, i + 10), 0.02 * fall) << i;
}

// Each update is far below half a step of bf16: parameters kept in it would stand still. These move as f32's do.
TEST_P(Precision, TinyUpdatesAreNotLost) {
  const nn::Model model = GetParam()();
  const Settings tiny{.steps = 20, .optimizer = {.name = "sgd", .lr = 1e-5}};
  Settings narrow = tiny;
  narrow.bf16 = true;
  const Training want = train(model, tiny), got = train(model, narrow);
  const auto trained = static_cast<size_t>(model.layout().size());
  double along = 0, square_got = 0, square_want = 0;
  size_t moved = 0, moved_in_bf16 = 0;
  for (size_t i = 0; i < trained; ++i) {
    const double a = got.theta[i] - got.start[i], b = want.theta[i] - want.start[i];
    along += a * b, square_got += a * a, square_want += b * b;
    moved += a != 0;
    moved_in_bf16 += bfloat16(got.theta[i]).bits != bfloat16(got.start[i]).bits;
  }
  EXPECT_GT(moved, trained / 4);
  EXPECT_LT(moved_in_bf16, moved / 20);
  EXPECT_GT(along / std::sqrt(square_got * square_want), 0.99);
  EXPECT_NEAR(std::sqrt(square_got / square_want), 1, 0.05);
}

// Steps that estimate it are f32 as a whole; the others are not.
TEST_P(Precision, TheCurvatureIsF32sToTheBit) {
  const nn::Model model = GetParam()();
  for (const char* name : {"adahessian", "sophia_g"}) {
    const auto with = [&](bool bf16, int64_t every, int64_t steps) {
      return train(model,
                   {.bf16 = bf16, .steps = steps, .optimizer = {.name = name, .lr = 0.01, .hessian_every = every}})
          .theta;
    };
    EXPECT_EQ(with(true, 1, 3), with(false, 1, 3)) << name;
    EXPECT_EQ(with(true, 2, 1), with(false, 2, 1)) << name;
    EXPECT_NE(with(true, 2, 2), with(false, 2, 2)) << name;
  }
}

// Two workers against one process that makes both passes in turn and one step with the mean of their f32 gradients.
TEST_P(Precision, AllReduceTakesTheMeanInF32) {
  constexpr int kWorkers = 2;
  constexpr int64_t kSteps = 3;
  const nn::Model model = GetParam()();
  const optim::OptimizerOptions sgd{.name = "sgd", .lr = 0.05};
  const auto batches_of = [](int worker) {
    return nn::Loader(data(), {.batch = 20, .worker = worker, .workers = kWorkers, .prefetch = 0});
  };
  const auto run = dist::testing::simulate(kWorkers, [&](dist::World& world) -> Result<dist::testing::Numbers> {
    nn::Loader batches = batches_of(world.rank());
    const auto optimizer = optim::make_optimizer(sgd);
    Vec theta = model.initialize(1);
    const auto scheme =
        dist::make_scheme({.name = "allreduce", .workers = kWorkers}, world, theta.size(), theta.dtype());
    Trainer trainer(model, batches, *optimizer, *scheme, world, std::move(theta));
    SINEW_RETURN_IF_ERROR(trainer.run({.steps = kSteps, .bf16 = true}));
    return to_doubles(trainer.theta().view());
  });
  for (const auto& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
  EXPECT_EQ(run.nodes[0].numbers, run.nodes[1].numbers);

  Vec theta = model.initialize(1), mean = Vec::zeros(model.layout().size(), DType::f32);
  const auto optimizer = optim::make_optimizer(sgd);
  optimizer->init(model.layout(), DType::f32, Device::cpu);
  nn::Loader loaders[kWorkers] = {batches_of(0), batches_of(1)};
  const int64_t trained = model.layout().size(), kept = theta.size() - trained;
  size_t finer_than_bf16 = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    Vec gradient[kWorkers], own[kWorkers];
    for (int r = 0; r < kWorkers; ++r) {
      gradient[r] = Vec::zeros(trained, DType::f32), own[r] = theta.clone();
      const nn::Parameters parameters = model.parameters(own[r]), into(model.layout(), gradient[r], false);
      const nn::Buffers buffers = model.buffers(own[r]);
      const nn::Batch batch = loaders[r].next();
      const Tensor logits =
          model.forward(batch.inputs, {.parameters = parameters, .training = true, .buffers = &buffers, .bf16 = true});
      grad({nn::cross_entropy(logits, batch.labels)}, parameters.all(), {}, {.into = into.all()});
    }
    axpby(0.5, gradient[0].view(), 0.5, gradient[1].view(), mean.mutable_view());
    const VecView buffers = theta.mutable_view().slice(trained, kept);
    axpby(0.5, own[0].view().slice(trained, kept), 0.5, own[1].view().slice(trained, kept), buffers);
    for (double v : to_doubles(mean.view()))
      finer_than_bf16 += static_cast<double>(bfloat16(static_cast<float>(v))) != v;
    optimizer->step(theta.mutable_view().slice(0, trained), mean.mutable_view());
  }
  EXPECT_GT(finer_than_bf16, static_cast<size_t>(trained));
  EXPECT_EQ(run.nodes[0].numbers, to_doubles(theta.view()));
}

INSTANTIATE_TEST_SUITE_P(Networks, Precision, ::testing::Values(mlp, small_net),
                         [](const auto& p) { return p.index == 0 ? "Mlp" : "SmallNet"; });

Result<Configuration> configured(std::vector<std::pair<std::string, std::string>> settings) {
  ConfigSources sources;
  for (const auto& [key, value] : settings) sources.flags.push_back({key, value, "--" + key});
  return configure(sources);
}

TEST(PrecisionOption, HasTwoValues) {
  EXPECT_EQ(configured({})->options.train.precision, "f32");
  EXPECT_EQ(configured({{"train.precision", "bf16"}})->options.train.precision, "bf16");
  const Result<Configuration> bad = configured({{"train.precision", "fp16"}});
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.status().message().find("train.precision"), std::string::npos) << bad.status().message();
  EXPECT_NE(bad.status().message().find("it must be f32 or bf16"), std::string::npos) << bad.status().message();
}

TEST(PrecisionOption, IsPartOfWhatWorkersMustHaveInCommon) {
  const auto fingerprint = [](const char* precision) {
    return prepare_run(configured({{"train.precision", precision}})->options)->scheme.fingerprint;
  };
  EXPECT_NE(fingerprint("bf16"), fingerprint("f32"));
}

// The written configuration repeats the run, and schemes exchange what they always do.
TEST(PrecisionOption, RunsRepeatBitForBit) {
  std::string root = ::testing::TempDir() + "/sinew_precision_XXXXXX";
  ASSERT_NE(mkdtemp(root.data()), nullptr);
  std::string last;
  const auto run = [&](const std::string& name, std::vector<std::pair<std::string, std::string>> flags) {
    flags.insert(flags.end(), {{"run.world", "sim"}, {"run.dir", root + "/" + name}, {"log.progress", "none"}});
    ConfigSources sources;
    if (!last.empty()) sources.file = last;
    for (const auto& [key, value] : flags) sources.flags.push_back({key, value, "--" + key});
    Result<Configuration> configuration = configure(sources);
    EXPECT_TRUE(configuration.ok()) << configuration.status().message();
    Result<RunFolder> folder = RunFolder::create(*configuration, {"test"});
    EXPECT_TRUE(folder.ok()) << folder.status().message();
    const Result<RunSummary> summary = run_simulation(configuration->options, *folder);
    EXPECT_TRUE(summary.ok()) << summary.status().message();
    return *summary;
  };
  const std::vector<std::pair<std::string, std::string>> common = {
      {"data.train_size", "400"}, {"model.hidden", "16"}, {"train.steps", "30"},
      {"train.batch", "16"},      {"run.workers", "3"},   {"scheme.name", "easgd"}};
  auto bf16 = common;
  bf16.push_back({"train.precision", "bf16"});
  const RunSummary wide = run("wide", common), narrow = run("narrow", bf16);
  EXPECT_NE(narrow.parameters_sha256, wide.parameters_sha256);
  EXPECT_EQ(narrow.bytes_sent, wide.bytes_sent);
  last = root + "/narrow/config.toml";
  EXPECT_EQ(run("again", {}).parameters_sha256, narrow.parameters_sha256);
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace sinew::train
