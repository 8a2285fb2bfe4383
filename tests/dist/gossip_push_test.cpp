// The gossip specification's sections 2 and 4: schemes that send one way, and those without a common clock.
#include <gtest/gtest.h>

#include <cmath>

#include "dist/topology.h"
#include "tests/support/gossip_ends.h"

namespace sinew::dist::testing {
namespace {

TEST(Gossip, CommonChecks) {
  for (const GossipCase& c : kLockstepGossip) {
    check_lockstep_equals_simulation(in_simulation({.seed = 5, .always_yield = true}), c.name, "jacobi", c.more);
    check_gossip_conserves(in_simulation(), c);
  }
  for (const GossipCase& c : kAsynchronousGossip) check_gossip_conserves(in_simulation(), c);
  for (const GossipCase& c : kAsynchronousGossip) check_late_worker_stays(in_simulation(), c);
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

// ---- ADPSGD ----

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

}  // namespace
}  // namespace sinew::dist::testing
