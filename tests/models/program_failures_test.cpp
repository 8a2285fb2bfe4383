// What happens to a run of the program when its processes are killed, stopped or asked to end.
#include "tests/models/program_fixture.h"

namespace sinew::train::testing {
namespace {

// Enough steps, of about a millisecond each, that the run is still on its way when its status has been read.
const Words kSlowSteps = {"--steps", "4000", "--model.hidden", "512"};
// Many quick ones; under ThreadSanitizer each takes some 3 ms of a core.
#ifdef __SANITIZE_THREAD__
constexpr const char* kManySteps = "5000";
#else
constexpr const char* kManySteps = "20000";
#endif

TEST_F(ProgramWithUcx, AKilledWorkerIsRestarted) {
  auto run = start(run_of("easgd", "run", {"--steps", kManySteps}));
  const int pid = pid_at_step("run", 1, 200, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGKILL);
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("run").at("restarts"), 1);
  EXPECT_TRUE(summary("run").at("lost").empty());
}

TEST_F(ProgramWithUcx, AKilledWorkerComesBackToItsGossip) {
  for (const char* scheme : {"elastic_gossip", "gosgd"}) {
    const std::string folder = std::string("run-") + scheme;
    auto run = start(run_of(scheme, folder, {"--steps", "3000", "--scheme.deadline", "2s"}));
    const int pid = pid_at_step(folder, 1, 100, *run);
    ASSERT_GT(pid, 0) << run->output();
    kill(pid, SIGKILL);
    ASSERT_EQ(run->wait(), 0) << run->output();
    EXPECT_EQ(summary(folder).at("restarts"), 1) << scheme;
    EXPECT_EQ(summary(folder).at("evaluated"), "average");
    EXPECT_GT(summary(folder).at("test_accuracy"), 0.3) << scheme;
  }
}

TEST_F(ProgramWithUcx, AWorkerKilledForGoodIsReportedAsLost) {
  auto run = start(run_of("eamsgd", "run", {"--steps", kManySteps, "--lr", "0.002", "--run.restarts", "0"}));
  const int pid = pid_at_step("run", 1, 200, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGKILL);
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("run").at("restarts"), 0);
  EXPECT_EQ(summary("run").at("lost"), Json({1}));
}

TEST_F(ProgramWithUcx, ADeadCenterIsStartedAgainOrTakenOver) {
  for (const char* restarts : {"1", "0"}) {
    const std::string folder = std::string("run-") + restarts;
    auto run = start(run_of("easgd", folder, {"--steps", "10000", "--run.restarts", restarts}));
    const int pid = pid_at_step(folder, 3, 0, *run);
    ASSERT_GT(pid, 0) << run->output();
    ASSERT_GT(pid_at_step(folder, 0, 100, *run), 0);
    kill(pid, SIGKILL);
    ASSERT_EQ(run->wait(), 0) << run->output();
    EXPECT_EQ(summary(folder).at("restarts"), restarts[0] - '0');
    EXPECT_EQ(summary(folder).at("lost"), restarts[0] == '0' ? Json({3}) : Json::array());
    EXPECT_EQ(summary(folder).at("evaluated"), "center");
    EXPECT_GT(summary(folder).at("test_accuracy"), 0.5);
    // The worker that takes it over says so, and from what it goes on.
    const std::string log = slurp(root_ + "/" + folder + "/log/rank-0.log");
    EXPECT_NE(log.find("rank 3 counts as dead: "), std::string::npos) << log;
    for (const char* says : {"is gone; this worker takes it over: rank 0", "at rank 0 now, goes on as rank "})
      EXPECT_EQ(log.find(says) != std::string::npos, restarts[0] == '0') << says << "\n" << log;
  }
}

// Of three workers: one root above them, or with a fan-out of 2 a root and two inner nodes.
TEST_F(ProgramWithUcx, ADeadNodeOfATreeIsStartedAgainOrTakenOver) {
  struct Case {
    const char* fan_out;
    int killed;
    const char* restarts;
    const char* says;
  };
  for (const Case& c : {Case{"4", 3, "1", ""},
                        {"4", 3, "0", "this worker, rank 0, is the root now"},
                        {"2", 3, "0", "rank 4, is the root now"},
                        {"2", 4, "0", ""}}) {
    const std::string folder = std::string("run-") + c.fan_out + std::to_string(c.killed) + c.restarts;
    auto run = start(run_of("easgd_tree", folder,
                            {"--steps", "10000", "--run.restarts", c.restarts, "--scheme.fan_out", c.fan_out}));
    const int pid = pid_at_step(folder, c.killed, 0, *run);
    ASSERT_GT(pid, 0) << run->output();
    ASSERT_GT(pid_at_step(folder, 0, 100, *run), 0);
    kill(pid, SIGKILL);
    ASSERT_EQ(run->wait(), 0) << run->output();
    EXPECT_EQ(summary(folder).at("restarts"), c.restarts[0] - '0');
    EXPECT_EQ(summary(folder).at("lost"), c.restarts[0] == '0' ? Json({c.killed}) : Json::array());
    EXPECT_EQ(summary(folder).at("evaluated"), "center");
    EXPECT_GT(summary(folder).at("test_accuracy"), 0.5);
    std::ifstream log(root_ + "/" + folder + "/log/rank-0.log");
    const std::string text{std::istreambuf_iterator<char>(log), {}};
    if (*c.says)
      EXPECT_NE(text.find(c.says), std::string::npos) << text;
    else
      EXPECT_EQ(text.find("is the root now"), std::string::npos) << text;
  }
}

