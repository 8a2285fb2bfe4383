#include "dist/communicator.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "core/kernel_api.h"
#include "dist/liveness.h"
#include "dist/staging.h"

namespace sinew::dist {
namespace {

// Large enough that a message's fixed cost vanishes, small enough that receiving, adding and forwarding overlap and
// that a chunk is still in the second-level cache when it is sent on.
constexpr int64_t kChunkBytes = 120 * 1024;
// Chunks of its own that a member has on their way before any has come in; from then on one for each that comes in.
// The whole segment at once would be copied through memory, and wait in memory.
constexpr int64_t kWindow = 4;
// A group's rounds are numbered from here on.
constexpr int kEpochShift = 40;

// Whole blocks of the packed forms.
int64_t chunk_elements(VecView v) { return kChunkBytes / static_cast<int64_t>(size_of(v.dtype)); }
int64_t chunks(VecView part) { return (part.size + chunk_elements(part) - 1) / chunk_elements(part); }
VecView chunk(VecView part, int64_t k) {
  const int64_t n = chunk_elements(part);
  return part.slice(k * n, std::min(n, part.size - k * n));
}

}  // namespace

// One collective in progress. The vector falls into segments, a segment into chunks, and each chunk is a message that
// goes around the ring on its own and names the hop and its place in the segment. Each member starts its own segment;
// hop h brings it that of the member h places before it.
class Communicator::Pass {
 public:
  struct Plan {
    VecView x;
    bool sends = true;                // this member starts a segment
    int first = 1, last = 0;          // hops that reach this member
    int end = 0;                      // what came at a hop below goes on to the next member
    int sums = 0;                     // hops up to this one are added up, later ones are the result
    bool whole = false;               // one segment, the whole vector, instead of one a member
    double scale = 1;                 // of the sum
    Packing packing = Packing::none;  // of what is not added up
    Staging* staging = nullptr;       // x is its host memory
  };

  static Status run(Communicator& owner, Plan plan) {
    if (plan.x.device == Device::cpu) return Pass(owner, plan).run();
    Staging staging(plan.x);
    plan.x = staging.host();
    plan.staging = &staging;
    return Pass(owner, plan).run();
  }

 private:
  Pass(Communicator& owner, const Plan& plan) : c_(owner), plan_(plan), round_(++owner.round_) {
    own_ = plan.sends ? chunks(part(0)) : 0;
    came_.resize(static_cast<size_t>(std::max(plan.last + 1, 1)));
    for (int hop = plan.first; hop <= plan.last; ++hop) {
      came_[static_cast<size_t>(hop)].resize(static_cast<size_t>(chunks(part(hop))));
      missing_ += chunks(part(hop));
    }
  }

  Status run() {
    if (plan_.staging) begin_downloads();
    const int64_t window = missing_ == 0 ? own_ : std::min(own_, kWindow);
    while (sent_ < window) {
      if (plan_.staging && sent_ % kWindow == 0) plan_.staging->wait(1);
      send_own();
    }
    if (plan_.staging) plan_.staging->wait();
    SINEW_RETURN_IF_ERROR(
        c_.collect(previous(), round_, missing_, [this](const Message& message) { return take(message); }));
    if (plan_.staging) plan_.staging->wait();  // for the results' way back, which use() has begun
    return status_;
  }

  // Of the own segment, a window at a time, so that the first is sent while the rest is on its way; then of what the
  // others' are added to.
  void begin_downloads() {
    const VecView own = part(0);
    const int64_t begin = offset_of(own), end = begin + own.size, step = kWindow * chunk_elements(own);
    if (plan_.sends)
      for (int64_t at = begin; at < end; at += step) plan_.staging->get(at, std::min(step, end - at));
    if (plan_.sums == 0) return;
    plan_.staging->get(0, begin);
    plan_.staging->get(end, plan_.x.size - end);
  }
  int64_t offset_of(VecView part) const {
    return (static_cast<char*>(part.data) - static_cast<char*>(plan_.x.data)) /
           static_cast<int64_t>(size_of(part.dtype));
  }

