// What the communication thread knows of one peer.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <map>
#include <vector>

#include "dist/ucx/wire.h"

namespace sinew::dist {

using Clock = std::chrono::steady_clock;

// How long a peer may be silent, learned from the arrival of its heartbeats: mean plus six deviations, both by
// exponential averages (the estimator of TCP's retransmission time, Jacobson and Karels 1988, with the true variance).
class LearnedDeadline {
 public:
  LearnedDeadline(Nanos lower, Nanos upper) : lower_(lower), upper_(std::max(lower, upper)) {}

  void observe(Nanos interval) {
    const double x = static_cast<double>(interval);
    if (++count_ == 1) {
      mean_ = x;
      return;
    }
    const double difference = x - mean_;
    mean_ += kGain * difference;
    variance_ = (1 - kGain) * (variance_ + kGain * difference * difference);
  }
  // Before enough was heard: the upper bound.
  Nanos value() const {
    if (count_ < kEnough) return upper_;
    const double learned = mean_ + 6 * std::sqrt(variance_);
    return learned >= static_cast<double>(upper_) ? upper_ : std::max(lower_, static_cast<Nanos>(learned));
  }

 private:
  static constexpr double kGain = 0.125;
  static constexpr int64_t kEnough = 8;
  Nanos lower_, upper_;
  double mean_ = 0, variance_ = 0;
  int64_t count_ = 0;
};

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
