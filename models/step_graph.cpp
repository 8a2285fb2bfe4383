#include "models/step_graph.h"

#include "core/kernel_api.h"

namespace sinew::train {
namespace {

bool same_form(const Tensor& a, const Tensor& b) {
  return a.defined() && a.shape() == b.shape() && a.dtype() == b.dtype() && a.device() == b.device();
}
Tensor like(const Tensor& t) { return Tensor::empty(t.shape(), t.dtype(), t.device()); }

StepGraph::Results op_by_op(const nn::Batch& batch, const StepGraph::Pass& pass, const StepGraph::Update& update) {
  StepGraph::Results results = pass(batch);
  if (update) update(results);
  return results;
}

}  // namespace

void StepGraph::reset() {
  if (graph_ != nullptr) kernels(batch_.inputs.device()).graph_release(graph_);
  graph_ = nullptr;
  batch_ = {};
  results_ = {};
}

bool StepGraph::fits(const nn::Batch& batch) const {
  return same_form(batch_.inputs, batch.inputs) && same_form(batch_.labels, batch.labels);
}

StepGraph::Results StepGraph::run(const nn::Batch& batch, uint64_t step, const void* gradient, const Pass& pass,
                                  const Update& update) {
  const KernelTable& table = kernels(batch.inputs.device());
  if (impossible_ || table.graph_begin == nullptr) return op_by_op(batch, pass, update);
  const bool updates = static_cast<bool>(update);
  if (gradient != gradient_ || updates != updates_) reset();
  gradient_ = gradient, updates_ = updates;
  if (!fits(batch)) {
    if (graph_ == nullptr) batch_ = {like(batch.inputs), like(batch.labels)};
    return op_by_op(batch, pass, update);
  }
  if (graph_ == nullptr) return record(batch, step, pass, update);
  copy(batch.inputs.view(), batch_.inputs.output_view());
  copy(batch.labels.view(), batch_.labels.output_view());
  if (update) renew(update);
  return launch(step);
}

StepGraph::Results StepGraph::record(const nn::Batch& batch, uint64_t step, const Pass& pass, const Update& update) {
  const KernelTable& table = kernels(batch.inputs.device());
  copy(batch.inputs.view(), batch_.inputs.output_view());
  copy(batch.labels.view(), batch_.labels.output_view());
  bool recording = false, updated = false;
  try {
    table.graph_begin();
    recording = true;
    results_ = pass(batch_);
    if (update) {
      table.graph_mark();
      updated = true;
      update(results_);
    }
    recording = false;
    graph_ = table.graph_end(true);
  } catch (const Error&) {
    if (recording) table.graph_end(false);
    reset();
    if (updated) throw;  // it has counted the step
    impossible_ = true;
    return op_by_op(batch, pass, update);  // an error that has nothing to do with recording comes again
  } catch (...) {
    if (recording) table.graph_end(false);
    throw;
  }
  step_ = step;
  return launch(step);
}

StepGraph::Results StepGraph::launch(uint64_t step) {
  kernels(batch_.inputs.device()).graph_launch(graph_, step - step_);
  ++replays_;
  replayed_updates_ += updates_;
  return results_;
}

void StepGraph::renew(const Update& update) {
  const KernelTable& table = kernels(batch_.inputs.device());
  table.graph_renew(graph_, true);
  try {
    update(results_);
  } catch (...) {
    table.graph_renew(graph_, false);
    reset();
    throw;
  }
  table.graph_renew(graph_, false);
}

}  // namespace sinew::train
