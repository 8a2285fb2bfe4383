// The center variable: cut into shards, served by a node of its own, by several, or by the workers, and moved only by
// differences that workers send. Each node serves a part, some shards in a row; what is said here of the center holds
// for each part by itself.
//
// What an addition does, and what workers get, is the CenterRule: the plain sum of EASGD and DOWNPOUR, the momentum of
// MDOWNPOUR, the averages of ADOWNPOUR and MVADOWNPOUR.
//
// One exchange (EASGD Algorithm 1, arXiv:1412.6651v8): the worker sends each part one FETCH; the center answers with
// one message a shard; for each shard that arrives the worker computes d = alpha (x - c), sends d as ADD and keeps d
// for its own move. Transfer, difference and addition of different shards overlap.
//
// What holds under loss, delay and death
//  - An ADD is atomic per shard and is applied at most once: its name is (rank, life, exchange, shard). `life` is
//    handed out by the part when a worker joins, so that a restarted worker never meets its predecessor's names.
//  - Every shard of the answer to a FETCH tells which of the worker's earlier ADDs of this shard were applied. The
//    worker keeps a difference until it is told so, and sends it again, under its old name, otherwise. No extra
//    messages.
//  - The worker moves by exactly the differences it has sent. So parameters + center + differences in flight are
//    conserved, and a death loses at most the dead worker's own differences in flight.
//  - A node of the center that does not answer keeps back its own shards, and no others.
//
// When a node of the center dies, whoever takes its place, a new process of its rank or a worker, has nothing of its
// part: when more than half have joined, it asks the one of them that has seen the newest, or, when no worker has, all
// for their parameters, and begins with their mean. What was sent to the dead one and not seen applied is lost; so is
// what only those have seen applied that joined later.
//
// Messages (arguments in Head::arg)
//   center_join   request  fingerprint, life or 0 to be given one, part, additions seen (kSeenNone, kKnowsNothing)
//                                                                          -> center_ack  life, fingerprint.
//                                                                             0: not (yet) a part of this node
//   center_fetch  request  lowest unconfirmed exchange, life, Wanted, part -> center_part shard, version, mask,
//                                                                             median score of the others; body.
//                                                                             kJoinFirst, part: unknown life;
//                                                                             kNotYet, part: it knows nothing yet, or
//                                                                             too few have joined;
//                                                                             kTellFirst, part: center_seed, please
//   center_seed   one way  shard, life; body: as last seen, or this worker's parameters
//   center_add    one way  shard, exchange, life, lowest unconfirmed; body: d. A d that is not finite counts as applied
//                          but moves nothing
//   center_score  one way  life, score of dynamic weighting (the bits of a double, as the median above); to part 0
//   center_leave  request  lowest unconfirmed exchange, life, 1 if last, part
//                                                                          -> center_ack  last, other workers that have
//                                                                             not left; body: one mask a shard.
//                                                                             kJoinFirst: unknown life
// Bit i of a mask: the ADD of exchange (lowest unconfirmed + i) was applied.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dist/center_part.h"

namespace sinew::dist {

// The worker's side. Thread safety: the training thread only.
class CenterClient {
 public:
  // Receives c of one shard and returns d, which is sent; an empty one is not.
  using Difference = std::function<Rounded(int shard, const Payload& center)>;
  using Use = std::function<void(int shard, const Payload& center)>;
  // What a part without anything is told by this worker. Without it: nothing.
  struct Memory {
    std::function<bool(int part)> has_seen;  // the whole part, as of its last answer
    std::function<Payload(int shard)> tell;  // as last seen, or this worker's own parameters
  };

  // nodes: of each part.
  CenterClient(World& world, std::vector<Rank> nodes, const CenterSetup& setup, Nanos deadline);

  Rank node(int part) const { return parts_[static_cast<size_t>(part)].node; }
  // Another node has the part from now on; it is joined with the next exchange. What was not confirmed is lost.
  void move_to(int part, Rank node);
  // Whether every part that was moved has answered since.
  bool all_answered() const;
  void remember(Memory memory) { memory_ = std::move(memory); }

