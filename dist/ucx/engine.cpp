#include "dist/ucx/engine.h"

#include <cstring>
#include <utility>

#include "dist/store_auth.h"

namespace sinew::dist {

namespace {
constexpr Nanos kDrainTimeout = 5 * kSecond;
constexpr Nanos kLongestBackoff = 10 * kSecond;
// A reply often comes within this time; sleeping and waking cost about as much.
constexpr Nanos kSpin = 20 * kMicrosecond;

// No later incarnation or message will come from there.
bool ended(PeerState state) { return state == PeerState::gone || state == PeerState::left; }

Payload payload_of(const std::string& bytes) {
  Payload payload = Payload::allocate(bytes.size());
  if (!bytes.empty()) std::memcpy(payload.data(), bytes.data(), bytes.size());
  return payload;
}
}  // namespace

Engine::Engine(const UcxOptions& options, Inbox& inbox, std::function<Nanos(Nanos)> alarm)
    : options_(options), inbox_(inbox), alarm_(std::move(alarm)), faulty_(plan_touches_messages(options.faults)) {
  links_.reserve(static_cast<size_t>(options.size));
  for (int i = 0; i < options.size; ++i) links_.emplace_back(options.silence);
}

Status Engine::start() {
  std::promise<Status> started;
  std::future<Status> status = started.get_future();
  thread_ = std::thread([this, promise = std::move(started)]() mutable { run(std::move(promise)); });
  return status.get();
}

void Engine::run(std::promise<Status> started) {
  thread_id_ = std::this_thread::get_id();
  auto transport = UcxTransport::open(options_.network_device, options_.size, *this);
  if (!transport.ok()) {
    started.set_value(transport.status());
    return;
  }
  transport_ = std::move(*transport);
  address_ = transport_->address();
  last_timers_ = next_heartbeat_ = Clock::now();
  started.set_value({});
  loop();
  transport_.reset();
}

void Engine::loop() {
  auto last_event = Clock::now();
  std::optional<Clock::time_point> drained_by;
  for (;;) {
    bool busy = transport_->progress();
    busy |= run_commands();
    auto due = run_timers();
    auto now = Clock::now();
    {
      std::lock_guard lock(queue_mutex_);
      if (stopping_ && queue_.empty()) {
        if (!drained_by) drained_by = now + std::chrono::nanoseconds(kDrainTimeout);
        if (transport_->sends_in_flight() == 0 || now >= *drained_by) return;
      }
    }
    if (busy) last_event = now;
    if (now - last_event < std::chrono::nanoseconds(kSpin)) continue;
    {
      std::lock_guard lock(queue_mutex_);
      if (!queue_.empty()) continue;
      asleep_ = true;  // from here on a command wakes us
    }
    transport_->wait((due - now).count());
    {
      std::lock_guard lock(queue_mutex_);
      asleep_ = false;
    }
  }
}

void Engine::post(std::function<void()> command) {
  std::lock_guard lock(queue_mutex_);
  queue_.push_back(std::move(command));
  // Under the lock: the transport lives at least until the queue is found empty while stopping.
  if (asleep_) {
    asleep_ = false;
    transport_->wake();
  }
}

bool Engine::run_commands() {
  std::vector<std::function<void()>> commands;
  {
    std::lock_guard lock(queue_mutex_);
    commands.swap(queue_);
  }
  for (auto& command : commands) command();
  return !commands.empty();
}

void Engine::stop() {
  if (!thread_.joinable()) return;
  post([this] {
    std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  });
  thread_.join();
}

Clock::time_point Engine::run_timers() {
  auto now = Clock::now();
  // This process itself was stopped or starved: nobody else's silence can be judged by that time. What came before it
  // counts, or one that is starved again and again would never notice a peer that hangs.
  const auto asleep = now - last_timers_.load();
  if (asleep > std::chrono::nanoseconds(kSecond) / 2)
    for (Link& link : links_) link.last_heard = std::min(now, link.last_heard + asleep);
  last_timers_ = now;  // first: until then stops() counts this one by itself
  if (asleep > std::chrono::nanoseconds(kStop)) ++stops_;

  if (now >= next_heartbeat_) {
    heartbeat(now);
    next_heartbeat_ = now + std::chrono::nanoseconds(options_.heartbeat);
  }
  auto due = next_heartbeat_;
  if (faulty_) {
    for (Rank rank = 0; rank < options_.size; ++rank) {
      release_delayed(link(rank), rank, now);
      if (!link(rank).delayed.empty()) due = std::min(due, link(rank).delayed.front().release);
      for (const Link::Delayed& held : link(rank).held) due = std::min(due, held.release);
    }
  }
  const Nanos alarm = alarm_((now - begin_).count());
  if (alarm != INT64_MAX) due = std::min(due, begin_ + std::chrono::nanoseconds(alarm));
  return due;
}

void Engine::heartbeat(Clock::time_point now) {
  for (Rank rank = 0; rank < options_.size; ++rank) {
    Link& peer = link(rank);
    if (rank == options_.rank || !peer.used) continue;
    const bool parted = faulty_ && plan_parts(options_.faults, options_.rank, rank, moment());
    if (transport_->connected(rank) && !ended(peer.state) && !left_ && !parted)
      transmit_control(rank, Control::heartbeat);
    // The connection stays: a stopped process goes on where it was.
    const Nanos silence = (now - peer.last_heard).count();
    if (peer.state == PeerState::alive && silence > peer.deadline.value())
      set_state(rank, PeerState::dead,
                detail::concat("nothing heard for ", static_cast<double>(silence) / kSecond, " s"));
  }
}

void Engine::touch(Link& link) {
  if (link.used) return;
  link.used = true;
  link.last_heard = Clock::now();
  link.last_heartbeat = {};
}

void Engine::set_state(Rank peer, PeerState state, const std::string& why) {
  const PeerState before = link(peer).state;
  if (before == state || ended(before)) return;
  link(peer).state = state;
  inbox_.set_state(peer, state);
  if (!options_.on_event) return;
  if (state == PeerState::dead) options_.on_event(detail::concat("rank ", peer, " counts as dead: ", why));
  if (state == PeerState::gone) options_.on_event(detail::concat("rank ", peer, " is gone for good"));
  if (state == PeerState::alive && before == PeerState::dead)
    options_.on_event(detail::concat("rank ", peer, " is back"));
}

void Engine::connect(Rank peer, AddressRecord record) {
  post([this, peer, record = std::move(record)] {
    Link& to = link(peer);
    const bool current = transport_->connected(peer) && to.connected_incarnation >= record.incarnation;
    if (current || record.incarnation < to.incarnation || ended(to.state)) return;
    auto now = Clock::now();
    if (record.incarnation == to.connected_incarnation && now < to.next_attempt) return;
    to.backoff = record.incarnation == to.connected_incarnation ? std::min(2 * to.backoff, kLongestBackoff) : kSecond;
    to.next_attempt = now + std::chrono::nanoseconds(to.backoff);
    open_link(peer, record.incarnation, record.address);
  });
}

void Engine::open_link(Rank peer, uint32_t incarnation, const std::string& address) {
  Link& to = link(peer);
  to.delayed.clear();
  to.held.clear();
  to.connected_incarnation = incarnation;
  to.own_token = make_token(options_.secret, options_.rank, options_.incarnation, peer, incarnation);
  ++to.connection_out;
  to.next_out = 0;
  if (Status status = transport_->connect(peer, address); !status.ok()) {
    set_state(peer, PeerState::dead, status.message());
    return;
  }
  // UCX may tell the peer of a connection that this side gave up only much later: hello tells it now.
  const int64_t lost = incarnation == to.incarnation ? to.lost_in : 0;
  transmit_control(peer, Control::hello, payload_of(address_), lost);
}

void Engine::mark_gone(Rank peer) {
  post([this, peer] {
    set_state(peer, PeerState::gone);
    transport_->disconnect(peer);
  });
}

void Engine::give_up(Rank peer) {
  post([this, peer] {
    if (link(peer).state == PeerState::joining) set_state(peer, PeerState::dead, "it did not answer");
  });
}

void Engine::leave() {
  std::promise<void> done;
  post([this, &done] {
    left_ = true;
    for (Rank rank = 0; rank < options_.size; ++rank)
      if (rank != options_.rank && transport_->connected(rank) && !ended(link(rank).state))
        transmit_control(rank, Control::goodbye);
    done.set_value();
  });
  done.get_future().wait();
}

Received::What Engine::receive_each(const Match& match, Nanos timeout, const Taker& take) {
  const auto taking = inbox_.prepare(match, take);
  // After what was sent before, so that the order of sending is that of the calls.
  post([this, taking] {
    taking_ = true;
    inbox_.begin(taking);
    taking_ = false;
  });
  return inbox_.end(taking, timeout);
}

void Engine::send(Rank to, Head head, Payload body) {
  SINEW_CHECK(to >= 0 && to < options_.size, "send", "no rank ", to, " among ", options_.size);
  const bool here = std::this_thread::get_id() == thread_id_, handler = here && !taking_;
  head.source = options_.rank;
  head.incarnation = options_.incarnation;
  // Training side and handlers count separately: with one counter the numbers would depend on timing.
  head.sequence = ++sequences_[handler ? 1 : 0] << 1 | (handler ? 1 : 0);
  MessageFate fate;
  if (faulty_ && to != options_.rank) fate = plan_message(options_.faults, options_.rank, to, head.sequence, moment());
  if (fate.dropped) return;
  if (here && to != options_.rank) return transmit(to, head, std::move(body), fate);
  post([this, to, head, fate, body = std::move(body)]() mutable {
    if (to == options_.rank)
      deliver({head, std::move(body)});
    else
      transmit(to, head, std::move(body), fate);
  });
}

void Engine::transmit(Rank to, const Head& head, Payload body, const MessageFate& fate) {
  Link& peer = link(to);
  if (peer.state == PeerState::dead || ended(peer.state) || !transport_->connected(to)) return;
  touch(peer);
  ++messages_sent_;
  bytes_sent_ += static_cast<int64_t>(sizeof head + body.size());
  if (!faulty_) return transmit_now(to, head, std::move(body));
  auto release = Clock::now() + std::chrono::nanoseconds(fate.delay + fate.held);
  for (int copy = 0; copy <= int{fate.duplicated}; ++copy) {
    if (fate.held > 0) {
      peer.held.push_back({release, head, body});
    } else if (fate.delay > 0 || !peer.delayed.empty()) {
      if (!peer.delayed.empty()) release = std::max(release, peer.delayed.back().release);
      peer.delayed.push_back({release, head, body});
    } else {
      transmit_now(to, head, body);
    }
  }
}

void Engine::release_delayed(Link& peer, Rank to, Clock::time_point now) {
  // What is delayed still leaves when this node has said goodbye; ordering before the goodbye is not promised then.
  while (!peer.delayed.empty() && peer.delayed.front().release <= now) {
    Link::Delayed message = std::move(peer.delayed.front());
    peer.delayed.pop_front();
    if (transport_->connected(to)) transmit_now(to, message.head, std::move(message.body));
  }
  std::erase_if(peer.held, [&](const Link::Delayed& message) {
    if (message.release > now) return false;
    if (transport_->connected(to)) transmit_now(to, message.head, message.body);
    return true;
  });
}

void Engine::transmit_now(Rank to, const Head& head, Payload body) {
  Link& peer = link(to);
  WireHeader header;
  header.token = peer.own_token;
  header.head = head;
  header.link_sequence = peer.next_out++;
  header.connection = peer.connection_out;
  transport_->send(to, header, std::move(body));
}

void Engine::transmit_control(Rank to, Control kind, Payload body, int64_t argument) {
  Head head;
  head.tag = Tag::control;
  head.source = options_.rank;
  head.incarnation = options_.incarnation;
  head.arg[0] = static_cast<int64_t>(kind);
  head.arg[1] = argument;
  transmit_now(to, head, std::move(body));
}

bool Engine::admit(const WireHeader& header) {
  if (!transport_) return false;  // it is being closed, and still hands over what comes in
  const Head& head = header.head;
  bool valid = head.source >= 0 && head.source < options_.size && head.source != options_.rank;
  if (valid) {
    Link& from = link(head.source);
    const bool known = from.connection_in != 0 && head.incarnation == from.incarnation;
    const Token expected =
        known ? from.expected_token
              : make_token(options_.secret, head.source, head.incarnation, options_.rank, options_.incarnation);
    valid = equal_in_constant_time(expected.data(), header.token.data(), expected.size());
    if (valid && (ended(from.state) || head.incarnation < from.incarnation)) return false;
  }
  if (!valid) ++refused_;
  return valid;
}

void Engine::arrived(const WireHeader& header, Payload body) {
  if (!transport_) return;
  const Head& head = header.head;
  Link& from = link(head.source);
  const auto now_in = std::pair(head.incarnation, header.connection);
  const auto last_in = std::pair(from.incarnation, from.connection_in);
  if (now_in < last_in || ended(from.state)) return;
  if (now_in > last_in) {
    if (head.incarnation > from.incarnation) {
      // The old process; whoever waits for it learns so.
      set_state(head.source, PeerState::dead, "it has been started again");
      inbox_.drop_older(head.source, head.incarnation);
      from.deadline = LearnedDeadline(kSecond, options_.silence);
    }
    from.incarnation = head.incarnation;
    from.connection_in = header.connection;
    from.expected_token =
        make_token(options_.secret, head.source, head.incarnation, options_.rank, options_.incarnation);
    from.next_in = 0;
    from.lost_in = 0;
    from.early.clear();
  }
  from.last_heard = Clock::now();
  if (header.link_sequence < from.next_in) return;
  if (header.link_sequence > from.next_in) {
    // A copy: the body may be borrowed.
    from.early.emplace(header.link_sequence, Message{head, Payload(std::as_const(body))});
    return;
  }
  // A handler's own sends cannot come back in here, so the map stays as it is during deliver().
  for (Message message{head, std::move(body)};;) {
    ++from.next_in;
    if (from.state == PeerState::dead && transport_->connected(head.source)) set_state(head.source, PeerState::alive);
    deliver(std::move(message));
    const auto next = from.early.begin();
    if (next == from.early.end() || next->first != from.next_in) return;
    message = std::move(next->second);
    from.early.erase(next);
  }
}

void Engine::deliver(Message message) {
  if (message.head.tag == Tag::control) return deliver_control(message);
  if (message.head.source != options_.rank) {
    touch(link(message.head.source));
    ++messages_received_;
    bytes_received_ += static_cast<int64_t>(sizeof message.head + message.body.size());
  }
  taking_ = true;
  const bool taken = inbox_.offer(message);
  taking_ = false;
  if (taken) return;
  if (message.body.borrowed()) message.body = Payload(std::as_const(message.body));
  if (handle(message)) return;
  if (!inbox_.push(std::move(message))) ++late_replies_;
}

bool Engine::handle(const Message& message) {
  std::lock_guard lock(publish_mutex_);
  auto handler = handlers_.find(message.head.tag);
  if (handler == handlers_.end()) return false;
  try {
    handler->second(message);
  } catch (const std::exception& error) {  // must not pass through UCX
    std::lock_guard health(health_mutex_);
    if (health_.ok()) health_ = make_status(StatusCode::internal, "a message handler failed: ", error.what());
  }
  return true;
}

void Engine::deliver_control(const Message& message) {
  const Rank source = message.head.source;
  Link& from = link(source);
  switch (static_cast<Control>(message.head.arg[0])) {
    case Control::hello:
      if (!transport_->connected(source) || from.connected_incarnation != message.head.incarnation ||
          message.head.arg[1] == from.connection_out)
        open_link(source, message.head.incarnation,
                  std::string(static_cast<const char*>(message.body.data()), message.body.size()));
      if (transport_->connected(source)) set_state(source, PeerState::alive);
      if (options_.waits_for_all) touch(from);
      return;
    case Control::heartbeat: {
      touch(from);
      auto now = Clock::now();
      if (from.last_heartbeat != Clock::time_point{}) from.deadline.observe((now - from.last_heartbeat).count());
      from.last_heartbeat = now;
      return;
    }
    case Control::goodbye:
      // The peer closes the connection when it is done; closing here could cut off what is on its way to it.
      set_state(source, PeerState::left);
      return;
  }
}

void Engine::broken(Rank peer, const std::string&) {
  if (!transport_) return;
  Link& from = link(peer);
  from.early.clear();
  from.lost_in = from.connection_in;
  from.delayed.clear();
  from.held.clear();
  from.used = false;
  set_state(peer, PeerState::dead, "its connection broke");
}

void Engine::on(Tag tag, Handler handler) {
  SINEW_CHECK(std::this_thread::get_id() != thread_id_, "on", "handlers are not registered by handlers");
  // Between two deliveries: what came before the handler goes to it first, then what comes.
  std::promise<void> done;
  post([this, tag, &handler, &done] {
    {
      std::lock_guard lock(publish_mutex_);
      if (handler)
        handlers_[tag] = std::move(handler);
      else
        handlers_.erase(tag);
    }
    for (Message& message : handlers_.count(tag) ? inbox_.take(tag) : std::vector<Message>()) handle(message);
    done.set_value();
  });
  done.get_future().wait();
}

void Engine::publish(const std::function<void()>& fn) {
  std::lock_guard lock(publish_mutex_);
  fn();
}

TrafficCounters Engine::traffic() const {
  TrafficCounters counters;
  counters.bytes_sent = bytes_sent_;
  counters.bytes_received = bytes_received_;
  counters.messages_sent = messages_sent_;
  counters.messages_received = messages_received_;
  counters.late_replies = late_replies_;
  return counters;
}

int64_t Engine::stops() const {
  // The communication thread is up several times a second; it may not have counted the last stop yet.
  const bool now = Clock::now() - last_timers_.load() > std::chrono::nanoseconds(kStop);
  return stops_ + now;
}

Status Engine::health() const {
  std::lock_guard lock(health_mutex_);
  return health_;
}

}  // namespace sinew::dist
