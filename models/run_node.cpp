// One process of a job: it joins, works, and leaves its report and, where it was measured, the parameters in the run
// folder's parts/ for whoever sums up: the supervisor, or the measured rank of a job without one.
#include <fcntl.h>
#include <unistd.h>

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

// What a supervisor would keep for a process that has none: its log, and status.json where it is the only one.
class SoloFiles {
 public:
  SoloFiles(const RunFolder& folder, bool wanted, int rank, int nodes) : folder_(folder), alone_(nodes == 1) {
    if (wanted) fd_ = ::open(folder.log(rank).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }
  ~SoloFiles() {
    if (fd_ >= 0) ::close(fd_);
  }
  SoloFiles(const SoloFiles&) = delete;
  SoloFiles& operator=(const SoloFiles&) = delete;
  int log_fd() const { return fd_ >= 0 ? fd_ : 2; }

  void running(int64_t step, double elapsed) {
    if (fd_ < 0 || !alone_ || elapsed < next_) return;
    next_ = elapsed + 0.5;
    write("running", step);
  }
  void ended(bool ok, int64_t step) {
    if (fd_ >= 0 && alone_) write(ok ? "finished" : "failed", step);
  }

 private:
  void write(const char* state, int64_t step) {
    // Losing a status line must not end a run.
    (void)folder_.write_status(state, {{.rank = 0, .role = "worker", .pid = getpid(), .state = state, .step = step}})
        .ok();
  }
  const RunFolder& folder_;
  const bool alone_;
  int fd_ = -1;
  double next_ = 0;
};

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
  Result<dist::Joined> joined = dist::join_job(environment, std::move(*faults), options.run.network);
  if (!joined.ok()) return joined.status();
  dist::World& world = *joined->world;
  const bool supervised = environment.status_fd >= 0;
  const int nodes = dist::node_count(context.scheme);
  SoloFiles solo(folder, !supervised, world.rank(), nodes);
  const Logger log(world.rank() < context.scheme.workers ? "worker " + std::to_string(world.rank()) : "center",
                   log_level_named(options.log.level), solo.log_fd());
  if (!joined->warning.empty()) log.warning(joined->warning);
  log.info("scheme ", options.scheme.name, ", ", context.steps, " steps from ", environment.start_step, ", ",
           context.model.layout().parameter_count(), " parameters");
  solo.running(0, elapsed());
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
    solo.running(step.step, state.elapsed_seconds);
  };
  Result<NodeResult> result = world.rank() < context.scheme.workers ? run_worker(context, world, environment.start_step)
                                                                    : run_center(context, world);
  progress.finish(state);
  solo.ended(result.ok(), state.step);
  if (!result.ok()) return result.status();
  log.info("finished after ", elapsed(), " s");

  if (result->point.defined()) SINEW_RETURN_IF_ERROR(measure(context, *result));
  SINEW_RETURN_IF_ERROR(write_part(folder, context.model, *result));
  world.leave();
  const bool sums_up = !supervised && world.rank() == (dist::needs_center(context.scheme) ? context.scheme.workers : 0);
  if (!sums_up) return std::optional<RunSummary>();
  Result<RunSummary> summary = finish_parts(context, folder, wait_for_reports(folder, nodes));
  if (!summary.ok()) return summary.status();
  summary->wall_seconds = elapsed();
  return std::optional<RunSummary>(std::move(*summary));
}

}  // namespace sinew::train
