#include "models/lab/drive.h"

#include "core/cpu/cpu_info.h"
#include "dist/sim/simulation.h"

namespace sinew::train::lab {
namespace {

using dist::Nanos;

// Virtual time costs nothing: a turn is long against the messages of an exchange, also of long vectors.
constexpr Nanos kBegin = dist::kSecond, kTurn = 100 * dist::kMillisecond;

class Run {
 public:
  explicit Run(const Problem& problem) : p_(problem), size_(static_cast<int64_t>(problem.start.size())) {}

  Status node(dist::World& world) {
    Status status = world.rank() < p_.scheme.workers ? worker(world) : center(world);
    if (status.ok()) world.leave();
    return status;
  }

 private:
  Nanos round() const { return kTurn * p_.scheme.workers; }

  Status worker(dist::World& world) {
    const dist::Rank r = world.rank();
    auto scheme = dist::make_scheme(p_.scheme, world, size_, DType::f64);
    Values x = p_.start, move;
    SINEW_RETURN_IF_ERROR(scheme->start(x));
    if (p_.place) p_.place(r, x);
    if (p_.prepare) SINEW_RETURN_IF_ERROR(p_.prepare(r, x, *scheme));
    for (int64_t k = 0; k < p_.steps; ++k) {
      if (p_.in_turn) world.sleep(kBegin + k * round() + r * kTurn - world.now());
      world.report_step(k);
      if (p_.begin) p_.begin(r, k, x);
      SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
      if (p_.loss) scheme->observe(p_.loss(r, k, x));
      move.assign(x.size(), 0.0);
      if (p_.move) world.compute({p_.in_turn ? 0.0 : 1.0}, [&] { p_.move(r, k, x, move); });  // a turn is short
      axpby(-1, move, 1, x, x);
      SINEW_RETURN_IF_ERROR(scheme->after_step(k, x));
      if (p_.seen) p_.seen(r, k, x, *scheme);
      if (p_.center && !p_.in_turn && r == 0) {
        Values c(x.size());
        SINEW_RETURN_IF_ERROR(scheme->evaluation_point(x, c));
        p_.center(k, c);
      }
    }
    return scheme->finish(x);
  }

  Status center(dist::World& world) {
    auto center = dist::make_center(p_.scheme, world, size_, DType::f64);
    SINEW_RETURN_IF_ERROR(center->start(p_.start));
    Values c(p_.start.size());
    for (int64_t k = 0; k < p_.steps && p_.center && p_.in_turn; ++k) {
      world.sleep(kBegin + (k + 1) * round() - kTurn / 10 - world.now());  // after the last turn's exchange
      center->snapshot(c);
      p_.center(k, c);
    }
    return center->serve(INT64_MAX).status();
  }

  const Problem& p_;
  const int64_t size_;
};

}  // namespace

Status drive(const Problem& problem) {
  SINEW_RETURN_IF_ERROR(dist::validate(problem.scheme));
  SINEW_CHECK(!problem.start.empty(), "drive", "no vectors");
  const int threads = num_threads();
  set_num_threads(1);  // nodes take turns on this thread, and the vectors are small
  const int nodes = dist::node_count(problem.scheme);
  Run run(problem);
  dist::Simulation simulation({.latency = dist::kMicrosecond, .step_cost = dist::kMillisecond, .jitter = 0}, nodes);
  for (dist::Rank r = 0; r < nodes; ++r) simulation.set_node(r, [&run](dist::World& world) { return run.node(world); });
  const dist::SimReport report = simulation.run();
  set_num_threads(threads);
  for (const dist::NodeOutcome& node : report.nodes)
    if (node.what != dist::NodeOutcome::What::finished)
      return node.status.ok() ? make_status(StatusCode::internal, "lab: the simulation stopped: ", report.deadlock)
                              : node.status;
  return Status::Ok();
}

Status set_state(dist::Scheme& scheme, const std::string& name, const Values& values) {
  dist::SchemeState state = scheme.save();
  if (!state.vectors.count(name)) return make_status(StatusCode::internal, "lab: the scheme has no state '", name, "'");
  state.vectors[name] = Vec::copy_of(ConstVecView(values));
  return scheme.load(state);
}

Values get_state(const dist::Scheme& scheme, const std::string& name) {
  return to_doubles(scheme.save().vectors.at(name).view());
}

}  // namespace sinew::train::lab
