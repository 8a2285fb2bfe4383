// The gossip schemes' checks, shared by the tests of several of them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/philox.h"
#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {

inline constexpr int kGossipWorkers = 4;

inline FaultPlan plan(const std::string& text, uint64_t seed = 1) {
  FaultPlan p = parse_fault_plan(text, "plan").value();
  p.seed = seed;
  return p;
}

inline SchemeOptions gossip(const std::string& name, int workers,
                            const std::function<void(SchemeOptions&)>& more = {}) {
  SchemeOptions o;
  o.name = name;
  o.workers = workers;
  o.period = 1;
  if (more) more(o);
  return o;
}

inline double draw(Rank rank, int64_t round, int64_t element) {
  return 2 * uniform01(
                 philox_u64({5, uint32_t(RngPurpose::test), uint32_t(rank), uint64_t(round)}, uint64_t(element))) -
         1;
}

// What a round of the scheme leaves of the squared disagreement, over those of `rounds` rounds, each from fresh random
// parameters, that count.
inline double contraction(const SchemeOptions& options, int64_t rounds, const std::function<bool(int64_t)>& counts = {},
                          bool around_fixed_mean = false) {
  constexpr int64_t kSize = 16;
  auto body = [&](World& world) -> Result<Numbers> {
    auto scheme = make_scheme(options, world, kSize, DType::f64);
    std::vector<double> theta(kSize);
    SINEW_RETURN_IF_ERROR(scheme->start(theta));
    Numbers all;
    for (int64_t k = 0; k < rounds; ++k) {
      for (int64_t i = 0; i < kSize; ++i) theta[i] = draw(world.rank(), k, i);
      SINEW_RETURN_IF_ERROR(scheme->before_step(k, theta));
      SINEW_RETURN_IF_ERROR(scheme->after_step(k, theta));
      all.insert(all.end(), theta.begin(), theta.end());
    }
    SINEW_RETURN_IF_ERROR(scheme->finish(theta));
    return all;
  };
  SimulatedRun run = simulate(options.workers, body);
  double before = 0, after = 0;
  for (int64_t k = 0; k < rounds; ++k)
    for (int64_t i = 0; (!counts || counts(k)) && i < kSize; ++i) {
      double mean = 0, new_mean = 0;
      for (Rank r = 0; r < options.workers; ++r) {
        mean += draw(r, k, i) / options.workers;
        new_mean += run.nodes[r].numbers.at(k * kSize + i) / options.workers;
      }
      for (Rank r = 0; r < options.workers; ++r) {
        before += std::pow(draw(r, k, i) - mean, 2);
        after += std::pow(run.nodes[r].numbers.at(k * kSize + i) - (around_fixed_mean ? mean : new_mean), 2);
      }
    }
  for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
  return after / before;
}

struct FaultCase {
  const char* label;
  const char* faults;
};
inline constexpr FaultCase kFaultCases[] = {
    FaultCase{"none", ""},
    FaultCase{"drops", "drop from=* to=* probability=0.1"},
    FaultCase{"delays", "delay from=1 to=* by=30ms\ndelay from=3 to=2 by=70ms until=200ms"},
    FaultCase{"late", "delay from=* to=3 by=600ms after=50ms until=120ms"},
    FaultCase{"pauses",
              "pause rank=1 at=50ms for=900ms\npause rank=2 at=100ms for=90ms\n"
              "drop from=* to=* probability=0.05"},
    FaultCase{"partition",
              "drop from=0 to=2 after=50ms until=1500ms\n"
              "drop from=2 to=0 after=50ms until=1500ms\n"
              "drop from=1 to=2 after=50ms until=1500ms\n"
              "drop from=2 to=1 after=50ms until=1500ms\n"
              "drop from=3 to=2 after=50ms until=1500ms\n"
              "drop from=2 to=3 after=50ms until=1500ms"},
    FaultCase{"one_way", "drop from=3 to=* after=50ms until=900ms"},
    FaultCase{"suppress", "suppress rank=* probability=0.3\ndrop from=* to=2 probability=0.1"}};

inline Toy still_toy(const std::string& scheme, const std::function<void(SchemeOptions&)>& more = {}) {
  Toy toy;
  toy.scheme = gossip(scheme, kGossipWorkers, more);
  toy.scheme.deadline = 400 * kMillisecond;
  toy.size = 12;
  toy.steps = 40;
  toy.lr = 0;  // only the exchanges move anything
  toy.start_spread = 1;
  return toy;
}

}  // namespace sinew::dist::testing
