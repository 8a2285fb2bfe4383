// Checks of the schemes that hold in every kind of world.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/support/toy_training.h"

namespace sinew::dist::testing {

inline Toy common_toy(const std::string& scheme, const std::string& order = "jacobi", int workers = 3) {
  Toy toy;
  toy.scheme.name = scheme;
  toy.scheme.order = order;
  toy.scheme.workers = workers;
  toy.scheme.period = 3;
  toy.scheme.shard = 1000;
  toy.size = 5003;
  toy.noise = 0.5;
  toy.steps = 20;
  return toy;
}

// Every scheme, with the variants that it has.
struct Variant {
  const char* label;
  const char* name;
  const char* order = "jacobi";
  double momentum = 0;
  void (*more)(SchemeOptions&) = nullptr;  // further settings
};
inline std::string label_of(const ::testing::TestParamInfo<Variant>& info) { return info.param.label; }

inline constexpr Variant kVariants[] = {
    {"local", "local"},
    {"allreduce", "allreduce"},
    {"easgd", "easgd"},
    {"eamsgd", "eamsgd", "jacobi", 0.9},
    {"jacobi", "easgd_sync"},
    {"gauss_seidel", "easgd_sync", "gauss_seidel"},
    {"elastic_gossip", "elastic_gossip", "jacobi", 0, [](SchemeOptions& o) { o.probability = 0.7; }},
    {"elastic_gossip_matching", "elastic_gossip", "jacobi", 0, [](SchemeOptions& o) { o.collision = "matching"; }},
    {"elastic_gossip_async", "elastic_gossip", "jacobi", 0.9, [](SchemeOptions& o) { o.mode = "async"; }},
    {"gossiping_pull", "gossiping_sgd"},
    {"gossiping_push", "gossiping_sgd", "jacobi", 0, [](SchemeOptions& o) { o.direction = "push"; }},
    {"gossiping_pull_async", "gossiping_sgd", "jacobi", 0, [](SchemeOptions& o) { o.mode = "async"; }},
    {"gossiping_push_async", "gossiping_sgd", "jacobi", 0,
     [](SchemeOptions& o) { o.mode = "async", o.direction = "push"; }},
    {"gosgd", "gosgd"},
    {"dpsgd", "dpsgd", "jacobi", 0.9},
    {"dpsgd_atc", "dpsgd", "jacobi", 0, [](SchemeOptions& o) { o.mixing = "atc", o.topology = "shift_one"; }},
    {"dpsgd_exponential", "dpsgd", "jacobi", 0, [](SchemeOptions& o) { o.topology = "one_peer_exponential"; }},
    {"sgp", "sgp", "jacobi", 0.9},
    {"sgp_overlap", "sgp", "jacobi", 0, [](SchemeOptions& o) { o.overlap = 1, o.topology = "exponential"; }},
    {"adpsgd", "adpsgd"},
    {"gossip_pga", "elastic_gossip", "jacobi", 0, [](SchemeOptions& o) { o.global_average_every = 5; }}};

// Schemes that mix whatever alpha, beta and the probability of an exchange are.
inline bool always_mixes(const SchemeOptions& o) {
  return o.name == "dpsgd" || o.name == "sgp" || o.name == "allreduce" || o.global_average_every > 0;
}

inline Toy toy_of(const Variant& v, int workers = 4) {
  Toy toy;
  toy.scheme.name = v.name;
  toy.scheme.order = v.order;
  toy.scheme.workers = workers;
  toy.scheme.period = 3;
  toy.scheme.shard = 7;
  toy.size = 33;
  toy.momentum = v.momentum;
  toy.noise = 0.5;
  toy.steps = 20;
  if (v.more) v.more(toy.scheme);
  return toy;
}

// Lockstep schemes give the bits that the simulation gives.
inline void check_lockstep_equals_simulation(const Spawn& spawn, const std::string& scheme, const std::string& order,
                                             void (*more)(SchemeOptions&) = nullptr) {
  for (DType dtype : {DType::f32, DType::f64}) {
    Toy toy = common_toy(scheme, order);
    if (more) more(toy.scheme);
    toy.dtype = dtype;
    auto body = [&](World& world) { return toy_run(world, toy); };
    auto nodes = spawn(node_count(toy.scheme), body);
    auto expected = in_simulation()(node_count(toy.scheme), body);
    for (size_t r = 0; r < nodes.size(); ++r) {
      ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
      ASSERT_EQ(nodes[r].numbers, expected[r].numbers) << "rank " << r;
    }
  }
}

// With a learning rate of 0 only the elastic forces move anything: the sum over workers and center stays.
inline void check_elastic_conserves(const Spawn& spawn, const std::string& scheme) {
  Toy toy = common_toy(scheme);
  toy.lr = 0;
  toy.start_spread = 1;
  auto nodes = spawn(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); });
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
  for (int64_t i = 0; i < toy.size; i += 17) {
    double sum = 0;
    for (const NodeResult& node : nodes) sum += node.numbers.at(i);
    ASSERT_NEAR(sum, 1 + 2 + 3 + 1, 1e-12);
  }
  ASSERT_NE(nodes[2].numbers[0], 3) << "something moved";
}

// With alpha = 0 every worker is alone.
inline void check_still_elastic_is_local(const Spawn& spawn, const std::string& scheme) {
  Toy toy = common_toy(scheme), alone = toy;
  toy.scheme.alpha = 0;
  alone.scheme.name = "local";
  auto nodes = spawn(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); });
  auto expected = in_simulation()(toy.scheme.workers, [&](World& world) { return toy_run(world, alone); });
  for (size_t r = 0; r < expected.size(); ++r) {
    ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
    ASSERT_EQ(nodes[r].numbers, expected[r].numbers);
  }
}

}  // namespace sinew::dist::testing
