// A training step's forward and backward pass on a device that records graphs (core/kernel_api.h): the second pass of a
// shape is recorded, later ones are one launch instead of hundreds. Results are the same bits: the same kernels in the
// same order, random numbers by each step's own key.
//
// Not recorded, and so done op by op: the first pass, batches of another shape, and passes that wait for the device in
// the middle (then none is recorded any more). What happens outside the pass is not part of it: the optimizer's step,
// whose rates change, and the scheme's exchanges, which depend on what arrives. A recorded pass keeps all its memory.
//
// Thread safety: one thread at a time. While it records, other threads that use the device wait.
#pragma once

#include <functional>

#include "nn/data/dataset.h"

namespace sinew::train {

class StepGraph {
 public:
  struct Results {
    Tensor loss, logits;
  };
  // Works on the batch it is given, and else on the same memory each time.
  using Pass = std::function<Results(const nn::Batch&)>;

  StepGraph() = default;
  ~StepGraph() { reset(); }
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // What pass(batch) does in step number `step`. The results are valid until the next call. gradient: the memory that
  // the pass writes; when that is another one, recording begins anew.
  Results run(const nn::Batch& batch, uint64_t step, const void* gradient, const Pass& pass);
  int64_t replays() const { return replays_; }

 private:
  void reset();
  bool fits(const nn::Batch& batch) const;
  Results record(const nn::Batch& batch, uint64_t step, const Pass& pass);

  void* graph_ = nullptr;
  nn::Batch batch_;  // that the graph reads; before there is one: of the shapes of the last pass
  Results results_;  // that it writes
  uint64_t step_ = 0;
  const void* gradient_ = nullptr;
  bool impossible_ = false;
  int64_t replays_ = 0;
};

}  // namespace sinew::train
