#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "optim/schedule.h"
#include "optim/transforms.h"
#include "tests/optim/trajectory.h"

namespace sinew::optim {
namespace {

ParamLayout test_layout() {
  ParamLayout layout;
  layout.add("a", {7, 11});
  layout.add("b", {3});
  layout.add("filter", {4, 3, 3, 5});
  layout.add("c", {40, 50});
  return layout;
}

// Values on the parameters, zero on the padding.
Vec random_values(const ParamLayout& layout, DType dtype, uint64_t step) {
  Vec v = Vec::zeros(layout.size(), dtype);
  VecView all = v.mutable_view();
  for (size_t i = 0; i < layout.segments().size(); ++i) {
    const Segment& s = layout.segments()[i];
    RngKey key{9, static_cast<uint32_t>(RngPurpose::test), static_cast<uint32_t>(i), step};
    cpu_kernels().random({RandomDist::normal, dtype, s.numel, key, all.slice(s.offset, s.numel).data, 0, 1});
  }
  return v;
}

// A bowl around random targets, so that the gradient depends on where it is taken. The curvature that optimizers are
// told is the true 1 plus noise.
void run_steps(Optimizer& optimizer, Vec& theta, const Vec& target, int steps) {
  auto zeros = [&] { return Vec::zeros(theta.size(), theta.dtype()); };
  Vec gradient = zeros(), diagonal = zeros(), scratch = zeros();
  ParamLayout layout = test_layout();
  for (int i = 0; i < steps; ++i) {
    diagonal = random_values(layout, theta.dtype(), static_cast<uint64_t>(100 + optimizer.steps()));
    for (const Segment& s : layout.segments()) {
      VecView part = diagonal.mutable_view().slice(s.offset, s.numel);
      cpu_kernels().unary({UnaryOp::affine, part.dtype, part.size, part.data, part.data, 0.2, 1});
    }
    bowl_step(optimizer, theta, target, gradient, diagonal, scratch);
  }
}

// Does nothing, and knows nothing of the fused kernel: its chain runs transform by transform.
class Unfused : public Transform {
 public:
  std::string name() const override { return "unfused"; }
  void apply(VecView, VecView, const StepInfo&) override {}
};

std::vector<OptimizerOptions> all_kinds() {
  std::vector<OptimizerOptions> kinds;
  for (const std::string& name : optimizer_names())
    for (double weight_decay : {0.0, 0.1})
      for (double decoupled : {0.0, 0.3})
        for (double clip : {0.0, 20.0})
          kinds.push_back({.name = name,
                           .lr = 0.05,
                           .weight_decay = weight_decay,
                           .decoupled_decay = decoupled,
                           .clip_norm = clip,
                           .trust = 0.1,
                           .hessian_every = 3,
                           .schedule = "inverse_sqrt",
                           .gamma = 0.1});
  for (OptimizerOptions o : {OptimizerOptions{.hessian_power = 0.5, .hessian_dense_steps = 4},
                             OptimizerOptions{.hessian_power = 0.7, .hessian_every = 1, .hessian_block = 4},
                             OptimizerOptions{.hessian_average = "signed_mean", .hessian_stale = "repeat"},
                             OptimizerOptions{.bias_correction = false}}) {
    o.name = "adahessian";
    o.lr = 0.05;
    if (!o.hessian_every) o.hessian_every = 3;
    kinds.push_back(o);
  }
  return kinds;
}
std::string describe(const OptimizerOptions& o) {
  return o.name + " decay " + std::to_string(o.weight_decay) + " decoupled " +
         std::to_string(o.decoupled_decay.value_or(0)) + " clip " + std::to_string(o.clip_norm) + " power " +
         std::to_string(o.hessian_power) + " stale " + o.hessian_stale + " corrected " +
         std::to_string(o.bias_correction);
}

// ---- values ----

// x0 = 2, gradient 2x - 1/2, lr 0.1, momentum 0.9; the recurrences of PyTorch's SGD documentation evaluated in exact
// rational arithmetic.
struct Sequence {
  const char* name;
  double weight_decay, decoupled_decay;
  std::vector<double> x;
};
TEST(Optimizer, FollowsPyTorchsRecurrences) {
  const Sequence sequences[] = {
      {"sgd", 0, 0, {1.65, 1.37, 1.146, 0.9668, 0.82344}},
      {"sgd", .25, 0, {1.6, 1.29, 1.04975, 0.86355625, 0.71925609375}},
      {"sgd", 0, .5, {1.55, 1.2125, 0.959375, 0.76953125, 0.6271484375}},
      {"momentum", 0, 0, {1.65, 1.055, 0.3585, -0.29005, -0.765735}},
      {"momentum", .25, 0, {1.6, 0.93, 0.16775, -0.50601875, -0.94855640625}},
      {"momentum", 0, .5, {1.55, 0.8975, 0.205625, -0.37808125, -0.7496434375}},
      {"nesterov", 0, 0, {1.335, 0.6392, 0.060384, -0.31844032, -0.4775057664}},
      {"nesterov", .25, 0, {1.24, 0.4809, -0.10677475, -0.442653569375, -0.52733199277968745}},
      {"nesterov", 0, .5, {1.235, 0.51545, -0.0259135, -0.336021595, -0.42646013215}},
  };
  for (const Sequence& s : sequences) {
    ScalarRun run(make_optimizer({.name = s.name,
                                  .lr = 0.1,
                                  .momentum = 0.9,
                                  .weight_decay = s.weight_decay,
                                  .decoupled_decay = s.decoupled_decay}),
                  2);
    EXPECT_TRUE(run.optimizer().fused()) << s.name;
    for (size_t i = 0; i < s.x.size(); ++i)
      EXPECT_NEAR(run.step([](double x) { return 2 * x - 0.5; }), s.x[i], 1e-14) << s.name << " step " << i;
  }
}

// By hand: m = 0.9 m + 0.1 (x_before - x_now) / lr, and the mixing after the first step counts as movement.
TEST(Optimizer, QuasiGlobalMomentumFollowsTheMixedParameters) {
  ScalarRun run(make_optimizer({.name = "qgm", .lr = 0.1, .momentum = 0.9}), 2);
  const auto gradient = [](double x) { return 2 * x - 0.5; };
  EXPECT_NEAR(run.step(gradient), 1.65, 1e-14);
  run.x() += 0.5;
  EXPECT_NEAR(run.step(gradient), 1.7835, 1e-14);
  EXPECT_NEAR(run.step(gradient), 1.455965, 1e-14);
}

TEST(Optimizer, QuasiGlobalMomentumForgetsWhatReplacedParametersLeave) {
  ScalarRun run(make_optimizer({.name = "qgm", .lr = 0.1, .momentum = 0.9}), 2);
  const auto gradient = [](double x) { return 2 * x - 0.5; };
  run.step(gradient);
  run.x() = std::nan("");
  run.step([](double) { return 0.0; });
  run.x() = 1;
  run.optimizer().on_external_write(1);
  EXPECT_NEAR(run.step(gradient), 1 - 0.1 * 1.5, 1e-14) << "a plain step";
  EXPECT_NEAR(run.step(gradient), 0.85 - 0.1 * (1.2 + 0.9 * 0.1 * 1.5), 1e-14);
}

// A named optimizer's chain with a link that cannot be fused.
std::unique_ptr<Optimizer> unfused_twin(const OptimizerOptions& o) {
  std::vector<TransformPtr> chain;
  if (o.clip_norm > 0) chain.push_back(clip_by_norm(o.clip_norm));
  if (o.weight_decay > 0) chain.push_back(weight_decay(o.weight_decay));
  if (o.name == "momentum") chain.push_back(heavy_ball(o.momentum));
  if (o.name == "nesterov") chain.push_back(pytorch_nesterov(o.momentum));
  if (o.name == "adam" || o.name == "adamw") chain.push_back(adam({}));
  if (o.name == "lion") chain.push_back(lion(0.9, 0.99));
  if (o.name == "adahessian")
    chain.push_back(adahessian({.power = o.hessian_power,
                                .every = *o.hessian_every,
                                .dense_steps = o.hessian_dense_steps,
                                .signed_mean = o.hessian_average == "signed_mean",
                                .block = o.hessian_block,
                                .repeat_stale = o.hessian_stale == "repeat",
                                .bias_correction = o.bias_correction}));
  if (o.name == "sophia_h") chain.push_back(sophia({.every = *o.hessian_every}));
  if (o.name == "sophia_g")
    chain.push_back(sophia({.curvature = Curvature::gauss_newton,
                            .rho = 0.04,
                            .eps = 1e-15,
                            .every = *o.hessian_every,
                            .bias_correction = false}));
  chain.push_back(std::make_unique<Unfused>());
  if (o.decoupled_decay.value_or(0) > 0) chain.push_back(decoupled_decay(*o.decoupled_decay));
  return std::make_unique<Optimizer>(
      std::move(chain), o.schedule == "constant" ? constant_schedule() : inverse_sqrt_schedule(o.gamma), *o.lr);
}

TEST(Optimizer, FusedAndUnfusedChainsAgree) {
  ParamLayout layout = test_layout();
  int compared = 0;
  for (const OptimizerOptions& options : all_kinds()) {
    if (options.name == "nag" || options.name == "qgm" || options.name == "lars") continue;  // have no fused form
    for (DType dtype : {DType::f64, DType::f32}) {
      std::unique_ptr<Optimizer> fused = make_optimizer(options), unfused = unfused_twin(options);
      fused->init(layout, dtype, Device::cpu);
      unfused->init(layout, dtype, Device::cpu);
      ASSERT_TRUE(fused->fused()) << describe(options);
      ASSERT_FALSE(unfused->fused()) << describe(options);
      // Lion's step is a sign: where its argument is all rounding, both signs are right. A few steps keep clear of
      // that.
      const int steps = options.name == "lion" ? 5 : 20;
      Vec a = random_values(layout, dtype, 1), b = a.clone(), target = random_values(layout, dtype, 2);
      run_steps(*fused, a, target, steps);
      run_steps(*unfused, b, target, steps);
      EXPECT_LE(std::sqrt(squared_distance(a.view(), b.view())), (dtype == DType::f64 ? 1e-14 : 1e-5) * norm(b.view()))
          << describe(options) << " " << to_string(dtype);
      ++compared;
    }
  }
  EXPECT_EQ(compared, (9 * 8 + 4) * 2);
}

TEST(Optimizer, EveryKindMovesTowardTheTarget) {
  ParamLayout layout = test_layout();
  for (const OptimizerOptions& options : all_kinds()) {
    if (options.weight_decay > 0 || options.decoupled_decay > 0) continue;  // their optimum is elsewhere
    std::unique_ptr<Optimizer> optimizer = make_optimizer(options);
    optimizer->init(layout, DType::f32, Device::cpu);
    Vec theta = random_values(layout, DType::f32, 1), target = random_values(layout, DType::f32, 2);
    double before = squared_distance(theta.view(), target.view());
    run_steps(*optimizer, theta, target, 100);
    EXPECT_LT(squared_distance(theta.view(), target.view()), 0.1 * before) << describe(options);
  }
}

TEST(Optimizer, PaddingStaysZero) {
  ParamLayout layout = test_layout();
  ASSERT_GT(layout.size(), layout.parameter_count());
  for (const OptimizerOptions& options : all_kinds()) {
    std::unique_ptr<Optimizer> optimizer = make_optimizer(options);
    optimizer->init(layout, DType::f32, Device::cpu);
    Vec theta = random_values(layout, DType::f32, 1);
    run_steps(*optimizer, theta, random_values(layout, DType::f32, 2), 5);
    State state = optimizer->save();
    state.vectors["theta"] = theta;
    for (const auto& [name, vector] : state.vectors) {
      std::vector<double> values = to_doubles(vector.view());
      int64_t end = 0;
      for (const Segment& s : layout.segments()) {
        for (int64_t i = end; i < s.offset; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], 0) << name << " " << i;
        end = s.offset + s.numel;
      }
      for (int64_t i = end; i < layout.size(); ++i) EXPECT_EQ(values[static_cast<size_t>(i)], 0) << name << " " << i;
    }
  }
}

TEST(Optimizer, ClipsTheNormOfTheWholeGradient) {
  // One step of SGD with lr 1 moves theta by exactly the clipped gradient.
  ParamLayout layout = test_layout();
  Vec gradient = random_values(layout, DType::f64, 3), theta = Vec::zeros(layout.size(), DType::f64);
  double length = norm(gradient.view());
  for (double max_norm : {0.5, 2 * length}) {
    std::unique_ptr<Optimizer> optimizer = make_optimizer({.name = "sgd", .lr = 1, .clip_norm = max_norm});
    optimizer->init(layout, DType::f64, Device::cpu);
    fill(theta.mutable_view(), 0);
    Vec g = gradient.clone();
    optimizer->step(theta.mutable_view(), g.mutable_view());
    double expected = std::min(max_norm, length);
    EXPECT_NEAR(norm(theta.view()), expected, 1e-12 * expected);
    // The direction is the gradient's.
    EXPECT_NEAR(dot(theta.view(), gradient.view()), -expected * length, 1e-9);
  }
}

// ---- the look-ahead ----

TEST(Optimizer, LookAheadMovesThetaByMomentumTimesVelocity) {
  ScalarRun run(make_optimizer({.name = "nag", .lr = 0.1, .momentum = 0.5}), 1);
  run.step([](double) { return 2; });
  EXPECT_DOUBLE_EQ(run.x(), 0.8);
  EXPECT_DOUBLE_EQ(run.velocity(), -0.2);
  run.step([](double x) {
    EXPECT_DOUBLE_EQ(x, 0.8 - 0.5 * 0.2);
    return 0;
  });
  EXPECT_DOUBLE_EQ(run.x(), 0.7);
  EXPECT_DOUBLE_EQ(run.velocity(), -0.1);
}

// With a constant learning rate PyTorch's iterates are the points at which Sutskever's form takes its gradients.
TEST(Optimizer, BothNesterovFormsAreOneMethodInTwoCoordinates) {
  ScalarRun pytorch(make_optimizer({.name = "nesterov", .lr = 0.1}), 2),
      sutskever(make_optimizer({.name = "nag", .lr = 0.1}), 2);
  std::vector<double> looked_at, iterates{2};
  auto gradient = [](double x) { return std::sin(x) + x; };
  for (int i = 0; i < 20; ++i) {
    iterates.push_back(pytorch.step(gradient));
    sutskever.step([&](double x) {
      looked_at.push_back(x);
      return gradient(x);
    });
  }
  for (size_t i = 0; i < looked_at.size(); ++i) EXPECT_NEAR(looked_at[i], iterates[i], 1e-14) << i;
}

TEST(Optimizer, SkipTakesTheLookAheadBackAndKeepsTheState) {
  ScalarRun run(make_optimizer({.name = "nag", .lr = 0.1, .momentum = 0.9}), 1);
  run.steps(3, [](double x) { return x; });
  double x = run.x(), v = run.velocity();
  run.optimizer().before_gradient(run.theta().mutable_view());
  EXPECT_NE(run.x(), x);
  run.optimizer().skip(run.theta().mutable_view());
  EXPECT_NEAR(run.x(), x, 1e-15);
  EXPECT_EQ(run.velocity(), v);
  EXPECT_EQ(run.optimizer().steps(), 3);
  run.step([](double at) { return at; });  // and goes on
  EXPECT_EQ(run.optimizer().steps(), 4);
}

TEST(Optimizer, LookAheadMustBeCalledInOrder) {
  ScalarRun run(make_optimizer({.name = "nag"}), 1);
  Vec g = Vec::zeros(run.theta().size(), DType::f64);
  EXPECT_THROW(run.optimizer().step(run.theta().mutable_view(), g.mutable_view()), Error);
  run.optimizer().before_gradient(run.theta().mutable_view());
  EXPECT_THROW(run.optimizer().before_gradient(run.theta().mutable_view()), Error);
}

TEST(Optimizer, OutsideWritesLeaveTheVelocityAlone) {
  for (const char* name : {"momentum", "nesterov", "nag"}) {
    ScalarRun run(make_optimizer({.name = name}), 1);
    run.steps(3, [](double x) { return x; });
    double v = run.velocity();
    ASSERT_NE(v, 0) << name;
    run.x() += 0.5;
    run.optimizer().on_external_write(0.5);
    EXPECT_EQ(run.velocity(), v) << name;
  }
}

// ---- state ----

TEST(Optimizer, LoadedStateContinuesBitForBit) {
  ParamLayout layout = test_layout();
  for (const OptimizerOptions& options : all_kinds()) {
    Vec target = random_values(layout, DType::f32, 2), theta = random_values(layout, DType::f32, 1);
    std::unique_ptr<Optimizer> whole = make_optimizer(options), rest = make_optimizer(options);
    whole->init(layout, DType::f32, Device::cpu);
    rest->init(layout, DType::f32, Device::cpu);
    run_steps(*whole, theta, target, 7);
    State state = whole->save();
    Vec resumed = theta.clone();
    run_steps(*whole, theta, target, 7);
    Status loaded = rest->load(state);
    ASSERT_TRUE(loaded.ok()) << loaded.message();
    EXPECT_EQ(rest->steps(), 7);
    run_steps(*rest, resumed, target, 7);
    EXPECT_EQ(to_doubles(theta.view()), to_doubles(resumed.view())) << describe(options);
    EXPECT_EQ(rest->lr(), whole->lr());
  }
}

TEST(Optimizer, SavedStateIsACopyByName) {
  ScalarRun run(make_optimizer({.name = "momentum"}), 1);
  run.step([](double) { return 1; });
  State state = run.optimizer().save();
  ASSERT_EQ(state.vectors.size(), 1u);
  EXPECT_EQ(state.vectors.begin()->first, "heavy_ball.velocity");
  EXPECT_EQ(state.numbers.at("optimizer.step"), 1);
  run.step([](double) { return 1; });
  EXPECT_EQ(to_doubles(state.vectors.at("heavy_ball.velocity").view())[0], 1);
}

TEST(Optimizer, RefusesStatesOfOthers) {
  ParamLayout layout = test_layout();
  auto fresh = [&](const char* name) {
    std::unique_ptr<Optimizer> o = make_optimizer({.name = name});
    o->init(layout, DType::f32, Device::cpu);
    return o;
  };
  auto expect_refused = [&](Optimizer& o, const State& state, const char* part) {
    Status status = o.load(state);
    EXPECT_EQ(status.code(), StatusCode::data_error) << part;
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    EXPECT_EQ(o.steps(), 0);
  };
  State good = fresh("momentum")->save();
  expect_refused(*fresh("nag"), good, "look_ahead_momentum.velocity");
  expect_refused(*fresh("sgd"), good, "heavy_ball.velocity");
  expect_refused(*fresh("momentum"), State{}, "heavy_ball.velocity");
  State bad = good;
  bad.vectors["heavy_ball.velocity"] = Vec::zeros(16, DType::f32);
  expect_refused(*fresh("momentum"), bad, "16 f32");
  bad = good;
  bad.vectors["heavy_ball.velocity"] = Vec::zeros(layout.size(), DType::f64);
  expect_refused(*fresh("momentum"), bad, "f64");
  for (double step : {-1.0, 0.5, std::numeric_limits<double>::quiet_NaN()}) {
    bad = good;
    bad.numbers["optimizer.step"] = step;
    expect_refused(*fresh("momentum"), bad, "whole number");
    bad = fresh("adahessian")->save();
    bad.numbers["adahessian.hessian_steps"] = step;
    expect_refused(*fresh("adahessian"), bad, "adahessian.hessian_steps");
  }
}

// ---- contracts ----

TEST(Optimizer, RefusesWrongVectorsAndUseBeforeInit) {
  ParamLayout layout = test_layout();
  std::unique_ptr<Optimizer> o = make_optimizer({});
  Vec good = Vec::zeros(layout.size(), DType::f32), small = Vec::zeros(16, DType::f32);
  Vec wide = Vec::zeros(layout.size(), DType::f64);
  EXPECT_THROW(o->step(good.mutable_view(), good.mutable_view()), Error);
  EXPECT_THROW(o->save(), Error);
  EXPECT_THROW(o->init(layout, DType::i32, Device::cpu), Error);
  o->init(layout, DType::f32, Device::cpu);
  EXPECT_THROW(o->init(layout, DType::f32, Device::cpu), Error);
  EXPECT_THROW(o->step(small.mutable_view(), good.mutable_view()), Error);
  EXPECT_THROW(o->step(good.mutable_view(), small.mutable_view()), Error);
  EXPECT_THROW(o->step(good.mutable_view(), wide.mutable_view()), Error);
  EXPECT_THROW(o->before_gradient(wide.mutable_view()), Error);
  EXPECT_EQ(o->steps(), 0);
}

TEST(Optimizer, RefusesTwoTransformsOfOneName) {
  std::vector<TransformPtr> chain;
  chain.push_back(heavy_ball(0.9));
  chain.push_back(heavy_ball(0.5));
  EXPECT_THROW(Optimizer(std::move(chain), constant_schedule(), 0.1), Error);
}

TEST(Optimizer, AChainInAnotherOrderThanTheKernelsRunsUnfusedAndInItsOrder) {
  std::vector<TransformPtr> chain;
  chain.push_back(weight_decay(1));
  chain.push_back(clip_by_norm(0.5));
  ScalarRun run(std::make_unique<Optimizer>(std::move(chain), constant_schedule(), 1), 2);
  EXPECT_FALSE(run.optimizer().fused());
  EXPECT_DOUBLE_EQ(run.step([](double) { return 0; }), 1.5);  // decay 2, then clipped to 0.5
}

// A transform of one's own is a class and a place in a chain.
class WantsCurvature : public Transform {
 public:
  WantsCurvature(std::string name, Needs needs) : name_(std::move(name)), needs_(needs) {}
  std::string name() const override { return name_; }
  Needs needs() const override { return needs_; }
  void apply(VecView u, VecView, const StepInfo& info) override { axpby(-2, u, 0, u, u), seen = info.diagonal.data; }
  const void* seen = nullptr;