  Rank next() const { return c_.members_[(c_.index_ + 1) % c_.size()]; }
  Rank previous() const { return c_.members_[(c_.index_ + c_.size() - 1) % c_.size()]; }
  // The segment that is on its way here at this hop.
  VecView part(int hop) const {
    if (plan_.whole) return plan_.x;
    const int64_t p = c_.size(), s = (c_.index_ - hop + 2 * p) % p;
    const int64_t begin = plan_.x.size * s / p;
    return plan_.x.slice(begin, plan_.x.size * (s + 1) / p - begin);
  }
  Head head_of(int hop, int64_t k) const {
    Head head{.tag = Tag::collective, .request = round_};
    head.arg[0] = hop;
    head.arg[1] = k;
    return head;
  }
  void send(int hop, int64_t k, ConstVecView x) {
    Head head = head_of(hop, k);
    Payload body = packed(head, x, plan_.packing);
    c_.world_.send(next(), head, std::move(body));
  }
  void send_own() {
    send(1, sent_, chunk(part(0), sent_));
    ++sent_;
  }

  // True when this was the last one, or the members do not do the same.
  bool take(const Message& message) {
    if (message.head.packing != 0) return take(unpacked(message, plan_.x.dtype));
    const int64_t hop = message.head.arg[0], k = message.head.arg[1];
    const bool due = hop >= plan_.first && hop <= plan_.last && k >= 0 && k < chunks(part(static_cast<int>(hop)));
    const VecView x = due ? chunk(part(static_cast<int>(hop)), k) : VecView();
    if (!due || message.body.size() != x.bytes()) {
      status_ =
          make_status(StatusCode::invalid_argument, "collective: rank ", previous(), " sent ", message.body.size(),
                      " bytes where ", due ? x.bytes() : 0, " are expected; all members must call the same operations");
      return true;
    }
    std::vector<bool>& came = came_[static_cast<size_t>(hop)];
    if (came[static_cast<size_t>(k)]) return false;  // a second time
    came[static_cast<size_t>(k)] = true;
    use(static_cast<int>(hop), k, message.body, x);
    if (sent_ < own_) send_own();
    return --missing_ == 0;
  }

  void use(int hop, int64_t k, const Payload& body, VecView x) {
    if (hop < plan_.sums) {
      Payload sum = Payload::allocate(body.size());
      add(body, x, sum.mutable_view(x.dtype));
      return c_.world_.send(next(), head_of(hop + 1, k), std::move(sum));
    }
    if (hop == plan_.sums) {
      add(body, x, x);
      if (plan_.scale != 1) axpby(plan_.scale, x, 0.0, x, x);
    } else {
      std::memcpy(x.data, body.data(), body.size());
    }
    if (plan_.staging) plan_.staging->put(offset_of(x), x.size);
    if (hop < plan_.end) send(hop + 1, k, x);
  }

  // sum = x + body. A borrowed body's numbers may lie at any address: they go through a block in the first-level cache.
  static void add(const Payload& body, VecView x, VecView sum) {
    constexpr size_t kBlock = 16 * 1024;
    alignas(64) std::byte block[kBlock];
    const auto elements = static_cast<int64_t>(kBlock / size_of(x.dtype));
    for (int64_t at = 0; at < x.size; at += elements) {
      const int64_t n = std::min(elements, x.size - at);
      const VecView part = x.slice(at, n);
      std::memcpy(block, static_cast<const std::byte*>(body.data()) + static_cast<size_t>(at) * size_of(x.dtype),
                  part.bytes());
      axpby(1.0, part, 1.0, ConstVecView{block, n, x.dtype}, sum.slice(at, n));
    }
  }

  Communicator& c_;
  const Plan plan_;
  const uint64_t round_;
  int64_t own_ = 0, sent_ = 0;           // chunks of its own segment
  int64_t missing_ = 0;                  // chunks that are still to come
  std::vector<std::vector<bool>> came_;  // by hop and chunk
  Status status_;
};

// The all-reduce with rounded numbers. Each member owns a segment, which falls into chunks as in a Pass. Members send
// their rounded chunks to the owner, which adds them up in one fixed order, rounds the sum and sends it to all.
class Communicator::PackedPass {
 public:
  PackedPass(Communicator& owner, VecView x, VecView residual, Packing packing, double scale)
      : c_(owner), x_(x), residual_(residual), packing_(packing), scale_(scale), round_(++owner.round_) {
    const int64_t p = c_.size();
    waiting_.resize(static_cast<size_t>(chunks(part(c_.index_, x_))));
    for (std::vector<Message>& given : waiting_) given.resize(static_cast<size_t>(p));
    added_.resize(waiting_.size(), 1);
    came_.resize(static_cast<size_t>(p));
    missing_ = static_cast<int64_t>(waiting_.size()) * (p - 1);
    for (int member = 0; member < p; ++member) {
      came_[static_cast<size_t>(member)].resize(static_cast<size_t>(chunks(part(member, x_))));
      if (member != c_.index_) missing_ += chunks(part(member, x_));
    }
  }

