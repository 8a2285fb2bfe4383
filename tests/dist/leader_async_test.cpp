// LSGD without a common clock: its budget of steps, its failures, and what the rounds of both modes cost.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

#include "core/philox.h"
#include "tests/support/leader_bodies.h"

namespace sinew::dist::testing {
namespace {

FaultPlan plan(const std::string& text) { return parse_fault_plan(text, "plan").value(); }

SchemeOptions without_clock(int workers, int64_t period) {
  return leaders("lsgd", workers, [&](SchemeOptions& o) { o.mode = "async", o.period = period; });
}

// Between two rounds all workers together take period steps each, however unevenly.
TEST(LeaderAsync, UnevenStepsAddUpToTheBudget) {
  Toy toy = toy_with(without_clock(4, 4));
  toy.steps = 60;
  std::map<int64_t, std::map<Rank, int64_t>> rounds;
  for (const NodeResult& node : simulate(4,
                                         [&](World& world) {
                                           Toy own = toy;
                                           own.scheme.on_round = [&](const LeaderRound& r) {
                                             rounds[r.round][world.rank()] = r.steps;
                                           };
                                           return run_with(world, own, led_by(1));
                                         },
                                         {.faults = plan("slow rank=3 factor=5")})
                                    .nodes)
    EXPECT_TRUE(node.finished) << node.status.message();
  int whole = 0;
  for (const auto& [round, steps] : rounds) {
    if (steps.size() < 4) continue;  // somebody is done
    int64_t sum = 0;
    for (const auto& [rank, n] : steps) sum += n;
    EXPECT_EQ(sum, 16) << "round " << round;
    EXPECT_LT(steps.at(3), steps.at(0));
    ++whole;
  }
  EXPECT_GE(whole, 10);
}

// What each worker took of each round, by round and rank; when each had taken its last step, and the longest time from
// one step to the next.
struct Taken {
  std::map<int64_t, std::map<Rank, int64_t>> rounds;
  std::vector<Nanos> done = std::vector<Nanos>(4);
  Nanos longest = 0;
};
Taken steps_taken(const Toy& toy, const SimOptions& options, Rank dies = kAnyRank) {
  Taken taken;
  const auto nodes =
      simulate(
          4,
          [&](World& world) {
            Toy own = toy;
            own.scheme.on_round = [&](const LeaderRound& r) { taken.rounds[r.round][world.rank()] = r.steps; };
            return run_with(world, own, led_by(1), [&](ToyWorker&, int64_t) {
              Nanos& last = taken.done[static_cast<size_t>(world.rank())];
              taken.longest = std::max(taken.longest, world.now() - last);
              last = world.now();
            });
          },
          options)
          .nodes;
  for (Rank r = 0; r < 4; ++r) EXPECT_EQ(nodes[static_cast<size_t>(r)].finished, r != dies) << "rank " << r;
  return taken;
}

// Tickets are asked for ahead where messages take several steps. The server's own worker has no such messages; it does
// not take the others' share, nor they its. No round has a step too many.
TEST(LeaderAsync, TicketsComeAheadOfTheStepsWhenMessagesAreSlow) {
  Toy toy = toy_with(without_clock(4, 10));
  toy.scheme.deadline = kSecond;
  toy.steps = 200;
  for (const char* faults : {"delay by=30ms", "delay by=0ms jitter=60ms",
                             "delay by=30ms\nduplicate probability=0.3\nreorder probability=0.2 by=20ms"}) {
    const Taken taken = steps_taken(toy, {.faults = plan(faults)});
    int64_t sums[4] = {0, 0, 0, 0}, rounds = 0;
    for (const auto& [round, steps] : taken.rounds) {
      if (steps.size() < 4) continue;  // somebody is done
      int64_t sum = 0;
      for (const auto& [rank, n] : steps) sum += n, sums[rank] += n;
      EXPECT_EQ(sum, 40) << faults << " round " << round;
      ++rounds;
    }
    EXPECT_GE(rounds, 10) << faults;
    for (Rank r = 0; r < 4; ++r) {
      EXPECT_GE(sums[r], 8 * rounds) << faults << " rank " << r;
      // A step of 10 ms, and more for the election and the parameters, which come after 60 to 100 ms each.
      EXPECT_LE(taken.done[static_cast<size_t>(r)], toy.steps * 40 * kMillisecond) << faults << " rank " << r;
    }
  }
}

// What a worker asked may arrive when it has its ticket by an earlier answer, has joined the round, or is done: nobody
// waits for it then, or believes that it has missed a round.
TEST(LeaderAsync, LateQuestionsChangeNothing) {
  Toy toy = toy_with(without_clock(4, 10));
  toy.scheme.deadline = 3 * kSecond;
  toy.steps = 1000;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SimOptions options{.seed = seed, .step_cost = kMillisecond / 2, .faults = plan("delay by=0ms jitter=16ms")};
    options.faults.seed = seed;
    const Taken taken = steps_taken(toy, options);
    EXPECT_LT(taken.longest, kSecond) << "seed " << seed;
    size_t before = 4;  // they take part until they are done
    for (const auto& [round, steps] : taken.rounds) {
      EXPECT_LE(steps.size(), before) << "seed " << seed << " round " << round;
      before = steps.size();
    }
  }
}

// The others wait until a slow worker has used up what it holds: no more than takes it an eighth of the deadline.
TEST(LeaderAsync, ASlowWorkerHoldsFewTickets) {
  Toy toy = toy_with(without_clock(4, 64));
  toy.scheme.deadline = 2 * kSecond;
  toy.steps = 1000;
  const Taken taken = steps_taken(toy, {.faults = plan("slow rank=1 factor=5\ndelay by=100ms")});
  int64_t slow = 0;
  for (int64_t round = 0; round < 8; ++round) {
    const auto& steps = taken.rounds.at(round);
    EXPECT_EQ(steps.size(), 4u) << "round " << round;
    slow += steps.count(1) ? steps.at(1) : 0;
  }
  EXPECT_LT(slow, 8 * 40);
  EXPECT_LT(taken.longest, kSecond);
}

// Tickets that a worker holds when it dies leave the budget with it.
TEST(LeaderAsync, HeldTicketsDieWithTheirWorker) {
  for (Rank dies : {2, 0})
    for (int64_t at = 2000; at < 2260; at += 20) {  // within a round
      Toy toy = toy_with(without_clock(4, 30));
      toy.scheme.deadline = kSecond;  // nobody is given up who uses up what it holds
      toy.steps = 400;
      const std::string kill = sinew::detail::concat("kill rank=", dies, " at=", at, "ms");
      const Taken taken = steps_taken(toy, {.faults = plan("delay by=30ms\n" + kill)}, dies);
      const int64_t last = std::prev(std::find_if(taken.rounds.begin(), taken.rounds.end(), [](const auto& round) {
                             return round.second.size() < 4;
                           }))->first;
      int without = 0;
      for (const auto& [round, steps] : taken.rounds) {
        int64_t sum = 0;
        for (const auto& [rank, n] : steps) sum += n;
        if (round == last + 1) {  // in which it died: what was given stays given, and a new server has to learn it
          EXPECT_GE(sum, 90) << kill;
          EXPECT_LE(sum, dies == 0 ? 124 : 120) << kill;
        } else if (round <= last || steps.size() == 3) {
          EXPECT_EQ(sum, round <= last ? 120 : 90) << kill << " round " << round;
          without += round > last;
        }
      }
      EXPECT_GE(without, 3) << kill;
    }
}

struct FaultCase {
  const char* label;
  const char* faults;
  Rank faulty;
  bool dies = false;
  int restarts = 0;
  Nanos late = 0;  // it is back then, when the others are done
};
class LeaderFailures : public ::testing::TestWithParam<FaultCase> {};
INSTANTIATE_TEST_SUITE_P(
    All, LeaderFailures,
    ::testing::Values(
        FaultCase{"killed", "kill rank=2 at=155ms", 2, true},
        FaultCase{"leader_killed", "kill rank=1 at=155ms", 1, true},
        FaultCase{"server_killed", "kill rank=0 at=155ms", 0, true},
        FaultCase{"restarted", "kill rank=2 at=155ms", 2, false, 1},
        FaultCase{"server_restarted", "kill rank=0 at=155ms", 0, false, 1},
        FaultCase{"stopped", "pause rank=2 at=155ms for=3s", 2},
        FaultCase{"server_stopped", "pause rank=0 at=155ms for=3s", 0},
        FaultCase{"server_late", "pause rank=0 at=155ms for=30s", 0, false, 0, 30 * kSecond},
        FaultCase{"late", "pause rank=3 at=155ms for=30s", 3, false, 0, 30 * kSecond},
        FaultCase{"cut_off", "drop from=2 to=* after=155ms until=3s\ndrop from=* to=2 after=155ms until=3s", 2},
        FaultCase{"server_cut_off", "drop from=0 to=* after=155ms until=3s\ndrop from=* to=0 after=155ms until=3s", 0},
        FaultCase{"cut_off_late",
                  "slow rank=0 factor=3\ndrop from=0 to=* after=1s until=12s\n"
                  "drop from=* to=0 after=1s until=12s",
                  0, false, 0, 13 * kSecond},
        FaultCase{"losses", "drop from=* to=* probability=0.1", -1}),
    [](const auto& info) { return std::string(info.param.label); });

// The others never wait longer than the deadline, go on with rounds of their own, and all that live end near the
// leader, who returns included.
TEST_P(LeaderFailures, TheOthersGoOn) {
  const FaultCase& c = GetParam();
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Toy toy = toy_with(without_clock(4, 4), 0);
    toy.scheme.pull = 0.5;
    toy.steps = 600;
    SimOptions options{
        .seed = seed, .restarts = c.restarts, .restart_delay = 50 * kMillisecond, .faults = plan(c.faults)};
    options.faults.seed = seed;
    std::vector<Nanos> longest(4), when_late(4);
    std::vector<int64_t> final_round(4);
    std::map<int64_t, int> rounds;
    int64_t last_of_faulty = -1;
    const Rank leader = c.faulty == 1 ? 3 : 1;
    const auto nodes = simulate(
                           4,
                           [&](World& world) -> Result<Numbers> {
                             Toy own = toy;
                             const auto rank = static_cast<size_t>(world.rank());
                             own.scheme.on_round = [&](const LeaderRound& r) {
                               ++rounds[r.round];
                               if (world.rank() == c.faulty) last_of_faulty = r.round;
                             };
                             if (world.incarnation() > 0) own.start = 100, own.start_spread = 0;
                             Nanos before = world.now();
                             return run_with(world, own, led_by(leader), [&](ToyWorker& worker, int64_t k) {
                               if (k == toy.steps - 1) final_round[rank] = worker.scheme().save().numbers.at("round");
                               longest[rank] = std::max(longest[rank], world.now() - before);
                               if (before > c.late) when_late[rank] = std::max(when_late[rank], world.now() - before);
                               before = world.now();
                             });
                           },
                           options)
                           .nodes;
    for (Rank r = 0; r < 4; ++r) {
      if (r == c.faulty && c.dies) {
        EXPECT_FALSE(nodes[r].finished);
        continue;
      }
      ASSERT_TRUE(nodes[r].finished) << "seed " << seed << " rank " << r << ": " << nodes[r].status.message();
      EXPECT_EQ(nodes[r].restarts, r == c.faulty ? static_cast<uint32_t>(c.restarts) : 0u);
      EXPECT_GE(final_round[r], 100) << "seed " << seed << " rank " << r;
      EXPECT_NEAR(nodes[r].numbers[0], 1 + leader, 1e-3) << "seed " << seed << " rank " << r;
      if (r != c.faulty) {
        EXPECT_LE(longest[r], toy.scheme.deadline + 20 * kMillisecond) << "rank " << r;
      }
    }
    EXPECT_GE(rounds.rbegin()->first, 100) << "seed " << seed;
    if (c.late > 0) {  // it knows at once that nobody is there to wait for
      EXPECT_GT(when_late[static_cast<size_t>(c.faulty)], 0);
      EXPECT_LE(when_late[static_cast<size_t>(c.faulty)], 100 * kMillisecond);
    } else if (c.faulty >= 0 && !c.dies) {
      EXPECT_GE(last_of_faulty, 100) << "it takes part again";
    }
  }
}

