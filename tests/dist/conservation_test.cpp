// Elastic symmetry: what workers lose the center gains, whatever the network does. Parameters + center + differences
// in flight are conserved; a death loses at most the dead worker's own differences in flight.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/scheme_bodies.h"
#include "tests/support/toy_training.h"

namespace sinew::dist::testing {
namespace {

constexpr int kWorkers = 4;

Toy still_toy(const std::string& scheme) {
  Toy toy;
  toy.scheme.name = scheme;
  toy.scheme.workers = kWorkers;
  toy.scheme.period = 1;
  toy.scheme.shard = 5;
  toy.scheme.deadline = 200 * kMillisecond;
  toy.size = 12;
  toy.steps = 40;
  toy.lr = 0;  // only the elastic forces move anything
  toy.start_spread = 1;
  return toy;
}

double sum_of(const SimulatedRun& run, int64_t element, const std::vector<Rank>& ranks) {
  double sum = 0;
  for (Rank r : ranks) sum += run.nodes[r].numbers.at(element);
  return sum;
}

struct Case {
  const char* label;
  const char* faults;
};
class Conservation : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    Faults, Conservation,
    ::testing::Values(
        Case{"none", ""}, Case{"drops", "drop from=* to=* probability=0.15"},
        Case{"heavy_drops", "drop from=* to=* probability=0.25"},
        Case{"delays",
             "delay from=1 to=* by=30ms\ndelay from=4 to=2 by=70ms until=200ms\ndrop from=* to=* probability=0.05"},
        Case{"late", "delay from=* to=4 by=150ms after=50ms until=120ms"},
        Case{"pauses",
             "pause rank=1 at=50ms for=300ms\npause rank=4 at=100ms for=500ms\ndrop from=* to=* probability=0.1"},
        Case{"cut", "drop from=* to=2 after=50ms until=400ms\ndrop from=3 to=4 after=60ms until=500ms"},
        Case{"suppress", "suppress rank=* probability=0.3\ndrop from=* to=4 probability=0.2"}),
    [](const auto& info) { return std::string(info.param.label); });

// One node serves the center, two, or the four workers; it is asked when it is needed, or a step before.
TEST_P(Conservation, NothingIsLost) {
  struct Center {
    const char *scheme, *servers;
    int64_t overlap;
  };
  for (const auto& [scheme, servers, overlap] :
       {Center{"easgd", "1", 0}, Center{"eamsgd", "1", 0}, Center{"easgd", "2", 0}, Center{"easgd", "workers", 0},
        Center{"eamsgd", "workers", 0}, Center{"easgd", "1", 1}, Center{"easgd", "2", 1}})
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      Toy toy = still_toy(scheme);
      toy.scheme.servers = servers;
      if (overlap > 0) toy.scheme.overlap = overlap, toy.scheme.period = 2;
      FaultPlan faults = parse_fault_plan(GetParam().faults, "plan").value();
      faults.seed = seed;
      int64_t missed = 0, resent = 0;
      auto body = [&](World& world) -> Result<Numbers> {
        if (world.rank() >= kWorkers) return toy_run(world, toy);
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
        // finish() may give up at its deadline; what is unconfirmed is then tried again.
        Status status = worker.scheme().finish(worker.theta().mutable_view());
        for (int i = 0; i < 5 && status.code() == StatusCode::timeout; ++i)
          status = worker.scheme().finish(worker.theta().mutable_view());
        SINEW_RETURN_IF_ERROR(status);
        missed += worker.scheme().counters().missed;
        resent += worker.scheme().counters().resent;
        Vec center = Vec::zeros(toy.size, toy.dtype);
        SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
        Numbers numbers = to_doubles(worker.theta().view());
        const Numbers c = to_doubles(center.view());
        numbers.insert(numbers.end(), c.begin(), c.end());
        return numbers;
      };
      SimulatedRun run = simulate(node_count(toy.scheme), body, {.seed = seed, .faults = faults});
      for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << servers << ": " << node.status.message();
      for (int64_t i = 0; i < toy.size; ++i) {
        // With several parts worker 0 has the center in the end.
        const double center =
            center_is_measured(toy.scheme) ? run.nodes[kWorkers].numbers.at(i) : run.nodes[0].numbers.at(toy.size + i);
        // Of 12 elements each of four workers serves three, and begins with its own parameters.
        const int64_t began = center_servers(toy.scheme) == 0 ? 1 + i / 3 : 1;
        ASSERT_NEAR(sum_of(run, i, {0, 1, 2, 3}) + center, 1 + 2 + 3 + 4 + began, 1e-12)
            << servers << ", seed " << seed;
      }
      const std::string label = GetParam().label;
      if (label == "drops" || label == "heavy_drops") {
        EXPECT_GT(resent, 0);
      }
      if (label == "cut" || label == "suppress") {
        EXPECT_GT(missed, 0);
      }
      if (label == "none") {
        EXPECT_EQ(missed + resent, 0);
      }
    }
}

