// Bodies and checks of the collectives, for any kind of world.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "core/philox.h"
#include "dist/communicator.h"
#include "tests/support/spawn_nodes.h"

namespace sinew::dist::testing {

// Element i of rank r's contribution.
inline double contribution(Rank r, int64_t i) {
  return 2 * uniform01(philox_u64({1, uint32_t(RngPurpose::test), uint32_t(r), 0}, static_cast<uint64_t>(i))) - 1;
}
inline Vec contributions(Rank r, int64_t n, DType dtype) {
  std::vector<double> f64(n);
  for (int64_t i = 0; i < n; ++i) f64[i] = contribution(r, i);
  if (dtype == DType::f64) return Vec::copy_of(f64);
  return Vec::copy_of(std::vector<float>(f64.begin(), f64.end()));
}
inline std::vector<Rank> all_ranks(const World& world) {
  std::vector<Rank> ranks(world.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

inline Result<Numbers> all_reduce_body(World& world, int64_t n, DType dtype, bool average, Nanos deadline) {
  Communicator members(world, all_ranks(world), deadline);
  Vec x = contributions(world.rank(), n, dtype);
  SINEW_RETURN_IF_ERROR(members.all_reduce(x.mutable_view(), average));
  return to_doubles(x.view());
}

// Right up to rounding, the same bits on every member, and average = sum / p up to rounding.
inline void check_all_reduce(const Spawn& spawn, int members, int64_t n, DType dtype) {
  for (bool average : {false, true}) {
    auto nodes = spawn(members, [&](World& w) { return all_reduce_body(w, n, dtype, average, 10 * kSecond); });
    for (const NodeResult& node : nodes) {
      ASSERT_TRUE(node.finished) << node.status.message();
      ASSERT_EQ(node.numbers, nodes[0].numbers);
    }
    ASSERT_EQ(static_cast<int64_t>(nodes[0].numbers.size()), n);
    for (int64_t i = 0; i < n; i += 1 + n / 100) {
      double sum = 0;
      for (Rank r = 0; r < members; ++r) sum += contribution(r, i);
      ASSERT_NEAR(nodes[0].numbers[i], average ? sum / members : sum, dtype == DType::f32 ? 1e-6 : 1e-14);
    }
  }
}

inline void check_broadcast(const Spawn& spawn, int members, int64_t n, int root) {
  auto nodes = spawn(members, [&](World& world) -> Result<Numbers> {
    Communicator group(world, all_ranks(world), 10 * kSecond);
    Vec x = contributions(world.rank(), n, DType::f32);
    SINEW_RETURN_IF_ERROR(group.broadcast(x.mutable_view(), root));
    return to_doubles(x.view());
  });
  const Numbers expected = to_doubles(contributions(root, n, DType::f32).view());
  for (const NodeResult& node : nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    ASSERT_EQ(node.numbers, expected);
  }
}

inline void check_all_gather(const Spawn& spawn, int members, int64_t n) {
  auto nodes = spawn(members, [&](World& world) -> Result<Numbers> {
    Communicator group(world, all_ranks(world), 10 * kSecond);
    Vec in = contributions(world.rank(), n, DType::f32), out = Vec::zeros(n * world.size(), DType::f32);
    SINEW_RETURN_IF_ERROR(group.all_gather(in.view(), out.mutable_view()));
    return to_doubles(out.view());
  });
  Numbers expected;
  for (Rank r = 0; r < members; ++r) {
    Numbers part = to_doubles(contributions(r, n, DType::f32).view());
    expected.insert(expected.end(), part.begin(), part.end());
  }
  for (const NodeResult& node : nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    ASSERT_EQ(node.numbers, expected);
  }
}

}  // namespace sinew::dist::testing
