// What goes wrong in a run, as data: the same plan acts in both worlds, from the same file.
//
// A plan is text, one fault a line, `#` comments:
//   kill rank=2 at=1.5s                  # or step=50: when that worker reports the step
//   pause rank=1 at=2s for=3s
//   slow rank=0 factor=4                 # computation takes 4 times as long; from=, until= optional times
//   delay from=0 to=4 by=5ms             # extra latency of a link; ranks may be *; after=, until= optional times
//   drop from=* to=4 probability=0.01    # after=, until= optional times
//   suppress rank=* probability=0.333    # per round, both directions
// Faults by step happen in a worker's first life only.
// Draws are counter based (seed, purpose::fault): the same for any timing and for all schemes compared.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "dist/world.h"

namespace sinew::dist {

struct Fault {
  enum class Kind { kill, pause, slow, delay, drop, suppress } kind = Kind::kill;
  Rank rank = kAnyRank;                 // kill pause slow suppress
  Rank from = kAnyRank, to = kAnyRank;  // delay drop; kAnyRank: all
  Nanos at = -1;                        // kill, pause: -1 when step is given
  int64_t step = -1;
  Nanos duration = 0;                  // pause: for; delay: by
  Nanos begin = 0, until = INT64_MAX;  // slow delay drop: window
  double factor = 1, probability = 1;
};

struct FaultPlan {
  std::vector<Fault> faults;
  uint64_t seed = 1;
};

// data_error with the line number and what is allowed there.
Result<FaultPlan> parse_fault_plan(const std::string& text, const std::string& name);
// True when the plan suppresses `rank`'s communication in `round`.
bool plan_suppresses(const FaultPlan& plan, Rank rank, int64_t round);
// True when message number `sequence` from -> to, sent at `when`, is dropped.
bool plan_drops(const FaultPlan& plan, Rank from, Rank to, uint64_t sequence, Nanos when);
Nanos plan_delay(const FaultPlan& plan, Rank from, Rank to, Nanos when);
double plan_slowdown(const FaultPlan& plan, Rank rank, Nanos when);

}  // namespace sinew::dist
