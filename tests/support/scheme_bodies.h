// Checks of the schemes that hold in every kind of world.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "dist/communicator.h"
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
  bool elastic = true;                     // its moves are in proportion to alpha
  const char* weighting = "fixed";
  const char* outer = "none";
};
inline std::string label_of(const ::testing::TestParamInfo<Variant>& info) { return info.param.label; }

inline void served_by_workers(SchemeOptions& o) { o.servers = "workers"; }

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
    {"adpsgd_dynamic", "adpsgd", "jacobi", 0, nullptr, false, "dynamic"},
    {"gossip_pga", "elastic_gossip", "jacobi", 0, [](SchemeOptions& o) { o.global_average_every = 5; }},
    {"downpour", "downpour", "jacobi", 0, nullptr, false},
    {"mdownpour", "mdownpour", "jacobi", 0, nullptr, false},
    {"adownpour", "adownpour", "jacobi", 0, nullptr, false},
    {"mvadownpour", "mvadownpour", "jacobi", 0, nullptr, false},
    {"admm", "admm", "jacobi", 0, nullptr, false},
    {"dynamic", "easgd", "jacobi", 0, nullptr, false, "dynamic"},
    {"dynamic_sync", "easgd_sync", "jacobi", 0, nullptr, false, "dynamic"},
    {"oracle", "eamsgd", "jacobi", 0.9, nullptr, true, "oracle"},
    {"easgd_int8", "easgd", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }},
    {"dynamic_bf16", "easgd", "jacobi", 0, [](SchemeOptions& o) { o.wire = "bf16"; }, false, "dynamic"},
    {"downpour_bf16", "downpour", "jacobi", 0, [](SchemeOptions& o) { o.wire = "bf16"; }, false},
    {"mdownpour_int8", "mdownpour", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }, false},
    {"easgd_overlap", "easgd", "jacobi", 0, [](SchemeOptions& o) { o.overlap = 2, o.servers = "2"; }},
    {"dynamic_overlap", "easgd", "jacobi", 0, [](SchemeOptions& o) { o.overlap = 1; }, false, "dynamic"},
    {"easgd_servers", "easgd", "jacobi", 0, [](SchemeOptions& o) { o.servers = "3"; }},
    {"eamsgd_hosts", "eamsgd", "jacobi", 0.9, served_by_workers},
    {"dynamic_hosts", "easgd", "jacobi", 0, served_by_workers, false, "dynamic"},
    {"downpour_hosts", "downpour", "jacobi", 0, served_by_workers, false},
    {"mdownpour_servers", "mdownpour", "jacobi", 0, [](SchemeOptions& o) { o.servers = "2"; }, false},
    {"mvadownpour_hosts", "mvadownpour", "jacobi", 0, served_by_workers, false},
    {"elastic_gossip_int8", "elastic_gossip", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }},
    {"adpsgd_int8", "adpsgd", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }},
    {"gossiping_pull_int8", "gossiping_sgd", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8", o.mode = "async"; }},
    {"gosgd_bf16", "gosgd", "jacobi", 0, [](SchemeOptions& o) { o.wire = "bf16"; }},
    {"admm_int8", "admm", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }, false},
    {"sgp_int8", "sgp", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }},
    {"lsgd_int8", "lsgd", "jacobi", 0,
     [](SchemeOptions& o) { o.wire = "int8", o.groups = o.workers > 2 ? "2" : "", o.proximal = 0.2; }, false},
    {"lsgd_async_bf16", "lsgd", "jacobi", 0, [](SchemeOptions& o) { o.wire = "bf16", o.mode = "async"; }, false},
    {"lgd_int8", "lgd", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }, false},
    {"allreduce_int8", "allreduce", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }},
    {"jacobi_int8", "easgd_sync", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }},
    {"gauss_seidel_bf16", "easgd_sync", "gauss_seidel", 0, [](SchemeOptions& o) { o.wire = "bf16"; }},
    {"gossip_pga_int8", "elastic_gossip", "jacobi", 0,
     [](SchemeOptions& o) { o.global_average_every = 5, o.wire = "int8"; }},
    {"local_sgd_int8", "local_sgd", "jacobi", 0.9, [](SchemeOptions& o) { o.wire = "int8", o.parameters = 30; }, false},
    {"tree", "easgd_tree"},
    {"tree_int8", "easgd_tree", "jacobi", 0, [](SchemeOptions& o) { o.wire = "int8"; }},
    {"local_sgd", "local_sgd", "jacobi", 0.9, nullptr, false},
    {"diloco", "local_sgd", "jacobi", 0, nullptr, false, "fixed", "nesterov"},
    {"lsgd", "lsgd", "jacobi", 0.9, nullptr, false},
    {"lsgd_groups", "lsgd", "jacobi", 0,
     [](SchemeOptions& o) { o.groups = o.workers > 2 ? "2" : "", o.proximal = 0.2; }, false},
    {"lsgd_async", "lsgd", "jacobi", 0, [](SchemeOptions& o) { o.mode = "async"; }, false},
    {"lsgd_async_groups", "lsgd", "jacobi", 0.9,
     [](SchemeOptions& o) { o.mode = "async", o.groups = o.workers > 2 ? "2" : "", o.proximal_global = 0.2; }, false},
    {"lgd", "lgd", "jacobi", 0, nullptr, false},
    {"asgd", "asgd"},
    {"mvasgd", "mvasgd"},
    {"msgd", "msgd", "jacobi", 0.9}};

