// EASGD Tree (Zhang, PhD thesis 2016, section 6.1, Algorithm 6): workers are the leaves of a tree, and only they
// compute. Every node holds parameters x, pushes them to its parent and its children now and then, and moves toward
// whatever arrives: x <- x + alpha (x_other - x). Nobody waits for anybody, nothing is conserved: each side applies its
// own pull, and every write is a convex combination (with scheme.wire, up to a step of rounding). The root's x is the
// center that results are measured on.
//
// Shape: leaves are ranks 0 .. workers-1; level by level, `fan_out` neighbours share a parent. The root has rank
// `workers`, the other inner nodes follow, nearest the root first. Depth: log of workers to the base fan_out, rounded
// up.
//
// Clocks: a node pushes up when its clock passes a multiple of `up`, down at multiples of `down`. A leaf's clock counts
// its steps; an inner node's is the latest clock among what its children sent, which replaces the thesis's "loop for
// about one gradient time" and keeps time out of the rule.
//   multi_scale  leaves up = period; their parents down = period, up = far_period; all others far_period both ways
//   up_down      every node up = period, down = far_period
//
// Failures (the thesis has no answer): a push goes to the nearest ancestor, or to the nearest descendants, that are not
// lost. A restarted inner node takes over the x of the nearest node that answers, or else the first that arrives; a
// leaf that was stopped that of the nearest node whose clock has gone on by more than 10 periods since it last heard.
// When the root is gone for good, the inner node that is nearest to it is the root with its own x: the lowest in rank
// that is not gone; when all are, the lowest worker. All find it by that rule, without a message: who has no ancestor
// left pushes to it, and it pushes down to all of these. Each worker asks such a root once a period, and it answers as
// the root only while more than half of the workers (of those that have not left without asking) have asked it and are
// not gone: no other side of the network has a root. A worker that is not answered for 4 deadlines ends, and so does
// one that sees half of the workers or more gone.
//
// With scheme.wire what a node pushes is rounded and carries on what rounding left of its last push in the same
// direction; receivers move toward what arrives. What is fetched travels as it is.
//
// Messages: tree_push up|down, clock; body: x.   tree_fetch parameters, as the root -> tree_ack fingerprint, clock;
// body: x, or nothing from a node that has none yet
#pragma once

#include <functional>
#include <memory>
#include <ranges>
#include <set>
#include <utility>
#include <vector>

#include "dist/packing.h"
#include "dist/scheme.h"

namespace sinew::dist {

// Who is where. A pure function of (workers, fan_out); no node keeps more of it than the sizes of the levels.
class Tree {
 public:
  Tree(int workers, int fan_out);
  // Of such a tree, leaves included.
  static int node_count(int workers, int fan_out);
  int nodes() const { return levels_[1].first + levels_[1].size; }
  Rank root() const { return workers_; }
  Rank parent(Rank rank) const;  // -1 of the root
  std::ranges::iota_view<Rank, Rank> children(Rank rank) const;
  bool is_leaf(Rank rank) const { return rank < workers_; }
  bool has_leaves(Rank rank) const { return level_of(rank) == 1; }

 private:
  struct Level {
    int size;
    Rank first;
  };
  size_t level_of(Rank rank) const;

  int workers_, fan_out_;
  std::vector<Level> levels_;  // leaves first
};

// The node that is the root now, seen from this one.
Rank root_now(const World& world, const Tree& tree);

// Steps between pushes; 0: never.
struct TreePeriods {
  int64_t up = 0, down = 0;
};
TreePeriods tree_periods(const SchemeOptions& options, const Tree& tree, Rank rank);

enum class From : int64_t { below = 0, above = 1 };

// A node's pushes and questions. Not thread-safe: pushes are one side's only, a leaf's training side or an inner node's
// handlers.
class TreeLinks {
 public:
  TreeLinks(const SchemeOptions& options, World& world, const Tree& tree, int64_t size, DType dtype,
            uint64_t fingerprint);
  // To the nearest ancestor that is not lost, or the root; nobody above the root.
  void push_up(int64_t clock, const Payload& x);
  // To the nearest descendants that are not lost; the root's are all that have no ancestor.
  void push_down(int64_t clock, const Payload& x);
  // The numbers of a push that fits; empty: it does not.
  Payload read(const Message& push) const;

  // On the training side. One question to the root, repeated after each silence of an eighth of the deadline.
  Received ask_root(Rank root, bool parameters, Nanos patience) const { return ask(root, parameters, true, patience); }
  // The same once, without waiting.
  void send_question(Rank root, uint64_t request) const;
  // The answer of the nearest node that has an x, as it is, and whose clock is later than `after`; not ok: nobody's.
  // Each is waited for half of what is left of `patience`.
  Received fetch_nearest(Nanos patience, int64_t after = -1) const;
  static int64_t clock_of(const Received& answer) { return answer.message.head.arg[1]; }
  // In a handler.
  void answer(const Message& fetch, const Payload& x, int64_t clock);
  // Of a node in the root's place, in a handler or publish(): it may answer as the root, or nobody has asked it to and
  // more than half of the workers are not gone.
  bool has_majority() const;

  void save(SchemeState& state) const;
  Status load(const SchemeState& state);

 private:
  std::pair<Head, Payload> message(From from, int64_t clock, const Payload& x);
  void descend(Rank of, const std::function<void(Rank)>& fn) const;
  Received ask(Rank rank, bool parameters, bool as_root, Nanos patience) const;

  World& world_;
  const Tree& tree_;
  const size_t bytes_;
  const DType dtype_;
  const uint64_t fingerprint_;
  const Nanos deadline_;
  const Packing packing_;
  Vec unsent_[2];         // what rounding left, by direction
  std::set<Rank> asked_;  // the workers that have asked this node as the root; the handler's
};

std::unique_ptr<CenterNode> make_tree_node(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                           uint64_t fingerprint);

}  // namespace sinew::dist
