// The program from its command line to its exit code, with the training itself replaced.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/safetensors.h"
#include "models/cli/program.h"
#include "models/lab/labs.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;

class CliTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/sinew_cli_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = fs::canonical(pattern).string();
    before_ = fs::current_path();
    fs::current_path(root_);
    runners_.local_job = [this](const Options& o, RunFolder& folder, const std::vector<std::string>& command) {
      return started("local_job", o, folder, command);
    };
    runners_.node = [this](const Options& o, RunFolder& folder,
                           const dist::JobEnvironment& e) -> Result<std::optional<RunSummary>> {
      environment_ = e;
      Result<RunSummary> summary = started("node", o, folder, {});
      if (!summary.ok()) return summary.status();
      if (e.rank != 0) return std::optional<RunSummary>();
      return std::optional<RunSummary>(*summary);
    };
    runners_.simulation = [this](const Options& o, RunFolder& folder) { return started("simulation", o, folder, {}); };
    runners_.evaluate = [this](const Options& o, const std::string& weights) -> Result<EvalReport> {
      started_ = "evaluate";
      options_ = o;
      return EvalReport{
          .weights = weights, .data = o.data.name, .loss = 1, .accuracy = 0.5, .samples = 2, .classes = {}};
    };
  }
  void TearDown() override {
    for (const char* variable : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SINEW_OPTIM_LR"})
      unsetenv(variable);
    fs::current_path(before_);
    fs::remove_all(root_);
  }

  Result<RunSummary> started(const char* what, const Options& o, RunFolder& folder,
                             const std::vector<std::string>& command) {
    started_ = what;
    options_ = o;
    command_ = command;
    dir_ = folder.dir();
    if (!failure_.ok()) return failure_;
    folder.begin();
    RunSummary summary;
    summary.test_accuracy = 0.5;
    summary.scheme = o.scheme.name;
    summary.workers = o.run.workers;
    return summary;
  }

  int run(std::vector<std::string> args) {
    args.insert(args.begin(), "sinew");
    out_.str("");
    err_.str("");
    started_ = "";
    return run_program("/bin/sinew", args, runners_, out_, err_);
  }

  // Fails with this exit code, one line on standard error, and nothing started.
  void expect_error(int code, const std::string& line, const std::vector<std::string>& args) {
    EXPECT_EQ(run(args), code) << err_.str();
    std::string text = err_.str();
    EXPECT_EQ(text.find("sinew: " + line), 0u) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_EQ(started_, "");
  }

  static void set_job(int rank, int size) {
    setenv("RANK", std::to_string(rank).c_str(), 1);
    setenv("WORLD_SIZE", std::to_string(size).c_str(), 1);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("MASTER_PORT", "29511", 1);
  }

  Runners runners_;
  std::ostringstream out_, err_;
  std::string root_, started_, dir_;
  Options options_;
  std::vector<std::string> command_;
  dist::JobEnvironment environment_;
  Status failure_;
  fs::path before_;
};

TEST_F(CliTest, NoArgumentsShowTheFirstCommand) {
  EXPECT_EQ(run({}), 0);
  EXPECT_NE(out_.str().find("  sinew train  "), std::string::npos);
  std::string text = out_.str();
  EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 25);
}

