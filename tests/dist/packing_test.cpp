#include "dist/packing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/philox.h"
#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {
namespace {

double draw(uint64_t seed, int64_t i) {
  return 2 * uniform01(philox_u64({seed, uint32_t(RngPurpose::test), 0, 0}, static_cast<uint64_t>(i))) - 1;
}

template <class T>
std::vector<T> numbers(int64_t size, uint64_t seed, double scale = 1) {
  std::vector<T> v(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) v[i] = static_cast<T>(scale * draw(seed, i));
  return v;
}

// What rank 1 reads of what rank 0 sends, and the bytes that it took.
template <class T>
std::pair<std::vector<T>, int64_t> sent(const std::vector<T>& v, Packing packing) {
  std::vector<T> got;
  int64_t bytes = 0;
  const auto nodes = in_simulation()(2, [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      send_packed(world, 1, Head{.tag = Tag::test}, Payload::copy_of(v), packing, dtype_of<T>);
      bytes = world.traffic().bytes_sent - 64;
      return Numbers{};
    }
    const Message m = unpacked(world.receive({.tag = Tag::test}, kSecond).message, dtype_of<T>);
    EXPECT_EQ(m.head.packing, 0u);
    const auto* data = static_cast<const T*>(m.body.data());
    got.assign(data, data + m.body.size() / sizeof(T));
    return Numbers{};
  });
  for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
  return {got, bytes};
}

template <class T>
class PackingOf : public ::testing::Test {};
using Floats = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PackingOf, Floats);

TYPED_TEST(PackingOf, RoundedNumbersArriveAsTheyAre) {
  for (Packing packing : {Packing::bf16, Packing::int8})
    for (int64_t size : {1, 2, 255, 256, 257, 258, 259, 1000})
      for (double scale : {1.0, 1e-12, 3e20}) {
        const auto original = numbers<TypeParam>(size, 3, scale);
        auto v = original;
        round_to_packing(packing, v);
        const auto [got, bytes] = sent(v, packing);
        ASSERT_EQ(got, v) << size << " numbers";
        EXPECT_EQ(bytes, static_cast<int64_t>(packed_bytes(packing, size, dtype_of<TypeParam>)));
        EXPECT_EQ(bytes, packing == Packing::bf16 ? 2 * size : size + 2 * ((size + 255) / 256));
        auto again = v;
        round_to_packing(packing, again);
        EXPECT_EQ(again, v) << "rounded numbers are rounded to themselves";
        for (int64_t i = 0; i < size; ++i) {
          const double bound = packing == Packing::bf16 ? std::abs(double(original[i])) / 256 : scale / 127;
          EXPECT_LE(std::abs(double(v[i]) - double(original[i])), bound * (1 + 1e-6));
        }
      }
}

TYPED_TEST(PackingOf, NothingElseIsChanged) {
  const auto exact = numbers<TypeParam>(300, 4);
  for (Packing packing : {Packing::none, Packing::bf16, Packing::int8}) {
    const auto [got, bytes] = sent(exact, packing);
    EXPECT_EQ(got, exact) << "not rounded, so sent as it is";
    EXPECT_EQ(bytes, static_cast<int64_t>(300 * sizeof(TypeParam)));
  }
  auto same = exact;
  round_to_packing(Packing::none, same);
  EXPECT_EQ(same, exact);
}

TYPED_TEST(PackingOf, ExtremesSurvive) {
  constexpr auto inf = std::numeric_limits<TypeParam>::infinity();
  for (Packing packing : {Packing::bf16, Packing::int8}) {
    auto v = numbers<TypeParam>(600, 5);
    v[300] = std::numeric_limits<TypeParam>::quiet_NaN(), v[301] = inf;
    const auto before = v;
    std::vector<TypeParam> residual(600);
    round_to_packing(packing, v, residual);
    for (int64_t i = 256; i < 512; ++i) {
      EXPECT_TRUE(v[i] == before[i] || i == 300) << "a block that is not finite stays";
      EXPECT_EQ(residual[i], 0);
    }
    EXPECT_NE(v, before);
    const auto [got, bytes] = sent(v, packing);
    ASSERT_EQ(got.size(), v.size());
    EXPECT_TRUE(std::isnan(got[300]));
    EXPECT_EQ(got[301], inf);
    EXPECT_EQ(got[599], v[599]);

    std::vector<TypeParam> tiny(10, std::numeric_limits<TypeParam>::denorm_min()), zeros(10),
        largest(3, std::numeric_limits<TypeParam>::max());
    tiny[3] = -tiny[3];
    for (auto* special : {&tiny, &zeros}) {
      round_to_packing(packing, *special);
      EXPECT_EQ(sent(*special, packing).first, *special);
    }
    EXPECT_EQ(sent(largest, packing).first, largest);
  }
}

