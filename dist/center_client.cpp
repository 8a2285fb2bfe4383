// The worker's side of the center's protocol.
#include <algorithm>
#include <bit>
#include <limits>
#include <list>
#include <optional>
#include <string>
#include <utility>

#include "dist/center.h"

namespace sinew::dist {
namespace {

constexpr Nanos kSoon = 100 * kMillisecond;

}  // namespace

CenterClient::CenterClient(World& world, std::vector<Rank> nodes, const CenterSetup& setup, Nanos deadline)
    : world_(world),
      shards_(setup.shards),
      dtype_(setup.dtype),
      packing_(setup.packing),
      fingerprint_(setup.fingerprint),
      deadline_(deadline),
      others_(std::numeric_limits<double>::quiet_NaN()),
      unconfirmed_(static_cast<size_t>(shards_.count())) {
  for (Rank node : nodes) parts_.push_back({.node = node});
}

void CenterClient::Outcome::fail(Status why) {
  complete = false;
  // Timeouts are what an incomplete exchange is; one that cannot work at all goes before a dead node.
  if (why.code() == StatusCode::timeout) {
    if (timeout.ok()) timeout = std::move(why);
  } else if (status.ok() || status.code() == StatusCode::peer_lost) {
    status = std::move(why);
  }
}

Status CenterClient::Outcome::worst() const {
  const bool only_lost = status.ok() || status.code() == StatusCode::peer_lost;
  return only_lost && !timeout.ok() ? timeout : status;
}

Status CenterClient::lost(int part) const {
  return make_status(StatusCode::peer_lost, "the center (rank ", node(part), ") is lost");
}

Status CenterClient::silent(int part) const {
  return make_status(StatusCode::timeout, "no answer from the center (rank ", node(part), ") for ",
                     static_cast<double>(deadline_) * 1e-9, " s");
}

int64_t CenterClient::version() const {
  int64_t sum = 0;
  for (const Part& part : parts_) sum += part.version;
  return sum;
}

int64_t CenterClient::lowest(int part) const {
  int64_t low = at(part).next;
  each_shard(part, [&](int s) {
    if (!sent(s).empty()) low = std::min(low, sent(s).front().exchange);
  });
  return low;
}

int64_t CenterClient::unconfirmed() const {
  int64_t n = 0;
  for (const auto& shard : unconfirmed_) n += static_cast<int64_t>(shard.size());
  return n;
}

Head CenterClient::add_of(int shard, int64_t exchange, int64_t lowest) const {
  return make_head(Tag::center_add, shard, exchange, at(shards_.part_of(shard)).life, lowest);
}

// Forgets what was applied of this shard and sends the rest again.
void CenterClient::confirm(int shard, int64_t lowest, uint64_t mask) {
  at(shards_.part_of(shard)).own += static_cast<int64_t>(std::erase_if(sent(shard), [&](const Sent& s) {
    return s.exchange - lowest < kMaskBits && (mask >> (s.exchange - lowest) & 1);
  }));
  for (const Sent& s : sent(shard)) {
    send_packed(world_, node(shards_.part_of(shard)), add_of(shard, s.exchange, lowest), s.difference, packing_,
                dtype_);
    ++resent_;
  }
}

void CenterClient::ask(const std::vector<int>& parts, Tag reply, const Deadline& deadline, const Question& question,
                       const Answer& answer) {
  struct Open {
    Open(World& world, int p, const Head& question) : part(p), request(world), head(question) {
      head.request = request.id();
    }
    int part;
    Request request;
    Head head;
    std::optional<Deadline> silence;
  };
  std::list<Open> open;
  const auto send = [&](Open& o) {
    if (deadline.left() == 0) return;
    world_.send(node(o.part), o.head);
    o.silence.emplace(world_, std::min(deadline.left(), retry()));
  };
  for (int p : parts) send(open.emplace_back(world_, p, question(p)));
  for (auto o = open.begin(); !open.empty(); o = o == open.end() ? open.begin() : o) {
    Received r;
    if (o->silence)
      r = world_.receive({.tag = reply, .source = node(o->part), .request = o->request.id()}, o->silence->left());
    if (r.what == Received::What::timeout && deadline.left() > 0) {
      send(*o++);
      continue;
    }
    const int part = o->part;
    const bool again = answer(part, r);
    o = open.erase(o);
    if (again) send(*(o = open.emplace(o, world_, part, question(part))));
  }
}

void CenterClient::forget(int part) {
  int64_t lost = 0;
  each_shard(part, [&](int s) {
    lost = std::max(lost, static_cast<int64_t>(sent(s).size()));
    sent(s).clear();
  });
  lost_count_ += lost;
  at(part).life = 0;
  at(part).left = false;
  at(part).is_new = true;
  at(part).looked = -1;
}

void CenterClient::answered(int part, uint32_t incarnation, Wanted wanted) {
  Part& p = at(part);
  const bool renewed = p.moved || (p.incarnation >= 0 && p.incarnation != incarnation);
  renewals_ += renewed;
  p.incarnation = incarnation, p.moved = p.is_new = false;
  if (wanted != Wanted::working) return;
  if (p.looked >= 0) staleness_.add((p.version - p.looked - p.own) / (shards_.first(part + 1) - shards_.first(part)));
  p.looked = p.version, p.own = 0;
}

void CenterClient::move_to(int part, Rank node) {
  forget(part);
  at(part).node = node;
  at(part).moved = true;
}

bool CenterClient::all_answered() const {
  return std::none_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.moved; });
}

