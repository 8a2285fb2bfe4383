#include "dist/sim/simulation.h"

#include <algorithm>
#include <exception>
#include <sstream>

#include "dist/sim/engine.h"

namespace sinew::dist {
namespace {

uint64_t mix(uint64_t z) {  // the finaliser of splitmix64
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// A node's arithmetic runs on its stack, on a GPU the driver's launches too. Only pages that are touched take memory.
constexpr size_t kNodeStack = size_t{1} << 20;

bool same_rank(const Fault& f, Rank rank) { return f.rank == kAnyRank || f.rank == rank; }

}  // namespace

Simulation::Impl::Impl(SimOptions o, int count) : options(std::move(o)) {
  SINEW_CHECK(count >= 1 && count < (1 << 20), "simulation", count, " nodes; allowed are 1 to 1,048,575");
  SINEW_CHECK(options.bandwidth > 0 && options.latency >= 0 && options.jitter >= 0 && options.jitter < 1 &&
                  options.step_cost >= 0 && options.service_cost >= 0 && options.detection >= 0,
              "simulation", "bandwidth must be above 0, times at least 0, jitter in [0, 1)");
  SINEW_CHECK(options.threads >= 1 && options.threads <= 1024, "simulation", options.threads,
              " threads; allowed are 1 to 1024");
  if (options.threads > 1) threads = std::make_unique<ComputePool>(options.threads);
  for (Rank r = 0; r < count; ++r) nodes.push_back(std::make_unique<SimNode>(*this, r));
  touches_messages = plan_touches_messages(options.faults);
  for (const Fault& f : options.faults.faults) {
    has_slow |= f.kind == Fault::Kind::slow;
    if (f.kind == Fault::Kind::pause && f.at >= 0)
      for (auto& n : nodes)
        if (same_rank(f, n->rank_)) n->pauses_.emplace_back(f.at, f.at + f.duration);
  }
  for (auto& n : nodes) std::sort(n->pauses_.begin(), n->pauses_.end());
}

Simulation::Impl::~Impl() {
  for (auto& n : nodes) n->clear_inbox();
}

InFlight* Simulation::Impl::take() {
  if (!free) {
    pool.emplace_back();
    return &pool.back();
  }
  InFlight* m = free;
  free = m->next;
  m->next = nullptr;
  return m;
}

void Simulation::Impl::give(InFlight* m) {
  m->message.body = Payload();
  m->next = free;
  free = m;
}

void SimNode::set_next_kill(Nanos after, bool inclusive) {
  kill_at_ = INT64_MAX;
  for (const Fault& f : engine_.options.faults.faults)
    if (f.kind == Fault::Kind::kill && f.at >= 0 && same_rank(f, rank_) &&
        (f.at > after || (inclusive && f.at == after)))
      kill_at_ = std::min(kill_at_, f.at);
}

void Simulation::Impl::schedule_start(SimNode& n) {
  n.set_next_kill(n.clock_, first_run && n.incarnation_ == 0);
  if (n.kill_at_ != INT64_MAX) queue.push(make_event(n.kill_at_, n.rank_, Event::kill));
  if (!n.main_) return;
  n.outcome_ = NodeOutcome{};
  n.fiber_ = std::make_unique<Fiber>(
      [&n](Fiber&) {
        NodeOutcome& o = n.outcome_;
        try {
          o.status = n.main_(n);
          o.what = o.status.ok() ? NodeOutcome::What::finished : NodeOutcome::What::failed;
        } catch (const Killed&) {
          o.what = NodeOutcome::What::killed;
        } catch (const std::exception& e) {
          o.what = NodeOutcome::What::failed;
          o.status = Status(StatusCode::internal, e.what());
        } catch (...) {
          o.what = NodeOutcome::What::failed;
          o.status = Status(StatusCode::internal, "unknown exception");
        }
      },
      kNodeStack);
  n.wake_at(n.clock_);
}

void Simulation::Impl::enter(SimNode& n) {
  n.state_ = SimNode::State::running;
  ++n.generation_;
  NodeLocals* outside = exchange_node_locals(&n.locals_);
  n.fiber_->resume();
  exchange_node_locals(outside);
  if (!n.fiber_->done()) return;
  n.fiber_.reset();
  n.state_ = SimNode::State::idle;
  n.outcome_.time = n.clock_;
  if (n.outcome_.what == NodeOutcome::What::failed && n.alive_) die(n, n.clock_, false);
}

// The node is dead from `when` on; the others learn of it after the detection time.
void Simulation::Impl::die(SimNode& n, Nanos when, bool may_return) {
  n.alive_ = false;
  n.kill_at_ = INT64_MAX;
  n.clear_inbox();
  if (n.left_) return;  // it had said goodbye
  n.may_return_ = may_return && n.restarts_ < options.restarts && n.main_;
  queue.push(make_event(when + options.detection, n.rank_, Event::lost));
  if (n.may_return_) {
    ++n.restarts_;
    queue.push(make_event(when + options.restart_delay, n.rank_, Event::restart));
  }
}

void Simulation::Impl::set_lost(SimNode& n) {
  n.seen_ = n.alive_ ? PeerState::left : n.may_return_ ? PeerState::dead : PeerState::gone;
  for (auto& other : nodes)
    if (other->state_ == SimNode::State::waiting && other->match_.source == n.rank_) {
      other->clock_ = std::max(other->clock_, other->awake(now));
      other->wake_at(other->clock_);
    }
}

// A message of `source` has arrived, or never will.
void Simulation::Impl::landed(Rank source) {
  SimNode& n = *nodes[source];
  if (--n.in_flight_ == 0 && n.goodbye_) set_lost(n);
}

void Simulation::Impl::run_handler(SimNode& n, const Handler& handler, InFlight* m, Nanos at) {
  n.service_free_ = std::max(at, n.service_free_) + options.service_cost;
  n.handler_time_ = n.service_free_;
  n.handling_ = true;
  NodeLocals* outside = exchange_node_locals(&n.locals_);
  Message message = std::move(m->message);
  give(m);
  try {
    handler(message);
  } catch (const std::exception& e) {  // a mistake in the handler ends its node, as it would end its process
    n.outcome_.status = make_status(StatusCode::internal, "handler of rank ", n.rank_, ": ", e.what());
  }
  exchange_node_locals(outside);
  n.handling_ = false;
  if (n.outcome_.status.ok()) return;
  Status status = n.outcome_.status;
  if (n.fiber_) {
    n.killed_ = true;
    enter(n);
  }
  n.outcome_.status = status;
  n.outcome_.what = NodeOutcome::What::failed;
  if (n.alive_) die(n, at, false);
}

void Simulation::Impl::deliver(const Event& event) {
  SimNode& n = *nodes[event.node()];
  InFlight* m = event.message;
  const Rank source = m->message.head.source;
  if (!n.alive_ || m->sent < n.begun_) {  // sent to the dead, or to the one before the restart
    give(m);
    return landed(source);
  }
  Nanos time = n.awake(event.time);
  if (!m->received) {
    time = std::max(time, n.receive_free_ + m->wire);
    n.receive_free_ = time;
    m->received = true;
  }
  if (time > event.time) {
    Event again = event;
    again.time = time;
    return queue.push(again);
  }
  const Head& head = m->message.head;
  trace = mix(trace ^ mix(uint64_t(time)) ^ mix(event.place * 3) ^ mix(event.origin * 5));
  if (m->message.head.source != n.rank_) {
    n.traffic_.bytes_received += static_cast<int64_t>(sizeof(Head) + m->message.body.size());
    ++n.traffic_.messages_received;
  }
  landed(source);
  if (head.is_reply && std::find(n.requests_.begin(), n.requests_.end(), head.request) == n.requests_.end()) {
    ++n.traffic_.late_replies;
    return give(m);
  }
  if (const Handler* handler = n.handler_for(head.tag)) return run_handler(n, *handler, m, time);
  m->next = nullptr;
  *n.inbox_end_ = m;
  n.inbox_end_ = &m->next;
  if (!n.wants(m->message)) return;
  if (n.clock_ > time) return n.wake_at(n.clock_);  // it ran ahead
  n.clock_ = time;
  enter(n);
}

void Simulation::Impl::process(const Event& event) {
  SimNode& n = *nodes[event.node()];
  switch (event.kind()) {
    case Event::delivery:
      return deliver(event);
    case Event::kill: {
      if (!n.alive_ || n.kill_at_ != event.time) return;
      if (n.fiber_) {
        n.killed_ = true;
        n.clock_ = event.time;
        enter(n);
      } else {
        n.outcome_.what = NodeOutcome::What::killed;
      }
      n.handlers_.clear();
      n.requests_.clear();
      return die(n, event.time, true);
    }
    case Event::lost:
      if (n.alive_ && !n.left_) return;  // it is back already
      n.goodbye_ = n.left_;
      if (!n.goodbye_ || n.in_flight_ == 0) set_lost(n);
      return;
    case Event::restart:
      if (n.seen_ == PeerState::alive) set_lost(n);  // nobody had noticed: those who wait for the old one must know
      n.seen_ = PeerState::alive;
      n.alive_ = true;
      n.killed_ = false;
      ++n.incarnation_;
      n.locals_ = NodeLocals{};
      n.faults_.reset();
      n.clock_ = n.begun_ = event.time;
      n.send_free_ = n.receive_free_ = n.service_free_ = event.time;
      return schedule_start(n);
    case Event::wake:
      if (n.state_ == SimNode::State::ready && event.generation == n.generation_) enter(n);
      return;
    case Event::timer:
      if (event.time != n.timer_at_) return;
      n.timer_at_ = INT64_MAX;
      if (n.state_ != SimNode::State::waiting) return;
      if (Nanos at = std::max(n.deadline_, n.awake(event.time)); at > event.time) return n.arm_timer(at);
      n.clock_ = std::max(n.clock_, event.time);
      n.timed_out_ = true;
      return enter(n);
  }
}

std::string Simulation::Impl::report_deadlock() {
  std::ostringstream text;
  for (auto& n : nodes) {
    if (n->state_ != SimNode::State::waiting) continue;
    text << (text.tellp() > 0 ? "; " : "deadlock: ") << "rank " << n->rank_ << " waits for tag " << int(n->match_.tag)
         << " from " << (n->match_.source == kAnyRank ? "anybody" : "rank " + std::to_string(n->match_.source));
    if (n->match_.request) text << ", request " << n->match_.request;
    text << ", since " << static_cast<double>(n->clock_) * 1e-9 << " s";
  }
  return text.str();
}

SimReport Simulation::Impl::run() {
  events = trace = 0;
  started = now;
  for (auto& n : nodes)
    if (n->alive_ && !n->left_) schedule_start(*n);
  while (!queue.empty()) {
    Event e = queue.pop();
    ++events;
    now = e.time;
    process(e);
  }
  SimReport report;
  report.deadlock = report_deadlock();
  Nanos end = started;
  for (auto& n : nodes) {
    if (n->fiber_) {  // so that destructors run
      n->killed_ = true;
      enter(*n);
      n->outcome_.what = NodeOutcome::What::deadlocked;
      n->outcome_.status = Status(StatusCode::internal, report.deadlock);
    }
    n->clear_inbox();
    n->timer_at_ = INT64_MAX;
    n->outcome_.restarts = static_cast<uint32_t>(n->restarts_);
    n->outcome_.traffic = n->traffic_;
    n->outcome_.step = std::max<int64_t>(n->step_, 0);
    report.nodes.push_back(n->outcome_);
    end = std::max({end, n->clock_, n->send_free_, n->receive_free_, n->service_free_});
  }
  // All go on together from here: handlers have already run at the times of the last ones.
  for (auto& n : nodes) n->clock_ = end;
  now = end;
  first_run = false;
  report.virtual_time = end;
  report.events = events;
  report.trace_hash = trace;
  return report;
}

Simulation::Simulation(SimOptions options, int nodes) : impl_(std::make_unique<Impl>(std::move(options), nodes)) {}
Simulation::~Simulation() = default;

void Simulation::set_node(Rank rank, std::function<Status(World&)> main) {
  SINEW_CHECK(rank >= 0 && rank < static_cast<Rank>(impl_->nodes.size()), "simulation", "set_node of rank ", rank,
              " of ", impl_->nodes.size());
  impl_->nodes[rank]->main_ = std::move(main);
}

World& Simulation::world(Rank rank) { return *impl_->nodes.at(rank); }

SimReport Simulation::run() { return impl_->run(); }

namespace {
constexpr size_t kHeader = 2, kPerNode = 17;
}

std::vector<int64_t> Simulation::save() const {
  std::vector<int64_t> state{impl_->now, static_cast<int64_t>(impl_->nodes.size())};
  for (const auto& n : impl_->nodes) {
    const TrafficCounters& t = n->traffic_;
    for (int64_t v : {int64_t(n->sequence_[0]), int64_t(n->sequence_[1]), int64_t(n->request_), int64_t(n->draws_),
                      n->step_, int64_t(n->incarnation_), int64_t(n->restarts_), int64_t(n->alive_), int64_t(n->left_),
                      int64_t(n->may_return_), int64_t(n->seen_), t.bytes_sent, t.bytes_received, t.messages_sent,
                      t.messages_received, t.late_replies, t.timeouts})
      state.push_back(v);
  }
  return state;
}

Status Simulation::load(const std::vector<int64_t>& state) {
  const size_t nodes = impl_->nodes.size();
  if (state.size() != kHeader + kPerNode * nodes || state[1] != static_cast<int64_t>(nodes))
    return make_status(StatusCode::data_error, "the saved simulation has ", state.size() < 2 ? 0 : state[1],
                       " nodes, this one has ", nodes);
  impl_->now = state[0];
  impl_->first_run = false;
  const int64_t* v = state.data() + kHeader;
  for (auto& n : impl_->nodes) {
    n->clock_ = n->begun_ = state[0];
    n->sequence_[0] = v[0], n->sequence_[1] = v[1], n->request_ = v[2], n->draws_ = v[3], n->step_ = v[4];
    n->faults_.reset();
    n->incarnation_ = static_cast<uint32_t>(v[5]), n->restarts_ = static_cast<int>(v[6]);
    n->alive_ = v[7] != 0, n->left_ = v[8] != 0, n->may_return_ = v[9] != 0;
    n->seen_ = static_cast<PeerState>(v[10]);
    n->traffic_ = {v[11], v[12], v[13], v[14], v[15], v[16]};
    v += kPerNode;
  }
  return Status::Ok();
}

}  // namespace sinew::dist
