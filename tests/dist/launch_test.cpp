// The supervisor: a process of the test runs supervise(), whose children are bodies of this binary too.
#include "dist/launch.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "dist/ucx/ucx_world.h"
#include "tests/support/processes.h"

namespace sinew::dist {
namespace {

using test::ProcessContext;
using test::ProcessGroup;

constexpr Nanos kLong = 60 * kSecond;

TEST(JobEnvironment, ReadsTorchrunVariables) {
  const std::vector<std::string> names = {"RANK",        "WORLD_SIZE",        "LOCAL_RANK",       "MASTER_ADDR",
                                          "MASTER_PORT", "SINEW_INCARNATION", "SINEW_START_STEP", "SINEW_STATUS_FD",
                                          "SINEW_SECRET"};
  auto clear = [&] {
    for (const std::string& name : names) ::unsetenv(name.c_str());
  };
  auto set = [](const char* name, const char* value) { ::setenv(name, value, 1); };
  clear();
  EXPECT_FALSE(read_job_environment()->has_value());
  set("RANK", "2");
  auto job = read_job_environment();
  ASSERT_FALSE(job.ok());
  EXPECT_NE(job.status().message().find("WORLD_SIZE"), std::string::npos);
  set("WORLD_SIZE", "4");
  set("MASTER_ADDR", "localhost");
  set("MASTER_PORT", "29500");
  job = read_job_environment();
  ASSERT_TRUE(job.ok() && job->has_value());
  EXPECT_EQ((*job)->rank, 2);
  EXPECT_EQ((*job)->world_size, 4);
  EXPECT_EQ((*job)->local_rank, 2);
  EXPECT_EQ((*job)->master_port, 29500);
  EXPECT_FALSE((*job)->supervised);
  for (const auto& [name, bad] : std::map<std::string, std::string>{{"RANK", "4"},
                                                                    {"RANK", "-1"},
                                                                    {"WORLD_SIZE", "zero"},
                                                                    {"MASTER_PORT", "70000"},
                                                                    {"SINEW_START_STEP", "1x"}}) {
    const char* old = std::getenv(name.c_str());
    const std::string saved = old ? old : "0";
    set(name.c_str(), bad.c_str());
    job = read_job_environment();
    ASSERT_FALSE(job.ok()) << name;
    EXPECT_EQ(job.status().code(), StatusCode::invalid_argument);
    EXPECT_NE(job.status().message().find(name), std::string::npos);
    set(name.c_str(), saved.c_str());
  }
  clear();
}

TEST(JobStore, NoSecretOnlyOnLoopback) {
  JobEnvironment job;
  job.master_addr = "192.0.2.1";
  job.master_port = 1;
  EXPECT_EQ(open_job_store(job, kMillisecond).status().code(), StatusCode::invalid_argument);
}

TEST(Supervise, BadOptions) {
  EXPECT_EQ(supervise({}).status().code(), StatusCode::invalid_argument);
  LaunchOptions options;
  options.argv = {"/no/such/program"};
  if (!ucx_available()) GTEST_SKIP() << "this build has no TCP store";
  auto report = supervise(options);
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.status().message().find("/no/such/program"), std::string::npos);
  auto server = serve_store("127.0.0.1", 0, "x");
  options.argv = {"/bin/true"};
  options.master_port = (*server)->port();
  report = supervise(options);
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.status().message().find("already in use"), std::string::npos);
}

