// The EASGD specification, section 5: round-robin ADMM and EASGD, measured on the schemes.
#include "models/lab/stability.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/models/lab_table.h"

namespace sinew::train::lab {
namespace {

double radius(const std::string& scheme, int workers, double eta, double alpha) {
  const Result<RoundMap> map = round_map(scheme, workers, eta, alpha);
  EXPECT_TRUE(map.ok()) << map.status().message();
  return map.ok() ? spectral_radius(*map) : NAN;
}

double admm(int workers, double eta, double rho) { return radius("admm", workers, eta, eta * rho); }

TEST(LabStability, SpectralRadius) {
  EXPECT_NEAR(spectral_radius({2, {0.6, 0.8, -0.8, 0.6}}), 1, 1e-12) << "a rotation";
  EXPECT_NEAR(spectral_radius({2, {0.5, 100, 0, 0.4}}), 0.5, 1e-11);
  EXPECT_NEAR(spectral_radius({3, {0, 0, 2, 1, 0, 0, 0, 1, 0}}), std::cbrt(2), 1e-12);
  EXPECT_EQ(spectral_radius({2, {0, 1, 0, 0}}), 0);
}

TEST(LabStability, AdmmAtThePapersPoints) {
  EXPECT_NEAR(admm(1, 0.001, 2.5), 0.99900249, 5e-9);
  EXPECT_NEAR(admm(2, 0.001, 2.5), 0.99900187, 5e-9);
  EXPECT_NEAR(admm(3, 0.001, 2.5), 1.0009738854079, 1e-12);
  EXPECT_NEAR(admm(8, 0.001, 2.5), 1.0022578661800, 1e-12);
  struct Point {
    int workers;
    double eta, rho, radius;
  };
  for (const Point& p : {Point{3, 0.005, 2.5, 0.99613232},
                         {3, 0.001, 9, 0.99943350},
                         {3, 0.009, 9, 0.99146194},
                         {3, 0.001, 0.5, 1.00057141},
                         {3, 1e-4, 2.5, 1.00077685},
                         {3, 0.01, 1, 0.99455221},
                         {8, 0.005, 2.5, 0.99986492},
                         {8, 0.001, 9, 1.00241267},
                         {8, 0.009, 9, 0.99139315},
                         {8, 0.001, 0.5, 1.00106432},
                         {8, 0.01, 1, 0.99773594},
                         // The ends of the colour bars of Figure 1.
                         {3, 2e-4, 10, 1.00137788},
                         {3, 0.01, 2.1, 0.99013837},
                         {8, 5e-4, 10, 1.00285833},
                         {8, 0.01, 3.8, 0.99020987}})
    EXPECT_NEAR(admm(p.workers, p.eta, p.rho), p.radius, 6e-9) << p.workers << " " << p.eta << " " << p.rho;
}

TEST(LabStability, EasgdAtTheSamePoints) {
  EXPECT_NEAR(radius("easgd", 3, 0.001, 0.0025), 0.99926975, 5e-9);
  EXPECT_NEAR(radius("easgd", 8, 0.001, 0.0025), 0.99911570, 5e-9);
}

TEST(LabStability, EasgdIsStableUpToItsLimit) {
  EXPECT_NEAR(easgd_alpha_limit(0.1), 0.97435897, 5e-9);
  EXPECT_NEAR(easgd_alpha_limit(1.5), 0.4, 1e-15);
  // For one and three workers the limit is exact; for more it is only sufficient.
  for (double eta : {0.1, 0.5, 1.0, 1.5}) {
    const double limit = easgd_alpha_limit(eta);
    for (int workers : {1, 3}) {
      EXPECT_NEAR(radius("easgd", workers, eta, limit), 1, 1e-9) << workers << " " << eta;
      EXPECT_GT(radius("easgd", workers, eta, 1.001 * limit), 1 + 1e-5) << workers << " " << eta;
    }
    for (int workers : {1, 2, 3, 5, 8})
      for (double part : {0.1, 0.5, 0.9, 0.999})
        EXPECT_LE(radius("easgd", workers, eta, part * limit), 1) << workers << " " << eta << " " << part;
  }
  EXPECT_NEAR(radius("easgd", 8, 1.0, 1.001 * easgd_alpha_limit(1.0)), 0.9969692, 5e-8);
  EXPECT_NEAR(radius("easgd", 8, 1.0, 1.05 * easgd_alpha_limit(1.0)), 1.0687, 5e-5);
}

TEST(LabStability, TheTrajectoriesOfThePapersCounterExample) {
  const Result<Values> admm = center_by_round("admm", 3, 0.001, 0.0025, 1000, 12000);
  const Result<Values> easgd = center_by_round("easgd", 3, 0.001, 0.0025, 1000, 12000);
  ASSERT_TRUE(admm.ok() && easgd.ok());
  for (auto [round, c] :
       {std::pair{5000, 1.56695116}, {8000, -18.31294697}, {10000, 425.3754163}, {12000, -4517.971303}})
    EXPECT_NEAR(admm->at(static_cast<size_t>(round - 1)), c, 1e-6) << round;
  double most = 0;
  int64_t at = 0;
  for (size_t k = 0; k < admm->size(); ++k)
    if (std::fabs((*admm)[k]) > most) most = std::fabs((*admm)[k]), at = static_cast<int64_t>(k + 1);
  EXPECT_NEAR(most, 5248.909209, 1e-5);
  EXPECT_EQ(at, 11990);
  for (auto [round, c] : {std::pair{100, 973.48968502}, {1000, 518.62417204}, {12000, 0.16787663}})
    EXPECT_NEAR(easgd->at(static_cast<size_t>(round - 1)), c, 6e-9) << round;
}

TEST(LabStability, PrintsTheseMapsAndTrajectories) {
  const Result<Report> report = stability(1);
  ASSERT_TRUE(report.ok()) << report.status().message();
  expect_rows(report->tables.at(0),
              {{"admm", 3., 2500., 358., 0.990145, 0.01, 2.2, 1.001378, 0.0002, 10.},
               {"admm", 8., 2500., 861., 0.990210, 0.01, 3.8, 1.002837, 0.0004, 10.},
               {"easgd", 3., 2500., 1015., 0.486713, 1., 0.38, 2.716673, 2., 1.},
               {"easgd", 8., 2500., 1013., 0.302221, 1., 0.26, 2.834413, 2., 1.}},
              2e-6);
  int64_t above = 0;  // the limit; of eight workers two of these are stable
  for (int i = 1; i <= 50; ++i)
    for (int j = 1; j <= 50; ++j) above += 0.02 * j > easgd_alpha_limit(0.04 * i) + 1e-12;
  EXPECT_EQ(above, 1015);
  expect_rows(report->tables.at(1),
              {{1., 999.2968, 1000.},
               {10., 990.4618, 999.6730},
               {100., 905.2963, 973.4897},
               {1000., 368.4002, 518.6242},
               {5000., 1.566951, 27.91343},
               {8000., -18.31295, 3.119119},
               {10000., 425.3754, 0.7236209},
               {12000., -4517.971, 0.1678766}},
              1e-6);
}

}  // namespace
}  // namespace sinew::train::lab
