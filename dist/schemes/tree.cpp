#include "dist/schemes/tree.h"

#include <algorithm>
#include <string>

#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

const char* const kUnsent[] = {"unsent.up", "unsent.down"};

bool lost(const World& world, Rank rank) { return is_lost(world.peer(rank)); }

Head question(bool parameters, bool as_root, uint64_t request) {
  Head head{.tag = Tag::tree_fetch, .request = request};
  head.arg[0] = parameters, head.arg[1] = as_root;
  return head;
}

}  // namespace

int Tree::node_count(int workers, int fan_out) {
  int nodes = workers, level = workers;
  do {
    level = (level + fan_out - 1) / fan_out;
    nodes += level;
  } while (level > 1);
  return nodes;
}

Tree::Tree(int workers, int fan_out) : workers_(workers), fan_out_(fan_out), levels_{{workers, 0}} {
  do levels_.push_back({(levels_.back().size + fan_out - 1) / fan_out, workers});
  while (levels_.back().size > 1);
  for (size_t l = levels_.size() - 1; l-- > 1;) levels_[l].first = levels_[l + 1].first + levels_[l + 1].size;
}

size_t Tree::level_of(Rank rank) const {
  size_t l = 0;
  while (rank < levels_[l].first || rank >= levels_[l].first + levels_[l].size) ++l;
  return l;
}

Rank Tree::parent(Rank rank) const {
  const size_t l = level_of(rank);
  return l + 1 == levels_.size() ? -1 : levels_[l + 1].first + (rank - levels_[l].first) / fan_out_;
}

