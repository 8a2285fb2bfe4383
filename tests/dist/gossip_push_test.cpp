// The gossip specification's sections 2 and 4: schemes that send one way, and those without a common clock.
#include <gtest/gtest.h>

#include <cmath>

#include "dist/topology.h"
#include "tests/support/gossip_bodies.h"

namespace sinew::dist::testing {
namespace {

// theta and the scheme's weight (1 where it has none) at the end, and all counters together.
struct Ends {
  std::vector<Numbers> theta;
  std::vector<Nanos> last_step;  // when it was over
  Numbers weight;
  SchemeCounters counters;
  SimReport report;
  double weighted_sum(int64_t element) const {
    double sum = 0;
    for (size_t r = 0; r < theta.size(); ++r) sum += weight[r] * theta[r].at(element);
    return sum;
  }
  double weights() const {
    double sum = 0;
    for (double w : weight) sum += w;
    return sum;
  }
};

Ends ends_of(const Toy& toy, SimOptions options = {}) {
  Ends ends;
  ends.weight.resize(toy.scheme.workers);
  ends.last_step.resize(toy.scheme.workers);
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
    ends.last_step[world.rank()] = world.now();
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    ends.weight[world.rank()] = weight_of(worker.scheme());
    const SchemeCounters c = worker.scheme().counters();
    ends.counters.exchanges += c.exchanges, ends.counters.missed += c.missed;
    ends.counters.resent += c.resent, ends.counters.lost += c.lost;
    return to_doubles(worker.theta().view());
  };
  SimulatedRun run = simulate(toy.scheme.workers, body, std::move(options));
  for (const NodeResult& node : run.nodes) {
    EXPECT_TRUE(node.finished) << node.status.message();
    ends.theta.push_back(node.numbers);
  }
  ends.report = run.report;
  return ends;
}

TEST(Gossip, CommonChecks) {
  for (const GossipCase& c : kLockstepGossip) {
    check_lockstep_equals_simulation(in_simulation({.seed = 5, .always_yield = true}), c.name, "jacobi", c.more);
    check_gossip_conserves(in_simulation(), c);
  }
  for (const GossipCase& c : kAsynchronousGossip) check_gossip_conserves(in_simulation(), c);
  for (const GossipCase& c : kAsynchronousGossip) check_late_worker_stays(in_simulation(), c);
}

// Any one message may be lost, the last ones too, which tell what all are measured at.
TEST(Gossip, DropsLoseNothing) {
  for (uint64_t seed = 1; seed <= 40; ++seed)
    for (const GossipCase& c : {kLockstepGossip[0], kLockstepGossip[6], kAsynchronousGossip[0], kAsynchronousGossip[3]})
      check_gossip_conserves(in_simulation({.seed = seed, .faults = plan("drop from=* to=* probability=0.1", seed)}), c,
                             false);
}

// ---- Gossiping SGD ----

// Section 2, [D]: around a fixed mean a round leaves 1 - 2 p beta (1 - beta) N / (N - 1).
TEST(GossipingSgd, PullContractsAsTheSpecificationSays) {
  struct Case {
    int workers;
    double p, beta, expected;
  };
  for (const Case& c : {Case{4, 1, 0.5, 0.3333}, Case{8, 1, 0.5, 0.4286}, Case{4, 0.5, 0.25, 0.75}}) {
    const SchemeOptions o = gossip("gossiping_sgd", c.workers, [&](SchemeOptions& s) {
      s.probability = c.p;
      s.beta = c.beta;
    });
    EXPECT_NEAR(1 - 2 * c.p * c.beta * (1 - c.beta) * c.workers / (c.workers - 1), c.expected, 1e-4);
    EXPECT_NEAR(contraction(o, 3000, {}, true), c.expected, 0.01);
  }
}

// Both directions against plain arithmetic: the one that picks moves, or the one that is picked, for all at once.
TEST(GossipingSgd, FollowsItsRule) {
  for (bool push : {false, true})
    for (double beta : {0.5, 0.3}) {
      Toy toy;
      toy.scheme = gossip("gossiping_sgd", 5, [&](SchemeOptions& o) {
        o.direction = push ? "push" : "pull";
        o.probability = 0.8;
        o.beta = beta;
      });
      toy.start_spread = 1;
      toy.steps = 15;
      std::vector<double> x{1, 2, 3, 4, 5};
      for (int64_t k = 0; k < toy.steps; ++k) {
        std::vector<double> next = x;
        for (Rank i = 0; i < 5; ++i) {
          next[i] -= toy.lr * (x[i] - toy.b(i));
          std::vector<double> heard;
          for (Rank j = 0; j < 5; ++j)
            if (push ? uniform_pick(1, k, j, 5, 0.8) == i : uniform_pick(1, k, i, 5, 0.8) == j) heard.push_back(x[j]);
          double sum = 0;
          for (double h : heard) sum += h;
          const double count = static_cast<double>(heard.size());
          if (!heard.empty()) next[i] += ((1 - beta) * x[i] + beta * sum) / (1 - beta + beta * count) - x[i];
        }
        x = next;
      }
      const Ends ends = ends_of(toy);
      for (Rank r = 0; r < 5; ++r) EXPECT_NEAR(ends.theta[r][0], x[r], 1e-12) << push << " " << beta;
    }
}

TEST(GossipingSgd, CountsItsMessagesAndBytes) {
  for (bool push : {false, true}) {
    Toy toy;
    toy.scheme = gossip("gossiping_sgd", 4, [&](SchemeOptions& o) { o.direction = push ? "push" : "pull"; });
    toy.size = 50;
    toy.dtype = DType::f32;
    const Ends ends = ends_of(toy);
    const int64_t sent = 4 * toy.steps, head = sizeof(Head);  // p = 1: one vector a worker and round
    EXPECT_EQ(ends.counters.exchanges, sent);
    int64_t messages = 0, bytes = 0;
    for (const NodeOutcome& o : ends.report.nodes) messages += o.traffic.messages_sent, bytes += o.traffic.bytes_sent;
    EXPECT_EQ(messages, 3 * sent + 2 * 4);
    EXPECT_EQ(bytes, sent * (3 * head + 4 * toy.size) + 2 * 4 * head);
  }
}

// Without a common clock: nobody waits for a slow worker, and all come together.
TEST(GossipingSgd, AsynchronousWorkersDoNotWait) {
  for (const char* direction : {"pull", "push"}) {
    Toy toy;
    toy.scheme = gossip("gossiping_sgd", 4, [&](SchemeOptions& o) { o.mode = "async", o.direction = direction; });
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 90;
    const Ends ends = ends_of(toy, {.faults = plan("slow rank=1 factor=6")});
    for (const Numbers& theta : ends.theta) {
      EXPECT_GT(theta[0], 1);
      EXPECT_LT(theta[0], 4);
    }
    for (Rank r : {0, 2, 3}) {
      EXPECT_LT(ends.last_step[r], kSecond) << direction;
      EXPECT_NEAR(ends.theta[r][0], ends.theta[0][0], 1e-6) << direction;
    }
    EXPECT_GT(ends.report.nodes[1].time, 3 * kSecond);
  }
}

// ---- GoSGD ----

// Two workers, by hand: 1 sends (3, 1/4) to 0, which goes to ((1/2) 1 + (1/4) 3) / (3/4) with weight 3/4.
TEST(GoSgd, WeighsWhatItTakesIn) {
  Toy toy;
  toy.scheme = gossip("gosgd", 2);
  toy.lr = 0;
  toy.start_spread = 2;
  toy.steps = 1;
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    if (world.rank() == 0) world.sleep(kSecond);
    SINEW_RETURN_IF_ERROR(worker.step(0));
    if (world.rank() == 1) world.sleep(3 * kSecond);
    const Numbers now{to_doubles(worker.theta().view())[0], weight_of(worker.scheme())};
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    return now;
  };
  SimulatedRun run = simulate(2, body);
  // Worker 0's step takes worker 1's message in, and then gives half of 3/4 away.
  EXPECT_NEAR(run.nodes[0].numbers[0], (0.5 * 1 + 0.25 * 3) / 0.75, 1e-15);
  EXPECT_NEAR(run.nodes[0].numbers[1], 0.375, 1e-15);
  EXPECT_EQ(run.nodes[1].numbers[0], 3);
  EXPECT_EQ(run.nodes[1].numbers[1], 0.25);
}

