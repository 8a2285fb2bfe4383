// Periodic global averaging, on top of any scheme between workers: every H steps all workers end the step with the
// exact mean of what the scheme has left them with (Gossip-PGA: Chen, Yuan, Zhang, Pan, Xu, Yin, arXiv:2105.09080).
// H = 1 is parallel SGD with averaged parameters, no H is the scheme alone.
//
// With scheme.wire workers exchange by how much they have moved since the last mean (since the start, at first, which
// is the same for all): rounded parameters would lose small steps until enough of them have come together.
//
// The mean is a collective: all must come to the same steps, and a restarted worker cannot join the others again.
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
      : every_(o.global_average_every), fingerprint_(o.fingerprint), members_(world, o), inner_(std::move(inner)) {
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
    if ((step + 1) % every_ != 0) return Status::Ok();
    const Vec own = Vec::copy_of(theta);
    SINEW_RETURN_IF_ERROR(average(theta));
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
    if (common_.defined()) state.vectors["common"] = common_.clone();
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    auto found = state.numbers.find("averages");
    if (found == state.numbers.end()) return Status(StatusCode::data_error, "the saved scheme has no 'averages'");
    averages_ = found->second;
    if (common_.defined()) SINEW_RETURN_IF_ERROR(load_vector(state, "common", common_));
    SINEW_RETURN_IF_ERROR(members_.load(state));
    return inner_->load(state);
  }

 private:
  Status average(VecView theta) {
    if (!common_.defined()) return members_.all_reduce(theta, true);
    const VecView c = common_.mutable_view();
    accumulate(-1.0, c, theta);
    SINEW_RETURN_IF_ERROR(members_.all_reduce_packed(theta, true));
    accumulate(1.0, c, theta);
    copy(theta, c);
    return Status::Ok();
  }

  const int64_t every_;
  const uint64_t fingerprint_;
  Lockstep members_;
  const std::unique_ptr<Scheme> inner_;
  Vec common_;  // with scheme.wire: the last mean
  double moved_ = 0;
  int64_t averages_ = 0;
};

}  // namespace

std::unique_ptr<Scheme> make_global_average(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                            Device device, std::unique_ptr<Scheme> inner) {
  return std::make_unique<GlobalAverage>(options, world, size, dtype, device, std::move(inner));
}

}  // namespace sinew::dist