 private:
  std::string name_;
  Needs needs_;
};

TEST(Optimizer, CollectsTheNeedsOfItsTransforms) {
  EXPECT_EQ(make_optimizer({.name = "nag", .clip_norm = 1})->needs().curvature, Curvature::none);
  auto chain_of = [](Needs a, Needs b) {
    std::vector<TransformPtr> chain;
    chain.push_back(std::make_unique<WantsCurvature>("a", a));
    chain.push_back(std::make_unique<WantsCurvature>("b", b));
    chain.push_back(weight_decay(0));
    return std::make_unique<Optimizer>(std::move(chain), constant_schedule(), 0.5);
  };
  ScalarRun run(chain_of({Curvature::hutchinson, 2}, {Curvature::hutchinson, 3}), 1);
  EXPECT_EQ(run.optimizer().needs().curvature, Curvature::hutchinson);
  EXPECT_EQ(run.optimizer().needs().samples, 3);
  EXPECT_DOUBLE_EQ(run.step([](double) { return 1; }), 1 - 0.5 * 4);
  EXPECT_EQ(chain_of({}, {Curvature::gauss_newton, 1})->needs().curvature, Curvature::gauss_newton);
  EXPECT_THROW(chain_of({Curvature::hutchinson, 1}, {Curvature::gauss_newton, 1})->needs(), Error);
}

TEST(Optimizer, TakesTheDiagonalExactlyWhenItAskedForOne) {
  ParamLayout layout = test_layout();
  auto zeros = [&] { return Vec::zeros(layout.size(), DType::f32); };
  Vec theta = zeros(), gradient = zeros(), diagonal = zeros(), small = Vec::zeros(16, DType::f32);
  auto sgd = make_optimizer({}), second = make_optimizer({.name = "adahessian", .hessian_every = 2});
  sgd->init(layout, DType::f32, Device::cpu);
  second->init(layout, DType::f32, Device::cpu);
  auto step = [&](Optimizer& o, VecView d) { o.step(theta.mutable_view(), gradient.mutable_view(), d); };
  EXPECT_THROW(step(*sgd, diagonal.mutable_view()), Error);
  EXPECT_THROW(step(*second, {}), Error);
  EXPECT_THROW(step(*second, small.mutable_view()), Error);
  step(*second, diagonal.mutable_view());
  EXPECT_THROW(step(*second, diagonal.mutable_view()), Error);
  step(*second, {});
  EXPECT_EQ(second->needs().curvature, Curvature::hutchinson);
  EXPECT_EQ(second->steps(), 2);
}

TEST(Optimizer, UsesTheScheduleOfItsOwnSteps) {
  ScalarRun run(make_optimizer({.name = "sgd", .lr = 1, .schedule = "step", .gamma = 0.5, .step_every = 2}), 0);
  EXPECT_EQ(run.steps(5, [](double) { return -1; }), (std::vector<double>{1, 2, 2.5, 3, 3.25}));
  EXPECT_DOUBLE_EQ(run.optimizer().lr(), 0.25);
}

TEST(Optimizer, SeekMovesTheScheduleAndNothingElse) {
  ScalarRun run(make_optimizer({.name = "momentum", .lr = 1, .schedule = "step", .gamma = 0.5, .step_every = 2}), 0);
  run.step([](double) { return 1; });
  run.optimizer().seek(4);
  EXPECT_EQ(run.optimizer().steps(), 4);
  EXPECT_DOUBLE_EQ(run.optimizer().lr(), 0.25);
  EXPECT_EQ(run.velocity(), 1);
  EXPECT_THROW(run.optimizer().seek(-1), Error);
}

}  // namespace
}  // namespace sinew::optim
