// What the gossip schemes share: exchanges between pairs of workers, the group, counters, and theta on any device.
#pragma once

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "dist/exchange.h"
#include "dist/gossip_group.h"
#include "dist/rules.h"
#include "dist/scheme.h"
#include "dist/schemes/mailbox.h"
#include "dist/topology.h"

namespace sinew::dist {

TopologyOptions topology_options(const SchemeOptions& options);

// What a worker in lockstep expects of another one in the current round. Shared with the handlers.
struct Duty {
  Rank peer = kAnyRank;
  double weight = 0;
  enum class State { open, met, missed } state = State::open;
  Payload body = {};
  double value = 0;
};

class GossipScheme : public Scheme {
 public:
  Evaluated evaluated() const override { return Evaluated::average; }
  Status start(VecView theta) override;
  // Collective, after finish(): the mean of all workers' parameters.
  Status evaluation_point(ConstVecView theta, VecView out) override;
  Status finish(VecView theta) override;
  double take_external_write() override;
  SchemeCounters counters() const override;
  SchemeState save() const override;
  Status load(const SchemeState& state) override;

 protected:
  GossipScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device);

  // On the passive side; called inside publish().
  virtual Exchange::Answer decide(const Message& request) = 0;
  // Whether exchanges go on when this worker takes no more steps, while another one does: whoever is late would train
  // on alone, away from the others. Called then, now and then: theta catches up with what the handlers have agreed to.
  virtual bool exchanges_to_the_end() const { return false; }
  virtual void catch_up_with_handlers(VecView theta) {}
  // What was decided before the last exchanges ended and theta has not seen yet.
  virtual Status finish_exchanges(VecView theta) = 0;

  // At the beginning of each step. The step that the group is at: a worker that comes back from a restart or a pause
  // counts its own steps from where it was, and exchanges with the others where they are.
  int64_t enter(int64_t step, ConstVecView theta);
  // Another worker is at this step of the group and does not wait for who is behind: the next step is not before it.
  void catch_up(int64_t group_step);
  // The number of the round at a step of the group, or -1: every `period` steps there is one.
  // There is none for a worker that has just been stopped, until heal() knows where the others are.
  int64_t round_at(int64_t step) const {
    return (step + 1) % period_ == 0 && !returning_ ? (step + 1) / period_ - 1 : -1;
  }
  // On the passive side: parameters that are not finite were refused; the answer tells the other end.
  Exchange::Answer refuse();
  static bool was_refused(const Exchange::Outcome& o) {
    return o.what == Exchange::Outcome::What::no && o.value == kNotFinite;
  }
  void note(const Exchange::Outcome& o) { suspect_ |= was_refused(o); }
  // At the end of a step: a worker whose own parameters are not finite takes over another one's; so does one that was
  // stopped while the others went on far from where it is.
  Status heal(VecView theta);
  // Whether heal() has taken over another one's since the last call. What was agreed on before is of the old ones.
  bool take_adopted() { return std::exchange(adopted_, false); }
  // From handlers too: what this worker has published may be of long ago.
  bool was_stopped() const { return world_.stops() != stops_; }
  bool is_of_before(const Exchange::Outcome& o) const { return o.number < first_number_; }
  bool reachable(Rank peer) const { return !is_lost(world_.peer(peer)) && !exchange_.done(peer); }
  // In lockstep: whether to send to this worker. One that is silent is only asked now and then whether it is back.
  bool takes_part(Rank peer, int64_t round);
  // In lockstep, waits up to the deadline for the mail of this round from the sources, and for the answers of those
  // that this worker has asked in rounds before `asked_before`. What has not come then is missed.
  void wait_for_mail(Mailbox& mailbox, const std::vector<Rank>& sources, int64_t round, int64_t asked_before = 0);
  bool fits(const Payload& body) const { return body.size() == static_cast<size_t>(size_) * size_of(dtype_); }
  // d = a (x - y) in blocks, so that a handler never starts a team of threads. Returns ||x - y||^2.
  double difference(double a, const Payload& x, const Payload& y, Payload& d) const;
  bool finite(const Payload& x) const;
  // The answer to mail: yes, unless it is not finite or does not fit. Its value tells who is behind, in lockstep, the
  // next step of the group; else 0.
  Exchange::Answer accept(Mailbox& mailbox, const Message& request);
  // The same where the order of mail does not matter: what waits already and this are kept as one, their mean by
  // weight, which is the mail's value then. However long the training side takes, one vector waits for it.
  Exchange::Answer accept_merged(Mailbox& mailbox, const Message& request, double weight);
  // Of an exchange that was decided, without a common clock: as old as it is.
  void count_age(const Exchange::Outcome& o) { staleness_.add(step_ - o.round); }
  // On the active side.
  void take_hint(const Exchange::Outcome& o) {
    if (o.value > 0) catch_up(static_cast<int64_t>(o.value));
  }
  void save_mailbox(const Mailbox& mailbox, SchemeState& state) const;
  void load_mailbox(const SchemeState& state, Mailbox& mailbox) const;
  // f(begin, length), in blocks below the size at which the kernels use several threads.
  template <class F>
  void in_blocks(const F& f) const {
    constexpr int64_t kBlock = 1 << 14;
    for (int64_t at = 0; at < size_; at += kBlock) f(at, std::min(kBlock, size_ - at));
  }
  // A host copy of x, rounded to what is sent. What rounding leaves waits for the next call.
  Payload rounded_copy(ConstVecView x);
  // In blocks, so that a handler may. residual: empty, or of all elements.
  void quantize(const Payload& values, VecView residual = {}) const;
  // theta += a d.
  void add(double a, const Payload& d, VecView theta);
  // theta = a theta + b y. Returns by how much theta moved, squared.
  double blend(double a, VecView theta, double b, const Payload& y);
  // y on theta's device, until the next call.
  ConstVecView on_device(const Payload& y);

  World& world_;
  const SchemeOptions options_;
  const int64_t period_, size_;
  const DType dtype_;
  const Device device_;
  const Packing packing_;
  Exchange exchange_;
  GossipGroup group_;
  int64_t exchanges_ = 0, missed_ = 0;
  int64_t refused_ = 0, group_at_ = 0;  // shared with the handlers; group_at_: the step of the group
  double moved_ = 0;                    // squared, since the optimizer asked

 private:
  Exchange::Answer look_at_mail(Mailbox& mailbox, const Message& request);

  static constexpr double kNotFinite = -1;  // the value of a no

  Status come_back(VecView theta);
  Status adopt(VecView theta);

  Vec staging_;
  Vec unsent_;  // of rounded_copy()
  bool adopted_ = false;
  int64_t first_number_ = 0;       // of an exchange with the present parameters
  std::atomic<int64_t> stops_{0};  // of the world, as last seen
  bool returning_ = false;         // from a stop
  int64_t forgotten_ = 0;          // parameters that were given up
  Staleness staleness_;
  bool settled_ = false, entered_ = false;
  bool suspect_ = false;          // an exchange of this worker was refused
  int64_t seen_refused_ = 0;      // by the last step
  int64_t step_ = 0, ahead_ = 0;  // the group's step, and its distance from this worker's
};

Duty* find_duty(std::vector<Duty>& duties, Rank peer);

}  // namespace sinew::dist
