// ADMM over a center node, with the objective linearised in the worker's step (Zhang, Choromanska, LeCun,
// arXiv:1412.6651v8, section 4; lambda is the multiplier divided by rho). There the workers take turns; here, as in the
// paper's footnote 3, they come when they come: whose turn it is is the caller's business.
//
// When the period divides the step, with the c that this worker was answered and alpha = eta rho:
//   lambda <- lambda - (x - c)                                                                             Eq. 9
//   x      <- (x - eta g(x) + alpha (lambda + c)) / (1 + alpha)   the optimizer, then alpha / (1 + alpha)   Eq. 10
//             of the way to lambda + c; the gradient is taken at the unmoved x
//   c      <- c + (u - u') / p, where u = x - lambda now and u' is the u that the center has of this        Eq. 11
//             worker, so that c stays the mean over the workers of x - lambda
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/center_scheme.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

class Admm final : public CenterScheme {
 public:
  Admm(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
      : CenterScheme(options, world, size, dtype, device),
        share_(1.0 / options.workers),
        way_(moving_rate(options) / (1 + moving_rate(options))),
        dual_(Vec::zeros(size, dtype, device)),
        known_of_me_(Vec::zeros(size, dtype, device)),
        target_(Vec::zeros(size, dtype, device)) {}

  Status start(VecView theta) override {
    SINEW_RETURN_IF_ERROR(CenterScheme::start(theta));
    copy(theta, known_of_me_.mutable_view());
    return Status::Ok();
  }

  Status before_step(int64_t step, VecView theta) override {
    if (step % period_ != 0) return Status::Ok();
    remember(theta);
    if (!world_.suppressed(step / period_)) {
      Result<bool> complete = client_.pull([this](int s, const Payload& c) { known_[s] = c; });
      if (!complete.ok()) return complete.status();
      active_ = *complete;
    }
    if (!active_) {
      ++counters_.missed;
      return Status::Ok();
    }
    for (int s = 0; s < shards_.count(); ++s) {
      const ConstVecView c = on_device(known_[s]);
      const VecView lambda = part(dual_.mutable_view(), s);
      axpby(-1, part(theta, s), 1, lambda, lambda);
      accumulate(1, c, lambda);
      axpby(1, lambda, 1, c, part(target_.mutable_view(), s));
    }
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    if (!std::exchange(active_, false)) return Status::Ok();
    const double distance2 = move_toward(way_, target_.view(), theta);
    const bool finite = all_finite(theta);
    if (finite)
      moved_ += way_ * way_ * distance2;
    else
      adopt(theta);
    ++(finite ? counters_.exchanges : counters_.missed);
    axpby(1, theta, -1, dual_.view(), target_.mutable_view());
    const bool pushed = client_.push([&](int s) {
      return quantize(s, difference(share_, part(target_.view(), s), part(known_of_me_.view(), s)).first);
    });
    // Else too much is unconfirmed, and the center goes on with what it has of this worker until the next time.
    if (pushed) copy(target_.view(), known_of_me_.mutable_view());
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = CenterScheme::save();
    state.vectors["dual"] = dual_.clone();
    state.vectors["known_of_me"] = known_of_me_.clone();
    return state;
  }

  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(CenterScheme::load(state));
    SINEW_RETURN_IF_ERROR(load_vector(state, "dual", dual_));
    return load_vector(state, "known_of_me", known_of_me_);
  }

 private:
  // Parameters that are not finite must not reach the center: this worker goes on from the center.
  void adopt(VecView theta) {
    for (int s = 0; s < shards_.count(); ++s) copy(on_device(known_[s]), part(theta, s));
    fill(dual_.mutable_view(), 0);
  }

  const double share_, way_;
  Vec dual_;             // lambda
  Vec known_of_me_;      // x - lambda, as far as the center knows
  Vec target_;           // lambda + c, then x - lambda
  bool active_ = false;  // between before_step and after_step: an exchange has begun
};

}  // namespace

std::unique_ptr<Scheme> make_admm(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                  Device device) {
  return std::make_unique<Admm>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
