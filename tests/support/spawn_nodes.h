// Runs one body on every node of a world, for tests. A body is a function of a World and hands back plain numbers, so
// that the same body runs in the simulation (here) and on real processes.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "core/cpu/cpu_info.h"
#include "core/status.h"
#include "dist/sim/simulation.h"
#include "dist/world.h"

namespace sinew::dist::testing {

using Numbers = std::vector<double>;
using NodeBody = std::function<Result<Numbers>(World&)>;

struct NodeResult {
  bool finished = false;  // returned ok; else it died, or `status` says why not
  Status status;
  Numbers numbers;  // of the last life
  uint32_t restarts = 0;
};

// A kind of world: runs `body` on ranks 0 .. nodes-1 and waits for all.
using Spawn = std::function<std::vector<NodeResult>(int nodes, const NodeBody& body)>;

struct SimulatedRun {
  std::vector<NodeResult> nodes;
  SimReport report;
};

inline SimulatedRun simulate(int nodes, const NodeBody& body, SimOptions options = {}) {
  set_num_threads(1);  // nodes take turns on this thread; a team would spin for a partner at every region
  SimulatedRun run;
  run.nodes.resize(nodes);
  Simulation sim(std::move(options), nodes);
  for (Rank r = 0; r < nodes; ++r)
    sim.set_node(r, [&run, &body, r](World& world) {
      Result<Numbers> result = body(world);
      if (!result.ok()) return result.status();
      run.nodes[r].numbers = std::move(*result);
      world.leave();
      return Status::Ok();
    });
  run.report = sim.run();
  for (Rank r = 0; r < nodes; ++r) {
    const NodeOutcome& o = run.report.nodes[r];
    run.nodes[r].finished = o.what == NodeOutcome::What::finished;
    run.nodes[r].status = o.status;
    run.nodes[r].restarts = o.restarts;
  }
  return run;
}

inline Spawn in_simulation(SimOptions options = {}) {
  return [options](int nodes, const NodeBody& body) { return simulate(nodes, body, options).nodes; };
}

}  // namespace sinew::dist::testing
