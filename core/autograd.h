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

#include <array>
#include <cstddef>
#include <initializer_list>
#include <new>
#include <span>
#include <type_traits>
#include <vector>

#include "core/tensor.h"

namespace sinew {

// A part of a cotangent that is not computed yet: a and b are what it is made of, `make` adds it to `sum`, in place, or
// makes it where there is no sum. So an op that adds to the same cotangent later can make both parts at once.
struct LatePart {
  Tensor a, b;
  std::array<int64_t, 6> numbers = {};
  Tensor (*make)(const LatePart& part, const Tensor& sum) = nullptr;
  explicit operator bool() const { return make != nullptr; }
};

// What a derivative gets. It must not capture tensors: inputs and the output come as arguments, everything
// else (axes, flags, keys) is captured by value.
struct VjpContext {
  std::span<const Tensor> inputs;
  const Tensor& output;     // of an op with one result
  const Tensor& cotangent;  // likewise
  // Whether input i's cotangent is wanted at all.
  bool needs(size_t i) const { return wanted[i]; }
  // Where the cotangent of input i may be written directly (undefined handle: anywhere). Optional to honour.
  const Tensor& destination(size_t i) const { return destinations[i]; }
  // What input i's cotangent has received so far, when nobody else holds it (else undefined). A derivative may add its
  // part there in place and return that tensor as its result.
  const Tensor& sum(size_t i) const { return sums[i]; }
  // The same while recording, whoever holds it: not to be written. A derivative may take it over (and leave none), and
  // then its result is the sum of this and its own part.
  Tensor& received(size_t i) const { return receiveds[i]; }
  // A part of input i's cotangent that an earlier op has left, or none. Not while recording, a derivative may take it
  // over (and leave none), or leave one of its own in an empty place.
  LatePart& late(size_t i) const { return lates[i]; }
  // While recording, input i's cotangent may be left NaN for the derivative that is recorded here to fill in.
  bool may_postpone(size_t i) const { return postponable[i]; }

  std::span<const uint8_t> wanted, postponable;
  std::span<const Tensor> destinations, sums;
  std::span<Tensor> receiveds;
  std::span<LatePart> lates;
  // Of an op with several results: one a result, undefined where nothing depends on it. At least one is defined.
  std::span<const Tensor> cotangents = {};
};

// A derivative: fills `cotangents` (one per input, undefined by default) with what needs() asks for; an undefined entry
// is zero. Made from a lambda that captures a few plain values. They are held inline: recording an op allocates its
// node and nothing else.
class Vjp {
 public:
  Vjp(std::nullptr_t = nullptr) {}
  template <class Fn>
  requires std::is_invocable_v<const Fn&, const VjpContext&, std::span<Tensor>> Vjp(const Fn& fn)
      : call_([](const void* capture, const VjpContext& context, std::span<Tensor> cotangents) {
          (*static_cast<const Fn*>(capture))(context, cotangents);
        }) {
    static_assert(std::is_trivially_copyable_v<Fn> && sizeof(Fn) <= kCapacity && alignof(Fn) <= 8,
                  "a derivative captures plain values, at most kCapacity bytes of them, and no tensors");
    new (capture_) Fn(fn);
  }
  explicit operator bool() const { return call_ != nullptr; }
  void operator()(const VjpContext& context, std::span<Tensor> cotangents) const {
    call_(capture_, context, cotangents);
  }

 private:
  static constexpr size_t kCapacity = 64;
  void (*call_)(const void* capture, const VjpContext& context, std::span<Tensor> cotangents) = nullptr;
  alignas(8) std::byte capture_[kCapacity] = {};
};

// How a result was made: held by it, and holding what it was made of.
struct GradFn {
  static constexpr size_t kMaxInputs = 8;

  std::span<Tensor> inputs() { return {input.data(), count}; }
  // Lets go of the inputs; a backward pass that comes here later says that the graph was freed.
  void free() {
    vjp = nullptr;
    for (Tensor& t : inputs()) t = Tensor();
    count = 0;
  }

  const char* name;
  Vjp vjp;
  uint32_t output_version;  // of the result's storage when recorded
  uint32_t count = 0;
  std::array<uint32_t, kMaxInputs> versions;  // of the inputs' storages
  std::array<Tensor, kMaxInputs> input;
  int results = 1;
  // >= 0: this tensor is that result of the op with several results whose node is input[0]; there is no vjp.
  int component = -1;
};

// An argument of record and recording: a tensor that is looked at, not kept.
struct TensorRef {
  TensorRef(const Tensor& t) : tensor(t) {}
  const Tensor& tensor;
};
// Ends every differentiable op: returns out, with the graph edge when recording is on and an input requires grad.
Tensor record(Tensor out, std::initializer_list<TensorRef> inputs, const char* name, const Vjp& vjp);
// The same for an op with several results, of which the derivative is computed at once: its vjp reads `cotangents`.
void record_all(std::span<Tensor> outs, std::initializer_list<TensorRef> inputs, const char* name, const Vjp& vjp);
// True when an op on these inputs would be recorded.
bool recording(std::initializer_list<TensorRef> inputs);

struct GradOptions {
  // Record the backward pass, so that its results can be differentiated again. Without it, each node's saved
  // tensors are freed as soon as backward has passed it, and the graph cannot be used twice.
  bool create_graph = false;
  // Keep the graph although create_graph is off.
  bool retain_graph = false;
  // With create_graph: results may be left NaN for the first backward pass from all of them, which makes their values
  // on its way where that is cheaper.
  bool postpone = false;
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
