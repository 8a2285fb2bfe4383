#include "models/lab/completion.h"

#include <algorithm>
#include <cmath>

#include "core/kernel_api.h"
#include "models/lab/svg.h"

namespace sinew::train::lab {
namespace {

Values normal(int64_t n, uint64_t seed, uint32_t stream) {
  Values values(static_cast<size_t>(n));
  kernels(Device::cpu)
      .random(
          {RandomDist::normal, DType::f64, n, {seed, uint32_t(RngPurpose::synthetic), stream, 0}, values.data(), 0, 1});
  return values;
}

class Matrices {
 public:
  Matrices(const Completion& c, uint64_t seed)
      : d_(static_cast<size_t>(c.rows)), r_(static_cast<size_t>(c.rank)), u_(normal(c.rows * c.rank, seed, 0)) {}

  // Entry by entry: from the traces it would cancel below 1e-6.
  double value(const Values& x) const {
    double sum = 0;
    for (size_t i = 0; i < d_; ++i)
      for (size_t j = 0; j <= i; ++j) {
        double e = 0;
        for (size_t k = 0; k < r_; ++k) e += x[i * r_ + k] * x[j * r_ + k] - u_[i * r_ + k] * u_[j * r_ + k];
        sum += (i == j ? 1 : 2) * e * e;
      }
    return sum / 4;
  }

  // (X X^T - U U^T) X = X (X^T X) - U (U^T X)
  void gradient(const Values& x, double scale, Values& out) const {
    Values xx(r_ * r_), ux(r_ * r_);
    for (size_t i = 0; i < d_; ++i)
      for (size_t a = 0; a < r_; ++a)
        for (size_t b = 0; b < r_; ++b) {
          xx[a * r_ + b] += x[i * r_ + a] * x[i * r_ + b];
          ux[a * r_ + b] += u_[i * r_ + a] * x[i * r_ + b];
        }
    for (size_t i = 0; i < d_; ++i)
      for (size_t b = 0; b < r_; ++b) {
        double g = 0;
        for (size_t a = 0; a < r_; ++a) g += x[i * r_ + a] * xx[a * r_ + b] - u_[i * r_ + a] * ux[a * r_ + b];
        out[i * r_ + b] = scale * g;
      }
  }

 private:
  const size_t d_, r_;
  const Values u_;
};

}  // namespace

Result<Values> best_of_workers(const Completion& c, const std::string& scheme, int64_t steps, uint64_t seed) {
  const Matrices matrices(c, seed);
  const int64_t n = c.rows * c.rank;
  Values best(static_cast<size_t>(steps), INFINITY);
  Problem problem{.scheme = {.name = scheme, .workers = c.workers, .period = 1, .alpha = c.eta * c.lambda},
                  .steps = steps,
                  .start = Values(static_cast<size_t>(n))};
  problem.scheme.pull = c.eta * c.lambda;
  auto start_of = [&](dist::Rank r) { return normal(n, seed, static_cast<uint32_t>(r) + 1); };
  for (dist::Rank r = 0; r < c.workers; ++r) {
    const Values x = start_of(r);
    for (size_t i = 0; i < x.size(); ++i) problem.start[i] += x[i] / c.workers;
  }
  problem.place = [&](dist::Rank r, Values& x) { x = start_of(r); };
  problem.loss = [&](dist::Rank, int64_t k, const Values& x) {
    const double f = matrices.value(x);
    best[static_cast<size_t>(k)] = std::min(best[static_cast<size_t>(k)], f);
    return f;
  };
  problem.move = [&](dist::Rank, int64_t, const Values& x, Values& move) { matrices.gradient(x, c.eta, move); };
  SINEW_RETURN_IF_ERROR(drive(problem));
  return best;
}

double completion_plateau(const Completion& c) {
  return static_cast<double>(c.rank) * c.lambda * c.lambda * (0.25 + 0.5 / c.workers);
}

Result<Report> completion(uint64_t seed) {
  Report report;
  Table table{.name = "best",
              .title = "Matrix completion, the least F of eight workers before step k",
              .columns = {"rows", "rank", "eta", "k", "gradient descent", "EAGD", "plateau", "LGD"},
              .rows = {}};
  struct Setting {
    Completion c;
    int64_t steps;
  };
  for (const Setting& s : {Setting{{.rows = 100, .rank = 1, .eta = 5e-3}, 100},
                           {{.rows = 100, .rank = 10, .eta = 5e-3}, 100},
                           {{.rows = 1000, .rank = 1, .eta = 5e-4}, 50}}) {
    Plot plot{.title = detail::concat("Matrix completion, ", s.c.rows, " rows, rank ", s.c.rank),
              .x = {.label = "step"},
              .y = {.label = "least F of eight workers", .logarithmic = true},
              .series = {}};
    std::vector<Values> curves;
    for (auto [scheme, name] : {std::pair{"local", "gradient descent"}, {"easgd_sync", "EAGD"}, {"lgd", "LGD"}}) {
      Result<Values> best = best_of_workers(s.c, scheme, s.steps, seed);
      if (!best.ok()) return best.status();
      Series line{.name = name, .x = {}, .y = *best};
      if (curves.empty()) line.style = Series::Style::dots;  // under LGD's line
      for (int64_t k = 0; k < s.steps; ++k) line.x.push_back(static_cast<double>(k));
      plot.series.push_back(std::move(line));
      curves.push_back(std::move(*best));
    }
    const double end = static_cast<double>(s.steps - 1);
    plot.series.push_back({.name = "plateau",
                           .x = {0, end},
                           .y = {completion_plateau(s.c), completion_plateau(s.c)},
                           .style = Series::Style::dashed,
                           .color = 5});
    for (int64_t k : {int64_t{0}, int64_t{33}, s.steps - 1}) {
      const size_t at = static_cast<size_t>(k);
      table.rows.push_back({static_cast<double>(s.c.rows), static_cast<double>(s.c.rank), s.c.eta,
                            static_cast<double>(k), curves[0][at], curves[1][at], completion_plateau(s.c),
                            curves[2][at]});
    }
    report.pictures.push_back({detail::concat("completion_", s.c.rows, "_", s.c.rank), svg(plot)});
  }
  report.tables.push_back(std::move(table));
  return report;
}

}  // namespace sinew::train::lab
