// The program as its users meet it: real processes, and what it says about bad input.
#include "tests/models/program_fixture.h"

namespace sinew::train::testing {
namespace {

TEST_F(Program, TrainsAloneAndTestsItsWeights) {
  auto train = start({"train", "--data.train_size", "2000", "--epochs", "2", "--out", root_ + "/run"});
  ASSERT_EQ(train->wait(), 0) << train->output();
  const Json s = summary("run");
  EXPECT_GT(s.at("test_accuracy"), 0.3);
  for (const char* name : {"config.toml", "command.txt", "env.json", "metrics.jsonl", "status.json",
                           "model.safetensors", "log/rank-0.log"})
    EXPECT_GT(fs::file_size(root_ + "/run/" + name), 0u) << name;
  EXPECT_EQ(Json::parse(slurp(root_ + "/run/status.json")).at("state"), "finished");
  auto eval = start({"eval", root_ + "/run", "--json"});
  ASSERT_EQ(eval->wait(), 0) << eval->output();
  EXPECT_EQ(Json::parse(eval->output()).at("test_accuracy"), s.at("test_accuracy"));
  // The written configuration repeats the run.
  auto again = start({"train", "--config", root_ + "/run/config.toml", "--out", root_ + "/again"});
  ASSERT_EQ(again->wait(), 0) << again->output();
  EXPECT_EQ(summary("again").at("parameters_sha256"), s.at("parameters_sha256"));
  expect_failure(2, {"train", "--out", root_ + "/run"}, {"already holds"});
}

TEST_F(ProgramWithUcx, FiveProcessesTrainElastically) {
  auto run = start(run_of("easgd", "run"));
  ASSERT_EQ(run->wait(), 0) << run->output();
  const Json s = summary("run");
  EXPECT_EQ(s.at("evaluated"), "center");
  EXPECT_EQ(s.at("workers"), 3);
  EXPECT_EQ(s.at("exchanges"), 3 * 30);
  EXPECT_GT(s.at("bytes_sent"), 0);
  EXPECT_GT(s.at("test_accuracy"), 0.3);
  EXPECT_TRUE(fs::exists(root_ + "/run/model.safetensors"));
  EXPECT_TRUE(fs::exists(root_ + "/run/log/rank-3.log"));
  EXPECT_FALSE(fs::exists(root_ + "/run/parts"));
}

// One engine: the synchronous schemes end with the same bits in real processes and in virtual time, for the same number
// of threads.
class ProgramWithUcxInBothWorlds : public ProgramWithUcx {
 protected:
  // The scheme's name, and its settings.
  void expect_equal_parameters(const Words& scheme) {
    std::string sha[2];
    for (int simulated = 0; simulated < 2; ++simulated) {
      const std::string folder = "run-" + std::to_string(count_) + (simulated ? "-sim" : "-ucx");
      Words more(scheme.begin() + 1, scheme.end());
      if (simulated) more.insert(more.end(), {"--run.world", "sim"});
      auto run = start(run_of(scheme[0], folder, more));
      ASSERT_EQ(run->wait(), 0) << run->output();
      sha[simulated] = summary(folder).at("parameters_sha256");
    }
    EXPECT_EQ(sha[0], sha[1]) << scheme[0] << " " << scheme.back();
  }
};

TEST_F(ProgramWithUcxInBothWorlds, GivesTheSameParameters) {
  for (const Words& scheme : {Words{"allreduce"},
                              {"easgd_sync"},
                              {"easgd_sync", "--scheme.order", "gauss_seidel"},
                              {"local"},
                              {"asgd"},
                              {"local_sgd", "--scheme.outer", "nesterov"},
                              {"lsgd", "--scheme.groups", "0,2/1", "--scheme.proximal", "0.1"},
                              {"lgd", "--scheme.leader", "probe_batch"},
                              {"elastic_gossip"},
                              {"elastic_gossip", "--scheme.probability", "0.3", "--scheme.collision", "matching"},
                              {"gossiping_sgd", "--scheme.probability", "0.3"},
                              {"gossiping_sgd", "--scheme.direction", "push"},
                              {"dpsgd", "--scheme.period", "3"},
                              {"dpsgd", "--scheme.topology", "one_peer_exponential", "--scheme.mixing", "atc"},
                              {"sgp", "--scheme.period", "3", "--scheme.overlap", "1"},
                              {"dpsgd", "--scheme.period", "5", "--scheme.global_average_every", "50"}})
    expect_equal_parameters(scheme);
}

// The other settings of scripts/scheme_table.py that are in lockstep, for fewer steps.
TEST_F(ProgramWithUcxInBothWorlds, GivesTheSameParametersInMoreSettings) {
  for (Words scheme : {Words{"mvasgd"},
                       {"msgd", "--optim", "nag"},
                       {"allreduce", "--scheme.wire", "int8"},
                       {"allreduce", "--train.precision", "bf16"},
                       {"local_sgd"},
                       {"local_sgd", "--scheme.wire", "int8"},
                       {"local_sgd", "--scheme.outer", "nesterov", "--optim", "adamw", "--lr", "0.001"},
                       {"dpsgd", "--optim", "qgm", "--scheme.period", "4"},
                       {"sgp", "--scheme.period", "4"},
                       {"lgd"},
                       {"lsgd"},
                       {"lsgd", "--scheme.wire", "int8"}}) {
    scheme.insert(scheme.end(), {"--steps", "60"});
    expect_equal_parameters(scheme);
  }
}

TEST_F(ProgramWithUcx, ThreeProcessesGossipWithoutACommonClock) {
  for (const Words& scheme : {Words{"gosgd", "--scheme.probability", "0.2"},
                              {"adpsgd"},
                              {"elastic_gossip", "--scheme.mode", "async"},
                              {"lsgd", "--scheme.mode", "async"}}) {
    const std::string folder = "run-" + std::to_string(count_);
    auto run = start(run_of(scheme[0], folder, Words(scheme.begin() + 1, scheme.end())));
    ASSERT_EQ(run->wait(), 0) << run->output();
    const Json s = summary(folder);
    EXPECT_EQ(s.at("evaluated"), "average");
    EXPECT_GT(s.at("exchanges"), 0);
    EXPECT_GT(s.at("test_accuracy"), 0.3) << scheme[0];
  }
}

TEST_F(ProgramWithUcx, TwoProcessesStartFromGivenWeights) {
  auto first = start(run_of("local", "first", {"--workers", "1", "--steps", "3", "--train.seed", "7"}));
  ASSERT_EQ(first->wait(), 0) << first->output();
  const std::string weights = root_ + "/first/model.safetensors";
  const Words still = {"--workers", "2", "--steps", "5", "--lr", "0", "--model.weights"};
  auto with = [&](const std::string& file) {
    Words words = still;
    words.push_back(file);
    return words;
  };
  auto run = start(run_of("allreduce", "run", with(weights)));
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("run").at("parameters_sha256"), summary("first").at("parameters_sha256"));
  EXPECT_NE(slurp(root_ + "/run/config.toml").find("weights = \"" + weights + "\""), std::string::npos);
  expect_failure(3, run_of("allreduce", "none", with(root_ + "/nothing")), {"model.weights", root_ + "/nothing"});
  Words misfit = run_of("allreduce", "none", with(weights));
  misfit.insert(misfit.end(), {"--model.hidden", "31"});
  expect_failure(3, misfit, {"model.weights: " + weights, "fc1.weight is (32, 784) f32, the model has (31, 784) f32"});
  EXPECT_FALSE(fs::exists(root_ + "/none")) << "nothing was started";
}

TEST_F(ProgramWithUcx, RanksOfAnotherLauncher) {
  const std::string port = free_port();
  std::vector<std::unique_ptr<Process>> ranks;
  for (int rank = 0; rank < 4; ++rank)
    ranks.push_back(
        start(run_of("easgd", "run"), {"RANK=" + std::to_string(rank), "WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1",
                                       "MASTER_PORT=" + port, "SINEW_SECRET=job"}));
  for (auto& rank : ranks) EXPECT_EQ(rank->wait(), 0) << rank->output();
  EXPECT_EQ(summary("run").at("evaluated"), "center");
  EXPECT_EQ(summary("run").at("exchanges"), 3 * 30);
  const Json last = status("run");
  EXPECT_EQ(last.at("state"), "finished");
  ASSERT_EQ(last.at("processes").size(), 4u);
  for (const Json& process : last.at("processes")) EXPECT_EQ(process.at("state"), "finished") << process;
  EXPECT_FALSE(fs::exists(root_ + "/run/parts"));
}

TEST_F(ProgramWithUcx, RanksWithOtherSettingsAreRefused) {
  const std::string port = free_port();
  std::vector<std::unique_ptr<Process>> ranks;
  for (int rank = 0; rank < 2; ++rank)
    ranks.push_back(start(run_of("easgd_sync", "run", {"--workers", "2", "--scheme.alpha", rank == 0 ? "0.1" : "0.2"}),
                          {"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                           "MASTER_PORT=" + port, "SINEW_SECRET=job"}));
  for (auto& rank : ranks) EXPECT_NE(rank->wait(), 0) << rank->output();
  EXPECT_NE((ranks[0]->output() + ranks[1]->output()).find("differ"), std::string::npos) << ranks[0]->output();
}

TEST_F(Program, TwoRunsAtOnceInOneFolder) {
  const Words run = {"train", "--data.train_size", "2000", "--steps", "200", "--out", root_ + "/one"};
  auto a = start(run), b = start(run);
  const int codes[2] = {a->wait(), b->wait()};
  EXPECT_EQ(codes[0] + codes[1], 2) << "one runs, the other is refused\n" << a->output() << b->output();
}

TEST_F(ProgramWithUcx, AWrongSecretIsRefused) {
  const std::string port = free_port();
  auto host = start(run_of("local", "run", {"--workers", "2"}),
                    {"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port, "SINEW_SECRET=right"});
  while (!fs::exists(root_ + "/run/config.toml") && host->running())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  auto stranger = start(run_of("local", "run", {"--workers", "2"}), {"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                                                                     "MASTER_PORT=" + port, "SINEW_SECRET=wrong"});
  EXPECT_EQ(stranger->wait(), 5) << stranger->output();
  EXPECT_NE(stranger->output().find("SINEW_SECRET"), std::string::npos) << stranger->output();
}

TEST_F(ProgramWithUcx, APortInUse) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  auto p = start(run_of("easgd", "run", {"--run.port", port}));
  EXPECT_EQ(p->wait(), 4);
  const std::string text = p->output();
  EXPECT_TRUE(text.starts_with("sinew: ")) << text;
  EXPECT_NE(text.find(port), std::string::npos) << text;
  EXPECT_NE(text.find("already in use"), std::string::npos) << text;
  EXPECT_EQ(std::ranges::count(text, '\n'), 1) << text;
  close(listener);
}

TEST_F(Program, BadInputIsOneClearLine) {
  expect_failure(2, {"trian"}, {"trian", "did you mean train"});
  expect_failure(2, {"train", "--scheme.alhpa", "1"}, {"--scheme.alhpa", "did you mean scheme.alpha"});
  expect_failure(2, {"train", "--workers", "0"}, {"'0'", "from 1"});
  expect_failure(2, {"train", "--lr", "-1"}, {"'-1'", "from 0"});
  expect_failure(3, {"train", "--data", "mnist", "--data.dir", root_ + "/nothing", "--out", root_ + "/a"},
                 {"nothing", "--data.dir DIR"});
  fs::create_directory(root_ + "/empty");
  expect_failure(3, {"train", "--data", "mnist", "--data.dir", root_ + "/empty", "--out", root_ + "/b"},
                 {"train-images-idx3-ubyte"});
  std::ofstream(root_ + "/w.safetensors") << "this is no header at all";
  expect_failure(3, {"eval", "--weights", root_ + "/w.safetensors"}, {"w.safetensors"});
  std::ofstream(root_ + "/plan.txt") << "explode rank=1\n";
  expect_failure(
      2, {"train", "--data.train_size", "3", "--workers", "4", "--data.sharding", "partition", "--out", root_ + "/d"},
      {"too few"});
  expect_failure(3, {"sim", "--fault.plan", root_ + "/plan.txt", "--out", root_ + "/c"}, {"plan.txt", "explode"});
  std::ofstream(root_ + "/rank.txt") << "kill rank=9 step=1\n";
  expect_failure(3, {"sim", "--workers", "2", "--fault.plan", root_ + "/rank.txt", "--out", root_ + "/r"},
                 {"rank.txt", "rank 9", "0 to 2"});
}

TEST_F(Program, NoArgumentsIsHelp) {
  auto p = start({});
  EXPECT_EQ(p->wait(), 0);
  EXPECT_NE(p->output().find("sinew train"), std::string::npos) << p->output();
}

TEST(Examples, LocalProgramsLearn) {
  for (const std::string name : {"local_mlp", "diagonal_newton"}) {
    Process p({SINEW_EXAMPLES "/" + name}, ::testing::TempDir() + "/" + name + ".out");
    ASSERT_EQ(p.wait(), 0) << p.output();
    const std::string text = p.output();
    EXPECT_GT(std::stod(text.substr(text.find("test accuracy ") + 14)), 0.8) << name;
  }
}

TEST(Examples, EasgdMlp) {
  if (!dist::ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
  Process p({SINEW_EXAMPLES "/easgd_mlp"}, ::testing::TempDir() + "/easgd_mlp.out");
  ASSERT_EQ(p.wait(), 0) << p.output();
  const std::string text = p.output();
  EXPECT_GT(std::stod(text.substr(text.find("of the center ") + 14)), 0.8);
}

}  // namespace
}  // namespace sinew::train::testing
