// The gossip schemes' checks, shared by the tests of several of them.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>

#include "core/philox.h"
#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {

inline constexpr int kGossipWorkers = 4;

inline FaultPlan plan(const std::string& text, uint64_t seed = 1) {
  FaultPlan p = parse_fault_plan(text, "plan").value();
  p.seed = seed;
  return p;
}

inline SchemeOptions gossip(const std::string& name, int workers,
                            const std::function<void(SchemeOptions&)>& more = {}) {
  SchemeOptions o;
  o.name = name;
  o.workers = workers;
  o.period = 1;
  if (more) more(o);
  return o;
}

inline double draw(Rank rank, int64_t round, int64_t element) {
  return 2 * uniform01(
                 philox_u64({5, uint32_t(RngPurpose::test), uint32_t(rank), uint64_t(round)}, uint64_t(element))) -
         1;
}

// What a round of the scheme leaves of the squared disagreement, over those of `rounds` rounds, each from fresh random
// parameters, that count.
inline double contraction(const SchemeOptions& options, int64_t rounds, const std::function<bool(int64_t)>& counts = {},
                          bool around_fixed_mean = false) {
  constexpr int64_t kSize = 16;
  auto body = [&](World& world) -> Result<Numbers> {
    auto scheme = make_scheme(options, world, kSize, DType::f64);
    std::vector<double> theta(kSize);
    SINEW_RETURN_IF_ERROR(scheme->start(theta));
    Numbers all;
    for (int64_t k = 0; k < rounds; ++k) {
      for (int64_t i = 0; i < kSize; ++i) theta[i] = draw(world.rank(), k, i);
      SINEW_RETURN_IF_ERROR(scheme->before_step(k, theta));
      SINEW_RETURN_IF_ERROR(scheme->after_step(k, theta));
      all.insert(all.end(), theta.begin(), theta.end());
    }
    SINEW_RETURN_IF_ERROR(scheme->finish(theta));
    return all;
  };
  SimulatedRun run = simulate(options.workers, body);
  double before = 0, after = 0;
  for (int64_t k = 0; k < rounds; ++k)
    for (int64_t i = 0; (!counts || counts(k)) && i < kSize; ++i) {
      double mean = 0, new_mean = 0;
      for (Rank r = 0; r < options.workers; ++r) {
        mean += draw(r, k, i) / options.workers;
        new_mean += run.nodes[r].numbers.at(k * kSize + i) / options.workers;
      }
      for (Rank r = 0; r < options.workers; ++r) {
        before += std::pow(draw(r, k, i) - mean, 2);
        after += std::pow(run.nodes[r].numbers.at(k * kSize + i) - (around_fixed_mean ? mean : new_mean), 2);
      }
    }
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
  return after / before;
}

struct FaultCase {
  const char* label;
  const char* faults;
};
inline constexpr FaultCase kFaultCases[] = {
    FaultCase{"none", ""},
    FaultCase{"drops", "drop from=* to=* probability=0.1"},
    FaultCase{"delays", "delay from=1 to=* by=30ms\ndelay from=3 to=2 by=70ms until=200ms"},
    FaultCase{"late", "delay from=* to=3 by=600ms after=50ms until=120ms"},
    FaultCase{"pauses",
              "pause rank=1 at=50ms for=900ms\npause rank=2 at=100ms for=90ms\n"
              "drop from=* to=* probability=0.05"},
    FaultCase{"partition",
              "drop from=0 to=2 after=50ms until=1500ms\n"
              "drop from=2 to=0 after=50ms until=1500ms\n"
              "drop from=1 to=2 after=50ms until=1500ms\n"
              "drop from=2 to=1 after=50ms until=1500ms\n"
              "drop from=3 to=2 after=50ms until=1500ms\n"
              "drop from=2 to=3 after=50ms until=1500ms"},
    FaultCase{"one_way", "drop from=3 to=* after=50ms until=900ms"},
    FaultCase{"suppress", "suppress rank=* probability=0.3\ndrop from=* to=2 probability=0.1"}};

inline Toy still_toy(const std::string& scheme, const std::function<void(SchemeOptions&)>& more = {}) {
  Toy toy;
  toy.scheme = gossip(scheme, kGossipWorkers, more);
  toy.scheme.deadline = 400 * kMillisecond;
  toy.size = 12;
  toy.steps = 40;
  toy.lr = 0;  // only the exchanges move anything
  toy.start_spread = 1;
  return toy;
}

