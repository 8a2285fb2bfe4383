// GoSGD: Blot, Picard, Cord, Thome, arXiv:1611.09726 (journal: arXiv:1804.01852). Every worker has a weight a, 1/N at
// first. After its own step it
//   1. takes in what came: x = (a x + a_s x_s) / (a + a_s), a = a + a_s;
//   2. in each round, with scheme.probability, halves a and sends (x, a) to another worker, drawn uniformly.
// With scheme.wire rounded parameters are sent, and what rounding takes from one half is given to the other.
// Nobody waits for anybody. Kept: the sum of all a (1, with what is in flight) and the sum of all a x.
//
// Who has not answered for 128 steps is sent nothing more until it does. What a finished worker is sent comes back, and
// is taken in again. What is sent to a worker that dies is lost with it and counted; a restarted worker begins with 1/N
// again.
#include <bit>
#include <utility>

#include "dist/rules.h"
#include "dist/schemes/gossip_scheme.h"
#include "dist/schemes/mailbox.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

// Far above where halving loses bits.
constexpr double kLeastWeight = 1e-280;

class GoSgd final : public GossipScheme {
 public:
  GoSgd(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : GossipScheme(o, world, size, dtype, device), weight_(1.0 / o.workers), mailbox_(o.workers) {}

  Status before_step(int64_t step, VecView theta) override {
    group_step_ = enter(step, theta);
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    take_in(theta);
    SINEW_RETURN_IF_ERROR(heal(theta));
    const int64_t round = round_at(group_step_);
    if (round < 0) return Status::Ok();
    const Rank peer = uniform_pick(options_.seed, group_step_, world_.rank(), options_.workers, options_.probability);
    if (peer == kAnyRank) return Status::Ok();
    if (world_.suppressed(round) || !reachable(peer) || exchange_.overdue(peer) || weight_ < kLeastWeight) {
      ++missed_;
      return Status::Ok();
    }
    weight_ /= 2;
    const Payload sent = Payload::copy_of(theta);
    if (packing_ != Packing::none) {
      quantize(sent);
      moved_ += blend(2, theta, -1, sent);
    }
    exchange_.ask(peer, group_step_, weight_, sent);
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = GossipScheme::save();
    state.numbers["weight"] = std::bit_cast<int64_t>(weight_);
    save_mailbox(mailbox_, state);
    return state;
  }
  Status load(const SchemeState& state) override {
    auto weight = state.numbers.find("weight");
    if (weight == state.numbers.end()) return Status(StatusCode::data_error, "the saved scheme has no 'weight'");
    weight_ = std::bit_cast<double>(weight->second);
    load_mailbox(state, mailbox_);
    return GossipScheme::load(state);
  }

 protected:
  Exchange::Answer decide(const Message& request) override { return accept(mailbox_, request); }

  Status finish_exchanges(VecView theta) override {
    exchange_.finish();
    take_in(theta);
    return Status::Ok();
  }

 private:
  void take_in(VecView theta) {
    std::vector<Mail> mail;
    world_.publish([&] { mail = mailbox_.take(); });
    for (const Mail& m : mail) {
      merge(m.body, m.value, theta);
      ++exchanges_;
    }
    for (const Exchange::Outcome& o : exchange_.collect()) {
      if (o.what == Exchange::Outcome::What::yes) continue;
      ++missed_;
      note(o);
      if (o.what != Exchange::Outcome::What::no) continue;
      if (is_of_before(o)) {
        weight_ += o.asked;
        continue;
      }
      if (was_refused(o))
        weight_ += o.asked;  // it sent what nobody wants
      else
        merge(o.sent, o.asked, theta);
    }
  }

  void merge(const Payload& x, double a, VecView theta) {
    if (!fits(x) || !(a > 0)) return;
    const double sum = weight_ + a;
    moved_ += blend(weight_ / sum, theta, a / sum, x);
    weight_ = sum;
  }

  double weight_;
  int64_t group_step_ = 0;
  Mailbox mailbox_;
};

}  // namespace

std::unique_ptr<Scheme> make_gosgd(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                   Device device) {
  return std::make_unique<GoSgd>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