// Each worker's own minimum is somewhere else. Who comes back when the others are done is drawn to them, as they were
// to each other: it does not end where its steps alone lead.
TEST(LeaderAsync, WhoIsLateStaysWithTheOthers) {
  Toy toy = toy_with(without_clock(4, 4), 0.05);
  toy.scheme.pull = 0.5;
  toy.steps = 600;
  const auto nodes =
      simulate(4, [&](World& world) { return run_with(world, toy, led_by(1), [](ToyWorker&, int64_t) {}); },
               {.faults = plan("pause rank=2 at=1s for=30s")})
          .nodes;
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
  const double others = (nodes[0].numbers[0] + nodes[1].numbers[0] + nodes[3].numbers[0]) / 3;
  EXPECT_LT(std::abs(nodes[2].numbers[0] - others), 0.5 * std::abs(toy.b(2) - others));
}

// The leader that is done has gone silent: who is late does not wait for it through a deadline in each of its rounds.
TEST(LeaderAsync, WhoIsLateDoesNotWaitForASilentLeaderAgainAndAgain) {
  Toy toy = toy_with(without_clock(4, 4), 0.05);
  toy.steps = 600;
  const SimulatedRun run =
      simulate(4, [&](World& world) { return run_with(world, toy, led_by(1), [](ToyWorker&, int64_t) {}); },
               {.faults = plan("pause rank=2 at=1s for=30s\ndrop from=1 after=20s")});
  for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
  EXPECT_LT(run.report.nodes[2].time, 31 * kSecond + 600 * 20 * kMillisecond + 150 * toy.scheme.deadline / 6);
}

