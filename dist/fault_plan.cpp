#include "dist/fault_plan.h"

#include <algorithm>
#include <set>

#include "core/philox.h"

namespace sinew::dist {
namespace {

using Kind = Fault::Kind;

bool in_window(const Fault& f, const Moment& now) {
  return now.time >= f.begin && now.time < f.until && now.step >= f.first_step && now.step < f.until_step;
}
bool on_link(const Fault& f, Rank from, Rank to) {
  return (f.from == kAnyRank || f.from == from) && (f.to == kAnyRank || f.to == to);
}
bool of_rank(const Fault& f, Rank rank) { return f.rank == kAnyRank || f.rank == rank; }
bool on_side(const Fault& f, Rank rank) { return std::find(f.ranks.begin(), f.ranks.end(), rank) != f.ranks.end(); }

double uniform(const FaultPlan& plan, size_t fault, Rank from, Rank to, uint64_t count) {
  RngKey key{plan.seed, uint32_t(RngPurpose::fault), uint32_t(from), count};
  return uniform01(philox_u64(key, uint64_t(fault) << 32 | uint32_t(to)));
}
bool draw(const FaultPlan& plan, size_t fault, Rank from, Rank to, uint64_t count) {
  const double p = plan.faults[fault].probability;
  return p >= 1 || uniform(plan, fault, from, to, count) < p;
}

// The state in `round` of a chain that begins up. A round's one draw u moves both states: up goes down when u < fail,
// down goes up when u >= 1 - recover. So the last draw that leads both states to the same one decides, and what lies
// between it and `round` changes nothing, or exchanges the two.
bool chain_is_down(const FaultPlan& plan, size_t fault, Rank rank, int64_t round) {
  const Fault& f = plan.faults[fault];
  bool exchanged = false;
  for (int64_t k = round; k >= 0; --k) {
    const double u = uniform(plan, fault, rank, kAnyRank, static_cast<uint64_t>(k));
    const bool down_from_up = u < f.fail, down_from_down = u < 1 - f.recover;
    if (down_from_up == down_from_down) return down_from_up != exchanged;
    exchanged ^= down_from_up;  // and up from down
  }
  return exchanged;
}

}  // namespace

std::vector<Rank> ranks_named(const Fault& fault) {
  std::vector<Rank> named = fault.ranks;
  for (Rank rank : {fault.rank, fault.from, fault.to})
    if (rank != kAnyRank) named.push_back(rank);
  return named;
}

std::string why_never(const Fault& f, int workers, int nodes) {
  for (const Rank rank : ranks_named(f))
    if (rank >= nodes) return detail::concat("rank ", rank, ", but the job's ranks are 0 to ", nodes - 1);
  const std::string whose = detail::concat("; workers are 0 to ", workers - 1);
  const bool event = f.kind == Kind::kill || f.kind == Kind::pause;
  if (f.rank >= workers) {
    if (event && f.at < 0)
      return detail::concat(to_string(f.kind), " rank=", f.rank, ": no worker, so it reports no steps; give at=TIME",
                            whose);
    if (!event) return detail::concat(to_string(f.kind), " rank=", f.rank, ": no worker, so it does not train", whose);
  }
  if (f.from >= workers && f.first_step >= 0)
    return detail::concat(to_string(f.kind), " from=", f.from, " after_step=", f.first_step,
                          ": no worker, so it reports no steps; give after=TIME", whose);
  if (f.from != kAnyRank && f.from == f.to)
    return detail::concat(to_string(f.kind), " from=", f.from, " to=", f.to,
                          ": what a rank sends to itself takes no link");
  const std::set<Rank> side(f.ranks.begin(), f.ranks.end());
  if (f.kind == Kind::partition && static_cast<int>(side.size()) == nodes)
    return "partition: nobody is on its other side; name some of the ranks";
  return "";
}

bool plan_suppresses(const FaultPlan& plan, Rank rank, int64_t round, const Moment& now) {
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    const Fault& f = plan.faults[i];
    if (f.kind != Kind::suppress || !of_rank(f, rank) || !in_window(f, now)) continue;
    if (f.fail >= 0 ? chain_is_down(plan, i, rank, round) : draw(plan, i, rank, kAnyRank, static_cast<uint64_t>(round)))
      return true;
  }
  return false;
}

double plan_slowdown(const FaultPlan& plan, Rank rank, const Moment& now) {
  double factor = 1;
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    const Fault& f = plan.faults[i];
    if (f.kind == Kind::slow && of_rank(f, rank) && in_window(f, now) &&
        draw(plan, i, rank, kAnyRank, static_cast<uint64_t>(now.step)))
      factor *= f.factor;
  }
  return factor;
}

bool plan_parts(const FaultPlan& plan, Rank from, Rank to, const Moment& now) {
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    const Fault& f = plan.faults[i];
    if (f.kind == Kind::partition && on_side(f, from) != on_side(f, to) && in_window(f, now) &&
        draw(plan, i, kAnyRank, kAnyRank, static_cast<uint64_t>(now.time / f.every)))
      return true;
  }
  return false;
}

bool plan_touches_messages(const FaultPlan& plan) {
  return std::any_of(plan.faults.begin(), plan.faults.end(), [](const Fault& f) {
    return f.kind == Kind::delay || f.kind == Kind::drop || f.kind == Kind::duplicate || f.kind == Kind::reorder ||
           f.kind == Kind::partition;
  });
}

MessageFate plan_message(const FaultPlan& plan, Rank from, Rank to, uint64_t sequence, const Moment& now) {
  MessageFate fate;
  fate.dropped = plan_parts(plan, from, to, now);
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    const Fault& f = plan.faults[i];
    const bool on_messages =
        f.kind == Kind::delay || f.kind == Kind::drop || f.kind == Kind::duplicate || f.kind == Kind::reorder;
    if (!on_messages || !on_link(f, from, to) || !in_window(f, now) || !draw(plan, i, from, to, sequence)) continue;
    if (f.kind == Kind::drop) fate.dropped = true;
    if (f.kind == Kind::duplicate) fate.duplicated = true;
    if (f.kind == Kind::reorder) fate.held += f.duration;
    if (f.kind != Kind::delay) continue;
    fate.delay += f.duration;
    // Not the draw that decided on the delay.
    if (f.jitter > 0)
      fate.delay +=
          static_cast<Nanos>(static_cast<double>(f.jitter) * uniform(plan, plan.faults.size() + i, from, to, sequence));
  }
  return fate;
}

}  // namespace sinew::dist
