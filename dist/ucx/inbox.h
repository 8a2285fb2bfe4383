// Messages that wait for the training thread, and what it is told about peers while it waits.
//
// Thread safety: all methods from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "dist/world.h"

namespace sinew::dist {

class Inbox {
 public:
  Inbox(int size, uint32_t incarnation)
      : peers_(static_cast<size_t>(size)), next_request_(uint64_t{incarnation} << 32) {}

  // False: a late reply; it was dropped.
  bool push(Message message);
  // Also returns when a definite source is lost: at once when it is lost already, even if it comes back meanwhile.
  Received receive(const Match& match, Nanos timeout);
  // A taker, on its way to the communication thread and back. Made by the training thread, which then has the
  // communication thread call begin() and waits in end().
  struct Taking {
    Taking(const Match& what, const Taker& how) : match(what), take(how) {}
    const Match match;
    const Taker& take;  // valid until `over`
    std::atomic<uint64_t> taken{0};
    bool over = false;                     // it has returned true or thrown, or nobody waits any more
    bool begun = false, finished = false;  // for the training thread
    std::exception_ptr error;
  };
  std::shared_ptr<Taking> prepare(const Match& match, const Taker& take) {
    return std::make_shared<Taking>(match, take);
  }
  // Communication thread: gives it what waits already, then what is offered.
  void begin(const std::shared_ptr<Taking>& taking);
  // Communication thread: true when the taker under way wanted it and has got it.
  bool offer(const Message& message);
  Received::What end(const std::shared_ptr<Taking>& taking, Nanos timeout);

  // Takes out everything with the tag, in order.
  std::vector<Message> take(Tag tag);
  // Drops what incarnations of `source` before `incarnation` left.
  void drop_older(Rank source, uint32_t incarnation);

  uint64_t open_request();
  void close_request(uint64_t request);

  PeerState state(Rank rank) const;
  void set_state(Rank rank, PeerState state);
  // Waits until `done` holds, which is asked under the lock after each change of a state.
  bool wait_for_states(Nanos timeout, const std::function<bool(const std::vector<PeerState>&)>& done);

 private:
  static bool matches(const Match& match, const Head& head);

  void give(Taking& taking, const Message& message);

  struct Peer {
    PeerState state = PeerState::joining;
    uint64_t losses = 0;
  };
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> messages_;
  std::vector<Peer> peers_;
  std::set<uint64_t> open_;
  std::mutex take_mutex_;  // held while a taker runs; taken before mutex_
  std::shared_ptr<Taking> taking_;
  uint64_t next_request_;
};

}  // namespace sinew::dist