// Schemes that mix whatever alpha, beta and the probability of an exchange are.
inline bool always_mixes(const SchemeOptions& o) {
  return o.name == "dpsgd" || o.name == "sgp" || o.name == "allreduce" || o.global_average_every > 0;
}

inline Toy toy_of(const Variant& v, int workers = 4) {
  Toy toy;
  toy.scheme.name = v.name;
  toy.scheme.order = v.order;
  toy.scheme.weighting.rule = v.weighting;
  toy.scheme.outer = v.outer;
  toy.scheme.weighting.warmup_rounds = 1;
  toy.scheme.weighting.coefficients = {2, 1};
  toy.scheme.weighting.peers = toy.scheme.name == "easgd" || toy.scheme.name == "eamsgd";
  toy.scheme.workers = workers;
  toy.scheme.period = 3;
  toy.scheme.far_period = 6;
  toy.scheme.fan_out = 2;  // of 4 workers: three inner nodes
  toy.scheme.shard = 7;
  toy.size = 33;
  toy.momentum = v.momentum;
  toy.noise = 0.5;
  toy.steps = 20;
  if (v.more) v.more(toy.scheme);
  return toy;
}

// Of 3 workers: a leader each for {0, 2} and {1}, and one of all.
inline void two_leaders(SchemeOptions& o) { o.groups = "0,2/1", o.proximal = 0.1, o.period_global = 6; }

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

inline constexpr const char* kInLockstep[] = {"allreduce", "easgd_sync", "local_sgd", "lsgd", "lgd"};

// One of four workers is lost before they have met, as the spawn's faults or `before` say. The others train without it.
inline void check_begins_without_one(const Spawn& spawn, const std::string& scheme,
                                     const std::function<void(World&)>& before = {}) {
  Toy toy = common_toy(scheme, "jacobi", 4);
  toy.scheme.deadline = 3 * kSecond;  // a machine that is busy may stall a process for a second
  int finished = 0;
  std::string message;
  for (const NodeResult& node : spawn(4, [&](World& world) {
         if (before) before(world);
         return toy_run(world, toy);
       })) {
    finished += node.finished;
    if (node.finished) continue;
    EXPECT_TRUE(node.status.ok() || node.status.code() == StatusCode::peer_lost) << node.status.message();
    message += node.status.message() + "\n";
  }
  EXPECT_EQ(finished, 3) << scheme << message;
}

// With a learning rate of 0 only the elastic forces move anything: the sum over workers and center stays.
inline void check_elastic_conserves(const Spawn& spawn, const std::string& scheme, const std::string& wire = "f32") {
  Toy toy = common_toy(scheme);
  toy.scheme.wire = wire;
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

// What the workers have moved reaches the center once, but for what rounding has left of it, which waits at them: it
// ends at its start plus all their steps. With momentum at the center, c + momentum / (1 - momentum) v does, with steps
// / (1 - momentum).
inline void check_downpour_delivers(const Spawn& spawn, const std::string& scheme, int workers = 3,
                                    const std::string& wire = "f32") {
  Toy toy = common_toy(scheme, "jacobi", workers);
  toy.scheme.wire = wire;
  const double momentum = scheme == "mdownpour" ? toy.scheme.outer_momentum : 0;
  const auto nodes = spawn(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
    if (world.rank() == toy.scheme.workers) {
      auto center = toy_center(toy, world);
      SINEW_RETURN_IF_ERROR(center->serve(INT64_MAX).status());
      const SchemeState state = center->save();
      Numbers all;
      for (int s = 0; s < 6; ++s) {
        Numbers c = to_doubles(state.vectors.at("center." + std::to_string(s)).view());
        if (momentum != 0) {
          const Numbers v = to_doubles(state.vectors.at("velocity." + std::to_string(s)).view());
          for (size_t i = 0; i < v.size(); ++i) c[i] += momentum / (1 - momentum) * v[i];
        }
        all.insert(all.end(), c.begin(), c.end());
      }
      return all;
    }
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    Numbers moves(static_cast<size_t>(toy.size));
    double largest = 0;  // of one step
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      const Numbers v = to_doubles(worker.velocity().view());  // without momentum: this step's
      for (size_t i = 0; i < v.size(); ++i) moves[i] += v[i], largest = std::max(largest, std::abs(v[i]));
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    if (wire == "f32") return moves;
    const Numbers waits = to_doubles(worker.scheme().save().vectors.at("unsent").view());
    double most = 0;
    for (size_t i = 0; i < moves.size(); ++i) most = std::max(most, std::abs(waits[i])), moves[i] -= waits[i];
    // Not more than one rounding leaves of a difference of three steps and of what waited: int8 at most 1/127 of the
    // largest, bf16 less.
    if (!(most > 0 && most <= 3 * largest / 126)) return make_status(StatusCode::internal, most, " waits");
    return moves;
  });
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
  for (size_t i = 0; i < static_cast<size_t>(toy.size); i += 17) {
    double expected = toy.start;
    for (size_t r = 0; r + 1 < nodes.size(); ++r) expected += nodes[r].numbers.at(i) / (1 - momentum);
    ASSERT_NEAR(nodes.back().numbers.at(i), expected, 1e-11) << "element " << i;
  }
}