TEST(GoSgd, CountsItsMessagesAndBytes) {
  Toy toy;
  toy.scheme = gossip("gosgd", 4, [](SchemeOptions& o) { o.probability = 0.5; });
  toy.size = 50;
  toy.dtype = DType::f32;
  toy.steps = 100;
  const Ends ends = ends_of(toy);
  int64_t sent = 0;
  for (int64_t k = 0; k < toy.steps; ++k)
    for (Rank r = 0; r < 4; ++r) sent += uniform_pick(1, k, r, 4, 0.5) != kAnyRank;
  const int64_t head = sizeof(Head);
  int64_t bytes = 0;
  for (const NodeOutcome& o : ends.report.nodes) bytes += o.traffic.bytes_sent;
  EXPECT_EQ(ends.counters.exchanges + ends.counters.missed, sent);
  // At the end, the last ones may find that the other one has left.
  EXPECT_LE(std::abs(bytes - (sent * (3 * head + 4 * toy.size) + 2 * 4 * head)), 8 * (3 * head + 4 * toy.size));
  EXPECT_NEAR(ends.weights(), 1, 1e-12);
}

// Who is done takes in what the late one sends, and pushes half of it back: nothing comes into being or is lost, all
// come together, and no exchange takes more messages than before.
TEST(GoSgd, WhoIsDonePushesBack) {
  for (const char* wire : {"f32", "bf16", "int8"})
    for (const char* faults : {"", "drop from=* to=* probability=0.1", "delay from=* to=3 by=70ms"}) {
      Toy toy = still_toy("gosgd", [&](SchemeOptions& o) { o.wire = wire; });
      toy.steps = 80;
      const Ends ends = ends_of(toy, {.faults = plan(std::string("slow rank=1 factor=40\n") + faults)});
      const std::string what = std::string(wire) + " " + faults;
      EXPECT_NEAR(ends.weights(), 1, 1e-12) << what;
      EXPECT_NEAR(ends.weighted_sum(3), 2.5, 1e-12) << what;
      EXPECT_EQ(ends.counters.lost, 0) << what;
      EXPECT_EQ(ends.counters.exchanges, 4 * toy.steps - ends.counters.missed) << what;
      for (const Numbers& theta : ends.theta) EXPECT_NEAR(theta[3], ends.theta[1][3], 0.05) << what;
      if (*faults) continue;
      EXPECT_EQ(ends.counters.missed, 0) << what;
      int64_t messages = 0;
      for (const NodeOutcome& o : ends.report.nodes) messages += o.traffic.messages_sent;
      const int64_t repeats = 3 * (ends.report.virtual_time / kSecond);  // of whether all are done
      EXPECT_LE(messages, 3 * 4 * toy.steps + 2 * 4 + 4 * 3 + repeats) << what;
    }
}

