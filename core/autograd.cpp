#include "core/autograd.h"

#include <algorithm>

#include "core/node_locals.h"
#include "core/ops.h"

namespace sinew {

using detail::TensorImpl;

GradMode::GradMode(bool enabled) : previous_(std::exchange(node_locals().grad_enabled, enabled)) {}
GradMode::~GradMode() { node_locals().grad_enabled = previous_; }
bool GradMode::enabled() { return node_locals().grad_enabled; }

bool recording(std::initializer_list<Tensor> inputs) {
  if (!GradMode::enabled()) return false;
  for (const Tensor& t : inputs)
    if (t.requires_grad()) return true;
  return false;
}

Tensor record(Tensor out, std::initializer_list<Tensor> inputs, const char* name, Vjp vjp) {
  if (!recording(inputs)) return out;
  auto* fn = new GradFn{name, inputs, {}, out.impl()->storage->version(), std::move(vjp)};
  uint64_t number = 0;
  fn->versions.reserve(inputs.size());
  for (const Tensor& t : inputs) {
    fn->versions.push_back(t.impl()->storage->version());
    number = std::max(number, t.impl()->number);
  }
  TensorImpl* impl = out.impl();
  impl->grad_fn = fn;
  impl->requires_grad = true;
  // Larger than every input's: descending numbers are a topological order, without a global counter.
  impl->number = number + 1;
  return out;
}

// The op's node is a tensor without elements; each result is recorded as a component of it. So the results own the
// op as every tensor owns what it was made of, and backward meets the op after all of them.
void record_all(std::span<Tensor> outs, std::initializer_list<Tensor> inputs, const char* name, Vjp vjp) {
  if (!recording(inputs)) return;
  const Tensor node = record(Tensor::empty({0}, outs[0].dtype(), outs[0].device()), inputs, name, std::move(vjp));
  node.impl()->grad_fn->results = static_cast<int>(outs.size());
  for (size_t i = 0; i < outs.size(); ++i) {
    record(outs[i], {node}, name, nullptr);
    outs[i].impl()->grad_fn->component = static_cast<int>(i);
  }
}

namespace {

// Maps graph nodes to indices. Open addressing: a step's graph has tens of nodes and this is on its path.
class NodeIndex {
 public:
  NodeIndex() : slots_(64) {}
  // The index of key, or -1.
  int find(const TensorImpl* key) const {
    for (size_t i = hash(key);; ++i) {
      const Slot& s = slots_[i & (slots_.size() - 1)];
      if (s.key == key) return s.value;
      if (!s.key) return -1;
    }
  }
  // REQUIRES: not there yet.
  void insert(const TensorImpl* key, int value) {
    if (2 * ++count_ > slots_.size()) {
      std::vector<Slot> old(slots_.size() * 2);
      old.swap(slots_);
      for (const Slot& s : old)
        if (s.key) place(s);
    }
    place({key, value});
  }

 private:
  struct Slot {
    const TensorImpl* key = nullptr;
    int value = -1;
  };
  static size_t hash(const TensorImpl* key) {
    return static_cast<size_t>((reinterpret_cast<uintptr_t>(key) >> 5) * 0x9E3779B97F4A7C15u >> 20);
  }
  void place(const Slot& slot) {
    size_t i = hash(slot.key);
    while (slots_[i & (slots_.size() - 1)].key) ++i;
    slots_[i & (slots_.size() - 1)] = slot;
  }
  std::vector<Slot> slots_;
  size_t count_ = 0;
};

struct Node {
  Tensor tensor;  // keeps it alive while backward runs
  Tensor cotangent;
  std::vector<Tensor> components;  // cotangents of the results, for the node of an op with several
  int wanted = -1;                 // index among the requested inputs
  int contributions = 0;           // edges on paths that will add to the cotangent
  bool on_path = false;
};

void check_versions(const GradFn& fn, const Tensor& output) {
  for (size_t i = 0; i < fn.inputs.size(); ++i)
    SINEW_CHECK(fn.inputs[i].impl()->storage->version() == fn.versions[i], "grad", "input ", i, " of ", fn.name, " ",
                fn.inputs[i].shape(), " was written in place after the forward pass");
  SINEW_CHECK(output.impl()->storage->version() == fn.output_version, "grad", "the result of ", fn.name, " ",
              output.shape(), " was written in place after the forward pass");
}

class Backward {
 public:
  Backward(std::span<const Tensor> inputs, const GradOptions& options) : inputs_(inputs), options_(options) {}