TEST_F(CliTest, TrainWithoutArgumentsIsOneLocalWorker) {
  EXPECT_EQ(run({"train"}), 0) << err_.str();
  EXPECT_EQ(started_, "node");
  EXPECT_EQ(environment_.world_size, 1);
  EXPECT_EQ(options_.data.name, "synthetic");
  EXPECT_EQ(options_.model.name, "mlp");
  EXPECT_TRUE(fs::exists(dir_ + "/config.toml"));
  auto summary = nlohmann::json::parse(std::ifstream(dir_ + "/summary.json"));
  EXPECT_EQ(summary["test_accuracy"], 0.5);
  EXPECT_NE(out_.str().find("run folder runs/"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("test accuracy  0.5000"), std::string::npos) << out_.str();
}

// The folder is removed again, so nothing is said about it.
TEST_F(CliTest, AStartThatFailsNamesNoRunFolder) {
  failure_ = make_status(StatusCode::not_found, "no data");
  EXPECT_EQ(run({"train", "--out", "fails"}), 3);
  EXPECT_EQ(out_.str(), "");
  EXPECT_FALSE(fs::exists("fails"));
}

TEST_F(CliTest, SeveralWorkersOrACenterStartALocalJob) {
  EXPECT_EQ(run({"train", "--workers", "4", "--out", "job"}), 0) << err_.str();
  EXPECT_EQ(started_, "local_job");
  EXPECT_EQ(options_.scheme.name, "easgd");
  std::string dir = root_ + "/job";
  EXPECT_EQ(command_, (std::vector<std::string>{"/bin/sinew", "train", "--supervised", "--config", dir + "/config.toml",
                                                "--run.dir", dir}));
  EXPECT_EQ(run({"train", "--scheme", "easgd", "--workers", "1"}), 0) << err_.str();
  EXPECT_EQ(started_, "local_job");
  EXPECT_EQ(run({"train", "--scheme", "local", "--workers", "3"}), 0) << err_.str();
  EXPECT_EQ(started_, "local_job");
}

TEST_F(CliTest, AJobsProcessesTakeTheSupervisorsSettings) {
  ASSERT_EQ(run({"train", "--workers", "4", "--lr", "0.2", "--out", "job"}), 0);
  setenv("SINEW_OPTIM_LR", "0.7", 1);  // the flag won in the supervisor, so it must win here
  set_job(2, 5);
  ASSERT_EQ(run({command_.begin() + 1, command_.end()}), 0) << err_.str();
  EXPECT_EQ(started_, "node");
  EXPECT_EQ(environment_.rank, 2);
  EXPECT_EQ(options_.optim.lr, 0.2);
  EXPECT_EQ(options_.run.workers, 4);
  EXPECT_EQ(dir_, root_ + "/job");
  EXPECT_EQ(out_.str(), "");
  EXPECT_FALSE(fs::exists(root_ + "/job/runs"));
}

TEST_F(CliTest, ARankOfAnotherLaunchersJob) {
  set_job(0, 5);
  expect_error(2, "--out: the processes of a job need one run folder", {"train", "--scheme", "easgd"});
  EXPECT_EQ(run({"train", "--scheme", "easgd", "--out", "ext"}), 0) << err_.str();
  EXPECT_EQ(started_, "node");
  EXPECT_EQ(options_.run.workers, 4);  // 5 processes, one holds the center
  EXPECT_EQ(options_.scheme.alpha, 0.9 / 4);
  EXPECT_TRUE(fs::exists("ext/summary.json"));
  set_job(1, 5);
  EXPECT_EQ(run({"train", "--scheme", "easgd", "--out", "ext"}), 0) << err_.str();  // joins
  set_job(0, 3);
  EXPECT_EQ(run({"train", "--scheme", "allreduce", "--out", "ext2"}), 0) << err_.str();
  EXPECT_EQ(options_.run.workers, 3);
  expect_error(2, "torchrun variables: the job has 3 processes, but scheme easgd with 3 workers needs 4 (one holds",
               {"train", "--scheme", "easgd", "--workers", "3", "--out", "ext3"});
  set_job(0, 6);
  EXPECT_EQ(run({"train", "--scheme", "easgd", "--scheme.servers", "2", "--out", "servers"}), 0) << err_.str();
  EXPECT_EQ(options_.run.workers, 4);
  EXPECT_EQ(run({"train", "--scheme", "easgd", "--scheme.servers", "workers", "--out", "hosts"}), 0) << err_.str();
  EXPECT_EQ(options_.run.workers, 6);
  expect_error(2, "torchrun variables: the job has 6 processes, but scheme easgd with 5 workers needs 7 (2 hold",
               {"train", "--scheme", "easgd", "--scheme.servers", "2", "--workers", "5", "--out", "servers2"});
  expect_error(2, "servers = 'some'; allowed are 1 to 1024 nodes for the center, or workers",
               {"sim", "--scheme", "easgd", "--scheme.servers", "some"});
  expect_error(2, "servers = 2 with scheme easgd_tree; it is for easgd,",
               {"sim", "--scheme", "easgd_tree", "--scheme.servers", "2"});
  expect_error(2, "servers = workers with 1 worker;",
               {"sim", "--scheme", "easgd", "--workers", "1", "--scheme.servers", "workers"});
  set_job(0, 7);
  const std::vector<std::string> tree = {"train", "--scheme", "easgd_tree", "--scheme.fan_out", "2", "--out"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), tree.begin(), tree.end());
    return more;
  };
  EXPECT_EQ(run(with({"ext4"})), 0) << err_.str();
  EXPECT_EQ(options_.run.workers, 4);  // and three inner nodes
  EXPECT_EQ(options_.scheme.alpha, 0.9 / 3);
  expect_error(2,
               "torchrun variables: the job has 7 processes, but scheme easgd_tree with 5 workers needs 11 (6 are "
               "inner nodes of the tree)",
               with({"ext5", "--workers", "5"}));
}