TYPED_TEST(PackingOf, OnePassMakesWhatTwoMake) {
  for (Packing packing : {Packing::none, Packing::bf16, Packing::int8})
    for (bool finite : {true, false}) {
      const DType dtype = dtype_of<TypeParam>;
      auto exact = numbers<TypeParam>(40000, 6), rest = numbers<TypeParam>(40000, 7, 1e-3);
      if (!finite) exact[39000] = std::numeric_limits<TypeParam>::quiet_NaN();
      auto want = exact, want_rest = rest;
      round_to_packing(packing, want, want_rest);
      const Payload in_place = Payload::copy_of(exact);
      const bool apart = packing != Packing::none;
      const Rounded got = round_and_pack(packing, apart ? ConstVecView(exact) : in_place.view(dtype),
                                         apart ? Payload::allocate(in_place.size()) : in_place, rest);
      EXPECT_EQ(std::memcmp(got.numbers.data(), want.data(), got.numbers.size()), 0);
      EXPECT_EQ(rest, want_rest);
      // A message with a number that no form holds is not packed.
      EXPECT_EQ(got.packed.size(), apart && finite ? packed_bytes(packing, 40000, dtype) : 0);
      if (got.packed.size() == 0) continue;
      const Message back = unpacked({{.packing = static_cast<uint32_t>(packing)}, got.packed}, dtype);
      ASSERT_EQ(back.body.size(), got.numbers.size());
      EXPECT_EQ(std::memcmp(back.body.data(), got.numbers.data(), got.numbers.size()), 0);
    }
}

// Rounded up, or with its residual, the largest number would be infinite, and the residual from then on.
TYPED_TEST(PackingOf, NothingBecomesInfinite) {
  for (Packing packing : {Packing::bf16, Packing::int8}) {
    std::vector<TypeParam> largest(3, std::numeric_limits<TypeParam>::max()), residual(3, largest[0]), v = largest;
    round_to_packing(packing, v, residual);
    EXPECT_EQ(v, largest);
    EXPECT_EQ(residual, largest);
  }
}

TYPED_TEST(PackingOf, WhatRoundingLeavesComesLater) {
  constexpr int64_t kSize = 300, kRounds = 200;
  for (Packing packing : {Packing::bf16, Packing::int8}) {
    std::vector<TypeParam> residual(kSize);
    std::vector<double> wanted(kSize), came(kSize);
    for (int64_t k = 0; k < kRounds; ++k) {
      auto v = numbers<TypeParam>(kSize, 10 + static_cast<uint64_t>(k));
      v[7] = static_cast<TypeParam>(1e-4);  // alone it would be rounded to 0 by int8
      for (int64_t i = 0; i < kSize; ++i) wanted[i] += v[i];
      round_to_packing(packing, v, residual);
      for (int64_t i = 0; i < kSize; ++i) came[i] += v[i];
    }
    const double step = packing == Packing::int8 ? 1.0 / 64 : 1.0 / 128;
    for (int64_t i = 0; i < kSize; ++i) {
      EXPECT_NEAR(came[i] + residual[i], wanted[i], sizeof(TypeParam) == 4 ? 1e-4 : 1e-12);
      EXPECT_LE(std::abs(residual[i]), step);
    }
    EXPECT_GT(came[7], 0);
  }
}

TEST(Packing, WhatIsNotPackedThatWayIsEmpty) {
  for (auto [packing, bytes] : {std::pair{2u, 1u}, {2u, 260u}, {1u, 3u}, {7u, 8u}}) {
    Message m;
    m.head.packing = packing;
    m.body = Payload::allocate(bytes);
    std::memset(m.body.data(), 1, bytes);
    EXPECT_EQ(unpacked(m, DType::f32).body.size(), 0u) << packing << ", " << bytes;
  }
}

