#include "models/fault_file.h"

#include <fstream>
#include <sstream>

#include "models/component_options.h"

namespace sinew::train {

Result<dist::FaultPlan> read_fault_plan(const Options& options) {
  const std::string& path = options.fault.plan;
  if (path.empty()) return dist::FaultPlan{};
  std::ifstream file(path);
  if (!file)
    return make_status(StatusCode::not_found, "cannot read the fault plan ", path,
                       "; give --fault.plan an existing file");
  std::ostringstream text;
  text << file.rdbuf();
  Result<dist::FaultPlan> plan = dist::parse_fault_plan(text.str(), path);
  if (!plan.ok()) return plan;
  plan->seed = static_cast<uint64_t>(options.train.seed);
  const int nodes = dist::node_count(scheme_options(options, 0));
  for (const dist::Fault& fault : plan->faults)
    for (dist::Rank rank : ranks_named(fault))
      if (rank >= nodes)
        return make_status(StatusCode::data_error, path, ": rank ", rank, ", but the job's ranks are 0 to ", nodes - 1);
  return plan;
}

}  // namespace sinew::train
