#include "dist/schemes/center_scheme.h"

#include <cmath>

#include "dist/rules.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

// Deadlines that a new center has until it answers, and after which nobody new is waited for.
constexpr int kPatience = 4;
// Before the names of what a worker saves that serves.
constexpr char kServed[] = "served.";

std::vector<Rank> homes(const SchemeOptions& options, int parts) {
  std::vector<Rank> nodes;
  for (int p = 0; p < parts; ++p) nodes.push_back(center_home(options, p));
  return nodes;
}

}  // namespace

CenterScheme::CenterScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
    : world_(world),
      period_(options.period),
      dtype_(dtype),
      device_(device),
      options_(options),
      setup_(center_setup(options, size, dtype, options.fingerprint)),
      client_(world, homes(options, setup_.shards.parts), setup_, options.deadline),
      known_(setup_.shards.count()),
      unsent_(setup_.packing == Packing::none ? Vec() : Vec::zeros(size, dtype)) {}

bool CenterScheme::is_gone(Rank r) const {
  const PeerState s = world_.peer(r);
  return s == PeerState::gone || s == PeerState::left;
}

Rank CenterScheme::seat(int part) const {
  if (const Rank home = center_home(options_, part); home == world_.rank() || !is_gone(home)) return home;
  for (Rank r = 0; r < world_.rank(); ++r)
    if (!is_gone(r)) return r;
  return world_.rank();
}

bool CenterScheme::has_majority() const {
  const auto here = [&](Rank r) { return r == world_.rank() || world_.peer(r) != PeerState::gone; };
  int count = 0;
  for (Rank r = 0; r < setup_.workers + setup_.servers; ++r) count += here(r);
  return is_majority(count, here(0), setup_.workers, setup_.servers);
}

bool CenterScheme::has_seen(int p) const {
  for (int s = shards_.first(p); s < shards_.first(p + 1); ++s)
    if (known_[s].size() == 0) return false;
  return true;
}

CenterClient::Memory CenterScheme::memory() {
  return {.has_seen = [this](int p) { return has_seen(p); },
          .tell =
              [this](int s) {
                if (known_[s].size() > 0) return known_[s];
                const ConstVecView own = part(theta_, s);
                Payload told = Payload::allocate(own.bytes());
                download(own, told.data());
                return told;
              }};
}

void CenterScheme::take_over(int part) {
  if (!server_) server_ = std::make_unique<CenterServer>(world_, setup_, std::vector<int>{});
  if (server_->serves(part)) return;
  server_->take_over(part);
  taken_over_.push_back(part);
}

void CenterScheme::wait_for_new_node() {
  patience_.emplace(world_, (ends_ ? kPatience : 1) * kPatience * options_.deadline);
}

Result<bool> CenterScheme::go_on(Result<bool> complete) {
  std::erase_if(taken_over_, [this](int part) {
    const std::string origin = server_->origin(part);
    if (!origin.empty()) note(detail::concat(name_of(part), ", at rank ", world_.rank(), " now, goes on ", origin));
    return !origin.empty();
  });
  if (client_.all_answered()) patience_.reset();
  // The others find a new node with their next exchange, so that one that fails says little.
  if (patience_ && ++unanswered_ > 1 && patience_->left() == 0)
    return make_status(StatusCode::peer_lost,
                       "the center is gone, and nothing can take its place: less than a majority of the workers is "
                       "here, or none has parameters that are finite");
  if (complete.ok() || complete.status().code() != StatusCode::peer_lost) return complete;
  for (int p = 0; p < shards_.parts; ++p) {
    const Rank next = seat(p), last = client_.node(p);
    if (shards_.empty(p) || next == last) continue;  // it lives, or is dead and may come back
    if (!has_majority()) return complete;
    const bool here = next == world_.rank();
    note(detail::concat(name_of(p), ", rank ", last, ", is gone; ",
                        here ? "this worker takes it over: rank " : "the worker that takes it over is rank ", next));
    client_.move_to(p, next);
    wait_for_new_node();
    unanswered_ = 0;
    if (here) take_over(p);
  }
  return false;
}

