// Asynchronous elastic averaging: EASGD (Algorithm 1) and EAMSGD (Algorithm 2) of Zhang, Choromanska, LeCun,
// arXiv:1412.6651v8. The exchange is the same in both; what differs is the optimizer (plain SGD, or Nesterov's
// momentum in Sutskever's form), which is not this file's business.
//
// When the period divides the step: d = alpha (x - c) is computed from the x before the gradient and sent at once, so
// that the center's addition overlaps with the gradient, which is taken at the unmoved x. x -= d follows after the
// optimizer.
#include <cmath>

#include "dist/center.h"
#include "dist/rules.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

class Elastic final : public Scheme {
 public:
  Elastic(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
      : world_(world),
        period_(options.period),
        alpha_(moving_rate(options)),
        fingerprint_(options.fingerprint),
        dtype_(dtype),
        device_(device),
        shards_{size, options.shard},
        client_(world, options.workers, shards_, dtype, options.deadline),
        pending_(shards_.count()),
        known_(shards_.count()) {}

  Evaluated evaluated() const override { return Evaluated::center; }

  Status start(VecView theta) override {
    SINEW_RETURN_IF_ERROR(client_.join(fingerprint_));
    if (world_.incarnation() == 0) return Status::Ok();
    return client_.fetch([&](int s, const Payload& c) {
      known_[s] = c;
      upload(c.data(), part(theta, s));
    });
  }

  Status before_step(int64_t step, VecView theta) override {
    if (step % period_ != 0) return Status::Ok();
    if (world_.suppressed(step / period_)) {
      ++counters_.missed;
      return Status::Ok();
    }
    refused_ = false;
    Result<bool> complete = client_.exchange([&](int s, const Payload& c) {
      known_[s] = c;
      pending_[s] = difference(part(theta, s), c);
      return pending_[s];
    });
    if (!complete.ok()) return complete.status();
    ++(*complete && !refused_ ? counters_.exchanges : counters_.missed);
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    for (int s = 0; s < shards_.count(); ++s) {
      if (pending_[s].size() == 0) continue;
      // With alpha == 0 nothing moves; adding zeros would still turn -0 into 0.
      if (alpha_ != 0) accumulate(-1.0, on_device(pending_[s]), part(theta, s));
      pending_[s] = Payload();
    }
    moved_ += pending_moved_;
    pending_moved_ = 0;
    return Status::Ok();
  }

  Status evaluation_point(ConstVecView theta, VecView out) override {
    for (int s = 0; s < shards_.count(); ++s) {
      ConstVecView own = theta.slice(shards_.begin(s), shards_.length(s));
      if (known_[s].size() > 0)
        upload(known_[s].data(), part(out, s));
      else
        copy(own, part(out, s));  // nothing seen yet: all started from the same parameters
    }
    return Status::Ok();
  }

  Status finish(VecView) override { return client_.leave(); }

  double take_external_write() override { return std::exchange(moved_, 0.0); }

  SchemeCounters counters() const override {
    SchemeCounters c = counters_;
    c.resent = client_.resent();
    return c;
  }

  SchemeState save() const override {
    SchemeState state;
    client_.save(state);
    state.numbers["exchanges"] = counters_.exchanges;
    state.numbers["missed"] = counters_.missed;
    for (int s = 0; s < shards_.count(); ++s)
      if (known_[s].size() > 0) state.vectors["center." + std::to_string(s)] = Vec::copy_of(known_[s].view(dtype_));
    return state;
  }

  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(client_.load(state));
    for (auto [name, field] : {std::pair{"exchanges", &counters_.exchanges}, {"missed", &counters_.missed}}) {
      auto found = state.numbers.find(name);
      if (found == state.numbers.end())
        return make_status(StatusCode::data_error, "the saved scheme has no '", name, "'");
      *field = found->second;
    }
    for (int s = 0; s < shards_.count(); ++s) {
      auto found = state.vectors.find("center." + std::to_string(s));
      if (found == state.vectors.end()) continue;
      if (found->second.size() != shards_.length(s) || found->second.dtype() != dtype_)
        return make_status(StatusCode::data_error, "saved '", found->first, "' has ", found->second.size(),
                           " elements");
      known_[s] = Payload::copy_of(found->second.view());
    }
    return Status::Ok();
  }

 private:
  template <class View>
  View part(View v, int s) const {
    return v.slice(shards_.begin(s), shards_.length(s));
  }

  // d as it is sent, in host memory.
  Payload difference(ConstVecView x, const Payload& c) {
    Payload d = Payload::allocate(c.size());
    double distance2;
    if (device_ == Device::cpu) {
      distance2 = elastic_difference(alpha_, x, c.view(dtype_), d.mutable_view(dtype_));
    } else {
      Vec there = Vec::empty(x.size, dtype_, device_);
      distance2 = elastic_difference(alpha_, x, on_device(c), there.mutable_view());
      download(there.view(), d.data());
    }
    // Parameters that are not finite must not reach the center, and through it everybody: nothing moves.
    if (!std::isfinite(distance2)) {
      refused_ = true;
      fill(d.mutable_view(dtype_), 0);
      return d;
    }
    pending_moved_ += alpha_ * alpha_ * distance2;
    return d;
  }

  ConstVecView on_device(const Payload& p) {
    ConstVecView host = p.view(dtype_);
    if (device_ == Device::cpu) return host;
    staging_ = Vec::empty(host.size, dtype_, device_);
    upload(host.data, staging_.mutable_view());
    return staging_.view();
  }

  World& world_;
  const int64_t period_;
  const double alpha_;
  const uint64_t fingerprint_;
  const DType dtype_;
  const Device device_;
  const Shards shards_;
  CenterClient client_;
  std::vector<Payload> pending_;  // sent, not yet applied to x; by shard
  std::vector<Payload> known_;    // the center as last seen
  Vec staging_;
  double pending_moved_ = 0, moved_ = 0;
  bool refused_ = false;  // by this exchange: a difference that is not finite
  SchemeCounters counters_;
};

}  // namespace

std::unique_ptr<Scheme> make_elastic(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                     Device device) {
  return std::make_unique<Elastic>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
