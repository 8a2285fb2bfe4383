// What the communication thread knows of one peer.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <vector>

#include "dist/learned_deadline.h"
#include "dist/ucx/wire.h"

namespace sinew::dist {

using Clock = std::chrono::steady_clock;

struct Link {
  explicit Link(Nanos silence) : deadline(kSecond, silence) {}

  PeerState state = PeerState::joining;
  uint32_t incarnation = 0;  // the newest heard of

  // Receiving. A connection of a newer (incarnation, connection) starts afresh, an older one is stale.
  Token expected_token{};
  uint32_t connection_in = 0;
  uint64_t next_in = 0;
  uint32_t lost_in = 0;               // the last of its connections that broke
  std::map<uint64_t, Message> early;  // complete, but overtook others

  // Sending.
  uint32_t connected_incarnation = 0;  // which one our endpoint leads to
  Token own_token{};
  uint32_t connection_out = 0;
  uint64_t next_out = 0;
  Clock::time_point next_attempt{};  // of connecting again
  Nanos backoff = kSecond;

  // Silence. Only links that carry messages have heartbeats.
  bool used = false;
  Clock::time_point last_heard{}, last_heartbeat{};
  LearnedDeadline deadline;

  struct Delayed {
    Clock::time_point release;
    Head head;
    Payload body;
  };
  // By a fault plan: in the order of sending; in any order.
  std::deque<Delayed> delayed;
  std::vector<Delayed> held;
};

}  // namespace sinew::dist
