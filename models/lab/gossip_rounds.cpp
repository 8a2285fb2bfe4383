#include "models/lab/gossip_rounds.h"

#include <algorithm>
#include <cmath>

#include "core/kernel_api.h"
#include "dist/topology.h"
#include "models/lab/svg.h"

namespace sinew::train::lab {
namespace {

constexpr int64_t kCopies = 16;  // a round has one graph, and so many vectors of values

class Mean {
 public:
  void add(double v) { ++n_, sum_ += v, squares_ += v * v; }
  Contraction result() const {
    const double n = static_cast<double>(n_), mean = sum_ / n;
    return {mean, std::sqrt(std::max(0.0, squares_ / n - mean * mean) / (n - 1)), n_};
  }

 private:
  int64_t n_ = 0;
  double sum_ = 0, squares_ = 0;
};

}  // namespace

double one_pair_contraction(int workers, double alpha) { return 1 - 4 * alpha * (1 - alpha) / (workers - 1); }

double pull_contraction(int workers, double probability, double beta) {
  return 1 - 2 * probability * beta * (1 - beta) * workers / (workers - 1);
}

Result<GossipRounds> measure_rounds(const std::string& scheme, int workers, double probability, double rate,
                                    int64_t rounds, uint64_t seed) {
  const size_t n = static_cast<size_t>(workers);
  std::vector<std::vector<Values>> before(static_cast<size_t>(rounds), std::vector<Values>(n)), after = before;
  Problem problem{.scheme = {.name = scheme, .workers = workers, .period = 1, .alpha = rate, .beta = rate},
                  .steps = rounds,
                  .start = Values(kCopies)};
  problem.scheme.probability = probability;
  problem.scheme.seed = seed;
  problem.begin = [&](dist::Rank r, int64_t k, Values& x) {
    kernels(Device::cpu)
        .random({RandomDist::normal,
                 DType::f64,
                 kCopies,
                 {seed, uint32_t(RngPurpose::synthetic), uint32_t(r), uint64_t(k)},
                 x.data(),
                 0,
                 1});
    before[static_cast<size_t>(k)][static_cast<size_t>(r)] = x;
  };
  problem.seen = [&](dist::Rank r, int64_t k, const Values& x, dist::Scheme&) {
    after[static_cast<size_t>(k)][static_cast<size_t>(r)] = x;
  };
  SINEW_RETURN_IF_ERROR(drive(problem));
  Mean all, one_pair;
  for (size_t k = 0; k < before.size(); ++k) {
    double v = 0, v_after = 0;
    for (size_t i = 0; i < static_cast<size_t>(kCopies); ++i) {
      double mean = 0;
      for (size_t r = 0; r < n; ++r) mean += before[k][r][i] / static_cast<double>(n);
      for (size_t r = 0; r < n; ++r) {
        v += (before[k][r][i] - mean) * (before[k][r][i] - mean);
        v_after += (after[k][r][i] - mean) * (after[k][r][i] - mean);
      }
    }
    size_t moved = 0;
    for (size_t r = 0; r < n; ++r) moved += before[k][r] != after[k][r];
    all.add(v_after / v);
    if (moved == 2) one_pair.add(v_after / v);
  }
  return GossipRounds{all.result(), one_pair.result()};
}

Result<Report> gossip_rounds(uint64_t seed) {
  Report report;
  Table table{.name = "rounds",
              .title = "What a round leaves of the squared disagreement (off: in standard errors)",
              .columns = {"scheme", "workers", "probability", "rate", "rounds", "measured", "expected", "off"},
              .rows = {}};
  auto add = [&](const std::string& what, int workers, double probability, double rate, const Contraction& c,
                 double expected) {
    table.rows.push_back({what, static_cast<double>(workers), probability, rate, static_cast<double>(c.rounds), c.mean,
                          expected, (c.mean - expected) / c.error});
  };
  struct Setting {
    int workers;
    double probability, alpha;
  };
  for (const Setting& s : {Setting{4, 1, 0.5}, {8, 1, 0.5}, {4, 0.125, 0.5}, {8, 1, 0.95}, {4, 1.0 / 32, 0.95}}) {
    Result<GossipRounds> m = measure_rounds("elastic_gossip", s.workers, s.probability, s.alpha, 10000, seed);
    if (!m.ok()) return m.status();
    add("elastic gossip", s.workers, s.probability, s.alpha, m->all,
        dist::expected_contraction(s.workers, s.probability, s.alpha));
    if (m->one_pair.rounds >= 1000)
      add("of one pair", s.workers, s.probability, s.alpha, m->one_pair, one_pair_contraction(s.workers, s.alpha));
  }
  for (int workers : {4, 8}) {
    Result<GossipRounds> m = measure_rounds("gossiping_sgd", workers, 1, 0.5, 10000, seed);
    if (!m.ok()) return m.status();
    add("pulled averages", workers, 1, 0.5, m->all, pull_contraction(workers, 1, 0.5));
  }
  report.tables.push_back(std::move(table));

  Plot plot{.title = "A round of elastic gossip: expected (lines) and measured (dots)",
            .x = {.label = "moving rate alpha", .low = 0, .high = 1},
            .y = {.label = "squared disagreement left", .low = 0, .high = 2},
            .series = {}};
  int color = 0;
  for (const Setting& s : {Setting{4, 1, 0}, {8, 1, 0}, {4, 0.125, 0}, {8, 0.125, 0}}) {
    Series line{.name = detail::concat(s.workers, " workers, p ", s.probability), .x = {}, .y = {}, .color = color};
    Series dots{.name = "", .x = {}, .y = {}, .style = Series::Style::dots, .color = color++};
    for (int i = 0; i <= 100; ++i)
      line.x.push_back(0.01 * i), line.y.push_back(dist::expected_contraction(s.workers, s.probability, 0.01 * i));
    for (double alpha : {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}) {
      Result<GossipRounds> m = measure_rounds("elastic_gossip", s.workers, s.probability, alpha, 1000, seed);
      if (!m.ok()) return m.status();
      dots.x.push_back(alpha), dots.y.push_back(m->all.mean);
    }
    plot.series.push_back(std::move(line));
    plot.series.push_back(std::move(dots));
  }
  plot.series.push_back({.name = "no change", .x = {0, 1}, .y = {1, 1}, .style = Series::Style::dashed, .color = 5});
  report.pictures.push_back({"gossip", svg(plot)});
  return report;
}

}  // namespace sinew::train::lab
