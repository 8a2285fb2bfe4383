#include "dist/scheme.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/guard_device.h"
#include "tests/support/scheme_bodies.h"
#include "tests/support/toy_training.h"

namespace sinew::dist::testing {
namespace {

FaultPlan plan(const std::string& text) { return parse_fault_plan(text, "plan").value(); }

SimulatedRun run_toy(const Toy& toy, SimOptions options = {}) {
  return simulate(
      node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); }, std::move(options));
}

class Schemes : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(All, Schemes, ::testing::ValuesIn(kVariants), label_of);

void expect_same(const SimulatedRun& a, const SimulatedRun& b) {
  EXPECT_EQ(a.report.trace_hash, b.report.trace_hash);
  EXPECT_EQ(a.report.virtual_time, b.report.virtual_time);
  for (size_t r = 0; r < a.nodes.size(); ++r) {
    EXPECT_EQ(a.nodes[r].finished, b.nodes[r].finished) << "rank " << r;
    EXPECT_EQ(a.nodes[r].numbers, b.nodes[r].numbers) << "rank " << r;
  }
}

TEST_P(Schemes, RepeatableAndIndependentOfScheduling) {
  for (DType dtype : {DType::f32, DType::f64}) {
    Toy toy = toy_of(GetParam());
    toy.dtype = dtype;
    SimulatedRun run = run_toy(toy);
    for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
    expect_same(run, run_toy(toy));
    expect_same(run, run_toy(toy, {.always_yield = true}));
    expect_same(run, run_toy(toy, {.threads = 3}));
    SimulatedRun other = run_toy(toy, {.seed = 2});
    EXPECT_NE(run.report.nodes[0].time, other.report.nodes[0].time);
    if (!is_alone(toy.scheme)) {
      EXPECT_NE(run.report.trace_hash, other.report.trace_hash);
    }
  }
}

TEST_P(Schemes, RepeatableUnderFaults) {
  Toy toy = toy_of(GetParam());
  const bool survives = takes_workers_back(toy.scheme);
  toy.scheme.deadline = 300 * kMillisecond;
  SimOptions options{.restarts = 1, .restart_delay = 20 * kMillisecond};
  options.faults = plan(std::string("slow rank=1 factor=3 after=20ms until=90ms\n"
                                    "pause rank=2 at=33ms for=40ms\n"
                                    "delay from=3 to=* by=2ms\n"
                                    "suppress rank=* probability=0.2\n") +
                        (survives ? "drop from=* to=* probability=0.05\nkill rank=0 at=61ms\nkill rank=3 step=9" : ""));
  SimulatedRun run = run_toy(toy, options);
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
  expect_same(run, run_toy(toy, options));
  options.always_yield = true;
  expect_same(run, run_toy(toy, options));
  options.always_yield = false, options.threads = 3;
  expect_same(run, run_toy(toy, options));
}

std::vector<Variant> elastic_variants() {
  std::vector<Variant> all(std::begin(kVariants), std::end(kVariants));
  std::erase_if(all, [](const Variant& v) { return !v.elastic; });
  return all;
}
class ElasticSchemes : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(All, ElasticSchemes, ::testing::ValuesIn(elastic_variants()), label_of);

TEST_P(ElasticSchemes, WithoutMovingItIsPlainSgd) {
  Toy toy = toy_of(GetParam(), always_mixes(toy_of(GetParam()).scheme) ? 1 : 4);
  toy.scheme.alpha = 0;
  toy.scheme.beta = 0;
  if (toy.scheme.name == "gosgd") toy.scheme.probability = 0;
  Toy plain = toy;
  plain.scheme.name = "local";
  plain.scheme.weighting = {};
  plain.scheme.wire = "f32";
  plain.scheme.servers = "1";
  plain.scheme.overlap = 0;
  for (DType dtype : {DType::f32, DType::f64}) {
    toy.dtype = plain.dtype = dtype;
    SimulatedRun run = run_toy(toy), expected = run_toy(plain);
    for (Rank r = 0; r < toy.scheme.workers; ++r) {
      ASSERT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
      EXPECT_EQ(run.nodes[r].numbers, expected.nodes[r].numbers);
    }
    if (center_is_measured(toy.scheme)) {
      EXPECT_EQ(run.nodes.back().numbers, Numbers(toy.size, toy.start)) << "the center must stay";
    }
  }
}

