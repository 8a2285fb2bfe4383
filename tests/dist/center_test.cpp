// The center's side of the protocol, spoken to directly: what a confused, late or hostile worker may send.
#include "dist/center.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/spawn_nodes.h"

namespace sinew::dist::testing {
namespace {

constexpr Nanos kWait = 100 * kMillisecond;
constexpr Shards kShards{10, 4};  // 4, 4, 2

Head head_of(Tag tag, int64_t a0, int64_t a1 = 0, int64_t a2 = 0, int64_t a3 = 0) {
  Head head{.tag = tag};
  head.arg[0] = a0, head.arg[1] = a1, head.arg[2] = a2, head.arg[3] = a3;
  return head;
}

Payload ones(int64_t n) { return Payload::copy_of(std::vector<double>(n, 1.0)); }

// Rank 0 runs `worker` against the center on rank 1; hands back the center at the end.
Numbers with_center(const std::function<void(World&)>& worker) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      worker(world);
      return Numbers{};
    }
    CenterServer center(world, 1, kShards, DType::f64, 99);
    SINEW_RETURN_IF_ERROR(center.start(std::vector<double>(10, 0.0)));
    SINEW_RETURN_IF_ERROR(center.serve(INT64_MAX).status());
    std::vector<double> out(10);
    center.snapshot(out);
    return out;
  };
  SimulatedRun run = simulate(2, body);
  EXPECT_TRUE(run.nodes[0].finished && run.nodes[1].finished) << run.nodes[1].status.message();
  return run.nodes[1].numbers;
}

int64_t join(World& world) {
  Received r = fetch(world, 1, head_of(Tag::center_join, 99), {}, Tag::center_ack, kWait);
  EXPECT_TRUE(r.ok());
  return r.message.head.arg[0];
}

uint64_t mask_of_shard_0(World& world, int64_t lowest, int64_t life) {
  Received r = fetch(world, 1, head_of(Tag::center_fetch, lowest, life), {}, Tag::center_part, kWait);
  EXPECT_TRUE(r.ok());
  EXPECT_EQ(r.message.head.arg[0], 0);
  return static_cast<uint64_t>(r.message.head.arg[2]);
}

TEST(Center, AddsAreAppliedOnce) {
  Numbers center = with_center([](World& world) {
    const int64_t life = join(world);
    for (int copy = 0; copy < 3; ++copy) world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 2, 0, life, 0), ones(2));
    world.send(1, head_of(Tag::center_add, 0, 2, life, 0), ones(4));  // exchange 1 is missing
    EXPECT_EQ(mask_of_shard_0(world, 0, life), 0b101u);
    world.send(1, head_of(Tag::center_add, 0, 1, life, 0), ones(4));
    EXPECT_EQ(mask_of_shard_0(world, 1, life), 0b11u);
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(4));  // below the lowest: confirmed long ago
    EXPECT_EQ(mask_of_shard_0(world, 3, life), 0u);
  });
  EXPECT_EQ(center, (Numbers{3, 3, 3, 3, 0, 0, 0, 0, 1, 1}));
}

TEST(Center, LivesAreKeptApart) {
  Numbers center = with_center([](World& world) {
    const int64_t first = join(world), second = join(world);
    EXPECT_NE(first, second);
    world.send(1, head_of(Tag::center_add, 0, 0, first, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 0, 0, second, 0), ones(4));  // same number, another life
    world.send(1, head_of(Tag::center_add, 0, 0, 77, 0), ones(4));      // nobody's
    EXPECT_EQ(mask_of_shard_0(world, 0, first), 1u);
    EXPECT_EQ(mask_of_shard_0(world, 0, second), 1u);
  });
  EXPECT_EQ(center[0], 2);
}

TEST(Center, IgnoresNonsense) {
  Numbers center = with_center([](World& world) {
    const int64_t life = join(world);
    world.send(1, head_of(Tag::center_add, -1, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 3, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, INT64_MAX, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(3));
    world.send(1, head_of(Tag::center_add, 0, -5, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0));
    world.send(1, head_of(Tag::center_fetch, 0, 77));
    world.send(1, head_of(Tag::center_leave, 0, 77, 1));
    EXPECT_EQ(mask_of_shard_0(world, 0, life), 0u);
    // A wrong fingerprint is answered with the right one and given no life.
    Received r = fetch(world, 1, head_of(Tag::center_join, 98), {}, Tag::center_ack, kWait);
    EXPECT_EQ(r.message.head.arg[1], 99);
    EXPECT_EQ(r.message.head.arg[0], 0);
  });
  EXPECT_EQ(center, Numbers(10, 0.0));
}

// Applied as far as its sender is concerned, so that it is not sent again; nothing moves.
TEST(Center, RefusesWhatIsNotFinite) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      const int64_t life = join(world);
      for (double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
        for (int64_t s : {0, 2}) {
          std::vector<double> d(static_cast<size_t>(kShards.length(static_cast<int>(s))), 1.0);
          d.back() = bad;
          world.send(1, head_of(Tag::center_add, s, std::isnan(bad) ? 0 : 1, life, 0), Payload::copy_of(d));
        }
      world.send(1, head_of(Tag::center_add, 1, 0, life, 0), ones(4));
      EXPECT_EQ(mask_of_shard_0(world, 0, life), 0b11u);
      return Numbers{};
    }
    CenterServer center(world, 1, kShards, DType::f64, 99);
    SINEW_RETURN_IF_ERROR(center.start(std::vector<double>(10, 0.0)));
    SINEW_RETURN_IF_ERROR(center.serve(INT64_MAX).status());
    EXPECT_EQ(center.refused(), 4);
    EXPECT_EQ(center.version(), 1);
    std::vector<double> out(10);
    center.snapshot(out);
    EXPECT_EQ(out, (Numbers{0, 0, 0, 0, 1, 1, 1, 1, 0, 0}));
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body);
  EXPECT_TRUE(run.nodes[0].finished && run.nodes[1].finished) << run.nodes[1].status.message();
}

TEST(Center, AFetchedShardDoesNotChangeLater) {
  with_center([](World& world) {
    const int64_t life = join(world);
    Received r = fetch(world, 1, head_of(Tag::center_fetch, 0, life), {}, Tag::center_part, kWait);
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(4));
    EXPECT_EQ(mask_of_shard_0(world, 0, life), 1u);
    EXPECT_EQ(to_doubles(r.message.body.view(DType::f64)), Numbers(4, 0.0));
  });
}

TEST(Center, ServeReturnsAfterItsSlice) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      world.sleep(kSecond);
      return Numbers{};
    }
    CenterServer center(world, 1, kShards, DType::f64, 99);
    SINEW_RETURN_IF_ERROR(center.start(std::vector<double>(10, 0.0)));
    Result<bool> done = center.serve(55 * kMillisecond);
    EXPECT_TRUE(done.ok() && !*done);
    EXPECT_EQ(world.now(), 55 * kMillisecond);
    done = center.serve(10 * kSecond);  // the worker leaves without a word to the center
    EXPECT_TRUE(done.ok() && *done);
    EXPECT_LT(world.now(), 1200 * kMillisecond);
    return Numbers{};
  };
  EXPECT_TRUE(simulate(2, body).nodes[1].finished);
}

}  // namespace
}  // namespace sinew::dist::testing
