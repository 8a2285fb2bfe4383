#include "models/lab/moments.h"

#include <cmath>

#include "core/kernel_api.h"
#include "models/lab/svg.h"

namespace sinew::train::lab {

Moments lemma_7_1(const Quadratic& q, int64_t t) {
  const double p = q.workers, alpha = q.beta / p, e = q.eta * q.h;
  const double a = e + (p + 1) * alpha, r = std::sqrt(a * a - 4 * e * p * alpha);
  const double gamma = 1 - (a - r) / 2, phi = 1 - (a + r) / 2;
  auto power = [t](double base, int factor) { return t < 0 ? 0.0 : std::pow(base, static_cast<double>(factor * t)); };
  const double u0 = p * (q.start - alpha / (1 - p * alpha - phi) * q.start);
  Moments m;
  m.mean = power(gamma, 1) * q.start + (power(gamma, 1) - power(phi, 1)) / (gamma - phi) * alpha * u0;
  const double modes = (gamma * gamma - power(gamma, 2)) / (1 - gamma * gamma) +
                       (phi * phi - power(phi, 2)) / (1 - phi * phi) -
                       2 * (gamma * phi - power(gamma * phi, 1)) / (1 - gamma * phi);
  const double scale = p * alpha * q.eta / (gamma - phi);
  m.variance = t == 0 ? 0 : scale * scale * modes * q.noise * q.noise / p;
  return m;
}

double corollary_7_1(const Quadratic& q) {
  const double e = q.eta * q.h, b = q.beta;
  return b * e / ((2 - b) * (2 - e)) * (2 - b - e + b * e) / (b + e - b * e) * q.noise * q.noise / (q.h * q.h);
}

Result<std::vector<Moments>> measured_moments(const Quadratic& q, int64_t copies, int64_t steps, uint64_t seed) {
  const size_t n = static_cast<size_t>(copies);
  std::vector<Moments> measured{{q.start, 0}};
  Problem problem{.scheme = {.name = "easgd_sync", .workers = q.workers, .period = 1, .alpha = q.beta / q.workers},
                  .steps = steps,
                  .start = Values(n, q.start)};
  Values noise(n);
  problem.move = [&](dist::Rank r, int64_t k, const Values& x, Values& move) {
    kernels(Device::cpu)
        .random({RandomDist::normal,
                 DType::f64,
                 copies,
                 {seed, uint32_t(RngPurpose::synthetic), uint32_t(r), uint64_t(k)},
                 noise.data(),
                 0,
                 q.noise});
    for (size_t i = 0; i < n; ++i) move[i] = q.eta * (q.h * x[i] - noise[i]);
  };
  problem.center = [&](int64_t, const Values& c) {
    Moments m;
    for (double v : c) m.mean += v / static_cast<double>(n);
    for (double v : c) m.variance += (v - m.mean) * (v - m.mean) / static_cast<double>(n - 1);
    measured.push_back(m);
  };
  SINEW_RETURN_IF_ERROR(drive(problem));
  return measured;
}

Moments standard_errors_off(const Moments& measured, const Moments& expected, int64_t copies) {
  const double n = static_cast<double>(copies);
  if (expected.variance <= 0) return {NAN, NAN};
  // The center is a sum of normal variables, so its sample variance is a chi-squared one.
  return {(measured.mean - expected.mean) / std::sqrt(expected.variance / n),
          (measured.variance / expected.variance - 1) / std::sqrt(2 / (n - 1))};
}

Result<Report> moments(uint64_t seed) {
  constexpr int64_t kCopies = 10000;
  Report report;
  Table table{.name = "moments",
              .title = detail::concat("The center of synchronous EASGD on x^2 / 2, noise 10, from 1: ", kCopies,
                                      " runs against Lemma 7.1 (off: in standard errors)"),
              .columns = {"workers", "eta", "beta", "t", "mean", "lemma", "off", "variance", "lemma", "off"},
              .rows = {}};
  Plot plot{.title = "Variance of the center: Lemma 7.1 (lines) and measured (dots)",
            .x = {.label = "step t", .logarithmic = true},
            .y = {.label = "variance of c", .logarithmic = true},
            .series = {}};
  struct Row {
    Quadratic q;
    int64_t steps;
  };
  // The settings of the paper's Figure 5 of which the specification has numbers. A hundred workers are in their limit
  // after ten steps.
  int color = 0;
  for (const Row& row : {Row{{.workers = 1, .eta = 0.1, .beta = 0.9}, 100},
                         {{.workers = 4, .eta = 0.1, .beta = 0.9}, 100},
                         {{.workers = 4, .eta = 1.5, .beta = 0.9}, 100},
                         {{.workers = 10, .eta = 0.5, .beta = 0.5}, 100},
                         {{.workers = 100, .eta = 1.0, .beta = 0.9}, 10},
                         {{.workers = 4, .eta = 0.05, .beta = 0.1}, 100}}) {
    const Quadratic& q = row.q;
    Result<std::vector<Moments>> measured = measured_moments(q, kCopies, row.steps, seed);
    if (!measured.ok()) return measured.status();
    Series line{
        .name = detail::concat("p ", q.workers, ", eta ", q.eta, ", beta ", q.beta), .x = {}, .y = {}, .color = color};
    Series dots{.name = "", .x = {}, .y = {}, .style = Series::Style::dots, .color = color++};
    for (int64_t t = 2; t <= 100; ++t)
      line.x.push_back(static_cast<double>(t)), line.y.push_back(lemma_7_1(q, t).variance);
    for (int64_t t : {2, 3, 5, 10, 20, 50, 100}) {
      if (t > row.steps) continue;
      const Moments& m = (*measured)[static_cast<size_t>(t)];
      dots.x.push_back(static_cast<double>(t)), dots.y.push_back(m.variance);
      if (t != 2 && t != 10 && t != 100) continue;
      const Moments expected = lemma_7_1(q, t), off = standard_errors_off(m, expected, kCopies);
      table.rows.push_back({static_cast<double>(q.workers), q.eta, q.beta, static_cast<double>(t), m.mean,
                            expected.mean, off.mean, m.variance, expected.variance, off.variance});
    }
    plot.series.push_back(std::move(line));
    plot.series.push_back(std::move(dots));
  }
  report.tables.push_back(std::move(table));
  report.pictures.push_back({"moments", svg(plot)});
  return report;
}

}  // namespace sinew::train::lab
