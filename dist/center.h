// The center variable: served by a node of its own, cut into shards, and moved only by differences that workers send.
//
// What an addition does, and what workers get, is the CenterRule: the plain sum of EASGD and DOWNPOUR, the momentum of
// MDOWNPOUR, the averages of ADOWNPOUR and MVADOWNPOUR.
//
// One exchange (EASGD Algorithm 1, arXiv:1412.6651v8): the worker sends one FETCH; the center answers with one message
// a shard; for each shard that arrives the worker computes d = alpha (x - c), sends d as ADD and keeps d for its own
// move. Transfer, difference and addition of different shards overlap.
//
// What holds under loss, delay and death
//  - An ADD is atomic per shard and is applied at most once: its name is (rank, life, exchange, shard). `life` is
//  handed
//    out by the center when a worker joins, so that a restarted worker never meets its predecessor's names.
//  - Every part of the answer to a FETCH tells which of the worker's earlier ADDs of this shard were applied. The
//  worker
//    keeps a difference until it is told so, and sends it again, under its old name, otherwise. No extra messages.
//  - The worker moves by exactly the differences it has sent. So parameters + center + differences in flight are
//    conserved, and a death loses at most the dead worker's own differences in flight.
//
// When the center dies, whoever takes its place, a new process of its rank or a worker, has nothing: it answers
// questions only when it has the shards as a worker has last seen them, from the first worker that joins and has seen
// any. What was sent to the dead one and not seen applied is lost.
//
// Messages (arguments in Head::arg)
//   center_join   request  fingerprint, life or 0 to be given one          -> center_ack  life, fingerprint,
//                                                                             1 if it has nothing yet
//   center_seed   one way  shard, life; body: as last seen, or empty: as at the start
//   center_fetch  request  lowest unconfirmed exchange, life, Wanted       -> center_part shard, version, mask,
//                                                                             median score of the others; body.
//                                                                             shard -1: join first;
//                                                                             -2: too few have joined
//   center_add    one way  shard, exchange, life, lowest unconfirmed; body: d. A d that is not finite counts as applied
//                          but moves nothing
//   center_score  one way  life, score of dynamic weighting (the bits of a double, as the median above)
//   center_leave  request  lowest unconfirmed exchange, life, 1 if last    -> center_ack  last; body: one mask a shard
// Bit i of a mask: the ADD of exchange (lowest unconfirmed + i) was applied.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "dist/packing.h"
#include "dist/scheme.h"

namespace sinew::dist {

// A worker keeps at most so many exchanges unconfirmed: their numbers fit a mask.
inline constexpr int64_t kMaskBits = 64;

// How a vector is cut. The last shard takes the rest.
struct Shards {
  int64_t size = 0, shard = 1;
  int count() const { return static_cast<int>((size + shard - 1) / shard); }
  int64_t begin(int s) const { return s * shard; }
  int64_t length(int s) const { return std::min(shard, size - begin(s)); }
};

// What the center makes of a difference d that a worker sends, and what it gives out.
struct CenterRule {
  enum class Average { none, all, moving };
  // v = momentum v + d, c += v, and workers go on from c + momentum v: MDOWNPOUR as its author corrected it (Zhang, PhD
  // thesis 2016, Algorithms 4 and 5). 0: c += d.
  double momentum = 0;
  int64_t moving = 0;  // leading elements that have momentum; the others: c += d
  // What results are measured on: c; the mean z of all c before each addition (ADOWNPOUR, arXiv:1412.6651v8, section
  // 5); z = (1 - rate) z + rate c (MVADOWNPOUR).
  Average average = Average::none;
  double rate = 0.001;
  // Whether results are measured on something else than workers go on from.
  bool measures_apart() const { return momentum != 0 || average != Average::none; }
};

// Of a FETCH: the vector that workers go on from, or the one that results are measured on.
enum class Wanted : int64_t { working = 0, measured = 1 };

// The worker's side. Thread safety: the training thread only.
class CenterClient {
 public:
  // Receives c of one shard and returns d, which is sent; an empty one is not.
  using Difference = std::function<Payload(int shard, const Payload& center)>;
  using Use = std::function<void(int shard, const Payload& center)>;

  CenterClient(World& world, Rank center, Shards shards, DType dtype, Nanos deadline, Packing packing = Packing::none);

  Rank center() const { return center_; }
  // Another node is the center from now on; it is joined with the next exchange. What was not confirmed is lost.
  void move_to(Rank center);
  // What a center without shards gets from this worker; an empty payload: the start. Unset: nothing.
  void on_seed(std::function<Payload(int shard)> seed) { seed_ = std::move(seed); }

