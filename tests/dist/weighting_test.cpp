#include "dist/weighting.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/philox.h"
#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
const std::vector<double> kCoefficients = {0.5, 0.25, 0.15, 0.1};

double draw(uint32_t stream, uint64_t i) {
  return uniform01(philox_u64({3, uint32_t(RngPurpose::test), stream, 0}, i));
}

std::vector<double> logs_newest_first(std::vector<double> distances) {
  std::reverse(distances.begin(), distances.end());
  for (double& d : distances) d = std::log(d);
  return distances;
}

// ---- the rule: dynamic-weighting specification, appendix A, G3 ----

TEST(Weighting, GoldenScore) {
  EXPECT_NEAR(distance_score(logs_newest_first({1, 1.1, 1.05, 1.2, 1.5, 3}), kCoefficients), 0.41773718543871424,
              1e-15);
  EXPECT_TRUE(std::isnan(distance_score(logs_newest_first({1.05, 1.2, 1.5, 3}), kCoefficients)));
}

TEST(Weighting, GoldenWeights) {
  const double s = 0.41773718543871424;
  auto expect = [](double score, double kappa, double lambda, double h1, double h2) {
    const Weights w = weights_of(0.1, suspicion(score, 0, kappa));
    EXPECT_NEAR(w.suspicion, lambda, 1e-15);
    EXPECT_NEAR(w.worker, h1, 1e-15);
    EXPECT_NEAR(w.center, h2, 1e-15);
  };
  expect(s, 0.1, 1, 1, 0);
  expect(s, 0.5, 0.83547437087742848, 0.85192693378968565, 0.016452562912257152);
  expect(s, 1.0, 0.41773718543871424, 0.47596346689484281, 0.058226281456128584);
  expect(-0.2, 0.1, 0, 0.1, 0.1);
  expect(0, 0.1, 0, 0.1, 0.1);
  expect(0.05, 0.1, 0.5, 0.55, 0.05);
  expect(0.1, 0.1, 1, 1, 0);
  expect(7, 0.1, 1, 1, 0);
}

TEST(Weighting, TheScoreHasNoScaleAndEqualCoefficientsTelescope) {
  std::vector<double> d, scaled;
  for (uint64_t i = 0; i < 9; ++i) d.push_back(0.1 + draw(0, i)), scaled.push_back(1e6 * d.back());
  EXPECT_NEAR(distance_score(logs_newest_first(d), kCoefficients),
              distance_score(logs_newest_first(scaled), kCoefficients), 1e-13);
  EXPECT_NEAR(distance_score(logs_newest_first(d), std::vector<double>(8, 3.0)), (std::log(d[8] / d[0])) / 8, 1e-13);
}

TEST(Weighting, MapsAreContinuousAndInRange) {
  for (double alpha : {0.0, 0.1, 0.5})
    for (double s0 : {0.0, 0.05})
      for (double kappa : {0.1, 0.3, 2.0}) {
        const double e = 1e-9;
        for (double edge : {s0, kappa}) {
          EXPECT_NEAR(suspicion(edge - e, s0, kappa), suspicion(edge + e, s0, kappa), 1e-7);
        }
        for (uint64_t i = 0; i < 50; ++i) {
          const Weights w = weights_of(alpha, suspicion(4 * draw(1, i) - 1, s0, kappa));
          EXPECT_TRUE(w.worker >= alpha && w.worker <= 1 && w.center >= 0 && w.center <= alpha);
          EXPECT_LE(w.worker + w.center, 1 + 1e-15);
        }
      }
  EXPECT_EQ(suspicion(1e300, 0, INFINITY), 0);
  EXPECT_EQ(suspicion(0.1, 0.1, 0.1), 0);  // an empty ramp: s0 itself is healthy
  EXPECT_EQ(suspicion(0.2, 0.1, 0.1), 1);
}

TEST(Weighting, TheSignMirrors) {
  const std::vector<double> up = logs_newest_first({1, 1, 1, 1, 2}), down = logs_newest_first({2, 2, 2, 2, 1});
  WeightingOptions plus{.rule = "dynamic", .kappa = 0.5}, minus = plus;
  minus.score_sign = -1;
  const Evidence grows{.alpha = 0.1, .round = 99, .log_distances = up};
  const Evidence shrinks{.alpha = 0.1, .round = 99, .log_distances = down};
  EXPECT_EQ(weights(plus, grows).suspicion, weights(minus, shrinks).suspicion);
  EXPECT_GT(weights(plus, grows).suspicion, 0);
  EXPECT_EQ(weights(plus, shrinks).suspicion, 0);
  EXPECT_EQ(weights(minus, grows).suspicion, 0);
}

TEST(Weighting, GuardsOfTheFirstRounds) {
  const std::vector<double> up = logs_newest_first({1, 1, 1, 1, 100});
  const WeightingOptions o{.rule = "dynamic", .kappa = 0.3, .warmup_rounds = 10};
  EXPECT_EQ(weights(o, {.alpha = 0.1, .round = 10, .log_distances = up}).worker, 1);
  EXPECT_EQ(weights(o, {.alpha = 0.1, .round = 9, .log_distances = up}).worker, 0.1);
  const std::span<const double> four = std::span(up).first(4);
  EXPECT_EQ(weights(o, {.alpha = 0.1, .round = 10, .log_distances = four}).worker, 0.1);
}