// Schemes that mix after the step leave the point of the gradient alone; Gauss-Seidel and DOWNPOUR move it first.
TEST_P(Schemes, TakesTheGradientAtTheRightPoint) {
  Toy toy = toy_of(GetParam(), 2);
  toy.scheme.alpha = 0.25;
  toy.scheme.period = 1;
  toy.scheme.probability = 1;
  if (needs_center(toy.scheme)) toy.scheme.overlap = 0;  // it is below the period
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() >= 2) return toy_run(world, toy);
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    int moved_before = 0, moved_after = 0;
    for (int64_t k = 0; k < 5; ++k) {
      Numbers before = to_doubles(worker.theta().view()), exchanged;
      Vec velocity = worker.velocity().clone();
      worker.after_exchange = [&](int64_t) { exchanged = to_doubles(worker.theta().view()); };
      SINEW_RETURN_IF_ERROR(worker.step(k));
      moved_before += exchanged != before;
      if (toy.momentum == 0) {
        EXPECT_EQ(to_doubles(worker.evaluated_at().view()), exchanged);
      }
      // What the optimizer alone makes of it:
      Vec alone = Vec::copy_of(exchanged);
      axpby(1, worker.velocity().view(), 1, alone.view(), alone.mutable_view());
      moved_after += to_doubles(worker.theta().view()) != to_doubles(alone.view());
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    const std::string& name = toy.scheme.name;
    const bool mixes = !is_alone(toy.scheme) && name != "allreduce";
    const bool before = worker.scheme().mixes() == Mixes::before;
    const bool pulls_first = (name.ends_with("downpour") && name != "mdownpour") || name == "easgd_tree";
    const bool exchanges_last =
        name == "mdownpour" || name == "local_sgd" || name == "admm";  // after the first step, too
    const bool weighs = !is_fixed(toy.scheme.weighting) && name != "adpsgd";
    EXPECT_EQ(before, toy.scheme.order == "gauss_seidel" || pulls_first || weighs);
    const bool exact = toy.scheme.wire == "f32" || name == "easgd_tree";
    // All are equal in the first step, before its gradient; some mix after it, too. DOWNPOUR moves a worker only when
    // the other was at the center in between, or its answer is rounded; a tree's answers come a step later. What comes
    // in by itself may come later.
    EXPECT_EQ(moved_before, mixes && before ? (pulls_first && exact ? 3 : 4) : 0);
    const bool asynchronous = toy.scheme.mode == "async" || name == "gosgd" || name == "adpsgd" || toy.scheme.overlap;
    const int moves = exchanges_last || toy.scheme.mixing == "atc" || name == "sgp" ? 5 : 4;
    if (name == "lsgd" || name == "lgd") return Numbers{};  // who leads does not move: tests/dist/leader_test.cpp
    if (asynchronous)
      EXPECT_GE(moved_after, 2);
    else
      EXPECT_EQ(moved_after, mixes && !before ? moves : 0);
    EXPECT_EQ(worker.scheme().take_external_write() > 0, mixes);
    EXPECT_EQ(worker.scheme().take_external_write(), 0);
    return Numbers{};
  };
  SimulatedRun run = simulate(node_count(toy.scheme), body);
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
}

// Parameters on a device whose memory host code cannot touch: the same bits.
TEST_P(Schemes, WorksOnDeviceMemory) {
  sinew::testing::install_guard_device();
  Toy toy = toy_of(GetParam());
  SimulatedRun expected = run_toy(toy);
  toy.device = Device::guard;
  expect_same(run_toy(toy), expected);
}