// Where workers serve the center, one that is silent while the others end (`spawn` has its faults) keeps nobody for
// ever and takes nothing along: without a learning rate the sum of all parameters and the center stays.
inline void check_ends_around_a_silent_worker(const Spawn& spawn, const std::string& label) {
  Toy toy = common_toy("easgd");
  served_by_workers(toy.scheme);
  toy.scheme.period = 1;
  toy.scheme.deadline = kSecond;
  toy.size = 12;  // four in each part, which begins with its worker's parameters
  toy.steps = 40;
  toy.lr = 0;
  toy.start_spread = 1;
  const auto nodes = spawn(3, [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    Communicator all(world, {0, 1, 2}, 30 * kSecond);
    SINEW_RETURN_IF_ERROR(all.barrier());
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      world.sleep(10 * kMillisecond);
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    Numbers numbers = to_doubles(worker.theta().view());
    if (world.rank() > 0) return numbers;
    Vec center = Vec::zeros(toy.size, toy.dtype);
    SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
    for (double c : to_doubles(center.view())) numbers.push_back(c);
    return numbers;
  });
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << label << ": " << node.status.message();
  for (size_t i = 0; i < 12; ++i) {
    double sum = nodes[0].numbers.at(12 + i);
    for (const NodeResult& node : nodes) sum += node.numbers.at(i);
    EXPECT_NEAR(sum, 1 + 2 + 3 + (1.0 + static_cast<double>(i / 4)), 1e-12) << label << ", element " << i;
  }
}

// ADMM: c, with what waits of rounding, is the mean of x - lambda over all workers, whatever is lost or late on the
// way.
inline void check_admm_center(const Spawn& spawn, const std::string& wire = "f32") {
  Toy toy = common_toy("admm");
  toy.scheme.wire = wire;
  toy.size = 33, toy.scheme.shard = 7;
  toy.scheme.deadline = 300 * kMillisecond;
  toy.lr = 0.3;
  const auto nodes = spawn(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
    if (world.rank() == toy.scheme.workers) return toy_run(world, toy);
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    SchemeState state = worker.scheme().save();
    double largest = 0;  // that the center has learned at once
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      const Numbers before = to_doubles(state.vectors.at("known_of_me").view());
      state = worker.scheme().save();
      const Numbers now = to_doubles(state.vectors.at("known_of_me").view());
      for (size_t i = 0; i < now.size(); ++i) largest = std::max(largest, std::abs(now[i] - before[i]) / 3);
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    if (!(norm(state.vectors.at("dual").view()) > 0.1)) return make_status(StatusCode::internal, "lambda stayed 0");
    Numbers known = to_doubles(state.vectors.at("known_of_me").view());
    if (wire == "f32") return known;
    const Numbers waits = to_doubles(state.vectors.at("unsent").view());
    double most = 0;
    for (size_t i = 0; i < known.size(); ++i) most = std::max(most, std::abs(waits[i])), known[i] -= 3 * waits[i];
    if (!(most > 0 && most <= largest / 126)) return make_status(StatusCode::internal, most, " waits");
    return known;
  });
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
  for (size_t i = 0; i < 33; ++i)
    ASSERT_NEAR(nodes[3].numbers[i], (nodes[0].numbers[i] + nodes[1].numbers[i] + nodes[2].numbers[i]) / 3, 1e-14);
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
