// The LSGD specification, section 7: what holds on average, T5 to T7. What holds in every step is in leader_test.cpp.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/philox.h"
#include "tests/support/leader_bodies.h"

namespace sinew::dist::testing {
namespace {

double uniform(uint64_t stream, int64_t index) {
  return uniform01(philox_u64({stream, uint32_t(RngPurpose::test)}, uint64_t(index)));
}
double normal(uint64_t stream, int64_t index) {
  return std::sqrt(-2 * std::log(1 - uniform(stream, 2 * index))) *
         std::cos(2 * std::numbers::pi * uniform(stream, 2 * index + 1));
}

// T5 and T6 on a quadratic with curvatures from 1 to 10: with a constant rate what is left of f is at most
// eta kappa sigma^2 / 2, and (4 / m) lambda sqrt(p) sigma_f more when losses are only estimates; with a rate of order
// 1 / k, and exact losses, it goes down like 1 / k.
TEST(LeaderTheory, NoiseLeavesNoMoreThanItsBound) {
  constexpr int kSize = 4, kWorkers = 4;
  constexpr double kSigma = 0.5, kKappa = 10, kCurvature[] = {1, 2, 5, 10};
  const auto f = [&](const std::vector<double>& x) {
    double sum = 0;
    for (int j = 0; j < kSize; ++j) sum += kCurvature[j] * x[static_cast<size_t>(j)] * x[static_cast<size_t>(j)] / 2;
    return sum;
  };
  // The mean of f over workers and the steps from `first` on.
  const auto rest = [&](double eta, double pull, double loss_noise, bool decays, int64_t first, int64_t steps) {
    double sum = 0;
    for (const NodeResult& node :
         simulate(kWorkers, [&](World& world) -> Result<Numbers> {
           std::vector<double> x(kSize, 1.0);
           double own = 0;
           auto scheme = make_scheme(leaders("lgd", kWorkers, [&](SchemeOptions& o) { o.pull = eta * pull; }), world,
                                     kSize, DType::f64);
           SINEW_RETURN_IF_ERROR(scheme->start(x));
           const uint64_t stream = 10 + static_cast<uint64_t>(world.rank());
           for (int64_t k = 0; k < steps; ++k) {
             const double rate = decays ? std::min(eta, 2.0 / static_cast<double>(k + 1)) : eta;
             SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
             scheme->observe(f(x) + loss_noise * normal(stream, k * 8 + 7));
             for (int j = 0; j < kSize; ++j) {
               double& v = x[static_cast<size_t>(j)];
               v -= rate * (kCurvature[j] * v + kSigma / 2 * normal(stream, k * 8 + j));
             }
             SINEW_RETURN_IF_ERROR(scheme->after_step(k, x));
             if (k >= first) own += f(x) / static_cast<double>(steps - first) / kWorkers;
           }
           SINEW_RETURN_IF_ERROR(scheme->finish(x));
           return Numbers{own};
         }).nodes) {
      EXPECT_TRUE(node.finished) << node.status.message();
      sum += node.numbers.at(0);
    }
    return sum;
  };
  constexpr double kEta = 1 / (2 * kKappa), kPull = 1;
  const double bound = kEta * kKappa * kSigma * kSigma / 2;
  const double exact = rest(kEta, kPull, 0, false, 1000, 3000);
  EXPECT_LT(exact, bound);
  EXPECT_LT(rest(kEta, kPull, 0.3, false, 1000, 3000), bound + 4 * kPull * std::sqrt(kWorkers) * 0.3);
  const double early = rest(kEta, kPull, 0, true, 500, 1000), late = rest(kEta, kPull, 0, true, 4000, 8000);
  EXPECT_LT(late, early / 4);
}

// T7: with a small pull, at least half of the leaders that may be (all z with f(z) <= f(x), a quadratic's ellipsoid)
// turn the step toward Newton's.
TEST(LeaderTheory, LeadersTurnTheStepTowardNewtons) {
  constexpr int kSize = 3, kTrials = 3000;
  constexpr double kEta = 0.01, kPull = 1e-4, kCurvature[] = {1, 4, 20};
  const auto f = [&](const Numbers& x) {
    double sum = 0;
    for (size_t j = 0; j < kSize; ++j) sum += kCurvature[j] * x[j] * x[j] / 2;
    return sum;
  };
  const auto cosine = [](const Numbers& a, const Numbers& b) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t j = 0; j < kSize; ++j) ab += a[j] * b[j], aa += a[j] * a[j], bb += b[j] * b[j];
    return ab / std::sqrt(aa * bb);
  };
  int closer = 0;
  const auto body = [&](World& world) -> Result<Numbers> {
    auto scheme =
        make_scheme(leaders("lgd", 2, [](SchemeOptions& o) { o.pull = kEta * kPull; }), world, kSize, DType::f64);
    Numbers x(kSize);
    SINEW_RETURN_IF_ERROR(scheme->start(x));
    for (int t = 0; t < kTrials; ++t) {
      Numbers at(kSize), z(kSize);
      double length2 = 0;
      for (size_t j = 0; j < kSize; ++j) {
        at[j] = normal(1, t * kSize + static_cast<int64_t>(j));
        z[j] = normal(2, t * kSize + static_cast<int64_t>(j));
        length2 += z[j] * z[j];
      }
      const double radius = std::cbrt(uniform(3, t)) * std::sqrt(2 * f(at) / length2);
      for (size_t j = 0; j < kSize; ++j) z[j] *= radius / std::sqrt(kCurvature[j]);
      EXPECT_LE(f(z), f(at) * (1 + 1e-12));
      x = world.rank() == 0 ? at : z;
      SINEW_RETURN_IF_ERROR(scheme->before_step(t, x));
      scheme->observe(world.rank() == 0 ? 1 : 0);  // z leads
      Numbers downhill(kSize), newton(kSize), step(kSize);
      for (size_t j = 0; j < kSize; ++j) {
        downhill[j] = -kCurvature[j] * at[j], newton[j] = -at[j];
        x[j] -= kEta * kCurvature[j] * x[j];
      }
      SINEW_RETURN_IF_ERROR(scheme->after_step(t, x));
      for (size_t j = 0; j < kSize; ++j) step[j] = (x[j] - at[j]) / kEta;
      if (world.rank() == 0) closer += cosine(step, newton) >= cosine(downhill, newton);
    }
    SINEW_RETURN_IF_ERROR(scheme->finish(x));
    return Numbers{};
  };
  for (const NodeResult& node : simulate(2, body).nodes) EXPECT_TRUE(node.finished) << node.status.message();
  EXPECT_GE(closer, kTrials / 2);
  EXPECT_LT(closer, kTrials) << "some lead elsewhere";
}

}  // namespace
}  // namespace sinew::dist::testing
