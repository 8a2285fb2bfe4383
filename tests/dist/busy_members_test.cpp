// Members of a synchronous group that live but do not come to a round, as they compute.
#include <gtest/gtest.h>

#include "dist/liveness.h"
#include "tests/support/busy_bodies.h"
#include "tests/support/gossip_bodies.h"

namespace sinew::dist::testing {
namespace {

constexpr Nanos kDeadline = 300 * kMillisecond;

TEST(BusyMembers, AreWaitedFor) {
  for (const LockstepCase& c : kLockstepCases)
    for (Rank rank : {0, 2}) check_busy_member_is_waited_for(in_simulation(), c, rank, kDeadline);
}

TEST(BusyMembers, AsAFaultPlanSaysIt) {
  for (const LockstepCase& c : kLockstepCases) {
    const Toy toy = busy_toy(c, kDeadline);
    for (const NodeResult& node : in_simulation({.faults = plan("slow rank=0 factor=300 after_step=6 until_step=8")})(
             4, [&](World& w) { return busy_run(w, toy, {}); }))
      EXPECT_TRUE(node.finished) << c.name << ": " << node.status.message();
  }
}

// A member dies while another one is busy: the others do not re-form without that one.
TEST(BusyMembers, AreWaitedForWhenOthersDie) {
  for (const LockstepCase& c : kLockstepCases)
    for (Rank rank : {0, 2}) {
      const Toy toy = busy_toy(c, kDeadline);
      const SimulatedRun run =
          simulate(4, [&](World& w) { return busy_run(w, toy, {.rank = rank, .duration = 10 * kDeadline}); },
                   {.faults = plan("kill rank=1 at=200ms")});
      EXPECT_EQ(run.report.deadlock, "");
      for (size_t r : {size_t{0}, size_t{2}, size_t{3}})
        EXPECT_TRUE(run.nodes[r].finished) << c.name << " rank " << r << ": " << run.nodes[r].status.message();
    }
}

// Two are left when rank 0 dies, which is enough; the busy one alone is not.
TEST(BusyMembers, CountForTheMajority) {
  const Toy toy = busy_toy({"allreduce"}, kDeadline, 3);
  const SimulatedRun run =
      simulate(3, [&](World& w) { return busy_run(w, toy, {.rank = 1, .duration = 10 * kDeadline}); },
               {.faults = plan("kill rank=0 at=200ms")});
  for (size_t r : {size_t{1}, size_t{2}}) EXPECT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
}

// One that stops while it is busy does not answer any more, and is left behind as if it had been idle.
TEST(BusyMembers, AreLeftBehindWhenTheyStop) {
  for (const LockstepCase& c : kLockstepCases)
    for (const char* faults : {"pause rank=2 at=1s for=60s", "partition ranks=2 after=1s", "kill rank=2 at=1s"}) {
      const Toy toy = busy_toy(c, kDeadline);
      const SimulatedRun run =
          simulate(4, [&](World& w) { return busy_run(w, toy, {.rank = 2, .duration = 10 * kDeadline}); },
                   {.faults = plan(faults)});
      EXPECT_EQ(run.report.deadlock, "");
      for (size_t r = 0; r < 4; ++r) {
        EXPECT_EQ(run.nodes[r].finished, r != 2) << c.name << " rank " << r << ": " << run.nodes[r].status.message();
        if (r != 2) {
          EXPECT_LT(run.report.nodes[r].time, kSecond + 6 * kDeadline) << c.name << ", " << faults;
        }
      }
    }
}

TEST(BusyMembers, AreLeftBehindWhenTheyHangForGood) {
  const Toy toy = busy_toy({"allreduce"}, kDeadline);
  const SimulatedRun run =
      simulate(4, [&](World& w) { return busy_run(w, toy, {.rank = 0, .duration = 1000 * kDeadline}); });
  EXPECT_EQ(run.report.deadlock, "");
  EXPECT_EQ(run.nodes[0].status.code(), StatusCode::peer_lost);
  for (size_t r = 1; r < 4; ++r) {
    EXPECT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
    EXPECT_GT(run.report.nodes[r].time, Liveness::kBusy * kDeadline);
    EXPECT_LT(run.report.nodes[r].time, (Liveness::kBusy + 6) * kDeadline);
  }
}

// How long one was busy before a group re-formed says nothing about a later time.
TEST(BusyMembers, AreTimedAnewAfterAReForming) {
  const Toy toy = busy_toy({"allreduce"}, kDeadline);
  const auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    worker.after_exchange = [&](int64_t k) {
      if (world.rank() == 0 && k == 5) world.sleep(23 * kDeadline / 20);
      if (k > 5 && k < 17) world.sleep(10 * kDeadline);  // all, and so nobody is late
      if (world.rank() == 0 && k == 17) world.sleep(8 * kDeadline);
    };
    for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    return Numbers{};
  };
  // When this is known the others have asked rank 0, and it comes before they ask again.
  const SimulatedRun run = simulate(4, body, {.faults = plan("kill rank=1 at=340ms")});
  EXPECT_GT(run.report.virtual_time, (Liveness::kBusy + 10) * kDeadline);
  for (size_t r : {size_t{0}, size_t{2}, size_t{3}})
    EXPECT_TRUE(run.nodes[r].finished) << "rank " << r << ": " << run.nodes[r].status.message();
}

// A lost message keeps all of them waiting, and none is busy: they re-form, and do the round again.
TEST(BusyMembers, NobodyIsWhenAMessageIsLost) {
  for (const LockstepCase& c : kLockstepCases) {
    const Toy toy = busy_toy(c, kDeadline);
    const auto body = [&](World& w) { return busy_run(w, toy, {}); };
    const Nanos undisturbed = simulate(4, body).report.virtual_time;
    const SimulatedRun run = simulate(4, body, {.faults = plan("drop from=1 after=100ms until=140ms")});
    for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << c.name << ": " << node.status.message();
    EXPECT_GE(run.report.virtual_time, undisturbed + kDeadline) << c.name << ": nothing was lost";
    EXPECT_LT(run.report.virtual_time, kSecond + 3 * kDeadline) << c.name;
  }
}

// Messages that are lost at random make many rounds fail, and put nobody out.
TEST(BusyMembers, AllStayWhereOneMessageInTwentyIsLost) {
  for (const char* scheme : {"allreduce", "local_sgd"})
    for (uint64_t seed : {1, 2, 3, 4, 5}) {
      Toy toy = busy_toy({scheme}, kDeadline);
      toy.steps = 60;
      toy.scheme.period = 1;
      const SimulatedRun run =
          simulate(4, [&](World& w) { return busy_run(w, toy, {}); }, {.faults = plan("drop probability=0.05", seed)});
      EXPECT_EQ(run.report.deadlock, "");
      for (const NodeResult& node : run.nodes)
        EXPECT_TRUE(node.finished) << scheme << ", seed " << seed << ": " << node.status.message();
      EXPECT_GT(run.report.virtual_time, 20 * kDeadline) << "rounds have failed";
    }
}

// Who was stopped for nearly a deadline has not heard the others for longer, and they have heard it since.
TEST(BusyMembers, AreAskedAnewByWhoWasStopped) {
  constexpr Nanos kLong = 2 * kSecond;
  const Toy toy = busy_toy({"allreduce"}, kLong);
  const auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    worker.after_exchange = [&](int64_t k) {
      if (k == 5) world.sleep(world.rank() == 0 ? 5 * kLong : world.rank() == 1 ? 0 : 3 * kLong / 20);
    };
    for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
    const SchemeState state = worker.scheme().save();
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    return Numbers{state.numbers.count("lockstep.epoch") == 0 ? 0.0 : 1.0};
  };
  for (int at : {2480, 2510, 2540}) {
    const std::string faults = sinew::detail::concat("pause rank=1 at=", at, "ms for=1800ms");
    for (const NodeResult& node : simulate(4, body, {.faults = plan(faults)}).nodes) {
      ASSERT_TRUE(node.finished) << node.status.message();
      EXPECT_EQ(node.numbers, Numbers{0}) << faults << ": they re-formed";
    }
  }
}

}  // namespace
}  // namespace sinew::dist::testing
