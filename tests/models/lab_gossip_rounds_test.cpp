// The gossip specification, section 1.5, E3 and E4, and the contraction of section 2, as the laboratory measures them.
#include "models/lab/gossip_rounds.h"

#include <gtest/gtest.h>

#include <cmath>

#include "dist/topology.h"
#include "tests/models/lab_table.h"

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

// Scheme, workers, probability, rate, rounds, and what 10,000 rounds have with seed 1.
TEST(LabGossipRounds, PrintsTheseContractions) {
  const Result<Report> report = gossip_rounds(1);
  ASSERT_TRUE(report.ok()) << report.status().message();
  expect_rows(report->tables.at(0),
              {{"elastic gossip", 4., 1., 0.5, 10000., 0.408251, 0.407407},
               {"elastic gossip", 8., 1., 0.5, 10000., 0.603402, 0.603498},
               {"elastic gossip", 4., 0.125, 0.5, 10000., 0.845938, 0.846933},
               {"of one pair", 4., 0.125, 0.5, 3428., 0.665531, 0.666667},
               {"elastic gossip", 8., 1., 0.95, 10000., 3.19445, 3.19802},
               {"elastic gossip", 4., 0.03125, 0.95, 10000., 0.994095, 0.994458},
               {"of one pair", 4., 0.03125, 0.95, 1120., 0.935728, 0.936667},
               {"pulled averages", 4., 1., 0.5, 10000., 0.332499, 0.333333},
               {"pulled averages", 8., 1., 0.5, 10000., 0.428535, 0.428571}},
              2e-6);
  for (const auto& row : report->tables[0].rows) EXPECT_LT(std::fabs(std::get<double>(row.at(7))), 2);
}

TEST(LabGossipRounds, TheBestAlphaIsNotAHalf) {
  for (const auto& [workers, best] : {std::pair{4, 34}, {8, 31}}) {
    int least = 1;
    for (int percent = 1; percent <= 100; ++percent)
      if (dist::expected_contraction(workers, 1, 0.01 * percent) < dist::expected_contraction(workers, 1, 0.01 * least))
        least = percent;
    EXPECT_EQ(least, best) << workers;
  }
}

}  // namespace
}  // namespace sinew::train::lab