TEST(Scheme, AllReduceStepsWithTheMeanGradient) {
  Toy toy = toy_of(kVariants[1], 3);
  toy.noise = 0;
  SimulatedRun run = run_toy(toy);
  EXPECT_EQ(run.nodes[1].numbers, run.nodes[0].numbers);
  EXPECT_EQ(run.nodes[2].numbers, run.nodes[0].numbers);
  double x = toy.start, b = (toy.b(0) + toy.b(1) + toy.b(2)) / 3;
  for (int64_t k = 0; k < toy.steps; ++k) x -= toy.lr * (x - b);
  for (double v : run.nodes[0].numbers) EXPECT_NEAR(v, x, 1e-14);
}

TEST(Scheme, ReportsTheMovementOfOthers) {
  Toy toy = toy_of(kVariants[4], 2);
  toy.scheme.alpha = 0.5;
  toy.scheme.period = 1;
  toy.start_spread = 2;  // worker 1 starts at 3, worker 0 at 1; each thinks that the center started there
  auto body = [&](World& world) -> Result<Numbers> {
    auto scheme = make_scheme(toy.scheme, world, 4, DType::f64);
    std::vector<double> theta(4, 1.0);
    SINEW_RETURN_IF_ERROR(scheme->start(theta));
    std::fill(theta.begin(), theta.end(), 3.0);  // x - c = 2, d = 1
    SINEW_RETURN_IF_ERROR(scheme->before_step(0, theta));
    EXPECT_EQ(theta[0], 3.0);
    EXPECT_EQ(scheme->take_external_write(), 0);
    SINEW_RETURN_IF_ERROR(scheme->after_step(0, theta));
    EXPECT_EQ(theta[0], 2.0);
    EXPECT_EQ(scheme->take_external_write(), 4.0);  // 4 elements moved by 1
    return Numbers{};
  };
  EXPECT_TRUE(simulate(2, body).nodes[0].finished);
}

TEST(Scheme, SuppressedExchangesAreSkippedAndCounted) {
  for (const char* name : {"easgd", "easgd_sync", "downpour"}) {
    Toy toy = toy_of(kVariants[2], 3);
    toy.scheme.name = name;
    FaultPlan faults = plan("suppress rank=* probability=0.4");
    auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() == 3) return toy_run(world, toy);
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      int64_t expected = 0;
      for (int64_t k = 0; k < toy.steps; ++k) {
        expected += k % 3 == 0 && plan_suppresses(faults, world.rank(), k / 3);
        SINEW_RETURN_IF_ERROR(worker.step(k));
      }
      EXPECT_EQ(worker.scheme().counters().missed, expected);
      EXPECT_EQ(worker.scheme().counters().exchanges, 7 - expected);
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return Numbers{};
    };
    SimulatedRun run = simulate(node_count(toy.scheme), body, {.faults = faults});
    for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
  }
}

TEST(Scheme, ARestartedWorkerAdoptsTheCenter) {
  Toy toy = toy_of(kVariants[2], 2);
  toy.start_spread = 100;  // a fresh start would be far away
  bool adopted = false;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.incarnation() == 0) return toy_run(world, toy);
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    adopted = true;
    for (double v : to_doubles(worker.theta().view())) EXPECT_LT(v, 100);
    Vec known = Vec::zeros(toy.size, toy.dtype);
    SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), known.mutable_view()));
    EXPECT_EQ(to_doubles(known.view()), to_doubles(worker.theta().view()));
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    return Numbers{};
  };
  SimulatedRun run = simulate(3, body, {.restarts = 1, .faults = plan("kill rank=1 at=45ms")});
  EXPECT_TRUE(adopted);
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
}

TEST(Scheme, WithoutRestartsTheOthersFinish) {
  Toy toy = toy_of(kVariants[2], 3);
  SimulatedRun run = run_toy(toy, {.faults = plan("kill rank=1 at=45ms")});
  EXPECT_FALSE(run.nodes[1].finished);
  for (Rank r : {0, 2, 3}) EXPECT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
}

