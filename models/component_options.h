// From the program's Options to the option structs of the libraries.
#pragma once

#include "dist/fault_plan.h"
#include "dist/scheme.h"
#include "dist/sim/simulation.h"
#include "models/options.h"
#include "nn/data/dataset.h"
#include "nn/data/loader.h"
#include "optim/optimizer.h"

namespace sinew::train {

nn::DataOptions data_options(const Options& options);
// REQUIRES: data.sharding and data.order are one of their names.
nn::LoaderOptions loader_options(const Options& options, int worker);
// total_steps: of one worker, for schedules that end.
optim::OptimizerOptions optimizer_options(const Options& options, int64_t total_steps);
// fingerprint: of the model's layout.
dist::SchemeOptions scheme_options(const Options& options, uint64_t fingerprint);
dist::SimOptions sim_options(const Options& options, dist::FaultPlan faults);

// Where the run's tensors live.
Device device_of(const Options& options);

// Steps of each worker: train.steps, or train.epochs times an epoch.
int64_t total_steps(const Options& options, int64_t batches_per_epoch);

// What the libraries themselves say about the values: invalid_argument.
Status check_components(const Options& options);

}  // namespace sinew::train
