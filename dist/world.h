// World: everything a node (a worker or a center) sees of the outside. Scheme code is written once against this
// interface and runs on real processes (dist/ucx) and in virtual time (dist/sim).
//
// Rules for scheme code (they make the two worlds agree; tests look for violations)
//  1. Straight-line blocking code; every wait has a timeout, and a timeout is data, not an exception.
//  2. No wall clock: now() is logged and bounds waits, and decides nothing else. No threads, no thread_local, no sleep
//  but sleep().
//  3. Randomness only from core/philox.h, keyed by (seed, purpose, rank, step).
//  4. Handlers run on arrival (on the communication thread, or in the simulator's scheduler). They touch only
//     state that the training side touches inside publish(), may send, and never block.
//  5. Sums over peers in a fixed order of ranks. No iteration over unordered containers.
//  6. No blocking call inside a parallel region, under a lock, in a handler or in a destructor.
//  7. Each exchange is a request with an id; late replies are dropped by id; handlers tolerate loss and duplicates.
//  8. All state that outlives a step is in the node's objects (so that it can be saved), none in locals.
//
// Identity of a message: (source, incarnation, sequence). The world numbers messages per role (training side and
// handlers count separately), so a recorded order of deliveries repeats a run.
//
// Thread safety: in the real world the training thread calls everything; handlers may call send, alive and now.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "core/status.h"
#include "core/storage.h"
#include "core/vec.h"

namespace sinew::dist {

using Rank = int32_t;
inline constexpr Rank kAnyRank = -1;
using Nanos = int64_t;
inline constexpr Nanos kMicrosecond = 1000, kMillisecond = 1000 * 1000, kSecond = 1000 * 1000 * 1000;
inline constexpr Nanos kStop = kSecond;  // World::stops()

// Shared immutable bytes of a message, 64-byte aligned (so that vectorised loops give the same bits in both worlds).
// A borrowed payload, which only a Taker may get, lies in the transport's buffer instead: valid during the call, and at
// any address, so that its numbers are read with memcpy. Copying it copies the bytes: whoever keeps one owns it.
class Payload {
 public:
  Payload() = default;
  Payload(const Payload& other) : Payload(other.borrowed_ ? clone(other) : Payload(other.storage_, other.size_)) {}
  Payload(Payload&& other) noexcept { swap(other); }
  Payload& operator=(Payload other) noexcept {
    swap(other);
    return *this;
  }
  // Large ones lie, where a GPU is used, in memory that it copies to and from by itself.
  static Payload allocate(size_t bytes) {
    constexpr size_t kLarge = 128 * 1024;
    return Payload(!bytes ? StorageRef()
                          : StorageRef(bytes < kLarge ? Storage::allocate(bytes, Device::cpu)
                                                      : Storage::allocate_for_copies(bytes, Device::cuda)),
                   bytes);
  }
  static Payload borrow(void* data, size_t bytes) {
    Payload p;
    if (bytes) p.borrowed_ = data;
    p.size_ = bytes;
    return p;
  }
  // A host copy of the vector.
  static Payload copy_of(ConstVecView vector);

  size_t size() const { return size_; }
  bool borrowed() const { return borrowed_ != nullptr; }
  // True when nobody else shares the bytes (a received message's, or before the payload is sent): then they may be
  // written in place.
  bool unique() const { return size_ == 0 || (!borrowed_ && storage_->unique()); }
  // Write only while unique().
  void* data() const { return borrowed_ ? borrowed_ : size_ ? storage_->data() : nullptr; }
  // REQUIRES: size() is a multiple of the element size, not borrowed().
  ConstVecView view(DType dtype) const { return {data(), static_cast<int64_t>(size_ / size_of(dtype)), dtype}; }
  VecView mutable_view(DType dtype) const { return {data(), static_cast<int64_t>(size_ / size_of(dtype)), dtype}; }

 private:
  Payload(StorageRef storage, size_t size) : storage_(std::move(storage)), size_(size) {}
  static Payload clone(const Payload& other);
  void swap(Payload& other) noexcept {
    std::swap(storage_, other.storage_);
    std::swap(borrowed_, other.borrowed_);
    std::swap(size_, other.size_);
  }