// The worker lives, but what it sends is lost, or what is sent to it; with rank 1 leading or another one. The others
// notice within a second, long before the deadline. Nobody is given up whose steps take longer than that, or who is
// stopped for less.
TEST(LeaderAsync, LostMessagesAreNoticedBeforeTheDeadline) {
  for (Rank leader : {1, 2})
    for (const std::string faults : {"drop from=1 after=1s until=4s", "drop to=1 after=1s until=4s",
                                     "slow rank=1 factor=100", "pause rank=1 at=1s for=600ms"}) {
      Toy toy = toy_with(without_clock(4, 4), 0);
      toy.scheme.deadline = 3 * kSecond;
      const bool are_lost = faults.starts_with("drop");
      toy.steps = faults.starts_with("slow") ? 40 : 600;
      std::vector<Nanos> longest(4);
      std::vector<int64_t> missed(4);
      for (const NodeResult& node : simulate(4,
                                             [&](World& world) {
                                               const auto rank = static_cast<size_t>(world.rank());
                                               return run_with(
                                                   world, toy, led_by(leader),
                                                   [&, before = world.now()](ToyWorker& worker, int64_t) mutable {
                                                     longest[rank] = std::max(longest[rank], world.now() - before);
                                                     before = world.now();
                                                     missed[rank] = worker.scheme().counters().missed;
                                                   });
                                             },
                                             {.faults = plan(faults)})
                                        .nodes)
        EXPECT_TRUE(node.finished) << faults << ": " << node.status.message();
      for (Rank r = 0; r < 4; ++r) {
        if (are_lost && r != 1) {
          EXPECT_LE(longest[r], kSecond) << faults << " leader " << leader << " rank " << r;
          EXPECT_GE(longest[r], 500 * kMillisecond) << "it was waited for";
        }
        if (!are_lost) {
          EXPECT_EQ(missed[r], 0) << faults << " leader " << leader << " rank " << r;
        }
      }
    }
}

