// What an exchange with the center costs, message by message: heads of 64 bytes, N parameters of b bytes in S shards.
//   EASGD, DOWNPOUR    sent      64 + (64 S + b N)      a FETCH; the differences
//                      received  64 S + b N             the center
// Twice the parameters, as the EASGD specification counts (section 7), and the heads.
#include <gtest/gtest.h>

#include <set>

#include "dist/packing.h"
#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {
namespace {

struct Traffic {
  int64_t sent = 0, received = 0, messages_sent = 0, messages_received = 0;
  void send(int64_t messages, int64_t body) { sent += 64 * messages + body, messages_sent += messages; }
  void receive(int64_t messages, int64_t body) { received += 64 * messages + body, messages_received += messages; }
};

struct Case {
  const char* scheme;
  int64_t exchanges;  // of 20 steps, period 3
  bool push_at_end;   // movements are left that no exchange has sent
  int64_t leaves;     // the last exchange is confirmed by itself, or in the end by one more question
};

TEST(Traffic, OfAnExchangeWithTheCenter) {
  for (const Case& c : {Case{"easgd", 7, false, 2},
                        {"eamsgd", 7, false, 2},
                        {"admm", 7, false, 2},
                        {"downpour", 7, true, 2},
                        {"adownpour", 7, true, 2},
                        {"mdownpour", 6, true, 2}})
    for (DType dtype : {DType::f32, DType::f64}) {
      Toy toy = common_toy(c.scheme);
      toy.dtype = dtype;
      toy.scheme.shard = 1000;
      const int64_t shards = 6, body = toy.size * static_cast<int64_t>(size_of(dtype));
      Traffic expected;
      expected.send(1, 0), expected.receive(1, 0);  // JOIN
      for (int64_t i = 0; i < c.exchanges; ++i) {
        expected.send(1 + shards, body);
        expected.receive(shards, body);
      }
      if (c.push_at_end) expected.send(shards, body);
      for (int64_t i = 0; i < c.leaves; ++i) expected.send(1, 0), expected.receive(1, 8 * shards);
      const auto nodes = in_simulation()(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
        Result<Numbers> result = toy_run(world, toy);
        const TrafficCounters t = world.traffic();
        if (world.rank() < toy.scheme.workers) {
          EXPECT_EQ(t.bytes_sent, expected.sent) << c.scheme;
          EXPECT_EQ(t.bytes_received, expected.received) << c.scheme;
          EXPECT_EQ(t.messages_sent, expected.messages_sent) << c.scheme;
          EXPECT_EQ(t.messages_received, expected.messages_received) << c.scheme;
        }
        return result;
      });
      for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
    }
}

// Of several nodes each is asked by itself; shards and differences stay as many. With two workers that serve three
// shards each, worker 0 asks for and adds to three, and answers worker 1 with three: what it has itself takes no link.
TEST(Traffic, OfAnExchangeWithSeveralServers) {
  for (const char* servers : {"2", "3", "workers"})
    for (const char* scheme : {"easgd", "downpour"}) {
      Toy toy = common_toy(scheme, "jacobi", 2);
      toy.scheme.servers = servers;
      toy.scheme.period = 1;
      const bool hosts = center_servers(toy.scheme) == 0;
      TrafficCounters counters[2];
      for (int i = 0; i < 2; ++i) {
        toy.steps = 10 + 10 * i;
        const auto nodes = in_simulation({.jitter = 0})(node_count(toy.scheme), [&](World& world) {
          Result<Numbers> result = toy_run(world, toy);
          if (world.rank() == 0) counters[i] = world.traffic();
          return result;
        });
        for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
      }
      const int64_t sent = hosts ? 1 + 3 + 3 : center_servers(toy.scheme) + 6, received = hosts ? 3 + 1 + 3 : 6;
      EXPECT_EQ(counters[1].messages_sent - counters[0].messages_sent, 10 * sent) << servers;
      EXPECT_EQ(counters[1].bytes_sent - counters[0].bytes_sent, 10 * (64 * sent + toy.size * 8)) << servers;
      EXPECT_EQ(counters[1].messages_received - counters[0].messages_received, 10 * received) << servers;
      EXPECT_EQ(counters[1].bytes_received - counters[0].bytes_received, 10 * (64 * received + toy.size * 8));
    }
}

