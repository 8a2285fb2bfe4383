// What the tests of the leader schemes share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "tests/support/toy_training.h"

namespace sinew::dist::testing {

inline SchemeOptions leaders(const std::string& name, int workers,
                             const std::function<void(SchemeOptions&)>& more = {}) {
  SchemeOptions o{.name = name, .workers = workers, .period = 1, .deadline = 400 * kMillisecond};
  if (more) more(o);
  return o;
}

using Losses = std::function<double(Rank rank, int64_t step)>;

// A run whose workers report these losses, and measure at the end, until when leaders are there to be asked. Hands back
// theta.
inline Result<Numbers> run_with(World& world, const Toy& toy, const Losses& losses,
                                const std::function<void(ToyWorker&, int64_t)>& after_step = {}) {
  ToyWorker worker(toy, world);
  worker.loss = [&](int64_t k) { return losses(world.rank(), k); };
  SINEW_RETURN_IF_ERROR(worker.start());
  for (int64_t k = 0; k < toy.steps; ++k) {
    SINEW_RETURN_IF_ERROR(worker.step(k));
    if (after_step) after_step(worker, k);
  }
  SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
  Vec point = Vec::zeros(toy.size, toy.dtype);
  SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), point.mutable_view()));
  return to_doubles(worker.theta().view());
}

inline std::vector<Numbers> run_all(const Toy& toy, const Losses& losses,
                                    const std::function<void(ToyWorker&, int64_t)>& after_step = {},
                                    SimOptions options = {}) {
  std::vector<Numbers> all;
  for (const NodeResult& node :
       simulate(
           toy.scheme.workers, [&](World& w) { return run_with(w, toy, losses, after_step); }, std::move(options))
           .nodes) {
    EXPECT_TRUE(node.finished) << node.status.message();
    all.push_back(node.numbers);
  }
  return all;
}

// All parameters of worker r are 1 + r at first.
inline Toy toy_with(const SchemeOptions& scheme, double lr = 0.1) {
  Toy toy;
  toy.scheme = scheme;
  toy.size = 5;
  toy.steps = 12;
  toy.lr = lr;
  toy.start_spread = 1;
  return toy;
}

// The rank given here always leads.
inline Losses led_by(Rank leader) {
  return [leader](Rank r, int64_t) { return r == leader ? 0.5 : 1.0 + r; };
}

}  // namespace sinew::dist::testing
