#include "dist/schemes/tree.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

enum class From : int64_t { below = 0, above = 1 };

bool lost(const World& world, Rank rank) { return is_lost(world.peer(rank)); }

Head push_head(From from, int64_t clock, uint64_t fingerprint) {
  Head head{.tag = Tag::tree_push};
  head.arg[0] = static_cast<int64_t>(from), head.arg[1] = clock, head.arg[2] = static_cast<int64_t>(fingerprint);
  return head;
}

// To the nearest ancestor that is not lost; nobody above the root.
void push_up(World& world, const Tree& tree, int64_t clock, uint64_t fingerprint, const Payload& x) {
  Rank to = tree.parent(world.rank());
  while (to >= 0 && lost(world, to)) to = tree.parent(to);
  if (to >= 0) world.send(to, push_head(From::below, clock, fingerprint), x);
}

// To the nearest descendants that are not lost.
void push_down(World& world, const Tree& tree, Rank of, int64_t clock, uint64_t fingerprint, const Payload& x) {
  for (Rank child : tree.children(of)) {
    if (lost(world, child))
      push_down(world, tree, child, clock, fingerprint, x);
    else
      world.send(child, push_head(From::above, clock, fingerprint), x);
  }
}

// An inner node: its handlers do everything.
class TreeNode final : public CenterNode {
 public:
  TreeNode(const SchemeOptions& options, World& world, int64_t size, DType dtype, uint64_t fingerprint)
      : world_(world),
        workers_(options.workers),
        tree_(options.workers, static_cast<int>(options.fan_out)),
        periods_(tree_periods(options, tree_, world.rank())),
        alpha_(moving_rate(options)),
        size_(size),
        dtype_(dtype),
        fingerprint_(fingerprint) {}

  ~TreeNode() override {
    if (!listening_) return;
    world_.on(Tag::tree_push, {});
    world_.on(Tag::tree_fetch, {});
  }

  Status start(ConstVecView initial) override {
    SINEW_CHECK(initial.size == size_ && initial.dtype == dtype_, "easgd_tree", "initial vector of ", initial.size, " ",
                to_string(initial.dtype), ", expected ", size_, " ", to_string(dtype_));
    x_ = Payload::copy_of(initial);
    adopts_ = world_.incarnation() > 0;
    listen();
    return Status::Ok();
  }

  Result<bool> serve(Nanos slice) override {
    return wait_for_workers(world_, workers_, slice, [](Rank) { return false; });
  }
  void snapshot(VecView out) override {
    world_.publish([&] { upload(x_.data(), out); });
  }
  int64_t version() override { return read(version_); }
  int64_t refused() override { return read(refused_); }

  SchemeState save() override {
    SchemeState state;
    world_.publish([&] {
      state.vectors["center"] = Vec::copy_of(x_.view(dtype_));
      state.numbers = {{"clock", clock_}, {"version", version_}, {"refused", refused_}, {"adopts", adopts_}};
    });
    return state;
  }
  Status load(const SchemeState& state) override {
    Vec x = Vec::empty(size_, dtype_);
    int64_t adopts = 0;
    SINEW_RETURN_IF_ERROR(load_vector(state, "center", x));
    SINEW_RETURN_IF_ERROR(
        load_numbers(state, {{"clock", &clock_}, {"version", &version_}, {"refused", &refused_}, {"adopts", &adopts}}));
    x_ = Payload::copy_of(x.view());
    adopts_ = adopts != 0;
    listen();
    return Status::Ok();
  }

 private:
  void listen() {
    listening_ = true;
    world_.on(Tag::tree_push, [this](const Message& m) { on_push(m); });
    world_.on(Tag::tree_fetch, [this](const Message& m) { on_fetch(m); });
  }

  int64_t read(const int64_t& field) {
    int64_t value = 0;
    world_.publish([&] { value = field; });
    return value;
  }

