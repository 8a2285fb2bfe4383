// Dynamic weighting through the real schemes: the specification's golden vectors (appendix A, G1 and G2), its list of
// minimum tests (section 1.9) and the case it was made for, a worker that returns with bad parameters (section 1.8).
#include <gtest/gtest.h>

#include <cmath>

#include "core/philox.h"
#include "tests/support/toy_training.h"

namespace sinew::dist::testing {
namespace {

constexpr Nanos kStep = 10 * kMillisecond;
SimOptions steady(const std::string& faults = "") {
  return {.latency = kMicrosecond, .step_cost = kStep, .jitter = 0, .faults = parse_fault_plan(faults, "plan").value()};
}

// f = x^2 with eta = 0.1 is the toy's (x - b)^2 / 2 with a learning rate of 0.2, moved by b = 1.
Toy golden(const std::string& order, double momentum) {
  Toy toy;
  toy.scheme.name = "easgd";
  toy.scheme.alpha = 0.25;
  toy.scheme.period = 2;
  toy.scheme.update_order = order;
  toy.lr = 0.2;
  toy.momentum = momentum;
  toy.start = 2;
  toy.steps = 5;
  return toy;
}

// x, the velocity and the center after each step.
std::vector<Numbers> trace_of(const Toy& toy) {
  std::vector<Numbers> rows(toy.steps, Numbers(3));
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 1) {
      auto center = make_center(toy.scheme, world, 1, DType::f64);
      SINEW_RETURN_IF_ERROR(center->start(std::vector<double>{1.5}));
      world.sleep(kStep * 9 / 10);
      for (int64_t k = 0; k < toy.steps; ++k, world.sleep(kStep)) {
        std::vector<double> c(1);
        center->snapshot(c);
        rows[static_cast<size_t>(k)][2] = c[0] - 1;
      }
      return Numbers{};
    }
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      rows[static_cast<size_t>(k)][0] = to_doubles(worker.theta().view())[0] - 1;
      rows[static_cast<size_t>(k)][1] = to_doubles(worker.velocity().view())[0];
    }
    return Numbers{};
  };
  simulate(2, body, steady());
  return rows;
}

void expect_rows(const std::vector<Numbers>& rows, const std::vector<Numbers>& expected) {
  ASSERT_EQ(rows.size(), expected.size());
  for (size_t k = 0; k < rows.size(); ++k) {
    EXPECT_NEAR(rows[k][0], expected[k].front(), 1e-12) << "x after step " << k;
    if (expected[k].size() == 3) {
      EXPECT_NEAR(rows[k][1], expected[k][1], 1e-12) << "v after step " << k;
    }
    EXPECT_NEAR(rows[k][2], expected[k].back(), 1e-12) << "center after step " << k;
  }
}

TEST(DynamicWeighting, GoldenEasgdInBothOrders) {
  expect_rows(trace_of(golden("pre", 0)),
              {{0.675, 0.625}, {0.54, 0.625}, {0.45325, 0.60375}, {0.3626, 0.60375}, {0.3503675, 0.5434625}});
  expect_rows(trace_of(golden("post", 0)),
              {{0.7, 0.625}, {0.56, 0.625}, {0.461, 0.60875}, {0.3688, 0.60875}, {0.34303, 0.5487625}});
}

// The specification prints the last center of the pre order with a digit less, 0.410032.
TEST(DynamicWeighting, GoldenEamsgdInBothOrders) {
  expect_rows(trace_of(golden("pre", 0.9)), {{0.675, -0.2, 0.625},
                                             {0.396, -0.279, 0.625},
                                             {0.17317, -0.28008, 0.56775},
                                             {-0.0631216, -0.2362916, 0.56775},
                                             {-0.062909332, -0.157505632, 0.4100321}});
  expect_rows(trace_of(golden("post", 0.9)), {{0.7, -0.175, 0.625},
                                              {0.434, -0.266, 0.625},
                                              {0.19388, -0.28787, 0.57725},
                                              {-0.0521624, -0.2460424, 0.57725},
                                              {-0.092997968, -0.198188668, 0.4198969}});
}

// The order is the default's business too: post where weights differ, else Algorithm 1.
TEST(DynamicWeighting, DefaultOrder) {
  Toy pre = golden("pre", 0), post = golden("post", 0), fixed = golden("", 0), dynamic = golden("", 0);
  dynamic.scheme.weighting.rule = "dynamic";
  dynamic.scheme.weighting.kappa = INFINITY;
  EXPECT_EQ(trace_of(fixed), trace_of(pre));
  EXPECT_EQ(trace_of(dynamic), trace_of(post));
}

