// Runs from the command line to the exit code.
#include <fstream>
#include <nlohmann/json.hpp>

#include "dist/scheme.h"
#include "tests/models/cli_fixture.h"

namespace sinew::train {
namespace {

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

// What was given for this run and would count for nothing is refused; what a preset, a file or a default says is not.
TEST_F(CliTest, SettingsOfOtherSchemesAreRefused) {
  for (const char* scheme : {"easgd_sync", "allreduce", "local_sgd", "easgd"})
    expect_error(
        2,
        std::string("--scheme.mode async counts for nothing with scheme ") + scheme +
            "; it is for elastic_gossip, gossiping_sgd and lsgd; leave it out, or type --scheme elastic_gossip",
        {"train", "--scheme", scheme, "--scheme.mode", "async"});
  const std::vector<std::vector<std::string>> refused = {{"easgd", "scheme.collision", "matching"},
                                                         {"easgd", "scheme.groups", "2"},
                                                         {"easgd", "scheme.outer", "nesterov"},
                                                         {"local_sgd", "scheme.pull", "0.2"},
                                                         {"allreduce", "scheme.alpha", "0.2"},
                                                         {"downpour", "scheme.beta", "0.2"},
                                                         {"local_sgd", "scheme.outer_momentum", "0.5"},
                                                         {"lsgd", "scheme.pull_global", "0.2"},
                                                         {"lsgd", "scheme.probe", "100"},
                                                         {"lgd", "scheme.loss_window", "5"},
                                                         {"easgd", "scheme.kappa", "1"},
                                                         {"easgd", "scheme.fan_out", "2"},
                                                         {"dpsgd", "scheme.direction", "push"},
                                                         {"sgp", "scheme.mixing", "atc"},
                                                         {"adownpour", "scheme.average_rate", "0.1"},
                                                         {"allreduce", "scheme.topology", "ring"},
                                                         {"sgp", "scheme.probability", "1"},
                                                         {"gosgd", "scheme.collision", "sum"}};
  for (const auto& words : refused)
    for (const char* verb : {"train", "sim", "config"})
      expect_error(2, "--" + words[1] + " " + words[2] + " counts for nothing with scheme " + words[0] + "; it is for ",
                   {verb, "--workers", "4", "--scheme", words[0], "--" + words[1], words[2]});
  expect_error(2,
               "--scheme.update_order post counts for nothing with scheme easgd_sync; it is for easgd, eamsgd and "
               "easgd_sync (order jacobi); leave it out\n",
               {"train", "--scheme", "easgd_sync", "--scheme.order", "gauss_seidel", "--scheme.update_order", "post"});
  expect_error(2, "--scheme.alpha 0.2 counts for nothing with scheme local",
               {"train", "--workers", "1", "--scheme.alpha", "0.2"});
  expect_error(2, "scheme.alpha=0.2 counts for nothing with scheme local; it is for easgd, ",
               {"train", "--scheme", "local", "scheme.alpha=0.2"});
  setenv("SINEW_SCHEME_MODE", "async", 1);
  expect_error(2, "SINEW_SCHEME_MODE async counts for nothing with scheme easgd", {"train", "--scheme", "easgd"});
  unsetenv("SINEW_SCHEME_MODE");

  for (const Preset& preset : presets())
    for (const std::string& scheme : dist::scheme_names()) {
      if (scheme != "allreduce" && scheme != "easgd" && scheme != "elastic_gossip" && scheme != "local_sgd") continue;
      if (preset.text.find("weighting = \"") != std::string::npos && scheme != "easgd") continue;  // refused by value
      EXPECT_EQ(run({"config", "--preset", preset.name, "--scheme", scheme}), 0) << preset.name << " " << err_.str();
      EXPECT_EQ(run({"config", "--preset", preset.name, "--print"}), 0) << preset.name << " " << err_.str();
    }
  EXPECT_EQ(run({"config", "--scheme", "lsgd", "--workers", "4", "--scheme.groups", "2", "--print"}), 0);
  std::ofstream("run.toml") << out_.str();
  EXPECT_EQ(run({"config", "--config", "run.toml", "--scheme", "easgd"}), 0) << err_.str();
}

TEST_F(CliTest, LabsTakeASeedOnly) {
  const std::string next = " counts for nothing; a laboratory takes --seed N and --out DIR, type sinew lab sinc";
  expect_error(2, "lab: --scheme.alpha 0.3" + next, {"lab", "sinc", "--workers", "8", "--scheme.alpha", "0.3"});
  expect_error(2, "lab: workers=8" + next, {"lab", "sinc", "workers=8"});
  expect_error(2, "lab: --preset lsgd" + next, {"lab", "sinc", "--preset", "lsgd"});
}

}  // namespace
}  // namespace sinew::train
