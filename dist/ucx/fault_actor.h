// Acts out on this process what a fault plan has in store for it: kill and pause.
// Thread safety: on_time() on one thread, on_step() on another.
#pragma once

#include "dist/own_faults.h"

namespace sinew::dist {

class FaultActor {
 public:
  // age: of the rank at this process's start, 0 for its first.
  FaultActor(const FaultPlan& plan, Rank rank, uint32_t incarnation, Nanos age);
  // Acts on what is due, and returns the time of what comes next; INT64_MAX for nothing. Times count from this
  // process's start.
  Nanos on_time(Nanos now);
  // Also writes into the parameters, where the plan says so.
  void on_step(int64_t step, Nanos now, VecView theta);

 private:
  const Rank rank_;
  const uint64_t seed_;
  const Nanos age_;
  OwnFaults faults_;
};

// Stops this process, all its threads, for the duration (SIGSTOP; a child sends SIGCONT).
void pause_process(Nanos duration);

}  // namespace sinew::dist
