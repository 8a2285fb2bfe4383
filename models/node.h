// What each node of a run does, in both worlds: a worker trains, the center serves.
//
// RunContext is what the nodes of one process share, all of it read-only; NodeReport is what a node knows at its end.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "dist/scheme.h"
#include "models/evaluate.h"
#include "models/metrics.h"
#include "models/options.h"
#include "models/run.h"
#include "models/trainer.h"
#include "nn/data/dataset.h"
#include "nn/module.h"

namespace sinew::train {

// Of one rank. In a restarted worker's report: of all its lives together.
struct NodeCounters {
  int64_t steps = 0;  // finished; not a sum, since a restarted worker goes on counting
  int64_t samples = 0;
  double train_seconds = 0;  // between start and finish, by the world's clock
  int64_t bytes_sent = 0, bytes_received = 0, exchanges = 0, missed = 0;
  int64_t refused = 0, exchanges_lost = 0;  // dist::SchemeCounters
  dist::Staleness staleness;
};

struct RunContext {
  Options options;
  nn::DataSplit data;
  nn::Model model;
  dist::SchemeOptions scheme;
  Vec weights;        // of model.weights, in host memory; undefined without
  int64_t steps = 0;  // of each worker
  int64_t steps_per_epoch = 0;
  NodeCounters earlier;              // this process's rank in its former lives
  MetricsWriter* metrics = nullptr;  // null: nothing is written
  // After each step of a worker on this process; may be empty.
  std::function<void(dist::Rank, const StepReport&, const NodeCounters&)> on_step;
  // Gets lines for the log of a worker on this process; may be empty.
  std::function<void(dist::Rank, const std::string&)> on_note;
};

// Opens the data, builds the model, reads model.weights. Errors: of the data, of the model's options, of that file.
Result<RunContext> prepare_run(const Options& options);

struct NodeReport {
  int rank = 0;
  std::string role;   // worker, center
  std::string state;  // running finished failed cancelled; empty in a simulation
  int pid = 0;
  int64_t restarts = 0;
  NodeCounters counters;
  std::string evaluated;  // what its parameters are: own, average or center
  // Of a worker's parameters at the end from the average, or the center as it last saw it; NaN: unknown.
  double distance = std::nan("");
  // Of the measured node.
  std::optional<Evaluation> evaluation;
  std::string parameters_sha256;
};

struct NodeResult {
  NodeReport report;
  Vec point;  // what this node would be measured on; undefined when another node is measured
};
Result<NodeResult> run_worker(const RunContext& context, dist::World& world, int64_t first_step);
Result<NodeResult> run_center(const RunContext& context, dist::World& world);

// Measures result.point on the test set and fills in the report. non_finite when the loss is not a number.
Status measure(const RunContext& context, NodeResult& result);
// The run's summary from its nodes' reports: figures of the measured rank, sums over all.
Result<RunSummary> summarize(const RunContext& context, const std::vector<NodeReport>& reports);

}  // namespace sinew::train
