#include "dist/center_part.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/status.h"
#include "dist/rules.h"

namespace sinew::dist {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

Payload mean_of(const std::vector<Payload>& told, DType dtype) {
  Payload mean = Payload::copy_of(told.front().view(dtype));
  const VecView m = mean.mutable_view(dtype);
  for (size_t i = 1; i < told.size(); ++i)
    in_parts(m.size, [&](int64_t at, int64_t n) {
      accumulate(1.0, told[i].view(dtype).slice(at, n), m.slice(at, n));
      return true;
    });
  in_parts(m.size, [&](int64_t at, int64_t n) {
    const VecView part = m.slice(at, n);
    axpby(1.0 / static_cast<double>(told.size()), part, 0, part, part);
    return true;
  });
  return mean;
}

}  // namespace

CenterPart::CenterPart(World& world, const CenterSetup& setup, int part)
    : world_(world),
      setup_(setup),
      part_(part),
      scores_(setup.workers, kNone),
      lives_(setup.workers),
      seen_(setup.workers, kKnowsNothing),
      left_(setup.workers) {}

CenterPart::Shard CenterPart::make_shard(ConstVecView initial) const {
  Shard shard{.center = Payload::copy_of(initial)};
  if (setup_.packing != Packing::none) shard.unsent = Vec::zeros(initial.size, setup_.dtype);
  if (setup_.rule.momentum != 0) shard.velocity = Vec::zeros(initial.size, setup_.dtype);
  if (setup_.rule.average != CenterRule::Average::none) shard.mean = to_doubles(initial);
  return shard;
}

void CenterPart::reset(ConstVecView initial) {
  SINEW_CHECK(initial.size == setup_.shards.size && initial.dtype == setup_.dtype, "center", "initial vector of ",
              initial.size, " ", to_string(initial.dtype), ", expected ", setup_.shards.size, " ",
              to_string(setup_.dtype));
  shards_.clear();
  for (int s = first(); s < end(); ++s)
    shards_.push_back(make_shard(initial.slice(setup_.shards.begin(s), setup_.shards.length(s))));
  known_ = true;
}

void CenterPart::begin_unknown(bool takes_over) {
  shards_.assign(static_cast<size_t>(end() - first()), {});
  taken_over_ = takes_over;
  known_ = shards_.empty();
}

bool CenterPart::has_left(Rank r, bool only_members) const {
  return shards_.empty() || left_[r] || (only_members && taken_over_ && lives_[r] == 0);
}

void CenterPart::snapshot(VecView out) {
  for (int s = first(); s < end() && known_; ++s)
    upload(vector_for(s, Wanted::measured).data(), out.slice(setup_.shards.begin(s), setup_.shards.length(s)));
}

bool CenterPart::has_enough() const {
  if (!taken_over_) {  // one of them has the newest state, or nearly
    int joined = 0, living = 0;
    for (Rank r = 0; r < setup_.workers; ++r) {
      const bool lives = !is_lost(world_.peer(r));
      living += lives;
      joined += lives && lives_[r] > 0;
    }
    return known_ || 2 * joined > living || living == 0;
  }
  const auto with_it = [&](Rank r) {
    const PeerState seen = world_.peer(r);
    // A node whose part is empty has left since the start.
    if (r >= setup_.workers) return seen == PeerState::alive || seen == PeerState::left;
    return lives_[r] > 0 || (r != world_.rank() && seen == PeerState::left);
  };
  int count = 0;
  for (Rank r = 0; r < setup_.workers + setup_.servers; ++r) count += with_it(r);
  return is_majority(count, with_it(0), setup_.workers, setup_.servers);
}

bool CenterPart::expects_workers() const {
  for (Rank r = 0; r < setup_.workers && !known_; ++r)
    if (lives_[r] == 0 && !is_lost(world_.peer(r))) return true;
  return false;
}

std::vector<Rank> CenterPart::tellers() const {
  Rank newest = kAnyRank;
  std::vector<Rank> all;
  for (Rank r = 0; r < setup_.workers; ++r) {
    if (lives_[r] == 0 || (is_lost(world_.peer(r)) && !has_told(r))) continue;
    if (seen_[r] >= 0 && (newest == kAnyRank || seen_[r] > seen_[newest])) newest = r;
    if (seen_[r] == kSeenNone) all.push_back(r);
  }
  if (newest != kAnyRank) return {newest};
  return expects_workers() ? std::vector<Rank>() : all;
}

bool CenterPart::has_told(Rank r) const {
  auto found = told_.find(r);
  return found != told_.end() &&
         std::none_of(found->second.begin(), found->second.end(), [](const Payload& p) { return p.size() == 0; });
}

