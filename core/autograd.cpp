#include "core/autograd.h"

#include <algorithm>
#include <memory>

#include "core/node_locals.h"
#include "core/ops.h"

namespace sinew {

using detail::TensorImpl;

GradMode::GradMode(bool enabled) : previous_(std::exchange(node_locals().grad_enabled, enabled)) {}
GradMode::~GradMode() { node_locals().grad_enabled = previous_; }
bool GradMode::enabled() { return node_locals().grad_enabled; }

bool recording(std::initializer_list<TensorRef> inputs) {
  if (!GradMode::enabled()) return false;
  for (const TensorRef& in : inputs)
    if (in.tensor.requires_grad()) return true;
  return false;
}

Tensor record(Tensor out, std::initializer_list<TensorRef> inputs, const char* name, const Vjp& vjp) {
  if (!recording(inputs)) return out;
  SINEW_CHECK(inputs.size() <= GradFn::kMaxInputs, name, inputs.size(), " inputs, at most ", GradFn::kMaxInputs);
  TensorImpl* impl = out.impl();
  auto* fn = new GradFn{.name = name, .vjp = vjp, .output_version = impl->storage->version()};
  uint64_t number = 0;
  for (const TensorRef& in : inputs) {
    fn->versions[fn->count] = in.tensor.impl()->storage->version();
    fn->input[fn->count++] = in.tensor;
    number = std::max(number, in.tensor.impl()->number);
  }
  impl->grad_fn = fn;
  impl->requires_grad = true;
  // Larger than every input's: descending numbers are a topological order, without a global counter.
  impl->number = number + 1;
  return out;
}

// The op's node is a tensor without elements; each result is recorded as a component of it. So the results own the
// op as every tensor owns what it was made of, and backward meets the op after all of them.
void record_all(std::span<Tensor> outs, std::initializer_list<TensorRef> inputs, const char* name, const Vjp& vjp) {
  if (!recording(inputs)) return;
  const Tensor node = record(Tensor::empty({0}, outs[0].dtype(), outs[0].device()), inputs, name, vjp);
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
  int find(const TensorImpl* key) const { return slots_[slot(key)].value; }
  // The index of key; `fresh`, which it then has, when it was not there.
  int find_or_insert(const TensorImpl* key, int fresh) {
    Slot& s = slots_[slot(key)];
    if (s.key) return s.value;
    s = {key, fresh};
    if (2 * ++count_ > slots_.size()) {
      std::vector<Slot> old(slots_.size() * 2);
      old.swap(slots_);
      for (const Slot& o : old)
        if (o.key) slots_[slot(o.key)] = o;
    }
    return fresh;
  }
  void clear() {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    count_ = 0;
  }

 private:
  struct Slot {
    const TensorImpl* key = nullptr;
    int value = -1;
  };
  // Where key is, or where it belongs.
  size_t slot(const TensorImpl* key) const {
    size_t i = static_cast<size_t>((reinterpret_cast<uintptr_t>(key) >> 5) * 0x9E3779B97F4A7C15u >> 20);
    for (;; ++i) {
      i &= slots_.size() - 1;
      if (slots_[i].key == key || !slots_[i].key) return i;
    }
  }
  std::vector<Slot> slots_;
  size_t count_ = 0;
};

struct Node {
  TensorImpl* impl;
  Tensor held;  // the same, for results of ops: kept until backward has passed them
  Tensor cotangent;
  LatePart late = {};              // what comes to the cotangent once it is needed
  std::vector<Tensor> components;  // cotangents of the results, for the node of an op with several
  size_t first_edge = 0;
  int wanted = -1;        // index among the requested inputs
  int contributions = 0;  // edges on paths that will add to the cotangent
  bool on_path = false;
};

// The working memory of a backward pass.
struct Tables {
  NodeIndex index;
  std::vector<Node> nodes;
  std::vector<int> edges;  // node of every input of every node, in the order of nodes; -1: requires no grad
  std::vector<int> order;
  std::vector<int> requested;  // node of each requested input, or -1
  std::vector<uint8_t> wanted, postponable;
  std::vector<Tensor> cotangents, destinations, sums, receiveds;
  std::vector<LatePart> lates;

  void clear() {
    index.clear();
    nodes.clear();
    edges.clear();
  }
};

// A thread keeps its tables for the next pass, unless the graph was unusually large.
constexpr size_t kKeptNodes = 4096;
thread_local std::unique_ptr<Tables> spare_tables;

class BorrowedTables {
 public:
  BorrowedTables() : tables_(std::move(spare_tables)) {
    if (!tables_) tables_ = std::make_unique<Tables>();
  }
  ~BorrowedTables() {
    const bool keep = tables_->nodes.size() <= kKeptNodes;
    tables_->clear();
    if (keep) spare_tables = std::move(tables_);
  }
  BorrowedTables(const BorrowedTables&) = delete;
  BorrowedTables& operator=(const BorrowedTables&) = delete;
  Tables& operator*() { return *tables_; }

