// The fault plan of a run, from the file that fault.plan names.
#pragma once

#include "dist/fault_plan.h"
#include "models/options.h"

namespace sinew::train {

// An empty plan when fault.plan is not set. Errors: not_found, data_error with the line, or with a fault that can
// never act in this job.
Result<dist::FaultPlan> read_fault_plan(const Options& options);

}  // namespace sinew::train