  Status run() {
    for (int place = 1; place < c_.size(); ++place) {
      const int member = (c_.index_ + place) % c_.size();
      const VecView mine = part(member, x_);
      round_to_packing(packing_, mine, part(member, residual_));
      for (int64_t k = 0; k < chunks(mine); ++k) {
        Head head = head_of(kGiven, k);
        Payload body = packed(head, chunk(mine, k), packing_);
        c_.world_.send(c_.members_[static_cast<size_t>(member)], head, std::move(body));
      }
    }
    SINEW_RETURN_IF_ERROR(
        c_.collect(kAnyRank, round_, missing_, [this](const Message& message) { return take(message); }));
    return status_;
  }

 private:
  enum Kind : int64_t { kGiven = 0, kSum = 1 };

  VecView part(int member, VecView v) const {
    const int64_t p = c_.size(), begin = v.size * member / p;
    return v.slice(begin, v.size * (member + 1) / p - begin);
  }
  Head head_of(Kind kind, int64_t k) const {
    Head head{.tag = Tag::collective, .request = round_};
    head.arg[0] = kind, head.arg[1] = k;
    return head;
  }

  bool take(const Message& message) {
    const auto from = std::find(c_.members_.begin(), c_.members_.end(), message.head.source);
    const int member = static_cast<int>(from - c_.members_.begin());
    const int64_t kind = message.head.arg[0], k = message.head.arg[1];
    const bool sums = kind == kSum;
    if (from == c_.members_.end() || member == c_.index_ || (kind != kGiven && !sums) || k < 0 ||
        k >= chunks(part(sums ? member : c_.index_, x_)) || message.body.size() == 0)
      return fail(message);
    if (sums) {
      std::vector<bool>& came = came_[static_cast<size_t>(member)];
      if (came[static_cast<size_t>(k)]) return false;  // a second time
      came[static_cast<size_t>(k)] = true;
      const VecView x = chunk(part(member, x_), k);
      const Message sum = unpacked(message, x.dtype);
      if (sum.body.size() != x.bytes()) return fail(message);
      std::memcpy(x.data, sum.body.data(), x.bytes());
      scale(x);
      return --missing_ == 0;
    }
    std::vector<Message>& given = waiting_[static_cast<size_t>(k)];
    int& added = added_[static_cast<size_t>(k)];
    const int place = (member - c_.index_ + c_.size()) % c_.size();
    if (place < added || given[static_cast<size_t>(place)].body.size() > 0) return false;  // a second time
    given[static_cast<size_t>(place)] = message;
    --missing_;
    const VecView x = chunk(part(c_.index_, x_), k);
    while (added < c_.size() && given[static_cast<size_t>(added)].body.size() > 0) {
      const Message next = unpacked(std::exchange(given[static_cast<size_t>(added)], {}), x.dtype);
      if (next.body.size() != x.bytes()) return fail(message);
      axpby(1.0, x, 1.0, next.body.view(x.dtype), x);
      ++added;
    }
    if (added == c_.size()) send_sum(k, x);
    return missing_ == 0;
  }

  void send_sum(int64_t k, VecView x) {
    round_to_packing(packing_, x, chunk(part(c_.index_, residual_), k));
    Head head = head_of(kSum, k);
    const Payload body = packed(head, x, packing_);
    for (Rank member : c_.members_)
      if (member != c_.world_.rank()) c_.world_.send(member, head, body);
    scale(x);
  }

  void scale(VecView x) const {
    if (scale_ != 1) axpby(scale_, x, 0.0, x, x);
  }

  bool fail(const Message& message) {
    status_ = make_status(StatusCode::invalid_argument, "collective: rank ", message.head.source, " sent ",
                          message.body.size(), " bytes that do not fit in; all members must call the same operations");
    return true;
  }