// Of several nodes that serve the center, or of workers that do.
TEST_F(ProgramWithUcx, ADeadNodeOfTheCenterIsStartedAgainOrItsPartTakenOver) {
  for (const auto& [servers, dies] : {std::pair{"2", 4}, {"workers", 1}})
    for (const char* restarts : {"1", "0"}) {
      const std::string folder = std::string("run-") + servers + "-" + restarts;
      auto run =
          start(run_of("easgd", folder, {"--steps", "10000", "--run.restarts", restarts, "--scheme.servers", servers}));
      const int pid = pid_at_step(folder, dies, 0, *run);
      ASSERT_GT(pid, 0) << run->output();
      ASSERT_GT(pid_at_step(folder, 0, 100, *run), 0);
      kill(pid, SIGKILL);
      ASSERT_EQ(run->wait(), 0) << run->output();
      EXPECT_EQ(summary(folder).at("restarts"), restarts[0] - '0');
      EXPECT_EQ(summary(folder).at("lost"), restarts[0] == '0' ? Json({dies}) : Json::array());
      EXPECT_EQ(summary(folder).at("evaluated"), "center");
      EXPECT_GT(summary(folder).at("test_accuracy"), 0.5);
    }
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
    EXPECT_EQ(status(folder).at("state"), "cancelled");
  }
}

// Stopped for ever is as good as dead, but nobody is told by the kernel.
TEST_F(ProgramWithUcx, AStoppedWorkerIsKilledAndRestarted) {
  auto run = start(run_of("easgd", "run", {"--steps", kManySteps, "--run.grace", "5s"}));
  const int pid = pid_at_step("run", 1, 200, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGSTOP);
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("run").at("restarts"), 1);
  EXPECT_TRUE(summary("run").at("lost").empty());
  EXPECT_NE(run->output().find("rank 1 gave no sign of life for 5 s"), std::string::npos) << run->output();
}

TEST_F(ProgramWithUcx, LogsSayWhatAFaultPlanDoesAndWhoNotices) {
  // Late enough that the deadline of heartbeats has been learned, and longer than its upper bound.
  std::ofstream(root_ + "/plan.txt") << "pause rank=1 step=2500 for=6s";
  Words more = kSlowSteps;
  more.insert(more.end(), {"--fault.plan", root_ + "/plan.txt"});
  auto run = start(run_of("easgd", "run", more));
  ASSERT_EQ(run->wait(), 0) << run->output();
  const std::string own = slurp(root_ + "/run/log/rank-1.log"), center = slurp(root_ + "/run/log/rank-3.log");
  EXPECT_NE(own.find("fault plan: this process is stopped for 6 s"), std::string::npos) << own;
  EXPECT_NE(center.find("rank 1 counts as dead: nothing heard for "), std::string::npos) << center;
  EXPECT_NE(center.find("rank 1 is back"), std::string::npos) << center;
}

TEST_F(ProgramWithUcx, AWorkerStoppedForGoodIsLost) {
  auto run = start(run_of("easgd", "run", {"--steps", kManySteps, "--run.grace", "5s", "--run.restarts", "0"}));
  const int pid = pid_at_step("run", 1, 200, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGSTOP);
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("run").at("lost"), Json({1}));
  EXPECT_NE(kill(pid, 0), 0) << "the stopped process is still there";
}

TEST_F(ProgramWithUcx, TheLastProcessSumsUpForADeadSupervisor) {
  for (const char* scheme : {"easgd", "local"}) {
    auto run = start(run_of(scheme, scheme, kSlowSteps));
    ASSERT_GT(pid_at_step(scheme, 1, 200, *run), 0) << run->output();
    run->signal(SIGKILL);
    ASSERT_TRUE(has_summary(scheme));
    EXPECT_TRUE(summary(scheme).at("lost").empty());
    EXPECT_GT(summary(scheme).at("test_accuracy"), 0.3);
    const Json last = status(scheme);
    EXPECT_EQ(last.at("state"), "finished");
    for (const Json& process : last.at("processes")) EXPECT_EQ(process.at("state"), "finished") << process;
    EXPECT_TRUE(fs::exists(root_ + "/" + scheme + "/model.safetensors"));
    EXPECT_FALSE(fs::exists(root_ + "/" + scheme + "/parts"));
  }
}