  // invalid_argument when the center works on something else; timeout; peer_lost.
  Status join(uint64_t fingerprint);
  // One exchange. False: at least one shard did not come before the deadline, though asked for again after each
  // silence of an eighth of it; what came was exchanged. peer_lost when the center is dead.
  Result<bool> exchange(const Difference& difference);
  // The two halves, for rules that need the whole center before they send, or send before they ask. pull() is as
  // exchange(), without differences. push() asks for each shard's difference and sends it; false when so many are
  // unconfirmed that it sends nothing: a pull() clears that up.
  Result<bool> pull(const Use& use, Wanted wanted = Wanted::working);
  bool push(const std::function<Payload(int shard)>& difference);
  // Reads the whole center. timeout, peer_lost.
  Status fetch(const Use& use, Wanted wanted = Wanted::working);
  // Dynamic weighting: this worker's score, for the others; the median of the others' as the last answer told, NaN when
  // there is none.
  void send_score(double score);
  double score_of_others() const { return others_; }
  // Returns when every difference is confirmed or the deadline is over (timeout), and tells the center goodbye.
  Status leave();

  int64_t resent() const { return resent_; }
  // Of the center, as last seen: additions so far.
  int64_t version() const { return version_; }
  // Exchanges of which a difference was lost with a center.
  int64_t lost_count() const { return lost_count_; }
  int64_t unconfirmed() const;
  void save(SchemeState& state) const;
  Status load(const SchemeState& state);

 private:
  struct Sent {
    int64_t exchange;
    Payload difference;
  };
  // Silence after which a request is sent again.
  Nanos retry() const { return deadline_ / 8 + 1; }
  Received ask(Head head, Tag reply, const Deadline& deadline);
  Status silent() const;
  // One pull. False: in vain.
  Result<bool> pull_once(const Use& use, Wanted wanted);
  void forget();
  int64_t lowest() const;
  void confirm(int shard, int64_t lowest, uint64_t mask);
  void send_add(int shard, const Sent& sent, int64_t lowest);
  Status lost() const;
  bool crowded() const;
  void send_difference(int shard, Payload difference, int64_t lowest);

  World& world_;
  Rank center_;
  const Shards shards_;
  const DType dtype_;
  const Nanos deadline_;
  const Packing packing_;
  std::function<Payload(int shard)> seed_;
  uint64_t fingerprint_ = 0;
  int64_t life_ = 0, next_ = 0, resent_ = 0, lost_count_ = 0, version_ = 0;
  double others_;
  std::vector<std::vector<Sent>> unconfirmed_;  // by shard, by exchange
};

// The center's side. Handlers do everything; the training thread only waits. A shard's bytes are shared with the
// messages that carry them and copied only when an addition finds them still on their way.
class CenterServer final : public CenterNode {
 public:
  // packing: of what workers are sent to go on from. The shards are rounded in each answer, with what rounding left in
  // the last.
  CenterServer(World& world, int workers, Shards shards, DType dtype, uint64_t fingerprint, CenterRule rule = {},
               Packing packing = Packing::none);
  ~CenterServer() override;
  Status start(ConstVecView initial) override;
  Result<bool> serve(Nanos slice) override;
  void snapshot(VecView out) override;
  // Before start(): nobody is answered before so many workers have joined, or left. A worker that takes a center over
  // knows so that no other side has one.
  void require(int workers) { required_ = workers; }
  // From now on serve() waits for nobody who has not joined: who never spoke to this node is not known to be gone.
  void expect_only_members() { only_members_ = true; }
  int64_t version() override;
  int64_t refused() override;
  bool has_result() override;
  SchemeState save() override;
  Status load(const SchemeState& state) override;

 private:
  // What was applied of one life of one worker.
  struct Book {
    int64_t lowest = 0;
    std::set<std::pair<int64_t, int64_t>> applied;  // (exchange, shard), exchange >= lowest
  };
  void reset(ConstVecView initial);
  void listen();
  Book* book(const Message& m, int64_t life, int64_t lowest);
  std::vector<uint64_t> masks(const Book& book) const;
  void on_join(const Message& m);
  void on_fetch(const Message& m);
  void on_add(const Message& m);
  void on_leave(const Message& m);
  void on_score(const Message& m);
  void on_seed(const Message& m);
  bool seeded() const;
  bool has_enough() const;
  double median_of_others(Rank rank) const;
  Payload part(int shard, Wanted wanted);
  Payload rounded(int shard);
  void move(int shard, ConstVecView difference);
  using Arguments = std::array<int64_t, 4>;
  void reply(const Message& to, Tag tag, const Arguments& arguments, Payload body);

  World& world_;
  const int workers_;
  const Shards shards_;
  const DType dtype_;
  const uint64_t fingerprint_;
  const CenterRule rule_;
  const Packing packing_;
  bool listening_ = false;
  int required_ = 0;
  bool only_members_ = false;  // the training side's
  std::vector<Payload> center_;
  std::vector<Payload> look_ahead_;        // c + momentum v, made when it is asked for
  std::vector<Vec> velocity_;              // v
  std::vector<Vec> unsent_;                // left by rounding, where there is a packing
  std::vector<std::vector<double>> mean_;  // z
  std::vector<int64_t> additions_;         // by shard: the clock of z
  std::vector<double> scores_;             // by rank; NaN: none
  std::vector<char> unseeded_;             // by shard: it is not known yet
  int64_t version_ = 0, refused_ = 0;
  std::vector<int64_t> lives_;  // given out, by rank
  std::vector<char> left_;
  std::map<std::pair<Rank, int64_t>, Book> books_;  // by (rank, life)
};

}  // namespace sinew::dist
