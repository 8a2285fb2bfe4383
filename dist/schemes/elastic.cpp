// Asynchronous elastic averaging: EASGD (Algorithm 1) and EAMSGD (Algorithm 2) of Zhang, Choromanska, LeCun,
// arXiv:1412.6651v8. The exchange is the same in both; what differs is the optimizer (plain SGD, or Nesterov's
// momentum in Sutskever's form), which is not this file's business.
//
// When the period divides the step: d = h1 (x - c) is the worker's own move, h2 (x - c) the center's.
//   fixed weights      h1 = h2 = alpha: each shard's d is sent as soon as it is here, so that transfer, difference and
//                      addition overlap
//   dynamic, oracle    both follow from the whole distance (dist/weighting.h), so all shards are fetched first
//   update_order pre   d is computed from the x before the gradient, which is taken at the unmoved x, and applied after
//                      the optimizer (Algorithm 1)
//   update_order post  x moves at once and the gradient is taken there
// With overlap the center is asked for so many steps before, and comes during their computation: c is that much older,
// and d the same number on both sides as ever.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "dist/rules.h"
#include "dist/schemes/center_scheme.h"
#include "dist/schemes/schemes.h"
#include "dist/weighting.h"

namespace sinew::dist {
namespace {

// So many exchanges of each other worker behind, parameters are of no use to them.
constexpr int64_t kStale = 10;

class Elastic final : public CenterScheme {
 public:
  Elastic(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
      : CenterScheme(options, world, size, dtype, device),
        alpha_(moving_rate(options)),
        post_(moves_first(options)),
        shares_scores_(options.weighting.peers),
        workers_(options.workers),
        overlap_(options.overlap),
        parameters_(parameters_of(options, size)),
        weighting_(options.weighting, alpha_, parameters_),
        log_(options.on_weights),
        pending_(shards_.count()) {}

  Mixes mixes() const override { return post_ ? Mixes::before : Mixes::after; }

  Status before_step(int64_t step, VecView theta) override {
    const int64_t ahead = step + overlap_;
    if (overlap_ > 0 && ahead % period_ == 0 && !world_.suppressed(ahead / period_)) client_.ask_early();
    if (step % period_ != 0) return Status::Ok();
    remember(theta);
    const int64_t round = step / period_;
    if (world_.suppressed(round)) {
      weighting_.miss();
      ++counters_.missed;
      return Status::Ok();
    }
    Result<bool> complete = false;
    if (const int64_t stops = world_.stops(); stops != std::exchange(stops_, stops)) {
      complete = go_on(come_back(round, theta));
      if (!complete.ok()) return complete.status();
    }
    if (!*complete) complete = go_on(weighting_.fixed() ? exchange(round, theta) : weigh(round, theta));
    if (!complete.ok()) return complete.status();
    if (!*complete) weighting_.miss();
    ++(*complete ? counters_.exchanges : counters_.missed);
    if (post_) move(theta);
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    if (!post_) move(theta);
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = CenterScheme::save();
    weighting_.save(state.numbers);
    return state;
  }
  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(CenterScheme::load(state));
    weighting_.load(state.numbers);
    return Status::Ok();
  }

 private:
  // After it was stopped: true when the others went on so far that it takes over the center.
  Result<bool> come_back(int64_t round, ConstVecView theta) {
    client_.forget_early();  // that answer is as old as the stop
    const int64_t before = client_.version();
    Result<bool> complete = client_.pull([&](int s, const Payload& c) { known_[s] = c; });
    if (complete.ok() && *complete) {
      adopts_ = client_.version() - before > kStale * workers_ * shards_.count();
      if (adopts_) adopt(round, distance_to_known(theta), "stopped: the others went on");
      return adopts_;
    }
    return complete;
  }

  void adopt(int64_t round, double distance, const char* reason) {
    weighting_.forget();
    Weights w = weights_of(alpha_, 1);
    w.reason = reason;
    if (log_) log_({round, distance, w});
  }

  Result<bool> exchange(int64_t round, ConstVecView theta) {
    bool refused = false;
    worker_weight_ = alpha_;
    Result<bool> complete = client_.exchange([&](int s, const Payload& c) {
      known_[s] = c;
      auto [d, distance2] = own_difference(alpha_, theta, s);
      refused |= d.size() == 0;
      pending_moved_ += alpha_ * alpha_ * distance2;
      Rounded sent = d.size() > 0 ? quantize(s, std::move(d)) : Rounded();
      pending_[s] = sent.numbers;
      return sent;
    });
    // What is not finite cannot be pulled back: this worker takes over the center.
    adopts_ = refused && complete.ok() && *complete;
    if (adopts_) adopt(round, distance_to_known(theta), "failed: the distance is not finite");
    return complete.ok() ? Result<bool>(*complete && !refused) : complete;
  }

