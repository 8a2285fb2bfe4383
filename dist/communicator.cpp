#include "dist/communicator.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

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
// How often a waiting member looks whether some member, not only its neighbour, has died.
constexpr Nanos kLook = 100 * kMillisecond;

// A device's vector goes through host memory: messages are made of that.
template <class Collective>
Status staged(VecView x, const Collective& collective) {
  Vec host = Vec::empty(x.size, x.dtype);
  download(x, host.mutable_view().data);
  SINEW_RETURN_IF_ERROR(collective(host.mutable_view()));
  upload(host.view().data, x);
  return Status::Ok();
}

}  // namespace

// One collective in progress. The vector falls into segments, a segment into chunks, and each chunk is a message that
// goes around the ring on its own and names the hop and its place in the segment. Each member starts its own segment;
// hop h brings it that of the member h places before it.
class Communicator::Pass {
 public:
  struct Plan {
    VecView x;
    bool sends = true;        // this member starts a segment
    int first = 1, last = 0;  // hops that reach this member
    int end = 0;              // what came at a hop below goes on to the next member
    int sums = 0;             // hops up to this one are added up, later ones are the result
    bool whole = false;       // one segment, the whole vector, instead of one a member
    double scale = 1;         // of the sum
  };

  Pass(Communicator& owner, const Plan& plan) : c_(owner), plan_(plan), round_(++owner.round_) {
    own_ = plan.sends ? chunks(part(0)) : 0;
    came_.resize(static_cast<size_t>(std::max(plan.last + 1, 1)));
    for (int hop = plan.first; hop <= plan.last; ++hop) {
      came_[static_cast<size_t>(hop)].resize(static_cast<size_t>(chunks(part(hop))));
      missing_ += chunks(part(hop));
    }
  }

  Status run() {
    const int64_t window = missing_ == 0 ? own_ : std::min(own_, kWindow);
    while (sent_ < window) send_own();
    std::optional<Deadline> deadline(std::in_place, c_.world_, c_.deadline_);
    const Match match{.tag = Tag::collective, .source = previous(), .request = round_};
    while (missing_ > 0) {
      const int64_t before = missing_;
      const auto what = c_.world_.receive_each(match, std::min(kLook, deadline->left()),
                                               [this](const Message& message) { return take(message); });
      if (what == Received::What::message) break;
      if (missing_ != before) deadline.emplace(c_.world_, c_.deadline_);
      // A member that left is done with this collective too, unless something is due from itself.
      for (Rank member : c_.members_)
        if (PeerState s = c_.world_.peer(member); s == PeerState::dead || s == PeerState::gone)
          return make_status(StatusCode::peer_lost, "collective: rank ", member, " is lost");
      if (what == Received::What::peer_lost)
        return make_status(StatusCode::peer_lost, "collective: rank ", previous(), " has left");
      if (c_.interrupted_ && c_.interrupted_())
        return make_status(StatusCode::peer_lost, "collective: the members re-form");
      if (deadline->left() == 0)
        return make_status(StatusCode::timeout, "collective: nothing from rank ", previous(), " for ",
                           static_cast<double>(c_.deadline_) * 1e-9, " s");
    }
    return status_;
  }

 private:
  Rank next() const { return c_.members_[(c_.index_ + 1) % c_.size()]; }
  Rank previous() const { return c_.members_[(c_.index_ + c_.size() - 1) % c_.size()]; }
  // The segment that is on its way here at this hop.
  VecView part(int hop) const {
    if (plan_.whole) return plan_.x;
    const int64_t p = c_.size(), s = (c_.index_ - hop + 2 * p) % p;
    const int64_t begin = plan_.x.size * s / p;
    return plan_.x.slice(begin, plan_.x.size * (s + 1) / p - begin);
  }
  int64_t chunk_elements() const { return kChunkBytes / static_cast<int64_t>(size_of(plan_.x.dtype)); }
  int64_t chunks(VecView part) const { return (part.size + chunk_elements() - 1) / chunk_elements(); }
  VecView chunk(VecView part, int64_t k) const {
    return part.slice(k * chunk_elements(), std::min(chunk_elements(), part.size - k * chunk_elements()));
  }

  void send(int hop, int64_t k, Payload body) {
    Head head{.tag = Tag::collective, .request = round_};
    head.arg[0] = hop;
    head.arg[1] = k;
    c_.world_.send(next(), head, std::move(body));
  }
  void send_own() {
    send(1, sent_, Payload::copy_of(chunk(part(0), sent_)));
    ++sent_;
  }

  // True when this was the last one, or the members do not do the same.
  bool take(const Message& message) {
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
      return send(hop + 1, k, std::move(sum));
    }
    if (hop == plan_.sums) {
      add(body, x, x);
      if (plan_.scale != 1) axpby(plan_.scale, x, 0.0, x, x);
    } else {
      std::memcpy(x.data, body.data(), body.size());
    }
    if (hop < plan_.end) send(hop + 1, k, Payload::copy_of(x));
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

Communicator::Communicator(World& world, std::vector<Rank> members, Nanos deadline, uint64_t epoch,
                           std::function<bool()> interrupted)
    : world_(world),
      members_(std::move(members)),
      deadline_(deadline),
      interrupted_(std::move(interrupted)),
      round_(epoch << kEpochShift) {
  auto me = std::find(members_.begin(), members_.end(), world.rank());
  SINEW_CHECK(me != members_.end(), "communicator", "rank ", world.rank(), " is not among the members");
  index_ = static_cast<int>(me - members_.begin());
}

Status Communicator::all_reduce(VecView x, bool average) {
  SINEW_CHECK(is_float(x.dtype), "all_reduce", "needs f32 or f64, got ", to_string(x.dtype));
  const int p = size();
  if (p == 1 || x.size == 0) return Status::Ok();
  if (x.device != Device::cpu) return staged(x, [&](VecView host) { return all_reduce(host, average); });
  // Once around to add up: member j's segment is complete at j - 1, which keeps it; once more for the others.
  return Pass(*this, {.x = x, .last = 2 * (p - 1), .end = 2 * (p - 1), .sums = p - 1, .scale = average ? 1.0 / p : 1.0})
      .run();
}

Status Communicator::broadcast(VecView x, int root) {
  const int p = size();
  SINEW_CHECK(root >= 0 && root < p, "broadcast", "root ", root, " of ", p, " members");
  if (p == 1 || x.size == 0) return Status::Ok();
  if (x.device != Device::cpu) return staged(x, [&](VecView host) { return broadcast(host, root); });
  const int distance = (index_ - root + p) % p;
  return Pass(*this, {.x = x,
                      .sends = distance == 0,
                      .first = std::max(distance, 1),
                      .last = distance,
                      .end = p - 1,
                      .whole = true})
      .run();
}

Status Communicator::all_gather(ConstVecView in, VecView out) {
  const int p = size();
  SINEW_CHECK(out.size == in.size * p && out.dtype == in.dtype, "all_gather", "out has ", out.size, " elements, ", p,
              " members give ", in.size, " each");
  copy(in, out.slice(in.size * index_, in.size));
  if (p == 1 || in.size == 0) return Status::Ok();
  if (out.device != Device::cpu)
    return staged(out, [&](VecView host) { return all_gather(host.slice(in.size * index_, in.size), host); });
  return Pass(*this, {.x = out, .last = p - 1, .end = p - 1}).run();
}

Status Communicator::barrier() {
  // One element travels once around to be complete and once more to tell.
  double token = 0;
  return all_reduce(VecView(&token, 1, DType::f64));
}

}  // namespace sinew::dist
