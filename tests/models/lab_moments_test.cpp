// The EASGD specification, section 6: the center's mean and variance under noise, measured on the scheme.
#include "models/lab/moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/models/lab_table.h"

namespace sinew::train::lab {
namespace {

TEST(LabMoments, TheLemmaGivesTheReferenceValues) {
  struct Row {
    Quadratic q;
    double mean2, variance2, mean10, variance10, variance100, limit;
  };
  for (const Row& r : {Row{{1, 0.1, 0.9}, 0.91, 0.81, 0.6185277784, 2.28520955, 3.2576400646, 3.2577633835},
                       {{4, 0.1, 0.9}, 0.91, 0.2025, 0.4739769294, 0.8161369951, 1.0455838758, 1.0455839691},
                       {{4, 1.5, 0.9}, -0.35, 45.5625, -0.2579137822, 150.4023787, 191.9117423, 191.9117647},
                       {{10, 0.5, 0.5}, 0.75, 0.625, 0.0228266166, 1.7430235866, 1.7441860465, 1.7441860465},
                       {{100, 1.0, 0.9}, 0.1, 0.81, 3.045e-08, 0.8169542509, 0.8169542509, 0.8169542509},
                       {{4, 0.05, 0.1}, 0.995, 0.000625, 0.8571527864, 0.0637757057, 0.3676011289, 0.3681499960}}) {
    EXPECT_EQ(lemma_7_1(r.q, 0).variance, 0);
    EXPECT_NEAR(lemma_7_1(r.q, 1).mean, 1, 1e-12);
    EXPECT_NEAR(lemma_7_1(r.q, 1).variance, 0, 1e-12);
    EXPECT_NEAR(lemma_7_1(r.q, 2).mean, r.mean2, 1e-12);
    EXPECT_NEAR(lemma_7_1(r.q, 2).variance, r.variance2, 1e-11);
    EXPECT_NEAR(lemma_7_1(r.q, 10).mean, r.mean10, 1e-10);
    EXPECT_NEAR(lemma_7_1(r.q, 10).variance, r.variance10, 1e-9 * r.variance10 + 1e-10);
    EXPECT_NEAR(lemma_7_1(r.q, 100).variance, r.variance100, 1e-9 * r.variance100 + 1e-10);
    EXPECT_NEAR(lemma_7_1(r.q, -1).variance, r.limit, 1e-9 * r.limit + 1e-10);
  }
  EXPECT_NEAR(corollary_7_1({4, 0.1, 0.9}), 5.158, 5e-4);
  EXPECT_NEAR(corollary_7_1({10, 0.5, 0.5}), 18.5185, 5e-5);
  EXPECT_NEAR(corollary_7_1({100, 1.0, 0.9}), 81.8182, 5e-5);
}

// Many copies, and every step of all of them: 4.5 standard errors are missed by chance once in a hundred thousand.
TEST(LabMoments, TheSchemeHasTheLemmasMoments) {
  constexpr int64_t kCopies = 2000;
  struct Row {
    Quadratic q;
    int64_t steps;
  };
  for (const Row& r : {Row{{1, 0.1, 0.9}, 30},
                       {{4, 0.1, 0.9}, 30},
                       {{4, 1.5, 0.9}, 10},
                       {{10, 0.5, 0.5}, 10},
                       {{4, 0.05, 0.1}, 100}}) {
    const Result<std::vector<Moments>> m = measured_moments(r.q, kCopies, r.steps, 1);
    ASSERT_TRUE(m.ok()) << m.status().message();
    ASSERT_EQ(m->size(), static_cast<size_t>(r.steps + 1));
    EXPECT_NEAR((*m)[1].mean, 1, 1e-12);
    EXPECT_NEAR((*m)[1].variance, 0, 1e-24);
    for (int64_t t = 2; t <= r.steps; ++t) {
      const Moments off = standard_errors_off((*m)[static_cast<size_t>(t)], lemma_7_1(r.q, t), kCopies);
      EXPECT_LT(std::fabs(off.mean), 4.5) << r.q.workers << " workers, eta " << r.q.eta << ", t " << t;
      EXPECT_LT(std::fabs(off.variance), 4.5) << r.q.workers << " workers, eta " << r.q.eta << ", t " << t;
    }
  }
}

// What must be told apart: another number of workers, another beta.
TEST(LabMoments, AnotherSettingIsFarOff) {
  constexpr int64_t kCopies = 2000;
  const Result<std::vector<Moments>> m = measured_moments({4, 0.1, 0.9}, kCopies, 10, 1);
  ASSERT_TRUE(m.ok());
  EXPECT_GT(std::fabs(standard_errors_off(m->back(), lemma_7_1({5, 0.1, 0.9}, 10), kCopies).variance), 4.5);
  EXPECT_GT(std::fabs(standard_errors_off(m->back(), lemma_7_1({4, 0.1, 0.5}, 10), kCopies).variance), 4.5);
}

// What 10,000 copies have with seed 1: workers, eta, beta, steps, mean and variance.
TEST(LabMoments, PrintsTheseMoments) {
  const Result<Report> report = moments(1);
  ASSERT_TRUE(report.ok()) << report.status().message();
  expect_rows(report->tables.at(0),
              {{1., 0.1, 0.9, 2., 0.906102, kAny, kAny, 0.806788},
               {1., 0.1, 0.9, 10., 0.592456, kAny, kAny, 2.26200},
               {1., 0.1, 0.9, 100., kAny, kAny, kAny, 3.28371},
               {4., 0.1, 0.9, 2., 0.909953, kAny, kAny, 0.202562},
               {4., 0.1, 0.9, 10., 0.464409, kAny, kAny, 0.822997},
               {4., 0.1, 0.9, 100., kAny, kAny, kAny, 1.04466},
               {4., 1.5, 0.9, 2., -0.350712, kAny, kAny, 45.5765},
               {4., 1.5, 0.9, 10., -0.318985, kAny, kAny, 148.916},
               {4., 1.5, 0.9, 100., kAny, kAny, kAny, 193.828},
               {10., 0.5, 0.5, 2., 0.758420, kAny, kAny, 0.604979},
               {10., 0.5, 0.5, 10., 0.0214894, kAny, kAny, 1.74720},
               {10., 0.5, 0.5, 100., kAny, kAny, kAny, 1.74400},
               {100., 1., 0.9, 2., 0.0965885, kAny, kAny, 0.803853},
               {100., 1., 0.9, 10., 0.0201919, kAny, kAny, 0.812467},
               {4., 0.05, 0.1, 2., 0.994997, kAny, kAny, 6.25192e-4},
               {4., 0.05, 0.1, 10., 0.855197, kAny, kAny, 0.0630679},
               {4., 0.05, 0.1, 100., kAny, kAny, kAny, 0.373051}},
              1e-5);
  double most = 0;  // standard errors off
  for (const auto& row : report->tables[0].rows)
    for (size_t column : {6, 9}) most = std::max(most, std::fabs(std::get<double>(row.at(column))));
  EXPECT_NEAR(most, 2.265, 5e-4);
}

}  // namespace
}  // namespace sinew::train::lab
