#include "models/config.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "models/component_options.h"

namespace sinew::train {
namespace {

std::string temporary(const std::string& name, const std::string& text) {
  std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

Configuration configured(const ConfigSources& sources) {
  Result<Configuration> c = configure(sources);
  EXPECT_TRUE(c.ok()) << c.status().message();
  return c.ok() ? *c : Configuration();
}

std::string error_of(const ConfigSources& sources) {
  Result<Configuration> c = configure(sources);
  EXPECT_FALSE(c.ok());
  return c.status().message();
}

ConfigSources flags(std::vector<Assignment> assignments) {
  ConfigSources sources;
  sources.flags = std::move(assignments);
  return sources;
}

TEST(Config, FlagBeatsEnvironmentBeatsFileBeatsPresetBeatsDefault) {
  ConfigSources sources;
  auto alpha = [&] {
    Configuration c = configured(sources);
    return std::make_pair(c.options.train.batch, c.origins.at("train.batch").source);
  };
  using Expected = std::pair<int64_t, Source>;
  EXPECT_EQ(alpha(), Expected(128, Source::default_value));
  sources.preset = "easgd-mnist";
  EXPECT_EQ(alpha(), Expected(128, Source::preset));
  sources.file = temporary("precedence.toml", "# a comment\n[train]\nbatch = 64\n");
  EXPECT_EQ(alpha(), Expected(64, Source::file));
  sources.environment = {{"SINEW_TRAIN_BATCH", "32"}, {"SINEW_DATA", "not a setting"}, {"SINEW_SECRET", "no"}};
  EXPECT_EQ(alpha(), Expected(32, Source::environment));
  sources.flags = {{"batch", "16", "--batch"}};
  EXPECT_EQ(alpha(), Expected(16, Source::flag));
  sources.flags.push_back({"train.batch", "8", "train.batch=8"});
  EXPECT_EQ(alpha(), Expected(8, Source::flag));

  Configuration c = configured(sources);
  EXPECT_EQ(c.origins.at("train.batch").detail, "train.batch=8");
  EXPECT_EQ(c.options.scheme.name, "easgd");  // still from the preset
  EXPECT_EQ(c.origins.at("scheme.name").source, Source::preset);
  sources.flags.clear();
  EXPECT_EQ(configured(sources).origins.at("train.batch").detail, "SINEW_TRAIN_BATCH");
  sources.environment.clear();
  EXPECT_EQ(configured(sources).origins.at("train.batch").detail, sources.file + ":3");
}

TEST(Config, DerivedDefaults) {
  Configuration one = configured({});
  EXPECT_EQ(one.options.scheme.name, "local");
  EXPECT_EQ(one.options.optim.name, "momentum");
  EXPECT_EQ(one.options.data.sharding, "full");
  EXPECT_GE(one.options.train.threads, 1);

  Configuration four = configured(flags({{"workers", "4", "--workers"}}));
  EXPECT_EQ(four.options.scheme.name, "easgd");
  EXPECT_EQ(four.options.scheme.alpha, 0.9 / 4);
  EXPECT_EQ(four.options.scheme.beta, 4 * (0.9 / 4));
  EXPECT_EQ(four.origins.at("scheme.alpha").detail,
            "0.9 / workers; easgd_tree 0.9 / (fan_out + 1); elastic_gossip, adpsgd 0.5");
  EXPECT_EQ(four.origins.at("scheme.alpha").source, Source::default_value);

  EXPECT_EQ(configured(flags({{"scheme", "eamsgd", "--scheme"}})).options.optim.name, "nag");
  EXPECT_EQ(configured(flags({{"scheme", "msgd", "--scheme"}})).options.optim.name, "nag");
  for (const char* scheme : {"downpour", "adownpour", "asgd", "mvasgd"})
    EXPECT_EQ(configured(flags({{"scheme", scheme, "--scheme"}})).options.optim.name, "sgd");
  EXPECT_EQ(configured(flags({{"scheme", "easgd", "--scheme"}})).options.scheme.period, 10);
  EXPECT_EQ(configured(flags({{"scheme", "lgd", "--scheme"}})).options.scheme.period, 1);
  EXPECT_EQ(configured(flags({{"scheme", "lsgd", "-"}, {"scheme.period", "64", "-"}})).options.scheme.period_global,
            128);
  Configuration weighted =
      configured(flags({{"workers", "3", "-"}, {"scheme.weighting", "dynamic", "-"}, {"scheme.alpha", "0.2", "-"}}));
  EXPECT_EQ(weighted.options.scheme.kappa, 3 * 0.2);
  EXPECT_EQ(weighted.options.scheme.update_order, "post");
  EXPECT_EQ(four.options.scheme.update_order, "pre");
  const Status wrong =
      check_components(configured(flags({{"scheme", "allreduce", "-"}, {"scheme.weighting", "dynamic", "-"}})).options);
  EXPECT_EQ(wrong.message(),
            "weighting = 'dynamic' with scheme allreduce; it is for easgd, eamsgd, easgd_sync with order jacobi, "
            "elastic_gossip with mode async and adpsgd; others are fixed");
  Configuration momentum = configured(flags({{"scheme", "mdownpour", "--scheme"}}));
  EXPECT_EQ(momentum.options.scheme.period, 1);
  EXPECT_EQ(momentum.options.scheme.outer_momentum, 0.99);
  EXPECT_EQ(configured(flags({{"scheme", "allreduce", "--scheme"}})).options.data.sharding, "partition");
  Configuration given = configured(flags({{"workers", "4", "-"},
                                          {"scheme", "allreduce", "-"},
                                          {"data.sharding", "full", "-"},
                                          {"scheme.alpha", "0.5", "-"},
                                          {"train.threads", "3", "-"}}));
  EXPECT_EQ(given.options.data.sharding, "full");
  EXPECT_EQ(given.options.scheme.alpha, 0.5);
  EXPECT_EQ(given.options.scheme.beta, 1);  // 4 * 0.5 is more than an average
  EXPECT_EQ(given.options.train.threads, 3);
}

TEST(Config, WrittenConfigReadsBackExactly) {
  Configuration c = configured(flags({{"workers", "7", "-"},
                                      {"optim.lr", "0.1234567890123456789", "-"},
                                      {"data.dir", "/a dir/with \"quotes\", \\ and # signs\t", "-"},
                                      {"model.hidden", "none", "-"},
                                      {"data.mean", "0.5,0.1234567890123456789,-3", "-"},
                                      {"data.std", "1", "-"},
                                      {"sim.latency", "1234567ns", "--sim.latency"},
                                      {"sim.bandwidth", "1e15", "line\nbreak"},
                                      {"sim.always_yield", "true", "-"},
                                      {"out", "/somewhere", "--out"}}));
  std::string text = write_config(c);
  ConfigSources sources;
  sources.file = temporary("round_trip.toml", text);
  Configuration back = configured(sources);
  for (const OptionSpec& spec : option_table()) {
    if (!spec.repeats) continue;
    EXPECT_EQ(option_text(back.options, spec), option_text(c.options, spec)) << spec.key;
    EXPECT_EQ(back.origins.at(spec.key).source, Source::file) << spec.key;
  }
  EXPECT_EQ(back.options.optim.lr, c.options.optim.lr);
  EXPECT_EQ(back.options.scheme.alpha, c.options.scheme.alpha);
  EXPECT_EQ(back.options.run.dir, "");  // a repeated run gets a folder of its own
  EXPECT_NE(text.find("workers = 7"), std::string::npos);
  EXPECT_NE(text.find("# flag: --"), std::string::npos);
}

TEST(Config, EveryKeyFromEverySource) {
  Options defaults;
  for (const OptionSpec& spec : option_table()) {
    std::string text = option_text(defaults, spec);
    std::string key = spec.key, section = key.substr(0, key.find('.')), name = key.substr(key.find('.') + 1);
    bool quoted = spec.kind != OptionKind::integer && spec.kind != OptionKind::real && spec.kind != OptionKind::toggle;
    ConfigSources file, environment;
    file.file = temporary("key.toml", section + "." + name + " = " + (quoted ? "\"" + text + "\"" : text) + "\n");
    environment.environment = {{environment_name(spec), text}};
    EXPECT_EQ(configured(file).origins.at(key).source, Source::file);
    EXPECT_EQ(configured(environment).origins.at(key).source, Source::environment);
    EXPECT_EQ(configured(flags({{key, text, "--" + key}})).origins.at(key).source, Source::flag);
  }
}

TEST(Config, UnknownKeysNameTheNearest) {
  EXPECT_EQ(error_of(flags({{"scheme.alhpa", "0.2", "scheme.alhpa=0.2"}})),
            "scheme.alhpa=0.2: unknown setting 'scheme.alhpa'; did you mean scheme.alpha?");
  ConfigSources file;
  file.file = temporary("unknown.toml", "[optim]\nlr = 0.1\nmomentun = 0.9\n");
  EXPECT_EQ(error_of(file), file.file + ":3: unknown setting 'optim.momentun'; did you mean optim.momentum?");
  ConfigSources environment;
  environment.environment = {{"SINEW_SCHEME_ALHPA", "0.2"}};
  EXPECT_EQ(error_of(environment), "environment: unknown setting SINEW_SCHEME_ALHPA; did you mean SINEW_SCHEME_ALPHA?");
  ConfigSources preset;
  preset.preset = "easgd-minst";
  EXPECT_EQ(error_of(preset), "--preset: there is no preset 'easgd-minst'; did you mean easgd-mnist?");
}

TEST(Config, BadFiles) {
  ConfigSources sources;
  sources.file = testing::TempDir() + "/no/such.toml";
  Result<Configuration> missing = configure(sources);
  EXPECT_EQ(missing.status().code(), StatusCode::not_found);
  EXPECT_NE(missing.status().message().find(sources.file), std::string::npos);

  sources.file = temporary("syntax.toml", "[train]\nbatch = \n");
  Result<Configuration> syntax = configure(sources);
  EXPECT_EQ(syntax.status().code(), StatusCode::data_error);
  EXPECT_EQ(syntax.status().message().find(sources.file + ":2: not TOML: "), 0u) << syntax.status().message();

  sources.file = temporary("type.toml", "[optim]\nlr = \"fast\"\n");
  EXPECT_EQ(error_of(sources).find(sources.file + ":2: 'fast' is not allowed for optim.lr"), 0u);
  sources.file = temporary("list.toml", "[model]\nhidden = [64, \"x\"]\n");
  EXPECT_EQ(error_of(sources).find(sources.file + ":2: a list holds numbers only"), 0u);
  sources.file = temporary("date.toml", "[train]\nseed = 1979-05-27\n");
  EXPECT_EQ(error_of(sources).find(sources.file + ":2: a value is"), 0u);
  sources.file = temporary("top.toml", "train = 3\n");
  EXPECT_NE(error_of(sources).find("unknown setting 'train'"), std::string::npos);
}

TEST(Config, ProcessEnvironmentHoldsOurVariablesOnly) {
  ASSERT_EQ(setenv("SINEW_TRAIN_EPOCHS", "3=x", 1), 0);
  bool found = false;
  for (const auto& [name, value] : process_environment()) {
    EXPECT_EQ(name.find("SINEW_"), 0u);
    found = found || (name == "SINEW_TRAIN_EPOCHS" && value == "3=x");
  }
  unsetenv("SINEW_TRAIN_EPOCHS");
  EXPECT_TRUE(found);
}

TEST(ComponentOptions, CarryTheValues) {
  Options o = configured(flags({{"workers", "3", "-"}, {"lr", "0.5", "-"}, {"sim.latency", "3ms", "-"}})).options;
  EXPECT_EQ(optimizer_options(o, 77).lr, 0.5);
  EXPECT_EQ(optimizer_options(o, 77).total_steps, 77);
  EXPECT_EQ(scheme_options(o, 5).workers, 3);
  EXPECT_EQ(scheme_options(o, 5).alpha, 0.9 / 3);
  EXPECT_EQ(scheme_options(o, 5).fingerprint, 5u);
  EXPECT_EQ(sim_options(o, {}).latency, 3 * dist::kMillisecond);
  EXPECT_EQ(loader_options(o, 2).worker, 2);
  EXPECT_EQ(loader_options(o, 2).workers, 3);
}

TEST(ComponentOptions, StepsOverrideEpochs) {
  Options o;
  o.train.epochs = 3;
  EXPECT_EQ(total_steps(o, 100), 300);
  o.train.steps = 7;
  EXPECT_EQ(total_steps(o, 100), 7);
}

}  // namespace
}  // namespace sinew::train
