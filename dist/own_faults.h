// What a fault plan has in store for a node itself: kill, pause, corrupt. Shared by both worlds.
//
// Faults by step strike a rank's first life. Times count on through a restart, so that what was due before it is over.
// Faults by chance are drawn in each step, and anew in each life.
// Thread safety: at_step() on one thread, the timed ones on another.
#pragma once

#include <vector>

#include "dist/fault_plan.h"

namespace sinew::dist {

class OwnFaults {
 public:
  // What was due up to `since` is over: for a life that begins, or goes on, in the midst of a run.
  OwnFaults(const FaultPlan& plan, Rank rank, uint32_t incarnation, const Moment& since = {-1, -1});
  // What strikes when the node reports the step at `now`, each fault once but for those by chance; timed kills and
  // pauses are not among it: they strike between steps too. Valid until the next call.
  const std::vector<Fault>& at_step(int64_t step, Nanos now);
  // Kills and pauses by time, each once.
  std::vector<Fault> take_timed(Nanos now);
  // When the next one of these is due; INT64_MAX: none.
  Nanos next_timed() const;

 private:
  struct Planned {
    Fault fault;
    uint64_t number;
    bool done = false;
  };
  const uint64_t seed_;
  const Rank rank_;
  const uint32_t incarnation_;
  std::vector<Planned> timed_, stepped_;
  std::vector<Fault> due_;
};

// Writes what the fault says into the parameters.
void corrupt(const Fault& fault, uint64_t seed, Rank rank, int64_t step, VecView theta);

}  // namespace sinew::dist
