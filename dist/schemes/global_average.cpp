// Periodic global averaging, on top of any scheme between workers: every H steps all workers end the step with the
// exact mean of what the scheme has left them with (Gossip-PGA: Chen, Yuan, Zhang, Pan, Xu, Yin, arXiv:2105.09080).
// H = 1 is parallel SGD with averaged parameters, no H is the scheme alone.
//
// The mean is a collective: all must come to the same steps, and a restarted worker cannot join the others again.
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/lockstep.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

class GlobalAverage final : public Scheme {
 public:
  GlobalAverage(const SchemeOptions& o, World& world, std::unique_ptr<Scheme> inner)
      : every_(o.global_average_every), fingerprint_(o.fingerprint), members_(world, o), inner_(std::move(inner)) {}

  Mixes mixes() const override { return inner_->mixes(); }
  Evaluated evaluated() const override { return inner_->evaluated(); }
  Status start(VecView theta) override {
    SINEW_RETURN_IF_ERROR(members_.start(fingerprint_));
    return inner_->start(theta);
  }
  Status before_step(int64_t step, VecView theta) override { return inner_->before_step(step, theta); }
  Status reduce(VecView statistic) override { return inner_->reduce(statistic); }
  bool reduces() const override { return inner_->reduces(); }
  Status after_step(int64_t step, VecView theta) override {
    SINEW_RETURN_IF_ERROR(inner_->after_step(step, theta));
    if ((step + 1) % every_ != 0) return Status::Ok();
    const Vec own = Vec::copy_of(theta);
    SINEW_RETURN_IF_ERROR(members_.all_reduce(theta, true));
    moved_ += squared_distance(theta, own.view());
    ++averages_;
    return Status::Ok();
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
    return c;
  }
  SchemeState save() const override {
    SchemeState state = inner_->save();
    state.numbers["averages"] = averages_;
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    auto found = state.numbers.find("averages");
    if (found == state.numbers.end()) return Status(StatusCode::data_error, "the saved scheme has no 'averages'");
    averages_ = found->second;
    members_.load(state);
    return inner_->load(state);
  }

 private:
  const int64_t every_;
  const uint64_t fingerprint_;
  Lockstep members_;
  const std::unique_ptr<Scheme> inner_;
  double moved_ = 0;
  int64_t averages_ = 0;
};

}  // namespace

std::unique_ptr<Scheme> make_global_average(const SchemeOptions& options, World& world, std::unique_ptr<Scheme> inner) {
  return std::make_unique<GlobalAverage>(options, world, std::move(inner));
}

}  // namespace sinew::dist