Status CenterScheme::start(VecView theta) {
  remember(theta);
  const bool first = world_.incarnation() == 0;
  if (setup_.servers == 0) {
    server_ = std::make_unique<CenterServer>(world_, setup_, std::vector<int>{static_cast<int>(world_.rank())});
    Vec initial = Vec::empty(shards_.size, dtype_);
    download(theta, initial.mutable_view().data);
    SINEW_RETURN_IF_ERROR(server_->start(initial.view()));
  }
  if (first) {
    client_.remember(memory());
    const Status joined = client_.join();
    // Exchanges find the next node; of several, they do not need all.
    const bool later =
        joined.code() == StatusCode::peer_lost || (joined.code() == StatusCode::timeout && shards_.parts > 1);
    return later ? Status::Ok() : joined;
  }
  const auto adopt = [&]() -> Status {
    std::vector<int> missing;
    for (int p = 0; p < shards_.parts; ++p)
      if (!has_seen(p)) missing.push_back(p);
    const Result<bool> complete = client_.pull(missing, [&](int s, const Payload& c) {
      known_[s] = c;
      upload(c.data(), part(theta, s));
    });
    if (!complete.ok()) return complete.status();
    if (*complete) return Status::Ok();
    return make_status(StatusCode::timeout, "no answer from ", name_of(missing.front()), ", rank ",
                       client_.node(missing.front()), ", for ", static_cast<double>(options_.deadline) * 1e-9, " s");
  };
  // Where this worker serves, the others tell it what its part was, with their next exchanges.
  const Deadline deadline(world_, (setup_.servers == 0 ? kPatience : 1) * options_.deadline);
  const Deadline longest(world_, kPatience * kPatience * options_.deadline);
  Status adopted;
  bool waits = false;
  do {
    for (int p = 0; p < shards_.parts; ++p) {
      if (shards_.empty(p)) continue;
      if (const Rank node = seat(p); node != client_.node(p)) client_.move_to(p, node);
      if (client_.node(p) == world_.rank() && has_majority()) take_over(p);
    }
    adopted = adopt();
    SINEW_RETURN_IF_ERROR(world_.health());
    waits = adopted.code() == StatusCode::peer_lost || adopted.code() == StatusCode::timeout;
    if (waits) world_.sleep(kLook);  // a node may be on its way back, or others on theirs to this one
  } while (waits && (deadline.left() > 0 || (server_ && longest.left() > 0 && server_->expects_workers())));
  client_.remember(memory());
  if (server_ && adopted.code() == StatusCode::timeout) {
    // Nobody is there that has seen a center: training begins anew.
    for (int p = 0; p < shards_.parts; ++p)
      if (!shards_.empty(p) && client_.node(p) == world_.rank()) client_.move_to(p, world_.rank());
    adopted = adopt();
  }
  return adopted;
}

Status CenterScheme::evaluation_point(ConstVecView theta, VecView out) {
  const auto take = [&](int s, const Payload& c) { upload(c.data(), part(out, s)); };
  for (int s = 0; s < shards_.count(); ++s) {
    if (!final_.empty())
      take(s, final_[s]);
    else if (known_[s].size() > 0)
      take(s, known_[s]);
    else
      copy(part(theta, s), part(out, s));  // nothing seen yet: all started from the same parameters
  }
  if (!final_.empty()) return Status::Ok();
  const bool can_ask = shards_.parts == 1 ? !server_ : !finished_;
  if (setup_.rule.measures_apart() && can_ask) {
    remember(theta);
    Result<bool> complete = client_.pull(take, Wanted::measured);
    if (!complete.ok() && complete.status().code() != StatusCode::peer_lost) return complete.status();
  }
  if (server_) server_->snapshot(out);
  return Status::Ok();
}

bool CenterScheme::collects() const {
  if (shards_.parts == 1) return false;
  for (Rank r = 0; r < world_.rank(); ++r)
    if (!is_gone(r)) return false;
  return true;
}

Status CenterScheme::collect() {
  for (;;) {
    Result<int> others = client_.others();
    if (others.ok() && *others == 0) break;
    Result<bool> going = go_on(others.ok() ? Result<bool>(true) : Result<bool>(others.status()));
    if (!going.ok()) return going.status();
    SINEW_RETURN_IF_ERROR(world_.health());
    world_.sleep(kLook);
  }
  std::vector<Payload> seen(known_.size());
  Result<bool> complete = false;
  for (int i = 0; i < kPatience && complete.ok() && !*complete; ++i)
    complete = client_.pull([&](int s, const Payload& c) { seen[s] = c; }, Wanted::measured);
  if (complete.ok() && *complete) final_ = std::move(seen);
  return Status::Ok();
}

Status CenterScheme::serve_others() {
  const Deadline strangers(world_, kPatience * options_.deadline);
  for (;;) {
    const Result<bool> done = server_->serve(std::min(kSecond, options_.deadline / 8 + 1));
    if (!done.ok() || *done) return done.status();
    if (strangers.left() == 0) server_->expect_only_members();
    if (shards_.parts == 1) continue;
    // Other nodes may have died meanwhile, and this worker may be the only one that knows what they had.
    const Result<int> others = client_.others();
    const Result<bool> going = go_on(others.ok() ? Result<bool>(true) : Result<bool>(others.status()));
    if (!going.ok()) return going.status();
    client_.say_goodbye();
  }
}

