// scheme.wire for what is exchanged by collectives: what members have given comes out or waits, whoever dies; small
// numbers arrive in the end; messages are as large as they should be.
#include <gtest/gtest.h>

#include <cmath>

#include "dist/schemes/lockstep.h"
#include "tests/support/collective_bodies.h"
#include "tests/support/gossip_bodies.h"
#include "tests/support/leader_bodies.h"

namespace sinew::dist::testing {
namespace {

constexpr Packing kPackings[] = {Packing::bf16, Packing::int8};

class PackedCollectives : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Members, PackedCollectives, ::testing::Range(1, 6));

TEST_P(PackedCollectives, WhatIsGivenComesOutOrWaits) {
  for (Packing packing : kPackings)
    for (int64_t n : {0, 1, 2, 3, 7, 255, 1001, 170'003})
      for (DType dtype : {DType::f32, DType::f64})
        check_packed_all_reduce(in_simulation(), GetParam(), n, dtype, packing);
}

// Parameters that are not finite come as they are, and leave the residuals alone.
TEST(PackedCollective, WhatIsNotFiniteIsToldToAll) {
  const auto nodes = in_simulation()(3, [](World& world) -> Result<Numbers> {
    Communicator group(world, all_ranks(world), kSecond);
    Vec x = contributions(world.rank(), 900, DType::f32), residual = Vec::zeros(900, DType::f32);
    if (world.rank() == 1) fill(x.mutable_view().slice(10, 1), NAN);
    SINEW_RETURN_IF_ERROR(group.all_reduce_packed(x.mutable_view(), false, Packing::int8, residual.mutable_view()));
    EXPECT_TRUE(all_finite(residual.view()));
    return to_doubles(x.view());
  });
  for (const NodeResult& node : nodes) {
    ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_TRUE(std::isnan(node.numbers[10]));
    EXPECT_TRUE(std::isfinite(node.numbers[899]));
  }
}

TEST(PackedCollective, ASavedStateThatDoesNotFitIsRefused) {
  SchemeOptions o{.name = "allreduce", .workers = 1};
  o.wire = "int8";
  const auto refused = [&](const SchemeState& state, const std::string& says) {
    const auto nodes = in_simulation()(1, [&](World& world) -> Result<Numbers> {
      Lockstep group(world, o);
      SINEW_RETURN_IF_ERROR(group.load(state));
      SINEW_RETURN_IF_ERROR(group.start(1));
      Numbers x(3, 1);
      SINEW_RETURN_IF_ERROR(group.all_reduce_packed(VecView(x), false));
      return Numbers{};
    });
    EXPECT_EQ(nodes[0].status.code(), says.empty() ? StatusCode::ok : StatusCode::data_error) << says;
    EXPECT_NE(nodes[0].status.message().find(says), std::string::npos) << nodes[0].status.message();
  };
  const Vec fits = Vec::zeros(3, DType::f64);
  refused({{{"lockstep.residual.0", fits}}, {}}, "");
  for (const char* suffix : {"", "x", "0x", "-1", "16", "99999999999999999999999"})
    refused({{{std::string("lockstep.residual.") + suffix, fits}}, {}}, "and a number below 16");
  for (const Vec& other : {Vec::zeros(2, DType::f64), Vec::zeros(4, DType::f64), Vec::zeros(3, DType::f32)})
    refused({{{"lockstep.residual.0", other}}, {}}, "'lockstep.residual.0' of 3 f64 is expected");
  const auto members = [](const std::vector<int64_t>& ranks) { return Vec::copy_of(ConstVecView(ranks)); };
  refused({{{"lockstep.members", members({0})}}, {{"lockstep.epoch", 1}}}, "");
  for (const Vec& other : {members({1}), members({0, 1}), members({-1, 0}), members({0, 0}), members({}), fits})
    refused({{{"lockstep.members", other}}, {{"lockstep.epoch", 1}}}, "ranks below 1");
}

TEST(PackedCollective, DuplicatesAndOrderChangeNothing) {
  const auto body = [](World& world) -> Result<Numbers> {
    Communicator group(world, all_ranks(world), 10 * kSecond);
    Vec x = contributions(world.rank(), 200'000, DType::f32), residual = Vec::zeros(200'000, DType::f32);
    for (int round = 0; round < 2; ++round)
      SINEW_RETURN_IF_ERROR(group.all_reduce_packed(x.mutable_view(), true, Packing::int8, residual.mutable_view()));
    return to_doubles(x.view());
  };
  const auto expected = in_simulation()(4, body);
  const auto nodes =
      in_simulation({.faults = plan("duplicate probability=0.3\nreorder probability=0.5 by=40ms")})(4, body);
  for (size_t r = 0; r < 4; ++r) {
    ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
    EXPECT_TRUE(same_bits(nodes[r].numbers, expected[0].numbers));
  }
}

// A worker is killed at some time in some round. Its own numbers fit the packed form, so that outside the segment that
// it added up it owes nothing: there, what was given to each round by those that were in it is what came out and what
// the survivors still hold, wherever the death fell.
TEST(PackedCollective, ADeathNeitherLosesNorDoublesWhatWaits) {
  constexpr int kWorkers = 4, kDead = 2;
  constexpr int64_t kSize = 400, kRounds = 12;
  int re_formed = 0;
  for (int at = 20; at < 160; at += 3) {
    std::vector<Numbers> given(kWorkers, Numbers(kSize)), last(kWorkers);
    Numbers came(kSize);
    std::vector<Numbers> rests(kWorkers);
    const auto body = [&](World& world) -> Result<Numbers> {
      const Rank me = world.rank();
      SchemeOptions o{.name = "allreduce", .workers = kWorkers};
      o.wire = "int8", o.deadline = 300 * kMillisecond;
      Lockstep group(world, o);
      SINEW_RETURN_IF_ERROR(group.start(1));
      for (int64_t k = 0; k < kRounds; ++k) {
        world.compute(Cost{1}, [] {});
        Numbers x(kSize);
        for (int64_t i = 0; i < kSize; ++i)
          x[static_cast<size_t>(i)] =
              me == kDead ? std::ldexp(1 + static_cast<int>((i + k) % 100), -7) : contribution(me + 100 * int(k), i);
        const Numbers own = x;
        SINEW_RETURN_IF_ERROR(group.all_reduce_packed(VecView(x), false));
        const auto& members = group.membership().members();
        re_formed += k > 0 && me == 0 && members.size() == 3;
        for (int64_t i = 0; i < kSize; ++i) {
          const auto n = static_cast<size_t>(i);
          given[static_cast<size_t>(me)][n] += own[n];
          if (me != 0) continue;
          came[n] += x[n];
        }
        if (me == 0) last[0].push_back(static_cast<double>(members.size()));
      }
      SchemeState state;
      group.save(state);
      rests[static_cast<size_t>(me)] = to_doubles(state.vectors.at("lockstep.residual.0").view());
      SINEW_RETURN_IF_ERROR(group.finish());
      return Numbers{};
    };
    const SimulatedRun run =
        simulate(kWorkers, body, {.jitter = 0.3, .faults = plan("kill rank=2 at=" + std::to_string(at) + "ms")});
    for (Rank r : {0, 1, 3}) ASSERT_TRUE(run.nodes[static_cast<size_t>(r)].finished) << at;
    // The dead one's part counts in the rounds that had four members.
    for (int64_t i = 0; i < kSize; ++i) {
      if (i >= kSize / 2 && i < kSize * 3 / 4) continue;  // its segment
      const auto n = static_cast<size_t>(i);
      double all = given[0][n] + given[1][n] + given[3][n], there = came[n];
      for (int64_t k = 0; k < kRounds; ++k)
        if (last[0][static_cast<size_t>(k)] == 4) all += std::ldexp(1 + static_cast<int>((i + k) % 100), -7);
      for (size_t r : {0u, 1u, 3u}) there += rests[r][n];
      // A round that was completed before the others re-formed has the dead one's part, though the group has it no
      // more.
      const double off = there - all;
      bool explained = std::abs(off) < 1e-12;
      for (int64_t k = 0; k < kRounds && !explained; ++k)
        explained = last[0][static_cast<size_t>(k)] == 3 &&
                    std::abs(off - std::ldexp(1 + static_cast<int>((i + k) % 100), -7)) < 1e-12;
      ASSERT_TRUE(explained) << "killed at " << at << " ms, element " << i << " is off by " << off;
    }
  }
  EXPECT_GT(re_formed, 100);
}

// Numbers that are always rounded to zero beside a large one: with what rounding leaves they arrive all the same.
TEST(PackedCollective, SmallNumbersArriveInTheEnd) {
  constexpr int64_t kSize = 300, kRounds = 400;
  const auto run = [](bool feedback) {
    return in_simulation()(3, [=](World& world) -> Result<Numbers> {
      Communicator group(world, all_ranks(world), kSecond);
      Vec residual = Vec::zeros(kSize, DType::f32);
      Numbers sums(kSize);
      for (int64_t k = 0; k < kRounds; ++k) {
        std::vector<float> x(kSize, 1e-3F);
        x[0] = x[100] = x[200] = x[299] = 1;
        SINEW_RETURN_IF_ERROR(group.all_reduce_packed(VecView(x), false, Packing::int8, residual.mutable_view()));
        for (size_t i = 0; i < kSize; ++i) sums[i] += x[i];
        if (!feedback) fill(residual.mutable_view(), 0);
      }
      return sums;
    });
  };
  const auto with = run(true), without = run(false);
  for (size_t i : {50u, 150u, 250u}) {
    EXPECT_NEAR(with[0].numbers[i], 3 * 1e-3 * kRounds, 0.15) << "a few steps of rounding, however long it takes";
    EXPECT_EQ(without[0].numbers[i], 0);
  }
}

// Each member sends all segments but its own, and its own sum to each of the others: 2 (p - 1) messages, and together
// 2 (p - 1) times the packed vector.
TEST(PackedCollective, Traffic) {
  for (int p : {2, 4})
    for (Packing packing : kPackings) {
      constexpr int64_t kSize = 4096;
      int64_t bytes = 0, messages = 0;
      const SimulatedRun run = simulate(p, [&](World& world) -> Result<Numbers> {
        Communicator group(world, all_ranks(world), kSecond);
        Vec x = contributions(world.rank(), kSize, DType::f32), residual = Vec::zeros(kSize, DType::f32);
        SINEW_RETURN_IF_ERROR(group.all_reduce_packed(x.mutable_view(), true, packing, residual.mutable_view()));
        return Numbers{};
      });
      for (const NodeOutcome& node : run.report.nodes)
        bytes += node.traffic.bytes_sent, messages += node.traffic.messages_sent;
      EXPECT_EQ(messages, p * 2 * (p - 1));
      EXPECT_EQ(bytes, 64 * messages + 2 * (p - 1) * static_cast<int64_t>(packed_bytes(packing, kSize, DType::f32)));
    }
}

// Parameters move by their own steps and by what comes through the wire. With what waits in the residuals, and the
// center where there is one, the sum over workers is that of their own steps.
TEST(PackedSchemes, Conserve) {
  struct Case {
    const char* scheme;
    bool center;  // a vector of its own, equal on all workers
    int64_t global_average_every = 0;
    double sign = 1;  // -1: gradients are exchanged, which point the other way
  };
  for (const Case& c :
       {Case{"easgd_sync", true}, {"local_sgd", false, 0, -1}, {"local", false, 4}, {"dpsgd", false, 5}})
    for (const char* wire : {"bf16", "int8"}) {
      Toy toy = common_toy(c.scheme, "jacobi", 4);
      toy.scheme.wire = wire;
      toy.scheme.global_average_every = c.global_average_every;
      toy.size = 700;
      double waiting = 0;
      const auto nodes = in_simulation()(4, [&](World& world) -> Result<Numbers> {
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        Numbers sum(700);
        for (int64_t k = 0; k < toy.steps; ++k) {
          SINEW_RETURN_IF_ERROR(worker.step(k));
          const Numbers step = to_doubles(worker.velocity().view());
          for (size_t i = 0; i < 700; ++i) sum[i] -= step[i];
        }
        const Numbers theta = to_doubles(worker.theta().view());
        const Numbers rest = to_doubles(worker.scheme().save().vectors.at("lockstep.residual.0").view());
        Vec center = Vec::zeros(700, toy.dtype);
        if (c.center && world.rank() == 0)
          SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
        const Numbers there = to_doubles(center.view());
        for (size_t i = 0; i < 700; ++i) {
          sum[i] += theta[i] + c.sign * rest[i] + there[i];
          waiting += std::abs(rest[i]);
        }
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        return sum;
      });
      for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
      EXPECT_GT(waiting, 0);
      for (size_t i = 0; i < 700; ++i) {
        double sum = 0;
        for (const NodeResult& node : nodes) sum += node.numbers[i];
        ASSERT_NEAR(sum, (4 + c.center) * toy.start, 1e-11) << c.scheme << " " << wire << ", element " << i;
      }
    }
}

// The mean gradient of a long run, with what waits, is that of the exact one.
TEST(PackedSchemes, TrainAsWellAsExactOnes) {
  for (const char* scheme : {"allreduce", "local_sgd", "easgd_sync", "local"})
    for (const char* wire : {"bf16", "int8"}) {
      Toy toy = common_toy(scheme, "jacobi", 4);
      toy.size = 600;
      toy.steps = 300;
      toy.dtype = DType::f32;
      if (toy.scheme.name == "local") toy.scheme.global_average_every = 3;
      Toy exact = toy;
      toy.scheme.wire = wire;
      const auto nodes = in_simulation()(4, [&](World& world) { return toy_run(world, toy); });
      const auto expected = in_simulation()(4, [&](World& world) { return toy_run(world, exact); });
      for (size_t r = 0; r < 4; ++r) {
        ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
        for (size_t i = 0; i < 600; ++i)
          ASSERT_NEAR(nodes[r].numbers[i], expected[r].numbers[i], 0.02) << scheme << " " << wire;
      }
      EXPECT_NE(nodes[0].numbers, expected[0].numbers);
    }
}

// Without gradients workers come to the leader through rounded numbers, however coarse; it stays where it is. A round
// costs what its packed parameters do.
TEST(PackedSchemes, FollowersComeToTheLeader) {
  for (const char* mode : {"sync", "async"}) {
    int64_t bytes[2][2] = {};
    for (bool packs : {false, true})
      for (bool longer : {false, true}) {
        Toy toy = toy_with(
            leaders("lsgd", 4, [&](SchemeOptions& o) { o.mode = mode, o.wire = packs ? "int8" : "f32", o.pull = 0.5; }),
            0);
        toy.size = 512;
        toy.start = 0.1234567;
        toy.steps = longer ? 40 : 20;
        const SimulatedRun run =
            simulate(4, [&](World& world) { return run_with(world, toy, led_by(2)); }, {.jitter = 0});
        for (size_t r = 0; r < 4; ++r) {
          ASSERT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
          bytes[packs][longer] += run.report.nodes[r].traffic.bytes_sent;
          for (double x : run.nodes[r].numbers)
            ASSERT_NEAR(x, toy.start + 2, r == 2 ? 0 : packs ? 0.02 : 1e-5) << mode << ", rank " << r;
        }
      }
    const int64_t saved = (bytes[0][1] - bytes[0][0]) - (bytes[1][1] - bytes[1][0]);
    EXPECT_EQ(saved, 20 * 3 * (512 * 8 - static_cast<int64_t>(packed_bytes(Packing::int8, 512, DType::f64)))) << mode;
  }
}

// Buffers behind the parameters travel as they are, and gradient and curvature do not mix what waits.
TEST(PackedSchemes, BuffersAreExactAndStreamsApart) {
  const auto nodes = in_simulation()(2, [](World& world) -> Result<Numbers> {
    SchemeOptions o{.name = "allreduce", .workers = 2};
    o.wire = "int8", o.parameters = 600;
    auto scheme = make_scheme(o, world, 700, DType::f64);
    Vec theta = Vec::zeros(700, DType::f64);
    SINEW_RETURN_IF_ERROR(scheme->start(theta.mutable_view()));
    Vec x = contributions(world.rank(), 700, DType::f64);
    SINEW_RETURN_IF_ERROR(scheme->reduce(x.mutable_view(), Statistic::gradient));
    for (int64_t i = 600; i < 700; ++i)
      EXPECT_EQ(to_doubles(x.view())[static_cast<size_t>(i)], (contribution(0, i) + contribution(1, i)) / 2);
    const Numbers before = to_doubles(scheme->save().vectors.at("lockstep.residual.0").view());
    EXPECT_EQ(before.size(), 600u);
    Vec d = contributions(world.rank() + 10, 600, DType::f64);
    SINEW_RETURN_IF_ERROR(scheme->reduce(d.mutable_view(), Statistic::curvature));
    const SchemeState state = scheme->save();
    EXPECT_EQ(to_doubles(state.vectors.at("lockstep.residual.0").view()), before);
    EXPECT_NE(to_doubles(state.vectors.at("lockstep.residual.1").view()), before);
    SINEW_RETURN_IF_ERROR(scheme->finish(theta.mutable_view()));
    return Numbers{};
  });
  for (const NodeResult& node : nodes) EXPECT_TRUE(node.finished) << node.status.message();
}

}  // namespace
}  // namespace sinew::dist::testing
