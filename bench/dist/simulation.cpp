// What the simulation's engine and the schemes cost: 64 floats a worker, whose steps compute next to nothing, and with
// steps of 30 us that take real arithmetic, on 1 and 2 threads.
//
//   bench_dist_simulation        # items_per_second: steps of workers; goals: easgd 1 M/s, elastic_gossip 0.5 M/s
//
// Verified first: runs with 1 and 2 threads, and with a yield at every call, have the same trace.
#include <benchmark/benchmark.h>

#include "core/cpu/cpu_info.h"
#include "dist/scheme.h"
#include "dist/sim/simulation.h"

namespace sinew {
namespace {

constexpr int64_t kFloats = 64;

struct Case {
  const char* scheme;
  int workers;
  int64_t steps, work;  // of a step: passes over its vector
};

uint64_t run(const Case& c, int threads, bool always_yield) {
  set_num_threads(1);
  dist::SchemeOptions options{.name = c.scheme, .workers = c.workers};
  if (options.name == "elastic_gossip") options.period = 1, options.probability = 1.0 / 32, options.alpha = 0.5;
  dist::Simulation sim({.always_yield = always_yield, .threads = threads}, dist::node_count(options));
  for (dist::Rank r = 0; r < dist::node_count(options); ++r)
    sim.set_node(r, [&, r](dist::World& world) -> Status {
      std::vector<float> theta(kFloats, 1.0f);
      if (r >= c.workers) {
        const auto center = dist::make_center(options, world, kFloats, DType::f32);
        SINEW_RETURN_IF_ERROR(center->start(ConstVecView(theta)));
        const Status served = dist::serve_all(*center, world);
        world.leave();
        return served;
      }
      const auto scheme = dist::make_scheme(options, world, kFloats, DType::f32);
      SINEW_RETURN_IF_ERROR(scheme->start(theta));
      for (int64_t step = 0; step < c.steps; ++step) {
        world.report_step(step);
        SINEW_RETURN_IF_ERROR(scheme->before_step(step, theta));
        world.compute({}, [&] {
          for (int64_t pass = 0; pass < c.work; ++pass)
            for (float& x : theta) x -= 0.01f * (x - 0.5f);
        });
        SINEW_RETURN_IF_ERROR(scheme->after_step(step, theta));
      }
      const Status finished = scheme->finish(theta);
      world.leave();
      return finished;
    });
  const dist::SimReport report = sim.run();
  for (const dist::NodeOutcome& node : report.nodes)
    SINEW_CHECK(node.what == dist::NodeOutcome::What::finished, "bench", node.status.message());
  return report.trace_hash;
}

void simulation(benchmark::State& state, const Case& c, int threads) {
  Case shorter = c;
  shorter.steps = 20;
  const uint64_t trace = run(shorter, 1, false);
  if (trace != run(shorter, 2, false) || trace != run(shorter, 1, true)) {
    state.SkipWithError("the traces differ");
    return;
  }
  for (auto _ : state) run(c, threads, false);
  state.SetItemsProcessed(state.iterations() * c.workers * c.steps);
}

const int registered = [] {
  for (const char* scheme : {"easgd", "elastic_gossip", "local"})
    for (int workers : {16, 1000}) {
      const std::string name = std::string("simulation/") + scheme + "/" + std::to_string(workers);
      benchmark::RegisterBenchmark(name.c_str(), simulation, Case{scheme, workers, 400'000 / workers, 1}, 1)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
      for (int threads : {1, 2})
        benchmark::RegisterBenchmark((name + "/30us/threads:" + std::to_string(threads)).c_str(), simulation,
                                     Case{scheme, workers, 40'000 / workers, 4500}, threads)
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
    }
  return 0;
}();

}  // namespace
}  // namespace sinew

BENCHMARK_MAIN();
