// A training step on a device that records graphs (core/kernel_api.h): the second step of a shape is recorded, later
// ones are one launch instead of hundreds. Results are the same bits: the same kernels in the same order, random
// numbers by each step's own key, and the optimizer's kernels with each step's own rates.
//
// Recorded are the forward and backward pass, with the estimate of the curvature where the step makes one, and, where
// it is given, the update that follows. Before each replay the update's host side runs again, and the numbers that it
// hands to its kernels are put in the graph.
//
// Not recorded, and so done op by op: the first step, batches of another shape, and passes that wait for the device in
// the middle (then none is recorded any more). A recorded step keeps all its memory.
//
// Thread safety: one thread at a time. While it records, other threads that use the device wait.
#pragma once

#include <functional>

#include "core/vec.h"
#include "nn/data/dataset.h"

namespace sinew::train {

class StepGraph {
 public:
  struct Results {
    Tensor loss, logits;
    Vec diagonal = {};  // of the Hessian, where the step estimates it
  };
  // Works on the batch it is given, and else on the same memory each time.
  using Pass = std::function<Results(const nn::Batch&)>;
  // What follows the pass; makes the same calls each time, see Optimizer::recordable.
  using Update = std::function<void(Results&)>;

  StepGraph() = default;
  ~StepGraph() { reset(); }
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // What pass(batch), and then update where there is one, do in step number `step`. The results are valid until the
  // next call. gradient: the memory that the pass writes; when that is another one, or the update comes or goes,
  // recording begins anew. Error when an update cannot be recorded.
  Results run(const nn::Batch& batch, uint64_t step, const void* gradient, const Pass& pass, const Update& update = {});
  int64_t replays() const { return replays_; }
  int64_t replayed_updates() const { return replayed_updates_; }

 private:
  void reset();
  bool fits(const nn::Batch& batch) const;
  Results record(const nn::Batch& batch, uint64_t step, const Pass& pass, const Update& update);
  void renew(const Update& update);
  Results launch(uint64_t step);

  void* graph_ = nullptr;
  nn::Batch batch_;  // that the graph reads; before there is one: of the shapes of the last pass
  Results results_;  // that it writes
  uint64_t step_ = 0;
  const void* gradient_ = nullptr;
  bool updates_ = false;
  bool impossible_ = false;
  int64_t replays_ = 0, replayed_updates_ = 0;
};

}  // namespace sinew::train
