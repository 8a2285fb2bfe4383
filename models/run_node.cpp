// One process of a job: it joins, works, and leaves its report and, where it was measured, the parameters in the run
// folder's parts/ for whoever sums up: the supervisor, or the measured rank of a job without one.
#include <chrono>
#include <iostream>
#include <thread>

#include "core/cpu/cpu_info.h"
#include "dist/join.h"
#include "models/fault_file.h"
#include "models/logging.h"
#include "models/node.h"
#include "models/parts.h"
#include "models/progress.h"
#include "models/run.h"

namespace sinew::train {
namespace {

// Without a supervisor: the others' reports come within moments, or never.
std::vector<NodeReport> wait_for_reports(const RunFolder& folder, int nodes) {
  for (int attempt = 0;; ++attempt) {
    std::vector<NodeReport> reports = read_parts(folder, nodes);
    if (static_cast<int>(reports.size()) == nodes || attempt == 50) return reports;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

}  // namespace

Result<std::optional<RunSummary>> run_node(const Options& options, RunFolder& folder,
                                           const dist::JobEnvironment& environment) {
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  set_num_threads(static_cast<int>(options.train.threads));
  Result<RunContext> prepared = prepare_run(options);
  if (!prepared.ok()) return prepared.status();
  RunContext& context = *prepared;
  Result<MetricsWriter> metrics = MetricsWriter::open(folder.metrics());
  if (!metrics.ok()) return metrics.status();
  context.metrics = &*metrics;
  Result<dist::FaultPlan> faults = read_fault_plan(options);
  if (!faults.ok()) return faults.status();
  Result<dist::Joined> joined = dist::join_job(environment, std::move(*faults));
  if (!joined.ok()) return joined.status();
  dist::World& world = *joined->world;
  const Logger log(world.rank() < context.scheme.workers ? "worker " + std::to_string(world.rank()) : "center",
                   log_level_named(options.log.level));
  if (!joined->warning.empty()) log.warning(joined->warning);

  const bool supervised = environment.status_fd >= 0;
  const int nodes = dist::node_count(context.scheme);
  Progress progress(Progress::for_stderr(supervised || world.rank() != 0 ? "none" : options.log.progress,
                                         static_cast<double>(options.log.every) * 1e-9),
                    std::cerr);
  ProgressState state{.total_steps = context.steps, .alive = nodes, .nodes = nodes};
  int64_t trained = 0;
  context.on_step = [&](dist::Rank, const StepReport& step) {
    trained += step.samples;
    state.step = step.step, state.loss = step.loss, state.accuracy = step.accuracy;
    state.elapsed_seconds = elapsed();
    state.samples_per_second = static_cast<double>(trained) / state.elapsed_seconds;
    progress.update(state);
  };
  Result<NodeResult> result = world.rank() < context.scheme.workers ? run_worker(context, world, environment.start_step)
                                                                    : run_center(context, world);
  progress.finish(state);
  if (!result.ok()) return result.status();

  if (result->point.defined()) measure(context, *result);
  SINEW_RETURN_IF_ERROR(write_part(folder, context.model.layout(), *result));
  world.leave();
  const bool sums_up = !supervised && world.rank() == (dist::needs_center(context.scheme) ? context.scheme.workers : 0);
  if (!sums_up) return std::optional<RunSummary>();
  Result<RunSummary> summary = finish_parts(context, folder, wait_for_reports(folder, nodes));
  if (!summary.ok()) return summary.status();
  summary->wall_seconds = elapsed();
  return std::optional<RunSummary>(std::move(*summary));
}

}  // namespace sinew::train
