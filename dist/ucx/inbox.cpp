#include "dist/ucx/inbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace sinew::dist {

bool Inbox::matches(const Match& match, const Head& head) {
  return match.tag == head.tag && (match.source == kAnyRank || match.source == head.source) &&
         (match.request == 0 || match.request == head.request) && (match.arg0 == -1 || match.arg0 == head.arg[0]);
}

bool Inbox::push(Message message) {
  std::lock_guard lock(mutex_);
  if (message.head.is_reply && !open_.count(message.head.request)) return false;
  messages_.push_back(std::move(message));
  changed_.notify_all();
  return true;
}

Received Inbox::receive(const Match& match, Nanos timeout) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout);
  std::unique_lock lock(mutex_);
  const Peer* source = match.source == kAnyRank ? nullptr : &peers_.at(static_cast<size_t>(match.source));
  const uint64_t losses = source ? source->losses : 0;
  Received received;
  for (bool late = false;; late = changed_.wait_until(lock, deadline) == std::cv_status::timeout) {
    auto found = std::find_if(messages_.begin(), messages_.end(),
                              [&](const Message& message) { return matches(match, message.head); });
    if (found != messages_.end()) {
      received.what = Received::What::message;
      received.message = std::move(*found);
      messages_.erase(found);
      return received;
    }
    if (source && (is_lost(source->state) || source->losses != losses)) {
      received.what = Received::What::peer_lost;
      return received;
    }
    if (late) return received;
  }
}

void Inbox::give(Taking& taking, const Message& message) {
  bool last = true;
  try {
    last = taking.take(message);
  } catch (...) {  // the training thread's, who called
    taking.error = std::current_exception();
  }
  ++taking.taken;
  if (!last) return;
  taking.over = true;
  std::lock_guard lock(mutex_);
  taking.finished = true;
  changed_.notify_all();
}

void Inbox::begin(const std::shared_ptr<Taking>& taking) {
  std::lock_guard take_lock(take_mutex_);
  while (!taking->over) {
    std::unique_lock lock(mutex_);
    auto found = std::find_if(messages_.begin(), messages_.end(),
                              [&](const Message& message) { return matches(taking->match, message.head); });
    if (found == messages_.end()) {
      taking->begun = true;
      changed_.notify_all();
      taking_ = taking;
      return;
    }
    const Message message = std::move(*found);
    messages_.erase(found);
    lock.unlock();
    give(*taking, message);
  }
}

bool Inbox::offer(const Message& message) {
  std::lock_guard take_lock(take_mutex_);
  if (!taking_ || message.head.is_reply || !matches(taking_->match, message.head)) return false;
  give(*taking_, message);
  if (taking_->over) taking_.reset();
  return true;
}

Received::What Inbox::end(const std::shared_ptr<Taking>& taking, Nanos timeout) {
  const auto limit = std::chrono::nanoseconds(timeout);
  auto deadline = std::chrono::steady_clock::now() + limit;
  auto what = Received::What::timeout;
  uint64_t taken = 0;
  {
    std::unique_lock lock(mutex_);
    const Rank rank = taking->match.source;
    const Peer* source = rank == kAnyRank ? nullptr : &peers_.at(static_cast<size_t>(rank));
    const uint64_t losses = source ? source->losses : 0;
    while (!taking->finished) {
      // Not before what it had sent has been taken.
      if (taking->begun && source && (is_lost(source->state) || source->losses != losses)) {
        what = Received::What::peer_lost;
        break;
      }
      if (changed_.wait_until(lock, deadline) == std::cv_status::no_timeout || taking->finished) continue;
      if (taking->taken == taken) break;
      taken = taking->taken;
      deadline = std::chrono::steady_clock::now() + limit;
    }
  }
  std::lock_guard take_lock(take_mutex_);
  const bool finished = std::exchange(taking->over, true);
  if (taking_ == taking) taking_.reset();
  if (taking->error) std::rethrow_exception(taking->error);
  return finished ? Received::What::message : what;
}

std::vector<Message> Inbox::take(Tag tag) {
  std::lock_guard lock(mutex_);
  std::vector<Message> taken;
  auto rest = std::stable_partition(messages_.begin(), messages_.end(),
                                    [&](const Message& message) { return message.head.tag != tag; });
  std::move(rest, messages_.end(), std::back_inserter(taken));
  messages_.erase(rest, messages_.end());
  return taken;
}

void Inbox::drop_older(Rank source, uint32_t incarnation) {
  std::lock_guard lock(mutex_);
  std::erase_if(messages_, [&](const Message& message) {
    return message.head.source == source && message.head.incarnation < incarnation;
  });
}

uint64_t Inbox::open_request() {
  std::lock_guard lock(mutex_);
  open_.insert(++next_request_);
  return next_request_;
}

void Inbox::close_request(uint64_t request) {
  std::lock_guard lock(mutex_);
  open_.erase(request);
  std::erase_if(messages_, [&](const Message& m) { return m.head.is_reply && m.head.request == request; });
}

PeerState Inbox::state(Rank rank) const {
  std::lock_guard lock(mutex_);
  return peers_.at(static_cast<size_t>(rank)).state;
}

void Inbox::set_state(Rank rank, PeerState state) {
  std::lock_guard lock(mutex_);
  Peer& peer = peers_.at(static_cast<size_t>(rank));
  if (is_lost(state) && !is_lost(peer.state)) ++peer.losses;
  peer.state = state;
  changed_.notify_all();
}

bool Inbox::wait_for_states(Nanos timeout, const std::function<bool(const std::vector<PeerState>&)>& done) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout);
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [&] {
    std::vector<PeerState> states;
    for (const Peer& peer : peers_) states.push_back(peer.state);
    return done(states);
  });
}

}  // namespace sinew::dist