  StorageRef storage_;
  void* borrowed_ = nullptr;
  size_t size_ = 0;
};

// Message kinds. Values are on the wire; append only.
enum class Tag : uint16_t {
  none = 0,
  control = 1,     // the world's own: hello, heartbeat, goodbye
  collective = 2,  // ring collectives (dist/communicator.h)
  center_fetch = 3,
  center_part = 4,  // reply: one shard of the center
  center_add = 5,
  center_ack = 6,  // reply to center_join and center_leave
  center_leave = 7,
  sync = 8,  // membership of synchronous schemes
  center_join = 9,
  sync_result = 10,  // of the last round, to who missed it (dist/schemes/lockstep.h)
  center_seed = 11,  // a shard of the last known center, for one that has lost it
  sync_ask = 12,     // 12, 13: dist/liveness.h
  sync_answer = 13,
  gossip_request = 20,  // 20 to 22: dist/exchange.h
  gossip_reply = 21,
  gossip_ack = 22,
  gossip_wake = 23,        // to itself
  gossip_parameters = 24,  // 24 to 26: dist/gossip_group.h
  gossip_answer = 25,
  gossip_average = 26,
  center_score = 30,  // dynamic weighting: how suspicious a worker looks (dist/weighting.h)
  tree_push = 31,     // parameters, up or down a tree (dist/schemes/tree.h)
  tree_fetch = 32,
  tree_ack = 33,    // reply to tree_fetch
  leader_ask = 40,  // 40 to 42: dist/schemes/leader_tickets.h
  leader_join = 41,
  leader_answer = 42,
  leader_fetch = 43,  // 43, 44: dist/schemes/leader_async.cpp
  leader_parameters = 44,
  leader_probe = 45,  // dist/schemes/leader_tickets.h
  test = 100,
};

// Fixed-width, little-endian on the wire, no padding. source, incarnation and sequence are filled by send().
struct Head {
  Tag tag = Tag::none;
  uint16_t is_reply = 0;  // 1: `request` is the receiver's own number, dropped unless still open
  Rank source = kAnyRank;
  uint32_t incarnation = 0;
  uint32_t packing = 0;  // of the body (dist/packing.h)
  uint64_t request = 0;
  uint64_t sequence = 0;
  int64_t arg[4] = {0, 0, 0, 0};  // meaning by tag
};
static_assert(sizeof(Head) == 64);
inline Head make_head(Tag tag, int64_t a0, int64_t a1 = 0, int64_t a2 = 0, int64_t a3 = 0) {
  return {.tag = tag, .arg = {a0, a1, a2, a3}};
}

// How often whoever waits for others looks whether they still live.
inline constexpr Nanos kLook = 100 * kMillisecond;

struct Message {
  Head head;
  Payload body;
};

struct Received {
  enum class What {
    message,
    timeout,
    peer_lost,  // only when a definite source was asked for, and it is dead, gone or left
  } what = What::timeout;
  Message message;
  bool ok() const { return what == What::message; }
};

// Which message a receive waits for. Matching is first come, first served among equals.
struct Match {
  Tag tag = Tag::none;
  Rank source = kAnyRank;
  uint64_t request = 0;  // 0: any
  int64_t arg0 = -1;     // -1: any; otherwise head.arg[0] must be equal
};

// What a piece of computation costs in virtual time: so many local training steps. Depends on sizes and counters only.
struct Cost {
  double steps = 1;
};

// What a node sends to itself takes no link and does not count.
struct TrafficCounters {
  int64_t bytes_sent = 0, bytes_received = 0;  // heads and bodies
  int64_t messages_sent = 0, messages_received = 0;
  int64_t late_replies = 0, timeouts = 0;
};

enum class PeerState : uint8_t {
  joining,  // not heard of yet
  alive,
  dead,  // lost; may come back with a higher incarnation
  gone,  // lost for good
  left,  // finished and said goodbye; all that it had sent has arrived
};

// No message will come from there (unless a dead one comes back).
inline bool is_lost(PeerState s) { return s == PeerState::dead || s == PeerState::gone || s == PeerState::left; }

using Handler = std::function<void(const Message&)>;
// Takes one message; true when it was the last that is waited for.
using Taker = std::function<bool(const Message&)>;

class World {
 public:
  virtual ~World() = default;

