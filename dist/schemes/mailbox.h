// Vectors that others sent to this worker, until the training side takes them. They travel as exchanges that answer yes
// without a body (dist/exchange.h): each arrives once or is the sender's again.
//
// Thread safety: everything runs alone: handlers, and the training side inside World::publish().
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "dist/exchange.h"

namespace sinew::dist {

struct Mail {
  Rank from = kAnyRank;
  int64_t round = 0;
  double value = 0;
  Payload body;
  int64_t count = 1;  // vectors that the body is the mean of
};

class Mailbox {
 public:
  explicit Mailbox(int workers) : seen_(static_cast<size_t>(workers), -1), missed_(seen_) {}

  // The sender has come to this round, whether it had something to send or not.
  void see(const Message& request) {
    int64_t& seen = seen_[static_cast<size_t>(request.head.source)];
    seen = std::max(seen, Exchange::round_of(request));
  }
  void put(const Message& request) {
    mail_.push_back({request.head.source, Exchange::round_of(request), Exchange::value_of(request), request.body});
  }
  // The last one that waits, or null.
  Mail* last() { return mail_.empty() ? nullptr : &mail_.back(); }
  // Nothing more of this round will come from there, but for what was sent again.
  bool has_come_to(Rank peer, int64_t round) const { return seen_[static_cast<size_t>(peer)] >= round; }
  // In lockstep: this round is over, and nothing has come from there. Who sends something of it later is behind.
  void miss(Rank peer, int64_t round) {
    int64_t& missed = missed_[static_cast<size_t>(peer)];
    missed = std::max(missed, round);
  }
  bool was_missed(const Message& request) const {
    return Exchange::round_of(request) <= missed_[static_cast<size_t>(request.head.source)];
  }
  // What is of no later round, in order of arrival.
  std::vector<Mail> take(int64_t last_round = INT64_MAX) {
    const auto later =
        std::stable_partition(mail_.begin(), mail_.end(), [&](const Mail& m) { return m.round <= last_round; });
    std::vector<Mail> taken(std::make_move_iterator(mail_.begin()), std::make_move_iterator(later));
    mail_.erase(mail_.begin(), later);
    return taken;
  }
  const std::vector<Mail>& all() const { return mail_; }
  std::vector<int64_t>& seen() { return seen_; }
  const std::vector<int64_t>& seen() const { return seen_; }
  std::vector<int64_t>& missed() { return missed_; }
  const std::vector<int64_t>& missed() const { return missed_; }
  void restore(Mail mail) { mail_.push_back(std::move(mail)); }

 private:
  std::vector<Mail> mail_;
  std::vector<int64_t> seen_, missed_;  // by rank
};

inline void sort_by_round(std::vector<Mail>& mail) {
  std::stable_sort(mail.begin(), mail.end(), [](const Mail& a, const Mail& b) {
    return std::pair(a.round, a.from) < std::pair(b.round, b.from);
  });
}

}  // namespace sinew::dist
