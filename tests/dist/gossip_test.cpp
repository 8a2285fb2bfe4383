// The gossip specification's properties, through the real schemes in the simulation.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "dist/topology.h"
#include "tests/support/gossip_bodies.h"

namespace sinew::dist::testing {
namespace {

// E4, with its figures. The tolerance is about four standard deviations of the mean.
TEST(ElasticGossip, ContractsAsTheSpecificationSays) {
  struct Case {
    int workers;
    double p, alpha, expected, tolerance;
  };
  for (const Case& c :
       {Case{4, 1, 0.5, 0.4074, 0.015}, Case{8, 1, 0.5, 0.6035, 0.015}, Case{4, 1.0 / 8, 0.5, 0.847, 0.015},
        Case{8, 1, 0.95, 3.20, 0.1}, Case{4, 1.0 / 32, 0.95, 0.9945, 0.01}}) {
    const double seen = contraction(gossip("elastic_gossip", c.workers,
                                           [&](SchemeOptions& o) {
                                             o.probability = c.p;
                                             o.alpha = c.alpha;
                                           }),
                                    4000);
    EXPECT_NEAR(seen, c.expected, c.tolerance) << c.workers << " " << c.p << " " << c.alpha;
    EXPECT_NEAR(seen, expected_contraction(c.workers, c.p, c.alpha), c.tolerance);
  }
}

// E3: one pair in a round, E V' = V (1 - 4 alpha (1 - alpha) / (N - 1)).
TEST(ElasticGossip, OnePairContracts) {
  for (const auto& [workers, alpha] : {std::pair{4, 0.5}, {5, 0.25}}) {
    const SchemeOptions o = gossip("elastic_gossip", workers, [a = alpha](SchemeOptions& s) {
      s.probability = 0.15;
      s.alpha = a;
    });
    const Topology topology({.name = "uniform", .workers = workers, .probability = 0.15});
    auto one_pair = [&](int64_t round) {
      size_t ends = 0;
      for (Rank r = 0; r < topology.workers(); ++r) ends += topology.in(r, round).size();
      return ends == 2;
    };
    EXPECT_NEAR(contraction(o, 6000, one_pair), 1 - 4 * alpha * (1 - alpha) / (workers - 1), 0.015);
  }
  // Two workers are always that pair.
  EXPECT_NEAR(contraction(gossip("elastic_gossip", 2, [](SchemeOptions& s) { s.alpha = 0.3; }), 200), 1 - 4 * 0.3 * 0.7,
              1e-12);
}

// The whole trajectory against the matrix form, Theta <- W Theta - lr G, in plain arithmetic.
TEST(ElasticGossip, FollowsTheMatrixForm) {
  struct Case {
    const char* name;
    std::function<void(SchemeOptions&)> more;
  };
  const Case cases[] = {
      {"elastic_gossip", [](SchemeOptions& o) { o.probability = 0.6; }},
      {"elastic_gossip", [](SchemeOptions& o) { o.alpha = 0.3; }},
      {"elastic_gossip", [](SchemeOptions& o) { o.collision = "matching"; }},
      {"elastic_gossip", [](SchemeOptions& o) { o.collision = "capped"; }},
      {"elastic_gossip",
       [](SchemeOptions& o) {
         o.topology = "ring";  // E6: alpha ((x_r - x_r+1) + (x_r - x_r-1))
         o.alpha = 0.2;
       }},
      {"elastic_gossip", [](SchemeOptions& o) { o.period = 3; }},
      {"dpsgd", [](SchemeOptions&) {}},
      {"dpsgd", [](SchemeOptions& o) { o.topology = "star"; }},
      {"dpsgd", [](SchemeOptions& o) { o.topology = "complete", o.mixing = "atc"; }},
      {"dpsgd", [](SchemeOptions& o) { o.topology = "edges", o.edges = "0-1,1-2,1-3", o.period = 2; }},
      {"dpsgd", [](SchemeOptions& o) { o.topology = "shift_one", o.mixing = "atc"; }},
  };
  for (const Case& c : cases) {
    Toy toy;
    toy.scheme = gossip(c.name, 4, c.more);
    toy.size = 1;
    toy.steps = 12;
    toy.start_spread = 1;
    const SchemeOptions& o = toy.scheme;
    const bool elastic = o.name == "elastic_gossip", uniform = elastic && o.topology.empty();
    const Topology topology({.name = uniform              ? "uniform"
                                     : o.topology.empty() ? "ring"
                                                          : o.topology,
                             .workers = 4,
                             .edges = o.edges,
                             .probability = o.probability,
                             .alpha = o.alpha < 0 ? 0.5 : o.alpha,
                             .collision = o.collision == "matching" ? Collision::matching
                                          : o.collision == "capped" ? Collision::capped
                                                                    : Collision::sum,
                             .seed = o.seed});
    std::vector<double> x{1, 2, 3, 4};
    auto mix = [&](int64_t k, const std::vector<double>& from) {
      std::vector<double> moved(4);
      if ((k + 1) % o.period != 0) return moved;
      for (Rank i = 0; i < 4; ++i)
        for (const Link& l : topology.in(i, uniform ? k : (k + 1) / o.period - 1))
          moved[i] -= (elastic && !uniform ? o.alpha : l.weight) * (from[i] - from[l.peer]);
      return moved;
    };
    for (int64_t k = 0; k < toy.steps; ++k) {
      std::vector<double> next = x;
      for (Rank i = 0; i < 4; ++i) next[i] -= toy.lr * (x[i] - toy.b(i));
      const std::vector<double> moved = mix(k, o.mixing == "atc" ? next : x);
      for (Rank i = 0; i < 4; ++i) x[i] = next[i] + moved[i];
    }
    SimulatedRun run = simulate(4, [&](World& w) { return toy_run(w, toy); });
    for (Rank r = 0; r < 4; ++r) {
      ASSERT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
      EXPECT_NEAR(run.nodes[r].numbers[0], x[r], 1e-12) << c.name << " " << o.topology << " rank " << r;
    }
  }
}

// E11: without gradients all workers reach the mean of where they began, and E1: the sum stays.
TEST(ElasticGossip, AllReachTheInitialMean) {
  Toy toy;
  toy.scheme = gossip("elastic_gossip", 4, [](SchemeOptions& o) { o.probability = 0.3; });
  toy.size = 5;
  toy.lr = 0;
  toy.start_spread = 1;
  toy.steps = 300;
  SimulatedRun run = simulate(4, [&](World& w) { return toy_run(w, toy); });
  for (const NodeResult& node : run.nodes)
    for (double v : node.numbers) EXPECT_NEAR(v, 1 + (0 + 1 + 2 + 3) / 4.0, 1e-12);
}

// Section 4.5: log2 N rounds of pairs at the right distances are the exact average; cross-method test (c): D-PSGD on
// the complete graph, adapt then combine, is the exact average of all in every step.
TEST(Dpsgd, CompleteGraphIsParallelSgd) {
  Toy toy;
  toy.scheme = gossip("dpsgd", 4, [](SchemeOptions& o) { o.topology = "complete", o.mixing = "atc"; });
  toy.steps = 10;
  SimulatedRun run = simulate(4, [&](World& w) { return toy_run(w, toy); });
  double x = toy.start, b = (toy.b(0) + toy.b(1) + toy.b(2) + toy.b(3)) / 4;
  for (int64_t k = 0; k < toy.steps; ++k) x -= toy.lr * (x - b);
  for (const NodeResult& node : run.nodes) EXPECT_NEAR(node.numbers[0], x, 1e-14);
}

// Cross-method test (b): with a constant rate workers with different minima keep a distance; with a decaying one they
// agree on the common minimum.
TEST(Dpsgd, ADecayingRateRemovesTheBias) {
  for (bool decays : {false, true}) {
    auto body = [&](World& world) -> Result<Numbers> {
      auto scheme = make_scheme(gossip("dpsgd", 5), world, 1, DType::f64);
      std::vector<double> x{0};
      SINEW_RETURN_IF_ERROR(scheme->start(x));
      for (int64_t k = 0; k < 4000; ++k) {
        const double rate = decays ? 2.0 / (static_cast<double>(k) + 20) : 0.1;
        SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
        x[0] -= rate * (x[0] - world.rank());
        SINEW_RETURN_IF_ERROR(scheme->after_step(k, x));
      }
      SINEW_RETURN_IF_ERROR(scheme->finish(x));
      return x;
    };
    SimulatedRun run = simulate(5, body);
    for (Rank r = 0; r < 5; ++r)
      if (decays) {
        EXPECT_NEAR(run.nodes[r].numbers[0], 2, 0.005);
      } else if (r != 2) {
        EXPECT_GT(std::abs(run.nodes[r].numbers[0] - 2), 0.05);
      }
  }
}

// E5 and its cost: messages and bytes are what the specification's formula says.
TEST(ElasticGossip, CountsItsMessagesAndBytes) {
  constexpr int kWorkers = 5;
  Toy toy;
  toy.scheme = gossip("elastic_gossip", kWorkers, [](SchemeOptions& o) { o.probability = 0.4; });
  toy.size = 100;
  toy.dtype = DType::f32;
  toy.steps = 400;
  toy.noise = 0.5;
  int64_t exchanges = 0, missed = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    exchanges += worker.scheme().counters().exchanges;
    missed += worker.scheme().counters().missed;
    return Numbers{};
  };
  SimulatedRun run = simulate(kWorkers, body);
  int64_t expected = 0;  // ends of realised pairs
  const Topology topology({.name = "uniform", .workers = kWorkers, .probability = 0.4});
  for (int64_t k = 0; k < toy.steps; ++k)
    for (Rank r = 0; r < kWorkers; ++r) expected += static_cast<int64_t>(topology.in(r, k).size());
  EXPECT_EQ(exchanges, expected);
  EXPECT_EQ(missed, 0);
  const double per_round = 2 * 0.4 - 0.4 * 0.4 / (kWorkers - 1);
  EXPECT_NEAR(static_cast<double>(exchanges) / (kWorkers * toy.steps), per_round, 0.05);
  int64_t messages = 0, bytes = 0;
  for (const NodeOutcome& o : run.report.nodes) messages += o.traffic.messages_sent, bytes += o.traffic.bytes_sent;
  // A pair: request and answer with the parameters, a confirmation. At the start each asks one other.
  const int64_t pairs = expected / 2, head = sizeof(Head);
  EXPECT_EQ(messages, 3 * pairs + 2 * kWorkers);
  EXPECT_EQ(bytes, pairs * (3 * head + 2 * 4 * toy.size) + 2 * kWorkers * head);
}

// E7, E10: two workers that pick each other exchange once; one worker alone exchanges nothing.
TEST(ElasticGossip, SmallGroups) {
  for (int workers : {1, 2, 3}) {
    Toy toy;
    toy.scheme = gossip("elastic_gossip", workers, [](SchemeOptions& o) { o.alpha = 0.25; });
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 1;
    SimulatedRun run = simulate(workers, [&](World& w) { return toy_run(w, toy); });
    double sum = 0;
    for (const NodeResult& node : run.nodes) sum += node.numbers.at(0);
    EXPECT_NEAR(sum, workers * (workers + 1) / 2, 1e-15);
    if (workers == 2) {
      EXPECT_EQ(run.nodes[0].numbers[0], 1.25);  // twice would be 1.5
    }
  }
}

// ---- failures ----

class GossipConservation : public ::testing::TestWithParam<FaultCase> {};
INSTANTIATE_TEST_SUITE_P(Faults, GossipConservation, ::testing::ValuesIn(kFaultCases),
                         [](const auto& info) { return std::string(info.param.label); });

TEST_P(GossipConservation, PairsLoseNothing) {
  const std::string label = GetParam().label;
  for (const auto& [scheme, mixing] : {std::pair{"elastic_gossip", "awc"}, {"dpsgd", "atc"}})
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      Toy toy = still_toy(scheme, [&](SchemeOptions& o) { o.mixing = mixing; });
      toy.steps = 150;  // longer than the faults
      SchemeCounters all;
      auto body = [&](World& world) -> Result<Numbers> {
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        const SchemeCounters c = worker.scheme().counters();
        all.missed += c.missed, all.resent += c.resent, all.lost += c.lost, all.exchanges += c.exchanges;
        return to_doubles(worker.theta().view());
      };
      SimulatedRun run = simulate(kGossipWorkers, body, {.seed = seed, .faults = plan(GetParam().faults, seed)});
      for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
      for (int64_t i = 0; i < toy.size; ++i) {
        double sum = 0;
        for (const NodeResult& node : run.nodes) sum += node.numbers.at(i);
        ASSERT_NEAR(sum, 1 + 2 + 3 + 4, 1e-12) << scheme << " seed " << seed;
      }
      EXPECT_EQ(all.lost, 0);
      EXPECT_GT(all.exchanges, 0);
      if (label == "none") {
        EXPECT_EQ(all.missed + all.resent, 0);
      }
      if (label == "drops") {
        EXPECT_GT(all.resent, 0);
      }
      if (label == "partition" || label == "suppress" || label == "one_way") {
        EXPECT_GT(all.missed, 0);
      }
    }
}

