// All nodes of a run as fibers of this process, in virtual time.
#include <unistd.h>

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

std::vector<NodeStatus> node_states(const RunContext& context, const dist::SimReport* report,
                                    const char* state = "running") {
  std::vector<NodeStatus> nodes;
  for (int rank = 0; rank < dist::node_count(context.scheme); ++rank) {
    NodeStatus node{
        .rank = rank, .role = rank < context.scheme.workers ? "worker" : "center", .pid = getpid(), .state = state};
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
  std::optional<StopSignal> stop(std::in_place, folder.dir(), [&] {
    (void)folder.write_status("cancelled", node_states(context, nullptr, "cancelled")).ok();
  });
  SINEW_RETURN_IF_ERROR(folder.write_status("running", node_states(context, nullptr)));

  Progress progress(Progress::for_stderr(options.log.progress, static_cast<double>(options.log.every) * 1e-9),
                    std::cerr);
  const int nodes = dist::node_count(context.scheme);
  int64_t trained = 0;
  std::vector<int64_t> next_step(static_cast<size_t>(nodes), 0);
  ProgressState state{.total_steps = context.steps, .alive = nodes, .nodes = nodes};
  context.on_step = [&](dist::Rank rank, const StepReport& step, const NodeCounters&) {
    trained += step.samples;
    next_step[static_cast<size_t>(rank)] = step.step;
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
      // A restarted worker goes on after its last finished step.
      Result<NodeResult> result =
          rank < context.scheme.workers ? run_worker(context, world, next_step[at]) : run_center(context, world);
      world.leave();
      if (result.ok()) results[at] = std::move(*result);
      return result.status();
    });
  const dist::SimReport report = simulation.run();
  progress.finish(state);
  const double train_seconds = elapsed();

  Status failure;
  RunSummary lost_and_restarts;
  std::vector<NodeReport> reports;
  NodeResult* measured = nullptr;
  for (size_t i = 0; i < results.size(); ++i) {
    const dist::NodeOutcome& outcome = report.nodes[i];
    lost_and_restarts.restarts += outcome.restarts;
    if (outcome.what == What::killed) lost_and_restarts.lost.push_back(static_cast<int>(i));
    if (outcome.what == What::failed && failure.ok()) failure = outcome.status;
    if (outcome.what == What::deadlocked && failure.ok())
      failure = make_status(StatusCode::internal, "the simulation is deadlocked: ", report.deadlock);
    if (outcome.what == What::finished && results[i].point.defined() && !measured) measured = &results[i];
  }
  if (failure.ok() && !measured) failure = make_status(StatusCode::peer_lost, "no node lived to be measured");
  if (failure.ok()) failure = measure(context, *measured);
  stop.reset();
  SINEW_RETURN_IF_ERROR(folder.write_status(failure.ok() ? "finished" : "failed", node_states(context, &report)));
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
