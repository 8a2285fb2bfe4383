// What a process of a job tells while it runs, also when it is asked to stop (models/stop_signal.h), and what the
// processes of a job without a supervisor do in its place.
//
// Twice a second this process writes its report (models/parts.h) into the run folder. As long as there is no supervisor
// (another launcher, a single process, or a supervisor that was killed), one of the living processes, the keeper, also
// writes status.json from all reports. The last process that ends sums up: who that is, is decided under a lock that
// the kernel releases when its holder dies, so that it is exactly one.
//
// Thread safety: all methods from any thread.
//
// Example:
//   LiveReport live(folder, job, nodes, "worker");
//   live.update(counters);                        // after each step
//   Status status = live.end(report);
//   if (live.sums_up()) ...
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "dist/launch.h"
#include "models/file_lock.h"
#include "models/parts.h"
#include "models/run_folder.h"
#include "models/stop_signal.h"

namespace sinew::train {

class LiveReport {
 public:
  // job, folder: must outlive this.
  LiveReport(const RunFolder& folder, const dist::JobEnvironment& job, int nodes, const std::string& role);
  ~LiveReport();
  LiveReport(const LiveReport&) = delete;
  LiveReport& operator=(const LiveReport&) = delete;

  // What this rank had counted in its former lives, up to half a second before each of their ends.
  const NodeCounters& earlier() const { return earlier_; }
  // The counters of this life so far.
  void update(const NodeCounters& counters);
  // Ranks of which nothing will be heard any more count as ended, even while their processes exist. What `gone` uses
  // must outlive this.
  void set_gone(std::function<bool(int rank)> gone);
  // Writes the last report, which says finished. io_error.
  Status end(NodeReport report);
  // The same where there is nothing to report but that it failed.
  void fail();
  // After its end: whether this process is the last one of a job without a supervisor. It sums up, and then writes the
  // job's state.
  bool sums_up() const;
  void close(const std::string& state);

 private:
  void tick();
  void cancel();
  Status write_end(const std::string& state);
  bool is_last();
  void write_job_status(const std::string& state) const;

  const RunFolder& folder_;
  const dist::JobEnvironment& job_;
  const int nodes_;
  NodeCounters earlier_;
  FileLock alive_, keeper_, last_;

  mutable std::mutex mutex_;
  NodeReport report_;
  std::function<bool(int)> gone_;
  bool ended_ = false, closed_ = false;
  std::condition_variable wake_;
  std::thread thread_;
  const StopSignal stop_;
};

}  // namespace sinew::train