// A worker is stopped at any moment of the protocol, in half of the runs the one that serves, in others the leader;
// with messages lost and late in some. No step of another one takes longer than the deadline, its own cost, and a look
// around.
TEST(LeaderAsync, NoStepTakesLongerThanTheDeadline) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    uint64_t draws = 0;
    const auto draw = [&](uint64_t end) { return philox_u64({seed, uint32_t(RngPurpose::test), 3, 0}, draws++) % end; };
    const Rank stopped = draw(2) ? 0 : static_cast<Rank>(draw(4)), leader = static_cast<Rank>(draw(4));
    std::string text = sinew::detail::concat("pause rank=", stopped, " at=", 100'000 + draw(400'000),
                                             "us for=", 300 + draw(3000), "ms\n");
    if (draw(4) == 0) text += "drop probability=0.03\n";
    if (draw(4) == 0) text += "delay probability=0.2 by=40ms\n";
    Toy toy = toy_with(without_clock(4, 1 + static_cast<int64_t>(draw(4))), 0);
    toy.scheme.groups = draw(2) ? "2" : "";
    toy.steps = 150;
    std::vector<Nanos> longest(4);
    SimOptions options{.seed = seed, .latency = kMillisecond, .faults = plan(text)};
    options.faults.seed = seed;
    const auto nodes =
        simulate(
            4,
            [&](World& world) {
              const auto rank = static_cast<size_t>(world.rank());
              return run_with(world, toy, led_by(leader), [&, before = world.now()](ToyWorker&, int64_t) mutable {
                longest[rank] = std::max(longest[rank], world.now() - before);
                before = world.now();
              });
            },
            options)
            .nodes;
    for (Rank r = 0; r < 4; ++r) {
      EXPECT_TRUE(nodes[r].finished) << "seed " << seed << ": " << nodes[r].status.message();
      if (r != stopped) {
        EXPECT_LE(longest[r], toy.scheme.deadline + 20 * kMillisecond) << "seed " << seed << " rank " << r << "\n"
                                                                       << text;
      }
    }
  }
}

