#include "dist/join.h"

#include "dist/solo_world.h"
#include "dist/ucx/ucx_world.h"

namespace sinew::dist {

Result<Joined> join_job(const JobEnvironment& job, JoinOptions options) {
  Joined joined;
  if (job.world_size == 1 && job.status_fd < 0) {
    joined.world = make_solo_world();
    return joined;
  }
  Result<JobStore> store = open_job_store(job);
  if (!store.ok()) return store.status();
  joined.server = std::move(store->server);
  joined.warning = std::move(store->warning);
  Result<std::unique_ptr<World>> world = make_ucx_world({.rank = job.rank,
                                                         .size = job.world_size,
                                                         .incarnation = job.incarnation,
                                                         .network_device = options.network_device,
                                                         .secret = job.secret,
                                                         .give_up = job.supervised ? 0 : options.give_up,
                                                         .waits_for_all = options.is_center,
                                                         .faults = std::move(options.faults),
                                                         .age = job.age,
                                                         .status_fd = job.status_fd,
                                                         .on_event = std::move(options.on_event)},
                                                        store->store);
  if (!world.ok()) return world.status();
  joined.world = std::move(*world);
  return joined;
}

}  // namespace sinew::dist
