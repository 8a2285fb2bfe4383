// GoSGD: Blot, Picard, Cord, Thome, arXiv:1611.09726 (journal: arXiv:1804.01852). Every worker has a weight a, 1/N at
// first. After its own step it
//   1. takes in what came: x = (a x + a_s x_s) / (a + a_s), a = a + a_s. What comes meanwhile is merged on arrival by
//      the same rule, so that one vector at most waits;
//   2. in each round, with scheme.probability, halves a and sends (x, a) to another worker, drawn uniformly.
// With scheme.wire rounded parameters are sent, and what rounding takes from one half is given to the other.
// Nobody waits for anybody. Kept: the sum of all a (1, with what is in flight) and the sum of all a x.
//
// Who takes no more steps while others do takes in on arrival what it is sent, and answers with a push: halves a and
// sends (x, a) back. So who is late does not train on alone, and nothing is sent that no step has asked for.
//
// Who has not answered for 128 steps is sent nothing more until it does. What a worker does not take comes back, and is
// taken in again. What is sent to a worker that dies is lost with it and counted; a restarted worker begins with 1/N
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
      : GossipScheme(o, world, size, dtype, device), mailbox_(o.workers), weight_(1.0 / o.workers) {}

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
    world_.publish([&] { state.numbers["weight"] = std::bit_cast<int64_t>(weight_); });
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
  Exchange::Answer decide(const Message& request) override {
    if (!rests_) return accept_merged(mailbox_, request, Exchange::value_of(request));
    return resting_.size() > 0 ? push_back(request) : Exchange::Answer{};  // its own are not finite
  }

  bool exchanges_to_the_end() const override { return true; }
  void catch_up_with_handlers(VecView theta) override {
    const std::vector<Exchange::Outcome> outcomes = exchange_.collect();
    world_.publish([&] {
      if (resting_.size() > 0) upload(resting_.data(), theta);
      if (resting_.size() > 0 && outcomes.empty()) return;
      take_in(mailbox_.take(), outcomes, theta);
      rests_ = true;
      if (all_finite(theta)) resting_ = Payload::copy_of(theta);
    });
  }

  Status finish_exchanges(VecView theta) override {
    exchange_.finish();
    world_.publish([&] {
      if (resting_.size() > 0) upload(resting_.data(), theta);
      resting_ = {}, rests_ = false;
    });
    take_in(theta);
    return Status::Ok();
  }

 private:
  void take_in(VecView theta) {
    std::vector<Mail> mail;
    world_.publish([&] { mail = mailbox_.take(); });
    take_in(mail, exchange_.collect(), theta);
  }

  void take_in(const std::vector<Mail>& mail, const std::vector<Exchange::Outcome>& outcomes, VecView theta) {
    for (const Mail& m : mail) {
      merge(m.body, m.value, theta);
      exchanges_ += m.count;
    }
    for (const Exchange::Outcome& o : outcomes) {
      if (o.what == Exchange::Outcome::What::yes) {
        count_age(o);
        if (o.body.size() == 0) continue;  // the other one counts it
        merge(o.body, o.value, theta);
        ++exchanges_;
        continue;
      }
      ++missed_;
      note(o);
      if (o.what != Exchange::Outcome::What::no) continue;
      if (is_of_before(o) || was_refused(o))
        weight_ += o.asked;  // it sent what nobody wants
      else
        merge(o.sent, o.asked, theta);
    }
  }

  // A handler's, when this worker takes no more steps.
  Exchange::Answer push_back(const Message& request) {
    const double a = Exchange::value_of(request), sum = weight_ + a;
    if (!fits(request.body) || !(a > 0)) return {};
    if (!finite(request.body)) return refuse();
    if (!resting_.unique()) resting_ = Payload::copy_of(resting_.view(dtype_));
    blend_in_blocks(weight_ / sum, a / sum, request.body);
    weight_ = sum / 2;
    const Exchange::Answer answer{Exchange::Answer::What::yes,
                                  packing_ == Packing::none ? resting_ : Payload::copy_of(resting_.view(dtype_)),
                                  weight_};
    if (packing_ == Packing::none) return answer;
    quantize(answer.body);
    blend_in_blocks(2, -1, answer.body);
    return answer;
  }
  // resting = a resting + b y
  void blend_in_blocks(double a, double b, const Payload& y) {
    in_blocks([&](int64_t at, int64_t n) {
      const VecView x = resting_.mutable_view(dtype_).slice(at, n);
      axpby(a, x, b, y.view(dtype_).slice(at, n), x);
    });
  }

  void merge(const Payload& x, double a, VecView theta) {
    if (!fits(x) || !(a > 0)) return;
    const double sum = weight_ + a;
    moved_ += blend(weight_ / sum, theta, a / sum, x);
    weight_ = sum;
  }

  int64_t group_step_ = 0;

  // Shared with the handlers.
  Mailbox mailbox_;
  double weight_;  // theirs too from this worker's last step on
  bool rests_ = false;
  Payload resting_;  // its parameters from then on; empty while they are not finite
};

}  // namespace

std::unique_ptr<Scheme> make_gosgd(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                   Device device) {
  return std::make_unique<GoSgd>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