  // invalid_argument when the center works on something else; timeout; peer_lost.
  Status join();
  // Asks for the center that the next exchange, or pull() of the working vector, will use: it comes meanwhile. Not
  // saved: after a load() the exchange asks itself.
  void ask_early();
  void forget_early() { early_.reset(); }
  // One exchange. False: at least one shard did not come before the deadline, though asked for again after each
  // silence of an eighth of it; what came was exchanged. peer_lost when a part's node is dead; the other parts were
  // exchanged.
  Result<bool> exchange(const Difference& difference);
  // The two halves, for rules that need the whole center before they send, or send before they ask. pull() is as
  // exchange(), without differences. push() asks for each shard's difference, of a part or of all, and sends it; false
  // when so many are unconfirmed that it sends nothing: a pull() clears that up.
  Result<bool> pull(const Use& use, Wanted wanted = Wanted::working);
  Result<bool> pull(const std::vector<int>& parts, const Use& use, Wanted wanted = Wanted::working);
  bool push(int part, const std::function<Rounded(int shard)>& difference);
  bool push(const std::function<Rounded(int shard)>& difference);
  // Reads the whole center. timeout, peer_lost.
  Status fetch(const Use& use, Wanted wanted = Wanted::working);
  // Dynamic weighting: this worker's score, for the others; the median of the others' as the last answer told, NaN when
  // there is none.
  void send_score(double score);
  double score_of_others() const { return others_; }

  // Returns when every difference is confirmed or the deadline is over (timeout). peer_lost: those to a dead node are
  // not.
  Status settle();
  // Of the workers but this one, those that have not said goodbye to some part. A part counts as one that is silent, is
  // new (it is joined, and told what it was), or has not confirmed all (what it lacks is sent again). Repeats goodbyes.
  // peer_lost.
  Result<int> others();
  // Tells each part that has confirmed everything, and not been told yet, that this worker is done with it.
  void say_goodbye();

  int64_t resent() const { return resent_; }
  // Of the center, as last seen: additions so far.
  int64_t version() const;
  // Exchanges of which a difference was lost with a node of the center; once for each part that lost one.
  int64_t lost_count() const { return lost_count_; }
  const Staleness& staleness() const { return staleness_; }
  // How often a part has come back as another process: a restarted node or a successor has it now.
  int64_t renewals() const { return renewals_; }
  int64_t unconfirmed() const;
  void save(SchemeState& state) const;
  Status load(const SchemeState& state);

