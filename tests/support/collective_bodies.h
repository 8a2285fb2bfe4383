// Bodies and checks of the collectives, for any kind of world.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <stdexcept>
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

// Equal signs of zeros and NaNs, too.
inline bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
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
      ASSERT_TRUE(same_bits(node.numbers, nodes[0].numbers));
    }
    ASSERT_EQ(static_cast<int64_t>(nodes[0].numbers.size()), n);
    for (int64_t i = 0; i < n; i += 1 + n / 100) {
      double sum = 0;
      for (Rank r = 0; r < members; ++r) sum += contribution(r, i);
      ASSERT_NEAR(nodes[0].numbers[i], average ? sum / members : sum, dtype == DType::f32 ? 1e-6 : 1e-14);
    }
  }
}

// Several rounds of the all-reduce with rounded numbers: the same bits on every member, and what they have given is
// what came out and what waits. Each member hands back the results and its residual.
inline void check_packed_all_reduce(const Spawn& spawn, int members, int64_t n, DType dtype, Packing packing) {
  constexpr int kRounds = 3;
  const size_t size = static_cast<size_t>(n);
  for (bool average : {false, true}) {
    const auto nodes = spawn(members, [&](World& world) -> Result<Numbers> {
      Communicator group(world, all_ranks(world), 10 * kSecond);
      Vec residual = Vec::zeros(n, dtype);
      Numbers all;
      for (int round = 0; round < kRounds; ++round) {
        Vec x = contributions(world.rank() + 100 * round, n, dtype);
        SINEW_RETURN_IF_ERROR(group.all_reduce_packed(x.mutable_view(), average, packing, residual.mutable_view()));
        const Numbers got = to_doubles(x.view());
        all.insert(all.end(), got.begin(), got.end());
      }
      const Numbers rest = to_doubles(residual.view());
      all.insert(all.end(), rest.begin(), rest.end());
      return all;
    });
    for (const NodeResult& node : nodes) {
      ASSERT_TRUE(node.finished) << node.status.message();
      for (size_t i = 0; i < kRounds * size; ++i)
        ASSERT_EQ(std::bit_cast<uint64_t>(node.numbers[i]), std::bit_cast<uint64_t>(nodes[0].numbers[i]));
    }
    double rounded = 0;
    for (size_t i = 0; i < size; i += 1 + size / 100) {
      double given = 0, came = 0;
      for (int round = 0; round < kRounds; ++round) {
        came += nodes[0].numbers[static_cast<size_t>(round) * size + i] * (average ? members : 1);
        for (Rank r = 0; r < members; ++r) given += contribution(r + 100 * round, static_cast<int64_t>(i));
      }
      for (const NodeResult& node : nodes) {
        const double rest = node.numbers[kRounds * size + i];
        came += rest, rounded += std::abs(rest);
        ASSERT_LT(std::abs(rest), 0.1);
      }
      ASSERT_NEAR(came, given, dtype == DType::f32 ? 1e-5 : 1e-13) << "element " << i;
    }
    if (members > 1 && n > 2) {
      EXPECT_GT(rounded, 0);
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
    ASSERT_TRUE(same_bits(node.numbers, expected));
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
    ASSERT_TRUE(same_bits(node.numbers, expected));
  }
}

// World::receive_each, which the collectives stand on: what waits already and what comes later, in order; what comes
// after the last stays; silence, an exception of the taker and the peer's end are told, each message once.
inline Result<Numbers> receive_each_body(World& world) {
  constexpr Nanos kLong = 10 * kSecond;
  const Rank other = 1 - world.rank();
  auto send = [&](Tag tag, int64_t i) {
    Head head{.tag = tag};
    head.arg[0] = i;
    world.send(other, head, Payload::copy_of(contributions(world.rank(), i * 9000, DType::f32).view()));
  };
  auto signal = [&] { return world.receive({.tag = Tag::sync, .source = other}, kLong).ok(); };
  if (world.rank() == 1) {
    for (int64_t i : {0, 1, 2, 3}) send(Tag::test, i);
    send(Tag::sync, 0);
    if (!signal()) return make_status(StatusCode::internal, "the taker has sent nothing");
    for (int64_t i : {4, 5, 6, 7}) send(Tag::test, i);
    if (!signal()) return make_status(StatusCode::internal, "no second signal");
    for (int64_t i : {8, 9}) send(Tag::test, i);
    return Numbers{};
  }
  Numbers taken;  // then, after each wait, 100 and how it ended
  std::vector<Payload> kept;
  auto take_until = [&](int64_t last, Nanos timeout, const std::function<void(int64_t)>& then) {
    const auto what = world.receive_each({.tag = Tag::test, .source = 1}, timeout, [&](const Message& m) {
      taken.push_back(static_cast<double>(m.head.arg[0]));
      kept.push_back(m.body);
      then(m.head.arg[0]);
      return m.head.arg[0] == last;
    });
    taken.push_back(100 + static_cast<double>(what));
  };
  if (!signal()) return make_status(StatusCode::internal, "no first signal");
  take_until(6, kLong, [&](int64_t i) {
    if (i == 3) send(Tag::sync, 0);
  });
  if (!world.receive({.tag = Tag::test, .source = 1, .arg0 = 7}, kLong).ok())
    return make_status(StatusCode::internal, "what came after the last is lost");
  take_until(7, 20 * kMillisecond, [](int64_t) {});
  send(Tag::sync, 0);
  try {
    take_until(-1, kLong, [](int64_t) { throw std::runtime_error("taker"); });
  } catch (const std::runtime_error&) {
    taken.push_back(-1);
  }
  take_until(-1, kLong, [](int64_t) {});
  for (size_t i = 0, at = 0; i < taken.size(); ++i) {
    if (taken[i] < 0 || taken[i] >= 100) continue;
    const auto n = static_cast<int64_t>(taken[i]) * 9000;
    if (to_doubles(kept[at].view(DType::f32)) != to_doubles(contributions(1, n, DType::f32).view()))
      return make_status(StatusCode::internal, "body ", at, " is wrong");
    ++at;
  }
  return taken;
}

inline void check_receive_each(const Spawn& spawn) {
  auto nodes = spawn(2, receive_each_body);
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
  const auto end = [](Received::What what) { return 100 + static_cast<double>(what); };
  EXPECT_EQ(nodes[0].numbers, (Numbers{0, 1, 2, 3, 4, 5, 6, end(Received::What::message), end(Received::What::timeout),
                                       8, -1, 9, end(Received::What::peer_lost)}));
}

}  // namespace sinew::dist::testing
