// One process of a job: it joins, works, and leaves its report and parameters in the run folder's parts/ for whoever
// sums up: the supervisor, or the last process of a job without one.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <optional>

#include "core/cpu/cpu_info.h"
#include "dist/join.h"
#include "models/fault_file.h"
#include "models/live_report.h"
#include "models/logging.h"
#include "models/node.h"
#include "models/parts.h"
#include "models/progress.h"
#include "models/run.h"

namespace sinew::train {
namespace {

// The log of a process without a supervisor, which would keep it; else standard error, which is that log.
class LogFile {
 public:
  LogFile(const RunFolder& folder, const dist::JobEnvironment& job) {
    if (job.status_fd < 0) fd_ = ::open(folder.log(job.rank).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }
  ~LogFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  int fd() const { return fd_ >= 0 ? fd_ : 2; }

 private:
  int fd_ = -1;
};

// Trains or serves. What there is to measure is in the run folder then.
Result<NodeResult> work(RunContext& context, const RunFolder& folder, const dist::JobEnvironment& job,
                        const dist::Joined& joined, LiveReport& live, const Logger& log) {
  const Options& options = context.options;
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  const bool is_worker = job.rank < context.scheme.workers;
  const int nodes = dist::node_count(context.scheme);
  if (!joined.warning.empty()) log.warning(joined.warning);
  log.info("scheme ", options.scheme.name, ", ", context.steps, " steps from ", job.start_step, ", ",
           context.model.layout().parameter_count(), " parameters");
  Progress progress(Progress::for_stderr(job.status_fd >= 0 || job.rank != 0 ? "none" : options.log.progress,
                                         static_cast<double>(options.log.every) * 1e-9),
                    std::cerr);
  ProgressState state{.total_steps = context.steps, .alive = nodes, .nodes = nodes};
  context.on_step = [&](dist::Rank, const StepReport& step, const NodeCounters& counters) {
    live.update(counters);
    state.step = step.step, state.loss = step.loss, state.accuracy = step.accuracy;
    state.elapsed_seconds = elapsed();
    state.samples_per_second = static_cast<double>(counters.samples) / state.elapsed_seconds;
    progress.update(state);
  };
  context.on_note = [&](dist::Rank, const std::string& text) { log.info(text); };
  Result<NodeResult> result =
      is_worker ? run_worker(context, *joined.world, job.start_step) : run_center(context, *joined.world);
  progress.finish(state);
  if (!result.ok()) return result;
  log.info("finished after ", elapsed(), " s");
  SINEW_RETURN_IF_ERROR(write_point(folder, context.model, *result));
  return result;
}

}  // namespace

Result<std::optional<RunSummary>> run_node(const Options& options, RunFolder& folder, const dist::JobEnvironment& job) {
  const auto begin = std::chrono::steady_clock::now();
  const dist::LifeSigns signs(job);
  set_num_threads(static_cast<int>(options.train.threads));
  Result<RunContext> prepared = prepare_run(options);
  if (!prepared.ok()) return prepared.status();
  RunContext& context = *prepared;
  Result<dist::FaultPlan> faults = read_fault_plan(options);
  if (!faults.ok()) return faults.status();
  folder.begin();
  const bool is_center = job.rank >= context.scheme.workers;
  std::optional<LogFile> file;
  std::optional<Logger> log;
  std::atomic<bool> has_log{false};  // the world outlives neither, and begins before them
  // Rank 0 has prepared the folder before anybody meets it: only then others write there.
  Result<dist::Joined> joined = dist::join_job(job, {.faults = std::move(*faults),
                                                     .network_device = options.run.network,
                                                     .give_up = options.run.grace,
                                                     .is_center = is_center,
                                                     .on_event = [&](const std::string& text) {
                                                       if (has_log) log->info(text);
                                                     }});
  if (!joined.ok()) return joined.status();
  file.emplace(folder, job);
  log.emplace(is_center ? "center" : "worker " + std::to_string(job.rank), log_level_named(options.log.level),
              file->fd());
  has_log = true;
  Result<MetricsWriter> metrics = MetricsWriter::open(folder.metrics());
  if (!metrics.ok()) return metrics.status();
  context.metrics = &*metrics;
  LiveReport live(folder, job, dist::node_count(context.scheme), is_center ? "center" : "worker");
  live.set_gone([&world = *joined->world](int rank) { return world.peer(rank) == dist::PeerState::gone; });
  context.earlier = live.earlier();
  Result<NodeResult> result = work(context, folder, job, *joined, live, *log);
  Status ended = result.status();
  if (result.ok()) ended = live.end(std::move(result->report));
  if (!result.ok()) live.fail();
  if (ended.ok()) joined->world->leave();
  if (!live.sums_up()) return ended.ok() ? Result<std::optional<RunSummary>>(std::nullopt) : ended;

  Result<RunSummary> summary = finish_parts(context, folder);
  live.close(summary.ok() ? "finished" : "failed");
  if (!summary.ok()) return ended.ok() ? summary.status() : ended;
  summary->wall_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  remove_parts(folder);
  if (!ended.ok()) {  // this one's own failure; the others' result is kept
    SINEW_RETURN_IF_ERROR(write_file(folder.summary(), summary_json(*summary)));
    return ended;
  }
  return std::optional<RunSummary>(std::move(*summary));
}

}  // namespace sinew::train