  void on_push(const Message& m) {
    if (m.head.source < 0 || m.head.source >= tree_.nodes() || m.body.size() != x_.size() ||
        static_cast<uint64_t>(m.head.arg[2]) != fingerprint_)
      return;
    const ConstVecView theirs = m.body.view(dtype_);
    if (!in_parts(theirs.size, [&](int64_t at, int64_t n) { return all_finite(theirs.slice(at, n)); })) {
      ++refused_;
      return;
    }
    if (std::exchange(adopts_, false)) {
      x_ = m.body;
    } else {
      if (!x_.unique()) x_ = Payload::copy_of(x_.view(dtype_));
      const VecView x = x_.mutable_view(dtype_);
      in_parts(x.size, [&](int64_t at, int64_t n) {
        move_toward(alpha_, theirs.slice(at, n), x.slice(at, n));
        return true;
      });
    }
    ++version_;
    const int64_t before = clock_, now = m.head.arg[1];
    if (m.head.arg[0] != static_cast<int64_t>(From::below) || now <= before) return;
    clock_ = now;
    auto passed = [&](int64_t period) { return period > 0 && now / period > before / period; };
    if (passed(periods_.up)) push_up(world_, tree_, clock_, fingerprint_, x_);
    if (passed(periods_.down)) push_down(world_, tree_, world_.rank(), clock_, fingerprint_, x_);
  }

  void on_fetch(const Message& m) {
    Head head{.tag = Tag::tree_ack, .is_reply = 1};
    head.request = m.head.request;
    head.arg[0] = static_cast<int64_t>(fingerprint_);
    world_.send(m.head.source, head, m.head.arg[0] ? x_ : Payload());
  }

  World& world_;
  const int workers_;
  const Tree tree_;
  const TreePeriods periods_;
  const double alpha_;
  const int64_t size_;
  const DType dtype_;
  const uint64_t fingerprint_;
  bool listening_ = false, adopts_ = false;
  Payload x_;
  int64_t clock_ = 0, version_ = 0, refused_ = 0;
};

class TreeLeaf final : public Scheme {
 public:
  TreeLeaf(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
      : world_(world),
        tree_(options.workers, static_cast<int>(options.fan_out)),
        period_(tree_periods(options, tree_, world.rank()).up),
        alpha_(moving_rate(options)),
        deadline_(options.deadline),
        fingerprint_(options.fingerprint),
        dtype_(dtype),
        parent_(Vec::zeros(size, dtype, device)),
        difference_(Vec::zeros(size, dtype, device)) {}
  ~TreeLeaf() override {
    if (listening_) world_.on(Tag::tree_push, {});
  }

  Mixes mixes() const override { return Mixes::before; }
  Evaluated evaluated() const override { return Evaluated::center; }

  Status start(VecView theta) override {
    listen();
    const bool adopts = world_.incarnation() > 0;
    Received r = ask_root(adopts);
    if (r.what == Received::What::peer_lost) return root_lost();
    if (!r.ok())
      return make_status(StatusCode::timeout, "no answer from the root (rank ", tree_.root(), ") for ",
                         static_cast<double>(deadline_) * 1e-9, " s");
    if (static_cast<uint64_t>(r.message.head.arg[0]) != fingerprint_)
      return make_status(StatusCode::invalid_argument, "rank ", world_.rank(), " and the root (rank ", tree_.root(),
                         ") differ in model, data type or options; start all with the same configuration");
    if (adopts && r.message.body.size() == theta.bytes()) upload(r.message.body.data(), theta);
    copy(theta, parent_.mutable_view());
    return Status::Ok();
  }

  Status before_step(int64_t step, VecView theta) override {
    const bool cut = world_.suppressed(step / period_);
    if (step % period_ == 0) {
      if (lost(world_, tree_.root())) return root_lost();
      if (cut)
        ++counters_.missed;
      else
        push_up(world_, tree_, step, fingerprint_, Payload::copy_of(theta));
    }
    Payload arrived;
    world_.publish([&] { arrived = std::exchange(arrived_, {}); });
    if (cut || arrived.size() == 0) return Status::Ok();
    upload(arrived.data(), parent_.mutable_view());
    const double distance2 = elastic_difference(alpha_, theta, parent_.view(), difference_.mutable_view());
    if (!std::isfinite(distance2)) {
      ++counters_.missed;
      // A worker whose own parameters are not finite takes over what came from above.
      if (all_finite(parent_.view())) copy(parent_.view(), theta);
      return Status::Ok();
    }
    // With alpha == 0 nothing moves; adding zeros would still turn -0 into 0.
    if (alpha_ != 0) accumulate(-1.0, difference_.view(), theta);
    moved_ += alpha_ * alpha_ * distance2;
    ++counters_.exchanges;
    return Status::Ok();
  }

  Status evaluation_point(ConstVecView, VecView out) override {
    Received r = ask_root(true);
    if (r.what == Received::What::peer_lost) return root_lost();
    if (r.ok() && r.message.body.size() == out.bytes())
      upload(r.message.body.data(), out);
    else
      copy(parent_.view(), out);
    return Status::Ok();
  }

  Status finish(VecView theta) override {
    push_up(world_, tree_, 0, fingerprint_, Payload::copy_of(theta));  // the last steps count; the clock stays
    return Status::Ok();
  }

  double take_external_write() override { return std::exchange(moved_, 0.0); }
  SchemeCounters counters() const override { return counters_; }

  SchemeState save() const override {
    SchemeState state{{{"parent", parent_.clone()}},
                      {{"exchanges", counters_.exchanges}, {"missed", counters_.missed}}};
    world_.publish([&] {
      if (arrived_.size() > 0) state.vectors["arrived"] = Vec::copy_of(arrived_.view(dtype_));
    });
    return state;
  }
  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(load_vector(state, "parent", parent_));
    world_.publish([&] {
      if (auto arrived = state.vectors.find("arrived"); arrived != state.vectors.end())
        arrived_ = Payload::copy_of(arrived->second.view());
    });
    listen();
    return load_numbers(state, {{"exchanges", &counters_.exchanges}, {"missed", &counters_.missed}});
  }

