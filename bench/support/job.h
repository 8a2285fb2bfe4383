// Benchmarks of several processes: a program that starts copies of itself under the supervisor.
//
//   int main(int argc, char** argv) { return bench::run_job(argc, argv, {2, 4}, measure); }
//
// The copies get the same arguments.
#pragma once

#include <cstdio>
#include <functional>
#include <vector>

#include "bench/support/figures.h"
#include "dist/join.h"

namespace sinew::bench {

// Started by hand: one job after another, of each of these numbers of processes. Started as part of a job: `measure`.
// The exit code for main().
inline int run_job(int argc, char** argv, const std::vector<int64_t>& processes,
                   const std::function<Status(dist::World&)>& measure) {
  const auto job = dist::read_job_environment();
  Status status = job.status();
  if (job.ok() && job->has_value()) {
    Result<dist::Joined> joined = dist::join_job(**job);
    status = joined.status();
    if (joined.ok()) status = measure(*joined->world);
    if (status.ok()) joined->world->leave();
  } else if (job.ok()) {
    for (int64_t count : processes) {
      std::vector<dist::Rank> all;
      for (int r = 0; r < count; ++r) all.push_back(r);
      const auto report = dist::supervise(
          {.argv = {argv, argv + argc}, .processes = static_cast<int>(count), .max_restarts = 0, .essential = all});
      if (report.ok() && report->exit_code == 0) continue;
      status = report.ok() ? make_status(StatusCode::internal, report->failure) : report.status();
      break;
    }
  }
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace sinew::bench
