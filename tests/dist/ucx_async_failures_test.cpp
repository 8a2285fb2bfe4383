// The asynchronous schemes through failures of one worker, on real processes over UCX: those that no other test stops,
// cuts off or spoils there. Only exchanges move anything, so that all stays where it began, in [1, 4].
#if SINEW_HAVE_UCX

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "dist/communicator.h"
#include "tests/support/gossip_bodies.h"
#include "tests/support/spawn_processes.h"

namespace sinew::dist::testing {
namespace {

struct AsynchronousCase {
  const char* label;
  const char* scheme;
  bool adopts;  // who was stopped while the others went on
  void (*more)(SchemeOptions&) = nullptr;
};
void PrintTo(const AsynchronousCase& c, std::ostream* out) { *out << c.label; }

constexpr AsynchronousCase kCases[] = {
    {"eamsgd", "eamsgd", true},
    {"downpour", "downpour", false},
    {"adpsgd", "adpsgd", true},
    {"gossiping_sgd", "gossiping_sgd", true, [](SchemeOptions& o) { o.mode = "async"; }},
    {"easgd_tree", "easgd_tree", true, [](SchemeOptions& o) { o.fan_out = 2, o.far_period = 2; }},
    {"sgp", "sgp", true, [](SchemeOptions& o) { o.overlap = 1; }}};

class UcxAsynchronous : public ::testing::TestWithParam<AsynchronousCase> {
 protected:
  static constexpr Rank kVictim = 2;
  static constexpr int64_t kStep = 40;  // when something happens to it

  // at_step: what the victim does at kStep.
  void check(const std::string& faults, int64_t steps, const std::function<void(Vec& theta)>& at_step = {}) {
    const AsynchronousCase& c = GetParam();
    Toy toy = common_toy(c.scheme, "jacobi", 4);
    toy.scheme.period = 1;
    toy.scheme.deadline = 500 * kMillisecond;
    if (c.more) c.more(toy.scheme);
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = steps;
    const auto nodes =
        in_processes({.faults = plan(faults)})(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
          if (world.rank() >= toy.scheme.workers) return toy_run(world, toy);
          ToyWorker worker(toy, world);
          SINEW_RETURN_IF_ERROR(worker.start());
          Communicator workers(world, {0, 1, 2, 3}, 30 * kSecond);
          SINEW_RETURN_IF_ERROR(workers.barrier());  // the others have not to begin yet while it is stopped
          for (int64_t k = 0; k < toy.steps; ++k) {
            if (k == kStep && world.rank() == kVictim && at_step) at_step(worker.theta());
            SINEW_RETURN_IF_ERROR(worker.step(k));
            world.sleep(5 * kMillisecond);
          }
          SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
          return to_doubles(worker.theta().view());
        });
    for (size_t r = 0; r < nodes.size(); ++r) {
      ASSERT_TRUE(nodes[r].finished) << faults << r << ": " << nodes[r].status.message();
      for (double x : nodes[r].numbers) {
        ASSERT_GE(x, 1 - 1e-9) << faults << r;
        ASSERT_LE(x, 4 + 1e-9) << faults << r;
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(All, UcxAsynchronous, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.label); });

// What it has when it is stopped is far from the others': where it adopts, nobody else learns of it.
TEST_P(UcxAsynchronous, OneIsStopped) {
  check("pause rank=2 step=40 for=1500ms\n", 400, [](Vec& theta) {
    if (GetParam().adopts) fill(theta.mutable_view(), 1000);
  });
}

TEST_P(UcxAsynchronous, OneIsCutOffAndAnotherNotFinite) {
  check("partition ranks=2 after_step=20 until_step=26\ncorrupt rank=3 step=60 value=nan\n", 120);
}

}  // namespace
}  // namespace sinew::dist::testing

#endif