TEST(Supervise, ExitCodes) {
  if (!ucx_available()) GTEST_SKIP() << "this build has no TCP store";
  LaunchOptions options;
  options.processes = 3;
  options.max_restarts = 1;
  auto shell = [&](const std::string& script) {
    options.argv = {"/bin/sh", "-c", script};
    auto report = supervise(options);
    EXPECT_TRUE(report.ok()) << report.status().message();
    return *report;
  };
  LaunchReport report = shell("exit 0");
  EXPECT_EQ(report.exit_code, 0);
  EXPECT_EQ(report.restarts, 0);
  EXPECT_TRUE(report.lost.empty());

  // Rank 1 fails in each of its lives: lost, and the job still counts.
  report = shell("test $RANK != 1 || exit 9");
  EXPECT_EQ(report.exit_code, 0);
  EXPECT_EQ(report.restarts, 1);
  EXPECT_EQ(report.lost, std::vector<Rank>{1});
  EXPECT_EQ(report.processes[1].exit_code, 9);
  EXPECT_EQ(report.processes[1].state, "lost");
  EXPECT_EQ(report.processes[0].state, "finished");

  // It fails once.
  report = shell("test $RANK-$SINEW_INCARNATION != 1-0 || kill -9 $$");
  EXPECT_EQ(report.exit_code, 0);
  EXPECT_EQ(report.restarts, 1);
  EXPECT_TRUE(report.lost.empty());
  EXPECT_EQ(report.processes[1].restarts, 1u);

  // One was killed, and the others say what follows from that.
  report = shell("test $RANK != 0 || kill -9 $$; exit 8");
  EXPECT_EQ(report.exit_code, 8);
  EXPECT_EQ(report.failed, 1);
  report = shell("kill -9 $$");
  EXPECT_EQ(report.exit_code, 128 + 9);

  report = shell("exit 5");
  EXPECT_EQ(report.exit_code, 5);
  EXPECT_EQ(report.lost.size(), 3u);

  options.fatal_exit_codes = {7};
  report = shell("test $RANK != 2 || exit 7; exec sleep 600");  // at once, not when the others have ended
  EXPECT_EQ(report.exit_code, 7);
  EXPECT_EQ(report.failed, 2);
  EXPECT_EQ(report.restarts, 0);
  EXPECT_EQ(report.processes[2].state, "failed");

  options.essential = {0};
  options.grace = kLong;
  report = shell("test $RANK != 0 || exit 3; exec sleep 600");
  EXPECT_EQ(report.exit_code, 3);
  EXPECT_NE(report.failure.find("rank 0"), std::string::npos);

  options.restartable = false;
  options.essential = {};
  report = shell("test $RANK != 1 || exit 9");
  EXPECT_EQ(report.restarts, 0);
  EXPECT_EQ(report.lost, std::vector<Rank>{1});
}

TEST(Supervise, EachRankHasVariablesOfItsOwn) {
  if (!ucx_available()) GTEST_SKIP() << "this build has no TCP store";
  setenv("SINEW_TEST_PLACE", "the parent's", 1);
  LaunchOptions options;
  options.processes = 3;
  options.environment = [](Rank rank) { return std::vector{"SINEW_TEST_PLACE=" + std::to_string(10 * rank)}; };
  // Also in a second life.
  options.argv = {"/bin/sh", "-c",
                  "test $RANK-$SINEW_INCARNATION != 1-0 || kill -9 $$; test \"$SINEW_TEST_PLACE\" = $((10 * RANK))"};
  const auto report = supervise(options);
  unsetenv("SINEW_TEST_PLACE");
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->exit_code, 0);
  EXPECT_EQ(report->restarts, 1);
  EXPECT_TRUE(report->lost.empty());
}

TEST(Supervise, KillsWhatIgnoresTheRequest) {
  if (!ucx_available()) GTEST_SKIP() << "this build has no TCP store";
  test::TemporaryDirectory directory;
  LaunchOptions options;
  options.processes = 2;
  options.essential = {0};
  options.grace = 100 * kMillisecond;
  // Rank 0 ends the job when rank 1 ignores the request.
  options.argv = {"/bin/sh", "-c",
                  "cd " + directory.path() +
                      "; trap '' TERM; test $RANK = 0 || : >ignores; "
                      "until test $RANK = 0 -a -e ignores; do sleep 0.1; done; exit 3"};
  auto report = supervise(options);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->exit_code, 3);
  EXPECT_EQ(report->processes[1].exit_code, 128 + 9);
}

#ifdef SINEW_HAVE_UCX

