#include "dist/schemes/center_scheme.h"

#include <cmath>

#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

// How often a worker that waits for a center looks whether it is back.
constexpr Nanos kLook = 100 * kMillisecond;
// Deadlines that a new center has until it answers, and after which nobody new is waited for.
constexpr int kPatience = 4;

}  // namespace

CenterScheme::CenterScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
    : world_(world),
      period_(options.period),
      fingerprint_(options.fingerprint),
      dtype_(dtype),
      device_(device),
      shards_{size, options.shard},
      measured_apart_(center_rule(options, size).measures_apart()),
      options_(options),
      packing_(packing_of(options.wire)),
      client_(world, options.workers, shards_, dtype, options.deadline, packing_),
      known_(shards_.count()),
      unsent_(packing_ == Packing::none ? Vec() : Vec::zeros(size, dtype)) {}

Rank CenterScheme::seat() const {
  const auto ended = [&](Rank r) {
    const PeerState s = world_.peer(r);
    return s == PeerState::gone || s == PeerState::left;
  };
  if (!ended(options_.workers)) return options_.workers;
  for (Rank r = 0; r < world_.rank(); ++r)
    if (!ended(r)) return r;
  return world_.rank();
}

bool CenterScheme::is_majority() const {
  int here = 0;
  for (Rank r = 0; r < options_.workers; ++r) here += r == world_.rank() || world_.peer(r) != PeerState::gone;
  return 2 * here > options_.workers + 1;
}

Status CenterScheme::take_over(ConstVecView theta) {
  if (server_) return Status::Ok();
  Vec center = Vec::empty(shards_.size, dtype_);
  for (int s = 0; s < shards_.count(); ++s) {
    const VecView place = part(center.mutable_view(), s);
    if (known_[s].size() > 0)
      upload(known_[s].data(), place);
    else
      download(part(theta, s), place.data);
  }
  server_ = std::make_unique<CenterServer>(world_, options_.workers, shards_, dtype_, fingerprint_,
                                           center_rule(options_, shards_.size), packing_);
  server_->require((options_.workers + 1) / 2 + 1);
  note(detail::concat("the center is gone: this worker, rank ", world_.rank(), ", takes it over, as it last saw it"));
  return server_->start(center.view());
}

Result<bool> CenterScheme::go_on(Result<bool> complete, ConstVecView theta) {
  if (complete.ok() && *complete) patience_.reset();
  // The others find a new center with their next exchange, so that one that fails says little.
  if (patience_ && ++unanswered_ > 1 && patience_->left() == 0)
    return make_status(StatusCode::peer_lost, "the center is gone, and less than a majority of the workers is here");
  if (complete.ok() || complete.status().code() != StatusCode::peer_lost) return complete;
  const Rank center = seat();
  if (center == client_.center()) return false;  // it is dead, and may come back
  if (!is_majority()) return complete;
  note(detail::concat("the center, rank ", client_.center(), ", is gone; rank ", center, " is the center now"));
  client_.move_to(center);
  patience_.emplace(world_, kPatience * options_.deadline);
  unanswered_ = 0;
  if (center == world_.rank()) SINEW_RETURN_IF_ERROR(take_over(theta));
  return false;
}

Status CenterScheme::start(VecView theta) {
  const bool first = world_.incarnation() == 0;
  // One that has seen nothing yet knows the start, unless it comes back in the midst of a run.
  client_.on_seed([this, first](int s) { return first || known_[s].size() > 0 ? known_[s] : Payload(); });
  if (first) {
    const Status joined = client_.join(fingerprint_);
    return joined.code() == StatusCode::peer_lost ? Status::Ok() : joined;  // exchanges find the next center
  }
  client_.on_seed({});
  const auto adopt = [&] {
    SINEW_RETURN_IF_ERROR(client_.join(fingerprint_));
    return client_.fetch([&](int s, const Payload& c) {
      known_[s] = c;
      upload(c.data(), part(theta, s));
    });
  };
  const Deadline deadline(world_, options_.deadline);
  Status adopted;
  bool waits = false;
  do {
    if (const Rank center = seat(); center != client_.center()) client_.move_to(center);
    if (client_.center() == world_.rank() && is_majority()) SINEW_RETURN_IF_ERROR(take_over(theta));
    adopted = adopt();
    waits = adopted.code() == StatusCode::peer_lost || adopted.code() == StatusCode::timeout;
    if (waits) world_.sleep(kLook);  // the center may be on its way back, or others on theirs to this one
  } while (waits && deadline.left() > 0);
  if (server_ && adopted.code() == StatusCode::timeout) {
    // Nobody is there that has seen a center: training begins anew.
    client_.on_seed([](int) { return Payload(); });
    client_.move_to(world_.rank());
    adopted = adopt();
  }
  client_.on_seed([this](int s) { return known_[s]; });
  return adopted;
}