 private:
  std::unique_ptr<Tables> tables_;
};

void check_versions(GradFn& fn, const Tensor& output) {
  for (size_t i = 0; i < fn.count; ++i)
    SINEW_CHECK(fn.input[i].impl()->storage->version() == fn.versions[i], "grad", "input ", i, " of ", fn.name, " ",
                fn.input[i].shape(), " was written in place after the forward pass");
  SINEW_CHECK(output.impl()->storage->version() == fn.output_version, "grad", "the result of ", fn.name, " ",
              output.shape(), " was written in place after the forward pass");
}

class Backward {
 public:
  Backward(std::span<const Tensor> inputs, const GradOptions& options)
      : inputs_(inputs), options_(options), t_(*borrowed_) {}

  void collect(std::span<const Tensor> outputs) {
    for (const Tensor& y : outputs)
      if (y.requires_grad()) visit(y);
    for (size_t i = 0; i < t_.nodes.size(); ++i) {
      t_.nodes[i].first_edge = t_.edges.size();
      GradFn* fn = t_.nodes[i].impl->grad_fn;
      if (!fn) continue;
      SINEW_CHECK(fn->count > 0, "grad", "the graph of ", fn->name,
                  " was freed by an earlier backward pass; ask for retain_graph or create_graph there");
      for (const Tensor& in : fn->inputs()) t_.edges.push_back(in.requires_grad() ? visit(in) : -1);
    }
    t_.requested.resize(inputs_.size());
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const int k = t_.requested[i] = t_.index.find(inputs_[i].impl());
      if (k < 0) continue;
      SINEW_CHECK(node(k).wanted < 0, "grad", "input ", i, " is requested twice");
      node(k).wanted = static_cast<int>(i);
    }
    t_.order.resize(t_.nodes.size());
    for (size_t i = 0; i < t_.order.size(); ++i) t_.order[i] = static_cast<int>(i);
    // Equal numbers stay in the order in which they were met: sums of cotangents do not depend on addresses.
    std::sort(t_.order.begin(), t_.order.end(), [&](int a, int b) {
      const uint64_t x = node(a).impl->number, y = node(b).impl->number;
      return x != y ? x > y : a < b;
    });
    // From the leaves up: which nodes lie on a path to a requested input.
    for (size_t i = t_.order.size(); i-- > 0;) {
      Node& n = node(t_.order[i]);
      n.on_path = n.wanted >= 0;
      for (int j : edges(n))
        if (j >= 0 && node(j).on_path) n.on_path = true;
      if (n.on_path)
        for (int j : edges(n))
          if (j >= 0) ++node(j).contributions;
    }
  }

  void seed(const Tensor& output, const Tensor& cotangent) {
    accumulate(node(t_.index.find(output.impl())), cotangent);
  }

  void run() {
    for (int k : t_.order) {
      Node& n = node(k);
      if (n.late) make_late_part(n);
      if (n.impl->grad_fn && n.on_path && (n.cotangent.defined() || !n.components.empty())) {
        check_versions(*n.impl->grad_fn, n.held);
        n.impl->grad_fn->component < 0 ? pass(n) : hand_to_op(n);
        if (!options_.create_graph && !options_.retain_graph) n.impl->grad_fn->free();
      }
      n.held = Tensor();
      n.components.clear();
      if (n.wanted < 0) n.cotangent = Tensor();
    }
  }