// A worker as the trainer will be: joins, talks to all, reports steps, leaves.
SINEW_PROCESS_BODY(worker) {
  auto job = read_job_environment();
  process.check(job.ok() && job->has_value(), "job environment");
  process.rank = (*job)->rank;
  auto store = open_job_store(**job);
  process.check(store.ok(), store.status().message());
  UcxOptions options;
  options.rank = (*job)->rank;
  options.size = (*job)->world_size;
  options.incarnation = (*job)->incarnation;
  options.secret = (*job)->secret;
  options.status_fd = (*job)->status_fd;
  options.join_timeout = kLong;
  auto plan = parse_fault_plan(process.extra["plan"], "plan");
  process.check(plan.ok(), plan.status().message());
  options.faults = *plan;
  auto world = make_ucx_world(options, store->store);
  process.check(world.ok(), world.status().message());
  process.report("start " + std::to_string((*job)->incarnation) + " " + std::to_string((*job)->start_step));
  const int64_t steps = std::stoll(process.extra.at("steps"));
  for (int64_t step = (*job)->start_step; step < steps; ++step) {
    (*world)->sleep(kMillisecond);
    (*world)->report_step(step);
    if (step == 20) process.reach("running");
  }
  if (process.extra["wait"] == "1") {
    process.check(process.wait_for("go", 99), "told to go on");
  }
  // A synchronous end: everybody hears from everybody who is not gone.
  Head head;
  head.tag = Tag::test;
  for (Rank to = 0; to < (*world)->size(); ++to)
    if (to != process.rank) (*world)->send(to, head);
  for (Rank from = 0; from < (*world)->size(); ++from) {
    if (from == process.rank) continue;
    process.check(test::eventually([&] { return (*world)->peer(from) != PeerState::dead; }), "dead without an end");
    process.check((*world)->receive({.tag = Tag::test, .source = from}, kLong).what != Received::What::timeout, "end");
  }
  (*world)->leave();
  if (process.extra["die"] == std::to_string(process.rank)) ::kill(::getpid(), SIGKILL);
  process.report("done");
  return 0;
}

// Gives signs of life, but no steps: rank 1 is stopped for ever in its first life, rank 0 is only slow.
SINEW_PROCESS_BODY(slow_or_stopped) {
  auto job = read_job_environment();
  process.check(job.ok() && job->has_value(), "job environment");
  process.rank = (*job)->rank;
  const LifeSigns signs(**job);
  if (process.rank == 1 && (*job)->incarnation == 0) ::raise(SIGSTOP);
  if (process.rank == 0) std::this_thread::sleep_for(std::chrono::seconds(7));
  process.check(supervisor_lives(**job), "the supervisor lives");
  process.report("done " + std::to_string((*job)->incarnation));
  return 0;
}

// Runs supervise() in a process of its own; its report goes to files.
SINEW_PROCESS_BODY(supervisor) {
  ::setenv("SINEW_TEST_BODY", process.extra.count("body") ? process.extra["body"].c_str() : "worker", 1);
  ::signal(SIGHUP, SIG_DFL);  // whatever started the tests
  LaunchOptions options;
  options.argv = {std::filesystem::read_symlink("/proc/self/exe").string()};
  options.processes = 3;
  options.max_restarts = std::stoi(process.extra.at("restarts"));
  options.grace = kLong;
  options.silence = process.extra.count("silence") ? std::stoi(process.extra["silence"]) * kSecond : 0;
  options.on_death = [&](const std::string& line) {
    std::ofstream(process.directory + "/deaths", std::ios::app) << line << '\n';
  };
  options.log_path = [&](Rank rank) { return process.directory + "/log-worker-" + std::to_string(rank); };
  std::set<std::string> states;
  options.on_change = [&](const std::vector<ProcessStatus>& statuses) {
    for (const ProcessStatus& status : statuses) {
      states.insert(status.state);
      std::ofstream(process.directory + "/pid-" + std::to_string(status.rank) + ".tmp") << status.pid;
      std::filesystem::rename(process.directory + "/pid-" + std::to_string(status.rank) + ".tmp",
                              process.directory + "/pid-" + std::to_string(status.rank));
    }
  };
  auto report = supervise(options);
  process.check(report.ok(), report.status().message());
  std::ostringstream text;
  text << "exit " << report->exit_code << " restarts " << report->restarts << " lost";
  for (Rank rank : report->lost) text << ' ' << rank;
  text << " steps";
  for (const ProcessStatus& status : report->processes) text << ' ' << status.step;
  process.rank = 100;  // ranks 0 to 2 are the workers
  process.report(text.str());
  process.check(states.count("running") && states.count("finished"), "states are reported");
  return 0;
}

// The supervisor may write it later than the worker does what was waited for.
pid_t worker_pid(const ProcessGroup& group, int rank) {
  const std::string path = group.directory() + "/pid-" + std::to_string(rank);
  SINEW_CHECK(test::eventually([&] { return std::filesystem::exists(path); }), "worker_pid", "no ", path);
  return std::atoi(test::read_text(path).c_str());
}
void let_go(const ProcessGroup& group) { std::ofstream(group.directory() + "/at-go-99") << ""; }

