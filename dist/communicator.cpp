#include "dist/communicator.h"

#include <algorithm>
#include <utility>

#include "dist/rules.h"

namespace sinew::dist {
namespace {

// Large enough that a message's fixed cost vanishes, small enough that receiving, adding and forwarding overlap.
constexpr int64_t kChunkBytes = 120 * 1024;
// How often a waiting member looks whether some member, not only its neighbour, has died.
constexpr Nanos kLook = 100 * kMillisecond;

}  // namespace

// One collective in progress: the ring neighbours, and how vectors are cut. A vector falls into size() segments,
// one a member, and a segment into chunks.
struct Communicator::Step {
  Communicator& c;
  const int p, me;
  const uint64_t round;
  VecView x;

  Step(Communicator& owner, VecView vector)
      : c(owner), p(owner.size()), me(owner.index_), round(++owner.round_), x(vector) {}

  Rank next() const { return c.members_[(me + 1) % p]; }
  Rank previous() const { return c.members_[(me + p - 1) % p]; }
  int64_t begin(int segment) const { return x.size * segment / p; }
  int64_t chunk_elements() const { return kChunkBytes / static_cast<int64_t>(size_of(x.dtype)); }
  int64_t chunks(int64_t elements) const { return (elements + chunk_elements() - 1) / chunk_elements(); }

  // fn(offset, count, name) for each chunk of x[from, to); `hop` tells the passes over the ring apart.
  template <class F>
  Status each_chunk(int64_t from, int64_t to, int64_t hop, F fn) {
    for (int64_t at = from, k = 0; at < to; at += chunk_elements(), ++k)
      SINEW_RETURN_IF_ERROR(fn(x.slice(at, std::min(chunk_elements(), to - at)), hop << 32 | k));
    return Status::Ok();
  }

  void send(int64_t name, Payload body) {
    Head head{.tag = Tag::collective, .request = round};
    head.arg[0] = name;
    c.world_.send(next(), head, std::move(body));
  }

