#include "dist/liveness.h"

#include <algorithm>
#include <utility>

namespace sinew::dist {

Liveness::Liveness(World& world, int size, Nanos deadline)
    : world_(world), size_(static_cast<size_t>(size)), deadline_(deadline), stops_(world.stops()) {
  world_.on(Tag::sync_ask, [this](const Message& m) {
    Head head{.tag = Tag::sync_answer, .is_reply = 1, .request = m.head.request};
    head.arg[0] = !idle_, head.arg[1] = told_epoch_;
    world_.send(m.head.source, head);
  });
}

Liveness::~Liveness() { world_.on(Tag::sync_ask, {}); }

void Liveness::tell(bool idle) {
  if (told_ == idle) return;
  told_ = idle;
  world_.publish([&] { idle_ = idle; });
}

void Liveness::enter(int64_t epoch) {
  epoch_ = epoch;
  world_.publish([&] { told_epoch_ = epoch; });
}

void Liveness::begin() {
  tell(false);
  begin_ = world_.now();
  if (!request_) return;
  first_asked_ = asked_ = -1;
  request_.reset();
  for (Other& other : others_) other.heard = -1, other.busy = other.is_ahead = false;
}

void Liveness::renew() {
  if (knows_busy_)
    for (Other& other : others_) other.busy_since = -1;
  knows_busy_ = false;
  begin();
}

Nanos Liveness::left() const {
  const Nanos now = world_.now(), rest = deadline_ - (now - begin_);
  const Nanos next = asked_ < 0 ? rest - deadline_ / 2 : deadline_ / 16 - (now - again_);
  return std::max<Nanos>(rest > 0 ? std::min(next, rest) : next, 1);
}

void Liveness::listen() {
  if (!request_) return;
  const Match match{.tag = Tag::sync_answer, .request = request_->id()};
  for (Received r; (r = world_.receive(match, 0)).ok();) {
    const Rank from = r.message.head.source;
    if (from < 0 || static_cast<size_t>(from) >= others_.size()) continue;
    Other& other = others_[static_cast<size_t>(from)];
    other.heard = world_.now();
    other.is_ahead = r.message.head.arg[1] > epoch_;
    other.busy = r.message.head.arg[0] != 0 && !other.is_ahead;
    if (!other.busy)
      other.busy_since = -1;
    else if (other.busy_since < 0)
      other.busy_since = other.heard, knows_busy_ = true;
  }
}

void Liveness::ask(const std::vector<Rank>& members, Nanos patience) {
  listen();
  const Nanos now = world_.now();
  if (const int64_t stops = world_.stops(); stops != std::exchange(stops_, stops)) {
    first_asked_ = asked_ = -1;
    for (Other& other : others_) other.heard = -1;
    begin_ = std::max(begin_, now - deadline_ / 2);
  }
  if (now - begin_ < patience) return;
  const bool all = asked_ < 0 || now - asked_ >= deadline_ / 4;
  // Of several questions and answers one comes through, even where messages are lost.
  if (!all && now - again_ < deadline_ / 16) return;
  if (all) asked_ = now;
  again_ = now;
  if (first_asked_ < 0) first_asked_ = now;
  if (others_.empty()) others_.resize(size_);
  if (!request_) request_.emplace(world_);
  tell(true);
  for (Rank r : members)
    if (is_other(r) && (all || others_[static_cast<size_t>(r)].heard < 0))
      world_.send(r, {.tag = Tag::sync_ask, .request = request_->id()});
}

bool Liveness::is_busy(Rank rank) const {
  if (others_.empty()) return false;
  const Other& other = others_[static_cast<size_t>(rank)];
  const Nanos now = world_.now();
  return other.busy && now - other.heard < deadline_ && (now - other.busy_since) / kBusy < deadline_;
}

bool Liveness::is_ahead(Rank rank) const { return !others_.empty() && others_[static_cast<size_t>(rank)].is_ahead; }

bool Liveness::over(const std::vector<Rank>& members) {
  ask(members, deadline_ / 2);
  const Nanos now = world_.now();
  if (std::any_of(members.begin(), members.end(), [this](Rank r) { return is_ahead(r); })) return true;
  if (now - begin_ < deadline_ || now - first_asked_ < deadline_ / 4) return false;
  bool busy = false;
  for (Rank r : members) {
    if (!is_other(r)) continue;
    const Other& other = others_[static_cast<size_t>(r)];
    if (other.heard < 0 || now - other.heard >= deadline_ || (other.busy && !is_busy(r))) return true;
    busy |= other.busy;
  }
  return !busy;
}

std::vector<Rank> Liveness::silent(const std::vector<Rank>& members) const {
  std::vector<Rank> ranks;
  for (Rank r : members)
    if (is_other(r) && first_asked_ >= 0 && world_.now() - first_asked_ >= deadline_ / 4 &&
        others_[static_cast<size_t>(r)].heard < 0)
      ranks.push_back(r);
  return ranks;
}

}  // namespace sinew::dist