std::vector<int> CenterClient::join(const std::vector<int>& parts, const Deadline& deadline, Outcome& outcome) {
  std::vector<int> joined;
  const auto question = [&](int p) {
    const int64_t seen = !memory_.tell ? kKnowsNothing : memory_.has_seen(p) ? at(p).version : kSeenNone;
    return make_head(Tag::center_join, static_cast<int64_t>(fingerprint_), at(p).life, p, seen);
  };
  ask(parts, Tag::center_ack, deadline, question, [&](int p, const Received& r) {
    if (r.what == Received::What::peer_lost) {
      outcome.fail(lost(p));
    } else if (!r.ok()) {
      outcome.fail(silent(p));
    } else if (static_cast<uint64_t>(r.message.head.arg[1]) != fingerprint_) {
      outcome.fail(make_status(StatusCode::invalid_argument, "rank ", world_.rank(), " and the center (rank ", node(p),
                               ") differ in model, data type or options; start all with the same configuration"));
    } else if (at(p).life = r.message.head.arg[0]; at(p).life == 0) {
      outcome.fail(silent(p));  // that node does not have the part yet
    } else {
      joined.push_back(p);
    }
    return false;
  });
  return joined;
}

std::vector<int> CenterClient::all_parts() const {
  std::vector<int> parts;
  each_part([&](int p) { parts.push_back(p); });
  return parts;
}

Status CenterClient::join() {
  Outcome outcome;
  join(all_parts(), Deadline(world_, deadline_), outcome);
  return outcome.worst();
}

Result<bool> CenterClient::pull(const Use& use, Wanted wanted) { return pull(all_parts(), use, wanted); }

Result<bool> CenterClient::pull(const std::vector<int>& parts, const Use& use, Wanted wanted) {
  Outcome outcome;
  std::vector<int> members, strangers;
  for (int p : parts) (at(p).life != 0 ? members : strangers).push_back(p);
  const Deadline deadline(world_, deadline_);
  pull_from(members, use, wanted, deadline, outcome);
  // Nobody waits for a part that may not answer yet.
  for (int p : members)
    if (at(p).life == 0) strangers.push_back(p);
  if (!strangers.empty()) {
    // One that is silent does not keep others from being joined.
    const Deadline rest(world_, std::max(deadline.left(), retry()));
    pull_from(join(strangers, rest, outcome), use, wanted, rest, outcome);
  }
  if (!outcome.status.ok()) return outcome.status;
  return outcome.complete;
}

bool CenterClient::heed(int64_t answer, int part) {
  if (answer == kJoinFirst) forget(part);
  if (answer != kTellFirst || !memory_.tell) return false;
  each_shard(part,
             [&](int s) { world_.send(node(part), make_head(Tag::center_seed, s, at(part).life), memory_.tell(s)); });
  return true;
}

void CenterClient::send_fetch(int part, int64_t lowest, Wanted wanted, const Request& request) {
  Head head = make_head(Tag::center_fetch, lowest, at(part).life, static_cast<int64_t>(wanted), part);
  head.request = request.id();
  world_.send(node(part), head);
}