TEST_F(CliTest, Sim) {
  EXPECT_EQ(run({"sim", "--workers", "16"}), 0) << err_.str();
  EXPECT_EQ(started_, "simulation");
  EXPECT_EQ(options_.run.world, "sim");
  EXPECT_EQ(run({"train", "--run.world", "sim"}), 0) << err_.str();
  EXPECT_EQ(started_, "simulation");
  expect_error(2, "--run.world: sinew sim is always in virtual time", {"sim", "--run.world", "ucx"});
  ASSERT_EQ(run({"train", "--workers", "4", "--out", "real"}), 0);
  EXPECT_EQ(run({"sim", "--config", "real/config.toml"}), 0) << err_.str();
  EXPECT_EQ(options_.run.workers, 4);
  EXPECT_EQ(started_, "simulation");
}

TEST_F(CliTest, ConfigOfARunRepeatsIt) {
  ASSERT_EQ(run({"train", "--lr", "0.123", "--seed", "9", "--out", "first"}), 0);
  Options first = options_;
  ASSERT_EQ(run({"train", "--config", "first/config.toml"}), 0) << err_.str();
  for (const OptionSpec& spec : option_table()) {
    if (spec.repeats) {
      EXPECT_EQ(option_text(options_, spec), option_text(first, spec)) << spec.key;
    }
  }
  EXPECT_NE(dir_, root_ + "/first");
}

TEST_F(CliTest, BadInputIsOneLineAndADocumentedCode) {
  expect_error(2, "unknown verb 'trian'; did you mean train?", {"trian"});
  expect_error(2, "unknown flag --scheme.alhpa; did you mean scheme.alpha?", {"train", "--scheme.alhpa", "0.2"});
  expect_error(2, "--workers: '0' is not allowed for run.workers", {"train", "--workers", "0"});
  expect_error(2, "--lr: '-1' is not allowed for optim.lr", {"train", "--lr", "-1"});
  expect_error(2, "--scheme: 'easgdd' is not allowed", {"train", "--scheme", "easgdd"});
  expect_error(2, "no verb; type sinew train --workers ...", {"--workers", "4"});
  expect_error(3, "configuration file missing.toml cannot be read", {"train", "--config", "missing.toml"});
  expect_error(2, "help: there is no group 'shceme'; did you mean scheme?", {"help", "shceme"});
  expect_error(2, "run.device cuda: this program is built without CUDA", {"train", "--device", "cuda"});
  expect_error(2, "optim.gamma", {"train", "--optim.schedule", "step", "--optim.gamma", "2"});
  EXPECT_FALSE(fs::exists("runs"));
}

// Simulated workers are cheap; real ones are processes.
TEST_F(CliTest, MoreWorkersAreSimulatedThanStarted) {
  const auto sim = [&](const char* workers) { return run({"sim", "--workers", workers, "--scheme", "easgd"}); };
  ASSERT_EQ(sim("10000"), 0) << err_.str();
  EXPECT_EQ(started_, "simulation");
  EXPECT_EQ(options_.run.workers, 10000);
  EXPECT_EQ(sim("1000000"), 0) << err_.str();
  expect_error(2, "--workers: '1000001' is not allowed for run.workers", {"sim", "--workers", "1000001"});
  ASSERT_EQ(run({"train", "--workers", "1024", "--scheme", "easgd"}), 0) << err_.str();
  EXPECT_EQ(started_, "local_job");
  expect_error(
      2,
      "run.workers 1025: each is a process of its own, and there can be 1024; for example --workers 1024, or sinew sim",
      {"train", "--workers", "1025", "--scheme", "easgd"});
}

