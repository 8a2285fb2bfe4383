// Starts one process per node on this machine and supervises them.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "core/cpu/cpu_info.h"
#include "models/component_options.h"
#include "models/exit_codes.h"
#include "models/fault_file.h"
#include "models/logging.h"
#include "models/node.h"
#include "models/parts.h"
#include "models/progress.h"
#include "models/run.h"
#include "models/stop_signal.h"

namespace sinew::train {
namespace {

std::vector<NodeStatus> node_states(const dist::SchemeOptions& scheme,
                                    const std::vector<dist::ProcessStatus>& processes) {
  std::vector<NodeStatus> nodes;
  for (const dist::ProcessStatus& p : processes)
    nodes.push_back({.rank = p.rank,
                     .role = p.rank < scheme.workers ? "worker" : "center",
                     .pid = p.pid,
                     .state = p.state,
                     .step = p.step,
                     .restarts = static_cast<int64_t>(p.restarts)});
  return nodes;
}

// The progress line from what the processes report and measure.
class JobProgress {
 public:
  JobProgress(const RunContext& context, const RunFolder& folder)
      : context_(context),
        folder_(folder),
        metrics_(folder.metrics()),
        progress_(
            Progress::for_stderr(context.options.log.progress, static_cast<double>(context.options.log.every) * 1e-9),
            std::cerr) {
    state_.total_steps = context.steps;
    state_.nodes = dist::node_count(context.scheme);
  }

  void update(const std::vector<dist::ProcessStatus>& processes, double elapsed) {
    if (Result<std::vector<MetricsRecord>> records = metrics_.poll(); records.ok())
      for (const MetricsRecord& r : *records)
        if (r.worker == 0 && r.measured == "own") state_.loss = r.value("loss"), state_.accuracy = r.value("accuracy");
    state_.alive = 0;
    int64_t slowest = context_.steps + 1, samples = 0;
    for (const dist::ProcessStatus& p : processes) {
      const bool alive = p.state == "running" || p.state == "starting" || p.state == "finished";
      state_.alive += alive;
      if (p.rank >= context_.scheme.workers) continue;
      if (alive) slowest = std::min(slowest, p.step);
    }
    if (slowest <= context_.steps) state_.step = slowest;
    state_.elapsed_seconds = elapsed;
    for (const NodeReport& report : read_parts(folder_, state_.nodes)) samples += report.counters.samples;
    state_.samples_per_second = static_cast<double>(samples) / elapsed;
    progress_.update(state_);
  }
  void note(const std::string& line) { progress_.note(line); }
  void finish() { progress_.finish(state_); }
  void stop() { progress_.stop(); }

 private:
  const RunContext& context_;
  const RunFolder& folder_;
  MetricsReader metrics_;
  Progress progress_;
  ProgressState state_;
};

// Why the job failed: the last words of the process whose exit code it took.
Status failure_of(const RunContext& context, const RunFolder& folder, const dist::LaunchReport& report) {
  const bool is_center = report.failed >= context.scheme.workers;
  if (is_center && report.exit_code >= 128)
    return make_status(StatusCode::peer_lost, "the center's process (rank ", report.failed, ") was ended by signal ",
                       report.exit_code - 128, "; the workers cannot go on without it. Start the run again");
  std::string why = last_error_in(folder.log(report.failed));
  if (why.empty())
    why = detail::concat("rank ", report.failed, " ended with exit code ", report.exit_code, "; see ",
                         folder.log(report.failed));
  return status_of_exit_code(report.exit_code, why);
}

}  // namespace

std::string gpu_for(dist::Rank rank, int gpus, const char* visible) {
  const int index = rank % gpus;
  if (visible == nullptr) return std::to_string(index);
  std::istringstream list(visible);
  std::string gpu;
  for (int i = 0; i <= index; ++i) std::getline(list, gpu, ',');
  return gpu;
}

Result<RunSummary> run_local_job(const Options& options, RunFolder& folder, const std::vector<std::string>& command,
                                 int gpus) {
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  // A bad fault plan or bad data is one line here, not one per process.
  if (Result<dist::FaultPlan> faults = read_fault_plan(options); !faults.ok()) return faults.status();
  Result<RunContext> prepared = prepare_run(options);
  if (!prepared.ok()) return prepared.status();
  const RunContext& context = *prepared;
  set_num_threads(static_cast<int>(options.train.threads));
  std::vector<dist::Rank> servers, essential;
  for (int rank = context.scheme.workers; rank < dist::node_count(context.scheme); ++rank) servers.push_back(rank);
  if (!servers.empty() && !dist::survives_center(context.scheme)) essential = {context.scheme.workers};

  JobProgress progress(context, folder);
  Status status_file;
  dist::LaunchOptions launch{.argv = command,
                             .processes = dist::node_count(context.scheme),
                             .max_restarts = static_cast<int>(options.run.restarts),
                             .essential = essential,
                             .servers = servers,
                             .restartable = dist::takes_workers_back(context.scheme),
                             .fatal_exit_codes = {kExitUsage, kExitData, kExitNonFinite, kExitPermission},
                             .master_port = static_cast<int>(options.run.port),
                             .silence = options.run.grace,
                             .log_path = [&](dist::Rank rank) { return folder.log(rank); },
                             .on_change =
                                 [&](const std::vector<dist::ProcessStatus>& processes) {
                                   folder.begin();
                                   progress.update(processes, elapsed());
                                   status_file = folder.write_status("running", node_states(context.scheme, processes));
                                 },
                             .on_death = [&](const std::string& line) { progress.note(line); }};
  if (gpus > 1)
    launch.environment = [&](dist::Rank rank) {
      return std::vector{"CUDA_VISIBLE_DEVICES=" + gpu_for(rank, gpus, std::getenv("CUDA_VISIBLE_DEVICES"))};
    };
  Result<dist::LaunchReport> report = dist::supervise(launch);
  if (report.ok() && report->exit_code == 0)
    progress.finish();
  else
    progress.stop();
  if (!report.ok()) return report.status();
  const std::vector<NodeStatus> nodes = node_states(context.scheme, report->processes);
  if (report->stopped_by) {
    SINEW_RETURN_IF_ERROR(folder.write_status("cancelled", nodes));
    return RunSummary{.stopped_by = report->stopped_by};
  }
  Result<RunSummary> summary = RunSummary();
  if (report->exit_code != 0) {
    summary = failure_of(context, folder, *report);
  } else {
    const StopSignal stop(folder.dir(), [&] { (void)folder.write_status("cancelled", nodes).ok(); });
    summary = finish_parts(context, folder);
  }
  SINEW_RETURN_IF_ERROR(folder.write_status(summary.ok() ? "finished" : "failed", nodes));
  if (!summary.ok()) return summary;
  remove_parts(folder);
  summary->restarts = report->restarts;
  summary->lost.assign(report->lost.begin(), report->lost.end());
  summary->wall_seconds = elapsed();
  return summary;
}

}  // namespace sinew::train
