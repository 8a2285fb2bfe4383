// Periodic global averaging, on top of any scheme between workers: every H steps all workers end the step with the
// exact mean of what the scheme has left them with (Gossip-PGA: Chen, Yuan, Zhang, Pan, Xu, Yin, arXiv:2105.09080).
// H = 1 is parallel SGD with averaged parameters, no H is the scheme alone.
//
// With scheme.wire workers exchange by how much they have moved since the last mean (since the start, at first, which
// is the same for all): rounded parameters would lose small steps until enough of them have come together.
//
// The mean is over those that give something, which are counted along: a worker whose parameters are not finite gives
// nothing and adopts the mean, a suppressed one gives nothing and stays where it is. What rounding has left of a
// worker's last contribution is given all the same.
//
// The mean is a collective: all must come to the same steps, and a restarted worker cannot join the others again.
#include <cmath>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/lockstep.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

class GlobalAverage final : public Scheme {
 public:
  GlobalAverage(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device,
                std::unique_ptr<Scheme> inner)
      : world_(world),
        every_(o.global_average_every),
        fingerprint_(o.fingerprint),
        members_(world, o),
        inner_(std::move(inner)),
        given_(Vec::zeros(size + 1, dtype, device)) {
    if (packing_of(o.wire) != Packing::none) common_ = Vec::zeros(size, dtype, device);
  }

  Mixes mixes() const override { return inner_->mixes(); }
  Evaluated evaluated() const override { return inner_->evaluated(); }
  Status start(VecView theta) override {
    SINEW_RETURN_IF_ERROR(members_.start(fingerprint_));
    if (common_.defined()) copy(theta, common_.mutable_view());
    return inner_->start(theta);
  }
  Status before_step(int64_t step, VecView theta) override { return inner_->before_step(step, theta); }
  Status reduce(VecView statistic, Statistic which) override { return inner_->reduce(statistic, which); }
  bool reduces() const override { return inner_->reduces(); }
  Status after_step(int64_t step, VecView theta) override {
    SINEW_RETURN_IF_ERROR(inner_->after_step(step, theta));
    return (step + 1) % every_ == 0 ? average((step + 1) / every_ - 1, theta) : Status::Ok();
  }
  Status evaluation_point(ConstVecView theta, VecView out) override { return inner_->evaluation_point(theta, out); }
  Status finish(VecView theta) override {
    SINEW_RETURN_IF_ERROR(members_.finish());
    return inner_->finish(theta);
  }
  double take_external_write() override { return std::exchange(moved_, 0.0) + inner_->take_external_write(); }
  SchemeCounters counters() const override {
    SchemeCounters c = inner_->counters();
    c.exchanges += averages_;
    c.missed += missed_;
    c.refused += refused_;
    return c;
  }
  SchemeState save() const override {
    SchemeState state = inner_->save();
    state.numbers["averages"] = averages_;
    state.numbers["averages_missed"] = missed_;
    state.numbers["averages_refused"] = refused_;
    if (common_.defined()) state.vectors["common"] = common_.clone();
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(load_numbers(
        state, {{"averages", &averages_}, {"averages_missed", &missed_}, {"averages_refused", &refused_}}));
    if (common_.defined()) SINEW_RETURN_IF_ERROR(load_vector(state, "common", common_));
    SINEW_RETURN_IF_ERROR(members_.load(state));
    return inner_->load(state);
  }

 private:
  Status average(int64_t round, VecView theta) {
    const VecView sum = given_.mutable_view().slice(0, theta.size), count = given_.mutable_view().slice(theta.size, 1);
    const bool suppressed = world_.suppressed(round), finite = all_finite(theta), gives = finite && !suppressed;
    if (gives) {
      copy(theta, sum);
      if (common_.defined()) accumulate(-1.0, common_.view(), sum);
    } else {
      fill(sum, 0);
    }
    fill(count, gives ? 1 : 0);
    if (common_.defined()) {
      // The count first: without a member that dies between the two, all move by less, not by more.
      SINEW_RETURN_IF_ERROR(members_.all_reduce(count, false));
      SINEW_RETURN_IF_ERROR(members_.all_reduce_packed(sum, false));
    } else {
      SINEW_RETURN_IF_ERROR(members_.all_reduce(given_.mutable_view(), false));
    }
    ++(gives ? averages_ : missed_);
    refused_ += !finite;
    const double givers = to_doubles(count)[0];
    if (givers > 0) axpby(1.0 / givers, sum, 0.0, sum, sum);
    if (common_.defined()) {
      accumulate(1.0, sum, common_.mutable_view());
      copy(common_.view(), sum);
    } else if (givers == 0) {
      return Status::Ok();  // nobody knows anything better
    }
    if (suppressed) return Status::Ok();
    // Parameters that were not finite have moved by all that the new ones are.
    const double moved2 = squared_distance(theta, sum), size = norm(sum);
    moved_ += std::isfinite(moved2) ? moved2 : size * size;
    copy(sum, theta);
    return Status::Ok();
  }

  World& world_;
  const int64_t every_;
  const uint64_t fingerprint_;
  Lockstep members_;
  const std::unique_ptr<Scheme> inner_;
  Vec given_;   // parameters, or how they have moved, and how many workers' they are
  Vec common_;  // with scheme.wire: the last mean
  double moved_ = 0;
  int64_t averages_ = 0, missed_ = 0, refused_ = 0;
};

}  // namespace

std::unique_ptr<Scheme> make_global_average(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                            Device device, std::unique_ptr<Scheme> inner) {
  return std::make_unique<GlobalAverage>(options, world, size, dtype, device, std::move(inner));
}

}  // namespace sinew::dist