TEST(Packing, ElasticForcesConserve) {
  for (const char* wire : {"bf16", "int8"})
    for (const char* scheme : {"easgd", "eamsgd"}) check_elastic_conserves(in_simulation(), scheme, wire);
}

// What rounding leaves of a worker's move goes with its next one.
TEST(Packing, DownpourDeliversButForWhatWaits) {
  for (const char* wire : {"bf16", "int8"})
    for (const char* scheme : {"downpour", "mdownpour", "adownpour", "mvadownpour"})
      check_downpour_delivers(in_simulation(), scheme, 3, wire);
}

TEST(Packing, AdmmsCenterIsTheMeanButForWhatWaits) {
  for (const char* wire : {"bf16", "int8"})
    for (const char* faults : {"", "drop from=* to=* probability=0.2\nslow rank=1 factor=3"})
      check_admm_center(in_simulation({.faults = parse_fault_plan(faults, "plan").value()}), wire);
}

// Gossip keeps the sum of the parameters, push-sum that of the weighted ones: at the end all weights are back.
TEST(Packing, GossipKeepsTheMean) {
  for (const char* wire : {"bf16", "int8"})
    for (const char* scheme : {"elastic_gossip", "adpsgd", "dpsgd", "dpsgd/ring", "sgp"}) {
      const std::string name = scheme;
      Toy toy = common_toy(name.substr(0, name.find('/')), "jacobi", 4);
      toy.scheme.wire = wire;
      if (name == "dpsgd") toy.scheme.topology = "exponential";
      toy.size = 600;
      toy.lr = 0;
      toy.start_spread = 1;
      const auto nodes = in_simulation()(4, [&](World& world) { return toy_run(world, toy); });
      for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
      bool moved = false;
      for (int64_t i = 0; i < toy.size; ++i) {
        double sum = 0;
        for (const NodeResult& node : nodes) sum += node.numbers.at(i);
        ASSERT_NEAR(sum, 1 + 2 + 3 + 4, 1e-12) << scheme;
        moved |= nodes[2].numbers[i] != 3;
      }
      EXPECT_TRUE(moved);
    }
}

// The heads stay, the numbers take 2 bytes, or 1 and 2 for each block.
TEST(Packing, ExchangesAreSmaller) {
  int64_t bytes[3];
  int at = 0;
  for (const std::string& wire : packing_names()) {
    Toy toy = common_toy("easgd");
    toy.scheme.wire = wire;
    toy.dtype = DType::f32;
    toy.start_spread = 1;
    const auto nodes = in_simulation()(node_count(toy.scheme), [&](World& world) {
      Result<Numbers> result = toy_run(world, toy);
      if (world.rank() == 1) bytes[at] = world.traffic().bytes_sent;
      return result;
    });
    for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
    ++at;
  }
  const int64_t exchanges = 7, blocks = 5 * 4 + 1;  // shards of 1000 numbers, and one of 3
  EXPECT_EQ(bytes[0] - bytes[1], exchanges * 5003 * 2);
  EXPECT_EQ(bytes[0] - bytes[2], exchanges * (5003 * 3 - 2 * blocks));
}

TEST(Packing, SchemesThatDoNotPackSaySo) {
  SchemeOptions o;
  o.name = "asgd";
  o.wire = "int8";
  EXPECT_EQ(validate(o).message(), "wire = int8 with scheme asgd; its workers exchange nothing: allowed is f32");
  o.name = "local";
  EXPECT_EQ(validate(o).message(),
            "wire = int8 with scheme local; its workers exchange nothing: allowed is f32, unless global_average_every "
            "is set");
  o.workers = 2, o.global_average_every = 5;
  EXPECT_TRUE(validate(o).ok()) << validate(o).message();
  o.name = "local", o.global_average_every = 10;
  EXPECT_TRUE(validate(o).ok());
  o.wire = "int4";
  EXPECT_EQ(validate(o).message(), "wire = 'int4'; allowed are f32, bf16, int8");
}

}  // namespace
}  // namespace sinew::dist::testing
