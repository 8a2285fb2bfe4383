// Synchronous groups that re-form: nobody hangs, no round counts twice, no two groups go on.
#include "dist/membership.h"

#include <gtest/gtest.h>

#include <map>

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
    return Numbers{};
  };
}

// Empty, or what is wrong.
std::string check(const std::vector<Seen>& seen, const SimulatedRun& run, const Schedule& schedule, int64_t rounds) {
  if (!run.report.deadlock.empty()) return run.report.deadlock;
  // Faults are over by then, and an epoch ends within 5 deadlines; how often one does is up to the faults.
  if (run.report.virtual_time > 20 * kSecond) return "it takes too long";
  std::map<int64_t, double> members, sums;  // by epoch, by round
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
    bool found = sum == std::ldexp(1, static_cast<int>(seen.size())) - 1;
    for (const auto& [epoch, mask] : members) found = found || sum == mask;
    if (!found) return detail::concat("round ", number, " adds up to ", sum, ", which is no group");
  }
  const bool only_kills = std::all_of(schedule.troubles.begin(), schedule.troubles.end(),
                                      [](const Trouble& t) { return t.kind == Trouble::kill; });
  if (only_kills && 2 * killed < seen.size() && ended != seen.size()) return "some end though a majority lives";
  return "";
}

TEST(Membership, ThousandsOfSchedules) {
  constexpr int64_t kRounds = 12;
  int64_t all = 0, re_formed = 0, all_finished = 0, some_finished = 0;
  check_schedules({.count = 3000}, [&](const Schedule& schedule) {
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

}  // namespace
}  // namespace sinew::dist::testing
