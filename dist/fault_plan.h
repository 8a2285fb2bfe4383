// What goes wrong in a run, as data: the same plan acts in both worlds, from the same file.
//
// A plan is text, one fault a line, `#` comments; docs/fault_plans.md says what each kind does:
//   kill      rank=2 at=1.5s                   WHEN: at=TIME, step=N, or probability=P in each step
//   pause     rank=1 step=50 for=3s
//   corrupt   rank=1 step=50 sigma=0.5         or value=nan
//   slow      rank=0 factor=4                  SPAN: after=, until= (times), after_step=, until_step=
//   delay     from=0 to=4 by=5ms jitter=1ms    LINK: from=, to=; left out or *: all
//   drop      from=* to=4 probability=0.01
//   duplicate probability=0.01
//   reorder   probability=0.01 by=10ms
//   partition ranks=0,1 after=1s until=3s
//   suppress  rank=* probability=0.333         or fail=0.02 recover=0.05
//   trace     file=spot.csv as=pause scale=0.1
// Draws are counter based (seed, purpose::fault): the same for any timing and for all schemes compared.
// Thread safety: all functions are pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "dist/world.h"

namespace sinew::dist {

struct Fault {
  enum class Kind {
    kill,
    pause,
    corrupt,
    slow,
    delay,
    drop,
    duplicate,
    reorder,
    partition,
    suppress
  } kind = Kind::kill;
  Rank rank = kAnyRank;                 // kill pause corrupt slow suppress
  Rank from = kAnyRank, to = kAnyRank;  // delay drop duplicate reorder; kAnyRank: all
  std::vector<Rank> ranks;              // partition: one of the two sides
  // kill pause corrupt: one of the two, or -1 and -1: in each step with `probability`.
  Nanos at = -1;
  int64_t step = -1;
  // The others: from begin and first_step on, before `until` and until_step. Steps are the node's own, on a link the
  // sender's; a node without steps is at -1.
  Nanos begin = 0, until = INT64_MAX;
  int64_t first_step = -1, until_step = INT64_MAX;
  Nanos duration = 0;              // pause: for; delay, reorder: by
  Nanos jitter = 0;                // delay: uniform, added
  Nanos every = kSecond;           // partition: drawn anew so often
  double factor = 1;               // slow
  double probability = 1;          // per step (events, slow), message, round (suppress) or `every`
  double sigma = 0;                // corrupt: of a normal draw that is added; 0: `value` is written
  double value = 0;                // corrupt
  double fail = -1, recover = -1;  // suppress as a Markov chain over rounds: to begin, to end; -1: none
};

struct FaultPlan {
  std::vector<Fault> faults;
  uint64_t seed = 1;
};

// data_error with the line number and what is allowed there; a trace's file is looked for beside the plan `name`.
Result<FaultPlan> parse_fault_plan(const std::string& text, const std::string& name);
// Every rank that the fault names.
std::vector<Rank> ranks_named(const Fault& fault);
std::string_view to_string(Fault::Kind kind);  // as in a plan
// Why the fault can never act in a job of so many nodes, of which the first are the workers, which alone train and
// report steps; empty: it may.
std::string why_never(const Fault& fault, int workers, int nodes);

// Where a node is.
struct Moment {
  Nanos time = 0;
  int64_t step = -1;  // last reported
};

// True when the plan suppresses `rank`'s communication in `round`.
bool plan_suppresses(const FaultPlan& plan, Rank rank, int64_t round, const Moment& now = {});
// How many times as long a computation takes.
double plan_slowdown(const FaultPlan& plan, Rank rank, const Moment& now);

struct MessageFate {
  bool dropped = false, duplicated = false;
  Nanos delay = 0;  // keeps the order of the link's messages
  Nanos held = 0;   // does not: later ones pass it
};
// Of message number `sequence` from -> to.
MessageFate plan_message(const FaultPlan& plan, Rank from, Rank to, uint64_t sequence, const Moment& now);
// False: every message's fate is the usual one.
bool plan_touches_messages(const FaultPlan& plan);
// Whether from and to are on two sides of a partition.
bool plan_parts(const FaultPlan& plan, Rank from, Rank to, const Moment& now);

}  // namespace sinew::dist