std::ranges::iota_view<Rank, Rank> Tree::children(Rank rank) const {
  const size_t l = level_of(rank);
  if (l == 0) return {0, 0};
  const Level& below = levels_[l - 1];
  const int64_t begin = int64_t{rank - levels_[l].first} * fan_out_;
  const auto end = static_cast<int>(std::min<int64_t>(begin + fan_out_, below.size));
  return {below.first + static_cast<int>(begin), below.first + end};
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

Rank root_now(const World& world, const Tree& tree) {
  const auto is = [&](Rank r, PeerState state) { return r != world.rank() && world.peer(r) == state; };
  for (Rank r = tree.root(); r < tree.nodes(); ++r)
    if (!is(r, PeerState::gone)) return r;
  for (Rank r = 0; tree.is_leaf(r); ++r)
    if (!is(r, PeerState::gone) && !is(r, PeerState::left)) return r;
  return tree.root();
}

TreeLinks::TreeLinks(const SchemeOptions& options, World& world, const Tree& tree, int64_t size, DType dtype,
                     uint64_t fingerprint)
    : world_(world),
      tree_(tree),
      bytes_(static_cast<size_t>(size) * size_of(dtype)),
      dtype_(dtype),
      fingerprint_(fingerprint),
      deadline_(options.deadline),
      packing_(packing_of(options.wire)) {
  if (packing_ == Packing::none) return;
  unsent_[0] = Vec::zeros(size, dtype);
  if (!tree.is_leaf(world.rank())) unsent_[1] = Vec::zeros(size, dtype);
}

std::pair<Head, Payload> TreeLinks::message(From from, int64_t clock, const Payload& x) {
  Head head{.tag = Tag::tree_push};
  head.arg[0] = static_cast<int64_t>(from), head.arg[1] = clock, head.arg[2] = static_cast<int64_t>(fingerprint_);
  if (packing_ == Packing::none) return {head, x};
  const ConstVecView exact = x.view(dtype_);
  Vec& unsent = unsent_[from == From::above];
  if (!unsent.defined()) unsent = Vec::zeros(exact.size, dtype_);  // a leaf that has become the root
  Vec rounded = Vec::copy_of(exact);
  round_to_packing(packing_, rounded.mutable_view(), unsent.mutable_view());
  Payload body = packed(head, rounded.view(), packing_);
  return {head, std::move(body)};
}

void TreeLinks::push_up(int64_t clock, const Payload& x) {
  Rank to = tree_.parent(world_.rank());
  while (to >= 0 && lost(world_, to)) to = tree_.parent(to);
  if (to < 0) to = root_now(world_, tree_);
  if (to == world_.rank() || lost(world_, to)) return;
  const auto [head, body] = message(From::below, clock, x);
  world_.send(to, head, body);
}

// To the nearest descendants of a node that are not lost.
void TreeLinks::descend(Rank of, const std::function<void(Rank)>& fn) const {
  for (Rank child : tree_.children(of)) {
    if (child == world_.rank() || lost(world_, child))
      descend(child, fn);
    else
      fn(child);
  }
}

void TreeLinks::push_down(int64_t clock, const Payload& x) {
  const Rank me = world_.rank();
  std::vector<Rank> to;
  descend(root_now(world_, tree_) == me ? tree_.root() : me, [&](Rank r) { to.push_back(r); });
  if (to.empty()) return;
  const auto [head, body] = message(From::above, clock, x);
  for (Rank r : to) world_.send(r, head, body);
}

Payload TreeLinks::read(const Message& push) const {
  if (push.head.source < 0 || push.head.source >= tree_.nodes() ||
      static_cast<uint64_t>(push.head.arg[2]) != fingerprint_)
    return {};
  Payload body = unpacked(push, dtype_).body;
  return body.size() == bytes_ ? body : Payload();
}

Received TreeLinks::ask(Rank rank, bool parameters, bool as_root, Nanos patience) const {
  Deadline deadline(world_, patience);
  Request request(world_);
  Received r;
  while (r.what == Received::What::timeout && deadline.left() > 0) {
    world_.send(rank, question(parameters, as_root, request.id()));
    r = world_.receive({.tag = Tag::tree_ack, .source = rank, .request = request.id()},
                       std::min(deadline.left(), deadline_ / 8 + 1));
  }
  return r;
}

Received TreeLinks::fetch_nearest(Nanos patience, int64_t after) const {
  const Rank me = world_.rank();
  std::vector<Rank> nearest;
  for (Rank up = tree_.parent(me); up >= 0; up = tree_.parent(up)) nearest.push_back(up);
  descend(root_now(world_, tree_) == me ? tree_.root() : me, [&](Rank r) { nearest.push_back(r); });
  const Deadline deadline(world_, patience);
  for (Rank r : nearest) {
    if (lost(world_, r)) continue;
    Received got = ask(r, true, false, deadline.left() / 2 + 1);
    if (got.ok() && got.message.body.size() == bytes_ &&
        static_cast<uint64_t>(got.message.head.arg[0]) == fingerprint_ && clock_of(got) > after)
      return got;
  }
  return {};
}

void TreeLinks::send_question(Rank root, uint64_t request) const { world_.send(root, question(false, true, request)); }

void TreeLinks::answer(const Message& fetch, const Payload& x, int64_t clock) {
  if (fetch.head.arg[1] != 0) {
    if (fetch.head.source >= 0 && tree_.is_leaf(fetch.head.source)) asked_.insert(fetch.head.source);
    if (world_.rank() != tree_.root() && !has_majority()) return;
  }
  Head head{.tag = Tag::tree_ack, .is_reply = 1};
  head.request = fetch.head.request;
  head.arg[0] = static_cast<int64_t>(fingerprint_), head.arg[1] = clock;
  world_.send(fetch.head.source, head, fetch.head.arg[0] ? x : Payload());
}

bool TreeLinks::has_majority() const {
  const Rank me = world_.rank();
  const bool unasked = asked_.empty() && !tree_.is_leaf(me);  // then the workers may have ended without it
  int here = 0, all = 0;
  for (Rank r = 0; tree_.is_leaf(r); ++r) {
    const bool asked = unasked || r == me || asked_.count(r) > 0;
    const PeerState state = r == me ? PeerState::alive : world_.peer(r);
    here += asked && state != PeerState::gone;
    all += asked || state != PeerState::left;
  }
  return 2 * here > all;
}

void TreeLinks::save(SchemeState& state) const {
  for (int i : {0, 1})
    if (unsent_[i].defined()) state.vectors[kUnsent[i]] = unsent_[i].clone();
}

Status TreeLinks::load(const SchemeState& state) {
  for (int i : {0, 1}) {
    if (!unsent_[i].defined() && state.vectors.count(kUnsent[i]) > 0)  // of a leaf that had become the root
      unsent_[i] = Vec::zeros(static_cast<int64_t>(bytes_ / size_of(dtype_)), dtype_);
    if (unsent_[i].defined()) SINEW_RETURN_IF_ERROR(load_vector(state, kUnsent[i], unsent_[i]));
  }
  return Status::Ok();
}

}  // namespace sinew::dist
