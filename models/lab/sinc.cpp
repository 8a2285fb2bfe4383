#include "models/lab/sinc.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/lab/svg.h"

namespace sinew::train::lab {
namespace {

constexpr double kPi = std::numbers::pi, kEta = 0.1, kPull = 0.1;
constexpr double kStarts[kSincWorkers][2] = {{20, 11}, {17, 8}, {-6, -4}, {-15, -18}};

// f' as a function of the radius.
double slope_at(double r) { return std::cos(kPi * r) / r - std::sin(kPi * r) / (kPi * r * r); }

// The minima: near r = 1.5, 3.5, ..., where the slope changes its sign.
std::vector<Series> rings() {
  std::vector<Series> all;
  for (double low = 1; low < 30; low += 2) {
    double below = low, above = low + 1;
    while (above - below > 1e-9) {
      const double middle = (below + above) / 2;
      (slope_at(middle) < 0 ? below : above) = middle;
    }
    Series ring{.name = all.empty() ? "least f" : "", .x = {}, .y = {}, .style = Series::Style::dashed, .color = 5};
    for (int i = 0; i <= 90; ++i)
      ring.x.push_back(below * std::cos(i * kPi / 45)), ring.y.push_back(below * std::sin(i * kPi / 45));
    all.push_back(std::move(ring));
  }
  return all;
}

}  // namespace

double sinc_at(double x, double y) {
  const double r = std::hypot(x, y);
  return r < 1e-9 ? 1 : std::sin(kPi * r) / (kPi * r);
}

std::array<double, kSincWorkers> SincPath::values(size_t step) const {
  std::array<double, kSincWorkers> f{};
  for (size_t r = 0; r < f.size(); ++r) f[r] = sinc_at(x[r].at(step), y[r].at(step));
  return f;
}

Result<SincPath> sinc_path(const std::string& scheme, double pull, int64_t steps) {
  SincPath path;
  Problem problem{.scheme = {.name = scheme, .workers = kSincWorkers, .period = 1, .alpha = pull}, .steps = steps};
  problem.scheme.pull = pull;
  problem.start = {0, 0};
  for (const auto& start : kStarts)
    for (size_t i = 0; i < 2; ++i) problem.start[i] += start[i] / kSincWorkers;
  auto record = [&](dist::Rank r, const Values& x) {
    path.x[static_cast<size_t>(r)].push_back(x[0]);
    path.y[static_cast<size_t>(r)].push_back(x[1]);
  };
  problem.place = [&](dist::Rank r, Values& x) {
    x = {kStarts[r][0], kStarts[r][1]};
    record(r, x);
  };
  problem.loss = [](dist::Rank, int64_t, const Values& x) { return sinc_at(x[0], x[1]); };
  problem.move = [](dist::Rank, int64_t, const Values& x, Values& move) {
    const double r = std::hypot(x[0], x[1]);
    if (r < 1e-9) return;  // the top
    for (size_t i = 0; i < 2; ++i) move[i] = kEta * slope_at(r) * x[i] / r;
  };
  problem.seen = [&](dist::Rank r, int64_t, const Values& x, dist::Scheme&) { record(r, x); };
  SINEW_RETURN_IF_ERROR(drive(problem));
  return path;
}

Result<Report> sinc(uint64_t) {
  constexpr size_t kSteps = 400;
  Report report;
  Table table{.name = "values",
              .title = "f = sin(pi r) / (pi r) of four workers; steps of 0.1 times the gradient, pulls of 0.1",
              .columns = {"method", "steps", "worker 0", "worker 1", "worker 2", "worker 3"},
              .rows = {}};
  Plot plot{.title = "The best of four workers on sin(pi r) / (pi r)",
            .x = {.label = "step"},
            .y = {.label = "least f"},
            .series = {}};
  for (auto [scheme, name] : {std::pair{"local", "gradient descent"}, {"easgd_sync", "EAGD"}, {"lgd", "LGD"}}) {
    const Result<SincPath> path = sinc_path(scheme, kPull, kSteps);
    if (!path.ok()) return path.status();
    for (size_t steps : {size_t{0}, size_t{100}, kSteps}) {
      std::vector<Cell> row{std::string(name), static_cast<double>(steps)};
      for (double f : path->values(steps)) row.emplace_back(f);
      table.rows.push_back(std::move(row));
    }
    Series best{.name = name, .x = {}, .y = {}};
    for (size_t k = 0; k <= kSteps; ++k) {
      const auto f = path->values(k);
      best.x.push_back(static_cast<double>(k)), best.y.push_back(*std::min_element(f.begin(), f.end()));
    }
    plot.series.push_back(std::move(best));
    // Equal units on both axes.
    Plot paths{.title = std::string(name) + ": paths of four workers among the rings of least f",
               .x = {.label = "x", .low = -28.75, .high = 28.75},
               .y = {.label = "y", .low = -21, .high = 21},
               .series = rings()};
    for (size_t r = 0; r < kSincWorkers; ++r)
      paths.series.push_back(
          {.name = "worker " + std::to_string(r), .x = path->x[r], .y = path->y[r], .color = static_cast<int>(r)});
    report.pictures.push_back({std::string("sinc_") + scheme, svg(paths)});
  }
  report.tables.push_back(std::move(table));
  report.pictures.push_back({"sinc", svg(plot)});
  return report;
}

}  // namespace sinew::train::lab
