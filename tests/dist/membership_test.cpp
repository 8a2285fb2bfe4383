// Synchronous groups that re-form: nobody hangs, no round counts twice, no two groups go on.
#include "dist/membership.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <sstream>

#include "dist/schemes/lockstep.h"
#include "tests/support/gossip_bodies.h"

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
    Lockstep group(world, options);
    SINEW_RETURN_IF_ERROR(group.start(1));
    Seen& mine = seen[static_cast<size_t>(world.rank())];
    for (int64_t k = 0; k < rounds; ++k) {
      world.report_step(k);
      world.compute(Cost{1}, [] {});
      Numbers x(3, std::ldexp(1, world.rank()));
      SINEW_RETURN_IF_ERROR(group.all_reduce(VecView(x), false));
      EXPECT_TRUE(x[0] == x[1] && x[1] == x[2]);
      mine.rounds.push_back({k, x[0], group.membership().epoch(), mask_of(group.membership().members())});
    }
    SINEW_RETURN_IF_ERROR(group.finish());
    mine.finished = true;
    return Numbers{};
  };
}

// Faults as drawn from a seed, after the group has met.
std::string faults_of(uint64_t seed, int workers) {
  uint64_t draws = 0;
  const auto draw = [&](uint64_t below) {
    return philox_u64({seed, uint32_t(RngPurpose::test), 11, 0}, draws++) % below;
  };
  std::ostringstream text;
  const uint64_t kills = draw(3), windows = draw(3);
  for (uint64_t i = 0; i < kills; ++i) text << "kill rank=" << draw(workers) << " at=" << 30 + draw(150) << "ms\n";
  for (uint64_t i = 0; i < windows; ++i) {
    const uint64_t after = 30 + draw(150), until = after + 1 + draw(i == 0 ? 2000 : 60);
    const std::string span = detail::concat(" after=", after, "ms until=", until, "ms\n");
    switch (draw(6)) {
      case 0:
        text << "partition ranks=" << draw(workers) << span;
        break;
      case 1:
        text << "partition ranks=0," << 1 + draw(workers - 1) << span;
        break;
      case 2:
        text << "drop probability=0." << 1 + draw(4) << span;
        break;
      case 3:
        text << "reorder probability=0.3 by=" << draw(400) << "ms" << span << "duplicate probability=0.3" << span;
        break;
      case 4:
        text << "delay probability=0.5 from=" << draw(workers) << " by=" << draw(400) << "ms" << span;
        break;
      case 5:
        text << "pause rank=" << draw(workers) << " at=" << after << "ms for=" << draw(2000) << "ms\n";
        break;
    }
  }
  return text.str();
}

// Empty, or what is wrong.
std::string check(const std::vector<Seen>& seen, const SimulatedRun& run, const std::string& faults, int64_t rounds) {
  if (!run.report.deadlock.empty()) return run.report.deadlock;
  std::map<int64_t, double> members, sums;  // by epoch, by round
  size_t killed = 0, ended = 0;
  for (size_t r = 0; r < seen.size(); ++r) {
    const NodeOutcome& o = run.report.nodes[r];
    killed += o.what == NodeOutcome::What::killed;
    ended += seen[r].finished || o.what == NodeOutcome::What::killed;
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
  const bool links = faults.find('d') != faults.npos || faults.find('p') != faults.npos;  // drop delay ... pause
  if (!links && faults.find("rank=0") == faults.npos && 2 * killed <= seen.size() && ended != seen.size())
    return "some end though a majority lives";
  return "";
}

TEST(Membership, ThousandsOfSchedules) {
  int64_t re_formed = 0, all_finished = 0, some_finished = 0;
  const char* more = std::getenv("SINEW_TEST_SCHEDULES");  // by hand
#ifdef __SANITIZE_THREAD__
  constexpr uint64_t kSchedules = 100;
#else
  constexpr uint64_t kSchedules = 2000;
#endif
  const uint64_t schedules = more ? std::stoull(more) : kSchedules;
  for (uint64_t seed = 1; seed <= schedules; ++seed) {
    const int workers = 2 + static_cast<int>(seed % 4);
    const std::string faults = faults_of(seed, workers);
    std::vector<Seen> seen(static_cast<size_t>(workers));
    constexpr int64_t kRounds = 12;
    const SimulatedRun run = simulate(workers, lockstep_body(workers, kRounds, seen),
                                      {.seed = seed, .jitter = 0.5, .faults = plan(faults, seed)});
    const std::string wrong = check(seen, run, faults, kRounds);
    ASSERT_EQ(wrong, "") << "seed " << seed << ", " << workers << " workers\n" << faults;
    size_t finished = 0;
    int64_t epochs = 0;
    for (const Seen& s : seen) {
      finished += s.finished;
      if (!s.rounds.empty()) epochs = std::max(epochs, s.rounds.back().epoch);
    }
    re_formed += epochs > 0;
    all_finished += finished == seen.size();
    some_finished += finished > 0;
  }
  EXPECT_GT(re_formed, static_cast<int64_t>(schedules) / 4);
  EXPECT_GT(some_finished, static_cast<int64_t>(schedules) * 7 / 10);
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