// Without restarts the others go on, and no wait for the dead is longer than the time until they know.
TEST(ElasticGossip, TheOthersGoOnWithoutADeadWorker) {
  Toy toy = still_toy("elastic_gossip");
  toy.lr = 0.1;
  toy.scheme.deadline = 5 * kSecond;
  SimulatedRun run =
      simulate(kGossipWorkers, [&](World& w) { return toy_run(w, toy); }, {.faults = plan("kill rank=1 at=105ms")});
  EXPECT_FALSE(run.nodes[1].finished);
  for (Rank r : {0, 2, 3}) {
    EXPECT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
    EXPECT_LT(run.report.nodes[r].time, kSecond);
  }
}

// A restarted worker takes over a live one's parameters and exchanges in the others' present rounds.
TEST(ElasticGossip, ARestartedWorkerAdopts) {
  Toy toy = still_toy("elastic_gossip");
  toy.start_spread = 100;  // a fresh start would be far from all others
  toy.steps = 200;
  double adopted = 0;
  int64_t exchanges = 0, missed = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() != 3) return toy_run(world, toy);
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    const bool second = world.incarnation() == 1;
    if (second) adopted = to_doubles(worker.theta().view())[0];
    for (int64_t k = second ? 60 : 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    if (second) exchanges = worker.scheme().counters().exchanges, missed = worker.scheme().counters().missed;
    return to_doubles(worker.theta().view());
  };
  SimulatedRun run =
      simulate(kGossipWorkers, body,
               {.restarts = 1, .restart_delay = 300 * kMillisecond, .faults = plan("kill rank=3 step=60")});
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
  EXPECT_EQ(run.nodes[3].restarts, 1u);
  EXPECT_NE(adopted, 0);
  EXPECT_LT(adopted, 300);
  EXPECT_GT(exchanges, 4 * missed) << missed;
}

