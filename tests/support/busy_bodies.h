// Lockstep schemes whose members are busy: their training side computes for longer than the deadline, while their
// communication side answers. Checks that hold in every kind of world.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {

struct LockstepCase {
  const char* name;
  void (*more)(SchemeOptions&) = nullptr;
};
inline constexpr LockstepCase kLockstepCases[] = {
    {"allreduce"},
    {"allreduce", [](SchemeOptions& o) { o.wire = "int8"; }},
    {"easgd_sync"},
    {"easgd_sync", [](SchemeOptions& o) { o.order = "gauss_seidel"; }},
    {"local_sgd"},
    {"lsgd"},
    {"lsgd", [](SchemeOptions& o) { o.groups = "0,3/1,2", o.proximal = 0.1; }},
    {"lgd"},
    {"local", [](SchemeOptions& o) { o.global_average_every = 3; }}};

struct Busy {
  Rank rank = 0;
  int64_t step = 7;
  Nanos duration = 0;
};

// Hands back how many messages the worker has sent, in the simulation, and theta.
inline Result<Numbers> busy_run(World& world, const Toy& toy, const Busy& busy) {
  ToyWorker worker(toy, world);
  SINEW_RETURN_IF_ERROR(worker.start());
  worker.after_exchange = [&](int64_t k) {
    if (world.rank() == busy.rank && k == busy.step) world.sleep(busy.duration);
  };
  for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
  SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
  Numbers numbers{world.simulated() ? static_cast<double>(world.traffic().messages_sent) : 0};
  for (double x : to_doubles(worker.theta().view())) numbers.push_back(x);
  return numbers;
}

inline Toy busy_toy(const LockstepCase& c, Nanos deadline, int workers = 4) {
  Toy toy = common_toy(c.name, "jacobi", workers);
  if (c.more) c.more(toy.scheme);
  toy.scheme.deadline = deadline;
  return toy;
}

// One of four members takes ten deadlines for a step. All finish, with the bits of a run without that, and nobody has
// asked more often than each quarter of the deadline.
inline void check_busy_member_is_waited_for(const Spawn& spawn, const LockstepCase& c, Rank rank, Nanos deadline) {
  const Toy toy = busy_toy(c, deadline);
  constexpr int64_t kDeadlines = 10;
  const auto nodes =
      spawn(4, [&](World& w) { return busy_run(w, toy, {.rank = rank, .duration = kDeadlines * deadline}); });
  const auto expected = in_simulation()(4, [&](World& w) { return busy_run(w, toy, {}); });
  for (size_t r = 0; r < 4; ++r) {
    ASSERT_TRUE(nodes[r].finished) << c.name << " rank " << r << ": " << nodes[r].status.message();
    ASSERT_TRUE(expected[r].finished) << expected[r].status.message();
    Numbers numbers = nodes[r].numbers, undisturbed = expected[r].numbers;
    // Three others; for each a question and an answer.
    ASSERT_LE(numbers[0] - undisturbed[0], 3 * 2 * (4 * kDeadlines + 4)) << c.name << " rank " << r;
    numbers[0] = undisturbed[0] = 0;
    ASSERT_EQ(numbers, undisturbed) << c.name << " rank " << r;
  }
}

}  // namespace sinew::dist::testing
