// Synchronous data parallelism: every worker steps with the mean of all workers' gradients, so all parameters stay
// equal. With scheme.wire gradients carry on what rounding left of the last ones, and so do diagonals.
// A suppressed worker gives zero, which counts in the mean, and makes the same step as all: on its own it could never
// come back. Its buffers take part as ever, since zeros would be taken for statistics.
#include "dist/schemes/lockstep.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

class AllReduce final : public Scheme {
 public:
  AllReduce(const SchemeOptions& options, World& world)
      : world_(world), options_(options), fingerprint_(options.fingerprint), members_(world, options) {}

  Evaluated evaluated() const override { return Evaluated::own; }
  Status start(VecView) override { return members_.start(fingerprint_); }
  Status before_step(int64_t step, VecView) override {
    suppressed_ = world_.suppressed(step);
    return Status::Ok();
  }
  Status reduce(VecView statistic, Statistic which) override {
    if (suppressed_) fill(statistic.slice(0, parameters_of(options_, statistic.size)), 0);
    SINEW_RETURN_IF_ERROR(members_.all_reduce_packed(statistic, true, static_cast<size_t>(which)));
    ++(suppressed_ ? counters_.missed : counters_.exchanges);
    return Status::Ok();
  }
  bool reduces() const override { return true; }
  Status evaluation_point(ConstVecView theta, VecView out) override {
    copy(theta, out);
    return Status::Ok();
  }
  Status finish(VecView) override { return members_.finish(); }
  SchemeState save() const override {
    SchemeState state{{}, {{"exchanges", counters_.exchanges}, {"missed", counters_.missed}}};
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(load_numbers(state, {{"exchanges", &counters_.exchanges}, {"missed", &counters_.missed}}));
    return members_.load(state);
  }
  SchemeCounters counters() const override { return counters_; }

 private:
  World& world_;
  const SchemeOptions options_;
  const uint64_t fingerprint_;
  Lockstep members_;
  bool suppressed_ = false;  // in this step
  SchemeCounters counters_;
};

}  // namespace

std::unique_ptr<Scheme> make_all_reduce(const SchemeOptions& options, World& world) {
  return std::make_unique<AllReduce>(options, world);
}

}  // namespace sinew::dist
