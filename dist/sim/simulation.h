// The simulated world: nodes are fibers on one OS thread under virtual time; the next to run is the one with the
// earliest virtual time. Repeatable bit for bit from the seed: events are ordered by (time, destination, kind,
// source, per-source sequence), never by the order in which the engine happened to create them.
//
// run() returns when no event is left. It may be called again (with other mains): the nodes then go on together from
// the latest time of any of them. That is a scheduled quiesce at a step boundary: nothing is in flight between two
// runs, unread messages are discarded, and save() with load() into a new Simulation continues bit for bit.
// With several threads the computations of nodes overlap as their virtual times do; everything else stays on the
// calling thread. It pays from about 25 us of arithmetic a step on.
//
// A main that returns ok without leave() leaves its node behind as a passive one: alive, its handlers are served.
// A main that returns an error counts as a death.
//
// Example:
//   Simulation sim({.seed = 1, .step_cost = 10 * kMillisecond}, 5);
//   for (Rank r = 0; r < 5; ++r) sim.set_node(r, [&](World& world) { return worker(world); });
//   SimReport report = sim.run();
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dist/fault_plan.h"
#include "dist/world.h"

namespace sinew::dist {

struct SimOptions {
  uint64_t seed = 1;
  Nanos latency = 50 * kMicrosecond;     // per message
  double bandwidth = 1.25e9;             // bytes per second, per node and direction
  Nanos service_cost = kMicrosecond;     // a handler's time per message; handlers of one node queue
  Nanos step_cost = 10 * kMillisecond;   // of Cost{1}
  double jitter = 0.1;                   // each cost is multiplied by a uniform draw from [1 - jitter, 1 + jitter]
  Nanos detection = 100 * kMillisecond;  // from a death until the others know
  bool always_yield = false;             // yield at every call; must not change any result
  int threads = 1;                       // that run computations of different nodes at once; changes no result
  int restarts = 0;                      // of each killed node
  Nanos restart_delay = kSecond;
  FaultPlan faults = {};
};

struct NodeOutcome {
  enum class What { finished, killed, failed, deadlocked } what = What::finished;
  Status status;
  Nanos time = 0;  // virtual, when it ended
  uint32_t restarts = 0;
  TrafficCounters traffic;
  int64_t step = 0;  // last reported
};

struct SimReport {
  std::vector<NodeOutcome> nodes;
  Nanos virtual_time = 0;
  uint64_t events = 0;
  uint64_t trace_hash = 0;  // over every delivery of this run(): (time, source, destination, sequence)
  std::string deadlock;     // empty, or who waits for what
};

class Simulation {
 public:
  Simulation(SimOptions options, int nodes);
  ~Simulation();
  // main runs as the node's training side, again with a higher incarnation after a restart.
  void set_node(Rank rank, std::function<Status(World&)> main);
  SimReport run();
  // The node's world, also between two runs.
  World& world(Rank rank);

  // Between runs: virtual time, counters and fates of the nodes. Same options, same number of nodes.
  std::vector<int64_t> save() const;
  Status load(const std::vector<int64_t>& state);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace sinew::dist