// Dynamic weights send no more than fixed ones: one message of 64 bytes a contact with peer_normalisation, and no
// differences where the center does not move.
TEST(Traffic, OfDynamicWeights) {
  Toy toy = common_toy("easgd");
  toy.scheme.weighting.warmup_rounds = 1'000'000;  // alpha throughout, with a score from the third contact on
  toy.scheme.weighting.coefficients = {1, 1};
  int64_t bytes[3], messages[3];
  for (int kind = 0; kind < 3; ++kind) {
    toy.scheme.weighting.rule = kind == 0 ? "fixed" : "dynamic";
    toy.scheme.weighting.peers = kind == 2;
    const auto nodes = in_simulation()(node_count(toy.scheme), [&](World& world) {
      Result<Numbers> result = toy_run(world, toy);
      if (world.rank() == 1) bytes[kind] = world.traffic().bytes_sent, messages[kind] = world.traffic().messages_sent;
      return result;
    });
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
  }
  EXPECT_EQ(bytes[1], bytes[0]);
  EXPECT_EQ(messages[2], messages[0] + 4) << "of 7 contacts 6 have a distance above 0, and the last 4 of them a score";
  EXPECT_EQ(bytes[2], bytes[0] + 64 * 4);
}

// A leaf of a tree pushes its parameters, one message, every period and at its end; what it gets are pushes.
TEST(Traffic, OfALeaf) {
  for (const std::string& wire : packing_names()) {
    Toy toy = common_toy("easgd_tree", "jacobi", 4);
    toy.scheme.fan_out = 2;
    toy.scheme.far_period = 6;
    toy.scheme.wire = wire;
    const auto body = static_cast<int64_t>(packed_bytes(packing_of(wire), toy.size, toy.dtype));
    const int64_t message = 64 + body, pushes = 7 + 1;
    const auto nodes = in_simulation()(node_count(toy.scheme), [&](World& world) {
      Result<Numbers> result = toy_run(world, toy);
      const TrafficCounters t = world.traffic();
      if (world.rank() < 4) {
        EXPECT_EQ(t.bytes_sent, 64 + pushes * message) << wire;
        EXPECT_EQ(t.messages_sent, 1 + pushes);
        EXPECT_EQ(t.bytes_received, 64 + (t.messages_received - 1) * message) << wire;
        EXPECT_GE(t.messages_received, 1 + 5);
      }
      return result;
    });
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
  }
}

// What a round of each scheme costs all four workers (and the center) together, as docs/schemes.md and the
// specifications say: messages, and how many times the parameters they carry.
struct Round {
  const char* scheme;
  int64_t messages, vectors;
  void (*more)(SchemeOptions&) = nullptr;
  int64_t extra = 0;  // further bytes
};
// A ring all-reduce is 2 (p - 1) messages of a p-th of the parameters from each worker; an exchange with the center a
// question, an answer and a difference; one between workers a question, an answer and a confirmation.
constexpr int64_t kRing = 4 * 2 * 3;
constexpr Round kRounds[] = {
    {"local", 0, 0},
    {"asgd", 0, 0},
    {"mvasgd", 0, 0},
    {"msgd", 0, 0},
    {"allreduce", kRing, 6},
    {"easgd_sync", kRing, 6},
    {"easgd_sync", kRing, 6, [](SchemeOptions& o) { o.order = "gauss_seidel"; }},
    {"easgd_sync", kRing, 6, [](SchemeOptions& o) { o.weighting.rule = "dynamic"; }},
    {"local_sgd", kRing, 6},
    {"local_sgd", kRing, 6, [](SchemeOptions& o) { o.outer = "nesterov"; }},
    // One number more: of how many the sum is.
    {"local", kRing, 6, [](SchemeOptions& o) { o.global_average_every = 1; }, 6 * 8},
    // All losses to all and, at the end, that all are done, 3 p messages of 8 bytes each; the leader's parameters along
    // a chain.
    {"lsgd", 2 * 4 * 3 + 3, 3, nullptr, 2 * 4 * 3 * 8},
    {"lgd", 2 * 4 * 3 + 3, 3, nullptr, 2 * 4 * 3 * 8},
    {"easgd", 4 * 3, 4 * 2},
    {"eamsgd", 4 * 3, 4 * 2},
    {"downpour", 4 * 3, 4 * 2},
    {"adownpour", 4 * 3, 4 * 2},
    {"mvadownpour", 4 * 3, 4 * 2},
    {"mdownpour", 4 * 3, 4 * 2},
    {"admm", 4 * 3, 4 * 2},
    {"easgd_tree", 4 + 4, 4 + 4},  // each leaf to the root, the root to each leaf
    {"elastic_gossip", 4 * 3, 4 * 2, [](SchemeOptions& o) { o.topology = "ring"; }},  // four pairs
    {"elastic_gossip", 4 * 3, 4 * 2, [](SchemeOptions& o) { o.mode = "async"; }},     // each worker asks one
    {"adpsgd", 4 * 3, 4 * 2},
    {"dpsgd", 4 * 3, 4 * 2},
    {"dpsgd", 4 * 3, 4 * 2, [](SchemeOptions& o) { o.mixing = "atc"; }},
    {"dpsgd", 6 * 3, 6 * 2, [](SchemeOptions& o) { o.topology = "complete"; }},
    {"dpsgd", 2 * 3, 2 * 2, [](SchemeOptions& o) { o.topology = "shift_one"; }},
    {"dpsgd", 4 * 3, 4, [](SchemeOptions& o) { o.topology = "one_peer_exponential"; }},
    {"sgp", 4 * 3, 4},
    {"sgp", 4 * 3, 4, [](SchemeOptions& o) { o.overlap = 1; }},
    {"sgp", 8 * 3, 8, [](SchemeOptions& o) { o.topology = "exponential"; }},
    {"gossiping_sgd", 4 * 3, 4},
    {"gossiping_sgd", 4 * 3, 4, [](SchemeOptions& o) { o.direction = "push"; }},
    {"gossiping_sgd", 4 * 3, 4, [](SchemeOptions& o) { o.mode = "async"; }},
    {"gosgd", 4 * 3, 4},
};