TEST(Weighting, WhatHappensToAllIsNobodysFailure) {
  const std::vector<double> up = logs_newest_first({1, 1, 1, 1, 2});  // score log(2) / 2
  WeightingOptions o{.rule = "dynamic", .kappa = 0.3, .peers = true};
  Evidence e{.alpha = 0.1, .round = 20, .log_distances = up, .others = std::log(2) / 2};
  EXPECT_EQ(weights(o, e).worker, 0.1);
  EXPECT_NEAR(weights(o, e).score, std::log(2) / 2, 1e-15) << "its own score is what the others are told";
  e.others = 0;
  EXPECT_EQ(weights(o, e).worker, 1);
  e.others = kNaN;  // no others
  EXPECT_EQ(weights(o, e).worker, 1);
  o.peers = false;
  e.others = 100;
  EXPECT_EQ(weights(o, e).worker, 1);
}

TEST(Weighting, TheOracleKnowsMissedContacts) {
  const WeightingOptions o{.rule = "oracle"};
  EXPECT_EQ(weights(o, {.alpha = 0.1, .missed = 0}).worker, 0.1);
  EXPECT_EQ(weights(o, {.alpha = 0.1, .missed = 1}).worker, 1);
  EXPECT_EQ(weights(o, {.alpha = 0.1, .missed = 1}).center, 0);
}

TEST(Weighting, AMemoryOfContacts) {
  Weighting w({.rule = "dynamic", .warmup_rounds = 0}, 0.1, 100);
  for (double d : {1.0, 1.1, 0.0, 1e-12, kNaN, 1.05, 1.2, 1.5}) {  // three are not recorded
    const Weights weights = w.contact(0, d, kNaN);
    EXPECT_TRUE(std::isnan(weights.score) || d == 1.5) << d;
    EXPECT_EQ(weights.worker == 1, std::isnan(d)) << "not finite is a failure";
  }
  std::map<std::string, int64_t> saved;
  w.save(saved);
  Weighting other({.rule = "dynamic", .warmup_rounds = 0}, 0.1, 100);
  other.load(saved);
  for (Weighting* each : {&w, &other}) {
    const Weights last = each->contact(0, 3, kNaN);
    EXPECT_NEAR(last.score, 0.41773718543871424, 1e-15);
    EXPECT_EQ(last.suspicion, 1) << "kappa is 3 alpha";
    EXPECT_STREQ(last.reason, "failed: the distance jumps");
  }
  Weighting oracle({.rule = "oracle"}, 0.1, 1);
  oracle.miss();
  saved.clear();
  oracle.save(saved);
  Weighting resumed({.rule = "oracle"}, 0.1, 1);
  resumed.load(saved);
  EXPECT_EQ(resumed.contact(0, 1, kNaN).worker, 1);
  EXPECT_EQ(resumed.contact(1, 1, kNaN).worker, 0.1);
}

TEST(Weighting, PairsOfEqualWorkers) {
  for (double alpha : {0.1, 0.5})
    for (uint64_t i = 0; i < 100; ++i) {
      const double mine = draw(2, i), theirs = draw(3, i);
      const PairWeights p = pair_weights(alpha, mine, theirs), q = pair_weights(alpha, theirs, mine);
      EXPECT_EQ(p.mine, q.theirs);
      EXPECT_TRUE(p.mine >= 0 && p.theirs >= 0 && p.mine + p.theirs <= 1 + 1e-15);
      const PairWeights trusted = pair_weights(alpha, mine, 0);
      const Weights center = weights_of(alpha, mine);
      EXPECT_EQ(trusted.mine, center.worker);
      EXPECT_NEAR(trusted.theirs, center.center, 1e-15);
    }
  EXPECT_EQ(pair_weights(0.1, 0, 0).mine, 0.1);
  EXPECT_EQ(pair_weights(0.1, 1, 1).mine, 0) << "two that failed leave each other alone";
}

TEST(Weighting, ValidatesOptions) {
  const std::pair<WeightingOptions, const char*> cases[] = {
      {{.rule = "dynamc"}, "weighting = 'dynamc'; allowed are fixed, dynamic, oracle"},
      {{.rule = "dynamic", .kappa = 0.1, .s0 = 0.2}, "kappa = 0.1; allowed are s0 = 0.2 and more"},
      {{.rule = "dynamic", .kappa = kNaN}, "kappa = nan"},
      {{.rule = "dynamic", .score_sign = 0}, "score_sign = 0; allowed are 1 and -1"},
      {{.rule = "dynamic", .warmup_rounds = -1}, "warmup_rounds = -1"},
      {{.rule = "dynamic", .coefficients = {}}, "score_coefficients"},
      {{.rule = "dynamic", .coefficients = {0.1, 0.2}}, "score_coefficients"},
      {{.rule = "dynamic", .coefficients = {0, 0}}, "score_coefficients"},
      {{.rule = "dynamic", .coefficients = {kNaN}}, "score_coefficients"},
  };
  for (const auto& [options, expected] : cases) {
    const Status status = validate(options, 0.1);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_NE(status.message().find(expected), std::string::npos) << status.message();
  }
  EXPECT_EQ(validate({.rule = "dynamic"}, 1.5).code(), StatusCode::invalid_argument);
  for (const std::string& name : weighting_names()) EXPECT_TRUE(validate({.rule = name}, 0.1).ok());
}

}  // namespace
}  // namespace sinew::dist::testing
