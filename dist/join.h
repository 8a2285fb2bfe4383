// Joining a job as one of its processes: the rendezvous, then the world.
//
// Example:
//   Result<std::optional<JobEnvironment>> job = read_job_environment();
//   Result<Joined> joined = join_job(**job);
//   World& world = *joined->world;
//
// Thread safety: one call in a process; JoinOptions::on_event is called on any of the world's threads.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "dist/fault_plan.h"
#include "dist/launch.h"
#include "dist/store.h"
#include "dist/world.h"

namespace sinew::dist {

struct Joined {
  std::unique_ptr<StoreServer> server;  // on the rank that hosts the rendezvous; must outlive the world
  std::unique_ptr<World> world;
  std::string warning;  // one line to log, or empty
};
struct JoinOptions {
  FaultPlan faults;
  std::string network_device = "lo";
  // Without a supervisor nobody ends a process that hangs: the others go on without one that is silent for so long.
  // 0: they wait.
  Nanos give_up = 30 * kSecond;
  bool is_center = false;                                 // waits for all others
  std::function<void(const std::string&)> on_event = {};  // UcxOptions::on_event
};
// A job of one process without a supervisor needs no network and gets the solo world.
// Errors: of open_job_store and make_ucx_world.
Result<Joined> join_job(const JobEnvironment& job, JoinOptions options = {});

}  // namespace sinew::dist
