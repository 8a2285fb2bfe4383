#include "dist/center.h"

#include <algorithm>
#include <string>
#include <utility>

#include "dist/rules.h"

namespace sinew::dist {
namespace {

// An exchange number fits a mask; further behind, a worker only sends again what is missing.
constexpr int64_t kMaskBits = 64;
constexpr Nanos kPoll = 20 * kMillisecond;
// A handler's additions stay below the size at which the CPU kernels use several threads: a second pool of
// threads, for the communication thread, would compete with the training thread's.
constexpr int64_t kAddElements = 1 << 14;

Head make_head(Tag tag, int64_t a0, int64_t a1 = 0, int64_t a2 = 0, int64_t a3 = 0) {
  Head head{.tag = tag};
  head.arg[0] = a0, head.arg[1] = a1, head.arg[2] = a2, head.arg[3] = a3;
  return head;
}

}  // namespace

CenterClient::CenterClient(World& world, Rank center, Shards shards, DType dtype, Nanos deadline)
    : world_(world),
      center_(center),
      shards_(shards),
      dtype_(dtype),
      deadline_(deadline),
      unconfirmed_(shards.count()) {}

Status CenterClient::lost() const {
  return make_status(StatusCode::peer_lost, "the center (rank ", center_,
                     ") is lost; training cannot go on without it");
}

int64_t CenterClient::lowest() const {
  int64_t low = next_;
  for (const auto& shard : unconfirmed_)
    if (!shard.empty()) low = std::min(low, shard.front().exchange);
  return low;
}

int64_t CenterClient::unconfirmed() const {
  int64_t n = 0;
  for (const auto& shard : unconfirmed_) n += static_cast<int64_t>(shard.size());
  return n;
}

void CenterClient::send_add(int shard, const Sent& sent, int64_t lowest) {
  world_.send(center_, make_head(Tag::center_add, shard, sent.exchange, life_, lowest), sent.difference);
}

// Forgets what was applied of this shard and sends the rest again.
void CenterClient::confirm(int shard, int64_t lowest, uint64_t mask) {
  std::erase_if(unconfirmed_[shard],
                [&](const Sent& s) { return s.exchange - lowest < kMaskBits && (mask >> (s.exchange - lowest) & 1); });
  for (const Sent& s : unconfirmed_[shard]) {
    send_add(shard, s, lowest);
    ++resent_;
  }
}

// Sends the request, again after each silence of retry(), until the reply is there. Not ok: timeout or peer_lost.
Received CenterClient::ask(Head head, Tag reply, const Deadline& deadline) {
  Request request(world_);
  head.request = request.id();
  Received r;
  while (r.what == Received::What::timeout && deadline.left() > 0) {
    world_.send(center_, head);
    r = world_.receive({.tag = reply, .source = center_, .request = request.id()}, std::min(deadline.left(), retry()));
  }
  return r;
}

Status CenterClient::silent() const {
  return make_status(StatusCode::timeout, "no answer from the center (rank ", center_, ") for ",
                     static_cast<double>(deadline_) * 1e-9, " s");
}

Status CenterClient::join(uint64_t fingerprint) {
  Received r = ask(make_head(Tag::center_join, static_cast<int64_t>(fingerprint), life_), Tag::center_ack,
                   Deadline(world_, deadline_));
  if (r.what == Received::What::peer_lost) return lost();
  if (!r.ok()) return silent();
  if (static_cast<uint64_t>(r.message.head.arg[1]) != fingerprint)
    return make_status(StatusCode::invalid_argument, "rank ", world_.rank(), " and the center (rank ", center_,
                       ") differ in model, data type or options; start all with the same configuration");
  life_ = r.message.head.arg[0];
  return Status::Ok();
}

// False: the deadline passed first. `use` gets each shard once.
Result<bool> CenterClient::fetch_parts(const std::function<void(int, const Payload&)>& use) {
  Deadline deadline(world_, deadline_);
  Request request(world_);
  const int64_t low = lowest();
  Head head = make_head(Tag::center_fetch, low, life_);
  head.request = request.id();
  std::vector<char> got(unconfirmed_.size());
  bool silence = true;
  for (size_t missing = got.size(); missing > 0;) {
    if (deadline.left() == 0) return false;
    if (silence) world_.send(center_, head);
    Received r = world_.receive({.tag = Tag::center_part, .source = center_, .request = request.id()},
                                std::min(deadline.left(), retry()));
    if (r.what == Received::What::peer_lost) return lost();
    silence = !r.ok();
    if (silence) continue;
    const int64_t s = r.message.head.arg[0];
    if (s < 0 || s >= shards_.count() ||
        r.message.body.size() != static_cast<size_t>(shards_.length(static_cast<int>(s))) * size_of(dtype_))
      return make_status(StatusCode::invalid_argument, "the center (rank ", center_, ") sent shard ", s, " of ",
                         r.message.body.size(), " bytes; start all with the same configuration");
    if (std::exchange(got[s], 1)) continue;
    --missing;
    confirm(static_cast<int>(s), low, static_cast<uint64_t>(r.message.head.arg[2]));
    use(static_cast<int>(s), r.message.body);
  }
  return true;
}

Result<bool> CenterClient::exchange(const Difference& difference) {
  const int64_t low = lowest();
  const bool crowded = next_ - low >= kMaskBits - 1;
  Result<bool> complete = fetch_parts([&](int s, const Payload& center) {
    if (crowded) return;
    Sent sent{next_, difference(s, center)};
    send_add(s, sent, low);
    unconfirmed_[s].push_back(std::move(sent));
  });
  if (crowded) return complete.ok() ? Result<bool>(false) : complete;
  ++next_;
  return complete;
}

Status CenterClient::fetch(const std::function<void(int, const Payload&)>& use) {
  Result<bool> complete = fetch_parts(use);
  if (!complete.ok()) return complete.status();
  return *complete ? Status::Ok() : silent();
}

Status CenterClient::leave() {
  Deadline deadline(world_, deadline_);
  while (unconfirmed() > 0) {
    const int64_t low = lowest();
    Received r = ask(make_head(Tag::center_leave, low, life_, 0), Tag::center_ack, deadline);
    if (r.what == Received::What::peer_lost) return lost();
    if (!r.ok() || r.message.body.size() != sizeof(uint64_t) * unconfirmed_.size())
      return make_status(StatusCode::timeout, unconfirmed(), " differences of rank ", world_.rank(),
                         " were not confirmed by the center within ", static_cast<double>(deadline_) * 1e-9, " s");
    const auto* mask = static_cast<const uint64_t*>(r.message.body.data());
    for (int s = 0; s < shards_.count(); ++s) confirm(s, low, mask[s]);
  }
  // A courtesy from here on: a center that knows already may be gone before its answer arrives.
  (void)ask(make_head(Tag::center_leave, lowest(), life_, 1), Tag::center_ack, deadline);
  return Status::Ok();
}

void CenterClient::save(SchemeState& state) const {
  state.numbers["life"] = life_;
  state.numbers["next_exchange"] = next_;
  state.numbers["resent"] = resent_;
  for (int s = 0; s < shards_.count(); ++s)
    for (const Sent& sent : unconfirmed_[s])
      state.vectors["unconfirmed." + std::to_string(sent.exchange) + "." + std::to_string(s)] =
          Vec::copy_of(sent.difference.view(dtype_));
}

Status CenterClient::load(const SchemeState& state) {
  for (auto [name, field] : {std::pair{"life", &life_}, {"next_exchange", &next_}, {"resent", &resent_}}) {
    auto found = state.numbers.find(name);
    if (found == state.numbers.end())
      return make_status(StatusCode::data_error, "the saved scheme has no '", name, "'");
    *field = found->second;
  }
  for (auto& shard : unconfirmed_) shard.clear();
  for (int64_t exchange = std::max<int64_t>(0, next_ - kMaskBits); exchange < next_; ++exchange)
    for (int s = 0; s < shards_.count(); ++s) {
      auto found = state.vectors.find("unconfirmed." + std::to_string(exchange) + "." + std::to_string(s));
      if (found == state.vectors.end()) continue;
      if (found->second.size() != shards_.length(s) || found->second.dtype() != dtype_)
        return make_status(StatusCode::data_error, "saved '", found->first, "' has ", found->second.size(),
                           " elements");
      unconfirmed_[s].push_back({exchange, Payload::copy_of(found->second.view())});
    }
  return Status::Ok();
}

CenterServer::CenterServer(World& world, int workers, Shards shards, DType dtype, uint64_t fingerprint)
    : world_(world),
      workers_(workers),
      shards_(shards),
      dtype_(dtype),
      fingerprint_(fingerprint),
      lives_(workers),
      left_(workers) {}

CenterServer::~CenterServer() {
  if (!listening_) return;
  for (Tag tag : {Tag::center_join, Tag::center_fetch, Tag::center_add, Tag::center_leave}) world_.on(tag, {});
}

void CenterServer::listen() {
  listening_ = true;
  world_.on(Tag::center_join, [this](const Message& m) { on_join(m); });
  world_.on(Tag::center_fetch, [this](const Message& m) { on_fetch(m); });
  world_.on(Tag::center_add, [this](const Message& m) { on_add(m); });
  world_.on(Tag::center_leave, [this](const Message& m) { on_leave(m); });
}

Status CenterServer::start(ConstVecView initial) {
  SINEW_CHECK(initial.size == shards_.size && initial.dtype == dtype_, "center", "initial vector of ", initial.size,
              " ", to_string(initial.dtype), ", expected ", shards_.size, " ", to_string(dtype_));
  center_.clear();
  for (int s = 0; s < shards_.count(); ++s)
    center_.push_back(Payload::copy_of(initial.slice(shards_.begin(s), shards_.length(s))));
  listen();
  return Status::Ok();
}

Result<bool> CenterServer::serve(Nanos slice) {
  Deadline deadline(world_, slice);
  for (;;) {
    SINEW_RETURN_IF_ERROR(world_.health());
    bool done = true;
    for (Rank r = 0; r < workers_ && done; ++r) {
      bool left = false;
      world_.publish([&] { left = left_[r]; });
      const PeerState seen = world_.peer(r);
      done = left || seen == PeerState::left || seen == PeerState::gone;
    }
    if (done) return true;
    if (deadline.left() == 0) return false;
    world_.sleep(std::min(kPoll, deadline.left()));
  }
}

void CenterServer::snapshot(VecView out) {
  world_.publish([&] {
    for (int s = 0; s < shards_.count(); ++s) upload(center_[s].data(), out.slice(shards_.begin(s), shards_.length(s)));
  });
}

int64_t CenterServer::version() {
  int64_t v = 0;
  world_.publish([&] { v = version_; });
  return v;
}

void CenterServer::reply(const Message& to, Tag tag, int64_t a0, int64_t a1, int64_t a2, Payload body) {
  Head head = make_head(tag, a0, a1, a2);
  head.is_reply = 1;
  head.request = to.head.request;
  world_.send(to.head.source, head, std::move(body));
}

CenterServer::Book* CenterServer::book(const Message& m, int64_t life, int64_t lowest) {
  auto found = books_.find({m.head.source, life});
  if (found == books_.end()) return nullptr;  // of a former life, or never joined
  Book& b = found->second;
  if (lowest > b.lowest) {
    b.lowest = lowest;
    b.applied.erase(b.applied.begin(), b.applied.lower_bound({lowest, 0}));
  }
  return &b;
}

std::vector<uint64_t> CenterServer::masks(const Book& book) const {
  std::vector<uint64_t> masks(center_.size());
  for (auto [exchange, shard] : book.applied)
    if (exchange - book.lowest < kMaskBits) masks[shard] |= uint64_t(1) << (exchange - book.lowest);
  return masks;
}

void CenterServer::on_join(const Message& m) {
  const Rank r = m.head.source;
  if (r < 0 || r >= workers_) return;
  int64_t life = m.head.arg[1];
  if (static_cast<uint64_t>(m.head.arg[0]) == fingerprint_ && !books_.count({r, life})) {
    life = ++lives_[r];
    books_[{r, life}];
    left_[r] = 0;
  }
  reply(m, Tag::center_ack, life, static_cast<int64_t>(fingerprint_), 0, {});
}

void CenterServer::on_fetch(const Message& m) {
  Book* b = book(m, m.head.arg[1], m.head.arg[0]);
  if (!b) return;
  const std::vector<uint64_t> mask = masks(*b);
  for (size_t s = 0; s < center_.size(); ++s)
    reply(m, Tag::center_part, static_cast<int64_t>(s), version_, static_cast<int64_t>(mask[s]), center_[s]);
}

void CenterServer::on_add(const Message& m) {
  const int64_t s = m.head.arg[0], exchange = m.head.arg[1];
  if (s < 0 || s >= shards_.count() || m.body.size() != center_[s].size()) return;
  Book* b = book(m, m.head.arg[2], m.head.arg[3]);
  if (!b || exchange < b->lowest || !b->applied.insert({exchange, s}).second) return;
  if (!center_[s].unique()) center_[s] = Payload::copy_of(center_[s].view(dtype_));
  VecView c = center_[s].mutable_view(dtype_);
  ConstVecView d = m.body.view(dtype_);
  for (int64_t at = 0; at < c.size; at += kAddElements) {
    const int64_t n = std::min(kAddElements, c.size - at);
    accumulate(1.0, d.slice(at, n), c.slice(at, n));
  }
  ++version_;
}

void CenterServer::on_leave(const Message& m) {
  Book* b = book(m, m.head.arg[1], m.head.arg[0]);
  if (!b) return;
  const std::vector<uint64_t> mask = masks(*b);
  Payload body = Payload::allocate(mask.size() * sizeof(uint64_t));
  std::copy(mask.begin(), mask.end(), static_cast<uint64_t*>(body.data()));
  if (m.head.arg[2]) left_[m.head.source] = 1;
  reply(m, Tag::center_ack, m.head.arg[2], 0, 0, std::move(body));
}

SchemeState CenterServer::save() {
  SchemeState state;
  Vec center = Vec::empty(shards_.size, dtype_);
  snapshot(center.mutable_view());
  state.vectors["center"] = center;
  world_.publish([&] {
    state.numbers["version"] = version_;
    for (Rank r = 0; r < workers_; ++r) {
      state.numbers["lives." + std::to_string(r)] = lives_[r];
      state.numbers["left." + std::to_string(r)] = left_[r];
    }
    for (const auto& [key, b] : books_) {
      const std::string name = std::to_string(key.first) + "." + std::to_string(key.second);
      std::vector<int64_t> applied;
      for (auto [exchange, shard] : b.applied) applied.insert(applied.end(), {exchange, shard});
      state.numbers["lowest." + name] = b.lowest;
      state.vectors["applied." + name] = Vec::copy_of(ConstVecView(applied));
    }
  });
  return state;
}

Status CenterServer::load(const SchemeState& state) {
  auto center = state.vectors.find("center");
  if (center == state.vectors.end() || center->second.size() != shards_.size || center->second.dtype() != dtype_)
    return make_status(StatusCode::data_error, "the saved center does not fit: ", shards_.size, " ", to_string(dtype_),
                       " are expected");
  auto number = [&](const std::string& name) {
    auto found = state.numbers.find(name);
    return found == state.numbers.end() ? int64_t(0) : found->second;
  };
  version_ = number("version");
  books_.clear();
  for (Rank r = 0; r < workers_; ++r) {
    const std::string rank = std::to_string(r);
    lives_[r] = number("lives." + rank);
    left_[r] = static_cast<char>(number("left." + rank));
    for (int64_t life = 1; life <= lives_[r]; ++life) {
      const std::string name = rank + "." + std::to_string(life);
      auto applied = state.vectors.find("applied." + name);
      if (applied == state.vectors.end()) continue;
      Book& b = books_[{r, life}];
      b.lowest = number("lowest." + name);
      const auto* v = static_cast<const int64_t*>(applied->second.view().data);
      for (int64_t i = 0; i + 1 < applied->second.size(); i += 2) {
        if (v[i + 1] < 0 || v[i + 1] >= shards_.count())
          return make_status(StatusCode::data_error, "saved '", applied->first, "' names shard ", v[i + 1]);
        b.applied.insert({v[i], v[i + 1]});
      }
    }
  }
  return start(center->second.view());
}

}  // namespace sinew::dist
