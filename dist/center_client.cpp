// The worker's side of the center's protocol.
#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "dist/center.h"

namespace sinew::dist {
namespace {

Head make_head(Tag tag, int64_t a0, int64_t a1 = 0, int64_t a2 = 0, int64_t a3 = 0) {
  Head head{.tag = tag};
  head.arg[0] = a0, head.arg[1] = a1, head.arg[2] = a2, head.arg[3] = a3;
  return head;
}

}  // namespace

CenterClient::CenterClient(World& world, Rank center, Shards shards, DType dtype, Nanos deadline, Packing packing)
    : world_(world),
      center_(center),
      shards_(shards),
      dtype_(dtype),
      deadline_(deadline),
      packing_(packing),
      others_(std::numeric_limits<double>::quiet_NaN()),
      unconfirmed_(shards.count()) {}

Status CenterClient::lost() const {
  return make_status(StatusCode::peer_lost, "the center (rank ", center_, ") is lost");
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
  send_packed(world_, center_, make_head(Tag::center_add, shard, sent.exchange, life_, lowest), sent.difference,
              packing_, dtype_);
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

void CenterClient::forget() {
  int64_t lost = 0;
  for (auto& shard : unconfirmed_) {
    lost = std::max(lost, static_cast<int64_t>(shard.size()));
    shard.clear();
  }
  lost_count_ += lost;
  life_ = 0;
}

void CenterClient::move_to(Rank center) {
  forget();
  center_ = center;
}

Status CenterClient::join(uint64_t fingerprint) {
  fingerprint_ = fingerprint;
  Received r = ask(make_head(Tag::center_join, static_cast<int64_t>(fingerprint), life_), Tag::center_ack,
                   Deadline(world_, deadline_));
  if (r.what == Received::What::peer_lost) return lost();
  if (!r.ok()) return silent();
  if (static_cast<uint64_t>(r.message.head.arg[1]) != fingerprint)
    return make_status(StatusCode::invalid_argument, "rank ", world_.rank(), " and the center (rank ", center_,
                       ") differ in model, data type or options; start all with the same configuration");
  life_ = r.message.head.arg[0];
  for (int s = 0; r.message.head.arg[2] && seed_ && s < shards_.count(); ++s)
    world_.send(center_, make_head(Tag::center_seed, s, life_), seed_(s));
  return Status::Ok();
}

Result<bool> CenterClient::pull(const Use& use, Wanted wanted) {
  // A second time when the center turns out to be another one than before.
  for (int i = 0; i < 2; ++i) {
    if (life_ == 0) {
      Status status = join(fingerprint_);
      if (status.code() == StatusCode::timeout) return false;
      if (!status.ok()) return status;
    }
    Result<bool> complete = pull_once(use, wanted);
    if (!complete.ok() || life_ != 0) return complete;
  }
  return false;
}

Result<bool> CenterClient::pull_once(const Use& use, Wanted wanted) {
  Deadline deadline(world_, deadline_);
  Request request(world_);
  const int64_t low = lowest();
  Head head = make_head(Tag::center_fetch, low, life_, static_cast<int64_t>(wanted));
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
    r.message = unpacked(r.message, dtype_);
    const int64_t s = r.message.head.arg[0];
    if (s == -1) forget();
    if (s == -1 || s == -2) return false;
    if (s < 0 || s >= shards_.count() ||
        r.message.body.size() != static_cast<size_t>(shards_.length(static_cast<int>(s))) * size_of(dtype_))
      return make_status(StatusCode::invalid_argument, "the center (rank ", center_, ") sent shard ", s, " of ",
                         r.message.body.size(), " bytes; start all with the same configuration");
    if (std::exchange(got[s], 1)) continue;
    --missing;
    version_ = r.message.head.arg[1];
    others_ = std::bit_cast<double>(r.message.head.arg[3]);
    confirm(static_cast<int>(s), low, static_cast<uint64_t>(r.message.head.arg[2]));
    use(static_cast<int>(s), r.message.body);
  }
  return true;
}

bool CenterClient::crowded() const { return next_ - lowest() >= kMaskBits - 1; }

void CenterClient::send_difference(int shard, Payload difference, int64_t lowest) {
  if (difference.size() == 0) return;
  Sent sent{next_, std::move(difference)};
  send_add(shard, sent, lowest);
  unconfirmed_[shard].push_back(std::move(sent));
}

Result<bool> CenterClient::exchange(const Difference& difference) {
  const int64_t low = lowest();
  const bool full = crowded();
  Result<bool> complete = pull([&](int s, const Payload& center) {
    if (!full) send_difference(s, difference(s, center), low);
  });
  if (full) return complete.ok() ? Result<bool>(false) : complete;
  ++next_;
  return complete;
}

bool CenterClient::push(const std::function<Payload(int shard)>& difference) {
  if (crowded()) return false;
  const int64_t low = lowest();
  for (int s = 0; s < shards_.count(); ++s) send_difference(s, difference(s), low);
  ++next_;
  return true;
}

Status CenterClient::fetch(const Use& use, Wanted wanted) {
  Result<bool> complete = pull(use, wanted);
  if (!complete.ok()) return complete.status();
  return *complete ? Status::Ok() : silent();
}

void CenterClient::send_score(double score) {
  world_.send(center_, make_head(Tag::center_score, life_, std::bit_cast<int64_t>(score)));
}

Status CenterClient::leave() {
  Deadline deadline(world_, deadline_);
  if (life_ == 0) SINEW_RETURN_IF_ERROR(join(fingerprint_));
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

}  // namespace sinew::dist
