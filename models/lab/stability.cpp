#include "models/lab/stability.h"

#include <algorithm>
#include <cmath>

#include "models/lab/svg.h"

namespace sinew::train::lab {
namespace {

Problem problem_of(const std::string& scheme, int workers, double eta, double alpha) {
  Problem p{.scheme = {.name = scheme, .workers = workers, .period = 1, .alpha = alpha}, .in_turn = true};
  p.move = [eta](dist::Rank, int64_t, const Values& x, Values& move) {
    for (size_t i = 0; i < x.size(); ++i) move[i] = eta * x[i];
  };
  return p;
}

double limit_of(const std::string& scheme) { return scheme == "admm" ? 10.0 : 1.0; }

}  // namespace

Result<RoundMap> round_map(const std::string& scheme, int workers, double eta, double alpha) {
  const bool admm = scheme == "admm";
  const size_t p = static_cast<size_t>(workers), n = admm ? 2 * p : p + 1;
  RoundMap map{.size = static_cast<int>(n), .matrix = Values(n * n)};
  Problem problem = problem_of(scheme, workers, eta, alpha);
  // Element e of all vectors starts from the e-th unit vector of the state: x of the workers, then c or the lambdas.
  problem.start.assign(n, 0.0);
  if (admm)
    for (size_t e = 0; e < n; ++e) problem.start[e] = (e < p ? 1.0 : -1.0) / workers;
  else
    problem.start[p] = 1;
  problem.place = [](dist::Rank r, Values& x) {
    std::fill(x.begin(), x.end(), 0.0);
    x[static_cast<size_t>(r)] = 1;
  };
  if (admm)
    problem.prepare = [p](dist::Rank r, const Values& x, dist::Scheme& scheme) -> Status {
      Values lambda(x.size()), known = x;
      lambda[p + static_cast<size_t>(r)] = 1;
      known[p + static_cast<size_t>(r)] = -1;
      SINEW_RETURN_IF_ERROR(set_state(scheme, "dual", lambda));
      return set_state(scheme, "known_of_me", known);
    };
  auto row = [&](size_t r, const Values& values) { std::copy(values.begin(), values.end(), &map.matrix[r * n]); };
  problem.seen = [&](dist::Rank r, int64_t, const Values& x, dist::Scheme& scheme) {
    row(static_cast<size_t>(r), x);
    if (admm) row(p + static_cast<size_t>(r), get_state(scheme, "dual"));
  };
  if (!admm) problem.center = [&](int64_t, const Values& c) { row(p, c); };
  SINEW_RETURN_IF_ERROR(drive(problem));
  return map;
}

double spectral_radius(const RoundMap& map) {
  constexpr int kSquarings = 45;
  const size_t n = static_cast<size_t>(map.size);
  Values m = map.matrix, square(n * n);
  // m^(2^k) = exp(log_scale) times the normalised m; its norm grows as radius^(2^k).
  double log_scale = 0, power = 1;
  for (int k = 0; k <= kSquarings; ++k) {
    double norm = 0;
    for (double v : m) norm = std::max(norm, std::fabs(v));
    if (norm == 0) return 0;
    for (double& v : m) v /= norm;
    log_scale += std::log(norm);
    if (k == kSquarings) break;
    std::fill(square.begin(), square.end(), 0.0);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        for (size_t c = 0; c < n; ++c) square[i * n + c] += m[i * n + j] * m[j * n + c];
    m.swap(square);
    log_scale *= 2, power *= 2;
  }
  return std::exp(log_scale / power);
}

double easgd_alpha_limit(double eta) { return (4 - 2 * eta) / (4 - eta); }

Result<Values> center_by_round(const std::string& scheme, int workers, double eta, double alpha, double start,
                               int64_t rounds) {
  Values centers;
  Problem problem = problem_of(scheme, workers, eta, alpha);
  problem.steps = rounds;
  problem.start = {start};
  problem.center = [&](int64_t, const Values& c) { centers.push_back(c[0]); };
  SINEW_RETURN_IF_ERROR(drive(problem));
  return centers;
}

namespace {

// Spectral radii over a grid; y is rho (admm: alpha = eta rho) or alpha itself.
Result<HeatMap> radius_map(const std::string& scheme, int workers, int points, double eta_high) {
  const bool admm = scheme == "admm";
  HeatMap map{.title = (admm ? "ADMM, " : "EASGD, ") + std::to_string(workers) + " workers in turn",
              .x = {.label = "learning rate eta"},
              .y = {.label = admm ? "penalty rho" : "moving rate alpha"},
              .values_label = "spectral radius of a round",
              .middle = 1};
  for (int i = 1; i <= points; ++i) {
    map.x_values.push_back(eta_high * i / points);
    map.y_values.push_back(limit_of(scheme) * i / points);
  }
  for (double y : map.y_values)
    for (double eta : map.x_values) {
      Result<RoundMap> round = round_map(scheme, workers, eta, admm ? eta * y : y);
      if (!round.ok()) return round.status();
      map.values.push_back(spectral_radius(*round));
    }
  return map;
}

}  // namespace

Result<Report> stability(uint64_t) {
  Report report;
  Table extremes{
      .name = "maps",
      .title = "Spectral radius of one round, over the grid of each picture",
      .columns = {"scheme", "workers", "cells", "unstable", "least", "at eta", "y", "largest", "at eta", "y"},
      .rows = {}};
  struct Grid {
    const char* scheme;
    int workers, points;
    double eta_high;
  };
  for (const Grid& g :
       {Grid{"admm", 3, 50, 0.01}, {"admm", 8, 50, 0.01}, {"easgd", 3, 50, 2.0}, {"easgd", 8, 50, 2.0}}) {
    Result<HeatMap> map = radius_map(g.scheme, g.workers, g.points, g.eta_high);
    if (!map.ok()) return map.status();
    const auto [low, high] = std::minmax_element(map->values.begin(), map->values.end());
    const auto unstable = std::count_if(map->values.begin(), map->values.end(), [](double v) { return v > 1 + 1e-9; });
    auto eta_at = [&](auto cell) {
      return map->x_values[static_cast<size_t>(cell - map->values.begin()) % map->x_values.size()];
    };
    auto y_at = [&](auto cell) {
      return map->y_values[static_cast<size_t>(cell - map->values.begin()) / map->x_values.size()];
    };
    extremes.rows.push_back({g.scheme, static_cast<double>(g.workers), static_cast<double>(map->values.size()),
                             static_cast<double>(unstable), *low, eta_at(low), y_at(low), *high, eta_at(high),
                             y_at(high)});
    if (std::string(g.scheme) == "easgd") {
      Series limit{.name = "(4 - 2 eta) / (4 - eta)", .x = {}, .y = {}, .color = 5};
      for (int i = 0; i <= 100; ++i) limit.x.push_back(0.02 * i), limit.y.push_back(easgd_alpha_limit(0.02 * i));
      map->lines.push_back(std::move(limit));
    }
    report.pictures.push_back({detail::concat("stability_", g.scheme, "_", g.workers), svg(*map)});
  }
  report.tables.push_back(std::move(extremes));

  constexpr double kEta = 0.001, kRho = 2.5;
  constexpr int64_t kRounds = 12000;
  Plot plot{.title = "Three workers in turn, eta 0.001, rho 2.5, from 1000",
            .x = {.label = "round (three steps)"},
            .y = {.label = "center"},
            .series = {}};
  Table runs{.name = "trajectories",
             .title = "The center at eta = 0.001, rho = 2.5 (alpha = 0.0025), three workers from x = c = 1000",
             .columns = {"round", "admm", "easgd"},
             .rows = {}};
  std::vector<Values> centers;
  for (const char* scheme : {"admm", "easgd"}) {
    Result<Values> c = center_by_round(scheme, 3, kEta, kEta * kRho, 1000, kRounds);
    if (!c.ok()) return c.status();
    Series line{.name = scheme == std::string("admm") ? "ADMM" : "EASGD", .x = {}, .y = {}};
    for (int64_t k = 0; k < kRounds; k += 10)
      line.x.push_back(static_cast<double>(k + 1)), line.y.push_back((*c)[static_cast<size_t>(k)]);
    plot.series.push_back(std::move(line));
    centers.push_back(std::move(*c));
  }
  for (int64_t round : {1, 10, 100, 1000, 5000, 8000, 10000, 12000})
    runs.rows.push_back({static_cast<double>(round), centers[0][static_cast<size_t>(round - 1)],
                         centers[1][static_cast<size_t>(round - 1)]});
  report.tables.push_back(std::move(runs));
  report.pictures.push_back({"stability_trajectories", svg(plot)});
  return report;
}

}  // namespace sinew::train::lab
