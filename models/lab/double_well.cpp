#include "models/lab/double_well.h"

#include <algorithm>
#include <cmath>

#include "models/lab/svg.h"

namespace sinew::train::lab {
namespace {

constexpr double kEta = 0.05;
constexpr int64_t kSteps = 20000;

}  // namespace

Result<WellPoint> leave_the_trap(double rho, double eta, int64_t steps) {
  WellPoint end;
  Problem problem{
      .scheme = {.name = "easgd_sync", .workers = 2, .period = 1, .alpha = eta * rho}, .steps = steps, .start = {0.0}};
  problem.place = [rho](dist::Rank r, Values& x) {
    x[0] = (r == 0 ? 1 : -1) * std::sqrt(std::max(0.0, 1 - rho)) + 1e-3;
  };
  problem.move = [eta](dist::Rank, int64_t, const Values& x, Values& move) {
    move[0] = eta * (x[0] * x[0] - 1) * x[0];
  };
  problem.seen = [&](dist::Rank r, int64_t, const Values& x, dist::Scheme&) { (r == 0 ? end.x : end.y) = x[0]; };
  problem.center = [&](int64_t, const Values& c) { end.c = c[0]; };
  SINEW_RETURN_IF_ERROR(drive(problem));
  return end;
}

// [[2 - 2 rho, 0, -rho], [0, 2 - 2 rho, -rho], [-rho, -rho, 2 rho]]: one mode has x - y, the others x + y and c.
double least_curvature(double rho) {
  return std::min(2 - 2 * rho, 1 - std::sqrt((1 - 2 * rho) * (1 - 2 * rho) + 2 * rho * rho));
}

Result<Report> double_well(uint64_t) {
  Report report;
  Table table{.name = "ends",
              .title = detail::concat("Two workers at (sqrt(1 - rho), -sqrt(1 - rho)), moved by 0.001: after ", kSteps,
                                      " steps of synchronous EASGD, eta ", kEta),
              .columns = {"rho", "least curvature", "x", "y", "c", "the trap"},
              .rows = {}};
  Series x{.name = "worker 0", .x = {}, .y = {}, .style = Series::Style::dots, .color = 0};
  Series y{.name = "worker 1", .x = {}, .y = {}, .style = Series::Style::dots, .color = 1};
  Series c{.name = "center", .x = {}, .y = {}, .style = Series::Style::dots, .color = 2};
  Values rhos;
  for (int i = 1; i < 10; ++i) rhos.push_back(0.1 * i);
  for (double rho : {0.65, 0.66, 0.665, 0.67, 0.68}) rhos.push_back(rho);
  std::sort(rhos.begin(), rhos.end());
  for (double rho : rhos) {
    Result<WellPoint> end = leave_the_trap(rho, kEta, kSteps);
    if (!end.ok()) return end.status();
    for (auto [series, value] : {std::pair{&x, end->x}, {&y, end->y}, {&c, end->c}})
      series->x.push_back(rho), series->y.push_back(value);
    table.rows.push_back(
        {rho, least_curvature(rho), end->x, end->y, end->c, std::string(end->y < 0 ? "holds" : "is left")});
  }
  Series upper{.name = "+-sqrt(1 - rho)", .x = {}, .y = {}, .color = 5}, lower = upper;
  lower.name = "";
  for (int i = 0; i <= 100; ++i) {
    upper.x.push_back(0.01 * i), upper.y.push_back(std::sqrt(1 - 0.01 * i));
    lower.x.push_back(0.01 * i), lower.y.push_back(-std::sqrt(1 - 0.01 * i));
  }
  Series edge{.name = "rho = 2/3", .x = {2.0 / 3, 2.0 / 3}, .y = {-1, 1}, .style = Series::Style::dashed, .color = 5};
  report.tables.push_back(std::move(table));
  report.pictures.push_back(
      {"double_well", svg(Plot{.title = "The trap of the double well: where the workers end",
                               .x = {.label = "penalty rho", .low = 0, .high = 1},
                               .y = {.label = "position after 20000 steps", .low = -1.15, .high = 1.15},
                               .series = {x, y, c, upper, lower, edge}})});
  return report;
}

}  // namespace sinew::train::lab