// Twice as bad: nobody is left who could end the stopped worker.
TEST_F(ProgramWithUcx, AStoppedWorkerOfADeadSupervisorIsNotWaitedFor) {
  auto run = start(run_of("easgd", "run", kSlowSteps));
  const int pid = pid_at_step("run", 1, 200, *run);
  ASSERT_GT(pid, 0) << run->output();
  run->signal(SIGKILL);
  run->wait();  // the kernel wakes and ends what is stopped when its parent dies, not what is stopped later
  kill(pid, SIGSTOP);
  EXPECT_TRUE(has_summary("run"));
  kill(pid, SIGKILL);
  EXPECT_EQ(summary("run").at("lost"), Json({1}));
  EXPECT_EQ(status("run").at("processes").at(1).at("state"), "lost");
}

// What the dead life had sent counts.
TEST_F(ProgramWithUcx, TheCountersOfARestartedWorkerAreOfAllItsLives) {
  auto run = start(run_of("easgd", "run", kSlowSteps));
  const int pid = pid_at_step("run", 1, 2000, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGKILL);
  ASSERT_EQ(run->wait(), 0) << run->output();
  ASSERT_EQ(summary("run").at("restarts"), 1);
  // Without the dead life about half of one worker's four hundred exchanges would be missing. What it did after its
  // last report, half a second before its death at most, is missing anyway.
  EXPECT_GT(summary("run").at("exchanges"), 1100);
}

TEST_F(Program, ASignalToASingleProcessIsACancelledRun) {
  for (const Words& verb : {Words{"train", "--scheme", "local"}, {"sim", "--scheme", "easgd", "--workers", "3"}})
    for (int number : {SIGINT, SIGTERM, SIGHUP}) {
      const std::string folder = verb[0] + "-" + std::to_string(number);
      Words words = verb;
      words.insert(words.end(), {"--data.train_size", "2000", "--steps", "1000000", "--out", root_ + "/" + folder});
      auto run = start(words);
      while (run->running() &&
             (!fs::exists(root_ + "/" + folder + "/metrics.jsonl") || status(folder).value("state", "") != "running"))
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      run->signal(number);
      EXPECT_EQ(run->wait(), 128 + number) << run->output();
      const Json last = status(folder);
      EXPECT_EQ(last.at("state"), "cancelled");
      for (const Json& process : last.at("processes")) EXPECT_EQ(process.at("state"), "cancelled");
      const std::string word = number == SIGINT ? "sinew: interrupted" : "sinew: terminated";
      EXPECT_NE(run->output().find(word), std::string::npos) << run->output();
    }
}

TEST_F(ProgramWithUcx, SynchronousRunsGoOnWithoutAKilledWorker) {
  for (const char* scheme : {"allreduce", "lsgd"}) {
    auto run = start(run_of(scheme, scheme, {"--steps", "3000"}));
    const int pid = pid_at_step(scheme, 0, 100, *run);
    ASSERT_GT(pid, 0) << run->output();
    kill(pid, SIGKILL);
    ASSERT_EQ(run->wait(), 0) << run->output();
    EXPECT_EQ(summary(scheme).at("lost"), Json({0}));
    EXPECT_GT(summary(scheme).at("test_accuracy"), 0.5);
  }
}

TEST_F(ProgramWithUcx, LeadersInLockstepEndWithoutAMajority) {
  auto run = start(run_of("lsgd", "run", {"--steps", "1000000"}));
  const int pid = pid_at_step("run", 0, 100, *run), other = pid_at_step("run", 1, 100, *run);
  ASSERT_TRUE(pid > 0 && other > 0) << run->output();
  kill(pid, SIGKILL);
  kill(other, SIGKILL);
  EXPECT_EQ(run->wait(), 8) << run->output();
  EXPECT_NE(run->output().find("less than a majority"), std::string::npos) << run->output();
}

// Nobody starts these again or ends what hangs: the others go on without it.
TEST_F(ProgramWithUcx, AStoppedRankOfAnotherLauncherIsGivenUp) {
  std::vector<std::unique_ptr<Process>> ranks;
  const std::string port = free_port();
  Words slow = kSlowSteps;
  slow.insert(slow.end(), {"--run.grace", "5s"});
  for (int rank = 0; rank < 4; ++rank)
    ranks.push_back(
        start(run_of("easgd", "run", slow), {"RANK=" + std::to_string(rank), "WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1",
                                             "MASTER_PORT=" + port, "SINEW_SECRET=job"}));
  const int pid = pid_at_step("run", 1, 100, *ranks[0]);
  ASSERT_GT(pid, 0) << ranks[0]->output();
  kill(pid, SIGSTOP);
  for (int rank : {0, 2, 3}) {
    auto& process = *ranks[static_cast<size_t>(rank)];
    EXPECT_EQ(process.wait(), 0) << process.output();
  }
  EXPECT_EQ(summary("run").at("lost"), Json({1}));
  EXPECT_EQ(status("run").at("state"), "finished");
  EXPECT_EQ(status("run").at("processes").at(1).at("state"), "lost");
}

}  // namespace
}  // namespace sinew::train::testing
