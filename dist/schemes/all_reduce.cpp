// Synchronous data parallelism: every worker steps with the mean of all workers' gradients, so all parameters stay
// equal. With scheme.wire gradients carry on what rounding left of the last ones, and so do diagonals.
#include "dist/schemes/lockstep.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

class AllReduce final : public Scheme {
 public:
  AllReduce(const SchemeOptions& options, World& world) : fingerprint_(options.fingerprint), members_(world, options) {}

  Evaluated evaluated() const override { return Evaluated::own; }
  Status start(VecView) override { return members_.start(fingerprint_); }
  Status reduce(VecView statistic, Statistic which) override {
    SINEW_RETURN_IF_ERROR(members_.all_reduce_packed(statistic, true, static_cast<size_t>(which)));
    ++counters_.exchanges;
    return Status::Ok();
  }
  bool reduces() const override { return true; }
  Status evaluation_point(ConstVecView theta, VecView out) override {
    copy(theta, out);
    return Status::Ok();
  }
  Status finish(VecView) override { return members_.finish(); }
  SchemeState save() const override {
    SchemeState state{{}, {{"exchanges", counters_.exchanges}}};
    members_.save(state);
    return state;
  }
  Status load(const SchemeState& state) override {
    auto found = state.numbers.find("exchanges");
    if (found == state.numbers.end()) return Status(StatusCode::data_error, "the saved scheme has no 'exchanges'");
    counters_.exchanges = found->second;
    return members_.load(state);
  }
  SchemeCounters counters() const override { return counters_; }

 private:
  const uint64_t fingerprint_;
  Lockstep members_;
  SchemeCounters counters_;
};

}  // namespace

std::unique_ptr<Scheme> make_all_reduce(const SchemeOptions& options, World& world) {
  return std::make_unique<AllReduce>(options, world);
}

}  // namespace sinew::dist