// A worker that was stopped for so long that its parameters are of no use takes over the center.
TEST(Scheme, AWorkerThatWasStoppedForLongAdoptsTheCenter) {
  for (const char* weighting : {"fixed", "dynamic"}) {
    Toy toy;
    toy.scheme = {.name = "easgd", .workers = 3, .period = 1, .shard = 5, .deadline = kSecond};
    toy.scheme.weighting.rule = weighting;
    toy.size = 12;
    toy.steps = 700;
    toy.lr = 0;
    toy.start_spread = 1;
    auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() != 2) return toy_run(world, toy);
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      fill(worker.theta().mutable_view(), 100);
      for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return to_doubles(worker.theta().view());
    };
    SimulatedRun run = simulate(4, body, {.faults = plan("pause rank=2 step=0 for=4s")});
    for (Rank r = 0; r < 4; ++r) {
      ASSERT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
      for (double v : run.nodes[r].numbers) EXPECT_LT(v, 3) << weighting << ", rank " << r;
    }
  }
}

// The center dies, comes back, is gone for good; so does the worker that has taken it over. The others find the new
// one.
TEST(Scheme, SomebodyTakesADeadCentersPlace) {
  struct Case {
    const char* faults;
    int restarts;
    Rank host;  // who is the center at the end
  };
  for (const char* scheme : {"easgd", "downpour", "mdownpour"})
    for (const Case& c : {Case{"kill rank=4 at=155ms", 0, 0}, Case{"kill rank=4 at=155ms", 1, 4},
                          Case{"kill rank=4 at=155ms\nkill rank=0 at=1s", 0, 1},
                          Case{"kill rank=0 at=155ms\nkill rank=4 at=500ms", 0, 1},
                          Case{"kill rank=4 at=155ms\nkill rank=4 at=1500ms\nkill rank=0 at=2500ms", 1, 0}}) {
      Toy toy;
      toy.scheme = {.name = scheme, .workers = 4, .period = 1, .shard = 5, .deadline = kSecond};
      toy.size = 12;
      toy.steps = 500;
      toy.lr = std::string(scheme) == "easgd" ? 0 : 0.01;
      toy.start_spread = 1;
      std::vector<std::string> notes;
      toy.scheme.on_note = [&](const std::string& note) { notes.push_back(note); };
      Numbers seen_center;
      auto body = [&](World& world) -> Result<Numbers> {
        if (world.rank() == 4) {
          Result<Numbers> center = toy_run(world, toy);
          if (center.ok()) seen_center = *center;
          return center;
        }
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        Vec center = Vec::zeros(toy.size, toy.dtype);
        SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
        if (world.rank() == c.host) seen_center = to_doubles(center.view());
        return to_doubles(worker.theta().view());
      };
      SimulatedRun run =
          simulate(5, body, {.restarts = c.restarts, .restart_delay = 200 * kMillisecond, .faults = plan(c.faults)});
      const std::string label = detail::concat(scheme, ": ", c.faults, ", restarts ", c.restarts);
      int living = 0;
      double low = 1e9, high = -1e9;
      for (Rank r = 0; r < 4; ++r) {
        const auto what = run.report.nodes[r].what;
        EXPECT_TRUE(what == NodeOutcome::What::finished || what == NodeOutcome::What::killed)
            << label << ", rank " << r << ": " << run.nodes[r].status.message();
        if (!run.nodes[r].finished) continue;
        ++living;
        for (double v : run.nodes[r].numbers) low = std::min(low, v), high = std::max(high, v);
      }
      EXPECT_GE(living, 3) << label;
      ASSERT_EQ(seen_center.size(), 12u) << label;
      // Elastic forces alone draw all together, far from where a new start would be.
      const bool still = toy.lr == 0;
      EXPECT_LT(high - low, still ? 1e-6 : 2) << label;
      for (double v : seen_center) {
        EXPECT_GT(v, low - (still ? 1e-6 : 1)) << label;
        EXPECT_LT(v, high + (still ? 1e-6 : 1)) << label;
      }
      if (still) {
        EXPECT_GT(low, 1.5) << label << ": the workers began at 1, 2, 3 and 4";
      }
      EXPECT_EQ(notes.empty(), c.host == 4) << label;
    }
}

