// Gossiping SGD: Jin, Yuan, Iandola, Keutzer, arXiv:1611.04581. In each round every worker, with scheme.probability,
// picks another one uniformly.
//   pull  the one that picks moves: x_i -= beta (x_i - x_j), and x_j only serves
//   push  the one that is picked moves, at once for all that picked it, the set R:
//         x_j = ((1 - beta) x_j + beta sum_R x_k) / (1 - beta + beta |R|)
// beta = 1/2 gives the paper's averages. The x are those before the gradient; the move is applied after the optimizer.
// The mean of all workers is not kept. With scheme.wire what is sent carries on what rounding left of the last one.
//
// sync: every worker knows all picks, so who is pulled from sends at once; a worker waits for what it is to get, up to
// the deadline, and equal bits come out in both worlds. async: a pull is answered from the last published parameters
// while the one that asked computes its gradient; what was pushed is taken in after the next step, kept as a mean and a
// number meanwhile, and nobody waits for it. Who is done answers a push with its own parameters, so that who is late
// does not train on alone.
#include <algorithm>
#include <cmath>
#include <utility>

#include "dist/schemes/gossip_scheme.h"
#include "dist/schemes/mailbox.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

class GossipingSgd final : public GossipScheme {
 public:
  GossipingSgd(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : GossipScheme(o, world, size, dtype, device),
        push_(o.direction == "push"),
        sync_(o.mode == "sync"),
        beta_(o.beta),
        topology_(topology_options(o)),
        mailbox_(o.workers) {}

  Status start(VecView theta) override {
    SINEW_RETURN_IF_ERROR(GossipScheme::start(theta));
    publish(theta);
    return Status::Ok();
  }

  Status before_step(int64_t step, VecView theta) override {
    group_step_ = enter(step, theta);
    sources_.clear();
    snapshot_ = Payload();
    const int64_t round = round_at(group_step_);
    if (round < 0 || beta_ == 0) return Status::Ok();
    const Rank me = world_.rank(), pick = topology_.pick(me, group_step_);
    std::vector<Rank> picked, pickers;
    if (pick != kAnyRank) picked.push_back(pick);
    if (sync_) pickers = topology_.pickers(me, group_step_);
    const std::vector<Rank>& targets = push_ ? picked : pickers;
    if (sync_) sources_ = push_ ? pickers : picked;
    const bool silent = world_.suppressed(round);
    if (!sources_.empty() || !targets.empty() || (!push_ && !picked.empty())) snapshot_ = Payload::copy_of(theta);
    const Payload sent = silent || targets.empty() ? Payload() : rounded_copy(theta);
    if (!push_ && !sync_) return silent ? skip(picked) : pull(picked);
    for (Rank r : targets)
      if (!sync_ && exchange_.overdue(r))
        ++missed_;  // what it has not answered is kept, to be sent again
      else if (sync_ ? takes_part(r, group_step_) : reachable(r))
        exchange_.ask(r, group_step_, 0, sent);
    if (silent) return skip(std::exchange(sources_, {}));
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    wait_for_mail(mailbox_, sources_, group_step_);
    if (asked_ >= 0) {
      exchange_.wait_for_answer(asked_);
      exchange_.give_up(asked_);
    }
    std::vector<Mail> mail;
    world_.publish([&] { mail = mailbox_.take(sync_ ? group_step_ : INT64_MAX); });
    // In lockstep what is of an earlier round is too old, and was counted as missed.
    if (sync_)
      std::erase_if(mail, [&](const Mail& m) {
        return m.round < group_step_ || std::find(sources_.begin(), sources_.end(), m.from) == sources_.end();
      });
    for (Exchange::Outcome& o : exchange_.collect()) {
      note(o);
      if (!sync_ && o.what == Exchange::Outcome::What::yes) count_age(o);
      if (sync_) take_hint(o);
      if ((o.number == asked_ || push_) && o.what == Exchange::Outcome::What::yes && fits(o.body))
        mail.push_back({o.peer, o.round, 0, std::move(o.body)});
      else if (o.number == asked_)
        ++missed_;
      if (o.number == asked_) asked_ = -1;
    }
    if (std::exchange(asked_, -1) >= 0) ++missed_;  // late
    if (sync_) {
      sort_by_round(mail);
      missed_ += static_cast<int64_t>(sources_.size() - mail.size());
    }
    if (!mail.empty()) mix(mail, theta);
    SINEW_RETURN_IF_ERROR(heal(theta));
    publish(theta);
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = GossipScheme::save();
    save_mailbox(mailbox_, state);
    world_.publish([&] {
      if (published_.size() > 0) state.vectors["published"] = Vec::copy_of(published_.view(dtype_));
    });
    return state;
  }
  Status load(const SchemeState& state) override {
    load_mailbox(state, mailbox_);
    if (auto published = state.vectors.find("published"); published != state.vectors.end())
      published_ = Payload::copy_of(published->second.view());
    return GossipScheme::load(state);
  }

 protected:
  Exchange::Answer decide(const Message& request) override {
    if (sync_) return accept(mailbox_, request);
    if (push_ && published_.size() == 0) return accept_merged(mailbox_, request, 1);
    if (published_.size() == 0 || was_stopped()) return {};
    return {Exchange::Answer::What::yes, published_};
  }

  // Who takes no more steps stays where it is: its parameters are pulled as ever, and pushed in answer to a push.
  bool exchanges_to_the_end() const override { return !sync_; }
  void catch_up_with_handlers(VecView theta) override {
    if (push_ && published_.size() == 0) set_published(theta);
  }

  Status finish_exchanges(VecView) override {
    exchange_.finish();
    (void)exchange_.collect();
    return Status::Ok();
  }

 private:
  Status skip(const std::vector<Rank>& sources) {
    missed_ += static_cast<int64_t>(sources.size());
    return Status::Ok();
  }

  Status pull(const std::vector<Rank>& picked) {
    for (Rank r : picked)
      if (reachable(r) && !exchange_.has_open(r))
        asked_ = exchange_.ask(r, group_step_, 0, {});
      else
        ++missed_;
    return Status::Ok();
  }

  void mix(const std::vector<Mail>& mail, VecView theta) {
    if (snapshot_.size() == 0) snapshot_ = Payload::copy_of(theta);
    double count = 0;
    for (const Mail& m : mail) count += static_cast<double>(m.count);
    const double rate = push_ ? beta_ / (1 - beta_ + beta_ * count) : beta_;
    for (const Mail& m : mail) {
      Payload d;
      const double share = rate * static_cast<double>(m.count);
      const double distance2 = difference(share, snapshot_, m.body, d);
      if (!std::isfinite(distance2)) {
        world_.publish([&] { ++refused_; });
        ++missed_;
        continue;
      }
      add(-1, d, theta);
      moved_ += share * share * distance2;
      exchanges_ += m.count;
    }
  }

  // What pulls are answered with until the next step.
  void publish(ConstVecView theta) {
    if (!sync_ && !push_) set_published(theta);
  }
  void set_published(ConstVecView theta) {
    const Payload body = rounded_copy(theta);
    world_.publish([&] { published_ = body; });
  }

  const bool push_, sync_;
  const double beta_;
  const Topology topology_;
  int64_t group_step_ = 0, asked_ = -1;
  std::vector<Rank> sources_;  // whose parameters are due in this step
  Payload snapshot_;           // theta before the gradient, where it is needed

  // Shared with the handlers.
  Mailbox mailbox_;
  Payload published_;
};

}  // namespace

std::unique_ptr<Scheme> make_gossiping_sgd(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                           Device device) {
  return std::make_unique<GossipingSgd>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
