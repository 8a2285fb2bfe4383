// What the program can do, behind the verbs: a supervised local job, one rank of a job, a simulation, a test.
//
// Each returns its result or the Status of its first failure; models/exit_codes.h says which exit code that is. The
// verbs (models/cli) make the run folder before and write summary.json after.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "dist/launch.h"
#include "models/options.h"
#include "models/run_folder.h"

namespace sinew::train {

// summary.json, field by field.
struct RunSummary {
  double test_accuracy = 0;  // 0 to 1, of the evaluation point
  double test_loss = 0;      // mean over the test set
  std::string evaluated;     // own, average or center: what the evaluation point is
  std::string scheme, model, data;
  std::string world;  // ucx or sim
  int64_t workers = 1;
  int64_t steps_per_worker = 0;
  int64_t parameters = 0;         // of the model
  double samples_per_second = 0;  // trained, all workers together, by the wall clock
  int64_t bytes_sent = 0;         // all nodes together, over all their lives
  double wall_seconds = 0;
  double virtual_seconds = 0;                                          // 0 in a real run
  int64_t exchanges = 0, missed = 0, refused = 0, exchanges_lost = 0;  // all nodes together (dist::SchemeCounters)
  double staleness_mean = std::nan("");  // dist::Staleness, of all workers; NaN where nothing stale can be mixed in
  int64_t staleness_most = 0;
  // sqrt of the mean over the workers of ||x_i - z||^2 at the end, z the average, or the center as each last saw it;
  // NaN where nothing is shared.
  double consensus_distance = std::nan("");
  int64_t restarts = 0;
  std::vector<int> lost;  // ranks that died and were not restarted
  int64_t seed = 0;
  std::string parameters_sha256;  // of the evaluation point's parameters, in hex
  int stopped_by = 0;             // the signal that ended a job early; then nothing else is set and nothing written
};

std::string summary_json(const RunSummary& summary);
// For tests, and for programs of your own that read a run's result. data_error names the field that is missing or has
// another type.
Result<RunSummary> parse_summary(const std::string& json, const std::string& name);
// The lines printed at the end of a run.
std::string describe(const RunSummary& summary);

struct ClassAccuracy {
  std::string name;
  int64_t samples = 0, correct = 0;
};

struct EvalReport {
  std::string weights;  // the file
  std::string data;
  double loss = 0, accuracy = 0;
  int64_t samples = 0;
  std::vector<ClassAccuracy> classes;
};
std::string eval_json(const EvalReport& report);
std::string describe(const EvalReport& report);

// Starts and supervises one process per node on this machine, each with the command line `command`, keeps status.json
// and the progress line, and returns what the processes and the supervisor know together. gpus: how many this process
// sees; of several, each process sees one, in turn.
Result<RunSummary> run_local_job(const Options& options, RunFolder& folder, const std::vector<std::string>& command,
                                 int gpus = 0);
// CUDA_VISIBLE_DEVICES for a rank: one of the `gpus` first of those that `visible` lists (null: all there are).
std::string gpu_for(dist::Rank rank, int gpus, const char* visible);

// One rank of a job. JobEnvironment{} is a job of one worker, without a network. The summary is returned by the one
// rank that measured the evaluation point; nullopt by the others.
Result<std::optional<RunSummary>> run_node(const Options& options, RunFolder& folder,
                                           const dist::JobEnvironment& environment);

// All nodes in this process, in virtual time.
Result<RunSummary> run_simulation(const Options& options, RunFolder& folder);

// Tests the weights of a safetensors file on the options' data set.
Result<EvalReport> evaluate_file(const Options& options, const std::string& weights);

}  // namespace sinew::train