  void collect(std::span<const Tensor> outputs) {
    nodes_.reserve(64);
    std::vector<int> pending;
    auto visit = [&](const Tensor& t) {
      if (!t.requires_grad() || index_.find(t.impl()) >= 0) return;
      index_.insert(t.impl(), static_cast<int>(nodes_.size()));
      nodes_.push_back({t, Tensor(), {}, -1, 0, false});
      pending.push_back(static_cast<int>(nodes_.size()) - 1);
    };
    for (const Tensor& t : outputs) visit(t);
    while (!pending.empty()) {
      const Tensor t = nodes_[static_cast<size_t>(pending.back())].tensor;
      pending.pop_back();
      if (const GradFn* fn = t.impl()->grad_fn) {
        SINEW_CHECK(!fn->inputs.empty(), "grad", "the graph of ", fn->name,
                    " was freed by an earlier backward pass; ask for retain_graph or create_graph there");
        for (const Tensor& in : fn->inputs) visit(in);
      }
    }
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const int k = index_.find(inputs_[i].impl());
      if (k < 0) continue;
      SINEW_CHECK(node(k).wanted < 0, "grad", "input ", i, " is requested twice");
      node(k).wanted = static_cast<int>(i);
    }
    order_.resize(nodes_.size());
    for (size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<int>(i);
    std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return number(a) > number(b); });
    // From the leaves up: which nodes lie on a path to a requested input.
    for (size_t i = order_.size(); i-- > 0;) {
      Node& n = node(order_[i]);
      n.on_path = n.wanted >= 0;
      if (const GradFn* fn = n.tensor.impl()->grad_fn)
        for (const Tensor& in : fn->inputs) {
          const int k = index_.find(in.impl());
          if (k >= 0 && node(k).on_path) n.on_path = true;
        }
    }
    for (int k : order_) {
      const Node& n = node(k);
      if (!n.on_path || !n.tensor.impl()->grad_fn) continue;
      for (const Tensor& in : n.tensor.impl()->grad_fn->inputs) {
        const int j = index_.find(in.impl());
        if (j >= 0) ++node(j).contributions;
      }
    }
  }

  void seed(const Tensor& output, const Tensor& cotangent) { accumulate(node(index_.find(output.impl())), cotangent); }

  void run() {
    std::vector<uint8_t> wanted;
    std::vector<Tensor> cotangents, destinations;
    for (int k : order_) {
      GradFn* fn = node(k).tensor.impl()->grad_fn;
      if (!fn || !node(k).on_path || (!node(k).cotangent.defined() && node(k).components.empty())) continue;
      check_versions(*fn, node(k).tensor);
      if (fn->component >= 0) {
        hand_to_op(k, *fn);
        continue;
      }
      const size_t count = fn->inputs.size();
      wanted.assign(count, 0);
      cotangents.assign(count, Tensor());
      destinations.clear();
      for (size_t i = 0; i < count; ++i) {
        const int j = index_.find(fn->inputs[i].impl());
        wanted[i] = j >= 0 && node(j).on_path;
        if (!wanted[i] || options_.into.empty() || node(j).wanted < 0 || node(j).contributions != 1) continue;
        destinations.resize(count);
        destinations[i] = options_.into[static_cast<size_t>(node(j).wanted)];
      }
      fn->vjp({fn->inputs, node(k).tensor, node(k).cotangent, wanted, destinations, node(k).components}, cotangents);
      for (size_t i = 0; i < count; ++i)
        if (wanted[i] && cotangents[i].defined()) {
          SINEW_CHECK(cotangents[i].shape() == fn->inputs[i].shape(), fn->name, "derivative of input ", i,
                      " has shape ", cotangents[i].shape(), ", the input ", fn->inputs[i].shape());
          accumulate(node(index_.find(fn->inputs[i].impl())), std::move(cotangents[i]));
        }
      if (node(k).wanted < 0) node(k).cotangent = Tensor();
      node(k).components.clear();
      if (!options_.create_graph && !options_.retain_graph) {
        fn->vjp = nullptr;
        fn->inputs.clear();
      }
    }
  }

