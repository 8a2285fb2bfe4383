// What the synchronous schemes share: the group of workers, in lockstep.
//
// A round is an all-reduce, a gathering, or several collectives together. A member that is late since it computes is
// waited for (dist/liveness.h). When a member is lost or silent, the others re-form (dist/membership.h) and go on: with
// the round's result if one of them has it, or else they do the round again among themselves. So each round adds what
// each member gave to it once, or not at all, and has the same result on all members. Only one that is left behind, and
// ends, may have come to the end of a last round that the others did again without it.
//
// Thread safety: the training thread, which also calls attempts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "dist/communicator.h"
#include "dist/membership.h"
#include "dist/scheme.h"

namespace sinew::dist {

class Lockstep {
 public:
  Lockstep(World& world, const SchemeOptions& options);
  // Meets the others, or those that come within the deadline where they are the majority. invalid_argument when they
  // work on something else.
  Status start(uint64_t fingerprint);

  // Rounds. peer_lost: this worker is not among the majority.
  // The sum, or the mean, over the members that took part.
  Status all_reduce(VecView x, bool average);
  // The same as scheme.wire says: parameters are rounded, and what that leaves is carried on by the next x of the same
  // `stream`, a number from 0; buffers, which follow the parameters, are not. The residuals of a member that dies are
  // lost with it.
  Status all_reduce_packed(VecView x, bool average, size_t stream = 0);
  // What member r gives as `own` comes to place r of `all`, which has one for each worker; that of a worker that is no
  // member stays. In host memory.
  Status gather(ConstVecView own, VecView all);
  // Collectives of the members, or of parts of them, with what they give: `attempt` is called again after each loss,
  // and on return has succeeded on all members in the same epoch. Before that nothing that it got may be used. Costs
  // one all-gather of a number more.
  using Attempt = std::function<Status(Communicator& members)>;
  Status together(const Attempt& attempt);
  // Once, when no round will follow: until then a worker may need what this one knows.
  Status finish();

  int size() const { return communicator_->size(); }
  // For an attempt in this epoch: collectives of some members, this one among them, that no other part has.
  Communicator part(std::vector<Rank> ranks);
  const Membership& membership() const { return membership_; }
  void save(SchemeState& state) const;
  // data_error: what is saved does not fit. Residuals are also compared with the first x of their streams.
  Status load(const SchemeState& state);

 private:
  void form();
  // `attempt` makes the round's result of x, in place; x may be empty where whoever comes to the end knows that all
  // others can without it.
  Status round(VecView x, const Attempt& attempt, bool finishing = false);
  // The result of the round that the holder has completed. Not ok: it does not come.
  Status fetch_result(Rank holder, VecView x);
  // After an attempt has failed: makes the next group. `over` as reform() says.
  Result<Membership::Formed> re_form(const Status& why, bool finishing);
  // Members that this one does not hear, or does not reach.
  std::vector<Rank> unreached() const;

  World& world_;
  const int workers_;
  const Nanos deadline_;
  const Packing packing_;
  const DeviceCollectives on_device_;
  int fruitless_ = 0;         // attempts by NCCL in a row
  int repeats_ = 0;           // groups in a row that are the one before and do not get on,
  int stuck_ = 0;             // and complete nothing at all,
  int in_part_ = 0;           // and reach each other in part
  const int64_t parameters_;  // leading elements; < 0: all
  Liveness liveness_;
  Membership membership_;
  std::optional<Communicator> communicator_;
  int64_t completed_ = 0, completed_before_ = 0;  // rounds; in former epochs
  Rank untold_ = kAnyRank, unheard_ = kAnyRank;   // who did not tell a result; who did not twice in a row
  Vec given_, result_;                            // of the round under way; of the last one
  // In host memory: by stream; and one as the round under way leaves it, which counts when it has a result.
  std::vector<Vec> residuals_;
  Vec next_residual_;
};

}  // namespace sinew::dist
