// What each node of a run does, in both worlds: a worker trains, the center serves.
//
// RunContext is what the nodes of one process share, all of it read-only; NodeReport is what a node knows at its end.
#pragma once

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

struct RunContext {
  Options options;
  nn::DataSplit data;
  nn::Model model;
  dist::SchemeOptions scheme;
  int64_t steps = 0;  // of each worker
  int64_t steps_per_epoch = 0;
  MetricsWriter* metrics = nullptr;  // null: nothing is written
  // After each step of a worker on this process; may be empty.
  std::function<void(dist::Rank, const StepReport&)> on_step;
};

// Opens the data, builds the model. Errors: of the data, of the model's options.
Result<RunContext> prepare_run(const Options& options);

struct NodeReport {
  int rank = 0;
  std::string role;  // worker, center
  int64_t steps = 0, samples = 0;
  double train_seconds = 0;  // between start and finish, by the world's clock
  int64_t bytes_sent = 0, exchanges = 0, missed = 0;
  std::optional<Evaluation> evaluation;
  std::string evaluated, parameters_sha256;
};
std::string node_report_json(const NodeReport& report);
Result<NodeReport> parse_node_report(const std::string& json, const std::string& name);

struct NodeResult {
  NodeReport report;
  Vec point;  // what this node would be measured on; undefined when another node is measured
};
Result<NodeResult> run_worker(const RunContext& context, dist::World& world, int64_t first_step);
Result<NodeResult> run_center(const RunContext& context, dist::World& world);

// Measures result.point on the test set and fills in the report. non_finite when the loss is not a number.
Status measure(const RunContext& context, NodeResult& result);
// The run's summary from its nodes' reports: figures of the lowest measured rank, sums over all.
Result<RunSummary> summarize(const RunContext& context, const std::vector<NodeReport>& reports);

}  // namespace sinew::train
