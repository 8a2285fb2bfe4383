// Who is in a synchronous group. When a member is lost or silent, the others agree on the group of the next epoch:
// those of the last one that answer, if they are its majority, or half of it with its lowest rank. Any two such sets
// have a member in common, so no two groups can go on. Who is left behind learns it, or hears nothing, and ends. One
// that is only busy (dist/liveness.h) is waited for. Of two that answer but do not reach each other one is left behind:
// the one with more such partners, then the one with the higher rank; unless no majority would be left.
//
// The agreement of one epoch is a single decree (Lamport, "The Part-Time Parliament", 1998) among the members of that
// epoch: a ballot is prepared and promised, then a value is proposed and accepted, and what such a set has accepted is
// decided, whoever dies meanwhile. The value is the list of members, how many rounds each has completed, and whether
// they reach each other only in part. Members do it on the training side, where they wait in a round anyway, and write
// nothing down: a restarted one takes no part.
//
// Messages: Tag::sync, arguments kind, the epoch that is left, ballot; body: numbers.
// Thread safety: the training thread.
#pragma once

#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "dist/liveness.h"
#include "dist/world.h"

namespace sinew::dist {

class Membership {
 public:
  // members in ascending order. A member that does not answer for `deadline` is left behind.
  Membership(World& world, Liveness& liveness, std::vector<Rank> members, Nanos deadline);
  ~Membership();
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;

  int64_t epoch() const { return epoch_; }
  const std::vector<Rank>& members() const { return members_; }
  // Takes the place of what the constructor said, when a run is resumed.
  void restore(int64_t epoch, std::vector<Rank> members);

  // Whether another member wants to re-form this group, as far as its message is here. Answers those that are behind.
  bool is_asked();

  struct Formed {
    bool over = false;         // others have finished: there is no next epoch
    int64_t completed = 0;     // rounds, by those that are furthest
    Rank holder = kAnyRank;    // the lowest of these
    std::vector<Rank> behind;  // members that have completed one round less
    bool in_part = false;      // no majority of those that answer reach each other
  };
  // Within 4 deadlines, when nobody is busy. completed: rounds of this member; finishing: it waits only for the others
  // to finish; unreached: members that this one does not reach. peer_lost: this member is not among the majority.
  Result<Formed> reform(int64_t completed, bool finishing, const std::vector<Rank>& unreached);
  // This member needs the others no more. All are told so, and who was left behind that once more: when they learn it
  // this member may have left, and nobody may take its own last round for that of all without a word from another one.
  void finish();

 private:
  struct Value {
    std::vector<Rank> members;
    std::vector<int64_t> completed;
    bool in_part = false;
  };
  class Reform;
  // Answers what is about an earlier epoch, and keeps what is about this one or a later one.
  void take(Message message);
  // How that epoch ended, if this member knows.
  void tell(Rank rank, int64_t epoch);
  void send(Rank to, int64_t kind, int64_t epoch, int64_t ballot, const std::vector<int64_t>& numbers = {});
  static void write(const Value& value, std::vector<int64_t>& numbers);
  bool read(const std::vector<int64_t>& numbers, size_t at, Value& value) const;

  World& world_;
  Liveness& liveness_;
  const Nanos deadline_;
  std::vector<Rank> members_;
  int64_t epoch_ = 0;
  std::map<int64_t, Value> decided_;                   // by the epoch that it ended
  std::vector<std::pair<Rank, int64_t>> left_behind_;  // at the end of that epoch
  std::deque<Message> waiting_;
  bool finished_ = false;
};

}  // namespace sinew::dist