  std::vector<Tensor> results() {
    std::vector<Tensor> out(inputs_.size());
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const int k = index_.find(inputs_[i].impl());
      Tensor g = k >= 0 ? node(k).cotangent : Tensor();
      if (options_.into.empty()) {
        out[i] = g.defined() ? g : Tensor::zeros(inputs_[i].shape(), inputs_[i].dtype(), inputs_[i].device());
        continue;
      }
      out[i] = options_.into[i];
      if (!g.defined())
        fill(out[i].output_view(), 0);
      else if (g.data() != out[i].data())
        copy(g.view(), out[i].output_view());
    }
    return out;
  }

 private:
  Node& node(int k) { return nodes_[static_cast<size_t>(k)]; }
  uint64_t number(int k) { return node(k).tensor.impl()->number; }
  // Gives the cotangent of one of several results to the op's node, which is next in line for them all.
  void hand_to_op(int k, GradFn& fn) {
    Node& op = node(index_.find(fn.inputs[0].impl()));
    const size_t i = static_cast<size_t>(fn.component);
    op.components.resize(static_cast<size_t>(op.tensor.impl()->grad_fn->results));
    op.components[i] = node(k).cotangent;
    if (node(k).wanted < 0) node(k).cotangent = Tensor();
    if (!options_.create_graph && !options_.retain_graph) fn.inputs.clear();
  }
  static void accumulate(Node& n, Tensor g) {
    n.cotangent = n.cotangent.defined() ? add(n.cotangent, g) : std::move(g);
  }

  std::span<const Tensor> inputs_;
  const GradOptions& options_;
  NodeIndex index_;
  std::vector<Node> nodes_;
  std::vector<int> order_;
};

}  // namespace

std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> cotangents, const GradOptions& options) {
  SINEW_CHECK(!outputs.empty(), "grad", "no outputs");
  SINEW_CHECK(cotangents.empty() || cotangents.size() == outputs.size(), "grad", cotangents.size(), " cotangents for ",
              outputs.size(), " outputs");
  SINEW_CHECK(options.into.empty() || (options.into.size() == inputs.size() && !options.create_graph), "grad",
              "`into` needs one tensor per input and no create_graph");
  for (size_t i = 0; i < options.into.size(); ++i)
    SINEW_CHECK(options.into[i].shape() == inputs[i].shape() && options.into[i].dtype() == inputs[i].dtype(), "grad",
                "destination ", i, " is ", options.into[i].shape(), ", the input ", inputs[i].shape());
  GradMode mode(options.create_graph);
  Backward backward(inputs, options);
  backward.collect(outputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& y = outputs[i];
    SINEW_CHECK(y.requires_grad(), "grad", "output ", i, " ", y.shape(),
                " does not depend on anything that requires grad");
    if (cotangents.empty()) {
      SINEW_CHECK(y.numel() == 1, "grad", "output ", i, " has shape ", y.shape(), "; a non-scalar needs a cotangent");
      backward.seed(y, Tensor::ones(y.shape(), y.dtype(), y.device()));
    } else {
      SINEW_CHECK(cotangents[i].shape() == y.shape() && cotangents[i].dtype() == y.dtype(), "grad", "cotangent ", i,
                  " is ", cotangents[i].shape(), " ", to_string(cotangents[i].dtype()), ", the output ", y.shape(), " ",
                  to_string(y.dtype()));
      backward.seed(y, cotangents[i]);
    }
  }
  backward.run();
  return backward.results();
}

}  // namespace sinew