// A worker that was stopped for longer than the deadline is behind when it goes on; it joins the others where they are.
TEST(ElasticGossip, AWorkerThatWasStoppedCatchesUp) {
  Toy toy = still_toy("elastic_gossip");
  toy.steps = 300;
  int64_t exchanges[kGossipWorkers] = {}, missed[kGossipWorkers] = {};
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      if (k == 149) exchanges[world.rank()] = -worker.scheme().counters().exchanges;
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    exchanges[world.rank()] += worker.scheme().counters().exchanges;
    missed[world.rank()] = worker.scheme().counters().missed;
    return to_doubles(worker.theta().view());
  };
  SimulatedRun run = simulate(kGossipWorkers, body, {.faults = plan("pause rank=2 at=205ms for=900ms")});
  double sum = 0;
  for (Rank r = 0; r < kGossipWorkers; ++r) {
    ASSERT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
    EXPECT_GT(missed[r], 0);
    EXPECT_GT(exchanges[r], 150) << "rank " << r << " missed " << missed[r];
    sum += run.nodes[r].numbers[0];
  }
  EXPECT_NEAR(sum, 1 + 2 + 3 + 4, 1e-12);
}

// One that was stopped for so long that its parameters are of no use takes over another one's: where the others have
// drawn together without it, they stay.
TEST(Gossip, AWorkerThatWasStoppedForLongAdopts) {
  for (const GossipCase& c : {kLockstepGossip[0], kLockstepGossip[4], kLockstepGossip[6], kAsynchronousGossip[0],
                              kAsynchronousGossip[1], kAsynchronousGossip[3], kAsynchronousGossip[4]}) {
    Toy toy = still_toy(
        c.name, c.more ? c.more : [](SchemeOptions&) {});
    toy.scheme.seed = 5;
    toy.steps = 1000;
    Numbers before(kGossipWorkers), after(kGossipWorkers);
    int64_t lost = 0;
    auto body = [&](World& world) -> Result<Numbers> {
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      if (world.rank() == 2) fill(worker.theta().mutable_view(), 100);  // the others' are 1, 2 and 4
      for (int64_t k = 0; k < toy.steps; ++k) {
        SINEW_RETURN_IF_ERROR(worker.step(k));
        double& place = world.now() < 6 * kSecond ? before[world.rank()] : after[world.rank()];
        place = to_doubles(worker.theta().view())[0];
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      if (world.rank() == 2) lost = worker.scheme().counters().lost;
      return Numbers{};
    };
    SimulatedRun run = simulate(kGossipWorkers, body, {.faults = plan("pause rank=2 step=0 for=6s")});
    for (Rank r = 0; r < kGossipWorkers; ++r) {
      ASSERT_TRUE(run.nodes[r].finished) << c.name << ": " << run.nodes[r].status.message();
      EXPECT_LT(after[r], 10) << c.name << ", rank " << r << ", was " << before[r];
    }
    EXPECT_GT(lost, 0) << c.name;
  }
}

// Who was waited for up to the deadline once is not waited for again, until it is heard of; then it takes part again.
TEST(GossipInLockstep, OthersWaitOnceForAWorkerThatIsStopped) {
  for (const GossipCase& c : kLockstepGossip) {
    Toy toy = still_toy(
        c.name, c.more ? c.more : [](SchemeOptions&) {});
    if (toy.scheme.global_average_every > 0) continue;  // a collective
    toy.steps = 800;
    const int64_t middle = toy.steps / 2, stopped = 100;
    Nanos there[kGossipWorkers] = {};
    int64_t missed[kGossipWorkers] = {}, exchanges[kGossipWorkers] = {};
    auto body = [&](World& world) -> Result<Numbers> {
      const Rank r = world.rank();
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      for (int64_t k = 0; k < toy.steps; ++k) {
        SINEW_RETURN_IF_ERROR(worker.step(k));
        if (k == middle) there[r] = world.now();
        if (k == stopped) exchanges[r] = -worker.scheme().counters().exchanges;
      }
      missed[r] = worker.scheme().counters().missed;
      exchanges[r] += worker.scheme().counters().exchanges;
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return to_doubles(worker.theta().view());
    };
    // 400 steps take 4 s; whoever waits each time is at step 115 when the pause ends.
    SimulatedRun run = simulate(kGossipWorkers, body, {.faults = plan("pause rank=2 at=1s for=6s")});
    int64_t all_missed = 0;
    for (Rank r = 0; r < kGossipWorkers; ++r) {
      ASSERT_TRUE(run.nodes[r].finished) << c.name << ": " << run.nodes[r].status.message();
      if (r == 2) continue;
      EXPECT_LT(there[r], 4 * kSecond + 500 * kMillisecond + 3 * toy.scheme.deadline) << c.name << " rank " << r;
      all_missed += missed[r];
    }
    EXPECT_GT(all_missed, 0) << c.name;
    EXPECT_GT(exchanges[2], 50) << c.name << ": it takes part again";
  }
}

// Who waits for a dead worker finds it dead, however often the others ask in the meantime.
TEST(ElasticGossip, OthersDoNotHideADeath) {
  Toy toy = still_toy("elastic_gossip", [](SchemeOptions& o) { o.mode = "async"; });
  toy.scheme.deadline = 3 * kSecond;
  toy.steps = 200;
  Nanos longest = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) {
      const Nanos begin = world.now();
      SINEW_RETURN_IF_ERROR(worker.step(k));
      longest = std::max(longest, world.now() - begin);
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    return to_doubles(worker.theta().view());
  };
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const SimulatedRun run = simulate(toy.scheme.workers, body,
                                      {.seed = seed,
                                       .latency = kMillisecond,
                                       .faults = plan("kill rank=1 at=" + std::to_string(200 + 3 * seed) + "ms")});
    for (Rank r : {0, 2, 3}) EXPECT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
  }
  EXPECT_LT(longest, kSecond / 2);  // the death is known after 100 ms
}

