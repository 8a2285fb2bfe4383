// Collectives in lockstep among a fixed group of ranks, over any World.
//
// All members call the same operations in the same order. Results are bit-identical on every member: the ring
// all-reduce adds each chunk in one fixed order of ranks and then distributes the sum.
// Bytes sent per member: all_reduce 2 (p-1)/p n, all_gather (p-1) n, broadcast n per hop of a chain.
//
// Errors: peer_lost when a member died, timeout when a step took longer than the deadline; the vector is then
// undefined on this member.
#pragma once

#include <functional>
#include <vector>

#include "dist/world.h"

namespace sinew::dist {

class Communicator {
 public:
  // epoch: of the group, below 2^24; what another epoch's group sends is not taken for this one's. A rank that is in
  // several groups at once gives them epochs that differ. `interrupted` is asked now and
  // then by a member that waits: true ends the collective with peer_lost.
  Communicator(World& world, std::vector<Rank> members, Nanos deadline, uint64_t epoch = 0,
               std::function<bool()> interrupted = {});

  int size() const { return static_cast<int>(members_.size()); }
  int index() const { return index_; }  // of this node among the members

  // Vectors of a device go through host memory, whole.
  // In place. Sum; or mean when `average`.
  Status all_reduce(VecView x, bool average = false);
  // From members[root] to all.
  Status broadcast(VecView x, int root = 0);
  // out has size() * in.size() elements, by member index.
  Status all_gather(ConstVecView in, VecView out);
  Status barrier();

 private:
  class Pass;
  World& world_;
  std::vector<Rank> members_;
  Nanos deadline_;
  std::function<bool()> interrupted_;
  int index_ = -1;
  uint64_t round_;  // names each collective, so that stragglers' messages are told apart
};

}  // namespace sinew::dist