  Communicator& c_;
  const VecView x_, residual_;
  const Packing packing_;
  const double scale_;
  const uint64_t round_;
  std::vector<std::vector<Message>> waiting_;  // by chunk of the own segment and place after this member
  std::vector<int> added_;                     // by chunk of the own segment: members that its sum has so far
  std::vector<std::vector<bool>> came_;        // by owner and chunk: sums
  int64_t missing_ = 0;
  Status status_;
};

Communicator::Communicator(World& world, std::vector<Rank> members, Nanos deadline, uint64_t epoch,
                           std::function<bool()> interrupted, DeviceCollectives on_device, Liveness* liveness)
    : world_(world),
      members_(std::move(members)),
      deadline_(deadline),
      interrupted_(std::move(interrupted)),
      on_device_(on_device),
      liveness_(liveness),
      round_(epoch << kEpochShift) {
  SINEW_CHECK(on_device == DeviceCollectives::staged || !world.simulated(), "communicator",
              "NCCL knows no virtual time");
  auto me = std::find(members_.begin(), members_.end(), world.rank());
  SINEW_CHECK(me != members_.end(), "communicator", "rank ", world.rank(), " is not among the members");
  index_ = static_cast<int>(me - members_.begin());
}

Status Communicator::collect(Rank source, uint64_t round, const int64_t& missing, const Taker& take) {
  const std::string from = source == kAnyRank ? "the other members" : detail::concat("rank ", source);
  const Match match{.tag = Tag::collective, .source = source, .request = round};
  std::optional<Deadline> deadline(std::in_place, world_, deadline_);
  if (liveness_) liveness_->begin();
  while (missing > 0) {
    const int64_t before = missing;
    const Nanos left = liveness_ ? liveness_->left() : deadline->left();
    const auto what = world_.receive_each(match, std::min(kLook, left), take);
    if (missing != before) {
      deadline.emplace(world_, deadline_);
      if (liveness_) liveness_->renew();
    }
    if (what == Received::What::message) break;
    SINEW_RETURN_IF_ERROR(look());
    if (what == Received::What::peer_lost) return make_status(StatusCode::peer_lost, "collective: ", from, " has left");
    if (liveness_ ? liveness_->over(members_) : deadline->left() == 0)
      return make_status(StatusCode::timeout, "collective: nothing from ", from, " for ",
                         static_cast<double>(deadline_) * 1e-9, " s");
  }
  return Status::Ok();
}

void Communicator::drop_late() {
  // A member that has completed a collective may have begun others of the same attempt.
  constexpr uint64_t kAhead = 4;
  for (uint64_t round = round_; round <= round_ + kAhead; ++round)
    while (world_.receive({.tag = Tag::collective, .request = round}, 0).ok()) {
    }
}

Status Communicator::look() const {
  // A member that left is done with this collective too, unless something is due from itself.
  for (Rank member : members_)
    if (PeerState s = world_.peer(member); s == PeerState::dead || s == PeerState::gone)
      return make_status(StatusCode::peer_lost, "collective: rank ", member, " is lost");
  if (interrupted_ && interrupted_()) return make_status(StatusCode::peer_lost, "collective: the members re-form");
  return Status::Ok();
}

Result<bool> Communicator::look_at_members() {
  SINEW_RETURN_IF_ERROR(look());
  return liveness_ && !liveness_->over(members_);
}

Result<NcclGroup*> Communicator::nccl_group(Device device) {
  if (nccl_) return nccl_.get();
  // Each member's device, and the name of the group, which is the first one's to make.
  std::vector<int64_t> own(1 + std::tuple_size_v<NcclGroup::Id>);
  own[0] = static_cast<int64_t>(kernels(device).identity());
  if (index_ == 0) {
    const Result<NcclGroup::Id> id = NcclGroup::make_id();
    if (!id.ok()) return id.status();
    std::copy(id->begin(), id->end(), own.begin() + 1);
  }
  const size_t stride = own.size();
  std::vector<int64_t> all(stride * members_.size());
  SINEW_RETURN_IF_ERROR(all_gather(own, all));
  for (size_t a = 0; a < members_.size(); ++a)
    for (size_t b = a + 1; b < members_.size(); ++b)
      if (all[a * stride] == all[b * stride])
        return make_status(StatusCode::invalid_argument, "ranks ", members_[a], " and ", members_[b],
                           " use the same GPU, which NCCL refuses: give each its own (CUDA_VISIBLE_DEVICES), or use "
                           "--run.communicator ring");
  NcclGroup::Id id;
  std::copy_n(all.begin() + 1, id.size(), id.begin());
  if (liveness_) liveness_->begin();
  auto made = NcclGroup::make(id, size(), index_, device, deadline_, [this] { return look_at_members(); });
  if (!made.ok()) return made.status();
  nccl_ = std::move(*made);
  return nccl_.get();
}

template <class Call>
Status Communicator::through_nccl(Device device, const Call& call) {
  const Result<NcclGroup*> group = nccl_group(device);
  if (!group.ok()) return group.status();
  if (liveness_) liveness_->begin();
  const Status done = call(**group, [this] { return look_at_members(); });
  if (liveness_ && done.ok()) liveness_->renew();
  return done;
}

Status Communicator::all_reduce(VecView x, bool average) {
  SINEW_CHECK(is_float(x.dtype), "all_reduce", "needs f32 or f64, got ", to_string(x.dtype));
  const int p = size();
  if (p == 1 || x.size == 0) return Status::Ok();
  if (x.device != Device::cpu && on_device_ == DeviceCollectives::nccl)
    return through_nccl(x.device, [&](NcclGroup& g, const auto& look) { return g.all_reduce(x, average, look); });
  // Once around to add up: member j's segment is complete at j - 1, which keeps it; once more for the others.
  return Pass::run(*this,
                   {.x = x, .last = 2 * (p - 1), .end = 2 * (p - 1), .sums = p - 1, .scale = average ? 1.0 / p : 1.0});
}

Status Communicator::all_reduce_packed(VecView x, bool average, Packing packing, VecView residual) {
  if (packing == Packing::none) return all_reduce(x, average);
  SINEW_CHECK(
      is_float(x.dtype) && residual.size == x.size && residual.dtype == x.dtype && residual.device == Device::cpu,
      "all_reduce_packed", "needs f32 or f64 and a residual alike in host memory, got ", x.size, " ",
      to_string(x.dtype), " and ", residual.size, " ", to_string(residual.dtype));
  if (x.size == 0) return Status::Ok();
  if (x.device != Device::cpu) {
    Staging staging(x);
    staging.get(0, x.size);
    staging.wait();
    SINEW_RETURN_IF_ERROR(all_reduce_packed(staging.host(), average, packing, residual));
    staging.put(0, x.size);
    staging.wait();
    return Status::Ok();
  }
  if (size() == 1) {  // nothing is rounded
    axpby(1.0, x, 1.0, residual, x);
    fill(residual, 0);
    return Status::Ok();
  }
  return PackedPass(*this, x, residual, packing, average ? 1.0 / size() : 1.0).run();
}

Status Communicator::broadcast(VecView x, int root, Packing packing) {
  const int p = size();
  SINEW_CHECK(root >= 0 && root < p, "broadcast", "root ", root, " of ", p, " members");
  if (p == 1 || x.size == 0) return Status::Ok();
  if (x.device != Device::cpu && on_device_ == DeviceCollectives::nccl && packing == Packing::none)
    return through_nccl(x.device, [&](NcclGroup& g, const auto& look) { return g.broadcast(x, root, look); });
  const int distance = (index_ - root + p) % p;
  return Pass::run(*this, {.x = x,
                           .sends = distance == 0,
                           .first = std::max(distance, 1),
                           .last = distance,
                           .end = p - 1,
                           .whole = true,
                           .packing = packing});
}

Status Communicator::all_gather(ConstVecView in, VecView out) {
  const int p = size();
  SINEW_CHECK(out.size == in.size * p && out.dtype == in.dtype, "all_gather", "out has ", out.size, " elements, ", p,
              " members give ", in.size, " each");
  copy(in, out.slice(in.size * index_, in.size));
  if (p == 1 || in.size == 0) return Status::Ok();
  if (out.device != Device::cpu && on_device_ == DeviceCollectives::nccl)
    return through_nccl(out.device, [&](NcclGroup& g, const auto& look) { return g.all_gather(out, look); });
  return Pass::run(*this, {.x = out, .last = p - 1, .end = p - 1});
}

Status Communicator::barrier() {
  // One element travels once around to be complete and once more to tell.
  double token = 0;
  return all_reduce(VecView(&token, 1, DType::f64));
}

}  // namespace sinew::dist
