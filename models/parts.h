// The run folder's parts/: what the processes of a job tell while they run and leave at their end.
//
//   rank-N.json         the rank's report (NodeReport), rewritten twice a second and at the end
//   rank-N.safetensors  the parameters it would be measured on; complete when its report says finished
//   rank-N.lock, keeper.lock, last.lock   of models/live_report.h
//
// finish_parts turns them into model.safetensors and the summary. Who calls it: the supervisor, or the last process of
// a job without one.
#pragma once

#include <string>
#include <vector>

#include "models/node.h"
#include "models/run_folder.h"

namespace sinew::train {

// Makes parts/. Nothing else does, so that a process that comes too late leaves nothing. Errors show when files are
// written.
void make_parts(const RunFolder& folder);
// rank < 0: a file of the whole job.
std::string part_file(const RunFolder& folder, int rank, const char* ending);

std::string node_report_json(const NodeReport& report);
Result<NodeReport> parse_node_report(const std::string& json, const std::string& name);  // data_error

Status write_report(const RunFolder& folder, const NodeReport& report);
// The parameters, where the node has some to be measured.
Status write_point(const RunFolder& folder, const nn::Model& model, const NodeResult& result);
// Those of the ranks below `nodes` that are there and whole, in the order of the ranks.
std::vector<NodeReport> read_parts(const RunFolder& folder, int nodes);
// Measures the lowest rank that finished and left its parameters. Sets what the reports tell: all but wall_seconds.
// peer_lost when there is none; non_finite.
Result<RunSummary> finish_parts(const RunContext& context, const RunFolder& folder);

// After the last use of them.
void remove_parts(const RunFolder& folder);

}  // namespace sinew::train