// Makes the part known when all have told that should.
void CenterPart::learn() {
  if (known_ || !has_enough()) return;
  const std::vector<Rank> from = tellers();
  if (from.empty() || !std::all_of(from.begin(), from.end(), [this](Rank r) { return has_told(r); })) return;
  for (int s = first(); s < end(); ++s) {
    const auto i = static_cast<size_t>(s - first());
    std::vector<Payload> told;
    for (Rank r : from) told.push_back(told_[r][i]);
    if (told.size() > 1) told.front() = mean_of(told, setup_.dtype);
    at(s) = make_shard(told.front().view(setup_.dtype));
  }
  const int64_t seen = seen_[from.front()];
  version_ = std::max<int64_t>(seen, 0);
  if (seen >= 0)
    origin_ = detail::concat("as rank ", from.front(), " last saw it, after ", seen, " additions");
  else
    origin_ = detail::concat("with the average of ", from.size(), " workers' parameters: nobody here has seen it");
  known_ = true;
  told_.clear();
}

void CenterPart::reply(const Message& to, Tag tag, const Arguments& arguments, Rounded body) {
  Head head{.tag = tag};
  std::copy(arguments.begin(), arguments.end(), head.arg);
  head.is_reply = 1;
  head.request = to.head.request;
  send_packed(world_, to.head.source, head, body, setup_.packing);
}

CenterPart::Book* CenterPart::book(const Message& m, int64_t life, int64_t lowest) {
  auto found = books_.find({m.head.source, life});
  if (found == books_.end()) return nullptr;  // of a former life, or never joined
  Book& b = found->second;
  if (lowest > b.lowest) {
    b.lowest = lowest;
    b.applied.erase(b.applied.begin(), b.applied.lower_bound({lowest, 0}));
  }
  return &b;
}

std::vector<uint64_t> CenterPart::masks(const Book& book) const {
  std::vector<uint64_t> masks(shards_.size());
  for (auto [exchange, shard] : book.applied)
    if (exchange - book.lowest < kMaskBits)
      masks[static_cast<size_t>(shard - first())] |= uint64_t(1) << (exchange - book.lowest);
  return masks;
}

void CenterPart::on_join(const Message& m) {
  const Rank r = m.head.source;
  if (r < 0 || r >= setup_.workers) return;
  int64_t life = m.head.arg[1];
  if (static_cast<uint64_t>(m.head.arg[0]) == setup_.fingerprint) {
    if (!books_.count({r, life})) {
      life = ++lives_[r];
      books_[{r, life}];
      left_[r] = 0;
      scores_[r] = kNone;
    }
    seen_[r] = m.head.arg[3];
  }
  reply(m, Tag::center_ack, {life, static_cast<int64_t>(setup_.fingerprint)}, {});
}

void CenterPart::on_seed(const Message& m) {
  const int64_t s = m.head.arg[0];
  const Rank r = m.head.source;
  if (known_ || !owns(s) || !books_.count({r, m.head.arg[1]})) return;
  const ConstVecView told = m.body.view(setup_.dtype);
  if (m.body.size() != static_cast<size_t>(setup_.shards.length(static_cast<int>(s))) * size_of(setup_.dtype)) return;
  if (!in_parts(told.size, [&](int64_t at, int64_t n) { return all_finite(told.slice(at, n)); })) {
    seen_[r] = kKnowsNothing;
    told_.erase(r);
  } else {
    std::vector<Payload>& all = told_[r];
    all.resize(shards_.size());
    all[static_cast<size_t>(s - first())] = m.body;
  }
  learn();
}

// What a worker is sent, or measured on.
Payload CenterPart::vector_for(int s, Wanted wanted) {
  Shard& shard = at(s);
  if (wanted == Wanted::measured && !shard.mean.empty()) {
    if (setup_.dtype == DType::f64) return Payload::copy_of(ConstVecView(shard.mean));
    return Payload::copy_of(ConstVecView(std::vector<float>(shard.mean.begin(), shard.mean.end())));
  }
  if (wanted == Wanted::measured || !shard.velocity.defined()) return shard.center;
  if (shard.look_ahead.size() == 0) {
    shard.look_ahead = Payload::copy_of(shard.center.view(setup_.dtype));
    const VecView y = shard.look_ahead.mutable_view(setup_.dtype);
    in_parts(y.size, [&](int64_t at, int64_t n) {
      accumulate(setup_.rule.momentum, shard.velocity.view().slice(at, n), y.slice(at, n));
      return true;
    });
  }
  return shard.look_ahead;
}

Rounded CenterPart::rounded(int s) {
  const Payload exact = vector_for(s, Wanted::working);
  return round_and_pack(setup_.packing, exact.view(setup_.dtype), Payload::allocate(exact.size()),
                        at(s).unsent.mutable_view());
}