  // Squared, of the parameters from the center as last seen.
  double scored_distance2(ConstVecView theta, int s) {
    const int64_t n = std::clamp<int64_t>(parameters_ - shards_.begin(s), 0, shards_.length(s));
    return squared_distance(part(theta, s).slice(0, n), on_device(known_[s]).slice(0, n));
  }
  double distance_to_known(ConstVecView theta) {
    double sum2 = 0;
    for (int s = 0; s < shards_.count(); ++s) sum2 += scored_distance2(theta, s);
    return std::sqrt(sum2);
  }

  Result<bool> weigh(int64_t round, ConstVecView theta) {
    std::vector<double> scored2(known_.size()), distance2(known_.size());
    Result<bool> complete = client_.pull([&](int s, const Payload& c) {
      known_[s] = c;
      scored2[s] = scored_distance2(theta, s);
    });
    if (!complete.ok() || !*complete) return complete;
    const double distance = std::sqrt(std::accumulate(scored2.begin(), scored2.end(), 0.0));
    // While the center was away the worker trained on, or the center is one of before: what the distance has grown by
    // is not this worker's failure.
    if (const int64_t now = client_.renewals(); now != std::exchange(renewals_, now)) weighting_.forget();
    const Weights w = weighting_.contact(round, distance, client_.score_of_others());
    if (shares_scores_ && !std::isnan(w.score)) client_.send_score(w.score);
    if (log_ && (w.worker != alpha_ || w.center != alpha_)) log_({round, distance, w});
    std::vector<Payload> sent(known_.size());
    const bool pushed = w.center == 0 || client_.push([&](int s) {
      auto made = own_difference(w.center, theta, s);
      distance2[s] = made.second;
      Rounded d = made.first.size() > 0 ? quantize(s, std::move(made.first)) : Rounded();
      sent[s] = d.numbers;
      return d;
    });
    if (!pushed) return false;
    worker_weight_ = w.worker;
    // Adopting is copying: what is not finite cannot be subtracted away.
    adopts_ = w.worker == 1 && (post_ || !std::isfinite(distance));
    for (int s = 0; s < shards_.count() && !adopts_; ++s) {
      if (w.worker == w.center)
        pending_[s] = std::move(sent[s]);
      else
        std::tie(pending_[s], distance2[s]) = own_difference(w.worker, theta, s);
      pending_moved_ += w.worker * w.worker * distance2[s];
    }
    return true;
  }

  // weight (x - c) with the center as last seen, and ||x - c||^2. Empty and 0 when it is not finite: that must not
  // reach the center, and through it everybody.
  std::pair<Payload, double> own_difference(double weight, ConstVecView theta, int s) {
    auto made = difference(weight, part(theta, s), on_device(known_[s]));
    return std::isfinite(made.second) ? std::move(made) : std::pair<Payload, double>();
  }

  void move(VecView theta) {
    bool finite = true;
    if (adopts_) pending_moved_ = 0;
    for (int s = 0; s < shards_.count(); ++s) {
      const VecView x = part(theta, s);
      if (adopts_) {
        const ConstVecView c = on_device(known_[s]);
        const double d2 = squared_distance(x, c);
        finite &= std::isfinite(d2);
        if (finite) pending_moved_ += d2;
        copy(c, x);
      } else if (pending_[s].size() > 0 && worker_weight_ != 0) {
        // With weight 0 nothing moves; adding zeros would still turn -0 into 0.
        accumulate(-1.0, on_device(pending_[s]), x);
      }
      pending_[s] = Payload();
    }
    adopts_ = false;
    // Parameters that were not finite have moved by all that the new ones are.
    if (const double size = finite ? 0 : norm(theta); !finite) pending_moved_ = size * size;
    moved_ += std::exchange(pending_moved_, 0.0);
  }

  const double alpha_;
  const bool post_, shares_scores_;
  const int workers_;
  const int64_t overlap_;             // steps
  int64_t stops_ = 0, renewals_ = 0;  // of the world and of the center, as last seen
  const int64_t parameters_;
  Weighting weighting_;
  const WeightsLog log_;
  std::vector<Payload> pending_;  // this worker's move, not yet applied to x; by shard
  double worker_weight_ = 0, pending_moved_ = 0;
  bool adopts_ = false;  // the move is to take the center's values
};

}  // namespace

std::unique_ptr<Scheme> make_elastic(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                     Device device) {
  return std::make_unique<Elastic>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
