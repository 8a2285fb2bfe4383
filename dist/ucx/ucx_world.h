// The real world: one process per node, UCX active messages over TCP, one communication thread that owns UCX.
// dist/README.md says why: TCP only (shared memory wedges when a peer is killed), own
// endpoints on both sides with peer error handling, heartbeats for peers that hang without dying.
//
// Built only with SINEW_HAVE_UCX; without it make_ucx_world returns `unavailable` and says how to get it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "dist/fault_plan.h"
#include "dist/store.h"
#include "dist/world.h"

namespace sinew::dist {

struct UcxOptions {
  Rank rank = 0;
  int size = 1;
  uint32_t incarnation = 0;
  std::string network_device = "lo";  // bare UCX would listen on every interface
  std::string secret;                 // the job's; strangers without it are refused
  Nanos join_timeout = 30 * kSecond;  // rendezvous
  Nanos heartbeat = 200 * kMillisecond;
  Nanos silence = 5 * kSecond;  // upper bound of the learned deadline after which a silent peer counts as dead
  Nanos give_up = 0;            // a peer that is dead for so long is gone for good; 0: only the store says so
  bool waits_for_all = false;   // the center: heartbeats from everybody, from the start
  FaultPlan faults;
  Nanos age = 0;       // of a restarted rank, since its first process began: the plan's times count from there
  int status_fd = -1;  // where report_step writes, for the supervisor; -1: nowhere
  // For a log: kills and pauses of the fault plan, and which peers are lost or come back. Called on the
  // communication thread or the training thread; never blocks.
  std::function<void(const std::string&)> on_event = {};
};

// Joins the job: publishes this node's address in the store and connects to the others as they come.
// Errors: timeout (names the ranks that did not come), permission_denied, io_error, unavailable.
Result<std::unique_ptr<World>> make_ucx_world(const UcxOptions& options, std::shared_ptr<Store> store);
bool ucx_available();

}  // namespace sinew::dist
