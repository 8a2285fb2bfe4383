// The World that a simulated node sees.
#include <algorithm>
#include <cmath>
#include <exception>
#include <optional>

#include "core/philox.h"
#include "dist/sim/engine.h"

namespace sinew::dist {
namespace {

Nanos later(Nanos time, Nanos duration) { return duration >= INT64_MAX - time ? INT64_MAX : time + duration; }

}  // namespace

bool SimNode::dead() const {
  if (!killed_) return false;
  if (std::uncaught_exceptions() == 0) throw Killed{};
  return true;
}

void SimNode::block() const {
  fiber_->suspend();
  dead();
}

void SimNode::wake_at(Nanos time) const {
  Event e = make_event(time, rank_, Event::wake);
  e.generation = ++generation_;
  state_ = State::ready;
  engine_.queue.push(e);
}

void SimNode::sync() const {
  if (handling_ || state_ != State::running) return;  // in a handler the time is the agenda's
  const EventQueue& queue = engine_.queue;
  if (!engine_.options.always_yield && (queue.empty() || make_event(clock_, rank_, Event::wake) < queue.top())) return;
  wake_at(clock_);
  block();
}

Nanos SimNode::awake(Nanos time) const {
  for (const auto& [begin, end] : pauses_)
    if (time > begin && time < end) time = end;
  return time;
}

void SimNode::advance(Nanos duration) {
  if (dead()) return;
  Nanos end = later(clock_, std::max<Nanos>(duration, 0));
  for (const auto& [begin, until] : pauses_)
    if (begin >= clock_ && begin < end) end = later(end, until - begin);
  move_to(end);
}

void SimNode::move_to(Nanos end) {
  if (end >= kill_at_) {
    clock_ = kill_at_;
    state_ = State::doomed;
    block();
    return;
  }
  clock_ = end;
  if (engine_.options.always_yield) sync();
}

void SimNode::compute(const Cost& cost, const std::function<void()>& fn) {
  SINEW_CHECK(!handling_, "world", "compute() in a handler");
  if (dead()) return;
  const SimOptions& o = engine_.options;
  std::optional<ComputePool::Job> job;
  if (engine_.threads)
    job.emplace(*engine_.threads, fn, locals_);
  else
    fn();
  RngKey key{o.seed, uint32_t(RngPurpose::compute), uint32_t(rank_), draws_++};
  double factor = 1 + o.jitter * (2 * uniform01(philox_u64(key, 0)) - 1);
  if (engine_.has_slow) factor *= plan_slowdown(o.faults, rank_, moment());
  advance(std::llround(cost.steps * static_cast<double>(o.step_cost) * factor));
  if (!job) return;
  // Whatever comes before the end of this computation happens first, and starts others.
  if (state_ == State::running) {
    wake_at(clock_);
    block();
  }
  job->join();
}

void SimNode::sleep(Nanos duration) {
  SINEW_CHECK(!handling_, "world", "sleep() in a handler");
  advance(duration);
}

void SimNode::send(Rank to, Head head, Payload body) {
  SINEW_CHECK(to >= 0 && to < size(), "world", "send to rank ", to, " of ", size());
  if (killed_) return;  // a crash says nothing more
  // The link is shared with the handlers: what they send earlier must be on it first.
  if (!handling_ && (engine_.options.always_yield || !handlers_.empty())) sync();
  const SimOptions& o = engine_.options;
  head.source = rank_;
  head.incarnation = incarnation_;
  head.sequence = sequence_[handling_]++ * 2 + handling_;
  if (to == rank_) return post(now(), now(), 0, to, head, std::move(body));  // no link, no faults, as in the real world
  const auto bytes = static_cast<int64_t>(sizeof(Head) + body.size());
  const Nanos wire = std::llround(static_cast<double>(bytes) / o.bandwidth * 1e9);
  const Nanos begin = std::max(now(), send_free_);
  send_free_ = begin + wire;
  traffic_.bytes_sent += bytes;
  ++traffic_.messages_sent;
  MessageFate fate;
  if (engine_.touches_messages) fate = plan_message(o.faults, rank_, to, head.sequence, {begin, step_});
  if (fate.dropped) return;
  const Nanos arrival = send_free_ + o.latency + fate.delay + fate.held;
  if (fate.duplicated) post(begin, arrival + o.latency, wire, to, head, body);
  post(begin, arrival, wire, to, head, std::move(body));
}

void SimNode::post(Nanos begin, Nanos arrival, Nanos wire, Rank to, const Head& head, Payload body) {
  InFlight* m = engine_.take();
  m->message.head = head;
  m->message.body = std::move(body);
  m->sent = begin;
  m->wire = wire;
  m->received = to == rank_;
  Event e = make_event(arrival, to, Event::delivery);
  e.origin = uint64_t(uint32_t(rank_)) << 44 | head.sequence;
  e.message = m;
  ++in_flight_;
  engine_.queue.push(e);
}

bool SimNode::matches(const Match& match, const Head& head) {
  return head.tag == match.tag && (match.source == kAnyRank || head.source == match.source) &&
         (match.request == 0 || head.request == match.request) && (match.arg0 == -1 || head.arg[0] == match.arg0);
}

InFlight* SimNode::take_match() {
  for (InFlight** at = &inbox_; *at; at = &(*at)->next) {
    InFlight* m = *at;
    if (!matches(match_, m->message.head)) continue;
    *at = m->next;
    if (inbox_end_ == &m->next) inbox_end_ = at;
    return m;
  }
  return nullptr;
}

void SimNode::clear_inbox() {
  while (inbox_) {
    InFlight* m = inbox_;
    inbox_ = m->next;
    engine_.give(m);
  }
  inbox_end_ = &inbox_;
}

void SimNode::arm_timer(Nanos deadline) {
  deadline_ = deadline;
  // One pending timer per node is enough: an early one is set again when it fires.
  if (deadline == INT64_MAX || timer_at_ <= deadline) return;
  timer_at_ = deadline;
  engine_.queue.push(make_event(deadline, rank_, Event::timer));
}

Received SimNode::receive(const Match& match, Nanos timeout) {
  SINEW_CHECK(!handling_, "world", "receive() in a handler");
  Received result;
  if (dead()) return result;
  if (engine_.options.always_yield) sync();
  match_ = match;
  timed_out_ = false;
  const Nanos deadline = later(clock_, std::max<Nanos>(timeout, 0));
  for (bool synced = false;;) {
    if (InFlight* m = take_match()) {
      result.what = Received::What::message;
      result.message = std::move(m->message);
      engine_.give(m);
      return result;
    }
    if (timed_out_) {
      ++traffic_.timeouts;
      return result;
    }
    if (match.source != kAnyRank && is_lost(engine_.nodes.at(match.source)->seen_)) {
      if (synced) {
        result.what = Received::What::peer_lost;
        return result;
      }
      sync();  // this node may be ahead of the agenda: the peer may be back by then
      synced = true;
      continue;
    }
    arm_timer(deadline);
    state_ = State::waiting;
    block();
    if (killed_) return result;
    synced = true;
  }
}

uint64_t SimNode::open_request() {
  requests_.push_back(++request_);
  return request_;
}

void SimNode::close_request(uint64_t request) {
  std::erase(requests_, request);
  for (InFlight** at = &inbox_; *at;) {
    InFlight* m = *at;
    if (m->message.head.is_reply && m->message.head.request == request) {
      *at = m->next;
      if (inbox_end_ == &m->next) inbox_end_ = at;
      ++traffic_.late_replies;
      engine_.give(m);
    } else {
      at = &m->next;
    }
  }
}

void SimNode::on(Tag tag, Handler handler) {
  if (!killed_) sync();
  std::erase_if(handlers_, [tag](const auto& h) { return h.first == tag; });
  if (handler) handlers_.emplace_back(tag, std::move(handler));
}

const Handler* SimNode::handler_for(Tag tag) const {
  for (const auto& [t, handler] : handlers_)
    if (t == tag) return &handler;
  return nullptr;
}

void SimNode::publish(const std::function<void()>& fn) {
  if (dead()) return;
  sync();
  fn();
}

PeerState SimNode::peer(Rank rank) const {
  SINEW_CHECK(rank >= 0 && rank < size(), "world", "peer() of rank ", rank, " of ", size());
  if (!killed_) sync();
  return engine_.nodes[rank]->seen_;
}

bool SimNode::suppressed(int64_t round) { return plan_suppresses(engine_.options.faults, rank_, round, moment()); }

void SimNode::report_step(int64_t step, VecView theta) {
  if (dead()) return;
  if (!faults_) faults_.emplace(engine_.options.faults, rank_, incarnation_, Moment{begun_ - 1, step_});
  step_ = step;
  for (const Fault& f : faults_->at_step(step, clock_)) {
    if (f.kind == Fault::Kind::corrupt) corrupt(f, engine_.options.faults.seed, rank_, step, theta);
    if (f.kind == Fault::Kind::kill) {
      Event e = make_event(clock_, rank_, Event::kill);
      kill_at_ = clock_;
      engine_.queue.push(e);
      state_ = State::doomed;
      block();
      return;
    }
    if (f.kind == Fault::Kind::pause && f.duration > 0) {
      const Nanos end = later(clock_, f.duration);
      pauses_.emplace_back(clock_, end);
      move_to(end);
    }
  }
}

void SimNode::leave() {
  if (dead() || left_) return;
  sync();
  left_ = true;
  engine_.queue.push(make_event(std::max(clock_, send_free_) + engine_.options.latency, rank_, Event::lost));
}

int64_t SimNode::stops() const {
  return std::count_if(pauses_.begin(), pauses_.end(), [this](const auto& pause) {
    return pause.second <= now() && pause.second - pause.first >= kStop;
  });
}

TrafficCounters SimNode::traffic() const {
  if (!killed_) sync();
  return traffic_;
}

}  // namespace sinew::dist