Toy noisy(const std::string& rule, int workers = 3);
std::vector<NodeResult> run(const Toy& toy, SimOptions options = steady());
void expect_same(const std::vector<NodeResult>& a, const std::vector<NodeResult>& b);

// Pairs of gossip: weights that cannot differ give the bits of fixed ones; and of a worker that comes back with bad
// parameters the others take less over, whichever end of an exchange it is.
TEST(DynamicWeighting, GossipPairs) {
  auto gossip = [](const std::string& rule) {
    Toy toy = noisy(rule, 4);
    toy.scheme.name = "elastic_gossip";
    toy.scheme.mode = "async";
    toy.scheme.alpha = 0.3;
    return toy;
  };
  Toy endless = gossip("dynamic");
  endless.scheme.weighting.kappa = INFINITY;
  expect_same(run(endless), run(gossip("fixed")));

  auto harm = [&](const std::string& rule, int64_t bad_step) {
    Toy toy = gossip(rule);
    toy.lr = 0.02;
    toy.scheme.weighting.coefficients = {1};
    int64_t logged = 0;
    toy.scheme.on_weights = [&](const WeighedContact& contact) {
      EXPECT_NE(std::string(contact.weights.reason), "");
      ++logged;
    };
    double most = 0;
    const auto nodes = in_simulation(steady())(4, [&](World& world) -> Result<Numbers> {
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      world.sleep(toy.stagger * world.rank());
      for (int64_t k = 0; k < 60; ++k) {
        if (world.rank() == 3 && k == bad_step) fill(worker.theta().mutable_view(), 100);
        SINEW_RETURN_IF_ERROR(worker.step(k));
        for (double x : to_doubles(worker.theta().view()))
          if (world.rank() < 3) most = std::max(most, std::abs(x));
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return Numbers{};
    });
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
    EXPECT_EQ(logged > 0, rule != "fixed");
    return most;
  };
  for (int64_t bad_step : {40, 41, 42, 43, 44}) {
    EXPECT_GT(harm("fixed", bad_step), 25);
    EXPECT_LT(harm("dynamic", bad_step), 5);
  }
}

// A rule of one's own on a pair: of what it gives, the suspicion. Worker 1 asks, worker 0 answers.
TEST(DynamicWeighting, ACustomRuleOnAPairGivesItsSuspicion) {
  constexpr double kAlpha = 0.3, kAsker = 0.5, kAnswerer = 0.25;
  for (const char* scheme : {"adpsgd", "elastic_gossip"}) {
    std::vector<WeighedContact> logged;
    const auto body = [&](World& world) -> Result<Numbers> {
      Toy toy;
      toy.scheme.name = scheme;
      if (toy.scheme.name == "elastic_gossip") toy.scheme.mode = "async";
      toy.scheme.workers = 2;
      toy.scheme.alpha = kAlpha;
      toy.scheme.period = 1;
      toy.lr = 0;
      toy.start_spread = 2;
      if (world.rank() == 1)
        toy.scheme.weighting.custom = [](const WeightingOptions&, const Evidence&) {
          return Weights{.worker = 0.9, .center = 0.7, .suspicion = kAsker};
        };
      else
        toy.scheme.weighting.custom = [](const WeightingOptions&, const Evidence& e) {
          EXPECT_NEAR(e.log_distances[0], std::log(2.0), 1e-12);
          return Weights{.worker = 0.1, .center = 0.2, .suspicion = kAnswerer, .reason = "its own"};
        };
      toy.scheme.on_weights = [&](const WeighedContact& c) { logged.push_back(c); };
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      world.sleep(world.rank() == 0 ? kSecond : kSecond / 2);
      SINEW_RETURN_IF_ERROR(worker.step(0));
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return to_doubles(worker.theta().view());
    };
    const auto nodes = simulate(2, body, steady("suppress rank=0 probability=1")).nodes;
    for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
    const double asker = (kAlpha + (1 - kAlpha) * kAsker) * (1 - kAnswerer);
    const double answerer = (kAlpha + (1 - kAlpha) * kAnswerer) * (1 - kAsker);
    EXPECT_NEAR(nodes[1].numbers[0], 3 - asker * 2, 1e-12) << scheme;
    EXPECT_NEAR(nodes[0].numbers[0], 1 + answerer * 2, 1e-12) << scheme;
    ASSERT_EQ(logged.size(), 1u) << scheme;
    EXPECT_NEAR(logged[0].weights.worker, answerer, 1e-15);
    EXPECT_NEAR(logged[0].weights.center, asker, 1e-15);
    EXPECT_STREQ(logged[0].weights.reason, "its own");
  }
}

Toy noisy(const std::string& rule, int workers) {
  Toy toy;
  toy.scheme.name = "easgd";
  toy.scheme.workers = workers;
  toy.scheme.alpha = 0.1;
  toy.scheme.period = 2;
  toy.scheme.shard = 7;
  toy.scheme.weighting.rule = rule;
  toy.size = 33;
  toy.noise = 0.5;
  toy.steps = 60;
  toy.stagger = kStep / 10;
  return toy;
}

std::vector<NodeResult> run(const Toy& toy, SimOptions options) {
  auto nodes = simulate(
                   node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); }, std::move(options))
                   .nodes;
  for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
  return nodes;
}