// Whatever goes wrong, all that live finish with parameters that are finite, and the run repeats bit for bit.
TEST(LeaderAsync, RandomFaults) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    uint64_t draws = 0;
    auto draw = [&](int end) {
      return static_cast<int>(philox_u64({seed, uint32_t(RngPurpose::test)}, draws++) % static_cast<uint64_t>(end));
    };
    const int workers = 2 + draw(6);
    std::string text;
    for (int faults = 1 + draw(4); faults > 0; --faults) {
      const std::string rank = std::to_string(draw(workers)), at = std::to_string(50 + draw(800)) + "ms";
      const std::string until = std::to_string(900 + draw(2000)) + "ms";
      const std::string lines[] = {
          "kill rank=" + rank + " at=" + at, "pause rank=" + rank + " at=" + at + " for=" + until,
          "drop from=* to=* probability=0.1", "drop from=" + rank + " to=* after=" + at + " until=" + until,
          "delay from=" + rank + " to=* by=170ms after=" + at + " until=" + until};
      text += lines[draw(5)] + "\n";
    }
    Toy toy = toy_with(without_clock(workers, 1 + draw(5)));
    toy.scheme.groups = draw(2) ? "2" : "";
    toy.steps = 100;
    SimOptions options{.seed = seed, .restarts = draw(2), .restart_delay = 50 * kMillisecond, .faults = plan(text)};
    auto run = [&](bool always_yield) {
      options.always_yield = always_yield;
      return simulate(
          workers, [&](World& w) { return run_with(w, toy, [](Rank r, int64_t k) { return (r * 7 + k * 3) % 5; }); },
          options);
    };
    const SimulatedRun once = run(false);
    for (Rank r = 0; r < workers; ++r) {
      const NodeOutcome& outcome = once.report.nodes[r];
      EXPECT_TRUE(outcome.what == NodeOutcome::What::finished || outcome.what == NodeOutcome::What::killed)
          << "seed " << seed << ": " << outcome.status.message() << once.report.deadlock << "\n"
          << text;
      for (double v : once.nodes[r].numbers) EXPECT_LT(std::abs(v), 10);
    }
    EXPECT_EQ(run(true).report.trace_hash, once.report.trace_hash) << "seed " << seed << "\n" << text;
  }
}