double CenterPart::median_of_others(Rank rank) const {
  std::vector<double> others;
  for (Rank r = 0; r < setup_.workers; ++r)
    if (r != rank && !std::isnan(scores_[r])) others.push_back(scores_[r]);
  if (others.empty()) return kNone;
  std::sort(others.begin(), others.end());
  const size_t half = others.size() / 2;
  return others.size() % 2 ? others[half] : (others[half - 1] + others[half]) / 2;
}

void CenterPart::on_fetch(const Message& m) {
  Book* b = book(m, m.head.arg[1], m.head.arg[0]);
  if (!b) return reply(m, Tag::center_part, {kJoinFirst, part_}, {});
  if (!has_enough()) return reply(m, Tag::center_part, {kNotYet, part_}, {});
  learn();
  if (!known_) {
    const std::vector<Rank> from = tellers();
    const bool asked = std::count(from.begin(), from.end(), m.head.source) > 0 && !has_told(m.head.source);
    return reply(m, Tag::center_part, {asked ? kTellFirst : kNotYet, part_}, {});
  }
  const std::vector<uint64_t> mask = masks(*b);
  const int64_t others = std::bit_cast<int64_t>(median_of_others(m.head.source));
  const auto wanted = static_cast<Wanted>(m.head.arg[2]);
  for (int s = first(); s < end(); ++s)
    reply(
        m, Tag::center_part, {s, version_, static_cast<int64_t>(mask[static_cast<size_t>(s - first())]), others},
        wanted == Wanted::working && setup_.packing != Packing::none ? rounded(s) : Rounded{vector_for(s, wanted), {}});
}

void CenterPart::on_score(const Message& m) {
  if (books_.count({m.head.source, m.head.arg[0]})) scores_[m.head.source] = std::bit_cast<double>(m.head.arg[1]);
}

void CenterPart::move(int s, ConstVecView difference) {
  Shard& shard = at(s);
  if (!shard.center.unique()) shard.center = Payload::copy_of(shard.center.view(setup_.dtype));
  const VecView c = shard.center.mutable_view(setup_.dtype);
  if (!shard.mean.empty()) {
    const bool all = setup_.rule.average == CenterRule::Average::all;
    average_toward(all ? 1.0 / static_cast<double>(shard.additions + 1) : setup_.rule.rate, c, shard.mean);
  }
  ++shard.additions;
  shard.look_ahead = {};
  const int64_t moving = shard.velocity.defined() ? std::clamp<int64_t>(setup_.rule.moving - setup_.shards.begin(s), 0,
                                                                        setup_.shards.length(s))
                                                  : 0;
  in_parts(moving, [&](int64_t at, int64_t n) {
    momentum_move(setup_.rule.momentum, difference.slice(at, n), shard.velocity.mutable_view().slice(at, n),
                  c.slice(at, n));
    return true;
  });
  in_parts(c.size - moving, [&](int64_t at, int64_t n) {
    accumulate(1.0, difference.slice(moving + at, n), c.slice(moving + at, n));
    return true;
  });
}

void CenterPart::on_add(const Message& m) {
  const int64_t s = m.head.arg[0], exchange = m.head.arg[1];
  if (!known_ || !owns(s) || m.body.size() != at(static_cast<int>(s)).center.size()) return;
  Book* b = book(m, m.head.arg[2], m.head.arg[3]);
  if (!b || exchange < b->lowest || !b->applied.insert({exchange, s}).second) return;
  const ConstVecView d = m.body.view(setup_.dtype);
  // What is not finite would reach everybody through the center. It counts as applied: sent again, it is no better.
  if (!in_parts(d.size, [&](int64_t at, int64_t n) { return all_finite(d.slice(at, n)); })) {
    ++refused_;
    return;
  }
  move(static_cast<int>(s), d);
  ++version_;
}

int CenterPart::others(Rank rank) const {
  int count = 0;
  for (Rank r = 0; r < setup_.workers; ++r) {
    const PeerState seen = world_.peer(r);
    count += r != rank && !left_[r] && seen != PeerState::left && seen != PeerState::gone;
  }
  return count;
}

void CenterPart::on_leave(const Message& m) {
  Book* b = book(m, m.head.arg[1], m.head.arg[0]);
  if (!b) return reply(m, Tag::center_ack, {kJoinFirst}, {});
  const std::vector<uint64_t> mask = masks(*b);
  Payload body = Payload::allocate(mask.size() * sizeof(uint64_t));
  std::copy(mask.begin(), mask.end(), static_cast<uint64_t*>(body.data()));
  if (m.head.arg[2]) left_[m.head.source] = 1, scores_[m.head.source] = kNone;
  reply(m, Tag::center_ack, {m.head.arg[2], others(m.head.source)}, {std::move(body), {}});
}

}  // namespace sinew::dist
