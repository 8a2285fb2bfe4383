// What exchanges keep, whatever the network does: properties under generated fault plans.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gossip_bodies.h"
#include "tests/support/schedules.h"

namespace sinew::dist::testing {
namespace {

// Everything but deaths, after the workers have joined and over before the runs are.
Schedules without_deaths(int count) {
  return {.count = count,
          .most_workers = 7,
          .kinds = {Trouble::pause, Trouble::partition, Trouble::drop, Trouble::delay, Trouble::reorder,
                    Trouble::duplicate},
          .first = 50,
          .last = 300,
          .longest = 600};
}

std::string unfinished(const SimulatedRun& run) {
  if (!run.report.deadlock.empty()) return run.report.deadlock;
  for (const NodeResult& node : run.nodes)
    if (!node.finished) return "not finished: " + node.status.message();
  return "";
}

// Only the exchanges move anything: parameters and center add up to what they did at the start.
TEST(Properties, ElasticAveragingLosesNothing) {
  check_schedules(without_deaths(1500), [&](const Schedule& schedule) -> std::string {
    const int workers = schedule.workers - 1;  // the last one is the center
    Toy toy = still_toy(schedule.seed % 2 ? "easgd" : "eamsgd", [&](SchemeOptions& o) {
      o.workers = workers, o.shard = 5;
      o.wire = schedule.seed % 3 == 0 ? "int8" : "f32";
    });
    toy.scheme.deadline = 200 * kMillisecond;
    const SimulatedRun run = simulate(
        schedule.workers,
        [&](World& world) -> Result<Numbers> {
          if (world.rank() == workers) return toy_run(world, toy);
          ToyWorker worker(toy, world);
          SINEW_RETURN_IF_ERROR(worker.start());
          for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
          // It may give up at its deadline; what is unconfirmed is then tried again.
          Status status(StatusCode::timeout, "");
          for (int i = 0; i < 20 && status.code() == StatusCode::timeout; ++i)
            status = worker.scheme().finish(worker.theta().mutable_view());
          SINEW_RETURN_IF_ERROR(status);
          return to_doubles(worker.theta().view());
        },
        schedule.options());
    if (std::string wrong = unfinished(run); !wrong.empty()) return wrong;
    double sum = 0, at_first = 1;
    for (int r = 0; r < workers; ++r) at_first += 1 + r;
    for (const NodeResult& node : run.nodes) sum += node.numbers.at(7);
    return std::fabs(sum - at_first) < 1e-11 ? "" : sinew::detail::concat(at_first, " became ", sum);
  });
}

TEST(Properties, GossipLosesNothing) {
  constexpr GossipCase kConserving[] = {{"elastic_gossip"},
                                        {"elastic_gossip", [](SchemeOptions& o) { o.mode = "async"; }},
                                        {"dpsgd"},
                                        {"dpsgd", [](SchemeOptions& o) { o.mixing = "atc"; }},
                                        {"sgp"},
                                        {"sgp", [](SchemeOptions& o) { o.overlap = 1; }},
                                        {"gosgd"},
                                        {"adpsgd"}};
  check_schedules(without_deaths(1500), [&](const Schedule& schedule) -> std::string {
    const GossipCase& c = kConserving[schedule.seed % std::size(kConserving)];
    Toy toy = still_toy(c.name, [&](SchemeOptions& o) {
      o.workers = schedule.workers;
      if (c.more) c.more(o);
    });
    toy.steps = 120;
    const SimulatedRun run = simulate(
        schedule.workers, [&](World& world) { return gossip_run(world, toy); }, schedule.options());
    if (std::string wrong = unfinished(run); !wrong.empty()) return c.name + (": " + wrong);
    double sum = 0, weights = 0, at_first = 0;
    const double share = c.name == std::string("gosgd") ? 1.0 / schedule.workers : 1;
    for (int r = 0; r < schedule.workers; ++r) at_first += share * (1 + r);
    for (const NodeResult& node : run.nodes) sum += node.numbers.at(0) * node.numbers.at(4), weights += node.numbers[0];
    if (std::fabs(weights - share * schedule.workers) > 1e-11)
      return sinew::detail::concat(c.name, ": the weights add up to ", weights);
    return std::fabs(sum - at_first) < 1e-11 ? "" : sinew::detail::concat(c.name, ": ", at_first, " became ", sum);
  });
}

}  // namespace
}  // namespace sinew::dist::testing