void expect_same(const std::vector<NodeResult>& a, const std::vector<NodeResult>& b) {
  for (size_t r = 0; r < a.size(); ++r) EXPECT_EQ(a[r].numbers, b[r].numbers) << "rank " << r;
}

TEST(DynamicWeighting, AnInfiniteKappaIsFixedBitForBit) {
  for (const char* scheme : {"easgd", "easgd_sync"})
    for (const char* order : {"pre", "post"}) {
      Toy fixed = noisy("fixed"), dynamic = noisy("dynamic");
      fixed.scheme.name = dynamic.scheme.name = scheme;
      fixed.scheme.update_order = dynamic.scheme.update_order = order;
      dynamic.scheme.weighting.kappa = INFINITY;
      expect_same(run(dynamic), run(fixed));
      dynamic.scheme.weighting.kappa = 0.01;
      EXPECT_NE(run(dynamic)[0].numbers, run(fixed)[0].numbers) << "finite, it differs";
    }
}

TEST(DynamicWeighting, ASuppressedWorkerIsAloneBitForBit) {
  for (const char* rule : {"fixed", "dynamic", "oracle"}) {
    Toy toy = noisy(rule), alone = toy;
    alone.scheme.name = "local";
    alone.scheme.weighting = {};
    const auto nodes = run(toy, steady("suppress rank=1 probability=1")), expected = run(alone);
    EXPECT_EQ(nodes[1].numbers, expected[1].numbers);
    EXPECT_NE(nodes[0].numbers, expected[0].numbers);
  }
}

// One exchange, whose ADD is lost: the worker is pulled, the center stays; the next exchange delivers it.
TEST(DynamicWeighting, ALostAddLeavesTheCenterUnchanged) {
  Toy toy = noisy("dynamic", 1);
  toy.lr = 0;
  toy.start_spread = 0;
  toy.steps = 3;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 1) {
      auto center = make_center(toy.scheme, world, toy.size, toy.dtype);
      SINEW_RETURN_IF_ERROR(center->start(std::vector<double>(toy.size, 0.0)));
      std::vector<double> c(toy.size);
      world.sleep(20 * kMillisecond);
      center->snapshot(c);
      EXPECT_EQ(c, std::vector<double>(toy.size, 0.0));
      world.sleep(20 * kMillisecond);
      center->snapshot(c);
      EXPECT_NEAR(c[0], 0.1 + 0.1 * (0.9 - 0), 1e-15) << "both, late";
      return Numbers{};
    }
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    world.sleep(kMillisecond - world.now());
    SINEW_RETURN_IF_ERROR(worker.step(0));
    EXPECT_EQ(to_doubles(worker.theta().view())[0], 0.9);
    SINEW_RETURN_IF_ERROR(worker.step(1));
    SINEW_RETURN_IF_ERROR(worker.step(2));
    return Numbers{};
  };
  // FETCH leaves at 1 ms, the answer is back 2 us (and its bytes) later, and ADD leaves then.
  const auto nodes = simulate(2, body, steady("drop from=0 to=1 after=1001us until=5ms")).nodes;
  for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
}

