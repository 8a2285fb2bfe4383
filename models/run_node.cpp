// One process of a job: it joins, works, and leaves its report and, where it was measured, the parameters in the run
// folder's parts/ for whoever sums up: the supervisor, or the measured rank of a job without one.
#include <chrono>
#include <iostream>
#include <thread>

#include "core/cpu/cpu_info.h"
#include "dist/launch.h"
#include "dist/solo_world.h"
#include "dist/ucx/ucx_world.h"
#include "models/fault_file.h"
#include "models/node.h"
#include "models/parts.h"
#include "models/progress.h"
#include "models/run.h"

namespace sinew::train {
namespace {

struct Joined {
  std::unique_ptr<dist::StoreServer> server;  // on the rank that hosts the rendezvous
  std::unique_ptr<dist::World> world;
};

Result<Joined> join_job(const Options& options, const dist::JobEnvironment& environment) {
  Joined joined;
  if (environment.world_size == 1 && environment.status_fd < 0) {
    joined.world = dist::make_solo_world();
    return joined;
  }
  Result<dist::FaultPlan> faults = read_fault_plan(options);
  if (!faults.ok()) return faults.status();
  Result<dist::JobStore> store = dist::open_job_store(environment);
  if (!store.ok()) return store.status();
  joined.server = std::move(store->server);
  const dist::UcxOptions ucx{.rank = environment.rank,
                             .size = environment.world_size,
                             .incarnation = environment.incarnation,
                             .secret = environment.secret,
                             .faults = std::move(*faults),
                             .status_fd = environment.status_fd};
  Result<std::unique_ptr<dist::World>> world = dist::make_ucx_world(ucx, store->store);
  if (!world.ok()) return world.status();
  joined.world = std::move(*world);
  return joined;
}

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
  Result<Joined> joined = join_job(options, environment);
  if (!joined.ok()) return joined.status();
  dist::World& world = *joined->world;

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
