// Recorded work with random keys: a step's launches, recorded once and replayed as one.
//
//   graph_begin();                       // this thread's work is recorded from here on, not done
//   ... entries of the table ...
//   record_mark();                       // what follows can be renewed (cuda/runtime.h)
//   ... more entries, with this step's rates ...
//   void* g = graph_end(true);           // or nullptr with graph_end(false): what was recorded is dropped
//   graph_renew(g, true);                // the same entries again, with the next step's rates: nothing is done
//   ... ...
//   graph_renew(g, false);
//   graph_launch(g, 1);                  // does all of it, RngKeys with step + 1
//   graph_release(g);
//
// Kernels before the mark get the values they were recorded with, but for random keys: those lie in the graph's memory,
// so that a replay draws what its own step draws. Waiting for the device (uploads, downloads, synchronize) cannot be
// recorded and is an Error. Memory that was allocated while recording stays with the graph. Other threads that use the
// device wait until the recording has ended.
#pragma once

#include "core/philox.h"
#include "cuda/kernels/index.h"

namespace sinew::cuda::SINEW_CUDA_NS {

void graph_begin();
void* graph_end(bool keep);
void graph_renew(void* graph, bool on);
void graph_launch(void* graph, uint64_t steps);
void graph_release(void* graph);

// The half of philox_block that does not depend on the element.
MixedKey mixed(const RngKey& key);
// Where a kernel that is being recorded finds its key; null when this thread does not record.
const MixedKey* recorded_key(const RngKey& key);

}  // namespace sinew::cuda::SINEW_CUDA_NS
