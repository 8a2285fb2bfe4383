// Which members of a synchronous group live. One that does not come to a round may be busy: it computes a long step,
// tests, reads data. It is waited for as long as its communication side answers; one that is dead, stopped or cut off
// does not answer.
//
// Whoever has waited in vain for half of the deadline asks all others, and again each quarter. The answer says whether
// that one's training side waits for others, too: when all do, a message was lost, and the wait is over as well.
// A training side that hangs for good would keep the others for ever, and a supervisor does not see it, since such a
// process still gives signs of life. So whoever has been busy for kBusy deadlines, as far as the answers tell, counts
// as silent.
//
// An answer from a later epoch says that the others have re-formed: who asked is left behind, or has not heard of it
// yet, and waits for nobody's computation.
//
// Messages: Tag::sync_ask, no arguments; Tag::sync_answer, busy (0 or 1) and epoch. No bodies. None are sent in a round
// that is not late.
// Thread safety: the training thread.
#pragma once

#include <optional>
#include <vector>

#include "dist/world.h"

namespace sinew::dist {

class Liveness {
 public:
  static constexpr int64_t kBusy = 100;

  // Ranks are below `size`. From now on this node answers.
  Liveness(World& world, int size, Nanos deadline);
  ~Liveness();
  Liveness(const Liveness&) = delete;
  Liveness& operator=(const Liveness&) = delete;

  // The group's epoch is this from now on.
  void enter(int64_t epoch);
  // This training side begins to wait for others. What they have answered is forgotten, but for how long they have been
  // busy.
  void begin();
  // Something has come; or what was waited for is over.
  void renew();
  // Tells the others, should they ask, that this training side is in no computation; until begin() or renew().
  void idle() { tell(true); }

  // Until over() is to be called again, at the latest.
  Nanos left() const;
  // Asks, when it is time. True: what `members` are waited for will not come, since the deadline has passed and one of
  // them is silent, or none is busy; or since one is in a later epoch.
  bool over(const std::vector<Rank>& members);
  // Asks, when it is time, from `patience` after the wait began on. After this process was stopped, anew: what it did
  // not hear meanwhile says nothing about the others.
  void ask(const std::vector<Rank>& members, Nanos patience);
  bool is_busy(Rank rank) const;
  // In a later epoch: it knows how this one ended.
  bool is_ahead(Rank rank) const;
  // Those that were asked in this wait, a quarter of the deadline ago or earlier, and have not answered.
  std::vector<Rank> silent(const std::vector<Rank>& members) const;

 private:
  struct Other {
    Nanos heard = -1, busy_since = -1;
    bool busy = false;
    bool is_ahead = false;  // in a later epoch
  };
  void tell(bool idle);
  void listen();
  bool is_other(Rank rank) const { return rank != world_.rank() && !is_lost(world_.peer(rank)); }

  World& world_;
  const size_t size_;
  const Nanos deadline_;
  std::vector<Other> others_;  // by rank; empty until the first question
  std::optional<Request> request_;
  Nanos begin_ = 0, first_asked_ = -1, asked_ = -1, again_ = -1;
  int64_t epoch_ = 0, stops_ = 0;
  bool told_ = false;        // that it is idle
  bool knows_busy_ = false;  // since when some are

  // Shared with the handler.
  bool idle_ = false;
  int64_t told_epoch_ = 0;
};

}  // namespace sinew::dist
