// Collectives on a GPU's vectors by NVIDIA's NCCL, opened at run time: libnccl.so.2 of version 2.14 or newer, or the
// file that SINEW_NCCL names. Nothing is linked and no header of NCCL is needed: dist/nccl.cpp declares the few
// functions and constants that it uses, from NCCL's documentation.
//
// Calls return when the result is there. All waits have a deadline; one that ends without a result aborts the group,
// and its members make another one. Errors:
//   timeout      not done within the deadline, or another member failed in a way that no death explains
//   peer_lost    what `look` said; the group was aborted before
//   unavailable  NCCL reports an error of this process, or the device does not end what was aborted: it cannot go on
// Connections are NCCL's own (NCCL_SOCKET_IFNAME and others of its variables choose them); they know nothing of the
// job's secret.
//
// Thread safety: one thread for each group.
//
// Example, by all members:
//   NcclGroup::Id id = ...;                       // NcclGroup::make_id() of one member
//   auto group = NcclGroup::make(id, size, index, Device::cuda, 10 * kSecond, look);
//   Status s = (*group)->all_reduce(gradient, true, look);
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "core/vec.h"
#include "dist/world.h"

namespace sinew::dist {

// Opens the library. unavailable: one line on what is missing.
Status nccl_available();

class NcclGroup {
 public:
  // Names a group: 128 bytes, made by one member and told to the others.
  using Id = std::array<int64_t, 16>;
  static Result<Id> make_id();

  // Asked every kLook while a call waits: not ok ends the call with that; true: it waits on until the next question,
  // whatever the deadline.
  using Look = std::function<Result<bool>()>;

  // Returns when all `size` members have come. index: of this one. The device must have a stream, and be no other
  // member's.
  static Result<std::unique_ptr<NcclGroup>> make(const Id& id, int size, int index, Device device, Nanos deadline,
                                                 const Look& look);
  // Takes leave of the others, or aborts when they do not within a second.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  // In place. Sum; or mean when `average`. f32 or f64. The same bits on all members, as far as NCCL's are.
  Status all_reduce(VecView x, bool average, const Look& look);
  // From member `root` to all. Any type.
  Status broadcast(VecView x, int root, const Look& look);
  // out has size() parts, by member; this one's is there already. Any type.
  Status all_gather(VecView out, const Look& look);

  // Ends what is under way here; the others see it as a loss. Calls after that are peer_lost.
  Status abort() { return abort(true); }

 private:
  NcclGroup(int size, int index, Device device, Nanos deadline)
      : size_(size), index_(index), device_(device), deadline_(deadline) {}
  // Waits for what the call `name` has begun, whose answer was `result`. on_stream: its work is on the device.
  Status wait(const char* name, int result, bool on_stream, const Look& look);
  // enqueued: what was begun is on the stream, if it is for it.
  Status aborted(Status why, bool enqueued = true);
  Status abort(bool enqueued);
  // When all that was on it is done.
  void* ready_stream() const;

  const int size_, index_;
  const Device device_;
  const Nanos deadline_;
  void* communicator_ = nullptr;
};

}  // namespace sinew::dist
