// How a simulated run of a toy with a gossip scheme ends: parameters, weights, counters.
#pragma once

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/support/gossip_bodies.h"

namespace sinew::dist::testing {

// theta and the scheme's weight (1 where it has none) at the end, and all counters together.
struct Ends {
  std::vector<Numbers> theta;
  std::vector<Nanos> last_step;  // when it was over
  Numbers weight;
  SchemeCounters counters;
  SimReport report;
  double weighted_sum(int64_t element) const {
    double sum = 0;
    for (size_t r = 0; r < theta.size(); ++r) sum += weight[r] * theta[r].at(element);
    return sum;
  }
  double weights() const {
    double sum = 0;
    for (double w : weight) sum += w;
    return sum;
  }
};

inline Ends ends_of(const Toy& toy, SimOptions options = {}) {
  Ends ends;
  ends.weight.resize(toy.scheme.workers);
  ends.last_step.resize(toy.scheme.workers);
  auto body = [&](World& world) -> Result<Numbers> {
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
    ends.last_step[world.rank()] = world.now();
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    ends.weight[world.rank()] = weight_of(worker.scheme());
    const SchemeCounters c = worker.scheme().counters();
    ends.counters.exchanges += c.exchanges, ends.counters.missed += c.missed;
    ends.counters.resent += c.resent, ends.counters.lost += c.lost;
    return to_doubles(worker.theta().view());
  };
  SimulatedRun run = simulate(toy.scheme.workers, body, std::move(options));
  for (const NodeResult& node : run.nodes) {
    EXPECT_TRUE(node.finished) << node.status.message();
    ends.theta.push_back(node.numbers);
  }
  ends.report = run.report;
  return ends;
}

}  // namespace sinew::dist::testing