struct RoundCost {
  int64_t messages = 0, bytes = 0;
};
// Of ten rounds: what comes at the beginning and at the end is the same in both runs.
RoundCost ten_rounds(Toy toy) {
  RoundCost cost[2];
  for (int i = 0; i < 2; ++i) {
    toy.steps = 10 + 10 * i;
    const SimulatedRun run =
        simulate(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); }, {.jitter = 0});
    for (const NodeOutcome& node : run.report.nodes) {
      EXPECT_EQ(node.what, NodeOutcome::What::finished) << toy.scheme.name << ": " << node.status.message();
      cost[i].bytes += node.traffic.bytes_sent, cost[i].messages += node.traffic.messages_sent;
    }
  }
  return {cost[1].messages - cost[0].messages, cost[1].bytes - cost[0].bytes};
}

Toy toy_of(const Round& round) {
  Toy toy;
  toy.scheme = {.name = round.scheme, .workers = 4, .period = 1};
  if (round.more) round.more(toy.scheme);
  toy.size = 512;
  toy.noise = 0.5;
  return toy;
}

TEST(Traffic, OfARoundOfEveryScheme) {
  std::set<std::string> covered;
  for (const Round& round : kRounds) {
    covered.insert(round.scheme);
    const Toy toy = toy_of(round);
    const RoundCost cost = ten_rounds(toy);
    EXPECT_EQ(cost.messages, 10 * round.messages) << round.scheme;
    EXPECT_EQ(cost.bytes, 10 * (64 * round.messages + round.vectors * toy.size * 8 + round.extra)) << round.scheme;
  }
  for (const std::string& name : scheme_names()) EXPECT_TRUE(covered.count(name)) << name << " is not in the table";
}

// Collectives go in chunks of 120 KiB, each with its head. A broadcast of 640,000 bytes is 6 of them along a chain of
// three; the p-th of it that a ring passes on is 2.
TEST(Traffic, OfARoundInChunks) {
  for (const Round& round : {Round{"allreduce", 2 * kRing, 6},
                             {"easgd_sync", 2 * kRing, 6},
                             {"local_sgd", 2 * kRing, 6},
                             {"lsgd", 2 * 4 * 3 + 3 * 6, 3, nullptr, 2 * 4 * 3 * 8},
                             {"lgd", 2 * 4 * 3 + 3 * 6, 3, nullptr, 2 * 4 * 3 * 8}}) {
    Toy toy = toy_of(round);
    toy.size = 80'000;
    const RoundCost cost = ten_rounds(toy);
    EXPECT_EQ(cost.messages, 10 * round.messages) << round.scheme;
    EXPECT_EQ(cost.bytes, 10 * (64 * round.messages + round.vectors * toy.size * 8 + round.extra)) << round.scheme;
  }
}

// With scheme.wire the vectors are packed, in as many messages.
TEST(Traffic, OfARoundWithFewerBits) {
  for (const char* wire : {"bf16", "int8"})
    for (const Round& round : {Round{"elastic_gossip", 4 * 3, 4 * 2, [](SchemeOptions& o) { o.topology = "ring"; }},
                               {"sgp", 4 * 3, 4},
                               {"lsgd", 2 * 4 * 3 + 3, 3, nullptr, 2 * 4 * 3 * 8}}) {
      Toy toy = toy_of(round);
      toy.scheme.wire = wire;
      const auto packed = static_cast<int64_t>(packed_bytes(packing_of(wire), toy.size, toy.dtype));
      EXPECT_LE(packed, toy.size * 2);
      const RoundCost cost = ten_rounds(toy);
      EXPECT_EQ(cost.messages, 10 * round.messages) << wire << " " << round.scheme;
      EXPECT_EQ(cost.bytes, 10 * (64 * round.messages + round.vectors * packed + round.extra))
          << wire << " " << round.scheme;
    }
}

}  // namespace
}  // namespace sinew::dist::testing
