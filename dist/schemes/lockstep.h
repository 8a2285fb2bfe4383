// What the synchronous schemes share: the group of workers, in lockstep.
//
// A round is an all-reduce. When a member is lost or silent in it, the others re-form (dist/membership.h) and go on:
// with the round's result if one of them has it, or else they do the round again among themselves. So each round adds
// what each member gave to it once, or not at all, and has the same result on all members. Only one that is left
// behind, and ends, may have come to the end of a last round that the others did again without it.
#pragma once

#include <cstdint>
#include <optional>

#include "dist/communicator.h"
#include "dist/membership.h"
#include "dist/scheme.h"

namespace sinew::dist {

class Lockstep {
 public:
  Lockstep(World& world, const SchemeOptions& options);
  // Meets the others. invalid_argument when they work on something else.
  Status start(uint64_t fingerprint);
  // The sum, or the mean, over the members that took part. peer_lost: this worker is not among the majority.
  Status all_reduce(VecView x, bool average);
  // Once, when no round will follow: until then a worker may need what this one knows.
  Status finish();
  int size() const { return communicator_->size(); }
  // Of all workers; peer_lost when one is lost: the group does not re-form for these.
  Status all_gather(ConstVecView in, VecView out) { return communicator_->all_gather(in, out); }
  Status broadcast(VecView x, Rank root) { return communicator_->broadcast(x, root); }
  const Membership& membership() const { return membership_; }
  void save(SchemeState& state) const;
  void load(const SchemeState& state);

 private:
  void form();
  Status round(VecView x, bool average, bool finishing);
  // The result of the round that the holder has completed. Not ok: it does not come.
  Status fetch_result(Rank holder, VecView x);

  World& world_;
  const Nanos deadline_;
  Membership membership_;
  std::optional<Communicator> communicator_;
  int64_t completed_ = 0;  // rounds
  Vec given_, result_;     // of the round under way; of the last one
};

}  // namespace sinew::dist
