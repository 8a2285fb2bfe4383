// What the leader schemes share (Teng, Gao, Chalus, Choromanska, Goldfarb, Weller: "Leader Stochastic Gradient Descent
// for Distributed Training of Deep Learning Models", NeurIPS 2019, arXiv:1905.10395): the election, the groups, the
// running loss, and the pulls of one round in the order of Algorithm 1,
//   x <- x - lambda   (x - leader of its group)   every `period` steps
//   x <- x - lambda_G (x - leader of all)         every `period_global` steps, where there is more than one group
// of which the second starts from the result of the first. With one group only the first is there. Leaders do not move.
//
// The proximal pull of the authors' later code follows every local step, toward the leaders of the last rounds:
//   x <- x + (p2 / period_global) (global leader - x),   then   x <- x + (p1 / period) (local leader - x)
// With scheme.wire a leader's parameters are sent rounded; the leader itself keeps its own.
//
// Both anchors stay the same between rounds, so they are combined into one, once a round, and a step is one pass.
//
// Thread safety: free functions are pure; the classes are the training thread's.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dist/packing.h"
#include "dist/scheme.h"

namespace sinew::dist {

bool is_leader_scheme(const std::string& name);
Status validate_leader(const SchemeOptions& options);
// Steps between the pulls toward the leader of all.
inline int64_t global_period(const SchemeOptions& o) { return o.period_global > 0 ? o.period_global : 2 * o.period; }

// The place of the lowest loss; of equal ones the first; losses that are not finite never win. -1: there is no other.
int elect(std::span<const double> losses);

// The group of each rank. "": all are one; "4": so many groups of neighbours; "0-3/4,6/5,7": these; "hosts": whoever
// has the same SchemeOptions::host, which only the workers together know: then the result is empty.
Result<std::vector<int64_t>> leader_groups(const std::string& text, int workers);

// The mean of the last losses, however few they are.
class RunningLoss {
 public:
  explicit RunningLoss(int64_t window) : window_(static_cast<size_t>(window)) {}
  void add(double loss);
  double mean() const;  // infinity before the first
  void clear() { recent_.clear(); }
  void save(SchemeState& state) const;
  void load(const SchemeState& state);

 private:
  const size_t window_;
  std::vector<double> recent_;
};

class LeaderScheme : public Scheme {
 public:
  Evaluated evaluated() const override { return Evaluated::average; }
  void observe(double loss) override { running_.add(loss); }
  double take_external_write() override;
  SchemeCounters counters() const override { return counters_; }
  SchemeState save() const override;
  Status load(const SchemeState& state) override;

 protected:
  LeaderScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device);

  // This worker's group, as a name that all workers understand alike.
  int64_t own_group() const;
  // What this worker stands for election with, at x. Not a number when x is not finite.
  double loss_at(ConstVecView x);
  // x moves toward the leader's parameters, which are in `leader`. The leader itself stays, and leaves its x there.
  void follow(double strength, bool leads, Vec& leader, VecView x);
  // What this worker sends as a leader with scheme.wire, in host memory: x rounded, which carries on what rounding has
  // left of the last one that was sent(). Without, x as it is.
  Payload rounded(ConstVecView x);
  void sent() { std::swap(unsent_, next_unsent_); }
  // The parameters of a round's leaders; one vector until somebody needs both.
  Vec& local() { return local_; }
  Vec& global() { return global_.defined() ? global_ : local_; }
  void keep_global();
  // Before local() and global() are written by what may fail.
  void forget_anchor(bool local, bool global) { has_anchor_ &= !local, has_global_ &= !global; }
  // After the pulls of a round that have filled local(), and with `global` global(): what the next steps are drawn to.
  void set_anchor(bool global);
  // After a local step.
  void proximal_pull(VecView x);
  // Ends a round: counts it and tells on_round.
  void record(LeaderRound round);

  World& world_;
  const SchemeOptions options_;
  const int64_t period_, ratio_;  // steps between rounds; rounds between global ones
  const DType dtype_;
  const Packing packing_;
  RunningLoss running_;
  SchemeCounters counters_;
  double moved_ = 0;     // squared, since the optimizer asked
  double distance_ = 0;  // of the first pull of this round
  bool has_distance_ = false;

 private:
  struct Proximal {
    double local, global, both;  // strengths in one step
  };
  bool has_proximal() const { return options_.proximal > 0 || options_.proximal_global > 0; }
  Proximal proximal() const;
  void pull(double strength, ConstVecView leader, VecView x);

  std::vector<int64_t> groups_;
  Vec local_, global_;
  Vec unsent_, next_unsent_;                      // of rounded()
  bool has_anchor_ = false, has_global_ = false;  // local_ holds the anchor, global_ the last leader of all
};

}  // namespace sinew::dist
