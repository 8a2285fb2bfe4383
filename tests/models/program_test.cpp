// The program as its users meet it: real processes, killed ones among them, and what it says about bad input.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "dist/ucx/ucx_world.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

std::string slurp(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// One run of a program, with its output in a file.
class Process {
 public:
  Process(const Words& words, const std::string& output, const Words& environment = {}) : output_(output) {
    pid_ = fork();
    if (pid_ == 0) {
      ::signal(SIGHUP, SIG_DFL);  // whatever started the tests
      if (!freopen(output.c_str(), "w", stdout) || dup2(1, 2) < 0) _exit(126);
      for (const std::string& v : environment) putenv(const_cast<char*>(v.c_str()));
      std::vector<char*> argv;
      for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Process() {
    if (running()) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running() {
    int status = 0;
    if (code_ < 0 && waitpid(pid_, &status, WNOHANG) == pid_)
      code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return code_ < 0;
  }
  // The exit code; -1 when it did not end within two minutes.
  int wait() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (running() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return code_;
  }
  void signal(int number) const { kill(pid_, number); }
  std::string output() const { return slurp(output_); }

 private:
  std::string output_;
  pid_t pid_ = -1;
  int code_ = -1;
};

class Program : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sinew-program-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { fs::remove_all(root_); }

  std::unique_ptr<Process> start(Words words, const Words& environment = {}) {
    words.insert(words.begin(), SINEW_PROGRAM);
    return std::make_unique<Process>(words, root_ + "/output-" + std::to_string(count_++), environment);
  }
  // Expects the exit code, and that the last line contains every given part.
  void expect_failure(int code, const Words& words, const Words& parts) {
    auto p = start(words);
    EXPECT_EQ(p->wait(), code) << p->output();
    const std::string text = p->output();
    const size_t line = text.rfind("sinew: ");
    ASSERT_NE(line, std::string::npos) << text;
    for (const std::string& part : parts) EXPECT_NE(text.find(part, line), std::string::npos) << text;
  }
  Words run_of(const std::string& scheme, const std::string& folder, Words more = {}) {
    Words words = {"train",
                   "--data.train_size",
                   "2000",
                   "--model.hidden",
                   "32",
                   "--batch",
                   "16",
                   "--workers",
                   "3",
                   "--scheme",
                   scheme,
                   "--steps",
                   "300",
                   "--log.progress",
                   "none",
                   "--out",
                   root_ + "/" + folder};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Json summary(const std::string& folder) { return Json::parse(slurp(root_ + "/" + folder + "/summary.json")); }
  // Waits until `rank` has reported `step` and returns its pid; 0 when that does not happen.
  int pid_at_step(const std::string& folder, int rank, int64_t step, Process& run) {
    while (run.running()) {
      const Json status = Json::parse(slurp(root_ + "/" + folder + "/status.json"), nullptr, false);
      if (!status.is_discarded())
        for (const Json& p : status.at("processes"))
          if (p.at("rank") == rank && p.at("state") == "running" && p.at("step") >= step) return p.at("pid");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return 0;
  }

  std::string root_;
  int count_ = 0;
};

class ProgramWithUcx : public Program {
 protected:
  void SetUp() override {
    if (!dist::ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
    Program::SetUp();
  }
};

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
TEST_F(ProgramWithUcx, BothWorldsGiveTheSameParameters) {
  for (const Words& scheme :
       {Words{"allreduce"}, {"easgd_sync"}, {"easgd_sync", "--scheme.order", "gauss_seidel"}, {"local"}}) {
    std::string sha[2];
    for (int simulated = 0; simulated < 2; ++simulated) {
      const std::string folder = scheme.back() + (simulated ? "-sim" : "-ucx");
      Words more(scheme.begin() + 1, scheme.end());
      more.insert(more.end(), {"--train.threads", "1"});
      if (simulated) more.insert(more.end(), {"--run.world", "sim"});
      auto run = start(run_of(scheme[0], folder, more));
      ASSERT_EQ(run->wait(), 0) << run->output();
      sha[simulated] = summary(folder).at("parameters_sha256");
    }
    EXPECT_EQ(sha[0], sha[1]) << scheme.back();
  }
}

TEST_F(ProgramWithUcx, AKilledWorkerIsRestarted) {
  auto run = start(run_of("easgd", "run", {"--steps", "20000"}));
  const int pid = pid_at_step("run", 1, 200, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGKILL);
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("run").at("restarts"), 1);
  EXPECT_TRUE(summary("run").at("lost").empty());
}

TEST_F(ProgramWithUcx, AWorkerKilledForGoodIsReportedAsLost) {
  auto run = start(run_of("eamsgd", "run", {"--steps", "20000", "--lr", "0.002", "--run.restarts", "0"}));
  const int pid = pid_at_step("run", 1, 200, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGKILL);
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("run").at("restarts"), 0);
  EXPECT_EQ(summary("run").at("lost"), Json({1}));
}

TEST_F(ProgramWithUcx, ADeadCenterEndsTheRunWithOneLine) {
  auto run = start(run_of("easgd", "run", {"--steps", "1000000"}));
  const int pid = pid_at_step("run", 3, 0, *run);
  ASSERT_GT(pid, 0) << run->output();
  ASSERT_GT(pid_at_step("run", 0, 100, *run), 0);
  kill(pid, SIGKILL);
  EXPECT_EQ(run->wait(), 7) << run->output();
  EXPECT_NE(run->output().find("center"), std::string::npos) << run->output();
}

TEST_F(ProgramWithUcx, ASignalStopsTheRun) {
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    const std::string folder = "run-" + std::to_string(number);
    auto run = start(run_of("easgd", folder, {"--steps", "1000000"}));
    ASSERT_GT(pid_at_step(folder, 0, 100, *run), 0) << run->output();
    run->signal(number);
    EXPECT_EQ(run->wait(), 128 + number) << run->output();
    const std::string word = number == SIGINT ? "sinew: interrupted" : "sinew: terminated";
    EXPECT_NE(run->output().find(word), std::string::npos) << run->output();
    EXPECT_FALSE(fs::exists(root_ + "/" + folder + "/summary.json"));
  }
}

TEST_F(ProgramWithUcx, AllreduceEndsWhenAWorkerIsKilled) {
  auto run = start(run_of("allreduce", "run", {"--steps", "1000000"}));
  const int pid = pid_at_step("run", 0, 100, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGKILL);
  EXPECT_EQ(run->wait(), 8) << run->output();
  EXPECT_NE(run->output().find("rank 0 is lost"), std::string::npos) << run->output();
}

TEST_F(ProgramWithUcx, RanksOfAnotherLauncher) {
  // A free port, as torchrun would choose one.
  const int probe = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ASSERT_EQ(bind(probe, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length), 0);
  close(probe);
  const std::string port = std::to_string(ntohs(address.sin_port));
  std::vector<std::unique_ptr<Process>> ranks;
  for (int rank = 0; rank < 4; ++rank)
    ranks.push_back(
        start(run_of("easgd", "run"), {"RANK=" + std::to_string(rank), "WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1",
                                       "MASTER_PORT=" + port, "SINEW_SECRET=job"}));
  for (auto& rank : ranks) EXPECT_EQ(rank->wait(), 0) << rank->output();
  EXPECT_EQ(summary("run").at("evaluated"), "center");
}

TEST_F(ProgramWithUcx, RanksWithOtherSettingsAreRefused) {
  std::vector<std::unique_ptr<Process>> ranks;
  for (int rank = 0; rank < 2; ++rank)
    ranks.push_back(start(run_of("easgd_sync", "run", {"--workers", "2", "--scheme.alpha", rank == 0 ? "0.1" : "0.2"}),
                          {"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=45819",
                           "SINEW_SECRET=job"}));
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
  auto host = start(run_of("local", "run", {"--workers", "2"}),
                    {"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=45817", "SINEW_SECRET=right"});
  while (!fs::exists(root_ + "/run/config.toml") && host->running())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  auto stranger = start(run_of("local", "run", {"--workers", "2"}),
                        {"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=45817", "SINEW_SECRET=wrong"});
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
  expect_failure(4, run_of("easgd", "run", {"--run.port", port}), {port, "already in use"});
  close(listener);
}

TEST_F(Program, BadInputIsOneClearLine) {
  expect_failure(2, {"trian"}, {"trian", "did you mean train"});
  expect_failure(2, {"train", "--scheme.alhpa", "1"}, {"--scheme.alhpa", "did you mean scheme.alpha"});
  expect_failure(2, {"train", "--workers", "0"}, {"'0'", "from 1"});
  expect_failure(2, {"train", "--lr", "-1"}, {"'-1'", "from 0"});
  expect_failure(2, {"train", "--device", "cuda", "--out", root_ + "/cuda"}, {"--device cpu"});
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
}  // namespace sinew::train
