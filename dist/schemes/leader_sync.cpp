// LGD, and LSGD with every worker taking exactly `period` steps between rounds (dist/schemes/leader.h). A round is an
// all-gather of the losses, then a broadcast of the leader's parameters in each group, then, in every ratio-th round,
// one of the best leader's to all. Equal bits in both worlds.
//
//   lsgd  the pulls follow the optimizer (Algorithm 1); losses are the running means of the steps so far
//   lgd   everything is taken at the x before the gradient: with the exact f and its gradient at that x,
//         x <- x - lambda (x - leader) - step(x), the leader also as it was; the loss is that of this step's batch
//
// A suppressed worker cannot lead and does not move, but takes part. A dead member ends the others with peer_lost.
#include <limits>
#include <optional>

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
    return meet();
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

  // The mean over all workers, but for those that are not finite.
  Status evaluation_point(ConstVecView theta, VecView out) override {
    std::vector<double> finite{all_finite(theta) ? 1.0 : 0.0}, all(static_cast<size_t>(options_.workers));
    SINEW_RETURN_IF_ERROR(members_.all_gather(finite, all));
    double count = 0;
    for (double f : all) count += f;
    copy(theta, out);
    if (count == 0) return Status::Ok();
    if (finite[0] == 0) fill(out, 0);
    SINEW_RETURN_IF_ERROR(members_.all_reduce(out, false));
    if (members_.size() != options_.workers)
      return Status(StatusCode::peer_lost, "a worker was lost while the mean of all was taken");
    axpby(1.0 / count, out, 0.0, out, out);
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = LeaderScheme::save();
    state.vectors["groups"] = Vec::copy_of(ConstVecView(group_of_));
    return state;
  }
  Status load(const SchemeState& state) override {
    auto groups = state.vectors.find("groups");
    if (groups == state.vectors.end() || groups->second.size() != options_.workers)
      return make_status(StatusCode::data_error, "the saved scheme has no groups of ", options_.workers, " workers");
    group_of_.resize(static_cast<size_t>(options_.workers));
    download(groups->second.view(), group_of_.data());
    form_group();
    return LeaderScheme::load(state);
  }

 private:
  bool is_round(int64_t step) const { return (step + 1) % period_ == 0; }

  // Learns the others' groups.
  Status meet() {
    const std::vector<int64_t> own{own_group()};
    group_of_.resize(static_cast<size_t>(options_.workers));
    SINEW_RETURN_IF_ERROR(members_.all_gather(own, group_of_));
    form_group();
    return Status::Ok();
  }
  void form_group() {
    mates_.clear();
    for (Rank r = 0; r < options_.workers; ++r)
      if (group_of_[static_cast<size_t>(r)] == group_of_[static_cast<size_t>(world_.rank())]) mates_.push_back(r);
    one_group_ = static_cast<int>(mates_.size()) == options_.workers;
    constexpr uint64_t kEpoch = 1 << 20;  // apart from the collectives of all
    if (!one_group_) group_.emplace(world_, mates_, options_.deadline, kEpoch);
  }

  // The pulls at x, which is theta, or for lgd what it was before the gradient.
  Status round(int64_t step, VecView x) {
    LeaderRound r{.round = (step + 1) / period_ - 1, .steps = period_};
    const bool suppressed = world_.suppressed(r.round);
    r.loss = suppressed ? std::numeric_limits<double>::quiet_NaN() : loss_at(x);
    std::vector<double> own{r.loss}, losses(static_cast<size_t>(options_.workers)), of_mates;
    SINEW_RETURN_IF_ERROR(members_.all_gather(own, losses));
    for (Rank mate : mates_) of_mates.push_back(losses[static_cast<size_t>(mate)]);
    moves_ = false;
    if (const int leader = elect(of_mates); leader >= 0) {
      r.local = mates_[static_cast<size_t>(leader)];
      SINEW_RETURN_IF_ERROR(
          pull(r.local, one_group_ ? r.local : leader, !one_group_, options_.pull, local(), suppressed, x));
    }
    const bool global = !one_group_ && (r.round + 1) % ratio_ == 0;
    if (const int leader = global ? elect(losses) : -1; leader >= 0) {
      r.global = leader;
      SINEW_RETURN_IF_ERROR(pull(leader, leader, false, options_.pull_global, this->global(), suppressed, x));
    }
    if (r.local != kAnyRank) set_anchor(r.global != kAnyRank);
    if (suppressed) r.local = r.global = kAnyRank;
    record(r);
    return Status::Ok();
  }

  Status pull(Rank leader, int root, bool in_group, double strength, Vec& from, bool suppressed, VecView x) {
    const bool leads = leader == world_.rank();
    const VecView message = leads ? x : from.mutable_view();
    SINEW_RETURN_IF_ERROR(in_group ? group_->broadcast(message, root) : members_.broadcast(message, root));
    if (suppressed) return Status::Ok();
    follow(strength, leads, from, x);
    moves_ |= !leads && strength > 0;
    return Status::Ok();
  }

  const bool batch_;
  Lockstep members_;
  std::vector<int64_t> group_of_;      // by rank
  std::vector<Rank> mates_;            // of this worker's group
  std::optional<Communicator> group_;  // of several groups
  bool one_group_ = true;
  bool moves_ = false;  // this round moves this worker
  Vec old_, moved_to_;  // of lgd: x before the gradient, and where the pulls take it
};

}  // namespace

std::unique_ptr<Scheme> make_leader_sync(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                         Device device) {
  return std::make_unique<LeaderSync>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