void CenterClient::ask_early() {
  early_ = std::make_unique<Fetch>(world_, parts_.size());
  each_part([&](int p) {
    if (at(p).life == 0 || at(p).moved) return;
    early_->life[static_cast<size_t>(p)] = at(p).life;
    early_->lowest[static_cast<size_t>(p)] = lowest(p);
    send_fetch(p, lowest(p), Wanted::working, early_->request);
  });
}

void CenterClient::pull_from(const std::vector<int>& parts, const Use& use, Wanted wanted, const Deadline& deadline,
                             Outcome& outcome) {
  struct Asked {
    int part;
    int64_t lowest;
    int missing;
    bool silence;
    bool told = false;
  };
  // Of another vector's answers nobody must be served.
  std::unique_ptr<Fetch> fetch = wanted == Wanted::working ? std::move(early_) : nullptr;
  early_.reset();
  if (!fetch) fetch = std::make_unique<Fetch>(world_, parts_.size());
  std::vector<Asked> asked;
  for (int p : parts) {
    const auto i = static_cast<size_t>(p);
    const bool is_early = fetch->life[i] != 0 && fetch->life[i] == at(p).life;
    asked.push_back({p, is_early ? fetch->lowest[i] : lowest(p), shards_.first(p + 1) - shards_.first(p), !is_early});
  }
  std::vector<char> got(unconfirmed_.size());
  // While others are waited for, the death of a node may pass unseen when it is soon back: what has been sent to it is
  // lost. So the first question is repeated earlier.
  Nanos wait = parts.size() > 1 ? std::min(retry(), std::max(retry() / 8, kSoon)) : retry();
  while (!asked.empty()) {
    if (deadline.left() == 0) return outcome.fail(silent(asked.front().part));
    bool one_node = true;
    for (Asked& a : asked) {
      one_node = one_node && node(a.part) == node(asked.front().part);
      if (!std::exchange(a.silence, false)) continue;
      send_fetch(a.part, a.lowest, wanted, fetch->request);
    }
    Received r = world_.receive({.tag = Tag::center_part,
                                 .source = one_node ? node(asked.front().part) : kAnyRank,
                                 .request = fetch->request.id()},
                                std::min(deadline.left(), wait));
    if (!r.ok()) {
      wait = retry();
      std::erase_if(asked, [&](Asked& a) {
        a.silence = true;
        const bool is_lost =
            r.what == Received::What::peer_lost || (!one_node && dist::is_lost(world_.peer(node(a.part))));
        if (is_lost) outcome.fail(lost(a.part));
        return is_lost;
      });
      continue;
    }
    r.message = unpacked(r.message, dtype_);
    const int64_t s = r.message.head.arg[0];
    const bool is_shard = s >= 0 && s < shards_.count();
    const int64_t part = is_shard ? shards_.part_of(static_cast<int>(s)) : r.message.head.arg[1];
    auto from = std::find_if(asked.begin(), asked.end(), [&](const Asked& a) { return a.part == part; });
    if (s < 0) {
      if (from == asked.end()) continue;
      if (heed(s, from->part)) {
        from->silence = !std::exchange(from->told, true);  // when it was lost, not at once again
        continue;
      }
      outcome.complete = false;
      asked.erase(from);
      continue;
    }
    if (!is_shard ||
        r.message.body.size() != static_cast<size_t>(shards_.length(static_cast<int>(s))) * size_of(dtype_))
      return outcome.fail(make_status(StatusCode::invalid_argument, "the center (rank ", r.message.head.source,
                                      ") sent shard ", s, " of ", r.message.body.size(),
                                      " bytes; start all with the same configuration"));
    if (from == asked.end() || std::exchange(got[static_cast<size_t>(s)], 1)) continue;
    Part& source = at(from->part);
    source.version = r.message.head.arg[1];
    if (from->part == 0) others_ = std::bit_cast<double>(r.message.head.arg[3]);
    confirm(static_cast<int>(s), from->lowest, static_cast<uint64_t>(r.message.head.arg[2]));
    use(static_cast<int>(s), r.message.body);
    if (--from->missing > 0) continue;
    answered(from->part, r.message.head.incarnation, wanted);
    asked.erase(from);
  }
}