// With weights h1, h2 in [0, 1], whatever they are, no norm grows in the post order for 0 <= eta h <= 2 (section 1.6).
TEST(DynamicWeighting, PostOrderNeverGrows) {
  WeightingOptions random{.rule = "dynamic"};
  random.custom = [](const WeightingOptions&, const Evidence& e) {
    const RngKey key{5, uint32_t(RngPurpose::test), static_cast<uint32_t>(e.round), 0};
    const auto bits = static_cast<uint64_t>(e.log_distances.empty() ? 0 : std::fabs(e.log_distances[0]) * 1e6);
    return Weights{uniform01(philox_u64(key, 2 * bits)), uniform01(philox_u64(key, 2 * bits + 1))};
  };
  for (double e : {0.1, 1.0, 1.9, 2.0}) {
    SchemeOptions scheme{.name = "easgd", .workers = 3, .period = 1, .alpha = 0.1};
    scheme.weighting = random;
    double largest = 0;
    auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() == 3) {
        auto center = make_center(scheme, world, 4, DType::f64);
        SINEW_RETURN_IF_ERROR(center->start(std::vector<double>{0.5, -0.5, 0.5, -0.5}));
        world.sleep(50 * kStep + kStep / 2);
        std::vector<double> c(4);
        center->snapshot(c);
        largest = std::max(largest, norm(ConstVecView(c)));
        return c;
      }
      std::vector<double> x(4);
      for (size_t i = 0; i < 4; ++i) x[i] = i == static_cast<size_t>(world.rank()) ? 1 : 0;
      auto worker = make_scheme(scheme, world, 4, DType::f64);
      SINEW_RETURN_IF_ERROR(worker->start(x));
      world.sleep(world.rank() * kStep / 4);
      for (int64_t k = 0; k < 50; ++k) {
        SINEW_RETURN_IF_ERROR(worker->before_step(k, x));
        world.compute({1}, [&] { axpby(1 - e, ConstVecView(x), 0, x, x); });
        SINEW_RETURN_IF_ERROR(worker->after_step(k, x));
        largest = std::max(largest, norm(ConstVecView(x)));
      }
      return Numbers(x);
    };
    const auto nodes = simulate(4, body, steady()).nodes;
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
    EXPECT_LE(largest, 1 + 1e-12) << e;
    if (e != 1) {  // there, every x is 0 after the first step
      EXPECT_GT(largest, 1e-4) << e << ": nothing to see";
    }
  }
}