  virtual Rank rank() const = 0;
  virtual int size() const = 0;              // nodes, the center included
  virtual uint32_t incarnation() const = 0;  // 0, then 1, 2, ... after each restart of this rank
  virtual bool simulated() const = 0;

  // Nanoseconds since this world began: steady clock or virtual time. For logging.
  virtual Nanos now() const = 0;
  // Runs fn, which touches only this node's private state and calls nothing of the world, and charges its cost.
  virtual void compute(const Cost& cost, const std::function<void()>& fn) = 0;
  virtual void sleep(Nanos duration) = 0;

  // Never blocks on the peer. To a dead peer it does nothing. The payload is shared, not copied: do not write to it
  // after.
  virtual void send(Rank to, Head head, Payload body = {}) = 0;
  // Waits for a message without a handler. timeout is relative.
  virtual Received receive(const Match& match, Nanos timeout) = 0;
  // Gives each message that matches to `take`, in order of arrival, until it returns true; then the result is
  // `message`. timeout is from one message to the next. In the real world `take` runs on the communication thread while
  // this one sleeps: a hand-over between threads for each message would cost more than short work on it. It may send;
  // it never blocks, and calls nothing else of the world. What it sends counts as the training side's.
  virtual Received::What receive_each(const Match& match, Nanos timeout, const Taker& take);
  // Numbers a request of this node; replies (head.is_reply) with other numbers are dropped.
  virtual uint64_t open_request() = 0;
  virtual void close_request(uint64_t request) = 0;
  // Before the first message can arrive: from now on messages with this tag go to the handler. An empty handler
  // unregisters; when on() returns, the former handler is not running and will not run again.
  virtual void on(Tag tag, Handler handler) = 0;
  // Runs fn alone with respect to this node's handlers.
  virtual void publish(const std::function<void()>& fn) = 0;

  virtual PeerState peer(Rank rank) const = 0;
  // True when the fault plan suppresses this node's communication in the given round (dynamic-weighting spec 1.8).
  virtual bool suppressed(int64_t round) = 0;
  // Tells the world, and in the real one the supervisor, how far this node is. Drives faults by step and by chance, and
  // those that corrupt theta.
  virtual void report_step(int64_t step, VecView theta) = 0;
  void report_step(int64_t step) { report_step(step, VecView()); }
  // Announces that this node is done and its results are kept: peers see `left`, not `dead`, and the supervisor does
  // not restart it, however it ends. The goodbye comes after all that was sent before.
  virtual void leave() = 0;
  virtual TrafficCounters traffic() const = 0;
  // How often so far this node was stopped for a second or longer: by SIGSTOP, a starved machine, a fault plan's
  // pause. What it waited for in vain meanwhile says nothing about others.
  virtual int64_t stops() const = 0;

  // Non-ok when the node must stop (asked to, isolated, aborted).
  virtual Status health() const = 0;
};

// A number of an open request; late replies to it are dropped from the end of this object's life on.
class Request {
 public:
  explicit Request(World& world) : world_(world), id_(world.open_request()) {}
  ~Request() { world_.close_request(id_); }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  uint64_t id() const { return id_; }

 private:
  World& world_;
  const uint64_t id_;
};

// A bound on several waits together: each waits for what is left().
class Deadline {
 public:
  Deadline(const World& world, Nanos duration)
      : world_(world), end_(duration >= INT64_MAX - world.now() ? INT64_MAX : world.now() + duration) {}
  Nanos left() const { return end_ == INT64_MAX ? INT64_MAX : end_ > world_.now() ? end_ - world_.now() : 0; }

 private:
  const World& world_;
  const Nanos end_;
};

// Sends a request and waits for its one reply, a message with tag `reply`.
Received fetch(World& world, Rank to, Head head, Payload body, Tag reply, Nanos timeout);

// Thrown through scheme code when the simulator kills a node. Not a std::exception: nobody catches it by accident.
struct Killed {};

}  // namespace sinew::dist