Status CenterScheme::finish(VecView theta) {
  remember(theta);
  double distance2 = 0;
  bool all = true;
  for (int s = 0; s < shards_.count(); ++s) {
    all &= known_[s].size() > 0;
    if (all) distance2 += squared_distance(part(theta, s), on_device(known_[s]));
  }
  if (all) counters_.distance = std::sqrt(distance2);
  ends_ = true;
  if (patience_) wait_for_new_node();
  // After a change of center, a word from the new one: only with a majority it answers.
  while (patience_) {
    const Result<bool> seen = go_on(client_.pull([&](int s, const Payload& c) { known_[s] = c; }));
    if (!seen.ok()) return seen.status();
    SINEW_RETURN_IF_ERROR(world_.health());
    if (patience_) world_.sleep(kLook);
  }
  Status settled = client_.settle();
  finished_ = true;
  // Where workers serve, each stays with the others, and settles meanwhile what a silent one has not confirmed.
  const bool stays = setup_.servers == 0;
  const bool ok =
      settled.ok() || settled.code() == StatusCode::peer_lost || (stays && settled.code() == StatusCode::timeout);
  if (ok && collects()) SINEW_RETURN_IF_ERROR(collect());
  if (ok) client_.say_goodbye();  // else finish() may be called again, and the center is needed
  if (server_ && (ok || !stays)) SINEW_RETURN_IF_ERROR(serve_others());
  if (ok && stays) {  // what was sent again last
    for (int i = 0; i == 0 || (i < kPatience && settled.code() == StatusCode::timeout); ++i) settled = client_.settle();
    client_.say_goodbye();
  }
  // With a node of the center, only what it had not confirmed is lost.
  return settled.code() == StatusCode::peer_lost ? Status::Ok() : settled;
}

SchemeCounters CenterScheme::counters() const {
  SchemeCounters c = counters_;
  c.resent = client_.resent();
  c.lost = client_.lost_count();
  c.staleness = client_.staleness();
  return c;
}

SchemeState CenterScheme::save() const {
  SchemeState state;
  client_.save(state);
  if (server_) {
    SchemeState served = server_->save();
    for (auto& [name, vector] : served.vectors) state.vectors[kServed + name] = std::move(vector);
    for (const auto& [name, number] : served.numbers) state.numbers[kServed + name] = number;
  }
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
  client_.remember(memory());
  if (!client_.all_answered()) wait_for_new_node();
  SchemeState served;
  const auto own = [](const std::string& name) { return name.substr(std::string(kServed).size()); };
  for (const auto& [name, vector] : state.vectors)
    if (name.starts_with(kServed)) served.vectors[own(name)] = vector;
  for (const auto& [name, number] : state.numbers)
    if (name.starts_with(kServed)) served.numbers[own(name)] = number;
  if (served.numbers.empty())
    return setup_.servers > 0 ? Status::Ok()
                              : make_status(StatusCode::data_error, "the saved scheme has no part of the center");
  server_ = std::make_unique<CenterServer>(world_, setup_, std::vector<int>{});
  return server_->load(served);
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

Rounded CenterScheme::quantize(int shard, Payload difference) {
  const ConstVecView d = difference.view(dtype_);
  const VecView rest = unsent_.defined() ? part(unsent_.mutable_view(), shard) : VecView();
  return round_and_pack(setup_.packing, d, std::move(difference), rest);
}

ConstVecView CenterScheme::on_device(const Payload& payload) {
  const ConstVecView host = payload.view(dtype_);
  if (device_ == Device::cpu) return host;
  staging_ = Vec::empty(host.size, dtype_, device_);
  upload(host.data, staging_.mutable_view());
  return staging_.view();
}

std::string CenterScheme::name_of(int part) const {
  if (shards_.parts == 1) return "the center";
  return detail::concat("part ", part, " of the center");
}

CenterSetup center_setup(const SchemeOptions& o, int64_t size, DType dtype, uint64_t fingerprint) {
  CenterRule rule;
  if (o.name == "mdownpour") rule.momentum = o.outer_momentum, rule.moving = parameters_of(o, size);
  if (o.name == "adownpour") rule.average = CenterRule::Average::all;
  if (o.name == "mvadownpour") rule.average = CenterRule::Average::moving, rule.rate = o.average_rate;
  const int servers = center_servers(o), parts = servers > 0 ? servers : o.workers;
  // Each node has a part of a short vector, too.
  const int64_t shard = parts == 1 ? o.shard : std::clamp<int64_t>((size + parts - 1) / parts, 1, o.shard);
  return {.workers = o.workers,
          .servers = servers,
          .shards = {size, shard, parts},
          .dtype = dtype,
          .fingerprint = fingerprint,
          .rule = rule,
          .packing = packing_of(o.wire)};
}

Rank center_home(const SchemeOptions& o, int part) { return center_servers(o) > 0 ? o.workers + part : part; }

}  // namespace sinew::dist
