// Elastic averaging in lockstep. Every worker keeps a replica of the center c; all replicas have equal bits because the
// all-reduce gives equal bits. Every `period` steps:
//   jacobi        d_i = alpha (x_i - c) from one c;  c += sum_i d_i;  gradient at the unmoved x_i;  x_i -= d_i
//                 (Zhang et al., arXiv:1412.6651v8, Eq. 5-6)
//                 With weights that differ from alpha (dist/weighting.h): c += sum_i h2_i (x_i - c), x_i -= h1_i (x_i -
//                 c); with update_order post the gradient is taken after that
//   gauss_seidel  x_i -= alpha (x_i - c);  gradient at the moved x_i;  c += (beta / p) sum_i (x_i_new - c)
//                 (Zhang, PhD thesis 2016, Eq. 6.3; alpha and beta independent)
// With scheme.wire the center moves by rounded differences, and later by what rounding has left of them: with the
// residuals, times beta / p for gauss_seidel, the sum is kept.
// A suppressed worker adds zero and does not move, but still takes part, so that the replicas stay equal. One whose
// parameters are not finite adds zero and takes over the c from before the round.
#include <cmath>
#include <limits>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/lockstep.h"
#include "dist/schemes/schemes.h"
#include "dist/weighting.h"

namespace sinew::dist {
namespace {

class ElasticSync final : public Scheme {
 public:
  ElasticSync(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : world_(world),
        period_(o.period),
        alpha_(moving_rate(o)),
        beta_(o.beta >= 0 ? o.beta : o.workers * moving_rate(o)),
        gauss_seidel_(o.order == "gauss_seidel"),
        moves_first_(gauss_seidel_ || moves_first(o)),
        parameters_(parameters_of(o, size)),
        weighting_(o.weighting, alpha_, parameters_),
        log_(o.on_weights),
        fingerprint_(o.fingerprint),
        members_(world, o),
        center_(Vec::zeros(size, dtype, device)),
        difference_(Vec::zeros(size, dtype, device)),
        sum_(Vec::zeros(size, dtype, device)) {
    if (!weighting_.fixed()) own_ = Vec::zeros(size, dtype, device);
  }

  Mixes mixes() const override { return moves_first_ ? Mixes::before : Mixes::after; }
  Evaluated evaluated() const override { return Evaluated::center; }

  Status start(VecView theta) override {
    copy(theta, center_.mutable_view());
    return members_.start(fingerprint_);
  }

  Status before_step(int64_t step, VecView theta) override {
    if (step % period_ != 0) return Status::Ok();
    active_ = !world_.suppressed(step / period_) && make_difference(step / period_, theta);
    if (!active_) {
      weighting_.miss();
      fill(difference_.mutable_view(), 0);
    }
    ++(active_ && gives_ ? counters_.exchanges : counters_.missed);
    if (moves_first_) move(theta);
    if (gauss_seidel_) return Status::Ok();
    copy(difference_.view(), sum_.mutable_view());
    SINEW_RETURN_IF_ERROR(members_.all_reduce_packed(sum_.mutable_view(), false));
    accumulate(1.0, sum_.view(), center_.mutable_view());
    return Status::Ok();
  }

  Status after_step(int64_t step, VecView theta) override {
    if (step % period_ != 0) return Status::Ok();
    if (!moves_first_) move(theta);
    if (!gauss_seidel_) return Status::Ok();
    if (active_) axpby(1.0, theta, -1.0, center_.view(), sum_.mutable_view());
    if (!active_ || !all_finite(sum_.view())) fill(sum_.mutable_view(), 0);
    SINEW_RETURN_IF_ERROR(members_.all_reduce_packed(sum_.mutable_view(), false));
    accumulate(beta_ / members_.size(), sum_.view(), center_.mutable_view());
    return Status::Ok();
  }

  Status evaluation_point(ConstVecView, VecView out) override {
    copy(center_.view(), out);
    return Status::Ok();
  }

  Status finish(VecView) override { return members_.finish(); }

  double take_external_write() override { return std::exchange(moved_, 0.0); }

  SchemeCounters counters() const override { return counters_; }
  SchemeState save() const override {
    SchemeState state{{{"center", center_.clone()}},
                      {{"exchanges", counters_.exchanges}, {"missed", counters_.missed}}};
    weighting_.save(state.numbers);
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    auto center = state.vectors.find("center");
    auto exchanges = state.numbers.find("exchanges"), missed = state.numbers.find("missed");
    if (center == state.vectors.end() || exchanges == state.numbers.end() || missed == state.numbers.end() ||
        center->second.size() != center_.size() || center->second.dtype() != center_.dtype())
      return make_status(StatusCode::data_error, "the saved scheme does not fit: a center of ", center_.size(), " ",
                         to_string(center_.dtype()), " is expected");
    std::vector<char> host(center->second.view().bytes());
    download(center->second.view(), host.data());
    upload(host.data(), center_.mutable_view());
    counters_.exchanges = exchanges->second;
    counters_.missed = missed->second;
    weighting_.load(state.numbers);
    return members_.load(state);
  }

 private:
  // What the center gets, in difference_, and where this worker goes. False: it has nothing to give.
  bool make_difference(int64_t round, ConstVecView theta) {
    const VecView d = difference_.mutable_view();
    Weights w{alpha_, alpha_};
    double distance = std::numeric_limits<double>::quiet_NaN();
    if (!weighting_.fixed()) {
      distance = scored_distance(theta);
      w = weighting_.contact(round, distance, std::numeric_limits<double>::quiet_NaN());
    }
    const double distance2 = elastic_difference(w.center, theta, center_.view(), d);
    gives_ = std::isfinite(distance2);
    if (!gives_ && alpha_ == 0) return false;
    if (!gives_ && (w.worker != 1 || w.center != 0)) {
      distance = scored_distance(theta);
      weighting_.forget();
      w = weights_of(alpha_, 1);
      w.reason = "failed: the distance is not finite";
    }
    if (log_ && (w.worker != alpha_ || w.center != alpha_)) log_({round, distance, w});
    worker_weight_ = w.worker;
    // Parameters that are not finite must not reach the center, and through it everybody. Nor does any weight pull them
    // back: adopting is copying. They move by all that the new ones are.
    if (!gives_) {
      fill(d, 0);
      const double size = norm(center_.view());
      pending_moved_ = size * size;
      return adopt();
    }
    pending_moved_ = w.worker * w.worker * distance2;
    if (weighting_.fixed()) return true;
    if (w.worker == 1 && moves_first_) return adopt();
    if (w.worker != w.center)
      elastic_difference(w.worker, theta, center_.view(), own_.mutable_view());
    else
      copy(d, own_.mutable_view());
    return true;
  }

  double scored_distance(ConstVecView theta) const {
    return std::sqrt(squared_distance(theta.slice(0, parameters_), center_.view().slice(0, parameters_)));
  }

  bool adopt() {
    if (!own_.defined()) own_ = Vec::empty(center_.size(), center_.dtype(), center_.device());
    copy(center_.view(), own_.mutable_view());
    return adopts_ = true;
  }

  void move(VecView theta) {
    const ConstVecView own = weighting_.fixed() && !adopts_ ? difference_.view() : own_.view();
    if (active_ && adopts_)
      copy(own, theta);
    else if (active_ && worker_weight_ != 0)  // else nothing moves; adding zeros would still turn -0 into 0
      accumulate(-1.0, own, theta);
    adopts_ = false;
    moved_ += std::exchange(pending_moved_, 0.0);
  }

  World& world_;
  const int64_t period_;
  const double alpha_, beta_;
  const bool gauss_seidel_, moves_first_;
  const int64_t parameters_;
  Weighting weighting_;
  const WeightsLog log_;
  const uint64_t fingerprint_;
  Lockstep members_;
  Vec center_, difference_, sum_;
  Vec own_;              // this worker's move, where its weight is not the center's; or where it goes
  bool active_ = false;  // this step's exchange is not suppressed
  bool gives_ = false;   // and its difference is finite
  bool adopts_ = false;  // the move is to take the values of own_
  double worker_weight_ = 0, pending_moved_ = 0, moved_ = 0;
  SchemeCounters counters_;
};

}  // namespace

std::unique_ptr<Scheme> make_elastic_sync(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                          Device device) {
  return std::make_unique<ElasticSync>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
