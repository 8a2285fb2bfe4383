#include "models/command_line.h"

#include <gtest/gtest.h>

namespace sinew::train {
namespace {

CommandLine parsed(const std::vector<std::string>& args) {
  Result<CommandLine> line = parse_command_line(args);
  EXPECT_TRUE(line.ok()) << line.status().message();
  return line.ok() ? *line : CommandLine();
}

std::string error_of(const std::vector<std::string>& args) {
  Result<CommandLine> line = parse_command_line(args);
  EXPECT_FALSE(line.ok());
  EXPECT_EQ(line.status().code(), StatusCode::invalid_argument);
  return line.status().message();
}

TEST(CommandLine, ThreeWaysToWriteASetting) {
  CommandLine line = parsed({"train", "--scheme.alpha", "0.2", "--lr=0.1", "train.batch=64", "workers=4"});
  EXPECT_EQ(line.verb, "train");
  ASSERT_EQ(line.settings.size(), 4u);
  EXPECT_EQ(line.settings[0].key, "scheme.alpha");
  EXPECT_EQ(line.settings[0].text, "0.2");
  EXPECT_EQ(line.settings[0].where, "--scheme.alpha");
  EXPECT_EQ(line.settings[1].key, "optim.lr");
  EXPECT_EQ(line.settings[1].text, "0.1");
  EXPECT_EQ(line.settings[1].where, "--lr");
  EXPECT_EQ(line.settings[2].key, "train.batch");
  EXPECT_EQ(line.settings[3].key, "workers");
  EXPECT_EQ(line.settings[3].text, "4");
}

TEST(CommandLine, ValuesMayLookLikeAnything) {
  CommandLine line = parsed({"train", "--lr", "-1", "--data.dir", "a=b", "--data.dir=x=y"});
  ASSERT_EQ(line.settings.size(), 3u);
  EXPECT_EQ(line.settings[0].text, "-1");
  EXPECT_EQ(line.settings[1].text, "a=b");
  EXPECT_EQ(line.settings[2].text, "x=y");
}

TEST(CommandLine, TogglesNeedNoValue) {
  CommandLine line = parsed({"sim", "--sim.always_yield", "--lr", "0.1", "--sim.always_yield", "false"});
  ASSERT_EQ(line.settings.size(), 3u);
  EXPECT_EQ(line.settings[0].text, "true");
  EXPECT_EQ(line.settings[1].text, "0.1");
  EXPECT_EQ(line.settings[2].text, "false");
}

TEST(CommandLine, Switches) {
  CommandLine line = parsed({"eval", "--weights", "a.safetensors", "--config=c.toml", "--json", "folder"});
  EXPECT_EQ(line.value("weights"), "a.safetensors");
  EXPECT_EQ(line.value("config"), "c.toml");
  EXPECT_TRUE(line.has("json"));
  EXPECT_EQ(line.words, std::vector<std::string>{"folder"});
  EXPECT_EQ(parsed({"--help=scheme"}).value("help"), "scheme");
  EXPECT_TRUE(parsed({"train", "-h"}).has("help"));
  EXPECT_TRUE(parsed({}).verb.empty());
}

TEST(CommandLine, Mistakes) {
  EXPECT_EQ(error_of({"trian"}), "unknown verb 'trian'; did you mean train?");
  EXPECT_EQ(error_of({"zebra"}), "unknown verb 'zebra'; `sinew help` lists all");
  EXPECT_EQ(error_of({"train", "--scheme.alhpa", "0.2"}), "unknown flag --scheme.alhpa; did you mean scheme.alpha?");
  EXPECT_EQ(error_of({"train", "--alpha=1"}), "unknown flag --alpha; did you mean scheme.alpha?");
  EXPECT_EQ(error_of({"train", "--wieghts", "x"}), "unknown flag --wieghts; did you mean model.weights?");
  EXPECT_EQ(error_of({"eval", "--wieghts", "x"}), "unknown flag --wieghts; did you mean weights?");
  EXPECT_EQ(error_of({"train", "--jsno"}), "unknown flag --jsno; `sinew help` lists all flags") << "a switch of eval";
  EXPECT_EQ(error_of({"eval", "--jsno"}), "unknown flag --jsno; did you mean json?");
  EXPECT_EQ(error_of({"train", "--lr"}), "--lr needs a value: a number from 0 to 1e+30");
  EXPECT_EQ(error_of({"train", "--config"}).find("--config needs a value: "), 0u);
  EXPECT_EQ(error_of({"train", "--version=2"}), "--version=2: --version takes no value; type --version");
  EXPECT_EQ(error_of({"train", "mnist"}).find("unexpected 'mnist'; settings are written --key value"), 0u);
  EXPECT_EQ(error_of({"train", "-x"}).find("unexpected '-x'"), 0u);
  EXPECT_EQ(error_of({"train", "--"}).find("unexpected '--'"), 0u);
}

TEST(CommandLine, SwitchesAndSettingsDoNotCollide) {
  // A verb's own switch may take the place of an alias there (probe's --batch); the setting's key stays.
  for (const Switch& flag : switch_table())
    if (const OptionSpec* setting = find_option(flag.name)) {
      EXPECT_NE(*flag.verbs, '\0') << flag.name;
      EXPECT_STRNE(setting->key, flag.name);
    }
}

}  // namespace
}  // namespace sinew::train
