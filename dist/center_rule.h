// How the center variable is cut, and what becomes of a difference that reaches it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sinew::dist {

// A worker keeps at most so many exchanges unconfirmed: their numbers fit a mask.
inline constexpr int64_t kMaskBits = 64;

// How a vector is cut into shards, the last of which takes the rest; and these into parts, one for each node that
// serves the center. Part p has the shards first(p) to first(p + 1) - 1: of short vectors that may be none, but not of
// part 0.
struct Shards {
  int64_t size = 0, shard = 1;
  int parts = 1;
  int count() const { return static_cast<int>((size + shard - 1) / shard); }
  int64_t begin(int s) const { return s * shard; }
  int64_t length(int s) const { return std::min(shard, size - begin(s)); }
  int first(int part) const { return static_cast<int>((int64_t(part) * count() + parts - 1) / parts); }
  int part_of(int s) const { return static_cast<int>(int64_t(s) * parts / count()); }
  bool empty(int part) const { return first(part) == first(part + 1); }
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

// Whether `count` nodes are more than half of all, so that no other side of a partition is. Where the workers serve, no
// side has all parts of the center, and half of them will do with worker 0 (`first`) among them.
inline bool is_majority(int count, bool first, int workers, int servers) {
  const int nodes = workers + servers;
  return 2 * count > nodes || (servers == 0 && first && 2 * count == nodes);
}

// Of a JOIN, where not the additions that the part's last answer to this worker told of: it has seen none of it and has
// its own parameters; or nothing at all.
inline constexpr int64_t kSeenNone = -1, kKnowsNothing = -2;

// Answers to a FETCH in the place of a shard's number.
inline constexpr int64_t kJoinFirst = -1, kNotYet = -2, kTellFirst = -3;

}  // namespace sinew::dist
