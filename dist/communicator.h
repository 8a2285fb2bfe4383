// Collectives in lockstep among a fixed group of ranks, over any World.
//
// All members call the same operations in the same order. Results are bit-identical on every member: the ring
// all-reduce adds each chunk in one fixed order of ranks and then distributes the sum.
// Bytes sent per member: all_reduce 2 (p-1)/p n, all_gather (p-1) n, broadcast n per hop of a chain. all_reduce_packed
// as all_reduce, of the packed numbers: partial sums do not fit a packed form, so nothing goes around a ring; each
// member sends every segment straight to the one that adds it up, and that one sends the sum straight to all.
//
// Vectors of a device go through host memory, copied there and back beside the messages (dist/staging.h); or, with
// DeviceCollectives::nccl, in its own memory through NCCL (dist/nccl.h), whose group the members make in the first such
// call. Packed ones always go through host memory.
//
// Errors: peer_lost when a member died, timeout when a step took longer than the deadline (through NCCL: the whole
// collective), with `liveness` only when a member is silent or none is busy; the vector is then undefined on this
// member.
//
// Thread safety: the training thread. What comes in for a collective may be added up on the communication thread,
// while this one waits for it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "dist/nccl.h"
#include "dist/packing.h"
#include "dist/world.h"

namespace sinew::dist {

class Liveness;

enum class DeviceCollectives : uint8_t { staged, nccl };

class Communicator {
 public:
  // epoch: of the group, below 2^24; what another epoch's group sends is not taken for this one's. A rank that is in
  // several groups at once gives them epochs that differ. `interrupted` is asked now and
  // then by a member that waits: true ends the collective with peer_lost. nccl: in the real world only. liveness: of
  // these members, if they all have one; it outlives this.
  Communicator(World& world, std::vector<Rank> members, Nanos deadline, uint64_t epoch = 0,
               std::function<bool()> interrupted = {}, DeviceCollectives on_device = DeviceCollectives::staged,
               Liveness* liveness = nullptr);

  int size() const { return static_cast<int>(members_.size()); }
  int index() const { return index_; }  // of this node among the members

  // In place. Sum; or mean when `average`.
  Status all_reduce(VecView x, bool average = false);
  // As all_reduce, with rounded numbers: each member rounds what it gives, and who adds a segment up rounds the sum.
  // residual, in host memory, of x's size and type: what rounding has left on this member so far, which x carries on,
  // and then what it leaves. The members' x + residual before have the sum of the result (times p, of a mean) and the
  // residuals after, to the rounding of their type. Not ok: both are undefined.
  Status all_reduce_packed(VecView x, bool average, Packing packing, VecView residual);
  // From members[root] to all. packing: what the form holds travels so; the same on all members.
  Status broadcast(VecView x, int root = 0, Packing packing = Packing::none);
  // out has size() * in.size() elements, by member index.
  Status all_gather(ConstVecView in, VecView out);
  Status barrier();
  // Ends what NCCL does for this member, without waiting for the others; no collective of vectors on a device follows.
  Status abandon() { return nccl_ ? nccl_->abort() : Status::Ok(); }
  // Drops what has come in for collectives that were not completed.
  void drop_late();

 private:
  class Pass;
  class PackedPass;
  // Gives `take` what comes in for a collective, until nothing is missing or `take` has failed.
  Status collect(Rank source, uint64_t round, const int64_t& missing, const Taker& take);
  // Not ok: a member is lost, or the members re-form.
  Status look() const;
  // The same, and whether a member is busy, in a wait for NCCL.
  Result<bool> look_at_members();
  // Made by the first call, a collective.
  Result<NcclGroup*> nccl_group(Device device);
  // With the members' group: call(group, look).
  template <class Call>
  Status through_nccl(Device device, const Call& call);
  World& world_;
  std::vector<Rank> members_;
  Nanos deadline_;
  std::function<bool()> interrupted_;
  DeviceCollectives on_device_;
  Liveness* liveness_;
  std::unique_ptr<NcclGroup> nccl_;
  int index_ = -1;
  uint64_t round_;  // names each collective, so that stragglers' messages are told apart
};

}  // namespace sinew::dist
