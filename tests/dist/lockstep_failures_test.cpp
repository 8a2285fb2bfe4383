// Schemes in lockstep when a worker is lost: before they have met, and in the middle of a leader scheme's round.
#include <gtest/gtest.h>

#include "tests/support/gossip_bodies.h"
#include "tests/support/leader_bodies.h"

namespace sinew::dist::testing {
namespace {

TEST(LockstepFailures, TheOthersBeginWithoutOneThatIsLost) {
  for (const char* scheme : kInLockstep)
    for (const char* faults :
         {"kill rank=1 at=0ms", "kill rank=0 at=0ms", "kill rank=3 at=1ms", "pause rank=1 at=0ms for=30s",
          "partition ranks=1", "partition ranks=0", "drop from=1 probability=1", "drop to=1 probability=1"}) {
      SCOPED_TRACE(sinew::detail::concat(scheme, ": ", faults));
      check_begins_without_one(in_simulation({.faults = plan(faults)}), scheme);
    }
}

// Half of the members, without the lowest rank, do not begin.
TEST(LockstepFailures, AMinorityDoesNotBegin) {
  for (const char* scheme : kInLockstep) {
    Toy toy = common_toy(scheme, "jacobi", 4);
    toy.scheme.deadline = kSecond;
    const SimulatedRun run =
        simulate(4, [&](World& w) { return toy_run(w, toy); }, {.faults = plan("partition ranks=1,2")});
    EXPECT_EQ(run.report.deadlock, "");
    for (size_t r : {size_t{0}, size_t{3}}) EXPECT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
    for (size_t r : {size_t{1}, size_t{2}}) {
      EXPECT_EQ(run.nodes[r].status.code(), StatusCode::peer_lost) << scheme;
      EXPECT_LT(run.report.nodes[r].time, 6 * kSecond) << scheme;
    }
  }
}

TEST(LockstepFailures, ADeadLinkCostsOneOfItsEnds) {
  for (const char* scheme : kInLockstep)
    for (const char* span : {"after=0ms", "after=100ms", "after=155ms"}) {
      Toy toy = common_toy(scheme, "jacobi", 4);
      toy.scheme.deadline = kSecond;
      const std::string faults = sinew::detail::concat("drop from=1 to=2 ", span, "\ndrop from=2 to=1 ", span);
      const SimulatedRun run = simulate(4, [&](World& w) { return toy_run(w, toy); }, {.faults = plan(faults)});
      EXPECT_EQ(run.report.deadlock, "");
      for (size_t r = 0; r < 4; ++r) {
        EXPECT_EQ(run.nodes[r].finished, r != 2)
            << scheme << ", " << span << " rank " << r << ": " << run.nodes[r].status.message();
        EXPECT_LT(run.report.nodes[r].time, 8 * kSecond) << scheme << ", " << span << " rank " << r;
      }
    }
}

struct Lost {
  Rank leader, lost;
};

// Messages that take 2 ms make a round as long as the steps between two: half of the deaths fall into a round.
TEST(LockstepFailures, LeadersAreElectedAgain) {
  for (const char* scheme : {"lsgd", "lgd"})
    for (const char* groups : {"", "2", "0,1/2/3,4", "0,3/1,2/4"})
      for (const Lost& c : {Lost{1, 1}, Lost{1, 2}, Lost{2, 2}, Lost{0, 0}, Lost{3, 0}, Lost{4, 4}})
        for (int at = 0; at < 24; ++at) {
          const std::string faults = sinew::detail::concat("kill rank=", c.lost, " at=", 40'000 + 7'331 * at, "us");
          SCOPED_TRACE(sinew::detail::concat(scheme, ", groups '", groups, "', leader ", c.leader, ": ", faults));
          check_leaders_survive(
              in_simulation(
                  {.seed = static_cast<uint64_t>(at + 1), .latency = 2 * kMillisecond, .faults = plan(faults)}),
              scheme, groups, c.leader, c.lost);
          if (::testing::Test::HasFailure()) return;
        }
}

TEST(LockstepFailures, LeadersGoOnWithoutOneThatIsSilent) {
  for (const char* scheme : {"lsgd", "lgd"})
    for (const char* groups : {"", "0,3/1,2/4"})
      for (const Lost& c : {Lost{1, 1}, Lost{3, 4}})
        for (bool paused : {false, true})
          for (int at = 0; at < 10; ++at) {
            const auto when = sinew::detail::concat(40'000 + 9'337 * at, "us");
            const std::string text = paused ? sinew::detail::concat("pause rank=", c.lost, " at=", when, " for=20s")
                                            : sinew::detail::concat("partition ranks=", c.lost, " after=", when);
            SCOPED_TRACE(sinew::detail::concat(scheme, ", groups '", groups, "', leader ", c.leader, ": ", text));
            check_leaders_survive(
                in_simulation(
                    {.seed = static_cast<uint64_t>(at + 1), .latency = 2 * kMillisecond, .faults = plan(text)}),
                scheme, groups, c.leader, c.lost);
            if (::testing::Test::HasFailure()) return;
          }
}

}  // namespace
}  // namespace sinew::dist::testing
