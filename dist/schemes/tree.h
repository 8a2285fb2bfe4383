// EASGD Tree (Zhang, PhD thesis 2016, section 6.1, Algorithm 6): workers are the leaves of a tree, and only they
// compute. Every node holds parameters x, pushes them to its parent and its children now and then, and moves toward
// whatever arrives: x <- x + alpha (x_other - x). Nobody waits for anybody, nothing is conserved: each side applies its
// own pull, and every write is a convex combination. The root's x is the center that results are measured on.
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
// lost. A restarted node takes over the first x that arrives.
//
// Messages: tree_push up|down, clock; body: x.   tree_fetch request -> tree_ack; body: x
#pragma once

#include <memory>
#include <vector>

#include "dist/scheme.h"

namespace sinew::dist {

// Who is where. A pure function of (workers, fan_out).
class Tree {
 public:
  Tree(int workers, int fan_out);
  // Of such a tree, leaves included.
  static int node_count(int workers, int fan_out);
  int nodes() const { return static_cast<int>(parents_.size()); }
  Rank root() const { return workers_; }
  Rank parent(Rank rank) const { return parents_.at(rank); }  // -1 of the root
  const std::vector<Rank>& children(Rank rank) const { return children_.at(rank); }
  bool is_leaf(Rank rank) const { return rank < workers_; }
  bool has_leaves(Rank rank) const { return !children_.at(rank).empty() && is_leaf(children_.at(rank)[0]); }

 private:
  int workers_;
  std::vector<Rank> parents_;
  std::vector<std::vector<Rank>> children_;
};

// Steps between pushes; 0: never.
struct TreePeriods {
  int64_t up = 0, down = 0;
};
TreePeriods tree_periods(const SchemeOptions& options, const Tree& tree, Rank rank);

std::unique_ptr<CenterNode> make_tree_node(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                           uint64_t fingerprint);

}  // namespace sinew::dist