  std::vector<Tensor> results() {
    std::vector<Tensor> out(inputs_.size());
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const int k = t_.requested[i];
      Tensor g = k >= 0 ? std::move(node(k).cotangent) : Tensor();
      if (options_.into.empty()) {
        out[i] =
            g.defined() ? std::move(g) : Tensor::zeros(inputs_[i].shape(), inputs_[i].dtype(), inputs_[i].device());
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
  Node& node(int k) { return t_.nodes[static_cast<size_t>(k)]; }
  std::span<const int> edges(const Node& n) {
    return {t_.edges.data() + n.first_edge, n.impl->grad_fn ? n.impl->grad_fn->count : 0};
  }
  // The index of t's node, which is new or not.
  int visit(const Tensor& t) {
    const int fresh = static_cast<int>(t_.nodes.size());
    const int k = t_.index.find_or_insert(t.impl(), fresh);
    if (k == fresh) t_.nodes.push_back({t.impl(), t.impl()->grad_fn ? t : Tensor(), Tensor(), {}});
    return k;
  }

  // Hands n's cotangent on to what n was made of.
  void pass(Node& n) {
    GradFn& fn = *n.impl->grad_fn;
    const std::span<const int> to = edges(n);
    t_.wanted.assign(fn.count, 0);
    t_.postponable.assign(fn.count, 0);
    t_.cotangents.assign(fn.count, Tensor());
    t_.destinations.assign(fn.count, Tensor());
    t_.sums.assign(fn.count, Tensor());
    t_.receiveds.assign(fn.count, Tensor());
    t_.lates.assign(fn.count, LatePart());
    for (size_t i = 0; i < to.size(); ++i) {
      if (to[i] < 0 || !node(to[i]).on_path) continue;
      t_.wanted[i] = 1;
      Node& in = node(to[i]);
      if (options_.create_graph)
        t_.receiveds[i] = std::move(in.cotangent);
      else if (may_write(in.cotangent))
        t_.sums[i] = std::move(in.cotangent);
      t_.lates[i] = std::exchange(in.late, {});
      const bool whole_result = in.wanted >= 0 && in.contributions == 1;
      if (whole_result && !options_.into.empty()) t_.destinations[i] = options_.into[static_cast<size_t>(in.wanted)];
      t_.postponable[i] = whole_result && options_.postpone && options_.create_graph;
    }
    fn.vjp({fn.inputs(), n.held, n.cotangent, t_.wanted, t_.postponable, t_.destinations, t_.sums, t_.receiveds,
            t_.lates, n.components},
           t_.cotangents);
    for (size_t i = 0; i < to.size(); ++i) {
      if (!t_.wanted[i]) continue;
      if (t_.lates[i]) keep_late_part(node(to[i]), std::exchange(t_.lates[i], {}));
      if (t_.receiveds[i].defined()) accumulate(node(to[i]), std::exchange(t_.receiveds[i], Tensor()));
      Tensor& sum = t_.sums[i];
      if (sum.defined() && !sum.is_same(t_.cotangents[i])) accumulate(node(to[i]), std::move(sum));
      sum = Tensor();
      if (!t_.cotangents[i].defined()) continue;
      const Tensor &g = t_.cotangents[i], &x = fn.input[i];
      SINEW_CHECK(g.shape() == x.shape() && g.dtype() == x.dtype(), fn.name, "derivative of input ", i, " is ",
                  g.shape(), " ", to_string(g.dtype()), ", the input ", x.shape(), " ", to_string(x.dtype()));
      accumulate(node(to[i]), std::move(t_.cotangents[i]));
    }
    t_.cotangents.clear();
    t_.destinations.clear();
  }

  // Gives the cotangent of one of several results to the op's node, which is next in line for them all.
  void hand_to_op(Node& n) {
    Node& op = node(edges(n)[0]);
    op.components.resize(static_cast<size_t>(op.impl->grad_fn->results));
    op.components[static_cast<size_t>(n.impl->grad_fn->component)] = n.cotangent;
  }

  // A tensor that is an input twice may get two.
  void keep_late_part(Node& n, LatePart part) {
    if (n.late)
      accumulate(n, part.make(part, Tensor()));
    else
      n.late = std::move(part);
  }
  void make_late_part(Node& n) {
    const LatePart part = std::exchange(n.late, {});
    if (may_write(n.cotangent))
      n.cotangent = part.make(part, n.cotangent);
    else
      accumulate(n, part.make(part, Tensor()));
  }

  static void add_to(const Tensor& sum, const Tensor& g) {
    kernel::BinaryArgs args{};
    args.op = BinaryOp::add, args.dtype = g.dtype();
    args.ndim = 1, args.shape[0] = g.numel(), args.stride_a[0] = args.stride_b[0] = 1;
    args.a = sum.data(), args.b = g.data(), args.y = sum.data();
    if (g.numel()) kernels(g.device()).binary(args);
  }

  // Nobody but the caller holds t or its memory, and no graph is being recorded that could.
  bool may_write(const Tensor& t) const {
    return !options_.create_graph && t.defined() && t.impl()->references.load(std::memory_order_acquire) == 1 &&
           t.impl()->storage->unique();
  }

  void accumulate(Node& n, Tensor g) {
    if (!n.cotangent.defined())
      n.cotangent = std::move(g);
    else if (may_write(n.cotangent))
      add_to(n.cotangent, g);
    else
      n.cotangent = add(n.cotangent, g);
  }

  std::span<const Tensor> inputs_;
  const GradOptions& options_;
  BorrowedTables borrowed_;
  Tables& t_;
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