// A stopped worker does not answer: what is asked of it does not grow with the time it is away, neither in what waits
// for it nor in what is sent again, and the others' weights stay with them.
TEST(GoSgd, WhoDoesNotAnswerIsSentNothingMore) {
  Toy toy;
  toy.scheme = gossip("gosgd", 4);
  toy.lr = 0;
  toy.start_spread = 1;
  toy.steps = 3000;
  for (const char* fault : {"pause rank=1 at=155ms for=25s", "drop from=1 after=155ms until=25s"}) {
    const Ends ends = ends_of(toy, {.faults = plan(fault)});
    EXPECT_NEAR(ends.weights(), 1, 1e-9) << fault;
    if (ends.counters.lost == 0) {  // else it has taken over another's parameters
      EXPECT_NEAR(ends.weighted_sum(0), 2.5, 1e-9) << fault;
    }
    EXPECT_LT(ends.counters.resent, 6000) << fault;
    EXPECT_GT(ends.counters.missed, 1000) << fault;
  }
}

// ---- push-sum ----

// Section 4.5: with 8 workers three rounds are the exact average.
TEST(PushSum, OnePeerExponentialAveragesExactly) {
  for (const char* scheme : {"sgp", "dpsgd"})
    for (const char* mixing : {"awc", "atc"}) {
      Toy toy;
      toy.scheme = gossip(scheme, 8, [&](SchemeOptions& o) {
        o.topology = "one_peer_exponential";
        o.mixing = mixing;
      });
      toy.lr = 0;
      toy.start_spread = 1;
      toy.steps = 3;
      for (const Numbers& theta : ends_of(toy).theta) EXPECT_NEAR(theta[0], 4.5, 1e-14) << scheme << mixing;
    }
}