 private:
  struct Sent {
    int64_t exchange;
    Payload difference;
  };
  struct Part {
    Rank node = kAnyRank;
    int64_t life = 0, next = 0;  // exchange
    int64_t version = 0;         // as last seen
    int64_t looked = -1;         // version of the last whole answer; -1: none
    int64_t own = 0;             // additions of this worker that were confirmed since
    int64_t incarnation = -1;    // of the node that answered last
    bool moved = false;          // to another node, and has not answered since
    bool is_new = false;         // moved, or its node forgot this worker; it has not answered since
    bool left = false;           // it was told goodbye, at least once
  };
  // One question to all parts, and what it said to each.
  struct Fetch {
    Fetch(World& world, size_t parts) : request(world), life(parts), lowest(parts) {}
    Request request;
    std::vector<int64_t> life, lowest;  // by part; life 0: not asked yet
  };
  // What became of a pull besides: it is not whole; the first thing that went wrong.
  struct Outcome {
    bool complete = true;
    Status status, timeout;
    void fail(Status why);
    // For who needs all: a timeout goes before a dead node.
    Status worst() const;
  };
  // Silence after which a request is sent again.
  Nanos retry() const { return deadline_ / 8 + 1; }
  Part& at(int part) { return parts_[static_cast<size_t>(part)]; }
  const Part& at(int part) const { return parts_[static_cast<size_t>(part)]; }
  std::vector<Sent>& sent(int shard) { return unconfirmed_[static_cast<size_t>(shard)]; }
  const std::vector<Sent>& sent(int shard) const { return unconfirmed_[static_cast<size_t>(shard)]; }
  template <class Fn>
  void each_shard(int part, Fn fn) const {
    for (int s = shards_.first(part); s < shards_.first(part + 1); ++s) fn(s);
  }
  template <class Fn>
  void each_part(Fn fn) const {
    for (int p = 0; p < shards_.parts; ++p)
      if (!shards_.empty(p)) fn(p);
  }
  using Question = std::function<Head(int part)>;
  // What came, or that it is a timeout or peer_lost. True: the part is to be asked again.
  using Answer = std::function<bool(int part, const Received& received)>;
  // Asks these parts all at once, each again after every silence of retry(), until each has answered.
  void ask(const std::vector<int>& parts, Tag reply, const Deadline& deadline, const Question& question,
           const Answer& answer);
  // center_leave; what the answers tell of differences is heeded.
  void ask_to_leave(const std::vector<int>& parts, const Deadline& deadline, const Answer& answer);
  std::vector<int> all_parts() const;
  // Those that were joined.
  std::vector<int> join(const std::vector<int>& parts, const Deadline& deadline, Outcome& outcome);
  void pull_from(const std::vector<int>& parts, const Use& use, Wanted wanted, const Deadline& deadline,
                 Outcome& outcome);
  // Of a part that answers in the place of a shard. False: nothing more will come from it.
  bool heed(int64_t answer, int part);
  Status silent(int part) const;
  Status lost(int part) const;
  void forget(int part);
  // The whole part has answered, by a process of this incarnation.
  void answered(int part, uint32_t incarnation, Wanted wanted);
  int64_t lowest(int part) const;
  bool is_settled(int part) const { return lowest(part) == at(part).next; }
  bool crowded(int part) const;
  void confirm(int shard, int64_t lowest, uint64_t mask);
  Head add_of(int shard, int64_t exchange, int64_t lowest) const;
  void send_fetch(int part, int64_t lowest, Wanted wanted, const Request& request);
  void send_difference(int shard, Rounded difference, int64_t lowest);

  World& world_;
  const Shards shards_;
  const DType dtype_;
  const Packing packing_;
  const uint64_t fingerprint_;
  const Nanos deadline_;
  Memory memory_;
  std::unique_ptr<Fetch> early_;  // that nobody waits for yet
  int64_t resent_ = 0, lost_count_ = 0, renewals_ = 0;
  Staleness staleness_;
  double others_;
  std::vector<Part> parts_;
  std::vector<std::vector<Sent>> unconfirmed_;  // by shard, by exchange
};

// A node's side. Handlers do everything; the training thread only waits. A shard's bytes are shared with the messages
// that carry them and copied only when an addition finds them still on their way.
class CenterServer final : public CenterNode {
 public:
  // parts: that it serves from its start.
  CenterServer(World& world, CenterSetup setup, const std::vector<int>& parts = {0});
  ~CenterServer() override;
  // A restarted node knows nothing, and is told by the workers.
  Status start(ConstVecView initial) override;
  // From now on this node serves this part, too. It is told what it was by the workers that join, and answers only when
  // more than half of the job is with it.
  void take_over(int part);
  // From now on serve() waits for nobody who has not joined a part that was taken over: who never spoke to this node is
  // not known to be gone.
  void expect_only_members() { only_members_ = true; }
  bool serves(int part);
  // Whether some part is not known, and a worker that lives has not joined it.
  bool expects_workers();
  // Of a part that was taken over, once it is known: where it comes from; else empty.
  std::string origin(int part);

  Result<bool> serve(Nanos slice) override;
  // Writes the parts that this node serves.
  void snapshot(VecView out) override;
  int64_t version() override;
  int64_t refused() override;
  bool has_result() override;
  SchemeState save() override;
  Status load(const SchemeState& state) override;

 private:
  void listen();
  void refuse(const Message& m, Tag tag, const std::array<int64_t, 4>& arguments);

  World& world_;
  const CenterSetup setup_;
  bool listening_ = false;
  bool only_members_ = false;  // the training side's
  std::map<int, CenterPart> parts_;
};

}  // namespace sinew::dist
