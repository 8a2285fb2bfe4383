// One part of the center at the node that serves it: its shards, what is known of each worker, the handlers of the
// messages that dist/center.h describes.
//
// A part that is new in a dead one's place has nothing at first. When more than half of the workers that live (where it
// was taken over: of all nodes) have joined it is told by one of these, the one that has seen its newest state; when
// none has seen any, by all that live, and begins with the mean of their parameters.
//
// Thread safety: everything runs alone: handlers, and the training side inside publish().
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dist/center_rule.h"
#include "dist/packing.h"
#include "dist/scheme.h"

namespace sinew::dist {

// What all parts of a center have in common.
struct CenterSetup {
  int workers = 1;
  int servers = 1;  // nodes that only serve; 0: the workers do
  Shards shards;
  DType dtype = DType::f32;
  uint64_t fingerprint = 0;
  CenterRule rule = {};
  Packing packing = Packing::none;  // of what workers are sent to go on from
};

class CenterPart {
 public:
  CenterPart(World& world, const CenterSetup& setup, int part);

  // From the whole vector.
  void reset(ConstVecView initial);
  // It has nothing, and is to be told. takes_over: it answers nobody before more than half of the job is with it, so
  // that no other side of a partition has it too.
  void begin_unknown(bool takes_over);
  bool known() const { return known_; }
  // After begin_unknown(), once it is known: a line on where it comes from.
  const std::string& origin() const { return origin_; }

  // It is not known, and a worker that lives has not joined.
  bool expects_workers() const;

  // Whether the worker has said goodbye. only_members: or has never spoken to a part that was taken over.
  bool has_left(Rank r, bool only_members) const;
  int64_t version() const { return version_; }
  int64_t refused() const { return refused_; }
  // Into the part's place in the whole vector.
  void snapshot(VecView out);

  void on_join(const Message& m);
  void on_fetch(const Message& m);
  void on_add(const Message& m);
  void on_leave(const Message& m);
  void on_score(const Message& m);
  void on_seed(const Message& m);

  void save(SchemeState& state) const;
  // After reset().
  Status load(const SchemeState& state);

 private:
  // What was applied of one life of one worker.
  struct Book {
    int64_t lowest = 0;
    std::set<std::pair<int64_t, int64_t>> applied;  // (exchange, shard), exchange >= lowest
  };
  // A shard of this part.
  struct Shard {
    Payload center;
    Payload look_ahead;        // c + momentum v, made when it is asked for
    Vec velocity;              // v
    Vec unsent;                // left by rounding, where there is a packing
    std::vector<double> mean;  // z
    int64_t additions = 0;     // the clock of z
  };
  int first() const { return setup_.shards.first(part_); }
  int end() const { return setup_.shards.first(part_ + 1); }
  Shard& at(int s) { return shards_[static_cast<size_t>(s - first())]; }
  const Shard& at(int s) const { return shards_[static_cast<size_t>(s - first())]; }
  bool owns(int64_t s) const { return s >= first() && s < end(); }
  Shard make_shard(ConstVecView initial) const;

  Book* book(const Message& m, int64_t life, int64_t lowest);
  std::vector<uint64_t> masks(const Book& book) const;
  bool has_enough() const;
  std::vector<Rank> tellers() const;
  bool has_told(Rank r) const;
  void learn();
  double median_of_others(Rank rank) const;
  int others(Rank rank) const;
  Payload vector_for(int s, Wanted wanted);
  Rounded rounded(int s);
  void move(int s, ConstVecView difference);
  using Arguments = std::array<int64_t, 4>;
  void reply(const Message& to, Tag tag, const Arguments& arguments, Rounded body);

  World& world_;
  const CenterSetup setup_;
  const int part_;
  std::vector<Shard> shards_;
  bool known_ = true, taken_over_ = false;
  std::string origin_;
  int64_t version_ = 0, refused_ = 0;
  std::vector<double> scores_;  // by rank; NaN: none
  std::vector<int64_t> lives_;  // given out, by rank
  std::vector<int64_t> seen_;   // as told in a JOIN, by rank
  std::vector<char> left_;
  std::map<std::pair<Rank, int64_t>, Book> books_;  // by (rank, life)
  std::map<Rank, std::vector<Payload>> told_;       // while it is not known; by shard
};

}  // namespace sinew::dist