Status CenterScheme::evaluation_point(ConstVecView theta, VecView out) {
  if (server_) {
    server_->snapshot(out);
    return Status::Ok();
  }
  if (measured_apart_) {
    Result<bool> complete =
        client_.pull([&](int s, const Payload& c) { upload(c.data(), part(out, s)); }, Wanted::measured);
    if (!complete.ok() && complete.status().code() != StatusCode::peer_lost) return complete.status();
    if (complete.ok() && *complete) return Status::Ok();
  }
  for (int s = 0; s < shards_.count(); ++s) {
    if (known_[s].size() > 0)
      upload(known_[s].data(), part(out, s));
    else
      copy(part(theta, s), part(out, s));  // nothing seen yet: all started from the same parameters
  }
  return Status::Ok();
}

Status CenterScheme::finish(VecView theta) {
  double distance2 = 0;
  bool all = true;
  for (int s = 0; s < shards_.count(); ++s) {
    all &= known_[s].size() > 0;
    if (all) distance2 += squared_distance(part(theta, s), on_device(known_[s]));
  }
  if (all) counters_.distance = std::sqrt(distance2);
  // After a change of center, a word from the new one: only with a majority it answers.
  while (patience_) {
    const Result<bool> seen = go_on(client_.pull([&](int s, const Payload& c) { known_[s] = c; }), theta);
    if (!seen.ok()) return seen.status();
    SINEW_RETURN_IF_ERROR(world_.health());
    if (patience_) world_.sleep(kLook);
  }
  const Status left = client_.leave();
  if (server_) {
    const Result<bool> done = server_->serve(kPatience * options_.deadline);
    if (!done.ok()) return done.status();
    if (!*done) {
      server_->expect_only_members();
      SINEW_RETURN_IF_ERROR(serve_all(*server_, world_));
    }
  }
  // With the center, only what it had not confirmed is lost.
  return left.code() == StatusCode::peer_lost ? Status::Ok() : left;
}

SchemeCounters CenterScheme::counters() const {
  SchemeCounters c = counters_;
  c.resent = client_.resent();
  c.lost = client_.lost_count();
  return c;
}

SchemeState CenterScheme::save() const {
  SchemeState state;
  client_.save(state);
  state.numbers["exchanges"] = counters_.exchanges;
  state.numbers["missed"] = counters_.missed;
  if (unsent_.defined()) state.vectors["unsent"] = unsent_.clone();
  for (int s = 0; s < shards_.count(); ++s)
    if (known_[s].size() > 0) state.vectors["center." + std::to_string(s)] = Vec::copy_of(known_[s].view(dtype_));
  return state;
}

Status CenterScheme::load(const SchemeState& state) {
  SINEW_RETURN_IF_ERROR(client_.load(state));
  SINEW_RETURN_IF_ERROR(load_numbers(state, {{"exchanges", &counters_.exchanges}, {"missed", &counters_.missed}}));
  if (unsent_.defined()) SINEW_RETURN_IF_ERROR(load_vector(state, "unsent", unsent_));
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

void CenterScheme::quantize(int shard, const Payload& difference) {
  if (packing_ == Packing::none) return;
  round_to_packing(packing_, difference.mutable_view(dtype_), part(unsent_.mutable_view(), shard));
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
