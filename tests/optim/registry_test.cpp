#include <gtest/gtest.h>

#include <limits>

#include "optim/optimizer.h"

namespace sinew::optim {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(Registry, EveryNameBuilds) {
  EXPECT_EQ(optimizer_names(), (std::vector<std::string>{"sgd", "momentum", "nesterov", "nag", "qgm", "adam", "adamw",
                                                         "adahessian", "sophia_h", "sophia_g", "lars", "lion"}));
  EXPECT_EQ(schedule_names(), (std::vector<std::string>{"constant", "step", "cosine", "inverse_sqrt"}));
  for (const std::string& name : optimizer_names())
    for (const std::string& schedule : schedule_names()) {
      OptimizerOptions o{.name = name, .schedule = schedule, .gamma = 0.5, .step_every = 3, .total_steps = 10};
      Status status = validate(o);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_DOUBLE_EQ(make_optimizer(o)->lr(), *with_defaults(o).lr) << name << " " << schedule;
    }
}

TEST(Registry, WarmupAppliesToEverySchedule) {
  for (const std::string& schedule : schedule_names()) {
    OptimizerOptions o{
        .lr = 1, .schedule = schedule, .gamma = 0.5, .step_every = 3, .total_steps = 10, .warmup_steps = 4};
    EXPECT_DOUBLE_EQ(make_optimizer(o)->lr(), 0.25) << schedule;
  }
}

TEST(Registry, BadOptionsAreOneLineThatNamesTheOption) {
  struct Case {
    const char* option;
    OptimizerOptions options;
  };
  const Case cases[] = {
      {"optim.name", {.name = "sdg"}},
      {"optim.lr", {.lr = -1}},
      {"optim.lr", {.lr = kNan}},
      {"optim.lr", {.lr = kInf}},
      {"optim.momentum", {.momentum = 1}},
      {"optim.momentum", {.momentum = -0.1}},
      {"optim.momentum", {.momentum = kNan}},
      {"optim.weight_decay", {.weight_decay = -1}},
      {"optim.decoupled_decay", {.decoupled_decay = kInf}},
      {"optim.clip_norm", {.clip_norm = -2}},
      {"optim.schedule", {.schedule = "linear"}},
      {"optim.gamma", {.schedule = "inverse_sqrt", .gamma = -1}},
      {"optim.gamma", {.schedule = "step", .gamma = 0, .step_every = 5}},
      {"optim.step_every", {.schedule = "step", .gamma = 0.1}},
      {"optim.total_steps", {.schedule = "cosine"}},
      {"optim.warmup_steps", {.warmup_steps = -1}},
      {"optim.beta1", {.beta1 = 1}},
      {"optim.beta2", {.beta2 = -0.1}},
      {"optim.eps", {.eps = 0}},
      {"optim.rho", {.rho = kNan}},
      {"optim.trust", {.trust = 0}},
      {"optim.hessian_power", {.hessian_power = 1.5}},
      {"optim.hessian_every", {.hessian_every = 0}},
      {"optim.hessian_dense_steps", {.hessian_dense_steps = -1}},
      {"optim.hessian_samples", {.hessian_samples = 0}},
      {"optim.hessian_average", {.hessian_average = "mean"}},
      {"optim.hessian_block", {.hessian_block = 0}},
      {"optim.hessian_stale", {.hessian_stale = "once"}},
  };
  for (const Case& c : cases) {
    Status status = validate(c.options);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << c.option;
    EXPECT_EQ(status.message().find(c.option), 0u) << status.message();
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
    EXPECT_THROW(make_optimizer(c.options), Error);
  }
  EXPECT_NE(validate({.name = "sdg"}).message().find("sgd, momentum, nesterov, nag"), std::string::npos);
}

// What the papers and their authors' code say (optim/README.md).
TEST(Registry, UnsetOptionsAreThePublishedDefaults) {
  OptimizerOptions o = with_defaults({.name = "adahessian"});
  EXPECT_EQ(o.lr, 0.15);
  EXPECT_EQ(o.beta1, 0.9);
  EXPECT_EQ(o.beta2, 0.999);
  EXPECT_EQ(o.eps, 1e-4);
  EXPECT_EQ(o.hessian_every, 1);
  EXPECT_EQ(o.decoupled_decay, 0);
  o = with_defaults({.name = "sophia_g", .rho = 0.05});
  EXPECT_EQ(o.beta1, 0.965);
  EXPECT_EQ(o.beta2, 0.99);
  EXPECT_EQ(o.rho, 0.05);
  EXPECT_EQ(o.decoupled_decay, 0.1);
  EXPECT_EQ(o.hessian_every, 10);
  EXPECT_EQ(with_defaults({.name = "adamw"}).decoupled_decay, 0.01);
  EXPECT_EQ(with_defaults({.name = "adam"}).decoupled_decay, 0);
  EXPECT_EQ(with_defaults({.name = "lion"}).beta2, 0.99);
  EXPECT_THROW(with_defaults({.name = "sdg"}), Error);
}

}  // namespace
}  // namespace sinew::optim
