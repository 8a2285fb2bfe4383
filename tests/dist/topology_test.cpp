#include "dist/topology.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sinew::dist {
namespace {

Topology make(const std::string& name, int workers, const std::string& edges = "") {
  return Topology({.name = name, .workers = workers, .edges = edges});
}

TEST(Topology, PicksAreUniformAmongTheOthers) {
  constexpr int kWorkers = 5;
  constexpr int64_t kSteps = 40'000;
  for (Rank r = 0; r < kWorkers; ++r) {
    std::vector<double> counts(kWorkers);
    double none = 0;
    for (int64_t k = 0; k < kSteps; ++k) {
      const Rank peer = uniform_pick(3, k, r, kWorkers, 0.4);
      ASSERT_NE(peer, r);
      ASSERT_LT(peer, kWorkers);
      ++(peer == kAnyRank ? none : counts[peer]);
      EXPECT_EQ(peer, uniform_pick(3, k, r, kWorkers, 0.4));
    }
    EXPECT_NEAR(none / kSteps, 0.6, 0.01);
    for (Rank k = 0; k < kWorkers; ++k) EXPECT_NEAR(counts[k] / kSteps, k == r ? 0 : 0.1, 0.008);
  }
  EXPECT_EQ(uniform_pick(1, 7, 0, 1, 1), kAnyRank);
  EXPECT_EQ(uniform_pick(1, 7, 0, 4, 0), kAnyRank);
  for (int64_t k = 0; k < 100; ++k) EXPECT_EQ(uniform_pick(1, k, 1, 2, 1), 0);
}

// Specification, E7: both pick each other, one exchange. A star: three pick one.
TEST(Topology, LinksOfPicks) {
  const auto pair = pair_links({1, 0}, 0.5, Collision::sum, 0);
  EXPECT_EQ(pair[0], (Links{{1, 0.5}}));
  EXPECT_EQ(pair[1], (Links{{0, 0.5}}));
  const std::vector<Rank> star{kAnyRank, 0, 0, 0};
  const auto sum = pair_links(star, 0.5, Collision::sum, 0), capped = pair_links(star, 0.5, Collision::capped, 0);
  EXPECT_EQ(sum[0], (Links{{1, 0.5}, {2, 0.5}, {3, 0.5}}));
  EXPECT_EQ(capped[0], (Links{{1, 0.25}, {2, 0.25}, {3, 0.25}}));
  EXPECT_EQ(capped[2], (Links{{0, 0.25}}));
  EXPECT_EQ(pair_links(star, 0.1, Collision::capped, 0)[0][0].weight, 0.1);
  for (int64_t round = 0; round < 4; ++round) {  // whose turn it is depends on the round
    const auto matched = pair_links(star, 0.5, Collision::matching, round);
    EXPECT_EQ(matched[0], (Links{{static_cast<Rank>(round == 0 ? 1 : round), 0.5}}));
  }
}

TEST(Topology, EveryRoundKeepsTheSumAndEqualWorkersEqual) {
  for (int n : {1, 2, 3, 4, 5, 8, 12})
    for (const std::string& name : topology_names()) {
      if ((name == "shift_one" && n > 1 && n % 2) || (name == "edges" && n != 4)) continue;
      const Topology t = make(name, n, name == "edges" ? "0-1,2-1,3-2,1-3" : "");
      for (int64_t round = 0; round < 7; ++round) {
        const Matrix w = mixing_matrix(t, round);
        EXPECT_TRUE(columns_sum_to_one(w)) << name << " " << n;
        EXPECT_TRUE(rows_sum_to_one(w)) << name << " " << n;
        for (Rank i = 0; i < n; ++i) {
          double given = 0;
          for (const Link& l : t.in(i, round)) {
            EXPECT_NE(l.peer, i);
            EXPECT_EQ(w.at(i, l.peer), l.weight);
            given += l.weight;
          }
          EXPECT_NEAR(w.at(i, i), 1 - given, 1e-15);
          for (Rank j = 0; t.symmetric() && j < n; ++j) EXPECT_EQ(w.at(i, j), w.at(j, i));
        }
      }
    }
}

TEST(Topology, KnownWeights) {
  EXPECT_EQ(make("ring", 5).in(0, 3), (Links{{1, 1.0 / 3}, {4, 1.0 / 3}}));
  EXPECT_EQ(make("ring", 2).in(0, 0), (Links{{1, 0.5}}));
  EXPECT_EQ(make("star", 4).in(2, 0), (Links{{0, 0.25}}));
  EXPECT_EQ(make("complete", 4).in(1, 0), (Links{{0, 0.25}, {2, 0.25}, {3, 0.25}}));
  EXPECT_EQ(make("grid", 6).in(0, 0), (Links{{1, 0.25}, {3, 1.0 / 3}}));  // two rows of three
  EXPECT_EQ(make("edges", 3, "0-1,1-2").in(1, 0), (Links{{0, 1.0 / 3}, {2, 1.0 / 3}}));
  EXPECT_EQ(make("exponential", 8).out(6, 0), (Links{{0, 0.25}, {2, 0.25}, {7, 0.25}}));
  EXPECT_EQ(make("one_peer_exponential", 8).out(6, 5), (Links{{2, 0.5}}));
  EXPECT_EQ(make("one_peer_exponential", 8).in(6, 5), (Links{{2, 0.5}}));
  EXPECT_EQ(make("one_peer_exponential", 5).out(4, 2), (Links{{3, 0.5}}));
}

// Bagua: a perfect matching in each step, every pair across the halves in half as many steps as workers.
TEST(Topology, ShiftOneMeetsEveryoneOfTheOtherHalf) {
  const Topology t = make("shift_one", 8);
  EXPECT_EQ(t.period(), 4);
  for (Rank r = 0; r < 8; ++r) {
    std::vector<int> met(8);
    for (int64_t round = 0; round < 4; ++round) {
      const Links mine = t.in(r, round);
      ASSERT_EQ(mine.size(), 1u);
      EXPECT_EQ(t.in(mine[0].peer, round)[0].peer, r);
      ++met[mine[0].peer];
    }
    for (Rank k = 0; k < 8; ++k) EXPECT_EQ(met[k], (r < 4) != (k < 4));
  }
}

Matrix over_a_period(const Topology& t) {
  Matrix w = mixing_matrix(t, 0);
  for (int64_t round = 1; round < t.period(); ++round) w = product(mixing_matrix(t, round), w);
  return w;
}

// Ying et al. 2021: log2 N rounds are the exact average when N is a power of two, and are not otherwise.
TEST(Topology, OnePeerExponentialAveragesExactly) {
  for (int n : {2, 4, 8, 16, 64}) {
    const Topology t = make("one_peer_exponential", n);
    EXPECT_EQ(1 << t.period(), n);
    const Matrix w = over_a_period(t);
    for (double v : w.values) EXPECT_NEAR(v, 1.0 / n, 1e-15);
    EXPECT_EQ(disagreement(w), 0);
  }
  EXPECT_GT(disagreement(over_a_period(make("one_peer_exponential", 6))), 0.1);
}

TEST(Topology, Disagreement) {
  for (int n : {3, 4, 8, 31}) {  // a ring's eigenvalues are 1/3 + 2/3 cos(2 pi k / n)
    double largest = 0;
    for (int k = 1; k < n; ++k) largest = std::max(largest, std::abs(1.0 / 3 + 2.0 / 3 * std::cos(2 * M_PI * k / n)));
    EXPECT_NEAR(disagreement(mixing_matrix(make("ring", n), 0)), largest, 1e-6) << n;
  }
  EXPECT_NEAR(disagreement(mixing_matrix(make("complete", 6), 0)), 0, 1e-12);
  EXPECT_NEAR(disagreement(mixing_matrix(make("star", 8), 0)), 1 - 1.0 / 8, 1e-9);
  EXPECT_NEAR(disagreement(mixing_matrix(make("shift_one", 8), 0)), 1, 1e-9);  // pairs alone agree on nothing
  EXPECT_LT(disagreement(over_a_period(make("shift_one", 8))), 0.6);
  // Elastic gossip, E2: a star of three leaves with alpha 1/2 has the eigenvalue 1 - 4/2 = -1.
  const auto star = pair_links({kAnyRank, 0, 0, 0}, 0.5, Collision::sum, 0);
  Matrix w{4, std::vector<double>(16)};
  for (Rank i = 0; i < 4; ++i) {
    w.at(i, i) = 1;
    for (const Link& l : star[i]) w.at(i, l.peer) = l.weight, w.at(i, i) -= l.weight;
  }
  EXPECT_EQ(w.at(0, 0), -0.5);
  EXPECT_NEAR(disagreement(w), 1, 1e-9);
}

// Specification, E4: its figures, and the mean over the realised matrices.
TEST(Topology, ExpectedContraction) {
  EXPECT_NEAR(expected_contraction(4, 1, 0.5), 0.4074, 5e-5);
  EXPECT_NEAR(expected_contraction(8, 1, 0.5), 0.6035, 1e-3);
  EXPECT_NEAR(expected_contraction(4, 1.0 / 8, 0.5), 0.847, 5e-4);
  EXPECT_NEAR(expected_contraction(8, 1, 0.95), 3.20, 5e-3);
  EXPECT_NEAR(expected_contraction(4, 1.0 / 32, 0.95), 0.9945, 5e-5);
  // One uniformly random pair is the limit of small p, E3.
  const double p = 1e-6;
  EXPECT_NEAR((1 - expected_contraction(5, p, 0.5)) / (5 * p), 4 * 0.5 * 0.5 / (5 - 1), 1e-5);
}

TEST(Topology, Validates) {
  const std::pair<TopologyOptions, const char*> cases[] = {
      {{.name = "rung", .workers = 4}, "unknown topology 'rung'; allowed are uniform, ring"},
      {{.name = "ring", .workers = 0}, "workers = 0"},
      {{.name = "shift_one", .workers = 5}, "must be even, not 5"},
      {{.name = "edges", .workers = 3}, "needs a list of edges"},
      {{.name = "ring", .workers = 3, .edges = "0-1"}, "take topology edges"},
      {{.name = "edges", .workers = 3, .edges = "0-1,1-3"}, "'1-3'; an edge is two different ranks of 0 to 2"},
      {{.name = "edges", .workers = 3, .edges = "0-1,"}, "''"},
      {{.name = "edges", .workers = 3, .edges = "0-1,1_2"}, "'1_2'"},
      {{.name = "edges", .workers = 3, .edges = "0-1,2-2"}, "'2-2'"},
      {{.name = "edges", .workers = 4, .edges = "0-1,2-3"}, "without a path"},
  };
  for (const auto& [options, expected] : cases) {
    const Status status = validate(options);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_NE(status.message().find(expected), std::string::npos) << status.message();
  }
  EXPECT_TRUE(validate({.name = "edges", .workers = 3, .edges = "0-1,1-2"}).ok());
}

}  // namespace
}  // namespace sinew::dist
