#include "models/live_report.h"

#include <unistd.h>

#include <algorithm>

namespace sinew::train {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(500);
// Locks are held for moments only, or by a process that is stopped while it holds one.
constexpr auto kLockTimeout = std::chrono::seconds(10);

NodeCounters sum(NodeCounters a, const NodeCounters& b) {
  a.samples += b.samples;
  a.train_seconds += b.train_seconds;
  a.bytes_sent += b.bytes_sent, a.bytes_received += b.bytes_received;
  a.exchanges += b.exchanges, a.missed += b.missed;
  a.refused += b.refused, a.exchanges_lost += b.exchanges_lost;
  a.staleness.add(b.staleness);
  a.steps = std::max(a.steps, b.steps);  // of the rank: a restarted worker goes on counting
  return a;
}

}  // namespace

LiveReport::LiveReport(const RunFolder& folder, const dist::JobEnvironment& job, int nodes, const std::string& role)
    : folder_(folder), job_(job), nodes_(nodes), stop_(folder.dir(), [this] { cancel(); }) {
  make_parts(folder);
  alive_ = FileLock(part_file(folder, job.rank, ".lock"));
  alive_.lock(kLockTimeout);
  if (job.incarnation > 0)
    for (const NodeReport& former : read_parts(folder, nodes))
      if (former.rank == job.rank) earlier_ = former.counters;
  report_ = {.rank = job.rank,
             .role = role,
             .state = "running",
             .pid = getpid(),
             .restarts = static_cast<int64_t>(job.incarnation),
             .counters = earlier_};
  thread_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    do tick();
    while (!wake_.wait_for(lock, kInterval, [this] { return ended_; }));
  });
}

LiveReport::~LiveReport() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void LiveReport::update(const NodeCounters& counters) {
  std::lock_guard lock(mutex_);
  if (!ended_) report_.counters = sum(earlier_, counters);
}

void LiveReport::set_gone(std::function<bool(int)> gone) {
  std::lock_guard lock(mutex_);
  gone_ = std::move(gone);
}

// Losing such a line must not end a run: the next one comes soon.
void LiveReport::tick() {
  if (ended_) return;
  (void)write_report(folder_, report_).ok();
  if (dist::supervisor_lives(job_)) return;
  if (!keeper_.held()) keeper_ = FileLock(part_file(folder_, -1, "keeper.lock"));
  if (keeper_.try_lock()) write_job_status("running");
}

Status LiveReport::end(NodeReport report) {
  std::lock_guard lock(mutex_);
  if (ended_) return Status::Ok();
  report.pid = report_.pid;
  report.restarts = report_.restarts;
  report.counters = sum(earlier_, report.counters);
  report_ = std::move(report);
  return write_end("finished");
}

void LiveReport::fail() {
  std::lock_guard lock(mutex_);
  if (!ended_) (void)write_end("failed").ok();
}

void LiveReport::cancel() {
  std::lock_guard lock(mutex_);
  if (!ended_) (void)write_end("cancelled").ok();
  if (!last_.held() || std::exchange(closed_, true)) return;
  write_job_status("cancelled");
}

// A report that cannot be written ends the process with an error, and it is the last one all the same.
Status LiveReport::write_end(const std::string& state) {
  ended_ = true;
  report_.state = state;
  Status status = write_report(folder_, report_);
  if (!is_last()) last_.release();
  return status;
}

bool LiveReport::sums_up() const {
  std::lock_guard lock(mutex_);
  return last_.held();
}

void LiveReport::close(const std::string& state) {
  std::lock_guard lock(mutex_);
  if (!std::exchange(closed_, true)) write_job_status(state);
}

// One after the other, each process lets go of its own lock and then looks for others': the last one finds none.
bool LiveReport::is_last() {
  if (dist::supervisor_lives(job_)) return false;
  last_ = FileLock(part_file(folder_, -1, "last.lock"));
  if (!last_.lock(kLockTimeout)) return false;
  alive_.release();
  for (int rank = 0; rank < nodes_; ++rank)
    if (rank != job_.rank && !(gone_ && gone_(rank)) && is_locked(part_file(folder_, rank, ".lock"))) {
      keeper_.release();  // another one goes on with it
      return false;
    }
  return true;
}

void LiveReport::write_job_status(const std::string& state) const {
  std::vector<NodeStatus> nodes;
  for (int rank = 0; rank < nodes_; ++rank) nodes.push_back({.rank = rank, .state = "starting"});
  for (const NodeReport& r : read_parts(folder_, nodes_)) {
    // A process that has ended without saying so was killed.
    const bool lost = r.state == "running" && r.rank != job_.rank &&
                      ((gone_ && gone_(r.rank)) || !is_locked(part_file(folder_, r.rank, ".lock")));
    nodes[static_cast<size_t>(r.rank)] = {.rank = r.rank,
                                          .role = r.role,
                                          .pid = r.pid,
                                          .state = lost ? "lost" : r.state,
                                          .step = r.counters.steps,
                                          .restarts = r.restarts};
  }
  (void)folder_.write_status(state, nodes).ok();
}

}  // namespace sinew::train
