// Fault plans, acted out by real processes.
#ifdef SINEW_HAVE_UCX

#include <gtest/gtest.h>

#include <fstream>

#include "dist/ucx/ucx_world.h"
#include "tests/support/processes.h"

namespace sinew::dist {
namespace {

using test::ProcessContext;
using test::ProcessGroup;

constexpr Nanos kLong = 60 * kSecond;

// Joins with the plan.
std::unique_ptr<World> join(const ProcessContext& process, const std::string& text) {
  auto plan = parse_fault_plan(text, "plan");
  process.check(plan.ok(), plan.status().message());
  auto store = make_file_store(process.directory + "/store");
  process.check(store.ok(), "store");
  auto world = make_ucx_world({.rank = process.rank,
                               .size = process.size,
                               .secret = "the job's secret",
                               .join_timeout = kLong,
                               .faults = *plan},
                              *store);
  process.check(world.ok(), world.status().message());
  return std::move(*world);
}

Head test_head(int64_t a) {
  Head head;
  head.tag = Tag::test;
  head.arg[0] = a;
  return head;
}

// Rank 1 pauses at step 3; its messages to rank 0 are dropped until it takes steps; those of rank 0 come late, in
// order.
SINEW_PROCESS_BODY(faults) {
  auto world = join(process,
                    "pause rank=1 step=3 for=1s\ndrop from=1 to=0 probability=1 until_step=0\n"
                    "delay from=0 to=1 by=50ms\nsuppress rank=1 probability=1\n");
  process.check(world->suppressed(7) == (process.rank == 1), "suppressed");
  if (process.rank == 0) {
    for (int64_t i = 0; i < 10; ++i) world->send(1, test_head(i));
    process.check(world->receive({.tag = Tag::test, .arg0 = 1}, kLong).ok(), "after the drops");
    process.check(!world->receive({.tag = Tag::test, .arg0 = 0}, 0).ok(), "dropped");
    world->send(1, test_head(10));
    process.check(world->receive({.tag = Tag::test, .arg0 = 2}, kLong).ok(), "it goes on");
  } else {
    world->send(0, test_head(0));
    const Nanos begin = world->now();
    for (int64_t i = 0; i < 10; ++i) {
      Received received = world->receive({.tag = Tag::test, .source = 0}, kLong);
      process.check(received.ok() && received.message.head.arg[0] == i, "delayed, in order");
    }
    world->report_step(0);
    world->send(0, test_head(1));
    process.check(world->receive({.tag = Tag::test, .arg0 = 10}, kLong).ok(), "that has come");
    const Nanos before = world->now();
    for (int64_t step = 1; step < 5; ++step) world->report_step(step);
    process.check(world->now() - before >= kSecond, "paused once, for that long");
    process.check(before > begin, "time goes on");
    world->send(0, test_head(2));
  }
  world->leave();
  return 0;
}

TEST(UcxFaults, ActsOutAFaultPlan) {
  ProcessGroup group("faults", 2);
  EXPECT_TRUE(group.wait_all());
}

// What is held back for an hour has not come when the others have; what is held back for a moment comes.
SINEW_PROCESS_BODY(message_faults) {
  auto world =
      join(process,
           "duplicate to=1 after_step=3\nreorder to=1 by=3600s until_step=1\nreorder to=1 by=1ms after_step=3\n"
           "partition ranks=2 after_step=1 until_step=2\ncorrupt rank=1 step=1 value=5\n");
  if (process.rank == 0) {
    for (int64_t i = 0; i < 4; ++i) {
      world->report_step(i);
      for (Rank to : {1, 2}) world->send(to, test_head(i));
    }
    for (Rank from : {1, 2}) process.check(world->receive({.tag = Tag::test, .source = from}, kLong).ok(), "answer");
  } else {
    for (int64_t expected : process.rank == 1 ? std::vector<int64_t>{1, 2, 3, 3} : std::vector<int64_t>{0, 2, 3}) {
      const Received r = world->receive({.tag = Tag::test, .source = 0}, kLong);
      process.check(r.ok() && r.message.head.arg[0] == expected, "message " + std::to_string(expected));
    }
    std::vector<float> theta(100, 1);
    for (int64_t step = 0; step < 3; ++step) world->report_step(step, VecView(theta));
    process.check(theta[99] == (process.rank == 1 ? 5 : 1), "corrupted");
    world->send(0, test_head(0));
  }
  world->leave();
  return 0;
}

TEST(UcxFaults, DuplicatesReordersPartsCorrupts) {
  ProcessGroup group("message_faults", 3);
  EXPECT_TRUE(group.wait_all());
}

// By the clock, which the communication thread looks at while this one sleeps.
SINEW_PROCESS_BODY(timed_pause) {
  auto world = join(process, "pause rank=0 at=100ms for=1200ms\n");
  process.check(test::eventually([&] { return world->stops() >= 1; }), "stopped for more than a second");
  process.check(world->now() >= 1200 * kMillisecond, "not before it was stopped");
  world->leave();
  return 0;
}

TEST(UcxFaults, GoesOnAfterATimedPause) {
  ProcessGroup group("timed_pause", 1);
  EXPECT_TRUE(group.wait_all());
}

// A step that takes 20 ms takes six times that; rounds are left out as the plan's chain has it; an outage of a trace is
// a stop.
SINEW_PROCESS_BODY(slow_and_trace) {
  const std::string trace = process.directory + "/trace.csv";
  std::ofstream(trace) << "0.5,down,0\n1.8,up,0\n";
  const std::string plan =
      "slow rank=0 factor=6 after_step=3\nsuppress rank=0 fail=0.3 recover=0.5\ntrace file=" + trace + " as=pause\n";
  auto world = join(process, plan);
  int suppressed = 0;
  for (int64_t round = 0; round < 50; ++round) {
    const bool left_out = world->suppressed(round);
    process.check(left_out == plan_suppresses(parse_fault_plan(plan, "plan").value(), 0, round), "as in the plan");
    suppressed += left_out;
  }
  process.check(suppressed > 5 && suppressed < 45, "now and then");
  for (int64_t step = 0; step < 6; ++step) {
    const Nanos begin = world->now();
    world->compute({}, [&] { world->sleep(20 * kMillisecond); });
    world->report_step(step);
    process.check(step < 4 || world->now() - begin >= 115 * kMillisecond, "slow step " + std::to_string(step));
  }
  process.check(test::eventually([&] { return world->stops() >= 1; }), "an outage");
  process.check(world->now() >= 1800 * kMillisecond, "as long as in the trace");
  world->leave();
  return 0;
}

TEST(UcxFaults, SlowsSuppressesByAChainAndFollowsATrace) {
  ProcessGroup group("slow_and_trace", 1);
  EXPECT_TRUE(group.wait_all());
}

}  // namespace
}  // namespace sinew::dist

#endif  // SINEW_HAVE_UCX