TEST_F(CliTest, TheDeviceIsMadeUsableOnlyForThoseWhoAskForIt) {
  int calls = 0;
  runners_.install_cuda = [&] {
    ++calls;
    return Status(StatusCode::unavailable, "no CUDA device: no driver; run with --device cpu");
  };
  const std::string line = "run.device cuda: no CUDA device: no driver; run with --device cpu";
  expect_error(2, line, {"train", "--device", "cuda"});
  expect_error(2, line, {"sim", "--workers", "4", "--device", "cuda"});
  std::ofstream(root_ + "/weights") << "w";
  expect_error(2, line, {"eval", "--weights", root_ + "/weights", "--device", "cuda"});
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(run({"train"}), 0) << err_.str();
  EXPECT_EQ(calls, 3);
}

TEST_F(CliTest, TheVendorsKernelsAreForTheGpu) {
  int installed = 0, asked = 0;
  runners_.install_cuda = [&] {
    ++installed;
    return Status::Ok();
  };
  runners_.use_vendor_kernels = [&] {
    ++asked;
    return Status(StatusCode::unavailable, "cuBLAS: it is not there");
  };
  expect_error(2,
               "train.kernels vendor: cuBLAS and cuDNN compute on a GPU, but run.device is cpu; type --device cuda or",
               {"train", "--train.kernels", "vendor"});
  EXPECT_EQ(installed, 0);
  expect_error(2, "train.kernels vendor: cuBLAS: it is not there; or type --train.kernels own",
               {"train", "--device", "cuda", "--train.kernels", "vendor"});
  expect_error(2, "run.device cuda: this program has no such backend",
               {"train", "--device", "cuda"});  // installed by name only
  EXPECT_EQ(installed, 2);
  EXPECT_EQ(asked, 1);
}

TEST_F(CliTest, FailuresOfARunKeepTheirCode) {
  failure_ = Status(StatusCode::peer_lost, "the center (rank 4) is lost");
  EXPECT_EQ(run({"train", "--workers", "4"}), 7);
  EXPECT_EQ(err_.str(), "sinew: the center (rank 4) is lost\n");
  EXPECT_EQ(run({"train", "--workers", "4", "--scheme", "allreduce"}), 8);
  EXPECT_FALSE(fs::exists(dir_ + "/summary.json"));
  EXPECT_FALSE(fs::exists(dir_)) << "nothing ran in it";
  failure_ = Status(StatusCode::non_finite, "loss is nan");
  EXPECT_EQ(run({"train"}), 6);
}

TEST_F(CliTest, ExceptionsAreOneLine) {
  runners_.simulation = [](const Options&, RunFolder&) -> Result<RunSummary> { SINEW_FAIL("gemm", "shapes differ"); };
  EXPECT_EQ(run({"sim"}), 1);
  EXPECT_EQ(err_.str().find("sinew: internal error: [gemm] shapes differ"), 0u) << err_.str();
}

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

TEST_F(CliTest, GossipOptionsAreChecked) {
  expect_error(2, "scheme dpsgd needs a graph", {"train", "--scheme", "dpsgd", "--scheme.topology", "uniform"});
  expect_error(2, "collision = matching is for elastic_gossip",
               {"train", "--scheme", "elastic_gossip", "--scheme.mode", "async", "--scheme.collision", "matching"});
  expect_error(2, "--scheme.collision: 'sums' is not allowed",
               {"train", "--scheme", "elastic_gossip", "--scheme.collision", "sums"});
  EXPECT_EQ(run({"train", "--scheme", "elastic_gossip", "--workers", "4", "--scheme.probability", "1"}), 0);
  EXPECT_NE(err_.str().find("sinew: warning: a worker has up to 3 exchanges"), std::string::npos) << err_.str();
  EXPECT_EQ(run({"train", "--scheme", "elastic_gossip", "--workers", "4", "--scheme.alpha", "0.2"}), 0);
  EXPECT_EQ(err_.str(), "");
}

TEST_F(CliTest, Version) {
  EXPECT_EQ(run({"--version"}), 0);
  EXPECT_EQ(out_.str().find("sinew "), 0u);
}

}  // namespace
}  // namespace sinew::train
