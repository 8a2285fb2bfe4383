#include "dist/schemes/lockstep.h"

#include <numeric>
#include <vector>

namespace sinew::dist {
namespace {

std::vector<Rank> all_workers(int workers) {
  std::vector<Rank> ranks(workers);
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace

Lockstep::Lockstep(World& world, const SchemeOptions& options)
    : world_(world), members_(world, all_workers(options.workers), options.deadline) {}

Status Lockstep::start(uint64_t fingerprint) {
  if (world_.incarnation() > 0)
    return make_status(StatusCode::peer_lost, "rank ", world_.rank(),
                       " was restarted, but a synchronous scheme cannot take a worker back");
  std::vector<int64_t> all(members_.size()), mine{static_cast<int64_t>(fingerprint)};
  SINEW_RETURN_IF_ERROR(members_.all_gather(mine, all));
  for (size_t r = 0; r < all.size(); ++r)
    if (all[r] != mine[0])
      return make_status(StatusCode::invalid_argument, "ranks ", world_.rank(), " and ", r,
                         " differ in model, data type or options; start all with the same configuration");
  return Status::Ok();
}

Status Lockstep::all_reduce(VecView x, bool average) { return members_.all_reduce(x, average); }

}  // namespace sinew::dist
