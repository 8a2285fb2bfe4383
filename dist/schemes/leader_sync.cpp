// LGD, and LSGD with every worker taking exactly `period` steps between rounds (dist/schemes/leader.h). A round is an
// all-gather of the losses, then a broadcast of the leader's parameters in each group, then, in every ratio-th round,
// one of the best leader's to all; leaders are not moved, so all of it is of the parameters before the round. Workers
// move when all have everything (Lockstep::together). Equal bits in both worlds.
//
//   lsgd  the pulls follow the optimizer (Algorithm 1); losses are the running means of the steps so far
//   lgd   everything is taken at the x before the gradient: with the exact f and its gradient at that x,
//         x <- x - lambda (x - leader) - step(x), the leader also as it was; the loss is that of this step's batch
//
// A suppressed worker cannot lead and does not move, but takes part. When a member is lost in a round, the others elect
// again and nobody follows the lost one; its group is what is left of it.
#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/leader.h"
#include "dist/schemes/lockstep.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

class LeaderSync final : public LeaderScheme {
 public:
  LeaderSync(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : LeaderScheme(o, world, size, dtype, device), batch_(o.name == "lgd"), members_(world, o) {
    if (!batch_) return;
    old_ = Vec::zeros(size, dtype, device);
    moved_to_ = Vec::zeros(size, dtype, device);
  }

  Status start(VecView) override {
    SINEW_RETURN_IF_ERROR(members_.start(options_.fingerprint));
    const std::vector<int64_t> own{own_group()};
    group_of_.assign(static_cast<size_t>(options_.workers), -1);
    return members_.gather(own, group_of_);
  }

  Status before_step(int64_t step, VecView theta) override {
    if (batch_ && is_round(step)) copy(theta, old_.mutable_view());
    return Status::Ok();
  }

  Status after_step(int64_t step, VecView theta) override {
    proximal_pull(theta);
    if (!is_round(step)) return Status::Ok();
    if (!batch_) return round(step, theta);
    copy(old_.view(), moved_to_.mutable_view());
    SINEW_RETURN_IF_ERROR(round(step, moved_to_.mutable_view()));
    if (!moves_) return Status::Ok();
    axpby(1.0, moved_to_.view(), -1.0, old_.view(), old_.mutable_view());
    if (all_finite(old_.view()))
      accumulate(1.0, old_.view(), theta);
    else  // what is not finite cannot be moved
      copy(moved_to_.view(), theta);
    return Status::Ok();
  }

  Status finish(VecView theta) override {
    mean_ = Vec::zeros(theta.size, dtype_, theta.device);
    SINEW_RETURN_IF_ERROR(take_mean(theta, mean_.mutable_view()));
    finished_ = true;
    return members_.finish();
  }

  Status evaluation_point(ConstVecView theta, VecView out) override {
    if (!finished_) return take_mean(theta, out);
    copy(mean_.view(), out);
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = LeaderScheme::save();
    state.vectors["groups"] = Vec::copy_of(ConstVecView(group_of_));
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    auto groups = state.vectors.find("groups");
    if (groups == state.vectors.end() || groups->second.size() != options_.workers)
      return make_status(StatusCode::data_error, "the saved scheme has no groups of ", options_.workers, " workers");
    group_of_.resize(static_cast<size_t>(options_.workers));
    download(groups->second.view(), group_of_.data());
    SINEW_RETURN_IF_ERROR(members_.load(state));
    return LeaderScheme::load(state);
  }

 private:
  bool is_round(int64_t step) const { return (step + 1) % period_ == 0; }
  const std::vector<Rank>& everybody() const { return members_.membership().members(); }

  // The mean over all members, but for those that are not finite.
  Status take_mean(ConstVecView theta, VecView out) {
    Vec sum = Vec::zeros(theta.size + 1, dtype_, theta.device);  // and of how many
    if (all_finite(theta)) {
      copy(theta, sum.mutable_view().slice(0, theta.size));
      fill(sum.mutable_view().slice(theta.size, 1), 1);
    }
    SINEW_RETURN_IF_ERROR(members_.all_reduce(sum.mutable_view(), false));
    const double count = to_doubles(sum.view().slice(theta.size, 1))[0];
    copy(theta, out);
    if (count > 0) axpby(1.0 / count, sum.view().slice(0, theta.size), 0.0, out, out);
    return Status::Ok();
  }

  // This worker's group, of those that are there in this epoch.
  void form_group() {
    epoch_ = members_.membership().epoch();
    mates_.clear();
    for (Rank r : everybody())
      if (group_of_[static_cast<size_t>(r)] == group_of_[static_cast<size_t>(world_.rank())]) mates_.push_back(r);
    one_group_ = mates_.size() == everybody().size();
    if (group_) group_->drop_late();
    group_.reset();
    if (one_group_) forget_anchor(false, true);  // there is no leader of all any more
    if (!one_group_) group_.emplace(members_.part(mates_)), keep_global();
  }

  // The pulls at x, which is theta, or for lgd what it was before the gradient.
  Status round(int64_t step, VecView x) {
    LeaderRound r{.round = (step + 1) / period_ - 1, .steps = period_};
    const bool suppressed = world_.suppressed(r.round);
    r.loss = suppressed ? std::numeric_limits<double>::quiet_NaN() : loss_at(x);
    SINEW_RETURN_IF_ERROR(members_.together([&](Communicator& all) { return elect_and_receive(all, x, r); }));
    if (leads(r)) sent();
    moves_ = false;
    if (!suppressed) {
      pull(r.local, options_.pull, local(), x);
      pull(r.global, options_.pull_global, global(), x);
    }
    if (r.local != kAnyRank) set_anchor(r.global != kAnyRank);
    if (suppressed) r.local = r.global = kAnyRank;
    record(r);
    return Status::Ok();
  }

  Status elect_and_receive(Communicator& all, VecView x, LeaderRound& r) {
    if (epoch_ != members_.membership().epoch()) form_group();
    const std::vector<double> own{r.loss};
    std::vector<double> losses(everybody().size()), of_mates;
    SINEW_RETURN_IF_ERROR(all.all_gather(own, losses));
    for (size_t i = 0; i < losses.size(); ++i)
      if (std::find(mates_.begin(), mates_.end(), everybody()[i]) != mates_.end()) of_mates.push_back(losses[i]);
    const int best_mate = elect(of_mates), best = elect(losses);
    r.local = best_mate < 0 ? kAnyRank : mates_[static_cast<size_t>(best_mate)];
    const bool has_global = !one_group_ && best >= 0 && (r.round + 1) % ratio_ == 0;
    r.global = has_global ? everybody()[static_cast<size_t>(best)] : kAnyRank;
    forget_anchor(r.local != kAnyRank, has_global);
    const Payload told = packing_ != Packing::none && leads(r) ? rounded(x) : Payload();
    const auto place = [&](Rank leader, Vec& from) {
      return leader != world_.rank() ? from.mutable_view() : told.size() > 0 ? told.mutable_view(dtype_) : x;
    };
    if (r.local != kAnyRank)
      SINEW_RETURN_IF_ERROR((one_group_ ? all : *group_).broadcast(place(r.local, local()), best_mate, packing_));
    return has_global ? all.broadcast(place(r.global, global()), best, packing_) : Status::Ok();
  }

  bool leads(const LeaderRound& r) const { return r.local == world_.rank() || r.global == world_.rank(); }

  void pull(Rank leader, double strength, Vec& from, VecView x) {
    if (leader == kAnyRank) return;
    const bool leads = leader == world_.rank();
    follow(strength, leads, from, x);
    moves_ |= !leads && strength > 0;
  }

  const bool batch_;
  Lockstep members_;
  std::vector<int64_t> group_of_;      // by rank
  int64_t epoch_ = -1;                 // of what follows
  std::vector<Rank> mates_;            // of this worker's group, in ascending order
  std::optional<Communicator> group_;  // of several groups
  bool one_group_ = true;
  bool moves_ = false;  // this round moves this worker
  Vec old_, moved_to_;  // of lgd: x before the gradient, and where the pulls take it
  bool finished_ = false;
  Vec mean_;  // then
};

}  // namespace

std::unique_ptr<Scheme> make_leader_sync(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                         Device device) {
  return std::make_unique<LeaderSync>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
