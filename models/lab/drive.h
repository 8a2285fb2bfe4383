// A small problem under a real scheme: the Scheme and CenterNode objects that training uses, in the simulated world,
// with plain vectors of doubles in place of a network.
//
// Schemes treat all elements of a vector alike, so one run can hold many independent copies of a problem, one an
// element. Step k of worker r is
//
//   begin(r, k, x)   scheme.before_step   scheme.observe(loss(r, k, x))   x -= move(r, k, x)   scheme.after_step
//   seen(r, k, x, scheme)
//
// where the hooks that are not given do nothing. All run on one thread; hooks may write to what they capture.
//
// Example: EASGD on x^2 / 2, three workers in turn, c after each round
//   Problem p{.scheme = {.name = "easgd", .workers = 3, .period = 1, .alpha = 0.1}, .in_turn = true, .steps = 100};
//   p.start = {1000};
//   p.move = [](dist::Rank, int64_t, const Values& x, Values& move) { move[0] = 0.01 * x[0]; };
//   p.center = [](int64_t round, const Values& c) { ... };
//   Status status = drive(p);
#pragma once

#include <functional>
#include <vector>

#include "dist/scheme.h"

namespace sinew::train::lab {

using Values = std::vector<double>;

struct Problem {
  dist::SchemeOptions scheme;
  // true: worker after worker takes one step, the papers' round robin, and so on for `steps` rounds. false: all at
  // once, for schemes in lockstep.
  bool in_turn = false;
  int64_t steps = 1;  // of each worker
  Values start;       // of the center, and of all workers until `place`; its length is that of all vectors

  std::function<void(dist::Rank, Values& x)> place;  // after the scheme has met: where this worker's x really is
  std::function<Status(dist::Rank, const Values& x, dist::Scheme&)> prepare;  // after that, once
  std::function<void(dist::Rank, int64_t step, Values& x)> begin;
  std::function<double(dist::Rank, int64_t step, const Values& x)> loss;
  std::function<void(dist::Rank, int64_t step, const Values& x, Values& move)> move;  // move comes in as zeros
  std::function<void(dist::Rank, int64_t step, const Values& x, dist::Scheme&)> seen;
  // What the scheme is measured on: in turn, the center after each round; else what worker 0 knows after its step.
  std::function<void(int64_t step, const Values& c)> center;
};

// invalid_argument: the scheme's options; otherwise what a node failed with.
Status drive(const Problem& problem);

// Sets one vector of the scheme's state, at a step boundary.
Status set_state(dist::Scheme& scheme, const std::string& name, const Values& values);
Values get_state(const dist::Scheme& scheme, const std::string& name);

}  // namespace sinew::train::lab