bool CenterClient::crowded(int part) const { return at(part).next - lowest(part) >= kMaskBits - 1; }

void CenterClient::send_difference(int shard, Rounded difference, int64_t lowest) {
  if (difference.numbers.size() == 0) return;
  const Part& part = at(shards_.part_of(shard));
  send_packed(world_, part.node, add_of(shard, part.next, lowest), difference, packing_);
  sent(shard).push_back({part.next, std::move(difference.numbers)});
}

Result<bool> CenterClient::exchange(const Difference& difference) {
  constexpr int64_t kFull = -1;
  std::vector<int64_t> low(parts_.size());
  each_part([&](int p) { low[static_cast<size_t>(p)] = crowded(p) ? kFull : lowest(p); });
  bool held = false;
  Result<bool> complete = pull([&](int s, const Payload& center) {
    const int64_t lowest = low[static_cast<size_t>(shards_.part_of(s))];
    held |= lowest == kFull;
    if (lowest != kFull) send_difference(s, difference(s, center), lowest);
  });
  each_part([&](int p) { at(p).next += low[static_cast<size_t>(p)] != kFull; });
  return complete.ok() ? Result<bool>(*complete && !held) : complete;
}

bool CenterClient::push(int part, const std::function<Rounded(int shard)>& difference) {
  if (crowded(part)) return false;
  const int64_t low = lowest(part);
  each_shard(part, [&](int s) { send_difference(s, difference(s), low); });
  ++at(part).next;
  return true;
}

bool CenterClient::push(const std::function<Rounded(int shard)>& difference) {
  bool full = false;
  each_part([&](int p) { full |= crowded(p); });
  if (!full) each_part([&](int p) { (void)push(p, difference); });
  return !full;
}

Status CenterClient::fetch(const Use& use, Wanted wanted) {
  Result<bool> complete = pull(use, wanted);
  if (!complete.ok()) return complete.status();
  return *complete ? Status::Ok() : silent(0);
}

void CenterClient::send_score(double score) {
  world_.send(node(0), make_head(Tag::center_score, at(0).life, std::bit_cast<int64_t>(score)));
}

void CenterClient::ask_to_leave(const std::vector<int>& parts, const Deadline& deadline, const Answer& answer) {
  std::vector<int64_t> low(parts_.size());
  const auto question = [&](int p) {
    low[static_cast<size_t>(p)] = lowest(p);
    return make_head(Tag::center_leave, lowest(p), at(p).life, at(p).left ? 1 : 0, p);
  };
  ask(parts, Tag::center_ack, deadline, question, [&](int p, const Received& r) {
    const auto shards = static_cast<size_t>(shards_.first(p + 1) - shards_.first(p));
    if (r.ok() && r.message.head.arg[0] == kJoinFirst) {
      forget(p);
    } else if (r.ok()) {
      if (r.message.body.size() != sizeof(uint64_t) * shards) return answer(p, {});
      const auto* mask = static_cast<const uint64_t*>(r.message.body.data());
      each_shard(p, [&](int s) { confirm(s, low[static_cast<size_t>(p)], mask[s - shards_.first(p)]); });
    }
    return answer(p, r);
  });
}

Status CenterClient::settle() {
  const Deadline deadline(world_, deadline_);
  Outcome outcome;
  std::vector<int> strangers, open;
  each_part([&](int p) {
    if (at(p).life == 0) strangers.push_back(p);
    if (at(p).life != 0 && !is_settled(p)) open.push_back(p);
  });
  if (!strangers.empty()) join(strangers, deadline, outcome);
  ask_to_leave(open, deadline, [&](int p, const Received& r) {
    if (r.what == Received::What::peer_lost) outcome.fail(lost(p));
    if (r.what == Received::What::timeout)
      outcome.fail(make_status(StatusCode::timeout, "differences of rank ", world_.rank(), " in ",
                               at(p).next - lowest(p), " exchanges were not confirmed by the center (rank ", node(p),
                               ") within ", static_cast<double>(deadline_) * 1e-9, " s"));
    return r.ok() && !is_settled(p);
  });
  return outcome.worst();
}

