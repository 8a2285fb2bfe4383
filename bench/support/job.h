// Benchmarks of several processes: a program that starts copies of itself under the supervisor.
//
//   int main(int argc, char** argv) { return bench::run_job(argc, argv, {2, 4}, measure); }
//
// The copies get the same arguments.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "dist/join.h"

namespace sinew::bench {

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n == 0 ? 0 : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

// One line that scripts/bench/table.py understands: microseconds, lower is better.
inline void report(const std::string& peer, const std::string& name, double seconds) {
  std::printf("%s\t%s\t%.1f\n", peer.c_str(), name.c_str(), seconds * 1e6);
  std::fflush(stdout);
}

// Options whose values are lists of positive integers: "--floats 1000,25000000". False, and a line on stderr, when the
// arguments are anything else.
inline bool read_lists(int argc, char** argv, std::map<std::string, std::vector<int64_t>*> options) {
  for (int i = 1; i < argc; i += 2) {
    const auto option = options.find(argv[i]);
    std::vector<int64_t> values;
    for (const char* at = i + 1 < argc ? argv[i + 1] : ""; *at;) {
      char* end = nullptr;
      values.push_back(std::strtoll(at, &end, 10));
      if (end == at || values.back() < 1 || (*end && *end != ',')) values.clear(), end = const_cast<char*>("");
      at = *end ? end + 1 : end;
    }
    if (option == options.end() || values.empty()) {
      std::fprintf(stderr, "%s: needs an option and a list like 1,1000; see the top of the source\n", argv[i]);
      return false;
    }
    *option->second = values;
  }
  return true;
}

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
