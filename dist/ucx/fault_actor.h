// Acts out on this process what a fault plan has in store for it: kill and pause.
// Thread safety: on_time() on one thread, on_step() on another.
#pragma once

#include <functional>
#include <string>

#include "dist/own_faults.h"

namespace sinew::dist {

class FaultActor {
 public:
  // age: of the rank at this process's start, 0 for its first.
  // on_event: told before each; may be empty.
  FaultActor(const FaultPlan& plan, Rank rank, uint32_t incarnation, Nanos age,
             std::function<void(const std::string&)> on_event);
  // Acts on what is due, and returns the time of what comes next; INT64_MAX for nothing. Times count from this
  // process's start.
  Nanos on_time(Nanos now);
  // Also writes into the parameters, where the plan says so.
  void on_step(int64_t step, Nanos now, VecView theta);

 private:
  void act(const Fault& fault) const;

  const Rank rank_;
  const uint64_t seed_;
  const Nanos age_;
  const std::function<void(const std::string&)> on_event_;
  OwnFaults faults_;
};

// Stops this process, all its threads, for the duration (SIGSTOP; a child sends SIGCONT).
void pause_process(Nanos duration);

}  // namespace sinew::dist
