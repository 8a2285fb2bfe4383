// All nodes of a run as fibers of this process, in virtual time.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <optional>

#include "core/cpu/cpu_info.h"
#include "dist/fault_plan.h"
#include "dist/sim/simulation.h"
#include "models/component_options.h"
#include "models/fault_file.h"
#include "models/node.h"
#include "models/progress.h"
#include "models/run.h"
#include "models/stop_signal.h"
#include "models/weights_file.h"

namespace sinew::train {
namespace {

using What = dist::NodeOutcome::What;

const char* state_of(const dist::NodeOutcome& outcome) {
  switch (outcome.what) {
    case What::finished:
      return "finished";
    case What::killed:
      return "lost";
    case What::failed:
    case What::deadlocked:
      return "failed";
  }
  return "failed";
}

// Written by the simulation, read by the thread that handles signals.
using LiveSteps = std::vector<std::atomic<int64_t>>;

std::vector<NodeStatus> node_states(const RunContext& context, const dist::SimReport* report, const LiveSteps& steps,
                                    const char* state = "running") {
  std::vector<NodeStatus> nodes;
  for (int rank = 0; rank < dist::node_count(context.scheme); ++rank) {
    NodeStatus node{.rank = rank,
                    .role = rank < context.scheme.workers ? "worker" : "center",
                    .pid = getpid(),
                    .state = state,
                    .step = steps[static_cast<size_t>(rank)]};
    if (report) {
      const dist::NodeOutcome& outcome = report->nodes[static_cast<size_t>(rank)];
      node.state = state_of(outcome);
      node.step = outcome.step;
      node.restarts = outcome.restarts;
    }
    nodes.push_back(node);
  }
  return nodes;
}

// The counters of a former life; bytes the simulated network counts over all lives by itself.
void add_life(NodeCounters& all, const NodeCounters& life) {
  all.samples += life.samples;
  all.exchanges += life.exchanges, all.missed += life.missed;
  all.refused += life.refused, all.exchanges_lost += life.exchanges_lost;
  all.staleness.add(life.staleness);
}

}  // namespace

Result<RunSummary> run_simulation(const Options& options, RunFolder& folder) {
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  Result<dist::FaultPlan> faults = read_fault_plan(options);
  if (!faults.ok()) return faults.status();
  Result<RunContext> prepared = prepare_run(options);
  if (!prepared.ok()) return prepared.status();
  RunContext& context = *prepared;
  Result<MetricsWriter> metrics = MetricsWriter::open(folder.metrics());
  if (!metrics.ok()) return metrics.status();
  context.metrics = &*metrics;
  set_num_threads(static_cast<int>(options.train.threads));
  folder.begin();
  const int nodes = dist::node_count(context.scheme);
  LiveSteps next_step(static_cast<size_t>(nodes));
  std::optional<StopSignal> stop(std::in_place, folder.dir(), [&] {
    (void)folder.write_status("cancelled", node_states(context, nullptr, next_step, "cancelled")).ok();
  });
  SINEW_RETURN_IF_ERROR(folder.write_status("running", node_states(context, nullptr, next_step)));

  Progress progress(Progress::for_stderr(options.log.progress, static_cast<double>(options.log.every) * 1e-9),
                    std::cerr);
  int64_t trained = 0;
  double status_at = 0;
  std::vector<NodeCounters> lives(static_cast<size_t>(nodes)), former(static_cast<size_t>(nodes));
  ProgressState state{.total_steps = context.steps, .alive = nodes, .nodes = nodes};
  context.on_step = [&](dist::Rank rank, const StepReport& step, const NodeCounters& counters) {
    trained += step.samples;
    next_step[static_cast<size_t>(rank)] = step.step;
    lives[static_cast<size_t>(rank)] = counters;
    if (const double now = elapsed(); now > status_at + 0.5) {
      status_at = now;  // losing such a line must not end a run: the next one comes soon
      (void)folder.write_status("running", node_states(context, nullptr, next_step)).ok();
    }
    if (rank != 0) return;
    state.step = step.step, state.loss = step.loss, state.accuracy = step.accuracy;
    state.elapsed_seconds = elapsed();
    state.samples_per_second = static_cast<double>(trained) / state.elapsed_seconds;
    progress.update(state);
  };

  std::vector<NodeResult> results(static_cast<size_t>(nodes));
  dist::Simulation simulation(sim_options(options, std::move(*faults)), nodes);
  for (dist::Rank rank = 0; rank < nodes; ++rank)
    simulation.set_node(rank, [&, rank](dist::World& world) {
      const size_t at = static_cast<size_t>(rank);
      // A restarted worker goes on after its last finished step, and its exchanges count with the former ones. The
      // simulated network counts bytes over all lives by itself.
      add_life(former[at], lives[at]);
      lives[at] = {};
      Result<NodeResult> result =
          rank < context.scheme.workers ? run_worker(context, world, next_step[at]) : run_center(context, world);
      world.leave();
      if (result.ok()) {
        results[at] = std::move(*result);
        add_life(results[at].report.counters, former[at]);
      }
      return result.status();
    });
  const dist::SimReport report = simulation.run();
  progress.finish(state);
  const double train_seconds = elapsed();

  Status failure, ended;
  RunSummary lost_and_restarts;
  std::vector<NodeReport> reports;
  NodeResult* measured = nullptr;
  for (size_t i = 0; i < results.size(); ++i) {
    const dist::NodeOutcome& outcome = report.nodes[i];
    lost_and_restarts.restarts += outcome.restarts;
    // One that is not among the majority ends, as with real processes, and the others go on.
    const bool left_behind = outcome.what == What::failed && outcome.status.code() == StatusCode::peer_lost;
    if (outcome.what == What::killed || left_behind) lost_and_restarts.lost.push_back(static_cast<int>(i));
    if (left_behind && ended.ok()) ended = outcome.status;
    if (outcome.what == What::failed && !left_behind && failure.ok()) failure = outcome.status;
    if (outcome.what == What::deadlocked && failure.ok())
      failure = make_status(StatusCode::internal, "the simulation is deadlocked: ", report.deadlock);
    if (outcome.what == What::finished && results[i].point.defined() && !measured) measured = &results[i];
  }
  if (failure.ok() && !measured) failure = ended;
  if (failure.ok() && !measured) failure = make_status(StatusCode::peer_lost, "no node lived to be measured");
  if (failure.ok()) failure = measure(context, *measured);
  stop.reset();
  SINEW_RETURN_IF_ERROR(
      folder.write_status(failure.ok() ? "finished" : "failed", node_states(context, &report, next_step)));
  SINEW_RETURN_IF_ERROR(failure);
  SINEW_RETURN_IF_ERROR(save_weights(folder.model(), context.model, measured->point.view()));
  for (size_t i = 0; i < results.size(); ++i)
    if (report.nodes[i].what == What::finished) reports.push_back(results[i].report);
  Result<RunSummary> summary = summarize(context, reports);
  if (!summary.ok()) return summary;
  summary->restarts = lost_and_restarts.restarts;
  summary->lost = lost_and_restarts.lost;
  summary->virtual_seconds = static_cast<double>(report.virtual_time) * 1e-9;
  summary->samples_per_second = static_cast<double>(trained) / train_seconds;
  summary->wall_seconds = elapsed();
  return summary;
}

}  // namespace sinew::train
