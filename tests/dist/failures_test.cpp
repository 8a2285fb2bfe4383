// Every asynchronous scheme through every kind of failure of one worker, in the simulation: the others never wait
// longer than the deadline, the worker comes back, and everybody ends well.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gossip_bodies.h"

namespace sinew::dist::testing {
namespace {

constexpr Nanos kDeadline = 300 * kMillisecond;

struct Failure {
  const char* label;
  const char* faults;
};
constexpr Failure kFailures[] = {
    {"killed", "kill rank=2 at=505ms"},
    {"killed_twice", "kill rank=2 at=505ms\nkill rank=2 at=1500ms"},
    {"stopped", "pause rank=2 at=505ms for=2s"},
    {"cut_off", "partition ranks=2 after=505ms until=1500ms"},
    {"deaf", "drop to=2 after=505ms until=1500ms"},
    {"mute", "drop from=2 after=505ms until=1500ms"},
    {"not_finite", "corrupt rank=2 step=50 value=nan"},
    {"infinite", "corrupt rank=2 step=50 value=inf"},
    {"chaos",
     "duplicate probability=0.2\nreorder probability=0.2 by=40ms\ndrop probability=0.05\ndelay jitter=30ms by=0s"}};

bool is_asynchronous(const SchemeOptions& o) {
  return survives_center(o) || o.name == "easgd_tree" || o.name == "gosgd" || o.name == "adpsgd" ||
         (o.name == "sgp" && o.overlap > 0) ||
         ((o.name == "elastic_gossip" || o.name == "gossiping_sgd" || o.name == "lsgd") && o.mode == "async");
}

class Failures : public ::testing::TestWithParam<Failure> {};
INSTANTIATE_TEST_SUITE_P(All, Failures, ::testing::ValuesIn(kFailures),
                         [](const auto& info) { return std::string(info.param.label); });

TEST_P(Failures, OfOneWorker) {
  for (const Variant& v : kVariants) {
    Toy toy = toy_of(v, 4);
    if (!is_asynchronous(toy.scheme)) continue;
    toy.scheme.deadline = kDeadline;
    toy.lr = v.name == std::string("mdownpour") ? 0.005 : 0.05;
    toy.momentum = 0;  // a velocity that is not finite would stay so; the trainer skips such steps
    toy.steps = 250;
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      SCOPED_TRACE(sinew::detail::concat(v.label, ", seed ", seed));
      Nanos longest[4] = {};
      auto body = [&](World& world) -> Result<Numbers> {
        const Rank r = world.rank();
        if (r >= toy.scheme.workers) return toy_run(world, toy);
        Toy own = toy;
        if (world.incarnation() > 0) own.start = 1e6;  // which its steps would not lead back from
        ToyWorker worker(own, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = world.incarnation() * 100; k < toy.steps; ++k) {
          const Nanos before = world.now();
          SINEW_RETURN_IF_ERROR(worker.step(k));
          longest[r] = std::max(longest[r], world.now() - before);
        }
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        return to_doubles(worker.theta().view());
      };
      const SimulatedRun run = simulate(
          node_count(toy.scheme), body,
          {.seed = seed, .restarts = 2, .restart_delay = 300 * kMillisecond, .faults = plan(GetParam().faults, seed)});
      EXPECT_EQ(run.report.deadlock, "");
      for (size_t r = 0; r < run.nodes.size(); ++r) {
        ASSERT_TRUE(run.nodes[r].finished) << "rank " << r << ": " << run.nodes[r].status.message();
        for (double x : run.nodes[r].numbers) ASSERT_LT(std::fabs(x), 5) << "rank " << r;
        // A question, or two where who comes back is asked where it is; and the step itself.
        if (r < 4 && r != 2) {
          EXPECT_LT(longest[r], kDeadline + 50 * kMillisecond) << "rank " << r;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sinew::dist::testing
