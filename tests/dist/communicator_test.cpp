#include "dist/communicator.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/collective_bodies.h"

namespace sinew::dist::testing {
namespace {

class Collectives : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Members, Collectives, ::testing::Range(1, 6));

TEST_P(Collectives, AllReduce) {
  for (int64_t n : {0, 1, 2, 3, 7, 64, 1001, 300'001})
    for (DType dtype : {DType::f32, DType::f64}) check_all_reduce(in_simulation(), GetParam(), n, dtype);
}

TEST_P(Collectives, Broadcast) {
  for (int64_t n : {0, 1, 5, 300'001})
    for (int root : {0, GetParam() - 1}) check_broadcast(in_simulation(), GetParam(), n, root);
}

TEST_P(Collectives, AllGather) {
  for (int64_t n : {0, 1, 5, 150'001}) check_all_gather(in_simulation(), GetParam(), n);
}

TEST_P(Collectives, Barrier) {
  auto body = [](World& world) -> Result<Numbers> {
    std::vector<Rank> all(world.size());
    std::iota(all.begin(), all.end(), 0);
    Communicator members(world, all, kSecond);
    world.sleep(world.rank() * 20 * kMillisecond);
    const Nanos before = world.now();
    SINEW_RETURN_IF_ERROR(members.barrier());
    return Numbers{static_cast<double>(before), static_cast<double>(world.now())};
  };
  SimulatedRun run = simulate(GetParam(), body);
  double last_in = 0, first_out = 1e18;
  for (const NodeResult& node : run.nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    last_in = std::max(last_in, node.numbers[0]);
    first_out = std::min(first_out, node.numbers[1]);
  }
  EXPECT_GE(first_out, last_in);
}

TEST(World, ReceiveEach) {
  check_receive_each(in_simulation());
  check_receive_each(in_simulation({.always_yield = true}));
}

TEST(Communicator, LazyAndAlwaysYieldAgree) {
  auto body = [](World& world) { return all_reduce_body(world, 1001, DType::f32, true, kSecond); };
  SimulatedRun lazy = simulate(4, body), yielding = simulate(4, body, {.always_yield = true});
  EXPECT_EQ(lazy.report.trace_hash, yielding.report.trace_hash);
}

TEST(Communicator, ADeadMemberIsNamed) {
  auto body = [](World& world) -> Result<Numbers> {
    for (int step = 0; step < 100; ++step) {
      world.report_step(step);
      Result<Numbers> sum = all_reduce_body(world, 100, DType::f32, false, 10 * kSecond);
      if (!sum.ok()) return sum.status();
    }
    return Numbers{};
  };
  SimulatedRun run = simulate(4, body, {.faults = parse_fault_plan("kill rank=2 step=7", "p").value()});
  for (Rank r : {0, 1, 3}) {
    EXPECT_EQ(run.nodes[r].status.code(), StatusCode::peer_lost) << r;
    EXPECT_LT(run.report.nodes[r].time, kSecond) << "waits for the detection, not for the deadline";
  }
  EXPECT_EQ(run.nodes[3].status.message(), "collective: rank 2 is lost");
}

TEST(Communicator, ASilentMemberIsATimeout) {
  auto body = [](World& world) -> Result<Numbers> {
    if (world.rank() == 1) {
      world.sleep(5 * kSecond);
      return Numbers{};
    }
    Result<Numbers> sum = all_reduce_body(world, 100, DType::f32, false, kSecond);
    EXPECT_EQ(sum.status().code(), StatusCode::timeout);
    EXPECT_NEAR(static_cast<double>(world.now()), 1e9, 1e6);
    return Numbers{};
  };
  EXPECT_TRUE(simulate(2, body).nodes[0].finished);
}

TEST(Communicator, DifferentSizesAreAnError) {
  auto body = [](World& world) { return all_reduce_body(world, 100 + 2 * world.rank(), DType::f32, false, kSecond); };
  SimulatedRun run = simulate(2, body);
  EXPECT_EQ(run.nodes[0].status.code(), StatusCode::invalid_argument);
}

}  // namespace
}  // namespace sinew::dist::testing
