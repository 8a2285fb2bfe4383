// What the synchronous schemes share: the group of workers, in lockstep.
#pragma once

#include <cstdint>

#include "dist/communicator.h"
#include "dist/scheme.h"

namespace sinew::dist {

class Lockstep {
 public:
  Lockstep(World& world, const SchemeOptions& options);
  // Meets the others. invalid_argument when they work on something else.
  Status start(uint64_t fingerprint);
  // peer_lost when a member has died; the group does not go on without it.
  Status all_reduce(VecView x, bool average);
  Status all_gather(ConstVecView in, VecView out) { return members_.all_gather(in, out); }
  Status broadcast(VecView x, Rank root) { return members_.broadcast(x, root); }
  int size() const { return members_.size(); }

 private:
  World& world_;
  Communicator members_;
};

}  // namespace sinew::dist