// The whole trajectory in matrix form. No failure: w stays 1, and sgp is D-PSGD on that graph, adapt then combine.
TEST(PushSum, FollowsTheMatrixForm) {
  for (const char* topology : {"one_peer_exponential", "exponential", "ring"})
    for (const char* name : {"sgp", "dpsgd awc", "dpsgd atc"}) {
      const std::string scheme = std::string(name).substr(0, std::string(name).find(' '));
      const bool awc = std::string(name).ends_with("awc");
      Toy toy;
      toy.scheme = gossip(scheme, 5, [&](SchemeOptions& o) {
        o.topology = topology;
        o.mixing = awc ? "awc" : "atc";
      });
      toy.start_spread = 1;
      toy.steps = 12;
      const Topology t({.name = topology, .workers = 5});
      std::vector<double> x{1, 2, 3, 4, 5};
      for (int64_t k = 0; k < toy.steps; ++k) {
        std::vector<double> stepped = x, next(5);
        for (Rank i = 0; i < 5; ++i) stepped[i] -= toy.lr * (x[i] - toy.b(i));
        const Matrix w = mixing_matrix(t, k);
        for (Rank i = 0; i < 5; ++i) {
          for (Rank j = 0; j < 5; ++j) next[i] += w.at(i, j) * (awc ? x : stepped)[j];
          if (awc) next[i] += stepped[i] - x[i];
        }
        x = next;
      }
      const Ends ends = ends_of(toy);
      for (Rank r = 0; r < 5; ++r) {
        EXPECT_NEAR(ends.theta[r][0], x[r], 1e-12) << topology << " " << name;
        EXPECT_NEAR(ends.weight[r], 1, 1e-14);
      }
    }
}

// Section 4.2: rounds in which a worker sends nothing have columns that sum to 1 and rows that do not. Plain mixing by
// the same matrices, x <- P x, does not end at the mean; x / w does.
TEST(PushSum, FindsTheMeanWherePlainMixingDoesNot) {
  const FaultPlan faults = plan("suppress rank=2 probability=0.2\nsuppress rank=5 probability=0.2");
  for (const char* topology : {"one_peer_exponential", "exponential", "ring"}) {
    Toy toy;
    toy.scheme = gossip("sgp", 6, [&](SchemeOptions& o) { o.topology = topology; });
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 150;
    const Topology t({.name = topology, .workers = 6});
    std::vector<double> plain{1, 2, 3, 4, 5, 6};
    double off = 0;  // in the last third
    for (int64_t k = 0; k < toy.steps; ++k) {
      std::vector<double> next = plain;
      for (Rank from = 0; from < 6; ++from) {
        if (plan_suppresses(faults, from, k)) continue;
        for (const Link& l : t.out(from, k))
          next[l.peer] += l.weight * plain[from], next[from] -= l.weight * plain[from];
      }
      plain = next;
      for (double x : plain) off = std::max(off, k >= 100 ? std::abs(x - 3.5) : 0);
    }
    const Ends ends = ends_of(toy, {.faults = faults});
    EXPECT_NEAR(ends.weights(), 6, 1e-12);
    for (Rank r = 0; r < 6; ++r) {
      EXPECT_NEAR(ends.theta[r][0], 3.5, 1e-9) << topology;
      EXPECT_NEAR(ends.weight[r] * ends.theta[r][0], plain[r], 1e-9) << topology;
    }
    EXPECT_GT(off, 1) << topology;
  }
}

