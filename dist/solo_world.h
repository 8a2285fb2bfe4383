// The world of a job of one process: the steady clock, no peers, no network.
//
// Example:
//   std::unique_ptr<World> world = make_solo_world();
//   auto scheme = make_scheme({.name = "local"}, *world, theta.size(), theta.dtype());
//
// Thread safety: one thread, which calls on_step.
#pragma once

#include <functional>
#include <memory>

#include "dist/world.h"

namespace sinew::dist {

// on_step: called by report_step, may be empty.
std::unique_ptr<World> make_solo_world(std::function<void(int64_t step)> on_step = {});

}  // namespace sinew::dist
