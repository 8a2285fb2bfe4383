// Local SGD with an outer optimizer, in lockstep. Every worker takes `period` steps of its own from the common center
// c; then g = mean_i (c - x_i) is a gradient for the outer optimizer, which moves c, and every worker goes on from
// there.
//   none      c -= b g                         b = 1: Local SGD (Stich, arXiv:1805.09767), Federated Averaging;
//                                              one worker, b < 1: Lookahead (Zhang et al., arXiv:1907.08610)
//   momentum  v = m v + g,  c -= b v           SlowMo (Wang et al., arXiv:1910.00643, Algorithm 1, constant learning
//                                              rate), BMUF (Chen and Huo 2016)
//   nesterov  v = m v + g,  c -= b (g + m v)   DiLoCo (Douillard et al., arXiv:2311.08105)
// The workers' own optimizers keep their state. Buffers (batch norm's statistics) are averaged, without momentum.
// A suppressed worker adds zero and goes on from its own x, but still takes part, so that all centers stay equal.
#include <cmath>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/lockstep.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

class LocalSgd final : public Scheme {
 public:
  LocalSgd(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : world_(world),
        period_(o.period),
        lr_(o.outer_lr),
        momentum_(o.outer == "none" ? 0 : o.outer_momentum),
        nesterov_(o.outer == "nesterov"),
        parameters_(parameters_of(o, size)),
        fingerprint_(o.fingerprint),
        members_(world, o),
        center_(Vec::zeros(size, dtype, device)),
        gradient_(Vec::zeros(size, dtype, device)) {
    if (momentum_ != 0) velocity_ = Vec::zeros(parameters_, dtype, device);
  }

  Evaluated evaluated() const override { return Evaluated::center; }

  Status start(VecView theta) override {
    copy(theta, center_.mutable_view());
    return members_.start(fingerprint_);
  }

  Status after_step(int64_t step, VecView theta) override {
    ++since_;
    return (step + 1) % period_ == 0 ? round(step / period_, theta) : Status::Ok();
  }

  // A last round may be shorter. All workers have taken as many steps, so all are here.
  Status finish(VecView theta) override {
    if (since_ > 0) SINEW_RETURN_IF_ERROR(round(rounds_, theta));
    return members_.finish();
  }

  Status evaluation_point(ConstVecView, VecView out) override {
    copy(center_.view(), out);
    return Status::Ok();
  }

  double take_external_write() override { return std::exchange(moved_, 0.0); }
  SchemeCounters counters() const override { return counters_; }

  SchemeState save() const override {
    SchemeState state{
        {{"center", center_.clone()}},
        {{"exchanges", counters_.exchanges}, {"missed", counters_.missed}, {"since", since_}, {"rounds", rounds_}}};
    if (velocity_.defined()) state.vectors["velocity"] = velocity_.clone();
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(load_vector(state, "center", center_));
    if (velocity_.defined()) SINEW_RETURN_IF_ERROR(load_vector(state, "velocity", velocity_));
    SINEW_RETURN_IF_ERROR(members_.load(state));
    return load_numbers(
        state,
        {{"exchanges", &counters_.exchanges}, {"missed", &counters_.missed}, {"since", &since_}, {"rounds", &rounds_}});
  }

 private:
  Status round(int64_t round, VecView theta) {
    since_ = 0;
    rounds_ = round + 1;
    const VecView g = gradient_.mutable_view(), c = center_.mutable_view();
    const bool suppressed = world_.suppressed(round);
    // Parameters that are not finite must not reach the center, and through it everybody.
    const bool gives = !suppressed && std::isfinite(elastic_difference(-1.0, theta, center_.view(), g));
    if (!gives) fill(g, 0);
    ++(gives ? counters_.exchanges : counters_.missed);
    SINEW_RETURN_IF_ERROR(members_.all_reduce_packed(g, true));
    outer_step(g.slice(0, parameters_), c.slice(0, parameters_));
    accumulate(-1.0, g.slice(parameters_, g.size - parameters_), c.slice(parameters_, c.size - parameters_));
    if (suppressed) return Status::Ok();
    if (const double d2 = squared_distance(theta, c); std::isfinite(d2)) moved_ += d2;
    copy(c, theta);
    return Status::Ok();
  }

  void outer_step(ConstVecView g, VecView c) {
    if (!velocity_.defined()) return accumulate(-lr_, g, c);
    const VecView v = velocity_.mutable_view();
    axpby(1.0, g, momentum_, v, v);
    if (nesterov_) accumulate(-lr_, g, c);
    accumulate(nesterov_ ? -lr_ * momentum_ : -lr_, v, c);
  }

  World& world_;
  const int64_t period_;
  const double lr_, momentum_;
  const bool nesterov_;
  const int64_t parameters_;  // leading elements that have momentum; buffers follow
  const uint64_t fingerprint_;
  Lockstep members_;
  Vec center_, gradient_, velocity_;
  int64_t since_ = 0, rounds_ = 0;  // steps since the last round; rounds so far
  double moved_ = 0;
  SchemeCounters counters_;
};

}  // namespace

std::unique_ptr<Scheme> make_local_sgd(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                       Device device) {
  return std::make_unique<LocalSgd>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
