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
  const dist::SchemeOptions scheme = scheme_options(options, 0);
  for (const dist::Fault& fault : plan->faults)
    if (const std::string why = why_never(fault, scheme.workers, dist::node_count(scheme)); !why.empty())
      return make_status(StatusCode::data_error, path, ": ", why);
  return plan;
}

}  // namespace sinew::train