Result<int> CenterClient::others() {
  int most = 0;
  Outcome outcome;
  std::vector<int> strangers, members;
  // One that has ended had everybody's goodbye.
  const auto has_ended = [this](int p) { return at(p).left && world_.peer(node(p)) == PeerState::left; };
  each_part([&](int p) {
    if (has_ended(p)) return;
    (at(p).life == 0 || at(p).is_new ? strangers : members).push_back(p);
  });
  ask_to_leave(members, Deadline(world_, deadline_), [&](int p, const Received& r) {
    if (has_ended(p)) return false;
    if (r.what == Received::What::peer_lost)
      outcome.fail(lost(p));
    else
      most = std::max(most, r.ok() && at(p).life != 0 ? static_cast<int>(r.message.head.arg[1]) : 1);
    if (!is_settled(p)) most = std::max(most, 1);
    return false;
  });
  if (!strangers.empty()) {
    most = std::max(most, 1);
    const Result<bool> heard = pull(
        strangers, [](int, const Payload&) {}, Wanted::working);
    if (!heard.ok()) outcome.fail(heard.status());
  }
  if (!outcome.status.ok()) return outcome.status;
  return most;
}

void CenterClient::say_goodbye() {
  std::vector<int> parts;
  each_part([&](int p) {
    const bool is_done = at(p).life != 0 && !at(p).is_new && is_settled(p);
    if (is_done && !std::exchange(at(p).left, true)) parts.push_back(p);
  });
  // A courtesy: a center that knows already may be gone before its answer arrives.
  ask_to_leave(parts, Deadline(world_, deadline_), [](int, const Received&) { return false; });
}

void CenterClient::save(SchemeState& state) const {
  state.numbers["resent"] = resent_;
  staleness_.save(state.numbers);
  for (int p = 0; p < shards_.parts; ++p) {
    const std::string name = "." + std::to_string(p);
    state.numbers["node" + name] = at(p).node;
    state.numbers["life" + name] = at(p).life;
    state.numbers["next_exchange" + name] = at(p).next;
    state.numbers["seen" + name] = at(p).version;
    state.numbers["looked" + name] = at(p).looked;
    state.numbers["own" + name] = at(p).own;
    if (at(p).moved) state.numbers["moved" + name] = 1;
    if (at(p).is_new) state.numbers["new" + name] = 1;
  }
  for (int s = 0; s < shards_.count(); ++s)
    for (const auto& [exchange, difference] : sent(s))
      state.vectors["unconfirmed." + std::to_string(exchange) + "." + std::to_string(s)] =
          Vec::copy_of(difference.view(dtype_));
}

Status CenterClient::load(const SchemeState& state) {
  Status status;
  const auto number = [&](const std::string& name) {
    auto found = state.numbers.find(name);
    if (found != state.numbers.end()) return found->second;
    status = make_status(StatusCode::data_error, "the saved scheme has no '", name, "'");
    return int64_t(0);
  };
  resent_ = number("resent");
  staleness_.load(state.numbers);
  for (int p = 0; p < shards_.parts; ++p) {
    const std::string name = "." + std::to_string(p);
    at(p) = {.node = static_cast<Rank>(number("node" + name)),
             .life = number("life" + name),
             .next = number("next_exchange" + name),
             .version = number("seen" + name),
             .looked = number("looked" + name),
             .own = number("own" + name),
             .moved = state.numbers.count("moved" + name) > 0,
             .is_new = state.numbers.count("new" + name) > 0};
    if (at(p).node < 0 || at(p).node >= world_.size())
      status = make_status(StatusCode::data_error, "saved 'node", name, "' is ", at(p).node);
  }
  SINEW_RETURN_IF_ERROR(status);
  for (auto& shard : unconfirmed_) shard.clear();
  for (int s = 0; s < shards_.count(); ++s) {
    const int64_t next = at(shards_.part_of(s)).next;
    for (int64_t exchange = std::max<int64_t>(0, next - kMaskBits); exchange < next; ++exchange) {
      auto found = state.vectors.find("unconfirmed." + std::to_string(exchange) + "." + std::to_string(s));
      if (found == state.vectors.end()) continue;
      if (found->second.size() != shards_.length(s) || found->second.dtype() != dtype_)
        return make_status(StatusCode::data_error, "saved '", found->first, "' has ", found->second.size(),
                           " elements");
      sent(s).push_back({exchange, Payload::copy_of(found->second.view())});
    }
  }
  return Status::Ok();
}

}  // namespace sinew::dist