// They go on without it, with equal bits.
TEST(Scheme, SynchronousSchemesSurviveADeath) {
  for (const Variant& v : {kVariants[1], kVariants[4], kVariants[5], Variant{"local_sgd", "local_sgd"}})
    for (const char* faults : {"kill rank=1 at=45ms", "kill rank=0 at=85ms\nkill rank=3 at=95ms"}) {
      Toy toy = toy_of(v, 5);
      SimulatedRun run = run_toy(toy, {.faults = plan(faults)});
      for (Rank r = 0; r < 5; ++r) {
        if (run.report.nodes[r].what == NodeOutcome::What::killed) continue;
        EXPECT_TRUE(run.nodes[r].finished) << v.label << ": " << run.nodes[r].status.message();
        if (toy.scheme.name != "easgd_sync") {
          EXPECT_EQ(run.nodes[r].numbers, run.nodes[2].numbers) << v.label << " rank " << r;
        }
      }
    }
}

// A worker whose parameters are not finite does not reach the center or the others, and comes back.
TEST(Scheme, NonFiniteDifferencesAreRefused) {
  for (const auto& [scheme, order, weighting] : {std::tuple{"easgd", "jacobi", "fixed"},
                                                 {"eamsgd", "jacobi", "fixed"},
                                                 {"easgd_sync", "jacobi", "fixed"},
                                                 {"easgd_sync", "gauss_seidel", "fixed"},
                                                 {"easgd_sync", "jacobi", "dynamic"},
                                                 {"easgd_sync", "jacobi", "oracle"},
                                                 {"downpour", "jacobi", "fixed"},
                                                 {"mdownpour", "jacobi", "fixed"},
                                                 {"adownpour", "jacobi", "fixed"},
                                                 {"admm", "jacobi", "fixed"}}) {
    Toy toy = common_toy(scheme, order);
    toy.scheme.weighting.rule = weighting;
    toy.steps = 12;
    std::string adopted;
    const auto nodes = in_simulation()(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
      if (world.rank() != 1) return toy_run(world, toy);
      toy.scheme.on_weights = [&](const WeighedContact& c) { adopted += c.weights.reason; };
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      const bool is_elastic = toy.scheme.name.starts_with("ea");
      for (int64_t k = 0; k < toy.steps; ++k) {
        if (k == 3) fill(worker.theta().mutable_view(), NAN);
        SINEW_RETURN_IF_ERROR(worker.step(k));
        const double moved2 = worker.scheme().take_external_write();
        // An optimizer that takes part of this for movement of its own hears that it is none.
        if (k == 3 && is_elastic) {
          const bool steps_after = worker.scheme().mixes() == Mixes::before;
          EXPECT_NEAR(std::sqrt(moved2) / norm(worker.theta().view()), 1, steps_after ? 0.2 : 1e-14)
              << scheme << " " << order << " " << weighting;
        }
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      EXPECT_GT(worker.scheme().counters().missed, 0) << scheme;
      if (is_elastic) {
        EXPECT_EQ(adopted, "failed: the distance is not finite") << scheme << " " << order << " " << weighting;
      }
      return to_doubles(worker.theta().view());
    });
    for (size_t r = 0; r < nodes.size(); ++r) {
      ASSERT_TRUE(nodes[r].finished) << scheme << " rank " << r << ": " << nodes[r].status.message();
      for (double v : nodes[r].numbers) ASSERT_TRUE(std::isfinite(v)) << scheme << " " << order << " rank " << r;
    }
  }
}

// A suppressed worker's gradient is zero in the mean, its buffers are in it, and it stays with the others.
TEST(Scheme, ASuppressedWorkerGivesNoGradient) {
  Toy toy;
  toy.scheme = {.name = "allreduce", .workers = 3, .parameters = 1};
  toy.size = 2;
  const auto nodes = in_simulation({.faults = plan("suppress rank=1 after_step=2 until_step=4")})(
      3, [&](World& world) -> Result<Numbers> {
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        EXPECT_EQ(worker.scheme().counters().missed, world.rank() == 1 ? 2 : 0);
        EXPECT_EQ(worker.scheme().counters().exchanges, world.rank() == 1 ? 4 : 6);
        return to_doubles(worker.theta().view());
      });
  double x = 1, buffer = 1;
  for (int64_t k = 0; k < toy.steps; ++k) {
    double g = 0, h = 0;
    for (Rank r = 0; r < 3; ++r) {
      if (r != 1 || k < 2 || k >= 4) g += (x - toy.b(r)) / 3;
      h += (buffer - toy.b(r)) / 3;
    }
    x -= toy.lr * g, buffer -= toy.lr * h;
  }
  for (const NodeResult& node : nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_NEAR(node.numbers[0], x, 1e-14);
    EXPECT_NEAR(node.numbers[1], buffer, 1e-14);
    EXPECT_EQ(node.numbers, nodes[0].numbers);
  }
}

