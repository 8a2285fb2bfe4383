// Exchanges between two workers, decided once, that hold under loss, delay, duplicates, pauses and deaths.
//
// The active end asks. The passive end decides on arrival, once, and answers yes or no; what a yes changes at the
// passive end has then happened, and is kept in mind until it is confirmed. A yes may carry a body: the same change for
// the active end. The active end asks again after silence, and what it gets is always that one decision. Having
// waited long enough it gives up: from then on it only asks what was decided, and what was not becomes a no.
//
// What follows: parameters of survivors + changes in flight are conserved. A death takes at most its own exchanges:
// the active end learns of a peer that is gone for good and drops what is open, the passive end drops what a dead peer
// will not confirm; both count it as lost.
//
// An exchange's name is (rank, incarnation, number). Messages (arguments in Head::arg)
//   gossip_request  number, round, 2 * lowest open number + given up, value; body     active -> passive
//   gossip_reply    number, yes, value; body                                          passive -> active
//   gossip_ack      number, lowest open number; after a yes                           active -> passive
//   gossip_wake     from a handler to its own training side
//
// Thread safety: the training thread; `decide` and what is said to be called inside publish() run alone.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "dist/learned_deadline.h"
#include "dist/packing.h"
#include "dist/scheme.h"

namespace sinew::dist {

class Exchange {
 public:
  struct Answer {
    enum class What { no, yes, later } what = What::no;
    Payload body = {};
    double value = 0;
  };
  // Called on arrival. `later`: asked again by reconsider().
  using Decide = std::function<Answer(const Message& request)>;
  static int64_t round_of(const Message& request) { return request.head.arg[1]; }
  static double value_of(const Message& request);

  struct Outcome {
    int64_t number = 0, round = 0;
    Rank peer = kAnyRank;
    enum class What { no, yes, lost } what = What::no;
    double asked = 0, value = 0;  // what was sent, and what came back
    Payload sent, body;
  };

  // Ranks 0 .. workers-1 take part. deadline: of finish(); a question is repeated after an eighth of it. Bodies are
  // numbers of type dtype, packed on their way where the packing holds them.
  Exchange(World& world, int workers, Nanos deadline, DType dtype, Packing packing = Packing::none);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Registers the handlers.
  void listen(Decide decide);
  // Called now and then by a worker that waits, for what others may be waiting for.
  void on_idle(std::function<void()> idle) { idle_ = std::move(idle); }
  // Inside publish(): asks `decide` again about what is to be decided later.
  void reconsider();

  // Opens an exchange and returns its number. The round and the value are the caller's.
  int64_t ask(Rank peer, int64_t round, double value, Payload body);
  // Inside publish(), for `ready` of wait(): whether an answer may still come before long.
  bool pending(int64_t number) const;
  // Of the next exchange that is opened.
  int64_t next_number() const { return next_; }
  bool is_open(int64_t number) const { return open_.count(number) > 0; }
  // Inside publish(): whether nothing new will come from there before long: the peer was lost when wait() last looked,
  // has said that it is done, or is silent.
  bool lost(Rank peer) const {
    const auto at = static_cast<size_t>(peer);
    return lost_[at] || done_[at] || silent_[at];
  }
  // A peer that was waited for up to the deadline in vain is silent: nobody waits for it, until its training side asks
  // something again. Inside publish(), when wait() has returned false: takes note of one, and of whom these exchanges
  // wait for. When this node itself was stopped meanwhile, it says nothing about them.
  void miss(Rank peer) { silent_[static_cast<size_t>(peer)] |= !was_stopped_; }
  void miss(const std::vector<int64_t>& numbers);
  bool silent(Rank peer) const;
  // Inside publish(): who was asked before that round and has not answered yet, but for those that are lost().
  std::vector<Rank> owing(int64_t before) const;
  // Inside publish(): the largest value that came with an answer.
  double largest_answer() const { return largest_answer_; }
  // Whether the peer has said that it makes no more exchanges.
  bool done(Rank peer) const;
  // Waits until ready(), which is asked inside publish() after each event. Looks at the states of `peers` and of those
  // that were asked, and asks again after silence. False: the deadline passed first.
  bool wait(const Deadline& deadline, const std::vector<Rank>& peers, const std::function<bool()>& ready);
  // Waits for the answer to this exchange, where a peer that lives decides on arrival: as long as answers take, as
  // learned from those so far, but at least a quarter of the deadline and at most all of it.
  void wait_for_answer(int64_t number);
  // What was settled since the last call, by number. Costs nothing while nothing is open.
  std::vector<Outcome> collect();
  void give_up(int64_t number);
  // Once a step: repeats what has been open for long; of what is overdue only the oldest.
  void nudge();
  // No more exchanges: answers no from here on, settles what is open and waits for what is unconfirmed, until the
  // deadline. collect() after it.
  void finish();
  // Open exchanges with this peer.
  bool has_open(Rank peer) const;
  // One has been open for 128 calls of nudge(): the peer does not answer, and is no longer asked but for the oldest.
  bool overdue(Rank peer) const;

  int64_t resent() const;
  int64_t lost_count() const;
  void save(SchemeState& state) const;
  Status load(const SchemeState& state);

 private:
  struct Open {
    Rank peer = kAnyRank;
    int64_t round = 0;
    double value = 0;
    Payload body = {};
    bool given_up = false;
    int64_t age = 0, due = 0;  // in calls of nudge()
    Nanos asked_at = 0;
  };
  struct Decision {
    bool yes = false, unconfirmed = false;
    double value = 0;
    Payload body = {};  // while it is unconfirmed
  };
  // What was decided for one life of one active end.
  struct Book {
    uint32_t incarnation = 0;
    int64_t lowest = 0;
    std::map<int64_t, Decision> decided;
  };

  void on_request(const Message& m);
  void on_reply(const Message& m);
  void on_ack(const Message& m);
  void decide(Book& book, const Message& m);
  void reply(const Message& to, const Decision& decision);
  void send_reply(Rank to, int64_t number, const Decision& decision);
  void send_request(int64_t number, const Open& open);
  void send_ack(Rank peer, int64_t number);
  int64_t lowest() const { return open_.empty() ? next_ : open_.begin()->first; }
  int64_t oldest_age(Rank peer) const;  // in calls of nudge(); -1: none is open
  void forget(Book& book);
  void look(const std::vector<Rank>& peers);
  void repeat();
  void notify();
  std::vector<Rank> unconfirmed() const;

  World& world_;
  const int workers_;
  const Nanos deadline_;
  const DType dtype_;
  const Packing packing_;
  Decide decide_;
  std::function<void()> idle_;
  bool listening_ = false;
  int64_t outstanding_ = 0;  // asked and not collected; the training side's

  // Shared with the handlers.
  std::map<int64_t, Open> open_;
  std::vector<Outcome> settled_;
  std::map<Rank, Book> books_;
  std::vector<Message> held_;
  std::vector<char> lost_, done_, silent_;
  double largest_answer_ = 0;
  LearnedDeadline answer_time_;
  bool closed_ = false, waiting_ = false, was_stopped_ = false;
  int64_t next_ = 0, resent_ = 0, lost_count_ = 0;
};

}  // namespace sinew::dist