// Heads of 64 bytes, N parameters of b bytes. In lockstep a worker sends, in a round, p - 1 losses, its leader's
// parameters unless it is the last of the chain, and p - 1 times that all have everything; in all
// 2 (p - 1) p (64 + 8) + (p - 1) (64 + b N), twice the second with a global pull, less what groups of their own save.
TEST(LeaderTraffic, OfARoundInLockstep) {
  struct Case {
    const char* groups;
    int64_t vectors;  // of two rounds, the second with a global pull
  };
  for (const Case& c : {Case{"", 2 * 3}, Case{"2", 2 * 2 + 3}, Case{"0-2/3", 2 * 2 + 3}, Case{"4", 3}}) {
    int64_t bytes[2] = {0, 0}, messages[2] = {0, 0};
    for (int rounds : {2, 4}) {
      Toy toy = toy_with(leaders("lsgd", 4, [&](SchemeOptions& o) { o.groups = c.groups, o.period_global = 2; }));
      toy.size = 1000;
      toy.steps = rounds;
      const SimReport report = simulate(4, [&](World& world) { return run_with(world, toy, led_by(2)); }).report;
      for (const NodeOutcome& o : report.nodes)
        bytes[rounds / 4] += o.traffic.bytes_sent, messages[rounds / 4] += o.traffic.messages_sent;
    }
    EXPECT_EQ(bytes[1] - bytes[0], 2 * 2 * 4 * 3 * (64 + 8) + c.vectors * (64 + 8 * 1000)) << c.groups;
    EXPECT_EQ(messages[1] - messages[0], 2 * 2 * 4 * 3 + c.vectors) << c.groups;
  }
}

// Without a clock: a question and an answer a step and two more messages a round for all but the server's worker; a
// question and the parameters for all but the leader. With several groups the leader of all is asked once more by those
// outside its group.
TEST(LeaderTraffic, OfARoundWithoutAClock) {
  struct Case {
    const char* groups;
    int64_t vectors;
  };
  for (const Case& c : {Case{"", 2 * 3}, Case{"2", 2 * 2 + 2}}) {
    int64_t bytes[2] = {0, 0}, messages[2] = {0, 0};
    for (int rounds : {2, 4}) {
      Toy toy = toy_with(without_clock(4, 3));
      toy.scheme.groups = c.groups;
      toy.size = 1000;
      toy.steps = 3 * rounds;
      // Equal speeds: three steps each.
      const SimReport report =
          simulate(4, [&](World& world) { return run_with(world, toy, led_by(2)); }, {.jitter = 0}).report;
      for (const NodeOutcome& o : report.nodes)
        bytes[rounds / 4] += o.traffic.bytes_sent, messages[rounds / 4] += o.traffic.messages_sent;
    }
    const int64_t small = 2 * 3 * (2 * 3 + 2) + c.vectors;
    EXPECT_EQ(messages[1] - messages[0], small + c.vectors) << c.groups;
    EXPECT_EQ(bytes[1] - bytes[0], 64 * small + c.vectors * (64 + 8 * 1000)) << c.groups;
  }
}

}  // namespace
}  // namespace sinew::dist::testing