// What a gossip scheme is called with, in checks that hold in every kind of world.
struct GossipCase {
  const char* name;
  void (*more)(SchemeOptions&) = nullptr;
};
inline constexpr GossipCase kLockstepGossip[] = {
    {"elastic_gossip"},
    {"elastic_gossip", [](SchemeOptions& o) { o.collision = "capped", o.probability = 0.6; }},
    {"gossiping_sgd"},
    {"gossiping_sgd", [](SchemeOptions& o) { o.direction = "push"; }},
    {"dpsgd"},
    {"dpsgd", [](SchemeOptions& o) { o.mixing = "atc", o.topology = "star"; }},
    {"sgp"},
    {"sgp", [](SchemeOptions& o) { o.overlap = 1; }},
    {"dpsgd", [](SchemeOptions& o) { o.global_average_every = 4; }}};
inline constexpr GossipCase kAsynchronousGossip[] = {
    {"elastic_gossip", [](SchemeOptions& o) { o.mode = "async"; }},
    {"gossiping_sgd", [](SchemeOptions& o) { o.mode = "async"; }},
    {"gossiping_sgd", [](SchemeOptions& o) { o.mode = "async", o.direction = "push"; }},
    {"gosgd"},
    {"adpsgd"}};

inline Toy common_gossip_toy(const GossipCase& c, int workers = 3) {
  Toy toy = common_toy(c.name, "jacobi", workers);
  if (c.more) c.more(toy.scheme);
  return toy;
}

inline double weight_of(const Scheme& scheme) {
  const SchemeState state = scheme.save();
  auto weight = state.numbers.find("weight");
  return weight == state.numbers.end() ? 1 : std::bit_cast<double>(weight->second);
}

// A run that hands back the scheme's weight (1 where it has none), theta, and the average that it is measured at.
inline Result<Numbers> gossip_run(World& world, const Toy& toy) {
  ToyWorker worker(toy, world);
  SINEW_RETURN_IF_ERROR(worker.start());
  for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
  SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
  Vec mean = Vec::zeros(toy.size, toy.dtype);
  SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), mean.mutable_view()));
  Numbers numbers{weight_of(worker.scheme())};
  for (const Vec& v : {worker.theta(), mean}) {
    const Numbers values = to_doubles(v.view());
    numbers.insert(numbers.end(), values.begin(), values.end());
  }
  return numbers;
}

// With a learning rate of 0 only the exchanges move anything: the sum over the workers stays. The average is the same
// everywhere, and is that of all.
inline void check_gossip_conserves(const Spawn& spawn, const GossipCase& c, bool lockstep = true) {
  Toy toy = common_gossip_toy(c);
  toy.lr = 0;
  toy.start_spread = 1;
  const auto nodes = spawn(toy.scheme.workers, [&](World& world) { return gossip_run(world, toy); });
  double weights = 0;
  for (const NodeResult& node : nodes) {
    ASSERT_TRUE(node.finished) << c.name << ": " << node.status.message();
    weights += node.numbers.at(0);
  }
  ASSERT_NEAR(weights, c.name == std::string("gosgd") ? 1 : 3, 1e-12) << c.name;
  for (int64_t i = 1; i <= toy.size; i += 17) {
    double sum = 0, mean = 0;
    for (const NodeResult& node : nodes) {
      sum += node.numbers.at(0) * node.numbers.at(i);
      mean += node.numbers.at(i) / 3;
      ASSERT_EQ(node.numbers.at(i + toy.size), nodes[0].numbers.at(i + toy.size));
    }
    ASSERT_NEAR(nodes[0].numbers.at(i + toy.size), mean, 1e-12) << c.name;
    if (c.name != std::string("gossiping_sgd")) {  // which keeps no sum
      ASSERT_NEAR(sum, 2 * weights, 1e-12) << c.name;
    }
  }
  if (lockstep) {
    ASSERT_NE(nodes[2].numbers[1], 3) << "something moved";
  }
}

// Each worker's own minimum is somewhere else, and worker 1 takes most of its steps when the others have taken theirs.
// It does not end where its steps alone lead.
inline void check_late_worker_stays(const Spawn& spawn, const GossipCase& c) {
  Toy toy = common_gossip_toy(c, 4);
  toy.lr = 0.01;  // small beside what an exchange does: wherever the last of them was, workers are close
  toy.noise = 0;
  toy.steps = 120;
  const auto nodes = spawn(toy.scheme.workers, [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) {
      world.sleep((world.rank() == 1 ? 20 : 1) * kMillisecond);
      SINEW_RETURN_IF_ERROR(worker.step(k));
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    return to_doubles(worker.theta().view());
  });
  double others = 0;
  for (Rank r : {0, 2, 3}) {
    ASSERT_TRUE(nodes[r].finished) << c.name << ": " << nodes[r].status.message();
    others += nodes[r].numbers.at(0) / 3;
  }
  ASSERT_TRUE(nodes[1].finished) << c.name << ": " << nodes[1].status.message();
  EXPECT_LT(std::abs(nodes[1].numbers.at(0) - others), 0.2) << c.name << " " << toy.scheme.direction;
}

}  // namespace sinew::dist::testing
