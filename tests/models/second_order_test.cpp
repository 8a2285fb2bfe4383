// Second-order optimizers through the trainer: who pays for the curvature and when, what a synchronous scheme does with
// it and what an elastic one does not, restarts, and what happens to a diagonal that is not finite.
#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd.h"
#include "core/ops.h"
#include "dist/solo_world.h"
#include "models/curvature.h"
#include "models/trainer.h"
#include "models/zoo/mlp.h"
#include "nn/data/dataset.h"
#include "nn/layers.h"
#include "optim/schedule.h"
#include "optim/transforms.h"
#include "tests/support/spawn_nodes.h"

namespace sinew::train {
namespace {

using dist::testing::Numbers;
using optim::Curvature;

constexpr int64_t kBatch = 8;
constexpr uint64_t kSeed = 5;

nn::DatasetPtr data() {
  static const nn::DatasetPtr set = nn::open_data({.name = "synthetic", .train_size = 200}).value().train;
  return set;
}
nn::Model model() {
  return make_mlp({.input = data()->sample_shape(), .hidden = {7}, .outputs = 10, .activation = "tanh"});
}
nn::Loader loader(int worker, int workers) {
  return nn::Loader(data(), {.batch = kBatch, .worker = worker, .workers = workers, .prefetch = 0});
}

// Asks for a diagonal every second step, remembers what it gets, and leaves the step to SGD.
class Witness : public optim::Transform {
 public:
  explicit Witness(Curvature kind, std::vector<std::vector<double>>& seen) : kind_(kind), seen_(seen) {}
  std::string name() const override { return "witness"; }
  optim::Needs needs() const override { return {steps_ % 2 == 0 ? kind_ : Curvature::none, 1}; }
  void apply(VecView, VecView, const optim::StepInfo& info) override {
    seen_.push_back(info.diagonal.data ? to_doubles(info.diagonal) : std::vector<double>());
    ++steps_;
  }

