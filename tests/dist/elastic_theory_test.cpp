// The EASGD specification, section 6, on the lockstep scheme: where it is stable, what noise leaves, what it becomes at
// its limits. Schemes treat all elements alike, so one run holds many problems, one an element.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "core/kernel_api.h"
#include "core/philox.h"
#include "tests/support/toy_training.h"

namespace sinew::dist::testing {
namespace {

struct Lockstep {
  SchemeOptions scheme;
  int64_t size = 1, steps = 1;
  // Worker r's x before step k, and what the step takes off it.
  std::function<void(Rank r, int64_t k, const Numbers& x, Numbers& move)> move;
  double start = 1;  // of the center
  // Where workers are at first.
  std::function<double(Rank r, int64_t i)> place = [](Rank r, int64_t) { return 1.0 + r; };
  std::function<void(int64_t k, const Numbers& center)> center;  // after each step
};

// theta of all workers, and behind them the center.
std::vector<Numbers> ends_of(const Lockstep& run) {
  const auto body = [&](World& world) -> Result<Numbers> {
    const Rank r = world.rank();
    auto scheme = make_scheme(run.scheme, world, run.size, DType::f64);
    Numbers x(static_cast<size_t>(run.size), run.start), move(x), c(x);
    SINEW_RETURN_IF_ERROR(scheme->start(x));
    for (int64_t i = 0; i < run.size; ++i) x[static_cast<size_t>(i)] = run.place(r, i);
    for (int64_t k = 0; k < run.steps; ++k) {
      // The gradient's point, as the trainer takes it: before the elastic move in jacobi, after it in gauss_seidel.
      SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
      run.move(r, k, x, move);
      for (size_t i = 0; i < x.size(); ++i) x[i] -= move[i];
      SINEW_RETURN_IF_ERROR(scheme->after_step(k, x));
      if (r == 0) {
        SINEW_RETURN_IF_ERROR(scheme->evaluation_point(x, c));
        if (run.center) run.center(k, c);
      }
    }
    SINEW_RETURN_IF_ERROR(scheme->finish(x));
    if (r == 0) x.insert(x.end(), c.begin(), c.end());
    return x;
  };
  std::vector<Numbers> ends;
  for (const NodeResult& node : simulate(run.scheme.workers, body).nodes) {
    EXPECT_TRUE(node.finished) << node.status.message();
    ends.push_back(node.numbers);
  }
  const auto n = static_cast<std::ptrdiff_t>(run.size);
  ends.emplace_back(ends[0].begin() + n, ends[0].end());
  ends[0].resize(static_cast<size_t>(run.size));
  return ends;
}

SchemeOptions lockstep(int workers, double alpha, double beta = -1) {
  SchemeOptions o{.name = "easgd_sync", .workers = workers, .period = 1, .alpha = alpha};
  if (beta >= 0) o.order = "gauss_seidel", o.beta = beta;
  return o;
}

double largest_root(std::complex<double> half_sum, double product) {
  const std::complex<double> root = std::sqrt(half_sum * half_sum - product);
  return std::max(std::abs(half_sum + root), std::abs(half_sum - root));
}

double normal(uint64_t stream, Rank rank, int64_t step, int64_t i) {
  const RngKey key{stream, uint32_t(RngPurpose::test), uint32_t(rank), uint64_t(step)};
  const double u = 1 - uniform01(philox_u64(key, uint64_t(2 * i)));
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * uniform01(philox_u64(key, uint64_t(2 * i + 1))));
}

// One curvature an element; a growth or decay by 3 % a step shows after 600.
constexpr int64_t kCurvatures = 44, kLong = 600;
double curvature(int64_t i) { return 0.05 * static_cast<double>(i + 1); }
// The end of each element, whose largest |x| grows by radius(i) a step. A worker's distance from the center is one
// number over all elements of a run, and must stay finite: elements that grow fast have a run of their own, of fewer
// steps.
std::vector<Numbers> ends_by_curvature(const SchemeOptions& scheme, const std::function<double(int64_t)>& radius) {
  constexpr double kFast = 1.6;
  constexpr int64_t kShort = 60;
  std::vector<Numbers> ends(static_cast<size_t>(scheme.workers) + 1, Numbers(kCurvatures));
  for (const bool fast : {false, true}) {
    std::vector<int64_t> elements;
    for (int64_t i = 0; i < kCurvatures; ++i)
      if ((radius(i) > kFast) == fast) elements.push_back(i);
    if (elements.empty()) continue;
    Lockstep run{.scheme = scheme, .size = static_cast<int64_t>(elements.size()), .steps = fast ? kShort : kLong};
    run.move = [&](Rank, int64_t, const Numbers& x, Numbers& move) {
      for (size_t i = 0; i < x.size(); ++i) move[i] = curvature(elements[i]) * x[i];
    };
    const auto some = ends_of(run);
    for (size_t r = 0; r < ends.size(); ++r)
      for (size_t i = 0; i < elements.size(); ++i) ends[r][static_cast<size_t>(elements[i])] = some[r][i];
  }
  return ends;
}
void expect_stable(const std::vector<Numbers>& ends, int64_t i, bool stable, const std::string& what) {
  double most = 0;
  for (const Numbers& x : ends)
    most = std::max(most, std::isfinite(x[static_cast<size_t>(i)]) ? std::fabs(x[static_cast<size_t>(i)]) : INFINITY);
  EXPECT_LT(stable ? most : 1 / most, 1e-3)
      << what << ", eta h " << curvature(i) << (stable ? "" : ": not") << " stable";
}

// 6.2, Eq. 17: (2 - eta h)(2 - beta) > 2 beta / p and (2 - eta h) + (2 - beta) > beta / p.
TEST(ElasticTheory, JacobiIsStableWhereEquation17Says) {
  int64_t inside = 0, outside = 0;
  for (int p : {1, 2, 3, 8})
    for (double beta : {0.2, 0.6, 0.9, 1.2, 1.5, 1.7}) {
      const auto radius = [&](int64_t i) {
        const double e = curvature(i), a = e + (p + 1) * beta / p;
        return largest_root(1 - a / 2, 1 - a + e * beta);
      };
      const auto ends = ends_by_curvature(lockstep(p, beta / p), radius);
      for (int64_t i = 0; i < kCurvatures; ++i) {
        const double e = curvature(i);
        if (std::fabs(radius(i) - 1) < 0.03) continue;
        const bool stable = (2 - e) * (2 - beta) > 2 * beta / p && (2 - e) + (2 - beta) > beta / p;
        ++(stable ? inside : outside);
        expect_stable(ends, i, stable, sinew::detail::concat(p, " workers, beta ", beta));
      }
    }
  EXPECT_GT(inside, 300);
  EXPECT_GT(outside, 300);
}

// 6.7: -1 < q < 1 and 0 < beta eta < 2 (q + 1), with q = (1 - eta)(1 - alpha)(1 - beta); and that of the workers'
// differences from each other.
TEST(ElasticTheory, GaussSeidelIsStableWhereTheThesisSays) {
  int64_t inside = 0, outside = 0;
  for (int p : {1, 3})
    for (double alpha : {0.1, 0.5, 0.9, 1.0, 1.4})
      for (double beta : {0.2, 0.9, 1.6, 2.4, 3.0}) {
        if (beta > 2.0 * p) continue;  // not allowed
        const auto product = [&](double e) { return (1 - e) * (1 - alpha) * (1 - beta); };
        const auto apart_of = [&](double e) { return p > 1 ? std::fabs((1 - e) * (1 - alpha)) : 0; };
        const auto radius_of = [&](double e) {
          return largest_root((2 - beta - e - alpha * (1 - beta) * (1 - e)) / 2, product(e));
        };
        const auto ends = ends_by_curvature(lockstep(p, alpha, beta), [&](int64_t i) {
          return std::max(radius_of(curvature(i)), apart_of(curvature(i)));
        });
        for (int64_t i = 0; i < kCurvatures; ++i) {
          const double e = curvature(i), q = product(e), apart = apart_of(e);
          if (std::fabs(radius_of(e) - 1) < 0.03 || std::fabs(apart - 1) < 0.03) continue;
          const bool stable = -1 < q && q < 1 && beta * e < 2 * (q + 1) && apart < 1;
          ++(stable ? inside : outside);
          expect_stable(ends, i, stable, sinew::detail::concat(p, " workers, alpha ", alpha, ", beta ", beta));
        }
      }
  EXPECT_GT(inside, 300);
  EXPECT_GT(outside, 100);
}

// 6.7: with alpha = 1 and beta = p, synchronous DOWNPOUR: every worker's whole step from c is added to c. It is stable
// for eta < 2 / p: with 16 workers the center shrinks by 0.984 a step at 0.124, and grows by 1.016 at 0.126.
TEST(ElasticTheory, GaussSeidelAtItsLimitIsDownpour) {
  constexpr double kEta = 0.1, kTarget[] = {1, -0.5, 3};
  double c = 1;
  Lockstep run{.scheme = lockstep(3, 1, 3), .steps = 12};
  run.place = [](Rank, int64_t) { return 1.0; };
  run.move = [&](Rank r, int64_t, const Numbers& x, Numbers& move) { move[0] = kEta * (x[0] - kTarget[r]); };
  run.center = [&](int64_t k, const Numbers& center) {
    double sum = 0;
    for (double b : kTarget) sum += kEta * (c - b);
    c -= sum;
    EXPECT_NEAR(center[0], c, 1e-12) << k;
  };
  ends_of(run);
  for (double eta : {0.124, 0.126}) {
    double last = 0;
    Lockstep many{.scheme = lockstep(16, 1, 16), .steps = 50};
    many.place = [](Rank, int64_t) { return 1.0; };
    many.move = [&](Rank, int64_t, const Numbers& x, Numbers& move) { move[0] = eta * x[0]; };
    many.center = [&](int64_t k, const Numbers& center) {
      if (k > 0) {
        EXPECT_NEAR(center[0] / last, 1 - 16 * eta, 1e-11) << eta;
      }
      last = center[0];
    };
    ends_of(many);
    EXPECT_EQ(std::fabs(last) < 1, eta < 0.125);
  }
}

// The same for the scheme of that name, with one worker; with several it has no common clock.
TEST(ElasticTheory, DownpourOfOneWorkerIsThatLimit) {
  Toy toy;
  toy.scheme = {.name = "downpour", .workers = 1, .period = 1};
  toy.steps = 20;
  Toy limit = toy;
  limit.scheme = lockstep(1, 1, 1);
  const auto downpour = simulate(2, [&](World& world) { return toy_run(world, toy); }).nodes;
  const auto elastic = simulate(1, [&](World& world) { return toy_run(world, limit); }).nodes;
  ASSERT_TRUE(downpour[0].finished && elastic[0].finished);
  EXPECT_NEAR(downpour[0].numbers[0], elastic[0].numbers[0], 1e-14);
}

// 4.5 standard errors of a sample variance.
double tolerance(int64_t copies) { return 4.5 * std::sqrt(2 / static_cast<double>(copies - 1)); }
double mean_square(const Numbers& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return sum / static_cast<double>(x.size());
}

// 6.4: the mean of the centers so far has variance s^2 / (p h^2 t), whatever rho.
TEST(ElasticTheory, TheMeanOfCentersForgetsRho) {
  constexpr int64_t kCopies = 1000, kSteps = 1000;
  constexpr double kEta = 0.5, kNoise = 2, kH = 1;
  for (double beta : {0.4, 0.9}) {
    Numbers z(kCopies);
    Lockstep run{.scheme = lockstep(4, beta / 4), .size = kCopies, .steps = kSteps};
    run.start = 0;
    run.place = [](Rank, int64_t) { return 0.0; };
    run.move = [&](Rank r, int64_t k, const Numbers& x, Numbers& move) {
      for (size_t i = 0; i < x.size(); ++i)
        move[i] = kEta * (kH * x[i] - kNoise * normal(3, r, k, static_cast<int64_t>(i)));
    };
    run.center = [&](int64_t, const Numbers& c) {
      for (size_t i = 0; i < z.size(); ++i) z[i] += c[i] / kSteps;
    };
    ends_of(run);
    const double expected = kNoise * kNoise / (4 * kH * kH * kSteps);
    EXPECT_NEAR(mean_square(z) / expected, 1, tolerance(kCopies) + 0.02) << beta;
  }
}

// 6.6: alpha and beta apart, which a rule of one's own for the two weights makes.
TEST(ElasticTheory, VariancesWithAlphaAndBetaApart) {
  constexpr int64_t kCopies = 20000;
  constexpr double kEta = 0.5, kAlpha = 0.1, kBeta = 0.9;
  Lockstep run{.scheme = lockstep(1, kAlpha), .size = kCopies, .steps = 60};
  run.scheme.update_order = "pre";
  run.scheme.weighting.custom = [](const WeightingOptions&, const Evidence&) {
    return Weights{.worker = kAlpha, .center = kBeta};
  };
  run.start = 0;
  run.place = [](Rank, int64_t) { return 0.0; };
  run.move = [&](Rank r, int64_t k, const Numbers& x, Numbers& move) {
    for (size_t i = 0; i < x.size(); ++i) move[i] = kEta * (x[i] - normal(4, r, k, static_cast<int64_t>(i)));
  };
  const auto ends = ends_of(run);
  EXPECT_NEAR(mean_square(ends[0]) / 0.3136288998, 1, tolerance(kCopies));
  EXPECT_NEAR(mean_square(ends[1]) / 0.2807881773, 1, tolerance(kCopies));
}

// 6.6: how fast EAMSGD in lockstep goes down, or up, without noise: its spectral radius.
TEST(ElasticTheory, RateOfMomentumInLockstep) {
  constexpr double kDelta = 0.99;
  for (const auto& [eta, radius] : {std::pair{0.01, 0.98910}, {0.1, 0.93453}, {1.0, 0.54094}, {1.5, 1.55087}}) {
    constexpr int64_t kSteps = 800, kWindow = 60;
    std::vector<Numbers> v(4, Numbers(1));
    double half = 0, end = 0;  // the largest center in a window of steps
    Lockstep run{.scheme = lockstep(4, 0.9 / 4), .steps = kSteps};
    run.move = [&, eta = eta](Rank r, int64_t, const Numbers& x, Numbers& move) {
      double& own = v[static_cast<size_t>(r)][0];
      own = kDelta * own - eta * (x[0] + kDelta * own);
      move[0] = -own;
    };
    run.center = [&](int64_t k, const Numbers& c) {
      double& window = k < kSteps / 2 ? half : end;
      if (k % (kSteps / 2) >= kSteps / 2 - kWindow) window = std::max(window, std::fabs(c[0]));
    };
    ends_of(run);
    EXPECT_NEAR(std::pow(end / half, 2.0 / kSteps), radius, 1e-3) << eta;
  }
}

// 6.8: x^2 xi / 2 with xi ~ Gamma(lambda, omega): the moments after each step are a matrix times those before. With
// lambda = omega = 1/2 xi is the square of a normal variable, with 1 an exponential one.
TEST(ElasticTheory, MomentsUnderMultiplicativeNoise) {
  constexpr int64_t kCopies = 20000, kSteps = 5;
  struct Row {
    double lambda, eta;
    int workers;
  };
  for (const Row& row : {Row{0.5, 0.3814, 6}, Row{1, 0.5225, 7}}) {
    const double b = 0.9, p = row.workers, alpha = b / p, q = 1 - alpha - row.eta;
    const double spread = row.eta * row.eta / row.lambda;  // eta^2 lambda / omega^2
    double cc = 1, xx = 1, cx = 1, xy = 1;  // E c^2, mean E x_i^2, mean E c x_i, mean E x_i x_j over all i and j
    Lockstep run{.scheme = lockstep(row.workers, alpha), .size = kCopies, .steps = kSteps};
    run.place = [](Rank, int64_t) { return 1.0; };
    run.move = [&](Rank r, int64_t k, const Numbers& x, Numbers& move) {
      for (int64_t i = 0; i < kCopies; ++i) {
        const RngKey key{6, uint32_t(RngPurpose::test), uint32_t(r), uint64_t(k)};
        const double n = normal(7, r, k, i);
        const double xi = row.lambda == 1 ? -std::log(1 - uniform01(philox_u64(key, uint64_t(i)))) : n * n;
        move[static_cast<size_t>(i)] = row.eta * xi * x[static_cast<size_t>(i)];
      }
    };
    run.center = [&](int64_t k, const Numbers& c) {
      const double old_cc = cc, old_xx = xx, old_cx = cx, old_xy = xy;
      cc = (1 - b) * (1 - b) * old_cc + 2 * b * (1 - b) * old_cx + b * b * old_xy;
      xx = alpha * alpha * old_cc + (q * q + spread) * old_xx + 2 * alpha * q * old_cx;
      cx = alpha * (1 - b) * old_cc + ((1 - b) * q + alpha * b) * old_cx + q * b * old_xy;
      xy = alpha * alpha * old_cc + spread / p * old_xx + 2 * alpha * q * old_cx + q * q * old_xy;
      double fourth = 0;
      for (double value : c) fourth += std::pow(value, 4) / kCopies;
      const double error = std::sqrt(std::max(0.0, fourth - cc * cc) / kCopies);
      EXPECT_NEAR(mean_square(c), cc, 5 * error + 1e-12) << row.lambda << " step " << k;
      if (k > 1) {
        EXPECT_LT(error, 0.05 * cc) << "precise enough to tell";
      }
    };
    ends_of(run);
  }
}

// 6.10 without noise, on quadratics with curvatures from mu to L: the squared distances of the workers' mean, of the
// workers and of the center are bounded by a linear map of those before.
TEST(ElasticTheory, DistancesOnStronglyConvexFunctions) {
  constexpr double kMu = 0.5, kL = 4;
  constexpr int64_t kSize = 6;
  const auto h = [](int64_t i) { return kMu + (kL - kMu) * static_cast<double>(i) / (kSize - 1); };
  for (int p : {1, 3, 5})
    for (double beta : {0.2, 0.9})
      for (double part : {0.3, 1.0}) {
        const double alpha = beta / p, eta = part * 2 * (1 - alpha) / (kMu + kL);
        const double g1 = 2 * eta * kMu * kL / (kMu + kL),
                     g2 = 2 * eta * kL * (1 - 2 * std::sqrt(kMu * kL) / (kMu + kL));
        std::vector<std::vector<Numbers>> x(20, std::vector<Numbers>(static_cast<size_t>(p)));
        std::vector<Numbers> c{Numbers(kSize, 1.0)};
        Lockstep run{.scheme = lockstep(p, alpha), .size = kSize, .steps = 20};
        run.place = [](Rank r, int64_t i) { return normal(5, r, 0, i); };
        run.move = [&](Rank r, int64_t k, const Numbers& now, Numbers& move) {
          x[static_cast<size_t>(k)][static_cast<size_t>(r)] = now;
          for (int64_t i = 0; i < kSize; ++i) move[static_cast<size_t>(i)] = eta * h(i) * now[static_cast<size_t>(i)];
        };
        run.center = [&](int64_t, const Numbers& center) { c.push_back(center); };
        ends_of(run);
        double a0 = 0, b0 = 0, c0 = 0;
        for (size_t k = 0; k < x.size(); ++k) {
          Numbers y(kSize);
          double a = 0, b = 0, cc = 0;
          for (int64_t i = 0; i < kSize; ++i) {
            const auto at = static_cast<size_t>(i);
            for (const Numbers& worker : x[k]) y[at] += worker[at] / p, b += worker[at] * worker[at] / p;
            a += y[at] * y[at], cc += c[k][at] * c[k][at];
          }
          const std::string what = sinew::detail::concat(p, " workers, beta ", beta, ", eta ", eta, ", step ", k);
          if (k > 0) {
            const double rounding = 1e-12 * (a0 + b0 + c0);
            EXPECT_LE(a, (1 - g1 - g2 - alpha) * a0 + g2 * b0 + alpha * c0 + rounding) << what;
            EXPECT_LE(b, (1 - g1 - alpha) * b0 + alpha * c0 + rounding) << what;
            EXPECT_LE(cc, beta * a0 + (1 - beta) * c0 + rounding) << what;
          }
          a0 = a, b0 = b, c0 = cc;
        }
      }
}

}  // namespace
}  // namespace sinew::dist::testing
