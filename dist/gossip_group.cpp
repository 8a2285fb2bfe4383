#include "dist/gossip_group.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "dist/rules.h"

namespace sinew::dist {
namespace {

bool ended(PeerState s) { return s == PeerState::gone || s == PeerState::left; }

}  // namespace

GossipGroup::GossipGroup(World& world, const SchemeOptions& options, DType dtype)
    : world_(world),
      workers_(options.workers),
      deadline_(options.deadline),
      fingerprint_(options.fingerprint),
      dtype_(dtype) {}

GossipGroup::~GossipGroup() {
  if (listening_) world_.on(Tag::gossip_parameters, {}), world_.on(Tag::gossip_average, {});
}

void GossipGroup::listen() {
  listening_ = true;
  world_.on(Tag::gossip_parameters, [this](const Message& m) { on_ask(m); });
}

void GossipGroup::on_ask(const Message& m) {
  const Asked asked{m.head.source, m.head.request, static_cast<Wanted>(m.head.arg[1])};
  const bool same = static_cast<uint64_t>(m.head.arg[0]) == fingerprint_;
  if (!same) return answer(asked, step_, {});
  std::erase_if(asked_, [&](const Asked& a) { return a.rank == asked.rank && a.wanted == asked.wanted; });
  asked_.push_back(asked);
  answer_asked();
}

bool GossipGroup::can_answer(Wanted wanted) const {
  switch (wanted) {
    case now:
    case final:
      return is_settled_;
    case last_step:
      return is_done_;
    case all_last_steps:
      return all_are_done_;
    default:
      return true;
  }
}

void GossipGroup::answer_asked() {
  std::erase_if(asked_, [&](const Asked& a) {
    if (!can_answer(a.wanted)) return false;
    answer(a, step_, a.wanted == now || a.wanted == final ? settled_ : Payload());
    return true;
  });
}

void GossipGroup::answer(const Asked& to, int64_t step, const Payload& body) {
  Head head{.tag = Tag::gossip_answer, .is_reply = 1, .request = to.request};
  head.arg[0] = static_cast<int64_t>(fingerprint_), head.arg[1] = step;
  world_.send(to.rank, head, body);
}

// Asks again after silence. peer_lost, or timeout after `limit`.
Received GossipGroup::ask(Rank peer, Wanted wanted, Nanos limit) {
  const Deadline deadline(world_, limit);
  Request request(world_);
  Head head{.tag = Tag::gossip_parameters, .request = request.id()};
  head.arg[0] = static_cast<int64_t>(fingerprint_), head.arg[1] = wanted;
  Received r;
  while (r.what == Received::What::timeout && deadline.left() > 0) {
    world_.send(peer, head);
    r = world_.receive({.tag = Tag::gossip_answer, .source = peer, .request = request.id()},
                       std::min(deadline.left(), deadline_ / 8 + 1));
  }
  return r;
}

Status GossipGroup::check(Rank peer, const Message& m) const {
  if (static_cast<uint64_t>(m.head.arg[0]) == fingerprint_) return Status::Ok();
  return make_status(StatusCode::invalid_argument, "ranks ", world_.rank(), " and ", peer,
                     " differ in model, data type or options; start all with the same configuration");
}

Status GossipGroup::start(VecView theta) {
  listen();
  if (workers_ == 1) return Status::Ok();
  if (world_.incarnation() == 0) {
    // Each asks the one before it: all are equal when every two neighbours are.
    const Rank before = (world_.rank() + workers_ - 1) % workers_;
    const Received r = ask(before, nothing, deadline_);
    return r.ok() ? check(before, r.message) : Status::Ok();  // who is late or lost is so for the exchanges too
  }
  Result<int64_t> step = adopt(theta);
  for (int more = workers_ - 2; more > 0 && step.ok() && *step < 0; --more) step = adopt(theta);  // nobody waits for it
  if (!step.ok()) return step.status();
  adopted_ = *step;
  return Status::Ok();
}

Result<int64_t> GossipGroup::adopt(VecView theta, Rank first, Nanos limit) {
  if (first == kAnyRank) first = world_.rank() + 1;
  const Deadline deadline(world_, std::min(limit, deadline_));
  Request request(world_);
  Head head{.tag = Tag::gossip_parameters, .request = request.id()};
  head.arg[0] = static_cast<int64_t>(fingerprint_), head.arg[1] = now;
  std::vector<char> unfit(static_cast<size_t>(workers_));
  for (bool asks = true; std::exchange(asks, false);) {
    for (int i = 0; i < workers_ && deadline.left() > 0; ++i) {
      const Rank peer = (first + i) % workers_;
      if (peer == world_.rank() || unfit[static_cast<size_t>(peer)] || is_lost(world_.peer(peer))) continue;
      asks = true;
      world_.send(peer, head);
      // Who has been asked before may answer, too.
      const Received r = world_.receive({.tag = Tag::gossip_answer, .request = request.id()},
                                        std::min(deadline.left(), deadline_ / 8 + 1));
      if (!r.ok()) continue;
      SINEW_RETURN_IF_ERROR(check(r.message.head.source, r.message));
      if (r.message.body.size() != theta.bytes() || !all_finite(r.message.body.view(dtype_))) {
        unfit[static_cast<size_t>(r.message.head.source)] = 1;
        continue;
      }
      upload(r.message.body.data(), theta);
      return r.message.head.arg[1];
    }
  }
  const bool heard = std::count(unfit.begin(), unfit.end(), 1) > 0;
  return heard && deadline.left() > 0 ? kUnfit : kNobody;
}

int64_t GossipGroup::step_of(Rank peer) {
  const Received r = ask(peer, nothing, deadline_ / 4 + 1);
  return r.ok() ? r.message.head.arg[1] : -1;
}

void GossipGroup::serve(int64_t step, ConstVecView theta, const std::function<void()>& also) {
  if (workers_ == 1) return;
  std::vector<Asked> asked;
  world_.publish([&] {
    if (also) also();
    step_ = step;
    const auto others =
        std::stable_partition(asked_.begin(), asked_.end(), [](const Asked& a) { return a.wanted != now; });
    asked.assign(others, asked_.end());
    asked_.erase(others, asked_.end());
  });
  if (asked.empty()) return;
  const Payload body = Payload::copy_of(theta);
  for (const Asked& a : asked) answer(a, step, body);
}

void GossipGroup::settle(ConstVecView theta) {
  const Payload body = Payload::copy_of(theta);
  world_.publish([&] {
    settled_ = body;
    is_settled_ = true;
    answer_asked();
  });
}

Received GossipGroup::hear(Rank peer, Wanted wanted, const std::function<bool()>& stop,
                           const std::function<void()>& meanwhile) {
  constexpr Nanos kLongest = 8 * kSecond;  // parameters may be on their way for long, and each question brings them
  Request request(world_);
  Head head{.tag = Tag::gossip_parameters, .request = request.id()};
  head.arg[0] = static_cast<int64_t>(fingerprint_), head.arg[1] = wanted;
  Nanos patience = kSecond;
  Received r;
  for (Nanos silence = patience; !stop() && world_.health().ok(); silence += kLook) {
    if (silence >= patience) {
      world_.send(peer, head);
      silence = 0;
      if (wanted == final) patience = std::min(2 * patience, kLongest);
    }
    r = world_.receive({.tag = Tag::gossip_answer, .source = peer, .request = request.id()}, kLook);
    if (r.ok()) return r;
    if (r.what == Received::What::peer_lost) world_.sleep(kLook);  // it may come back
    meanwhile();
  }
  return r;
}

Status GossipGroup::wait_for_last_steps(const std::function<void()>& meanwhile) {
  world_.publish([&] {
    is_done_ = true;
    answer_asked();
  });
  bool all = false;
  for (Rank root; !all && (root = lowest()) != world_.rank();) {
    all = hear(
              root, all_last_steps, [&] { return lowest() != root; }, meanwhile)
              .ok();
    SINEW_RETURN_IF_ERROR(world_.health());
  }
  for (Rank r = 0; !all && r < workers_; ++r) {
    if (r == world_.rank()) continue;
    hear(
        r, last_step, [&] { return ended(world_.peer(r)); }, meanwhile);
    SINEW_RETURN_IF_ERROR(world_.health());
  }
  world_.publish([&] {
    all_are_done_ = true;
    answer_asked();
  });
  return Status::Ok();
}

Rank GossipGroup::lowest() const {
  for (Rank r = 0; r < world_.rank(); ++r)
    if (!ended(world_.peer(r))) return r;
  return world_.rank();
}

Status GossipGroup::collect(VecView out) {
  Vec sum = Vec::zeros(out.size, dtype_);
  int64_t count = 0;
  for (Rank r = 0; r < workers_; ++r) {
    const Received received = r == world_.rank() ? Received{Received::What::message, {{}, settled_}}
                                                 : hear(r, final, [&] { return ended(world_.peer(r)); });
    SINEW_RETURN_IF_ERROR(world_.health());
    if (!received.ok() || received.message.body.size() != sum.view().bytes()) continue;
    const ConstVecView theirs = received.message.body.view(dtype_);
    if (!all_finite(theirs)) continue;
    accumulate(1.0, theirs, sum.mutable_view());
    ++count;
  }
  if (count > 1) axpby(1.0 / static_cast<double>(count), sum.view(), 0.0, sum.view(), sum.mutable_view());
  const Payload body = count > 0 ? Payload::copy_of(sum.view()) : settled_;
  upload(body.data(), out);
  spread(body);
  return world_.health();
}

void GossipGroup::spread(const Payload& average) {
  Request request(world_);
  const Head head{.tag = Tag::gossip_average, .request = request.id()};
  std::vector<Rank> open;
  for (Rank r = 0; r < workers_; ++r)
    if (r != world_.rank()) open.push_back(r);
  const auto forget_ended = [&] { std::erase_if(open, [&](Rank r) { return ended(world_.peer(r)); }); };
  std::optional<Deadline> deadline(std::in_place, world_, deadline_);
  Nanos patience = deadline_ / 8 + 1;
  for (forget_ended(); !open.empty() && deadline->left() > 0 && world_.health().ok(); patience *= 2) {
    for (Rank r : open) world_.send(r, head, average);
    const Deadline again(world_, patience);
    while (!open.empty() && again.left() > 0 && deadline->left() > 0) {
      const Received r = world_.receive({.tag = Tag::gossip_average, .request = request.id()},
                                        std::min({again.left(), deadline->left(), kLook}));
      if (!r.ok()) {
        forget_ended();
      } else if (std::erase(open, r.message.head.source) > 0) {
        deadline.emplace(world_, deadline_);
      }
    }
  }
}

void GossipGroup::confirm(const Message& m) {
  world_.send(m.head.source, {.tag = Tag::gossip_average, .is_reply = 1, .request = m.head.request});
}

Status GossipGroup::average(VecView out) {
  for (;;) {
    SINEW_RETURN_IF_ERROR(world_.health());
    // First who, then the look into the inbox: who has left has sent its average before.
    const Rank root = lowest();
    const Received r =
        root == 0 && world_.rank() == 0 ? Received{} : world_.receive({.tag = Tag::gossip_average}, kLook);
    if (r.ok() && r.message.body.size() == out.bytes()) {
      upload(r.message.body.data(), out);
      confirm(r.message);
      world_.on(Tag::gossip_average, [this](const Message& m) { confirm(m); });  // when that is lost
      return Status::Ok();
    }
    if (root == world_.rank()) return collect(out);
  }
}

void GossipGroup::save(SchemeState& state) const {
  world_.publish([&] {
    state.numbers["group.step"] = step_;
    std::vector<int64_t> asked;
    for (const Asked& a : asked_) asked.insert(asked.end(), {a.wanted, a.rank, static_cast<int64_t>(a.request)});
    state.vectors["group.asked"] = Vec::copy_of(ConstVecView(asked));
  });
}

void GossipGroup::load(const SchemeState& state) {
  if (auto step = state.numbers.find("group.step"); step != state.numbers.end()) step_ = step->second;
  auto asked = state.vectors.find("group.asked");
  if (asked == state.vectors.end() || asked->second.dtype() != DType::i64) return;
  const auto* v = static_cast<const int64_t*>(asked->second.view().data);
  for (int64_t i = 0; i + 2 < asked->second.size(); i += 3)
    asked_.push_back({static_cast<Rank>(v[i + 1]), static_cast<uint64_t>(v[i + 2]), static_cast<Wanted>(v[i])});
}

}  // namespace sinew::dist