// A worker that adopts has the center's values, and the center nothing of the worker's.
TEST(DynamicWeighting, AFailedWorkerAdoptsTheCenter) {
  for (const char* scheme : {"easgd", "easgd_sync"})
    for (const char* order : {"pre", "post"})
      for (double bad : {50.0, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
        Toy toy = noisy("dynamic");
        toy.scheme.name = scheme;
        toy.scheme.update_order = order;
        std::vector<WeighedContact> logged;
        const auto nodes = simulate(
                               node_count(toy.scheme),
                               [&](World& world) -> Result<Numbers> {
                                 if (world.rank() != 1) return toy_run(world, toy);
                                 Toy mine = toy;
                                 mine.scheme.on_weights = [&](const WeighedContact& c) { logged.push_back(c); };
                                 ToyWorker worker(mine, world);
                                 SINEW_RETURN_IF_ERROR(worker.start());
                                 world.sleep(toy.stagger);
                                 for (int64_t k = 0; k < toy.steps; ++k) {
                                   if (k == 40) fill(worker.theta().mutable_view(), bad);
                                   SINEW_RETURN_IF_ERROR(worker.step(k));
                                 }
                                 SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
                                 return to_doubles(worker.theta().view());
                               },
                               steady())
                               .nodes;
        const std::string label = std::string(scheme) + " " + order + " " + std::to_string(bad);
        for (size_t r = 0; r < nodes.size(); ++r) {
          ASSERT_TRUE(nodes[r].finished) << label << ": " << nodes[r].status.message();
          for (double v : nodes[r].numbers) ASSERT_LT(std::fabs(v), r == 1 ? 10 : 1.6) << label << " rank " << r;
        }
        const auto at = std::find_if(logged.begin(), logged.end(), [](const auto& c) { return c.round == 20; });
        ASSERT_NE(at, logged.end()) << label;
        EXPECT_EQ(at->weights.worker, 1) << label;
        EXPECT_EQ(at->weights.center, 0) << label;
        EXPECT_STREQ(at->weights.reason,
                     std::isfinite(bad) ? "failed: the distance jumps" : "failed: the distance is not finite");
        EXPECT_EQ(std::isfinite(at->distance), std::isfinite(bad));
      }
}

// Who was stopped for long, or is not finite with fixed weights, adopts the center: weights of 1 and 0, which are
// reported. What it remembers of its distance is of other parameters, and forgotten.
TEST(DynamicWeighting, WhoAdoptsReportsItAndForgets) {
  for (const char* rule : {"fixed", "dynamic", "oracle"})
    for (const bool stopped : {true, false}) {
      if (!stopped && rule != std::string("fixed")) continue;  // above
      Toy toy = noisy(rule);
      toy.steps = 200;
      std::vector<WeighedContact> adopted;
      std::vector<int64_t> remembered;
      int64_t most = 0;
      const auto body = [&](World& world) -> Result<Numbers> {
        if (world.rank() != 1) return toy_run(world, toy);
        Toy mine = toy;
        mine.scheme.on_weights = [&](const WeighedContact& c) {
          if (c.weights.worker == 1) adopted.push_back(c);
        };
        ToyWorker worker(mine, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = 0; k < toy.steps; ++k) {
          if (k == 40 && !stopped) fill(worker.theta().mutable_view(), NAN);
          const size_t before = adopted.size();
          SINEW_RETURN_IF_ERROR(worker.step(k));
          const int64_t contacts = worker.scheme().save().numbers.at("weighting.contacts");
          if (adopted.size() > before) remembered.push_back(contacts);
          most = std::max(most, contacts);
        }
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        return to_doubles(worker.theta().view());
      };
      const auto nodes = simulate(4, body, steady(stopped ? "pause rank=1 at=401ms for=1500ms" : "")).nodes;
      for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
      ASSERT_EQ(adopted.size(), 1u) << rule;
      EXPECT_EQ(adopted[0].weights.center, 0) << rule;
      EXPECT_STREQ(adopted[0].weights.reason,
                   stopped ? "stopped: the others went on" : "failed: the distance is not finite");
      EXPECT_EQ(adopted[0].round, stopped ? 21 : 20) << rule;
      EXPECT_EQ(stopped, adopted[0].distance > 0) << rule;
      EXPECT_EQ(remembered, std::vector<int64_t>{0}) << rule;
      if (rule != std::string("fixed")) {
        EXPECT_EQ(most, 5) << "it had something to forget";
      }
    }
}

// Every contact whose weights are not alpha is reported, and no other; an oracle's are those after a missed one.
TEST(DynamicWeighting, TheOracleReportsEachContactAfterAMiss) {
  for (const char* scheme : {"easgd", "easgd_sync"}) {
    Toy toy = noisy("oracle");
    toy.scheme.name = scheme;
    const SimOptions options = steady("suppress rank=* probability=0.3");
    std::vector<int64_t> reported, expected;
    for (int64_t round = 1; round < 30; ++round)
      if (plan_suppresses(options.faults, 0, round - 1) && !plan_suppresses(options.faults, 0, round))
        expected.push_back(round);
    const auto nodes = simulate(
                           node_count(toy.scheme),
                           [&](World& world) {
                             Toy mine = toy;
                             if (world.rank() == 0)
                               mine.scheme.on_weights = [&](const WeighedContact& c) { reported.push_back(c.round); };
                             return toy_run(world, mine);
                           },
                           options)
                           .nodes;
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
    EXPECT_EQ(reported, expected) << scheme;
    EXPECT_GT(expected.size(), 3u);
  }
}

// What follows the parameters in the mixed vector (batch norm's statistics) moves with them but is not measured.
TEST(DynamicWeighting, BuffersDoNotCount) {
  auto weights_with = [](double buffers, int64_t scored) {
    Toy toy = noisy("dynamic", 1);
    toy.scheme.parameters = scored;
    toy.scheme.weighting.kappa = 1e-9;
    toy.scheme.weighting.warmup_rounds = 0;
    std::vector<double> distances;
    auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() == 1) return toy_run(world, toy);
      Toy mine = toy;
      mine.scheme.on_weights = [&](const WeighedContact& c) { distances.push_back(c.distance); };
      ToyWorker worker(mine, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      fill(worker.theta().mutable_view().slice(20, 13), buffers);
      for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      EXPECT_LT(std::fabs(to_doubles(worker.theta().view())[32]), buffers) << "they move";
      return Numbers{};
    };
    const auto nodes = simulate(2, body, steady()).nodes;
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
    EXPECT_FALSE(distances.empty());
    return distances;
  };
  EXPECT_EQ(weights_with(10, 20), weights_with(1000, 20));
  EXPECT_NE(weights_with(10, -1), weights_with(1000, -1));
}

