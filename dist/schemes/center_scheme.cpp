#include "dist/schemes/center_scheme.h"

#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {

CenterScheme::CenterScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
    : world_(world),
      period_(options.period),
      fingerprint_(options.fingerprint),
      dtype_(dtype),
      device_(device),
      shards_{size, options.shard},
      measured_apart_(center_rule(options, size).measures_apart()),
      client_(world, options.workers, shards_, dtype, options.deadline),
      known_(shards_.count()) {}

Status CenterScheme::start(VecView theta) {
  SINEW_RETURN_IF_ERROR(client_.join(fingerprint_));
  if (world_.incarnation() == 0) return Status::Ok();
  return client_.fetch([&](int s, const Payload& c) {
    known_[s] = c;
    upload(c.data(), part(theta, s));
  });
}

Status CenterScheme::evaluation_point(ConstVecView theta, VecView out) {
  if (measured_apart_) {
    Result<bool> complete =
        client_.pull([&](int s, const Payload& c) { upload(c.data(), part(out, s)); }, Wanted::measured);
    if (!complete.ok()) return complete.status();
    if (*complete) return Status::Ok();
  }
  for (int s = 0; s < shards_.count(); ++s) {
    if (known_[s].size() > 0)
      upload(known_[s].data(), part(out, s));
    else
      copy(part(theta, s), part(out, s));  // nothing seen yet: all started from the same parameters
  }
  return Status::Ok();
}

SchemeCounters CenterScheme::counters() const {
  SchemeCounters c = counters_;
  c.resent = client_.resent();
  return c;
}

SchemeState CenterScheme::save() const {
  SchemeState state;
  client_.save(state);
  state.numbers["exchanges"] = counters_.exchanges;
  state.numbers["missed"] = counters_.missed;
  for (int s = 0; s < shards_.count(); ++s)
    if (known_[s].size() > 0) state.vectors["center." + std::to_string(s)] = Vec::copy_of(known_[s].view(dtype_));
  return state;
}

Status CenterScheme::load(const SchemeState& state) {
  SINEW_RETURN_IF_ERROR(client_.load(state));
  SINEW_RETURN_IF_ERROR(load_numbers(state, {{"exchanges", &counters_.exchanges}, {"missed", &counters_.missed}}));
  for (int s = 0; s < shards_.count(); ++s) {
    auto found = state.vectors.find("center." + std::to_string(s));
    if (found == state.vectors.end()) continue;
    if (found->second.size() != shards_.length(s) || found->second.dtype() != dtype_)
      return make_status(StatusCode::data_error, "saved '", found->first, "' has ", found->second.size(), " elements");
    known_[s] = Payload::copy_of(found->second.view());
  }
  return Status::Ok();
}

std::pair<Payload, double> CenterScheme::difference(double factor, ConstVecView x, ConstVecView y) {
  Payload d = Payload::allocate(x.bytes());
  if (device_ == Device::cpu) {
    const double distance2 = elastic_difference(factor, x, y, d.mutable_view(dtype_));
    return {std::move(d), distance2};
  }
  Vec there = Vec::empty(x.size, dtype_, device_);
  const double distance2 = elastic_difference(factor, x, y, there.mutable_view());
  download(there.view(), d.data());
  return {std::move(d), distance2};
}

ConstVecView CenterScheme::on_device(const Payload& payload) {
  const ConstVecView host = payload.view(dtype_);
  if (device_ == Device::cpu) return host;
  staging_ = Vec::empty(host.size, dtype_, device_);
  upload(host.data, staging_.mutable_view());
  return staging_.view();
}

CenterRule center_rule(const SchemeOptions& o, int64_t size) {
  CenterRule rule;
  if (o.name == "mdownpour") rule.momentum = o.outer_momentum, rule.moving = parameters_of(o, size);
  if (o.name == "adownpour") rule.average = CenterRule::Average::all;
  if (o.name == "mvadownpour") rule.average = CenterRule::Average::moving, rule.rate = o.average_rate;
  return rule;
}

}  // namespace sinew::dist