  Result<Payload> receive(int64_t name, size_t bytes) {
    Deadline deadline(c.world_, c.deadline_);
    const Match match{.tag = Tag::collective, .source = previous(), .request = round, .arg0 = name};
    for (;;) {
      Received r = c.world_.receive(match, std::min(kLook, deadline.left()));
      if (r.ok()) {
        if (r.message.body.size() == bytes) return std::move(r.message.body);
        return make_status(StatusCode::invalid_argument, "collective: rank ", previous(), " sent ",
                           r.message.body.size(), " bytes where ", bytes,
                           " are expected; all members must call the same operations");
      }
      // A member that left is done with this collective too, unless the message is due from itself.
      for (Rank member : c.members_)
        if (PeerState s = c.world_.peer(member); s == PeerState::dead || s == PeerState::gone)
          return make_status(StatusCode::peer_lost, "collective: rank ", member, " is lost");
      if (r.what == Received::What::peer_lost)
        return make_status(StatusCode::peer_lost, "collective: rank ", previous(), " has left");
      if (deadline.left() == 0)
        return make_status(StatusCode::timeout, "collective: nothing from rank ", previous(), " for ",
                           static_cast<double>(c.deadline_) * 1e-9, " s");
    }
  }
};

Communicator::Communicator(World& world, std::vector<Rank> members, Nanos deadline)
    : world_(world), members_(std::move(members)), deadline_(deadline) {
  auto me = std::find(members_.begin(), members_.end(), world.rank());
  SINEW_CHECK(me != members_.end(), "communicator", "rank ", world.rank(), " is not among the members");
  index_ = static_cast<int>(me - members_.begin());
}

Status Communicator::all_reduce(VecView x, bool average) {
  SINEW_CHECK(is_float(x.dtype), "all_reduce", "needs f32 or f64, got ", to_string(x.dtype));
  const int p = size();
  if (p == 1 || x.size == 0) return Status::Ok();
  if (x.device != Device::cpu) {
    Vec host = Vec::empty(x.size, x.dtype);
    download(x, host.mutable_view().data);
    SINEW_RETURN_IF_ERROR(all_reduce(host.mutable_view(), average));
    upload(host.view().data, x);
    return Status::Ok();
  }
  Step step(*this, x);
  // Member j's segment starts its way at j and is complete at j - 1. A received body is ours alone: x is added into it
  // and it travels on, so that every byte is touched once a hop.
  auto segment = [&](int hop) { return (index_ - hop + 2 * p) % p; };
  auto over = [&](int hop, auto fn) {
    const int s = segment(hop);
    return step.each_chunk(step.begin(s), step.begin(s + 1), hop, fn);
  };
  SINEW_RETURN_IF_ERROR(over(0, [&](VecView part, int64_t name) {
    step.send(name, Payload::copy_of(part));
    return Status::Ok();
  }));
  for (int hop = 1; hop <= 2 * (p - 1); ++hop) {
    SINEW_RETURN_IF_ERROR(over(hop, [&](VecView part, int64_t name) {
      Result<Payload> received = step.receive(name - (int64_t(1) << 32), part.bytes());
      if (!received.ok()) return received.status();
      Payload body = std::move(*received);
      if (hop < p) {
        if (!body.unique()) body = Payload::copy_of(body.view(part.dtype));
        VecView sum = body.mutable_view(part.dtype);
        const double scale = average && hop == p - 1 ? 1.0 / p : 1.0;
        accumulate(1.0, part, sum);
        if (scale != 1.0) axpby(scale, sum, 0.0, sum, sum);
      }
      if (hop >= p - 1) copy(body.view(part.dtype), part);
      if (hop < 2 * (p - 1)) step.send(name, std::move(body));
      return Status::Ok();
    }));
  }
  return Status::Ok();
}

Status Communicator::broadcast(VecView x, int root) {
  const int p = size();
  SINEW_CHECK(root >= 0 && root < p, "broadcast", "root ", root, " of ", p, " members");
  SINEW_CHECK(x.device == Device::cpu, "broadcast", "needs host memory");
  if (p == 1 || x.size == 0) return Status::Ok();
  Step step(*this, x);
  const bool last = (index_ + 1) % p == root;
  return step.each_chunk(0, x.size, 0, [&](VecView part, int64_t name) {
    Payload body;
    if (index_ == root) {
      body = Payload::copy_of(part);
    } else {
      Result<Payload> received = step.receive(name, part.bytes());
      if (!received.ok()) return received.status();
      body = std::move(*received);
      copy(body.view(part.dtype), part);
    }
    if (!last) step.send(name, std::move(body));
    return Status::Ok();
  });
}

Status Communicator::all_gather(ConstVecView in, VecView out) {
  const int p = size();
  SINEW_CHECK(out.size == in.size * p && out.dtype == in.dtype, "all_gather", "out has ", out.size, " elements, ", p,
              " members give ", in.size, " each");
  SINEW_CHECK(in.device == Device::cpu && out.device == Device::cpu, "all_gather", "needs host memory");
  copy(in, out.slice(in.size * index_, in.size));
  if (p == 1 || in.size == 0) return Status::Ok();
  Step step(*this, out);
  for (int hop = 0; hop < p; ++hop) {
    const int s = (index_ - hop + p) % p;
    SINEW_RETURN_IF_ERROR(step.each_chunk(in.size * s, in.size * (s + 1), hop, [&](VecView part, int64_t name) {
      Payload body;
      if (hop == 0) {
        body = Payload::copy_of(part);
      } else {
        Result<Payload> received = step.receive(name - (int64_t(1) << 32), part.bytes());
        if (!received.ok()) return received.status();
        body = std::move(*received);
        copy(body.view(part.dtype), part);
      }
      if (hop < p - 1) step.send(name, std::move(body));
      return Status::Ok();
    }));
  }
  return Status::Ok();
}

Status Communicator::barrier() {
  // One element travels once around to be complete and once more to tell.
  double token = 0;
  return all_reduce(VecView(&token, 1, DType::f64));
}

}  // namespace sinew::dist
