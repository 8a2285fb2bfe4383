#include "dist/own_faults.h"

#include <algorithm>

#include "core/kernel_api.h"
#include "core/philox.h"
#include "dist/rules.h"

namespace sinew::dist {

OwnFaults::OwnFaults(const FaultPlan& plan, Rank rank, uint32_t incarnation, const Moment& since)
    : seed_(plan.seed), rank_(rank), incarnation_(incarnation) {
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    const Fault& f = plan.faults[i];
    const bool corrupts = f.kind == Fault::Kind::corrupt;
    if ((f.kind != Fault::Kind::kill && f.kind != Fault::Kind::pause && !corrupts) ||
        (f.rank != rank && f.rank != kAnyRank))
      continue;
    if (f.step >= 0 && (incarnation > 0 || f.step <= since.step)) continue;
    if (f.at >= 0 && f.at <= since.time) continue;
    (f.at >= 0 && !corrupts ? timed_ : stepped_).push_back({f, i});
  }
}

const std::vector<Fault>& OwnFaults::at_step(int64_t step, Nanos now) {
  due_.clear();
  for (Planned& p : stepped_) {
    if (p.done) continue;
    if (p.fault.step < 0 && p.fault.at < 0) {
      const RngKey key{seed_, uint32_t(RngPurpose::fault), uint32_t(rank_), static_cast<uint64_t>(step)};
      if (uniform01(philox_u64(key, p.number << 32 | incarnation_)) < p.fault.probability) due_.push_back(p.fault);
      continue;
    }
    if (p.fault.step >= 0 ? step < p.fault.step : now < p.fault.at) continue;
    p.done = true;
    due_.push_back(p.fault);
  }
  return due_;
}

std::vector<Fault> OwnFaults::take_timed(Nanos now) {
  std::vector<Fault> due;
  for (Planned& p : timed_) {
    if (p.done || p.fault.at > now) continue;
    p.done = true;
    due.push_back(p.fault);
  }
  return due;
}

Nanos OwnFaults::next_timed() const {
  Nanos next = INT64_MAX;
  for (const Planned& p : timed_)
    if (!p.done) next = std::min(next, p.fault.at);
  return next;
}

void corrupt(const Fault& fault, uint64_t seed, Rank rank, int64_t step, VecView theta) {
  if (theta.size == 0) return;
  if (fault.sigma == 0) return fill(theta, fault.value);
  Vec noise = Vec::empty(theta.size, theta.dtype, theta.device);
  kernels(theta.device)
      .random({RandomDist::normal,
               theta.dtype,
               theta.size,
               {seed, uint32_t(RngPurpose::fault), uint32_t(rank), static_cast<uint64_t>(step)},
               noise.mutable_view().data,
               0,
               fault.sigma});
  accumulate(1.0, noise.view(), theta);
}

}  // namespace sinew::dist