 private:
  const Curvature kind_;
  std::vector<std::vector<double>>& seen_;
  int steps_ = 0;
};

// Trains with a witness; the diagonals that it saw, one after the other.
Result<Numbers> witnessed(dist::World& world, const dist::SchemeOptions& options, Curvature kind, int64_t steps) {
  std::vector<std::vector<double>> seen;
  std::vector<optim::TransformPtr> chain;
  chain.push_back(std::make_unique<Witness>(kind, seen));
  optim::Optimizer optimizer(std::move(chain), optim::constant_schedule(), 0.1);
  const nn::Model net = model();
  nn::Loader batches = loader(world.rank(), options.workers);
  Vec theta = net.initialize(1, DType::f32);
  const auto scheme = dist::make_scheme(options, world, theta.size(), DType::f32);
  Trainer trainer(net, batches, optimizer, *scheme, world, std::move(theta));
  SINEW_RETURN_IF_ERROR(trainer.run({.steps = steps, .seed = kSeed}));
  Numbers flat;
  for (const auto& d : seen) flat.insert(flat.end(), d.begin(), d.end());
  return flat;
}

// What a rank alone estimates in step 0, at the common start.
std::vector<double> alone(int rank, int workers, Curvature kind) {
  const nn::Model net = model();
  Vec theta = net.initialize(1, DType::f32), flat = Vec::zeros(net.layout().size(), DType::f32);
  const nn::Parameters parameters = net.parameters(theta), gradient(net.layout(), flat, false);
  nn::Loader batches = loader(rank, workers);
  const nn::Batch batch = batches.next();
  const Tensor logits = net.forward(batch.inputs, {.parameters = parameters, .training = true});
  return to_doubles(gradient_and_diagonal(net.layout(), {logits, nn::cross_entropy(logits, batch.labels)},
                                          parameters.all(), gradient.all(), {kind, 1},
                                          {.seed = kSeed, .rank = static_cast<uint32_t>(rank), .step = 0})
                        .view());
}

class SecondOrder : public ::testing::TestWithParam<Curvature> {};
INSTANTIATE_TEST_SUITE_P(Estimates, SecondOrder, ::testing::Values(Curvature::hutchinson, Curvature::gauss_newton),
                         [](const auto& p) { return p.param == Curvature::hutchinson ? "Hutchinson" : "GaussNewton"; });

// The signed diagonal: a mean of sizes would be larger.
TEST_P(SecondOrder, AllReduceAveragesTheSignedDiagonal) {
  const auto run = dist::testing::simulate(
      2, [&](dist::World& world) { return witnessed(world, {.name = "allreduce", .workers = 2}, GetParam(), 2); });
  const std::vector<double> a = alone(0, 2, GetParam()), b = alone(1, 2, GetParam());
  EXPECT_NE(a, b);
  double opposite = 0;
  for (const auto& node : run.nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    ASSERT_EQ(node.numbers.size(), a.size()) << "one diagonal in two steps";
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_NEAR(node.numbers[i], (a[i] + b[i]) / 2, 1e-6 * (std::fabs(a[i]) + std::fabs(b[i]))) << i;
      opposite += a[i] * b[i] < 0;
    }
  }
  if (GetParam() == Curvature::hutchinson) {
    EXPECT_GT(opposite, 10);
  }
}

TEST_P(SecondOrder, ElasticSchemesReduceNothing) {
  const dist::SchemeOptions options{.name = "easgd", .workers = 2, .period = 4};
  const auto run = dist::testing::simulate(3, [&](dist::World& world) -> Result<Numbers> {
    if (world.rank() < 2) return witnessed(world, options, GetParam(), 3);
    Vec theta = model().initialize(1, DType::f32);
    const auto center = dist::make_center(options, world, theta.size(), DType::f32);
    SINEW_RETURN_IF_ERROR(center->start(theta.view()));
    SINEW_RETURN_IF_ERROR(dist::serve_all(*center, world));
    return Numbers{};
  });
  for (int rank = 0; rank < 2; ++rank) {
    const auto& node = run.nodes[static_cast<size_t>(rank)];
    ASSERT_TRUE(node.finished) << node.status.message();
    const std::vector<double> own = alone(rank, 2, GetParam());
    ASSERT_EQ(node.numbers.size(), 2 * own.size()) << "two diagonals in three steps";
    EXPECT_EQ(std::vector<double>(node.numbers.begin(), node.numbers.begin() + static_cast<int64_t>(own.size())), own);
  }
}

TEST(SecondOrderRuns, TheSameSeedGivesTheSameBitsAndAnotherSeedOthers) {
  auto run = [&](const std::string& name, uint64_t seed) {
    const auto world = dist::make_solo_world();
    const nn::Model net = model();
    nn::Loader batches = loader(0, 1);
    const auto optimizer = optim::make_optimizer({.name = name, .hessian_every = 2, .hessian_samples = 2});
    Vec theta = net.initialize(1);
    const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), DType::f32);
    Trainer trainer(net, batches, *optimizer, *scheme, *world, std::move(theta));
    EXPECT_TRUE(trainer.run({.steps = 6, .seed = seed}).ok());
    return sha256_hex(trainer.theta().view());
  };
  for (const char* name : {"adahessian", "sophia_h", "sophia_g"}) {
    EXPECT_EQ(run(name, 1), run(name, 1)) << name;
    EXPECT_NE(run(name, 1), run(name, 2)) << name;
  }
}

