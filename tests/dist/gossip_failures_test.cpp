// Gossip schemes that send one way, and those without a common clock, under failures.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/gossip_ends.h"

namespace sinew::dist::testing {
namespace {

// Any one message may be lost, the last ones too, which tell what all are measured at.
TEST(Gossip, DropsLoseNothing) {
  for (uint64_t seed = 1; seed <= 40; ++seed)
    for (const GossipCase& c : {kLockstepGossip[0], kLockstepGossip[6], kAsynchronousGossip[0], kAsynchronousGossip[3]})
      check_gossip_conserves(in_simulation({.seed = seed, .faults = plan("drop from=* to=* probability=0.1", seed)}), c,
                             false);
}

class WeightedConservation : public ::testing::TestWithParam<FaultCase> {};
INSTANTIATE_TEST_SUITE_P(Faults, WeightedConservation, ::testing::ValuesIn(kFaultCases),
                         [](const auto& info) { return std::string(info.param.label); });

// Of gosgd, sgp and adpsgd: the sum of the weights and of weight times parameters.
TEST_P(WeightedConservation, NothingIsLost) {
  const std::string label = GetParam().label;
  const std::pair<const char*, void (*)(SchemeOptions&)> schemes[] = {
      {"gosgd", [](SchemeOptions& o) { o.probability = 0.6; }},
      {"sgp", [](SchemeOptions&) {}},
      {"sgp", [](SchemeOptions& o) { o.overlap = 2; }},
      {"dpsgd", [](SchemeOptions& o) { o.topology = "exponential"; }},
      {"adpsgd", [](SchemeOptions&) {}},
      {"elastic_gossip", [](SchemeOptions& o) { o.mode = "async", o.alpha = 0.3; }},
  };
  for (const auto& [scheme, more] : schemes)
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      Toy toy = still_toy(scheme, more);
      toy.steps = 250;  // until after the faults: at its end a worker waits for them only up to the deadline
      const double total = std::string(scheme) == "gosgd" ? 1 : 4;
      const Ends ends = ends_of(toy, {.seed = seed, .faults = plan(GetParam().faults, seed)});
      EXPECT_NEAR(ends.weights(), total, 1e-12) << scheme << " seed " << seed;
      EXPECT_NEAR(ends.weighted_sum(3), total * 2.5, 1e-12) << scheme << " seed " << seed;
      EXPECT_EQ(ends.counters.lost, 0) << scheme << " seed " << seed;
      EXPECT_GT(ends.counters.exchanges, 0);
      if (label == "drops") {
        EXPECT_GT(ends.counters.resent, 0) << scheme;
      }
      if (label == "none") {
        EXPECT_EQ(ends.counters.resent, 0) << scheme;
      }
    }
}

// A killed worker takes only its own part along; the others go on, and a second life of it joins them.
TEST(AsynchronousGossip, SurvivesADeath) {
  for (const char* scheme : {"gosgd", "adpsgd", "sgp", "gossiping_sgd"})
    for (int restarts : {0, 1}) {
      Toy toy = still_toy(scheme);
      toy.lr = 0.1;
      toy.steps = 120;
      toy.scheme.deadline = 2 * kSecond;
      SimulatedRun run =
          simulate(kGossipWorkers, [&](World& w) { return toy_run(w, toy); },
                   {.restarts = restarts, .restart_delay = 50 * kMillisecond, .faults = plan("kill rank=1 at=205ms")});
      for (Rank r : {0, 2, 3}) EXPECT_TRUE(run.nodes[r].finished) << scheme << run.nodes[r].status.message();
      EXPECT_EQ(run.nodes[1].finished, restarts == 1) << scheme;
    }
}

// The worker lives, but what it sends is lost, or what is sent to it. The others notice by an answer that takes longer
// than answers do, long before the deadline. Nothing is missed of one whose steps take longer than that, which is
// stopped for less, or whose answers always take longer.
TEST(AsynchronousGossip, LostMessagesAreNoticedBeforeTheDeadline) {
  for (const GossipCase& c : {kAsynchronousGossip[0], kAsynchronousGossip[1], kAsynchronousGossip[4]})
    for (const std::string faults : {"drop from=1 after=1s until=4s", "drop to=1 after=1s until=4s",
                                     "slow rank=1 factor=150", "pause rank=1 at=1s for=600ms", "delay by=900ms"}) {
      const bool are_lost = faults.starts_with("drop");
      Toy toy = common_gossip_toy(c, 4);
      toy.scheme.deadline = 3 * kSecond;
      toy.size = 10;
      toy.steps = faults.starts_with("slow") ? 40 : 600;
      std::vector<Nanos> longest(4);
      int64_t missed = 0;
      for (const NodeResult& node :
           simulate(4,
                    [&](World& world) -> Result<Numbers> {
                      ToyWorker worker(toy, world);
                      SINEW_RETURN_IF_ERROR(worker.start());
                      Nanos& wait = longest[static_cast<size_t>(world.rank())];
                      for (int64_t k = 0; k < toy.steps; ++k) {
                        const Nanos before = world.now();
                        SINEW_RETURN_IF_ERROR(worker.step(k));
                        wait = std::max(wait, world.now() - before);
                      }
                      missed += worker.scheme().counters().missed;
                      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
                      return Numbers();
                    },
                    {.faults = plan(faults)})
               .nodes)
        EXPECT_TRUE(node.finished) << c.name << " " << faults << ": " << node.status.message();
      if (!are_lost) {
        EXPECT_EQ(missed, 0) << c.name << " " << faults;
        continue;
      }
      for (Rank r : {0, 2, 3}) {
        EXPECT_LE(longest[r], kSecond) << c.name << " " << faults << " rank " << r;
        EXPECT_GE(longest[r], 500 * kMillisecond) << "it was waited for";
      }
    }
}

// Those that are done wait for the late one. Who asks them is killed meanwhile, or the late one itself.
TEST(AsynchronousGossip, SurvivesADeathAtItsEnd) {
  for (const GossipCase& c : kAsynchronousGossip)
    for (const char* killed : {"kill rank=0 at=5s", "kill rank=3 at=5s", "kill rank=0 at=5s\nkill rank=3 at=7s"})
      for (int restarts : {0, 1}) {
        Toy toy = common_gossip_toy(c, 4);
        toy.lr = 0.05;
        toy.scheme.deadline = 2 * kSecond;
        const auto nodes = simulate(4, [&](World& w) { return gossip_run(w, toy); },
                                    {.restarts = restarts,
                                     .restart_delay = 50 * kMillisecond,
                                     .faults = plan(std::string("slow rank=3 factor=60\n") + killed)})
                               .nodes;
        for (Rank r = 0; r < 4; ++r) {
          const bool dies = std::string(killed).find("rank=" + std::to_string(r)) != std::string::npos;
          EXPECT_EQ(nodes[r].finished, !dies || restarts == 1) << c.name << " " << killed << " " << r;
          if (nodes[r].finished && nodes[1].finished) {
            EXPECT_EQ(nodes[r].numbers.at(1 + toy.size), nodes[1].numbers.at(1 + toy.size)) << c.name << " " << killed;
          }
        }
      }
}

// A worker that is stopped while it waits for the late one answers again when it goes on: it moves with the others.
TEST(AsynchronousGossip, WhoWasStoppedAtItsEndAnswersAgain) {
  for (const GossipCase& c : {kAsynchronousGossip[0], kAsynchronousGossip[3], kAsynchronousGossip[4]}) {
    Toy toy = common_gossip_toy(c, 4);
    toy.lr = 0.05;
    toy.noise = 0;
    toy.steps = 200;
    toy.scheme.deadline = 2 * kSecond;
    const auto nodes = simulate(4, [&](World& w) { return toy_run(w, toy); },
                                {.faults = plan("slow rank=3 factor=60\npause rank=0 at=5s for=3s")})
                           .nodes;
    for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << c.name << ": " << node.status.message();
    EXPECT_NEAR(nodes[0].numbers[0], nodes[1].numbers[0], 0.1) << c.name;
    EXPECT_NEAR(nodes[0].numbers[0], toy.b(3), 0.2) << c.name << ", where the late one's steps lead";
  }
}

// A worker whose parameters are not finite reaches nobody, is told so, and takes over another one's.
TEST(Gossip, NonFiniteParametersAreReplaced) {
  for (const auto* cases : {kLockstepGossip, kAsynchronousGossip})
    for (int i = 0; i < 5; ++i) {
      const GossipCase& c = cases[i];
      Toy toy = still_toy(
          c.name, c.more ? c.more : [](SchemeOptions&) {});
      toy.lr = 0.05;
      toy.steps = 60;
      int64_t refused = 0;
      auto body = [&](World& world) -> Result<Numbers> {
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = 0; k < toy.steps; ++k) {
          if (k == 20 && world.rank() == 1) {
            fill(worker.theta().mutable_view(), NAN);
            fill(worker.velocity().mutable_view(), 0);
          }
          SINEW_RETURN_IF_ERROR(worker.step(k));
        }
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        refused += worker.scheme().counters().refused;
        return to_doubles(worker.theta().view());
      };
      SimulatedRun run = simulate(kGossipWorkers, body);
      EXPECT_GT(refused, 0) << c.name << i;
      for (const NodeResult& node : run.nodes) {
        ASSERT_TRUE(node.finished) << c.name << node.status.message();
        for (double v : node.numbers) ASSERT_TRUE(std::isfinite(v)) << c.name << i;
      }
    }
}

}  // namespace
}  // namespace sinew::dist::testing
