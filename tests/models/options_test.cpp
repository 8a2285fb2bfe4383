#include "models/options.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <set>

#ifdef SINEW_HAVE_RAPIDCHECK
#include <rapidcheck/gtest.h>
#endif

namespace sinew::train {
namespace {

std::string text_of(const std::string& key, const Options& options = {}) {
  return option_text(options, *find_option(key));
}

Status set(Options& options, const std::string& key, const std::string& text) {
  return set_option(options, *find_option(key), text, "--" + key);
}

TEST(Options, EveryRowIsComplete) {
  std::set<std::string> names, environment;
  for (const OptionSpec& spec : option_table()) {
    EXPECT_TRUE(names.insert(spec.key).second) << spec.key << " twice";
    if (*spec.alias) {
      EXPECT_TRUE(names.insert(spec.alias).second) << spec.alias << " twice";
    }
    EXPECT_TRUE(environment.insert(environment_name(spec)).second) << spec.key;
    EXPECT_NE(std::strchr(spec.key, '.'), nullptr) << spec.key;
    EXPECT_GT(std::strlen(spec.help), 5u) << spec.key;
    EXPECT_FALSE(allowed_values(spec).empty()) << spec.key;
    EXPECT_FALSE(default_text(spec).empty()) << spec.key;
    EXPECT_EQ(spec.kind == OptionKind::name, spec.names != nullptr) << spec.key;
    if (spec.kind == OptionKind::integer || spec.kind == OptionKind::real || spec.kind == OptionKind::duration) {
      EXPECT_LT(spec.min, spec.max) << spec.key;
    }
  }
}

TEST(Options, DefaultsAreAllowedAndKeepTheirValue) {
  for (const OptionSpec& spec : option_table()) {
    Options options;
    std::string text = option_text(options, spec);
    Status status = set_option(options, spec, text, "default");
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(option_text(options, spec), text) << spec.key;
  }
}

TEST(Options, SetChangesTheNamedMemberOnly) {
  Options options;
  ASSERT_TRUE(set(options, "scheme.alpha", "0.25").ok());
  ASSERT_TRUE(set(options, "model.hidden", "1024,512").ok());
  ASSERT_TRUE(set(options, "sim.always_yield", "on").ok());
  ASSERT_TRUE(set(options, "lr", "1e-3").ok());
  EXPECT_EQ(options.scheme.alpha, 0.25);
  EXPECT_EQ(options.model.hidden, (std::vector<int64_t>{1024, 512}));
  EXPECT_TRUE(options.sim.always_yield);
  EXPECT_EQ(options.optim.lr, 1e-3);
  int changed = 0;
  for (const OptionSpec& spec : option_table()) changed += option_text(options, spec) != option_text({}, spec);
  EXPECT_EQ(changed, 4);
}

TEST(Options, Durations) {
  Options options;
  auto nanos = [&](const char* text) {
    Status status = set(options, "sim.latency", text);
    EXPECT_TRUE(status.ok()) << status.message();
    return options.sim.latency;
  };
  EXPECT_EQ(nanos("5ms"), 5'000'000);
  EXPECT_EQ(nanos("2s"), 2'000'000'000);
  EXPECT_EQ(nanos("1m"), 60'000'000'000);
  EXPECT_EQ(nanos("1h"), 3'600'000'000'000);
  EXPECT_EQ(nanos("50us"), 50'000);
  EXPECT_EQ(nanos("7ns"), 7);
  EXPECT_EQ(nanos("0.01"), 10'000'000);  // plain numbers are seconds
  EXPECT_EQ(nanos("1.5s"), 1'500'000'000);
  EXPECT_EQ(nanos("0"), 0);
  EXPECT_EQ(text_of("sim.latency", options), "0s");
  options.sim.latency = 1'500'000'000;
  EXPECT_EQ(text_of("sim.latency", options), "1500ms");
  for (const char* bad : {"", "5 ms", "5 parsecs", "ms", "-1s", "2h", "1e30s", "nan", "9223372036854775807h"})
    EXPECT_FALSE(set(options, "sim.latency", bad).ok()) << bad;
}

TEST(Options, Sizes) {
  Options options;
  ASSERT_TRUE(set(options, "model.hidden", "none").ok());
  EXPECT_TRUE(options.model.hidden.empty());
  EXPECT_EQ(text_of("model.hidden", options), "none");
  for (const char* bad : {"", "a", "64,", ",64", "64,,64", "0", "64,-1", "64 64"})
    EXPECT_FALSE(set(options, "model.hidden", bad).ok()) << bad;
}

TEST(Options, NumbersOutOfRangeOrNotNumbers) {
  Options options;
  for (const char* bad : {"-1", "1e31", "abc", "", "0.1x", "nan", "inf", "0.1 "})
    EXPECT_FALSE(set(options, "optim.lr", bad).ok()) << bad;
  for (const char* bad : {"0", "-3", "1000001", "2.5", "99999999999999999999"})
    EXPECT_FALSE(set(options, "run.workers", bad).ok()) << bad;
  EXPECT_EQ(options.optim.lr, Options().optim.lr);
  EXPECT_EQ(options.run.workers, Options().run.workers);
}

TEST(Options, ErrorsSayWhatWhichAllowedAndWhatToType) {
  Options options;
  EXPECT_EQ(set_option(options, *find_option("lr"), "-1", "--lr").message(),
            "--lr: '-1' is not allowed for optim.lr (learning rate); it must be a number from 0 to 1e+30; "
            "for example --lr 0.05");
  EXPECT_EQ(
      set_option(options, *find_option("workers"), "0", "--workers").message(),
      "--workers: '0' is not allowed for run.workers (workers, the center not counted); it must be a whole number "
      "from 1 to 1000000; for example --workers 1");
  std::string name = set_option(options, *find_option("scheme"), "eagsd", "--scheme").message();
  EXPECT_NE(name.find("did you mean --scheme easgd?"), std::string::npos) << name;
  EXPECT_NE(name.find("local, allreduce"), std::string::npos) << name;
  for (const OptionSpec& spec : option_table()) {
    if (spec.kind == OptionKind::text) continue;
    std::string message = set_option(options, spec, "?!", "here").message();
    EXPECT_EQ(message.find("here: '?!' is not allowed for " + std::string(spec.key)), 0u) << message;
    EXPECT_NE(message.find(allowed_values(spec)), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

// What an error tells the user to type must itself be allowed.
TEST(Options, ExamplesInErrorsAreAllowed) {
  for (const OptionSpec& spec : option_table()) {
    if (spec.kind == OptionKind::text) continue;
    Options options;
    std::string message = set_option(options, spec, "?!", "here").message();
    size_t example = message.find("for example --");
    ASSERT_NE(example, std::string::npos) << message;
    std::string value = message.substr(message.rfind(' ') + 1);
    EXPECT_TRUE(set_option(options, spec, value, "example").ok()) << message;
  }
}

TEST(Options, PathsBecomeAbsolute) {
  Options options;
  ASSERT_TRUE(set(options, "data.dir", "some/../where").ok());
  EXPECT_EQ(options.data.dir, (std::filesystem::current_path() / "where").string());
  ASSERT_TRUE(set(options, "data.dir", "").ok());
  EXPECT_EQ(options.data.dir, "");
}

TEST(Options, NearestMatch) {
  std::vector<std::string> keys;
  for (const OptionSpec& spec : option_table()) keys.emplace_back(spec.key);
  EXPECT_EQ(nearest_match("scheme.alhpa", keys), "scheme.alpha");
  EXPECT_EQ(nearest_match("optim.momentun", keys), "optim.momentum");
  EXPECT_EQ(nearest_match("alpha", keys), "scheme.alpha");
  EXPECT_EQ(nearest_match("warmup_step", keys), "optim.warmup_steps");
  EXPECT_EQ(nearest_match("entirely.different", keys), "");
  EXPECT_EQ(nearest_match("trian", {"train", "sim", "list"}), "train");
  EXPECT_EQ(nearest_match("x", {"sim", "eval"}), "");
  EXPECT_EQ(nearest_match("foo", {"log", "run"}), "");
  EXPECT_EQ(did_you_mean("sin", {"sim"}, "see help"), "; did you mean sim?");
  EXPECT_EQ(did_you_mean("zebra", {"sim"}, "see help"), "; see help");
}

TEST(Options, EnvironmentNames) {
  EXPECT_EQ(environment_name(*find_option("scheme.alpha")), "SINEW_SCHEME_ALPHA");
  EXPECT_EQ(environment_name(*find_option("sim.step_seconds")), "SINEW_SIM_STEP_SECONDS");
}

#ifdef SINEW_HAVE_RAPIDCHECK
RC_GTEST_PROP(OptionsProperty, TextFormIsExact, ()) {
  Options options;
  options.optim.lr =
      *rc::gen::map(rc::gen::arbitrary<uint64_t>(), [](uint64_t u) { return 1e3 * (u / 1.8446744073709552e19); });
  options.sim.latency = *rc::gen::inRange<int64_t>(0, 3'600'000'000'000);
  options.train.seed = *rc::gen::inRange<int64_t>(0, 1'000'000'000'000'000);
  options.model.hidden = *rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(1, 1 << 20));
  for (const char* key : {"optim.lr", "sim.latency", "train.seed", "model.hidden"}) {
    Options copy;
    RC_ASSERT(set(copy, key, text_of(key, options)).ok());
    RC_ASSERT(text_of(key, copy) == text_of(key, options));
  }
  Options copy;
  RC_ASSERT(set(copy, "optim.lr", text_of("optim.lr", options)).ok());
  RC_ASSERT(copy.optim.lr == options.optim.lr);
}
#endif

}  // namespace
}  // namespace sinew::train