TEST_P(Conservation, DownpourDeliversEachMoveOnce) {
  for (const char* scheme : {"downpour", "mdownpour"})
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      FaultPlan faults = parse_fault_plan(GetParam().faults, "plan").value();
      faults.seed = seed;
      check_downpour_delivers(in_simulation({.seed = seed, .faults = faults}), scheme, kWorkers);
    }
}

// However long the center is silent, a worker keeps one difference of each shard that is not confirmed: what it moves
// meanwhile adds up in its own parameters, and arrives when the center is back.
TEST(Conservation, DownpourKeepsOneDifferenceForASilentCenter) {
  for (const char* scheme : {"downpour", "mdownpour"}) {
    Toy toy = still_toy(scheme);
    toy.lr = 0.01;
    toy.steps = 300;
    size_t most = 0;
    double moved = 0;
    const auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() == kWorkers) return toy_run(world, toy);
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      for (int64_t k = 0; k < toy.steps; ++k) {
        SINEW_RETURN_IF_ERROR(worker.step(k));
        moved += to_doubles(worker.velocity().view())[0];
        size_t kept = 0;
        for (const auto& [name, vector] : worker.scheme().save().vectors)
          kept += name.starts_with("unconfirmed.") && name.ends_with(".0");
        most = std::max(most, kept);
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      EXPECT_GT(worker.scheme().counters().missed, 5);
      return Numbers();
    };
    const auto nodes =
        simulate(kWorkers + 1, body, {.faults = parse_fault_plan("pause rank=4 at=505ms for=3s", "plan").value()})
            .nodes;
    for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << scheme << ": " << node.status.message();
    EXPECT_EQ(most, 1u) << scheme;
    if (toy.scheme.name != "downpour") continue;  // with momentum what arrives moves the center further
    // Workers began spread out, which is not a move.
    EXPECT_NEAR(nodes[kWorkers].numbers[0], toy.start + moved, 1e-11);
  }
}

TEST(Conservation, JacobiInLockstep) {
  Toy toy = still_toy("easgd_sync");
  toy.start_spread = 0;
  toy.lr = 0.1;
  // sum x_i + c moves only by the gradients, which the workers add up themselves.
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    double own = 0;
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      own += to_doubles(worker.velocity().view())[0];
    }
    Vec center = Vec::zeros(toy.size, toy.dtype);
    SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
    return Numbers{to_doubles(worker.theta().view())[0] - own, to_doubles(center.view())[0]};
  };
  SimulatedRun run = simulate(kWorkers, body);
  double sum = run.nodes[0].numbers[1];
  for (const NodeResult& node : run.nodes) {
    EXPECT_EQ(node.numbers[1], run.nodes[0].numbers[1]) << "the replicas of the center are equal";
    sum += node.numbers[0];
  }
  EXPECT_NEAR(sum, 5 * toy.start, 1e-12);
}

// A worker that dies between sending its difference and applying it: survivors + center + its parameters are off by
// exactly that difference. Restarted, it takes the center's parameters, which is no movement of the others.
TEST(Conservation, ADeathLosesAtMostItsOwnInFlight) {
  for (const char* when : {"at=101ms", "at=55ms", "at=83ms", "step=11", "at=140ms"}) {
    Toy toy = still_toy("easgd");
    toy.scheme.shard = 100;
    double life0 = 0, pending = 0, adopted = 0, life1 = 0;  // of worker 1, element 0
    int died_with_pending = 0;
    auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() != 1) return toy_run(world, toy);
      ToyWorker worker(toy, world);
      auto x = [&] { return to_doubles(worker.theta().view())[0]; };
      SINEW_RETURN_IF_ERROR(worker.start());
      double& mine = world.incarnation() == 0 ? life0 : life1;
      if (world.incarnation() == 1) died_with_pending = pending != 0, life0 -= pending, adopted = x();
      worker.after_exchange = [&](int64_t) {
        Vec c = Vec::zeros(toy.size, toy.dtype);
        ASSERT_TRUE(worker.scheme().evaluation_point(worker.theta().view(), c.mutable_view()).ok());
        pending = 0.9 / kWorkers * (x() - to_doubles(c.view())[0]);  // sent, not yet applied
      };
      for (int64_t k = 0; k < toy.steps; ++k) {
        SINEW_RETURN_IF_ERROR(worker.step(k));
        pending = 0;
        mine = x();
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return to_doubles(worker.theta().view());
    };
    SimOptions options{.restarts = 1, .restart_delay = 50 * kMillisecond};
    options.faults = parse_fault_plan(std::string("kill rank=1 ") + when, "plan").value();
    SimulatedRun run = simulate(kWorkers + 1, body, options);
    for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_EQ(run.nodes[1].restarts, 1u);
    EXPECT_NEAR(sum_of(run, 0, {0, 2, 3, 4}) + life0 + (life1 - adopted), 1 + 2 + 3 + 4 + 1, 1e-12) << when;
    EXPECT_EQ(died_with_pending, std::string(when) != "step=11") << when;
  }
}

}  // namespace
}  // namespace sinew::dist::testing