// Overlap: what is sent is taken in so many rounds later; w, which is below 1 meanwhile, keeps z right.
TEST(PushSum, OverlapKeepsTheMean) {
  const std::pair<const char*, int> cases[] = {{"one_peer_exponential", 1}, {"one_peer_exponential", 2},
                                               {"one_peer_exponential", 5}, {"exponential", 1},
                                               {"exponential", 3},          {"exponential", 6}};
  for (const auto& [topology, overlap] : cases) {
    Toy toy;
    toy.scheme = gossip("sgp", 8, [&, topology = topology, overlap = overlap](SchemeOptions& o) {
      o.overlap = overlap;
      o.topology = topology;
    });
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 400;
    const Ends ends = ends_of(toy);
    EXPECT_NEAR(ends.weights(), 8, 1e-12);
    EXPECT_NEAR(ends.weighted_sum(0), 36, 1e-11);
    for (const Numbers& theta : ends.theta) EXPECT_NEAR(theta[0], 4.5, 1e-5) << topology << " " << overlap;
    EXPECT_EQ(ends.counters.missed, 0) << topology << " " << overlap;  // no round is withheld
  }
}

// A share has `overlap` steps for its way, and its answer too.
TEST(PushSum, OverlapHidesTheLinks) {
  const auto duration = [](int overlap) {
    Toy toy;
    toy.scheme = gossip("sgp", 4, [&](SchemeOptions& o) { o.overlap = overlap; });
    toy.steps = 50;
    const Ends ends = ends_of(toy, {.latency = 15 * kMillisecond, .step_cost = 10 * kMillisecond});
    return static_cast<double>(ends.report.virtual_time) / (50.0 * 10 * kMillisecond);
  };
  EXPECT_GT(duration(0), 2.4);
  EXPECT_LT(duration(4), 1.4);
}

TEST(PushSum, CountsItsMessagesAndBytes) {
  Toy toy;
  toy.scheme = gossip("sgp", 8, [&](SchemeOptions& o) { o.topology = "exponential"; });
  toy.size = 50;
  toy.dtype = DType::f32;
  const Ends ends = ends_of(toy);
  const int64_t sent = 8 * 3 * toy.steps, head = sizeof(Head);
  int64_t messages = 0, bytes = 0;
  for (const NodeOutcome& o : ends.report.nodes) messages += o.traffic.messages_sent, bytes += o.traffic.bytes_sent;
  EXPECT_EQ(messages, 3 * sent + 2 * 8);
  EXPECT_EQ(bytes, sent * (3 * head + 4 * toy.size) + 2 * 8 * head);
}

// ---- conservation under failures ----

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

// Pairs without a common clock reach the mean of where they began.
TEST(AdPsgd, ReachesTheInitialMean) {
  Toy toy;
  toy.scheme = gossip("adpsgd", 5);
  toy.lr = 0;
  toy.start_spread = 1;
  toy.steps = 100;
  const Ends ends = ends_of(toy, {.faults = plan("slow rank=3 factor=2")});
  for (const Numbers& theta : ends.theta) EXPECT_NEAR(theta[0], 3, 1e-10);
  // A pair: request and answer with the parameters, a confirmation. At the end: that this is the last step, of all.
  int64_t messages = 0;
  for (const NodeOutcome& o : ends.report.nodes) messages += o.traffic.messages_sent;
  EXPECT_LE(messages, 3 * 5 * toy.steps + 2 * 5 + 4 * 4);
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