TEST(Supervise, RestartsAKilledWorkerAtItsLastStep) {
  ProcessGroup group("supervisor", 1, {{"restarts", "3"}, {"steps", "200"}, {"wait", "1"}});
  ASSERT_TRUE(group.reached("running", 2));
  ASSERT_EQ(::kill(worker_pid(group, 2), SIGKILL), 0);
  let_go(group);
  ASSERT_EQ(group.wait(0), 0);
  EXPECT_EQ(group.report(100), "exit 0 restarts 1 lost steps 199 199 199");
  const std::string story = group.report(2);
  EXPECT_EQ(story.rfind("start 0 0\nstart 1 ", 0), 0u) << story;
  EXPECT_GE(std::atoi(story.c_str() + std::string("start 0 0\nstart 1 ").size()), 15) << story;
  EXPECT_NE(story.find("done"), std::string::npos);
  EXPECT_EQ(group.report(1), "start 0 0\ndone");
}

TEST(Supervise, AFaultPlanKillsOnceAndTheLostAreNamed) {
  ProcessGroup group("supervisor", 1, {{"restarts", "0"}, {"steps", "100"}, {"plan", "kill rank=1 step=50"}});
  ASSERT_EQ(group.wait(0), 0);
  EXPECT_EQ(group.report(100), "exit 0 restarts 0 lost 1 steps 99 50 99");
  ProcessGroup again("supervisor", 1, {{"restarts", "2"}, {"steps", "100"}, {"plan", "kill rank=1 step=50"}});
  ASSERT_EQ(again.wait(0), 0);
  EXPECT_EQ(again.report(100), "exit 0 restarts 1 lost steps 99 99 99");
}

TEST(Supervise, ADeathAfterTheWorkIsDoneIsNoLoss) {
  ProcessGroup group("supervisor", 1, {{"restarts", "3"}, {"steps", "100"}, {"die", "1"}});
  ASSERT_EQ(group.wait(0), 0);
  EXPECT_EQ(group.report(100), "exit 0 restarts 0 lost steps 99 99 99");
  EXPECT_EQ(group.report(1), "start 0 0");
}

TEST(Supervise, AStoppedProcessIsKilledASlowOneIsNot) {
  ProcessGroup group("supervisor", 1, {{"restarts", "1"}, {"body", "slow_or_stopped"}, {"silence", "3"}});
  ASSERT_EQ(group.wait(0), 0);
  EXPECT_EQ(group.report(100), "exit 0 restarts 1 lost steps 0 0 0");
  EXPECT_EQ(group.report(0), "done 0");
  EXPECT_EQ(group.report(1), "done 1");
  EXPECT_EQ(test::read_text(group.directory() + "/deaths"),
            "rank 1 gave no sign of life for 3 s at step 0 and was killed; it is started again\n");
}

TEST(Supervise, WorkersFinishWithoutTheSupervisor) {
  ProcessGroup group("supervisor", 1, {{"restarts", "3"}, {"steps", "100"}, {"wait", "1"}});
  ASSERT_TRUE(group.reached("running", 1));
  group.signal(0, SIGKILL);
  group.wait(0);
  // One of them dies after that: nobody restarts it, and the others see it as gone.
  ASSERT_EQ(::kill(worker_pid(group, 1), SIGKILL), 0);
  let_go(group);
  EXPECT_TRUE(test::eventually([&] { return group.report(0).find("done") != std::string::npos; }))
      << test::read_text(group.directory() + "/log-worker-0");
  EXPECT_TRUE(test::eventually([&] { return group.report(2).find("done") != std::string::npos; }));
  EXPECT_EQ(group.report(1), "start 0 0");
}

TEST(Supervise, StopsOnASignal) {
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    ProcessGroup group("supervisor", 1, {{"restarts", "3"}, {"steps", "1000000"}});
    ASSERT_TRUE(group.reached("running", 0));
    group.signal(0, number);
    group.wait(0);
    const std::string expected = "exit " + std::to_string(128 + number) + " restarts 0";
    EXPECT_EQ(group.report(100).rfind(expected, 0), 0u) << group.report(100);
    for (int rank = 0; rank < 3; ++rank)
      EXPECT_NE(::kill(worker_pid(group, rank), 0), 0) << "rank " << rank << " lives";
  }
}

#endif  // SINEW_HAVE_UCX

}  // namespace
}  // namespace sinew::dist