 private:
  void listen() {
    listening_ = true;
    world_.on(Tag::tree_push, [this](const Message& m) {
      if (static_cast<uint64_t>(m.head.arg[2]) == fingerprint_ && m.body.size() == parent_.view().bytes())
        arrived_ = m.body;
    });
  }

  Status root_lost() const {
    return make_status(StatusCode::peer_lost, "the root (rank ", tree_.root(),
                       ") is lost; training cannot go on without it");
  }

  // Again after each silence of an eighth of the deadline.
  Received ask_root(bool parameters) {
    Deadline deadline(world_, deadline_);
    Request request(world_);
    Head head{.tag = Tag::tree_fetch};
    head.arg[0] = parameters;
    head.request = request.id();
    Received r;
    while (r.what == Received::What::timeout && deadline.left() > 0) {
      world_.send(tree_.root(), head);
      r = world_.receive({.tag = Tag::tree_ack, .source = tree_.root(), .request = request.id()},
                         std::min(deadline.left(), deadline_ / 8 + 1));
    }
    return r;
  }

  World& world_;
  const Tree tree_;
  const int64_t period_;
  const double alpha_;
  const Nanos deadline_;
  const uint64_t fingerprint_;
  const DType dtype_;
  bool listening_ = false;
  Payload arrived_;  // the newest from above, not mixed yet; the handler's
  Vec parent_;       // the last that was mixed
  Vec difference_;
  double moved_ = 0;
  SchemeCounters counters_;
};

}  // namespace

int Tree::node_count(int workers, int fan_out) {
  int nodes = workers, level = workers;
  do {
    level = (level + fan_out - 1) / fan_out;
    nodes += level;
  } while (level > 1);
  return nodes;
}

Tree::Tree(int workers, int fan_out) : workers_(workers) {
  std::vector<int> level{workers};  // sizes, leaves first
  do level.push_back((level.back() + fan_out - 1) / fan_out);
  while (level.back() > 1);
  std::vector<Rank> first(level.size(), 0);  // rank of each level's first node
  first.back() = workers;
  for (size_t l = level.size() - 1; l-- > 1;) first[l] = first[l + 1] + level[l + 1];
  parents_.assign(first[1] + level[1], -1);
  children_.resize(parents_.size());
  for (size_t l = 0; l + 1 < level.size(); ++l)
    for (int i = 0; i < level[l]; ++i) {
      parents_[first[l] + i] = first[l + 1] + i / fan_out;
      children_[parents_[first[l] + i]].push_back(first[l] + i);
    }
}

TreePeriods tree_periods(const SchemeOptions& o, const Tree& tree, Rank rank) {
  const bool leaf = tree.is_leaf(rank), root = rank == tree.root();
  const int64_t far = o.far_period > 0 ? o.far_period : 10 * o.period;
  TreePeriods p;
  if (o.tree == "up_down")
    p = {o.period, far};
  else
    p = {leaf ? o.period : far, tree.has_leaves(rank) ? o.period : far};
  if (root) p.up = 0;
  if (leaf) p.down = 0;
  return p;
}

std::unique_ptr<CenterNode> make_tree_node(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                           uint64_t fingerprint) {
  return std::make_unique<TreeNode>(options, world, size, dtype, fingerprint);
}

std::unique_ptr<Scheme> make_tree_leaf(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                       Device device) {
  return std::make_unique<TreeLeaf>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
