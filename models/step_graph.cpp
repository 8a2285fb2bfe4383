#include "models/step_graph.h"

#include "core/kernel_api.h"
#include "core/vec.h"

namespace sinew::train {
namespace {

bool same_form(const Tensor& a, const Tensor& b) {
  return a.defined() && a.shape() == b.shape() && a.dtype() == b.dtype() && a.device() == b.device();
}
Tensor like(const Tensor& t) { return Tensor::empty(t.shape(), t.dtype(), t.device()); }

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

StepGraph::Results StepGraph::run(const nn::Batch& batch, uint64_t step, const void* gradient, const Pass& pass) {
  const KernelTable& table = kernels(batch.inputs.device());
  if (impossible_ || table.graph_begin == nullptr) return pass(batch);
  if (gradient != gradient_) reset();
  gradient_ = gradient;
  if (!fits(batch)) {
    if (graph_ == nullptr) batch_ = {like(batch.inputs), like(batch.labels)};
    return pass(batch);
  }
  if (graph_ == nullptr) return record(batch, step, pass);
  copy(batch.inputs.view(), batch_.inputs.output_view());
  copy(batch.labels.view(), batch_.labels.output_view());
  table.graph_launch(graph_, step - step_);
  ++replays_;
  return results_;
}

StepGraph::Results StepGraph::record(const nn::Batch& batch, uint64_t step, const Pass& pass) {
  const KernelTable& table = kernels(batch.inputs.device());
  copy(batch.inputs.view(), batch_.inputs.output_view());
  copy(batch.labels.view(), batch_.labels.output_view());
  bool recording = false;
  try {
    table.graph_begin();
    recording = true;
    results_ = pass(batch_);
    recording = false;
    graph_ = table.graph_end(true);
  } catch (const Error&) {
    if (recording) table.graph_end(false);
    reset();
    impossible_ = true;
    return pass(batch);  // an error that has nothing to do with recording comes again
  } catch (...) {
    if (recording) table.graph_end(false);
    throw;
  }
  step_ = step;
  table.graph_launch(graph_, 0);
  ++replays_;
  return results_;
}

}  // namespace sinew::train