// Batch norm's statistics follow the parameters. DOWNPOUR adds up what workers have moved; of the statistics it takes
// the mean, and momentum at the center leaves them alone.
TEST(Scheme, DownpourAveragesBuffers) {
  for (const char* name : {"downpour", "mdownpour"}) {
    SchemeOptions o{.name = name, .workers = 2, .period = 1, .parameters = 5, .shard = 4};
    auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() == 2) {
        auto center = make_center(o, world, 7, DType::f64);
        SINEW_RETURN_IF_ERROR(center->start(std::vector<double>(7, 0.0)));
        SINEW_RETURN_IF_ERROR(center->serve(INT64_MAX).status());
        std::vector<double> c(7);
        center->snapshot(c);
        return c;
      }
      std::vector<double> x(7, 0.0);
      auto scheme = make_scheme(o, world, 7, DType::f64);
      SINEW_RETURN_IF_ERROR(scheme->start(x));
      for (int64_t k = 0; k < 2; ++k) {
        SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
        world.compute({1}, [&] {
          for (double& v : x) v += 1;
        });
        SINEW_RETURN_IF_ERROR(scheme->after_step(k, x));
      }
      SINEW_RETURN_IF_ERROR(scheme->finish(x));
      return Numbers{};
    };
    SimulatedRun run = simulate(3, body);
    const Numbers& c = run.nodes[2].numbers;
    ASSERT_EQ(c.size(), 7u) << run.nodes[2].status.message();
    if (o.name == "downpour") {
      EXPECT_EQ(c, (Numbers{4, 4, 4, 4, 4, 2, 2}));
    } else {
      EXPECT_EQ(Numbers(c.begin() + 5, c.end()), (Numbers{2, 2}));
      EXPECT_GT(c[4], 4);
    }
  }
}

TEST(Scheme, DifferentConfigurationsDoNotMix) {
  for (const Variant& v : {kVariants[1], kVariants[2], kVariants[4], kVariants[6]}) {
    auto body = [&](World& world) -> Result<Numbers> {
      Toy toy = toy_of(v, 2);
      if (world.rank() == 1) toy.scheme.fingerprint = 77;
      return toy_run(world, toy);
    };
    SimulatedRun run = simulate(node_count(toy_of(v, 2).scheme), body);
    EXPECT_EQ(run.nodes[1].status.code(), StatusCode::invalid_argument) << run.nodes[1].status.message();
    EXPECT_NE(run.nodes[1].status.message().find("differ in model"), std::string::npos);
  }
}

