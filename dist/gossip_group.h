// What the workers of a gossip scheme do together beside their exchanges: they make sure at the start that all work on
// the same thing, give a restarted worker fresh parameters, and average at the end what each of them ends with.
//
// Messages (arguments in Head::arg)
//   gossip_parameters  request  fingerprint, wanted: 0 nothing, 1 parameters of now, 2 final ones; 3 nothing, but the
//                               answer only when it takes no more steps, 4 when it knows so of all
//   gossip_answer      reply    fingerprint, the step that they are of, or that it is at; body: parameters
//   gossip_average     request  body: the average; the reply confirms it
//
// Thread safety: the training thread. Its handlers share the last members of the class with it, inside
// World::publish().
#pragma once

#include <functional>
#include <vector>

#include "dist/scheme.h"

namespace sinew::dist {

class GossipGroup {
 public:
  GossipGroup(World& world, const SchemeOptions& options, DType dtype);
  ~GossipGroup();
  GossipGroup(const GossipGroup&) = delete;
  GossipGroup& operator=(const GossipGroup&) = delete;

  // Registers the handlers; in place of start() after Scheme::load().
  void listen();
  // invalid_argument when a neighbour works on something else. A restarted worker adopts.
  Status start(VecView theta);
  // Takes over the parameters of the first live worker that answers, and tells its step. kNobody: there is none within
  // `limit` and the deadline; kUnfit: all that are there have parameters that are not finite. Then theta stays as it
  // is. Asks `first` first (else the one after this one), and the next one too after each eighth of the deadline
  // without an answer.
  static constexpr int64_t kNobody = -1, kUnfit = -2;
  Result<int64_t> adopt(VecView theta, Rank first = kAnyRank, Nanos limit = INT64_MAX);
  // The step that the peer is at, at once; -1: it does not answer.
  int64_t step_of(Rank peer);
  // The step of the parameters that start() took over; -1: it took none.
  int64_t adopted_step() const { return adopted_; }
  // At the beginning of a step: answers who asked for parameters. `also` runs inside the one publish() of it.
  void serve(int64_t step, ConstVecView theta, const std::function<void()>& also = {});
  // This worker takes no more steps. Returns when none of the others does that still is: the lowest rank asks all, the
  // others ask it. Calls `meanwhile` now and then.
  Status wait_for_last_steps(const std::function<void()>& meanwhile);
  // theta will not change any more.
  void settle(ConstVecView theta);
  // The mean over the final parameters of all workers that are not lost and finite, in order of ranks. All call it
  // after settle(); it returns when all others have settled, or are gone for good. The lowest rank collects and sends
  // the result, so a worker sends and receives one vector, the lowest all of them. It stays until each has confirmed
  // it, while one does within the deadline: nobody could ask it after that.
  Status average(VecView out);
  void save(SchemeState& state) const;
  void load(const SchemeState& state);

 private:
  enum Wanted : int64_t { nothing = 0, now = 1, final = 2, last_step = 3, all_last_steps = 4 };
  struct Asked {
    Rank rank;
    uint64_t request;
    Wanted wanted;
  };
  void on_ask(const Message& m);
  void answer(const Asked& to, int64_t step, const Payload& body);
  // Inside publish().
  bool can_answer(Wanted wanted) const;
  void answer_asked();
  Rank lowest() const;
  Received ask(Rank peer, Wanted wanted, Nanos limit);
  // Asks again and again, until the answer, stop(), or health() that is not ok: it may be minutes away.
  Received hear(
      Rank peer, Wanted wanted, const std::function<bool()>& stop, const std::function<void()>& meanwhile = [] {});
  Status check(Rank peer, const Message& m) const;
  Status collect(VecView out);
  void spread(const Payload& average);
  void confirm(const Message& m);

  World& world_;
  const int workers_;
  const Nanos deadline_;
  const uint64_t fingerprint_;
  const DType dtype_;
  bool listening_ = false;
  int64_t adopted_ = -1;

  // Shared with the handlers.
  std::vector<Asked> asked_;
  Payload settled_;
  bool is_settled_ = false, is_done_ = false, all_are_done_ = false;
  int64_t step_ = -1;
};

}  // namespace sinew::dist
