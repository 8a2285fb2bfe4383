// The verbs beside train and sim, from the command line to what they print.
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/safetensors.h"
#include "models/lab/labs.h"
#include "tests/models/cli_fixture.h"

namespace sinew::train {
namespace {

TEST_F(CliTest, Eval) {
  ASSERT_EQ(run({"train", "--model.hidden", "32", "--out", "trained"}), 0);
  expect_error(3, "trained/model.safetensors does not exist; type sinew eval", {"eval", "trained"});
  std::ofstream("trained/model.safetensors") << "x";
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"eval", "trained"}, {"eval", "--weights", "trained/model.safetensors"}}) {
    EXPECT_EQ(run(args), 0) << err_.str();
    EXPECT_EQ(options_.model.hidden, std::vector<int64_t>{32});  // from the run's config.toml
    EXPECT_NE(out_.str().find("test accuracy  0.5000  (2 samples)"), std::string::npos) << out_.str();
  }
  EXPECT_EQ(run({"eval", "trained", "--json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out_.str())["test_accuracy"], 0.5);
  expect_error(2, "no weights to test; type sinew eval RUN_FOLDER or", {"eval"});
  expect_error(3, "nowhere does not exist", {"eval", "nowhere"});
  expect_error(2, "one set of weights at a time", {"eval", "trained", "trained"});
}

TEST_F(CliTest, Config) {
  setenv("SINEW_OPTIM_LR", "0.7", 1);
  EXPECT_EQ(run({"config", "--workers", "4"}), 0);
  EXPECT_NE(out_.str().find("environment: SINEW_OPTIM_LR"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("default: 0.9 / workers"), std::string::npos) << out_.str();
  EXPECT_EQ(out_.str().find("train.batch"), std::string::npos);
  EXPECT_EQ(run({"config", "--print", "--workers", "4"}), 0);
  std::ofstream("printed.toml") << out_.str();
  unsetenv("SINEW_OPTIM_LR");
  EXPECT_EQ(run({"train", "--config", "printed.toml"}), 0) << err_.str();
  EXPECT_EQ(options_.optim.lr, 0.7);
  EXPECT_EQ(options_.run.workers, 4);
}

TEST_F(CliTest, HelpShowsEverySetting) {
  EXPECT_EQ(run({"help"}), 0);
  std::string text = out_.str();
  for (const OptionSpec& spec : option_table())
    EXPECT_NE(text.find("--" + std::string(spec.key) + " "), std::string::npos) << spec.key;
  for (const Verb& verb : verb_table()) EXPECT_NE(text.find("sinew " + std::string(verb.name)), std::string::npos);
  EXPECT_EQ(text.find("supervised"), std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 120u) << line;

  EXPECT_EQ(run({"help", "scheme"}), 0);
  EXPECT_NE(out_.str().find("--scheme.deadline TIME"), std::string::npos);
  EXPECT_NE(out_.str().find("default 10s"), std::string::npos);
  EXPECT_EQ(out_.str().find("--optim.lr"), std::string::npos);
  std::string group = out_.str();
  EXPECT_EQ(run({"train", "--help=scheme"}), 0);
  EXPECT_EQ(out_.str(), group);
  EXPECT_EQ(run({"train", "--help", "--lr", "nonsense"}), 0);
}

TEST_F(CliTest, ListDescribesEveryName) {
  EXPECT_EQ(run({"list"}), 0);
  for (const char* key : {"model.name", "data.name", "scheme.name", "optim.name", "optim.schedule"}) {
    for (const std::string& name : find_option(key)->names()) {
      size_t at = out_.str().find("\n  " + name + " ");
      ASSERT_NE(at, std::string::npos) << name;
      std::string line = out_.str().substr(at + 1, out_.str().find('\n', at + 1) - at - 1);
      EXPECT_GT(line.size(), 30u) << "no description: " << line;
    }
  }
}

TEST_F(CliTest, InfoShowsWhichSamplesTheWorkersGet) {
  EXPECT_EQ(
      run({"info", "--data", "synthetic", "--data.train_size", "100", "--workers", "2", "--data.sharding", "by_class"}),
      0)
      << err_.str();
  EXPECT_EQ(out_.str(),
            "synthetic: 100 training and 4000 test samples, samples (28, 28, 1), 10 classes\n"
            "  worker 0      50 samples, 5 classes: 10 10 10 10 10 0 0 0 0 0\n"
            "  worker 1      50 samples, 5 classes: 0 0 0 0 0 10 10 10 10 10\n");
  EXPECT_EQ(
      run({"info", "--data", "synthetic", "--data.train_size", "10", "--data.crop", "20", "--data.validation", "0.3"}),
      0);
  EXPECT_NE(out_.str().find("samples (20, 20, 1)"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("  validation    3 samples\n  worker 0      7 samples"), std::string::npos) << out_.str();
  expect_error(2, "data.crop 29 is more than the images' 28 x 28",
               {"info", "--data", "synthetic", "--data.crop", "29"});
  expect_error(
      2, "data.train_size, data.validation: 3 training samples are too few for 4 workers",
      {"info", "--data", "synthetic", "--data.train_size", "3", "--workers", "4", "--data.sharding", "dirichlet"});
}

TEST_F(CliTest, Info) {
  EXPECT_EQ(run({"info"}), 0);
  EXPECT_NE(out_.str().find("processor"), std::string::npos);
  EXPECT_EQ(run({"info", "--model", "mlp", "--model.hidden", "1024,1024"}), 0) << err_.str();
  EXPECT_NE(out_.str().find("fc1.weight"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("1863690"), std::string::npos) << out_.str();
}

TEST_F(CliTest, Lab) {
  EXPECT_EQ(run({"lab"}), 0);
  for (const lab::Lab& l : lab::labs()) EXPECT_NE(out_.str().find("  " + std::string(l.name) + " "), std::string::npos);
  expect_error(2, "lab: there is no 'stabilty'; did you mean stability?", {"lab", "stabilty"});
  expect_error(2, "lab: there is no 'x'; `sinew lab` lists all", {"lab", "x"});
  expect_error(2, "lab: one at a time; type sinew lab moments", {"lab", "moments", "gossip"});
  EXPECT_EQ(run({"lab", "sinc", "--out", "pictures/sinc", "--seed", "3"}), 0) << err_.str();
  EXPECT_NE(out_.str().find("LGD"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("wrote pictures/sinc/sinc.svg\nwrote pictures/sinc/sinc.json\n"), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(std::ifstream("pictures/sinc/sinc.json"))["seed"], 3);
  std::string svg;
  std::getline(std::ifstream("pictures/sinc/sinc.svg"), svg);
  EXPECT_EQ(svg.find("<svg "), 0u);
}

TEST_F(CliTest, ProbeNamesWhatIsWrong) {
  const auto f32 = [](const Shape& shape) {
    return NamedArray{DType::f32, shape, std::vector<std::byte>(static_cast<size_t>(shape.numel()) * 4)};
  };
  const NamedArray labels{DType::i64, {1}, std::vector<std::byte>(8)};
  const std::vector<std::string> good = {"probe", "--model", "mlp", "--model.hidden", "3", "--weights",
                                         "w",     "--batch", "b",   "--out",          "o"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), good.begin(), good.end());
    return more;
  };
  // A batch file of these tensors.
  const auto batch = [](const std::map<std::string, NamedArray>& tensors) {
    ASSERT_TRUE(write_safetensors("b", {.tensors = tensors}).ok());
  };
  expect_error(2, "--weights is missing; type sinew probe --model NAME", {"probe"});
  expect_error(2, "--batch is missing; type sinew probe", {"probe", "--weights", "w"});
  expect_error(2, "--out is missing; type sinew probe", {"probe", "--weights", "w", "--batch", "b"});
  expect_error(2, "--mode 'both': not one of eval, train", with({"--mode", "both"}));
  expect_error(2, "--model: 'mpl' is not allowed for model.name", with({"--model", "mpl"}));
  expect_error(3, "b: ", good);
  batch({{"inputs", f32({1, 2})}});
  expect_error(3, "b: no tensor named labels; a batch is inputs (N,C,H,W or N,features, f32) and labels (N, i64)",
               good);
  batch({{"inputs", f32({1, 2, 3})}, {"labels", labels}});
  expect_error(3, "b: inputs is (1, 2, 3) f32; it must be (N,C,H,W) or (N,features) f32", good);
  batch({{"inputs", f32({2, 2})}, {"labels", labels}});
  expect_error(3, "b: labels is (1) i64; it must be (2) i64", good);
  batch({{"inputs", f32({1, 2})}, {"labels", labels}});
  expect_error(3, "w: ", good);
  SafetensorsFile weights{
      .tensors = {{"fc1.weight", f32({3, 2})}, {"fc1.bias", f32({3})}, {"fc2.weight", f32({2, 3})}}};
  ASSERT_TRUE(write_safetensors("w", weights).ok());
  expect_error(3, "w: no tensor named fc2.bias", good);
  weights.tensors["fc2.bias"] = f32({4});
  ASSERT_TRUE(write_safetensors("w", weights).ok());
  expect_error(3, "w: fc2.weight is (2, 3) f32, the model has (4, 3) f32", good);
  EXPECT_FALSE(fs::exists("o"));
  weights.tensors["fc2.bias"] = f32({2});
  ASSERT_TRUE(write_safetensors("w", weights).ok());
  EXPECT_EQ(run(with({"--mode", "train"})), 0) << err_.str();
  EXPECT_EQ(out_.str(), "wrote o\n");
  EXPECT_TRUE(read_safetensors("o").ok());
}

TEST_F(CliTest, SwitchesOfSeveralVerbsAreInTheHelpOfEach) {
  for (const char* verb : {"lab", "probe"}) {
    EXPECT_EQ(run({verb, "--help"}), 0);
    EXPECT_NE(out_.str().find("--out VALUE"), std::string::npos) << verb;
  }
  EXPECT_EQ(run({"train", "--help"}), 0);
  EXPECT_EQ(out_.str().find("--out VALUE"), std::string::npos);
}

TEST_F(CliTest, InfoShowsATopology) {
  EXPECT_EQ(run({"info", "topology", "one_peer_exponential", "--workers", "4"}), 0) << err_.str();
  EXPECT_EQ(out_.str(),
            "one_peer_exponential, 4 workers\n"
            "  worker 0 in round 0 takes from  3 (0.5)\n"
            "  worker 1 in round 0 takes from  0 (0.5)\n"
            "  worker 2 in round 0 takes from  1 (0.5)\n"
            "  worker 3 in round 0 takes from  2 (0.5)\n"
            "  links                         one way\n"
            "  the same again                after 2 rounds\n"
            "  weights                       doubly stochastic\n"
            "  disagreement left by a round  0.707107, spectral gap 0.292893\n"
            "  by 2 rounds                   none: they are the exact average\n"
            "  sent by a worker              1 vectors a round, 4 bytes a parameter each\n");
  EXPECT_EQ(run({"info", "topology", "uniform", "--workers", "8", "--scheme.alpha", "0.95", "--model", "mlp"}), 0);
  EXPECT_NE(out_.str().find("squared disagreement left     3.19"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("it grows"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find(" bytes of mlp"), std::string::npos) << out_.str();
  EXPECT_EQ(run({"info", "topology", "ring", "--workers", "300"}), 0);
  expect_error(2, "unknown topology 'rung'; allowed are uniform, ring", {"info", "topology", "rung"});
  expect_error(2, "topology shift_one pairs all workers: their number must be even, not 5",
               {"info", "topology", "shift_one", "--workers", "5"});
  expect_error(2, "info rings: there is `sinew info` and `sinew info topology NAME`", {"info", "rings"});
}

TEST_F(CliTest, Version) {
  EXPECT_EQ(run({"--version"}), 0);
  EXPECT_EQ(out_.str().find("sinew "), 0u);
}

}  // namespace
}  // namespace sinew::train
