// What dist/ucx offers, in builds without UCX.
#include "dist/ucx/ucx_world.h"

namespace sinew::dist {

#ifndef SINEW_HAVE_UCX
Result<std::unique_ptr<World>> make_ucx_world(const UcxOptions&, std::shared_ptr<Store>) {
  return make_status(StatusCode::unavailable,
                     "this build has no UCX, so no real processes: run scripts/setup.sh and configure again, or use "
                     "--run.world sim");
}

bool ucx_available() { return false; }
#endif

}  // namespace sinew::dist
