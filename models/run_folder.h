// The run folder: everything there is to know about one run.
//
//   config.toml        every setting with its origin; `sinew train --config` with it repeats the run
//   command.txt        the command line
//   env.json           compiler, libraries, processor, host
//   metrics.jsonl      measurements (models/metrics.h)
//   status.json        rank, role, pid, state and step of every process, kept live
//   log/rank-N.log     what each process printed (not in a simulation, which has one process)
//   model.safetensors  the parameters at the evaluation point
//   summary.json       the result (models/run.h); written last, so a folder with it holds a finished run
//
// A folder holds one run: a second one is an error, never an overwrite. Small files are replaced by rename, so a reader
// sees the old text or the new one. Thread safety: const methods from any thread.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "models/config.h"

namespace sinew::train {

// One process of a run, for status.json.
struct NodeStatus {
  int rank = 0;
  std::string role;   // worker, center
  int pid = 0;        // in a simulation: of the one process
  std::string state;  // starting running finished restarting lost failed cancelled
  int64_t step = 0;
  int64_t restarts = 0;
};

class RunFolder {
 public:
  // Makes a new folder, at run.dir or else runs/<date>-<model>-<scheme>-<k> with the first free k, and writes
  // config.toml, command.txt and env.json. Sets run.dir. invalid_argument when the folder holds a run, io_error.
  static Result<RunFolder> create(Configuration& configuration, const std::vector<std::string>& command);
  // The folder of a run that another process prepares or has prepared.
  static Result<RunFolder> join(const std::string& dir);

  const std::string& dir() const { return dir_; }
  std::string config() const { return dir_ + "/config.toml"; }
  std::string metrics() const { return dir_ + "/metrics.jsonl"; }
  std::string status() const { return dir_ + "/status.json"; }
  std::string model() const { return dir_ + "/model.safetensors"; }
  std::string summary() const { return dir_ + "/summary.json"; }
  std::string log(int rank) const { return dir_ + "/log/rank-" + std::to_string(rank) + ".log"; }

  // The run begins: its settings and data are good. What was given to on_begin happens, once.
  void on_begin(std::function<void()> announce) { announce_ = std::move(announce); }
  void begin() {
    if (auto announce = std::exchange(announce_, {})) announce();
  }

  // Removes the folder again when nothing has run in it: no measurement, no status, no log. For runs that fail at
  // their settings or data, so that the same command can be typed again.
  void remove_if_unused() const;

  // state: of the run as a whole: running, finished, failed, cancelled.
  Status write_status(const std::string& state, const std::vector<NodeStatus>& nodes) const;

 private:
  Status write_beginning(const Configuration& configuration) const;

  explicit RunFolder(std::string dir) : dir_(std::move(dir)) {}
  std::string dir_;
  std::function<void()> announce_;
};

// Replaces a file by rename. io_error.
Status write_file(const std::string& path, const std::string& text);
// A command line that a shell reads back as the same words.
std::string shell_line(const std::vector<std::string>& words);
// What env.json holds and `sinew info` prints: names and values.
std::vector<std::pair<std::string, std::string>> environment_facts();

}  // namespace sinew::train