// All workers jump in the same round. Each sees the scores of those that were at the center before it; from the third
// on, half of the others have jumped.
TEST(DynamicWeighting, AJumpOfAllIsNobodysFailure) {
  auto failures = [](bool peers) {
    Toy toy = noisy("dynamic", 4);
    toy.scheme.weighting.peers = peers;
    int count = 0;
    auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() == 4) return toy_run(world, toy);
      Toy mine = toy;
      mine.scheme.on_weights = [&](const WeighedContact& c) { count += c.round == 20 && c.weights.worker == 1; };
      ToyWorker worker(mine, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      world.sleep(toy.stagger * world.rank());
      for (int64_t k = 0; k < toy.steps; ++k) {
        if (k == 40) fill(worker.theta().mutable_view(), 50);
        SINEW_RETURN_IF_ERROR(worker.step(k));
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return Numbers{};
    };
    const auto nodes = simulate(5, body, steady()).nodes;
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
    return count;
  };
  EXPECT_EQ(failures(false), 4);
  EXPECT_EQ(failures(true), 2);
}

// Section 1.8, the last row of its table: a worker that was cut off returns with corrupted parameters. Mean squared
// distance of the center from the optimum over the second half of 500 rounds.
double corrupted_loss(const std::string& rule, double sign = 1) {
  constexpr int kWorkers = 4;
  SchemeOptions scheme{.name = "easgd", .workers = kWorkers, .period = 4, .alpha = 0.1};
  scheme.weighting.rule = rule;
  scheme.weighting.score_sign = sign;
  scheme.update_order = "post";
  constexpr int64_t kRounds = 500, kSize = 40;
  const SimOptions options = steady("suppress rank=* probability=0.3333");
  double loss = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    std::vector<double> x(kSize, 1.0), noise(kSize);
    if (world.rank() == kWorkers) {
      auto center = make_center(scheme, world, kSize, DType::f64);
      SINEW_RETURN_IF_ERROR(center->start(x));
      for (int64_t round = 0; round < kRounds; ++round) {
        world.sleep(4 * kStep);
        center->snapshot(x);
        if (round >= kRounds / 2) loss += dot(ConstVecView(x), ConstVecView(x)) / 2 / (kRounds - kRounds / 2);
      }
      SINEW_RETURN_IF_ERROR(center->serve(INT64_MAX).status());
      return Numbers{};
    }
    auto worker = make_scheme(scheme, world, kSize, DType::f64);
    SINEW_RETURN_IF_ERROR(worker->start(x));
    world.sleep(world.rank() * kStep / 10);
    const auto rank = static_cast<uint32_t>(world.rank());
    auto random = [&](uint64_t step, double size) {
      for (int64_t i = 0; i < kSize; ++i)
        noise[i] = size * (2 * uniform01(philox_u64({11, uint32_t(RngPurpose::test), rank, step}, i)) - 1);
    };
    int missed = 0;
    for (int64_t k = 0; k < 4 * kRounds; ++k) {
      if (k % 4 == 0) {
        const bool down = plan_suppresses(options.faults, world.rank(), k / 4);
        if (!down && missed >= 3) {
          random(1'000'000 + static_cast<uint64_t>(k), 20);
          axpby(1, ConstVecView(x), 1, noise, x);
        }
        missed = down ? missed + 1 : 0;
      }
      SINEW_RETURN_IF_ERROR(worker->before_step(k, x));
      random(static_cast<uint64_t>(k), 1);
      world.compute({1}, [&] {
        for (int64_t i = 0; i < kSize; ++i) x[i] -= 0.05 * (x[i] + noise[i]);
      });
      SINEW_RETURN_IF_ERROR(worker->after_step(k, x));
    }
    return worker->finish(x).ok() ? Numbers{} : Numbers{1};
  };
  const auto nodes = simulate(kWorkers + 1, body, options).nodes;
  for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
  return loss;
}

TEST(DynamicWeighting, BadParametersDoNotReachTheCenter) {
  const double fixed = corrupted_loss("fixed"), dynamic = corrupted_loss("dynamic"),
               mirrored = corrupted_loss("dynamic", -1);
  EXPECT_LT(dynamic, fixed / 10) << fixed;
  EXPECT_GT(mirrored, fixed / 3) << fixed << ": with the sign turned round there is no protection";
}

}  // namespace
}  // namespace sinew::dist::testing
