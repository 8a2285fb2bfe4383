// ADMM: the EASGD specification's numbers (section 5, from arXiv:1412.6651v8, Eq. 9-11), and what its center is.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {
namespace {

// F = x^2 / 2, eta = 0.001, rho = 2.5, three workers that take turns, from x = c = 1000 and lambda = 0: the paper's
// point where the method diverges. c after a round of the three.
TEST(Admm, FollowsThePaperAtItsUnstablePoint) {
  constexpr double kEta = 0.001, kRho = 2.5;
  constexpr int64_t kRounds = 1000;
  constexpr Nanos kTurn = kMillisecond, kRound = 3 * kTurn, kBegin = kSecond;
  SchemeOptions o{.name = "admm", .workers = 3, .period = 1, .alpha = kEta * kRho};
  std::vector<double> centers;
  auto body = [&](World& world) -> Result<Numbers> {
    std::vector<double> x(1, 1000.0);
    if (world.rank() == 3) {
      auto center = make_center(o, world, 1, DType::f64);
      SINEW_RETURN_IF_ERROR(center->start(x));
      world.sleep(kBegin - world.now());
      for (int64_t round = 0; round < kRounds; ++round) {
        world.sleep(kRound);
        center->snapshot(x);
        centers.push_back(x[0]);
      }
      return center->serve(INT64_MAX).ok() ? Result<Numbers>(Numbers{}) : make_status(StatusCode::internal, "serve");
    }
    auto scheme = make_scheme(o, world, 1, DType::f64);
    SINEW_RETURN_IF_ERROR(scheme->start(x));
    for (int64_t round = 0; round < kRounds; ++round) {
      world.sleep(kBegin + round * kRound + world.rank() * kTurn - world.now());
      SINEW_RETURN_IF_ERROR(scheme->before_step(round, x));
      x[0] -= kEta * x[0];
      SINEW_RETURN_IF_ERROR(scheme->after_step(round, x));
    }
    SINEW_RETURN_IF_ERROR(scheme->finish(x));
    return Numbers{};
  };
  SimulatedRun run = simulate(4, body, {.latency = kMicrosecond});
  for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
  for (auto [round, c] : {std::pair{1, 999.29676041}, {10, 990.46183896}, {100, 905.29630752}, {1000, 368.40024568}})
    EXPECT_NEAR(centers.at(round - 1), c, 6e-9) << "round " << round;
}

TEST(Admm, TheCenterIsTheMeanOfWhatWorkersSent) {
  for (const char* faults :
       {"", "drop from=* to=* probability=0.2\nslow rank=1 factor=3\npause rank=2 at=40ms for=90ms"})
    check_admm_center(in_simulation({.faults = parse_fault_plan(faults, "plan").value()}));
}

// With different objectives all meet at the minimum of their sum, where elastic averaging leaves each on its own side.
TEST(Admm, MeetsAtTheCommonMinimum) {
  Toy toy = common_toy("admm", "jacobi", 2);
  toy.size = 1;
  toy.noise = 0;
  toy.scheme.period = 1;
  toy.scheme.alpha = 0.05;
  toy.steps = 2000;
  auto nodes = in_simulation()(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); });
  for (const NodeResult& node : nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_NEAR(node.numbers[0], (toy.b(0) + toy.b(1)) / 2, 1e-3);
  }
  toy.scheme.name = "easgd";
  nodes = in_simulation()(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); });
  EXPECT_GT(nodes[0].numbers[0] - nodes[1].numbers[0], 0.5);
}

TEST(Admm, ADeadWorkerIsNotTakenBack) {
  Toy toy = common_toy("admm");
  EXPECT_FALSE(takes_workers_back(toy.scheme));
  const auto nodes = in_simulation({.faults = parse_fault_plan("kill rank=1 at=45ms", "plan").value()})(
      node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); });
  EXPECT_FALSE(nodes[1].finished);
  for (Rank r : {0, 2, 3}) EXPECT_TRUE(nodes[r].finished) << nodes[r].status.message();
}

}  // namespace
}  // namespace sinew::dist::testing