// One that is far behind when the others are done goes on alone, without waiting for each of its last rounds.
TEST(ElasticGossip, TheLastOneDoesNotWaitForThoseThatAreDone) {
  Toy toy = still_toy("elastic_gossip");
  toy.steps = 200;
  toy.scheme.deadline = 8 * kSecond;
  auto body = [&](World& world) -> Result<Numbers> { return gossip_run(world, toy); };
  SimulatedRun run = simulate(kGossipWorkers, body,
                              {.faults = plan("drop from=* to=3 after=100ms until=20s\n"
                                              "pause rank=3 at=100ms for=80s")});
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
  const Nanos last = run.report.nodes[3].time;
  EXPECT_LT(last, 80 * kSecond + 4 * toy.scheme.deadline) << static_cast<double>(last) * 1e-9;
}

// Parameters that are not finite go nowhere; both ends count it.
TEST(ElasticGossip, NonFiniteParametersAreRefused) {
  Toy toy = still_toy("elastic_gossip");
  int64_t refused = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) {
      if (k == 5 && world.rank() == 1) fill(worker.theta().mutable_view(), NAN);
      SINEW_RETURN_IF_ERROR(worker.step(k));
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    refused += worker.scheme().counters().refused;
    Vec mean = Vec::zeros(toy.size, toy.dtype);
    SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), mean.mutable_view()));
    EXPECT_TRUE(all_finite(mean.view()));
    return to_doubles(worker.theta().view());
  };
  SimulatedRun run = simulate(kGossipWorkers, body);
  EXPECT_GT(refused, 0);
  for (Rank r : {0, 2, 3})
    for (double v : run.nodes[r].numbers) EXPECT_TRUE(std::isfinite(v));
}

