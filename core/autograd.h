// Reverse-mode differentiation of any order.
//
// An op's derivative is written beside its forward (core/ops/*.cpp) with public differentiable ops only, so
// grad(..., {.create_graph = true}) can itself be differentiated:
//
//   std::vector<Tensor> g = grad({loss}, theta, {}, {.create_graph = true});
//   std::vector<Tensor> Hv = grad(g, theta, v);
//
// Thread safety: recording is per node (core/node_locals.h); grad may run on several threads on disjoint graphs.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace sinew {

// What a derivative gets. It must not capture tensors: inputs and the output come as arguments, everything
// else (axes, flags, keys) is captured by value.
struct VjpContext {
  std::span<const Tensor> inputs;
  const Tensor& output;     // of an op with one result
  const Tensor& cotangent;  // likewise
  // Whether input i's cotangent is wanted at all.
  bool needs(size_t i) const { return wanted[i]; }
  // Where the cotangent of input i may be written directly (undefined handle: anywhere). Optional to honour.
  Tensor destination(size_t i) const { return destinations.empty() ? Tensor() : destinations[i]; }

  std::span<const uint8_t> wanted;
  std::span<const Tensor> destinations;
  // Of an op with several results: one a result, undefined where nothing depends on it. At least one is defined.
  std::span<const Tensor> cotangents = {};
};
// Fills `cotangents` (one per input, undefined by default) with what needs() asks for. An undefined entry is zero.
using Vjp = std::function<void(const VjpContext& context, std::span<Tensor> cotangents)>;

struct GradFn {
  const char* name;
  std::vector<Tensor> inputs;
  std::vector<uint32_t> versions;  // of the inputs' storages when recorded
  uint32_t output_version = 0;
  Vjp vjp;
  int results = 1;
  // >= 0: this tensor is that result of the op with several results whose node is inputs[0]; there is no vjp.
  int component = -1;
};

// Ends every differentiable op: returns out, with the graph edge when recording is on and an input requires grad.
Tensor record(Tensor out, std::initializer_list<Tensor> inputs, const char* name, Vjp vjp);
// The same for an op with several results, of which the derivative is computed at once: its vjp reads `cotangents`.
void record_all(std::span<Tensor> outs, std::initializer_list<Tensor> inputs, const char* name, Vjp vjp);
// True when an op on these inputs would be recorded.
bool recording(std::initializer_list<Tensor> inputs);

struct GradOptions {
  // Record the backward pass, so that its results can be differentiated again. Without it, each node's saved
  // tensors are freed as soon as backward has passed it, and the graph cannot be used twice.
  bool create_graph = false;
  // Keep the graph although create_graph is off.
  bool retain_graph = false;
  // Where to leave the results: undefined, or one defined tensor per input (same shape, type, device), which is then
  // what is returned. Not with create_graph.
  std::span<const Tensor> into = {};
};

// d(sum_k <outputs_k, cotangents_k>) / d(inputs_i). Without cotangents the outputs must be scalars (one element)
// and get 1. Inputs that do not influence the outputs get zeros. Throws Error when an output requires no grad,
// when shapes differ, and when a saved tensor was written in place since.
std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> cotangents = {}, const GradOptions& options = {});
inline std::vector<Tensor> grad(std::initializer_list<Tensor> outputs, std::span<const Tensor> inputs,
                                std::span<const Tensor> cotangents = {}, const GradOptions& options = {}) {
  return grad(std::span<const Tensor>(outputs.begin(), outputs.size()), inputs, cotangents, options);
}

// Turns recording off (or on) for a scope.
class GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;
  static bool enabled();

 private:
  bool previous_;
};

}  // namespace sinew
