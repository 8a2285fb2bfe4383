// Inside of the simulator; nobody but dist/sim includes this.
//
// Invariants
//  - now() <= clock() of every node that can run: a node may run ahead of the agenda in its private time, but it
//    touches nothing shared before sync() has let all earlier events happen.
//  - Everything in an inbox was delivered at or before now(), so taking a match without a switch is exact.
//  - A node is idle, ready (one wake queued), waiting (in receive), doomed (at the time of its own death) or running.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/fiber.h"
#include "core/node_locals.h"
#include "dist/own_faults.h"
#include "dist/sim/compute_pool.h"
#include "dist/sim/event_queue.h"
#include "dist/sim/simulation.h"

namespace sinew::dist {

struct InFlight {
  Message message;
  Nanos sent = 0, wire = 0;  // wire: time on each of the two links
  bool received = false;     // has passed the receiver's link
  InFlight* next = nullptr;
};

class SimNode;

struct Simulation::Impl {
  Impl(SimOptions options, int nodes);
  ~Impl();

  SimReport run();
  void schedule_start(SimNode& node);
  void process(const Event& event);
  void deliver(const Event& event);
  void run_handler(SimNode& node, const Handler& handler, InFlight* m, Nanos at);
  void enter(SimNode& node);
  void die(SimNode& node, Nanos when, bool may_return);
  void set_lost(SimNode& node);
  void landed(Rank source);
  std::string report_deadlock();
  InFlight* take();
  void give(InFlight* m);

  SimOptions options;
  bool touches_messages = false, has_slow = false;
  std::unique_ptr<ComputePool> threads;  // where there are several
  EventQueue queue;
  std::vector<std::unique_ptr<SimNode>> nodes;
  Nanos now = 0;      // of the event being processed
  Nanos started = 0;  // virtual time at which this run() began
  bool first_run = true;
  uint64_t events = 0, trace = 0;
  std::deque<InFlight> pool;
  InFlight* free = nullptr;
};

class SimNode final : public World {
 public:
  using Engine = Simulation::Impl;
  SimNode(Engine& engine, Rank rank) : engine_(engine), rank_(rank) {}

  Rank rank() const override { return rank_; }
  int size() const override { return static_cast<int>(engine_.nodes.size()); }
  uint32_t incarnation() const override { return incarnation_; }
  bool simulated() const override { return true; }
  Nanos now() const override { return handling_ ? handler_time_ : clock_; }
  void compute(const Cost& cost, const std::function<void()>& fn) override;
  void sleep(Nanos duration) override;
  void send(Rank to, Head head, Payload body) override;
  Received receive(const Match& match, Nanos timeout) override;
  uint64_t open_request() override;
  void close_request(uint64_t request) override;
  void on(Tag tag, Handler handler) override;
  void publish(const std::function<void()>& fn) override;
  PeerState peer(Rank rank) const override;
  bool suppressed(int64_t round) override;
  void report_step(int64_t step, VecView theta) override;
  void leave() override;
  TrafficCounters traffic() const override;
  int64_t stops() const override;
  Status health() const override { return Status::Ok(); }

 private:
  friend struct Simulation::Impl;
  friend class Simulation;
  enum class State : uint8_t { idle, ready, waiting, doomed, running };

  Moment moment() const { return {now(), step_}; }
  // On its way, to arrive at that time.
  void post(Nanos begin, Nanos arrival, Nanos wire, Rank to, const Head& head, Payload body);
  // Lets everything happen that comes before this node's clock.
  void sync() const;
  void wake_at(Nanos time) const;
  // Charges time, and the pauses that begin in it; stops at this node's death.
  void advance(Nanos duration);
  void move_to(Nanos end);
  // Hands control to the engine. Throws Killed on the way back when this node was killed meanwhile.
  void block() const;
  // True: killed, and unwinding (a blocking call in a destructor then does nothing). Throws Killed otherwise.
  bool dead() const;
  // The first time at or after `time` when this node is not paused.
  Nanos awake(Nanos time) const;
  void set_next_kill(Nanos after, bool inclusive);
  void arm_timer(Nanos deadline);
  bool wants(const Message& m) const { return state_ == State::waiting && matches(match_, m.head); }
  static bool matches(const Match& match, const Head& head);
  InFlight* take_match();
  void clear_inbox();
  const Handler* handler_for(Tag tag) const;

  Engine& engine_;
  const Rank rank_;
  std::function<Status(World&)> main_;
  std::unique_ptr<Fiber> fiber_;
  NodeLocals locals_;
  mutable State state_ = State::idle;
  mutable uint64_t generation_ = 0;
  PeerState seen_ = PeerState::alive;  // by the others
  bool alive_ = true, left_ = false, killed_ = false, timed_out_ = false, handling_ = false;
  bool may_return_ = false;  // after its death
  bool goodbye_ = false;     // has reached everybody, but for messages still on their way
  int64_t in_flight_ = 0;    // messages sent, neither delivered nor lost
  uint32_t incarnation_ = 0;
  int restarts_ = 0;
  Nanos clock_ = 0, begun_ = 0, handler_time_ = 0;
  Nanos send_free_ = 0, receive_free_ = 0, service_free_ = 0;  // busy until
  Nanos kill_at_ = INT64_MAX, deadline_ = INT64_MAX, timer_at_ = INT64_MAX;
  std::vector<std::pair<Nanos, Nanos>> pauses_;
  Match match_;
  InFlight *inbox_ = nullptr, **inbox_end_ = &inbox_;
  std::vector<std::pair<Tag, Handler>> handlers_;
  std::vector<uint64_t> requests_;  // open ones
  uint64_t sequence_[2] = {0, 0};   // training side, handlers
  uint64_t request_ = 0, draws_ = 0;
  int64_t step_ = -1;
  std::optional<OwnFaults> faults_;
  TrafficCounters traffic_;
  NodeOutcome outcome_;
};

}  // namespace sinew::dist