// The point that results are measured on is the mean of all workers, the same on each.
TEST(ElasticGossip, IsMeasuredAtTheAverage) {
  for (const char* faults : {"", "kill rank=0 at=105ms", "kill rank=2 at=105ms", "slow rank=1 factor=5"}) {
    Toy toy = still_toy("elastic_gossip");
    toy.lr = 0.1;
    Numbers own(kGossipWorkers);
    auto body = [&](World& world) -> Result<Numbers> {
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      own[world.rank()] = to_doubles(worker.theta().view())[0];
      Vec mean = Vec::zeros(toy.size, toy.dtype);
      SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), mean.mutable_view()));
      return to_doubles(mean.view());
    };
    SimulatedRun run = simulate(kGossipWorkers, body, {.faults = plan(faults)});
    double mean = 0, living = 0;
    for (Rank r = 0; r < kGossipWorkers; ++r)
      if (run.nodes[r].finished) mean += own[r], ++living;
    EXPECT_GE(living, 3);
    for (Rank r = 0; r < kGossipWorkers; ++r)
      if (run.nodes[r].finished) {
        EXPECT_NEAR(run.nodes[r].numbers[0], mean / living, 1e-14) << faults;
      }
  }
}

TEST(ElasticGossip, WarnsAboutWhatPushesApart) {
  auto warning = [](const std::function<void(SchemeOptions&)>& more) {
    return warning_about(gossip("elastic_gossip", 8, more));
  };
  EXPECT_NE(warning([](SchemeOptions& o) { o.alpha = 0.95; }).find("on average does"), std::string::npos);
  EXPECT_NE(warning([](SchemeOptions& o) { o.alpha = 0.5; }).find("can push workers apart"), std::string::npos);
  EXPECT_EQ(warning([](SchemeOptions& o) { o.alpha = 0.5, o.collision = "matching"; }), "");
  EXPECT_EQ(warning([](SchemeOptions& o) { o.alpha = 0.1; }), "");
}

}  // namespace
}  // namespace sinew::dist::testing
