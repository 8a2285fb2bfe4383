// What the tests of the leader schemes share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "dist/schemes/leader.h"
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

// Five workers in lockstep, one of which is lost on the way as the spawn's faults say. The others elect the same
// leaders in every round, their own group's and that of all, end at the same mean, and the lost one leads nobody at the
// end.
inline void check_leaders_survive(const Spawn& spawn, const std::string& scheme, const std::string& groups, Rank leader,
                                  Rank lost, int64_t steps = 24, Nanos pause = 0) {
  Toy toy = toy_with(leaders(scheme, 5, [&](SchemeOptions& o) {
    o.groups = groups, o.period = scheme == "lgd" ? 1 : 2;
    o.proximal = scheme == "lgd" ? 0 : 0.2;
    o.deadline = kSecond;
  }));
  toy.steps = steps;
  constexpr size_t kOfRound = 3;
  const auto nodes = spawn(5, [&](World& world) -> Result<Numbers> {
    Toy own = toy;
    Numbers rounds;
    own.scheme.on_round = [&](const LeaderRound& r) {
      for (double v : {double(r.round), double(r.local), double(r.global)}) rounds.push_back(v);
    };
    ToyWorker worker(own, world);
    worker.loss = [&](int64_t k) { return led_by(leader)(world.rank(), k); };
    SINEW_RETURN_IF_ERROR(worker.start());
    for (int64_t k = 0; k < toy.steps; ++k) {
      SINEW_RETURN_IF_ERROR(worker.step(k));
      if (pause > 0) world.sleep(pause);
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    Vec mean = Vec::zeros(toy.size, toy.dtype);
    SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), mean.mutable_view()));
    const Numbers point = to_doubles(mean.view());
    rounds.insert(rounds.begin(), point.begin(), point.end());
    return rounds;
  });
  const std::vector<int64_t> group_of = leader_groups(groups, 5).value();
  const size_t first = static_cast<size_t>(toy.size), rounds = static_cast<size_t>(steps / toy.scheme.period);
  const NodeResult& other = nodes[lost == 0 ? 1 : 0];
  ASSERT_TRUE(other.finished) << scheme << ": " << other.status.message();
  for (Rank r = 0; r < 5; ++r) {
    const NodeResult& node = nodes[static_cast<size_t>(r)];
    EXPECT_EQ(node.finished, r != lost) << scheme << " rank " << r << ": " << node.status.message();
    if (!node.finished) continue;
    ASSERT_EQ(node.numbers.size(), first + kOfRound * rounds) << scheme << " rank " << r;
    for (size_t i = 0; i < first; ++i) ASSERT_EQ(node.numbers[i], other.numbers[i]) << scheme << " rank " << r;
    // Whom the workers of its group have followed; and all.
    for (Rank q = 0; q < r; ++q)
      for (size_t k = 0; k < rounds && nodes[static_cast<size_t>(q)].finished; ++k) {
        const size_t at = first + kOfRound * k;
        const Numbers& theirs = nodes[static_cast<size_t>(q)].numbers;
        ASSERT_EQ(node.numbers[at], theirs[at]);
        ASSERT_EQ(node.numbers[at + 2], theirs[at + 2]) << scheme << " ranks " << q << ", " << r << " round " << k;
        if (group_of[static_cast<size_t>(q)] == group_of[static_cast<size_t>(r)]) {
          ASSERT_EQ(node.numbers[at + 1], theirs[at + 1]) << scheme << " ranks " << q << ", " << r << " round " << k;
        }
      }
    Rank expected = kAnyRank;
    for (Rank q = 4; q >= 0; --q)
      if (q != lost && group_of[static_cast<size_t>(q)] == group_of[static_cast<size_t>(r)] && expected != leader)
        expected = q;
    EXPECT_EQ(node.numbers[first + kOfRound * (rounds - 1) + 1], expected) << scheme << " rank " << r;
  }
}

}  // namespace sinew::dist::testing