TEST(Scheme, ValidatesOptions) {
  const std::pair<std::function<void(SchemeOptions&)>, const char*> cases[] = {
      {[](SchemeOptions& o) { o.name = "easg"; },
       "unknown scheme 'easg'; allowed are local, allreduce, easgd, easgd_sync"},
      {[](SchemeOptions& o) { o.workers = 0; }, "workers = 0; allowed are 1"},
      {[](SchemeOptions& o) { o.period = 0; }, "period = 0"},
      {[](SchemeOptions& o) { o.alpha = 3; }, "alpha = 3"},
      {[](SchemeOptions& o) { o.alpha = std::nan(""); }, "alpha = nan"},
      {[](SchemeOptions& o) { o.beta = 100; }, "beta = 100"},
      {[](SchemeOptions& o) { o.order = "jakobi"; }, "order = 'jakobi'; allowed are jacobi, gauss_seidel"},
      {[](SchemeOptions& o) { o.update_order = "both"; }, "update_order = 'both'; allowed are pre, post"},
      {[](SchemeOptions& o) { o.weighting.rule = "dynamic"; },
       "weighting = 'dynamic' with scheme local; it is for easgd, eamsgd, easgd_sync with order jacobi, "
       "elastic_gossip with mode async and adpsgd; others are fixed"},
      {[](SchemeOptions& o) { o.name = "easgd", o.weighting = {.rule = "dynamic", .kappa = 0.1, .s0 = 0.2}; },
       "kappa = 0.1; allowed are s0 = 0.2 and more"},
      {[](SchemeOptions& o) { o.name = "adpsgd", o.weighting = {.rule = "dynamic", .peers = true}; },
       "peer_normalisation with scheme adpsgd; it is for easgd and eamsgd"},
      {[](SchemeOptions& o) { o.name = "easgd_sync", o.weighting = {.rule = "dynamic", .peers = true}; },
       "peer_normalisation with scheme easgd_sync; it is for easgd and eamsgd"},
      {[](SchemeOptions& o) { o.outer = "adam"; }, "outer = 'adam'; allowed are none, momentum, nesterov"},
      {[](SchemeOptions& o) { o.outer_lr = -1; }, "outer_lr = -1"},
      {[](SchemeOptions& o) { o.outer_momentum = 1; }, "outer_momentum = 1; allowed are 0 and more, below 1"},
      {[](SchemeOptions& o) { o.average_rate = -1; }, "average_rate = -1; allowed are 0 to 1"},
      {[](SchemeOptions& o) { o.shard = 0; }, "shard = 0"},
      {[](SchemeOptions& o) { o.probability = 1.5; }, "probability = 1.5; allowed are 0 to 1"},
      {[](SchemeOptions& o) { o.collision = "max"; }, "collision = 'max'; allowed are sum, matching, capped"},
      {[](SchemeOptions& o) { o.mode = "later"; }, "mode = 'later'; allowed are sync, async"},
      {[](SchemeOptions& o) { o.mixing = "cta"; }, "mixing = 'cta'; allowed are awc, atc"},
      {[](SchemeOptions& o) { o.direction = "both"; }, "direction = 'both'; allowed are pull, push"},
      {[](SchemeOptions& o) { o.overlap = -1; }, "overlap = -1"},
      {[](SchemeOptions& o) { o.global_average_every = -1; }, "global_average_every = -1"},
      {[](SchemeOptions& o) { o.name = "easgd", o.global_average_every = 4; }, "is for gossip schemes and local"},
      {[](SchemeOptions& o) { o.name = "dpsgd", o.topology = "uniform"; }, "dpsgd needs a graph"},
      {[](SchemeOptions& o) { o.name = "dpsgd", o.topology = "rung"; }, "unknown topology 'rung'"},
      {[](SchemeOptions& o) { o.name = "gosgd", o.topology = "ring"; }, "scheme gosgd picks at random"},
      {[](SchemeOptions& o) { o.name = "elastic_gossip", o.topology = "exponential"; }, "needs pairs"},
      {[](SchemeOptions& o) { o.name = "dpsgd", o.probability = 0.5; }, "is for topology uniform, not ring"},
      {[](SchemeOptions& o) { o.name = "dpsgd", o.collision = "capped"; }, "is for elastic_gossip"},
      {[](SchemeOptions& o) { o.name = "sgp", o.mode = "async"; }, "is for elastic_gossip and gossiping_sgd"},
      {[](SchemeOptions& o) { o.name = "dpsgd", o.overlap = 1; }, "is for sgp, and dpsgd on an exponential graph"},
      {[](SchemeOptions& o) { o.name = "gossiping_sgd", o.workers = 4, o.beta = 2; }, "gossiping_sgd allows 0 to 1"},
      {[](SchemeOptions& o) { o.pull = 1.5; }, "pull = 1.5; allowed are 0 to 1"},
      {[](SchemeOptions& o) { o.leader = "lowest"; }, "leader = 'lowest'; allowed are running_train, probe_batch"},
      {[](SchemeOptions& o) { o.loss_window = 0; }, "loss_window = 0"},
      {[](SchemeOptions& o) { o.name = "lsgd", o.period = 4, o.period_global = 6; },
       "period_global = 6 is no multiple of period = 4"},
      {[](SchemeOptions& o) { o.name = "lgd", o.mode = "async"; }, "lgd is always in lockstep"},
      {[](SchemeOptions& o) { o.name = "lgd", o.proximal = 0.1; }, "proximal pulls are for lsgd"},
      {[](SchemeOptions& o) { o.deadline = 0; }, "deadline = 0"},
  };
  for (const auto& [change, expected] : cases) {
    SchemeOptions o;
    change(o);
    EXPECT_EQ(validate(o).code(), StatusCode::invalid_argument);
    EXPECT_NE(validate(o).message().find(expected), std::string::npos) << validate(o).message();
  }
  EXPECT_TRUE(validate({}).ok());
  for (const std::string& name : scheme_names()) EXPECT_NE(describe_scheme(name), "");
  EXPECT_EQ(describe_scheme("nothing"), "");
}

