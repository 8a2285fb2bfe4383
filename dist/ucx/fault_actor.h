// Acts out what a fault plan has in store for this process: kill, pause, slow.
//
// A restarted process must not be killed again at once: faults by step and pauses strike incarnation 0 only, and the
// k-th timed kill of a rank, in the order of the plan, strikes its incarnation k. Times count from the process's start.
// Thread safety: on_time() on one thread, on_step() on another.
#pragma once

#include <atomic>
#include <vector>

#include "dist/fault_plan.h"

namespace sinew::dist {

class FaultActor {
 public:
  FaultActor(const FaultPlan& plan, Rank rank, uint32_t incarnation);
  // Acts on what is due, and returns the time of what comes next; INT64_MAX for nothing.
  Nanos on_time(Nanos now);
  void on_step(int64_t step);

 private:
  struct Planned {
    Fault fault;
    bool done = false;
  };
  std::vector<Planned> timed_, stepped_;
};

// Stops this process, all its threads, for the duration (SIGSTOP; a child sends SIGCONT).
void pause_process(Nanos duration);

}  // namespace sinew::dist
