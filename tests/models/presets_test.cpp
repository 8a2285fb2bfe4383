// What the presets set, against the papers and their authors' code, as the specifications have it.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "models/component_options.h"
#include "models/config.h"

namespace sinew::train {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

// Every table below has its presets in here.
const std::set<std::string> kElastic = {"easgd-mnist", "eamsgd-mnist"}, kLeaders = {"lsgd", "lsgd_prox"},
                            kOuter = {"local_sgd", "slowmo", "bmuf", "lookahead", "diloco"},
                            kWeighted = {"eahes", "eahes_o", "eahes_om", "deahes", "deahes_o"};

Configuration configured(const std::string& preset) {
  ConfigSources sources;
  sources.preset = preset;
  Result<Configuration> c = configure(sources);
  EXPECT_TRUE(c.ok()) << c.status().message();
  return c.ok() ? *c : Configuration();
}

void expect_settings(const std::string& preset, const Settings& expected) {
  const Options options = configured(preset).options;
  for (const auto& [key, text] : expected) {
    const auto& table = option_table();
    const auto spec = std::find_if(table.begin(), table.end(), [&](const OptionSpec& s) { return s.key == key; });
    ASSERT_NE(spec, table.end()) << key;
    EXPECT_EQ(option_text(options, *spec), text) << preset << ": " << key;
  }
}

TEST(Presets, AreValidAndCompared) {
  std::set<std::string> names;
  for (const Preset& preset : presets()) {
    EXPECT_TRUE(check_components(configured(preset.name).options).ok()) << preset.name;
    EXPECT_GT(preset.about.size(), 10u) << preset.name;
    EXPECT_NE(preset.about[0], '#');
    names.insert(preset.name);
  }
  std::set<std::string> compared;
  for (const auto* part : {&kElastic, &kLeaders, &kOuter, &kWeighted}) compared.insert(part->begin(), part->end());
  EXPECT_EQ(names, compared);
}

// The EASGD specification, section 12: alpha of 4 workers.
TEST(Presets, ElasticAveraging) {
  for (const std::string& preset : kElastic)
    expect_settings(preset, {{"scheme.period", "10"},
                             {"scheme.alpha", "0.225"},
                             {"run.workers", "4"},
                             {"train.batch", "128"},
                             {"optim.weight_decay", "1e-04"},
                             {"optim.decoupled_decay", "0"},
                             {"optim.schedule", "constant"},
                             {"data.sharding", "full"}});
  expect_settings("easgd-mnist", {{"scheme.name", "easgd"}, {"optim.name", "sgd"}});
  expect_settings("eamsgd-mnist", {{"scheme.name", "eamsgd"}, {"optim.name", "nag"}, {"optim.momentum", "0.99"}});
}

// The EASGD specification, section 11. Of momentum only where there is one.
TEST(Presets, OuterUpdates) {
  struct Row {
    const char *preset, *outer, *lr, *momentum, *period, *workers, *optimizer;
  };
  std::set<std::string> rows;
  for (const Row& r : {Row{"local_sgd", "none", "1", "", "10", "4", "sgd"},
                       {"slowmo", "momentum", "1", "0.2", "48", "4", "nesterov"},
                       {"bmuf", "momentum", "1", "0.75", "10", "4", "sgd"},
                       {"lookahead", "none", "0.5", "", "5", "1", "momentum"},
                       {"diloco", "nesterov", "0.7", "0.9", "50", "4", "adamw"}}) {
    rows.insert(r.preset);
    expect_settings(r.preset, {{"scheme.name", "local_sgd"},
                               {"scheme.outer", r.outer},
                               {"scheme.outer_lr", r.lr},
                               {"scheme.period", r.period},
                               {"run.workers", r.workers},
                               {"optim.name", r.optimizer}});
    if (*r.momentum) expect_settings(r.preset, {{"scheme.outer_momentum", r.momentum}});
  }
  EXPECT_EQ(rows, kOuter);
  const Options bmuf = configured("bmuf").options;
  EXPECT_EQ(bmuf.scheme.outer_momentum, 1 - 1.0 / static_cast<double>(bmuf.run.workers));
}

// The LSGD specification, section 6.1: the NeurIPS version, and the later scripts with proximal pulls.
TEST(Presets, Leaders) {
  for (const std::string& preset : kLeaders)
    expect_settings(preset, {{"scheme.name", "lsgd"},
                             {"scheme.mode", "async"},
                             {"scheme.leader", "running_train"},
                             {"scheme.groups", ""},
                             {"scheme.pull", "0.1"},
                             {"scheme.pull_global", "0.1"},
                             {"optim.weight_decay", "1e-04"},
                             {"train.batch", "128"},
                             {"run.workers", "4"}});
  expect_settings("lsgd", {{"optim.name", "sgd"},
                           {"optim.lr", "0.1"},
                           {"scheme.period", "64"},
                           {"scheme.period_global", "128"},
                           {"scheme.loss_window", "10"},
                           {"scheme.proximal", "0"},
                           {"scheme.proximal_global", "0"}});
  expect_settings("lsgd_prox", {{"optim.name", "nesterov"},
                                {"optim.momentum", "0.9"},
                                {"optim.lr", "0.01"},
                                {"scheme.period", "16"},
                                {"scheme.loss_window", "16"},
                                {"scheme.proximal", "0.1"},
                                {"scheme.proximal_global", "0.1"}});
}

// The dynamic-weighting specification, section 1.4, and 1.9 k to n and r.
TEST(Presets, DynamicWeighting) {
  struct Row {
    const char *preset, *sharding, *weighting, *order;
  };
  std::set<std::string> rows;
  for (const Row& r : {Row{"eahes", "partition", "fixed", "pre"},
                       {"eahes_o", "overlap", "fixed", "pre"},
                       {"eahes_om", "overlap", "oracle", "post"},
                       {"deahes", "partition", "dynamic", "post"},
                       {"deahes_o", "overlap", "dynamic", "post"}}) {
    rows.insert(r.preset);
    expect_settings(r.preset, {{"scheme.name", "easgd"},
                               {"optim.name", "adahessian"},
                               {"optim.lr", "0.05"},
                               {"data.sharding", r.sharding},
                               {"scheme.weighting", r.weighting},
                               {"scheme.update_order", r.order},
                               {"scheme.alpha", "0.1"},
                               {"scheme.period", "4"},
                               {"scheme.s0", "0"},
                               {"scheme.score_sign", "1"},
                               {"scheme.score_coefficients", "0.5,0.25,0.15,0.1"},
                               {"scheme.warmup_rounds", "10"},
                               {"model.name", "cnn_mnist"},
                               {"train.batch", "128"},
                               {"run.workers", "4"}});
    EXPECT_EQ(configured(r.preset).options.scheme.kappa, 3 * 0.1) << r.preset;
    if (r.sharding == std::string("overlap")) expect_settings(r.preset, {{"data.overlap", "0.25"}});
  }
  EXPECT_EQ(rows, kWeighted);
}

}  // namespace
}  // namespace sinew::train