// Beyond alpha (p + 1) = 2 workers and center pass each other further in every round, however small the learning rate
// (the EASGD specification, section 6.2).
TEST(Scheme, WarnsAboutACenterThatOvershoots) {
  Toy toy = toy_of(kVariants[4]);
  ASSERT_EQ(toy.scheme.name, "easgd_sync");
  toy.scheme.period = 1;
  toy.lr = 0.01, toy.noise = 0, toy.steps = 200;
  for (const double alpha : {0.2, 0.39, 0.45, 0.55}) {
    toy.scheme.alpha = alpha;
    const bool overshoots = alpha * (toy.scheme.workers + 1) > 2;
    EXPECT_EQ(overshoots, warning_about(toy.scheme).find("lower alpha to 0.4 or less") != std::string::npos) << alpha;
    double farthest = 0;
    for (const NodeResult& node : run_toy(toy).nodes)
      for (double x : node.numbers) farthest = std::max(farthest, std::fabs(x));
    EXPECT_EQ(farthest > 10, overshoots) << alpha;
  }
  toy.scheme.order = "gauss_seidel", toy.scheme.beta = 0.9;
  EXPECT_EQ(warning_about(toy.scheme), "");
}

TEST(Scheme, CommonChecks) {
  check_lockstep_equals_simulation(in_simulation({.seed = 5, .always_yield = true}), "allreduce", "jacobi");
  check_lockstep_equals_simulation(in_simulation({.seed = 5}), "easgd_sync", "jacobi");
  check_lockstep_equals_simulation(in_simulation({.seed = 5}), "easgd_sync", "gauss_seidel");
  check_lockstep_equals_simulation(in_simulation({.seed = 5}), "local_sgd", "jacobi");
  check_lockstep_equals_simulation(in_simulation({.seed = 5}), "lsgd", "jacobi", two_leaders);
  check_lockstep_equals_simulation(in_simulation({.seed = 5}), "lgd", "jacobi");
  check_elastic_conserves(in_simulation(), "easgd");
  check_elastic_conserves(in_simulation(), "eamsgd");
  check_still_elastic_is_local(in_simulation(), "easgd");
  check_downpour_delivers(in_simulation(), "downpour");
  check_downpour_delivers(in_simulation(), "mdownpour");
}

TEST(ManyWorkers, TenThousandStartAndFinish) {
  for (const auto& [scheme, workers] :
       {std::pair{"easgd", 10'000}, {"elastic_gossip", 10'000}, {"dpsgd", 10'000}, {"easgd_tree", 10'000}}) {
    Toy toy = common_toy(scheme, "jacobi", workers);
    if (toy.scheme.name == "elastic_gossip") toy.scheme.mode = "async";
    toy.size = 33;
    toy.scheme.period = 4;
    toy.steps = 12;
    const SimulatedRun run = run_toy(toy);
    EXPECT_EQ(run.report.deadlock, "");
    for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << scheme << ": " << node.status.message();
  }
}

}  // namespace
}  // namespace sinew::dist::testing
