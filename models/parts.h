// What the processes of a job leave in the run folder's parts/ at their end: rank-N.json (NodeReport) and, where a node
// was measured, rank-N.safetensors. finish_parts turns them into model.safetensors and the summary, and removes them.
#pragma once

#include <vector>

#include "models/node.h"
#include "models/run_folder.h"

namespace sinew::train {

Status write_part(const RunFolder& folder, const nn::Model& model, const NodeResult& result);
// Those of the ranks below `nodes` that are there and whole.
std::vector<NodeReport> read_parts(const RunFolder& folder, int nodes);
Result<RunSummary> finish_parts(const RunContext& context, const RunFolder& folder,
                                const std::vector<NodeReport>& reports);

}  // namespace sinew::train
