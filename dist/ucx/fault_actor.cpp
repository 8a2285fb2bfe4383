#include "dist/ucx/fault_actor.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace sinew::dist {

FaultActor::FaultActor(const FaultPlan& plan, Rank rank, uint32_t incarnation) {
  uint32_t kills = 0;
  for (const Fault& fault : plan.faults) {
    const bool kill = fault.kind == Fault::Kind::kill;
    if ((fault.rank != rank && fault.rank != kAnyRank) || (!kill && fault.kind != Fault::Kind::pause)) continue;
    if (fault.step >= 0) {
      if (incarnation == 0) stepped_.push_back({fault});
    } else if (kill ? kills++ == incarnation : incarnation == 0) {
      timed_.push_back({fault});
    }
  }
}

namespace {
void act(const Fault& fault) {
  if (fault.kind == Fault::Kind::kill) ::kill(::getpid(), SIGKILL);
  pause_process(fault.duration);
}
}  // namespace

Nanos FaultActor::on_time(Nanos now) {
  Nanos next = INT64_MAX;
  for (Planned& planned : timed_) {
    if (planned.done) continue;
    if (planned.fault.at > now) {
      next = std::min(next, planned.fault.at);
      continue;
    }
    planned.done = true;
    act(planned.fault);
  }
  return next;
}

void FaultActor::on_step(int64_t step) {
  for (Planned& planned : stepped_) {
    if (planned.done || step < planned.fault.step) continue;
    planned.done = true;
    act(planned.fault);
  }
}

void pause_process(Nanos duration) {
  const timespec time{static_cast<time_t>(duration / kSecond), static_cast<long>(duration % kSecond)};
  const pid_t self = ::getpid();
  // The child of a process with threads may only make system calls.
  const pid_t helper = ::fork();
  if (helper < 0) return;
  if (helper == 0) {
    ::syscall(SYS_close_range, 0u, ~0u, 0u);  // it must not hold this process's connections open
    ::nanosleep(&time, nullptr);
    while (::getppid() == self && ::kill(self, SIGCONT) == 0) {
      // Again, should the first have come before the stop; ends when the parent reaps nothing more: it kills us.
      const timespec again{0, 100 * 1000 * 1000};
      ::nanosleep(&again, nullptr);
    }
    ::_exit(0);
  }
  // To this very thread: one that is sent to the process may first stop another thread, and the helper would be gone
  // before this one stops.
  ::raise(SIGSTOP);
  ::kill(helper, SIGKILL);
  ::waitpid(helper, nullptr, 0);
}

}  // namespace sinew::dist
