// Synchronous groups that re-form: nobody hangs, no round counts twice, no two groups go on.
#include "dist/membership.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "dist/schemes/lockstep.h"
#include "tests/support/gossip_bodies.h"
#include "tests/support/schedules.h"

namespace sinew::dist::testing {
namespace {

constexpr Nanos kDeadline = 300 * kMillisecond;

// What a worker saw: after each round its number, its sum of 2^rank, the epoch, and the members as a sum of 2^rank.
struct Round {
  int64_t number;
  double sum;
  int64_t epoch;
  double members;
};
struct Seen {
  std::vector<Round> rounds;
  bool finished = false;
  int64_t left_over = 0;  // messages of collectives that nobody has taken
};

double mask_of(const std::vector<Rank>& members) {
  double mask = 0;
  for (Rank r : members) mask += std::ldexp(1, r);
  return mask;
}

NodeBody lockstep_body(int workers, int64_t rounds, std::vector<Seen>& seen) {
  return [=, &seen](World& world) -> Result<Numbers> {
    SchemeOptions options;
    options.workers = workers;
    options.deadline = kDeadline;
    if (workers % 2 == 1 && workers <= 7) options.wire = "int8";  // which holds these sums exactly
    Lockstep group(world, options);
    SINEW_RETURN_IF_ERROR(group.start(1));
    Seen& mine = seen[static_cast<size_t>(world.rank())];
    for (int64_t k = 0; k < rounds; ++k) {
      world.report_step(k);
      world.compute(Cost{1}, [] {});
      Numbers x(3, std::ldexp(1, world.rank()));
      SINEW_RETURN_IF_ERROR(group.all_reduce_packed(VecView(x), false));
      EXPECT_TRUE(x[0] == x[1] && x[1] == x[2]);
      mine.rounds.push_back({k, x[0], group.membership().epoch(), mask_of(group.membership().members())});
    }
    SINEW_RETURN_IF_ERROR(group.finish());
    mine.finished = true;
    while (world.receive({.tag = Tag::collective}, 0).ok()) ++mine.left_over;
    return Numbers{};
  };
}

// Empty, or what is wrong.
std::string check(const std::vector<Seen>& seen, const SimulatedRun& run, const Schedule& schedule, int64_t rounds) {
  if (!run.report.deadlock.empty()) return run.report.deadlock;
  // Faults are over by then, and an epoch ends within 5 deadlines; how often one does is up to the faults.
  if (run.report.virtual_time > 20 * kSecond) return "it takes too long";
  std::map<int64_t, double> members, sums;  // by epoch, by round
  std::set<double> groups;
  size_t killed = 0, ended = 0;
  for (size_t r = 0; r < seen.size(); ++r) {
    const NodeOutcome& o = run.report.nodes[r];
    const bool died = o.what == NodeOutcome::What::killed || o.restarts > 0;
    killed += died;
    ended += seen[r].finished || died;
    if (o.what == NodeOutcome::What::failed && o.status.code() != StatusCode::peer_lost &&
        o.status.code() != StatusCode::timeout)
      return o.status.message();
    for (size_t i = 0; i < seen[r].rounds.size(); ++i) {
      const Round& round = seen[r].rounds[i];
      groups.insert(round.members);
      // One that is left behind may have come to the end of a round that the others then did again without it.
      if (!seen[r].finished && i + 1 == seen[r].rounds.size()) continue;
      if (!members.emplace(round.epoch, round.members).second && members[round.epoch] != round.members)
        return detail::concat("two groups in epoch ", round.epoch);
      if (!sums.emplace(round.number, round.sum).second && sums[round.number] != round.sum)
        return detail::concat("round ", round.number, " has two results");
    }
    if (seen[r].finished && static_cast<int64_t>(seen[r].rounds.size()) != rounds) return "a round is missing";
  }
  for (const auto& [number, sum] : sums) {
    if (sum != std::ldexp(1, static_cast<int>(seen.size())) - 1 && groups.count(sum) == 0)
      return detail::concat("round ", number, " adds up to ", sum, ", which is no group");
  }
  const bool all_answer = std::all_of(schedule.troubles.begin(), schedule.troubles.end(), [](const Trouble& t) {
    return t.kind == Trouble::kill || t.kind == Trouble::slow;
  });
  if (all_answer && 2 * killed < seen.size() && ended != seen.size()) return "some end though a majority lives";
  return "";
}

TEST(Membership, ThousandsOfSchedules) {
  constexpr int64_t kRounds = 12;
  int64_t all = 0, re_formed = 0, all_finished = 0, some_finished = 0;
  Schedules schedules{.count = 3000};
  schedules.kinds.insert(schedules.kinds.end(), {Trouble::slow, Trouble::link});
  check_schedules(schedules, [&](const Schedule& schedule) {
    std::vector<Seen> seen(static_cast<size_t>(schedule.workers));
    const SimulatedRun run =
        simulate(schedule.workers, lockstep_body(schedule.workers, kRounds, seen), schedule.options());
    size_t finished = 0;
    int64_t epochs = 0;
    for (const Seen& s : seen) {
      finished += s.finished;
      if (!s.rounds.empty()) epochs = std::max(epochs, s.rounds.back().epoch);
    }
    ++all;
    re_formed += epochs > 0;
    all_finished += finished == seen.size();
    some_finished += finished > 0;
    return check(seen, run, schedule, kRounds);
  });
  EXPECT_GT(re_formed, all / 4);
  EXPECT_GT(some_finished, all * 7 / 10);
  EXPECT_LT(all_finished, some_finished);
}

TEST(Membership, TheMajorityGoesOnAndTheOthersEnd) {
  struct Case {
    const char* faults;
    std::vector<Rank> finish;
  };
  for (const Case& c :
       {Case{"kill rank=2 at=55ms", {0, 1, 3}}, Case{"kill rank=0 at=55ms", {1, 2, 3}},
        Case{"kill rank=1 at=55ms\nkill rank=3 at=55ms", {0, 2}}, Case{"kill rank=0 at=55ms\nkill rank=3 at=55ms", {}},
        Case{"partition ranks=0,3 after=55ms", {0, 3}}, Case{"partition ranks=3 after=55ms", {0, 1, 2}},
        Case{"partition ranks=1,3 after=55ms until=300ms", {0, 1, 2, 3}},
        Case{"pause rank=1 at=55ms for=20s", {0, 2, 3}}}) {
    std::vector<Seen> seen(4);
    const SimulatedRun run = simulate(4, lockstep_body(4, 20, seen), {.faults = plan(c.faults)});
    EXPECT_EQ(run.report.deadlock, "");
    for (Rank r = 0; r < 4; ++r) {
      const NodeOutcome& o = run.report.nodes[static_cast<size_t>(r)];
      const bool finishes = std::find(c.finish.begin(), c.finish.end(), r) != c.finish.end();
      EXPECT_EQ(seen[static_cast<size_t>(r)].finished, finishes)
          << c.faults << " rank " << r << ": " << o.status.message();
      if (o.what == NodeOutcome::What::failed) {
        EXPECT_EQ(o.status.code(), StatusCode::peer_lost) << o.status.message();
      }
      if (o.what != NodeOutcome::What::killed && std::string(c.faults).find("pause") == std::string::npos) {
        EXPECT_LT(o.time, kSecond + 6 * kDeadline) << c.faults << " rank " << r << ": bounded";
      }
    }
  }
}

// The others go on with rounds that are never late, so that only their communication sides answer who is left behind:
// they are in no computation that it waits for.
TEST(Membership, WhoIsLeftBehindWithoutAWordEnds) {
  for (const char* faults : {"partition ranks=3 after=55ms until=900ms", "partition ranks=3 after=55ms until=1200ms"}) {
    std::vector<Seen> seen(4);
    const SimulatedRun run = simulate(4, lockstep_body(4, 1000, seen), {.faults = plan(faults)});
    EXPECT_EQ(run.report.deadlock, "");
    for (size_t r = 0; r < 3; ++r) EXPECT_TRUE(seen[r].finished) << run.report.nodes[r].status.message();
    EXPECT_EQ(run.report.nodes[3].status.code(), StatusCode::peer_lost);
    EXPECT_LT(run.report.nodes[3].time, 55 * kMillisecond + 6 * kDeadline) << faults;
    EXPECT_GT(run.report.nodes[0].time, 20 * kDeadline) << "and they go on for long";
  }
}

// A lost chunk and a lost result are two messages, and no dead link.
TEST(Membership, OneLostResultPutsNobodyOut) {
  int64_t again = 0;
  for (int chunk = 50; chunk < 74; ++chunk)
    for (int result = 340; result < 580; result += 4) {
      const std::string text =
          sinew::detail::concat("drop from=2 to=3 after=", chunk, "ms until=", chunk + 1,
                                "ms\ndrop from=0 to=3 after=", result, "ms until=", result + 4, "ms");
      std::vector<Seen> seen(4);
      const SimulatedRun run =
          simulate(4, lockstep_body(4, 20, seen), {.latency = 2 * kMillisecond, .faults = plan(text)});
      for (size_t r = 0; r < 4; ++r)
        ASSERT_TRUE(seen[r].finished) << text << ", rank " << r << ": " << run.report.nodes[r].status.message();
      again += seen[3].rounds.back().epoch > 1;
    }
  EXPECT_GT(again, 0) << "a result was lost";
}

std::string dead_link(Rank a, Rank b, const char* span) {
  return sinew::detail::concat("drop from=", a, " to=", b, " ", span, "\ndrop from=", b, " to=", a, " ", span, "\n");
}

// Two members that reach all others but not each other cannot both stay.
TEST(Membership, ADeadLinkCostsOneOfItsEnds) {
  struct Case {
    int workers;
    std::string faults;
    std::vector<Rank> finish;
  };
  std::vector<Case> cases = {{3, "drop from=1 to=2 after=55ms", {0, 1}},
                             {4, "drop from=1 to=2 after=55ms", {0, 1, 3}},
                             {5, dead_link(1, 3, "after=55ms") + dead_link(2, 3, "after=55ms"), {0, 1, 2, 4}},
                             {4, dead_link(0, 2, "after=55ms"), {0, 1, 2, 3}},  // not in the ring
                             {4, dead_link(1, 2, "after=55ms until=500ms"), {0, 1, 2, 3}}};
  for (const char* span : {"after=55ms", "after=0ms"}) {
    cases.push_back({3, dead_link(1, 2, span), {0, 1}});
    cases.push_back({4, dead_link(1, 2, span), {0, 1, 3}});
    cases.push_back({5, dead_link(3, 4, span), {0, 1, 2, 3}});
    cases.push_back({8, dead_link(6, 7, span), {0, 1, 2, 3, 4, 5, 6}});
  }
  for (const Case& c : cases) {
    std::vector<Seen> seen(static_cast<size_t>(c.workers));
    const SimulatedRun run = simulate(c.workers, lockstep_body(c.workers, 20, seen), {.faults = plan(c.faults)});
    EXPECT_EQ(run.report.deadlock, "");
    for (Rank r = 0; r < c.workers; ++r) {
      const NodeOutcome& o = run.report.nodes[static_cast<size_t>(r)];
      const bool finishes = std::find(c.finish.begin(), c.finish.end(), r) != c.finish.end();
      EXPECT_EQ(seen[static_cast<size_t>(r)].finished, finishes)
          << c.workers << " workers, " << c.faults << " rank " << r << ": " << o.status.message();
      EXPECT_LT(o.time, kSecond + 6 * kDeadline) << c.workers << " workers, " << c.faults << " rank " << r;
      EXPECT_EQ(seen[static_cast<size_t>(r)].left_over, 0) << c.faults << " rank " << r;
    }
  }
}

// No majority of them reach each other: all end, and say so.
TEST(Membership, MembersThatReachEachOtherInPartEnd) {
  std::string faults;
  for (Rank a = 1; a < 5; ++a)
    for (Rank b = a + 1; b < 5; ++b) faults += dead_link(a, b, "after=55ms");
  std::vector<Seen> seen(5);
  const SimulatedRun run = simulate(5, lockstep_body(5, 20, seen), {.faults = plan(faults)});
  EXPECT_EQ(run.report.deadlock, "");
  for (const NodeOutcome& o : run.report.nodes) {
    EXPECT_EQ(o.status.code(), StatusCode::peer_lost) << o.status.message();
    EXPECT_LT(o.time, 20 * kDeadline);
  }
  EXPECT_NE(run.report.nodes[0].status.message().find("reach each other"), std::string::npos)
      << run.report.nodes[0].status.message();
}

}  // namespace
}  // namespace sinew::dist::testing