// Batch norm in front of everything: its statistics are the data's, whatever the parameters are.
TEST(SecondOrderRuns, RunningStatisticsMoveOncePerStep) {
  constexpr int64_t kSteps = 4;
  const Shape input = data()->sample_shape();
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::BatchNorm>(input[2])).add(std::make_unique<nn::Flatten>());
  net->add(std::make_unique<nn::Linear>(input.numel(), 10));
  const nn::Model normed("normed", std::move(net), input, 10);
  ASSERT_EQ(input[2], 1);
  double mean = 0, variance = 1;
  nn::Loader same = loader(0, 1);
  for (int64_t step = 0; step < kSteps; ++step) {
    const std::vector<double> x = to_doubles(same.next().inputs.view());
    const double n = static_cast<double>(x.size());
    double sum = 0, squares = 0;
    for (double v : x) sum += v;
    for (double v : x) squares += (v - sum / n) * (v - sum / n);
    mean += 0.1 * (sum / n - mean), variance += 0.1 * (squares / (n - 1) - variance);
  }
  for (const char* name : {"adahessian", "sophia_h", "sophia_g"})
    for (const int samples : {1, 3}) {
      const auto world = dist::make_solo_world();
      nn::Loader batches = loader(0, 1);
      const auto optimizer = optim::make_optimizer({.name = name, .hessian_every = 2, .hessian_samples = samples});
      Vec theta = normed.initialize(1);
      const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), DType::f32);
      Trainer trainer(normed, batches, *optimizer, *scheme, *world, std::move(theta));
      const Status status = trainer.run({.steps = kSteps, .seed = kSeed});
      ASSERT_TRUE(status.ok()) << status.message();
      for (const auto& [buffer, expected] : {std::pair{"0.running_mean", mean}, {"0.running_var", variance}}) {
        const int at = normed.state_layout().find(buffer);
        ASSERT_GE(at, 0) << buffer;
        const int64_t offset = normed.state_layout().segments()[static_cast<size_t>(at)].offset;
        EXPECT_NEAR(to_doubles(trainer.theta().slice(offset, 1).view())[0], expected, 1e-6) << name << " " << samples;
      }
    }
}

// w^1.5 has a derivative at 0, but no second one.
class Kink : public nn::Module {
 public:
  void declare(nn::Declarations& d) override { w_ = d.parameter("w", {2, 2}, nn::Initializer{}); }
  Tensor forward(const Tensor& x, const nn::Pass& pass) const override {
    return matmul(x, pow(pass.parameters[w_], 1.5));
  }

 private:
  nn::ParamId w_;
};

class Ones : public nn::Dataset {
 public:
  std::string name() const override { return "ones"; }
  int64_t size() const override { return 16; }
  Shape sample_shape() const override { return {2}; }
  int64_t classes() const override { return 2; }
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override {
    for (size_t i = 0; i < indices.size(); ++i) inputs[2 * i] = inputs[2 * i + 1] = 1, labels[i] = 0;
  }
};

TEST(SecondOrderRuns, ADiagonalThatIsNotFiniteStopsTheRunOrIsSkipped) {
  for (const bool skip : {false, true}) {
    const nn::Model net("kink", std::make_unique<Kink>(), {2}, 2);
    const auto world = dist::make_solo_world();
    nn::Loader batches(std::make_shared<Ones>(), {.batch = 4, .prefetch = 0});
    const auto optimizer = optim::make_optimizer({.name = "adahessian"});
    Vec theta = Vec::zeros(net.state_layout().size(), DType::f32);
    const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), DType::f32);
    Trainer trainer(net, batches, *optimizer, *scheme, *world, std::move(theta));
    // Nothing is recorded on the CPU, so the check comes before the update there.
    const Status status = trainer.run({.steps = 2, .graph = Recorded::step, .skip_nonfinite = skip});
    EXPECT_EQ(status.code(), skip ? StatusCode::ok : StatusCode::non_finite) << status.message();
    EXPECT_EQ(status.message().find("diagonal") != std::string::npos, !skip) << status.message();
    for (double v : to_doubles(trainer.theta().view())) EXPECT_EQ(v, 0);
    EXPECT_EQ(optimizer->steps(), 0);
  }
}

TEST(SecondOrderRuns, TheGaussNewtonDiagonalIsForTheCrossEntropy) {
  const nn::Model net = model();
  const auto world = dist::make_solo_world();
  nn::Loader batches = loader(0, 1);
  const auto optimizer = optim::make_optimizer({.name = "sophia_g"});
  Vec theta = net.initialize(1);
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), DType::f32);
  Trainer trainer(net, batches, *optimizer, *scheme, *world, std::move(theta));
  EXPECT_THROW((void)trainer.run({.steps = 1, .loss = nn::mean_squared_error}), Error);
}

}  // namespace
}  // namespace sinew::train
