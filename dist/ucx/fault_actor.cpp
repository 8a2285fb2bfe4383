#include "dist/ucx/fault_actor.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <utility>

#include "core/check.h"

namespace sinew::dist {

FaultActor::FaultActor(const FaultPlan& plan, Rank rank, uint32_t incarnation, Nanos age,
                       std::function<void(const std::string&)> on_event)
    : rank_(rank),
      seed_(plan.seed),
      age_(age),
      on_event_(std::move(on_event)),
      faults_(plan, rank, incarnation, {incarnation > 0 ? age : -1, -1}) {}

void FaultActor::act(const Fault& fault) const {
  const bool kills = fault.kind == Fault::Kind::kill, pauses = fault.kind == Fault::Kind::pause;
  if (on_event_ && kills) on_event_("fault plan: this process is killed");
  if (on_event_ && pauses)
    on_event_(detail::concat("fault plan: this process is stopped for ", static_cast<double>(fault.duration) / kSecond,
                             " s"));
  if (kills) ::kill(::getpid(), SIGKILL);
  if (pauses) pause_process(fault.duration);
}

Nanos FaultActor::on_time(Nanos now) {
  for (const Fault& fault : faults_.take_timed(now + age_)) act(fault);
  const Nanos next = faults_.next_timed();
  return next == INT64_MAX ? next : next - age_;
}

void FaultActor::on_step(int64_t step, Nanos now, VecView theta) {
  for (const Fault& fault : faults_.at_step(step, now + age_)) {
    act(fault);
    if (fault.kind == Fault::Kind::corrupt) corrupt(fault, seed_, rank_, step, theta);
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
