// The gossip specification, section 1.5, E3 and E4, and the contraction of section 2, as the laboratory measures them.
#include "models/lab/gossip_rounds.h"

#include <gtest/gtest.h>

#include <cmath>

#include "dist/topology.h"

namespace sinew::train::lab {
namespace {

// 4.5 standard errors are missed by chance once in a hundred thousand.
void expect_measured(const Contraction& c, double expected) {
  EXPECT_GT(c.rounds, 200);
  EXPECT_LT(c.error, 0.05 * expected);
  EXPECT_LT(std::fabs(c.mean - expected), 4.5 * c.error) << c.mean << " +- " << c.error << ", expected " << expected;
}

TEST(LabGossipRounds, ContractAsE3AndE4Say) {
  struct Row {
    int workers;
    double probability, alpha, printed;
  };
  for (const Row& r : {Row{4, 0.125, 0.5, 0.847}, {8, 1, 0.95, 3.20}}) {
    const Result<GossipRounds> m = measure_rounds("elastic_gossip", r.workers, r.probability, r.alpha, 1000, 1);
    ASSERT_TRUE(m.ok()) << m.status().message();
    EXPECT_EQ(m->all.rounds, 1000);
    const double expected = dist::expected_contraction(r.workers, r.probability, r.alpha);
    EXPECT_NEAR(expected, r.printed, 2e-3 * r.printed);
    expect_measured(m->all, expected);
    if (r.probability < 1) expect_measured(m->one_pair, 1 - 4 * r.alpha * (1 - r.alpha) / (r.workers - 1));
  }
  EXPECT_DOUBLE_EQ(one_pair_contraction(5, 0.5), 0.75);
  EXPECT_DOUBLE_EQ(one_pair_contraction(2, 1), 1) << "a swap";
}

TEST(LabGossipRounds, PulledAverages) {
  EXPECT_NEAR(pull_contraction(4, 1, 0.5), 0.3333, 5e-5);
  EXPECT_NEAR(pull_contraction(8, 1, 0.5), 0.4286, 5e-5);
  const Result<GossipRounds> m = measure_rounds("gossiping_sgd", 4, 0.5, 0.25, 1000, 3);
  ASSERT_TRUE(m.ok()) << m.status().message();
  expect_measured(m->all, pull_contraction(4, 0.5, 0.25));
}

}  // namespace
}  // namespace sinew::train::lab
