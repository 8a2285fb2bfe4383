// Push-sum gossip over directed graphs: every worker has x and a weight w (1 at first), trains at z = x / w, and in
// each round divides (x, w) among itself and its out-neighbours. Kept: the sum of all x and the sum of all w, N, with
// what is in flight.
//
//   sgp     x -= lr d(z);  x_i = sum_j P_ij x_j;  w_i = sum_j P_ij w_j;  z_i = x_i / w_i
//           (Assran, Loizou, Ballas, Rabbat, arXiv:1811.10792)
//   dpsgd   with topology exponential or one_peer_exponential (Ying et al., arXiv:2110.13363): rows of P sum to 1 too,
//           so that w stays 1 and z = x; what is lost or late is then set right by w. mixing awc sends the x from
//           before the gradient.
//
// In lockstep: a worker waits, up to the deadline, for what was sent to it in the round `overlap` rounds ago, and takes
// in exactly that. overlap = 0: this round's. With more, nothing waits for a link (the paper's overlap SGP, with a
// fixed delay in place of a longest one, so that both worlds give equal bits). What comes late is taken in late. What a
// worker that is lost should get is kept, what it does not take is taken back.
//
// Steps are divided by w, which must not go to 0 while shares wait for a worker that is stopped, restarts or is slow.
// So a worker also waits for the answers to what it has sent before the round that it takes in, sends nothing to who
// does not answer, and nothing at all (a missed exchange) with a w far below what it is without failures: the column of
// P is then that of 1.
#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "dist/schemes/gossip_scheme.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

class PushSum final : public GossipScheme {
 public:
  PushSum(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : GossipScheme(o, world, size, dtype, device),
        combine_after_(o.name == "sgp" || o.mixing == "atc"),
        overlap_(o.overlap),
        topology_(topology_options(o)),
        least_(least_weight()),
        mailbox_(o.workers) {}

  Status before_step(int64_t step, VecView theta) override {
    round_ = round_at(enter(step, theta));
    const bool sends = round_ >= 0 && !combine_after_;
    if (weight_ != 1 || sends) remember(theta, before_);
    if (sends) {
      remember(theta, kept_);
      if (weight_ != 1) axpby(weight_, theta, 0.0, theta, kept_.mutable_view());
      send(kept_.mutable_view());
    }
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    if (round_ >= 0) last_round_ = round_;
    remember(theta, stepped_);
    // From here on theta holds x. The optimizer's step was made at z and is one of x.
    if (round_ >= 0 && !combine_after_) {
      axpby(1.0, theta, -1.0, before_.view(), theta);
      accumulate(1.0, kept_.view(), theta);
    } else {
      if (weight_ != 1) accumulate(weight_ - 1, before_.view(), theta);
      if (round_ >= 0) send(theta);
    }
    if (round_ >= 0) wait(round_ - overlap_, round_ - overlap_);
    take_in(last_round_ - overlap_, theta);
    divide(theta);
    SINEW_RETURN_IF_ERROR(heal(theta));
    moved_ += squared_distance(theta, stepped_.view());
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = GossipScheme::save();
    state.numbers["weight"] = std::bit_cast<int64_t>(weight_);
    state.numbers["last_round"] = last_round_;
    save_mailbox(mailbox_, state);
    return state;
  }
  Status load(const SchemeState& state) override {
    auto weight = state.numbers.find("weight"), round = state.numbers.find("last_round");
    if (weight == state.numbers.end() || round == state.numbers.end())
      return Status(StatusCode::data_error, "the saved scheme has no 'weight'");
    weight_ = std::bit_cast<double>(weight->second);
    last_round_ = round->second;
    load_mailbox(state, mailbox_);
    return GossipScheme::load(state);
  }

 protected:
  Exchange::Answer decide(const Message& request) override { return accept(mailbox_, request); }

  Status finish_exchanges(VecView theta) override {
    for (int64_t round = last_round_ - overlap_ + 1; round <= last_round_; ++round) wait(round);
    exchange_.finish();
    if (weight_ != 1) axpby(weight_, theta, 0.0, theta, theta);
    take_in(INT64_MAX, theta);
    divide(theta);
    return Status::Ok();
  }

 private:
  void remember(ConstVecView theta, Vec& place) {
    if (!place.defined()) place = Vec::empty(size_, dtype_, device_);
    copy(theta, place.mutable_view());
  }

  // A quarter of the least w without failures: before anything comes in, `overlap` rounds keep what is not given away;
  // later w is about 1 / (1 + overlap).
  double least_weight() const {
    constexpr int64_t kRounds = 64;  // of a graph that does not repeat
    const int64_t rounds = topology_.period() > 0 ? std::min(topology_.period(), kRounds) : kRounds;
    double kept = 1;
    for (int64_t round = 0; round < rounds; ++round) {
      double own = 1;
      for (const Link& l : topology_.out(world_.rank(), round)) own -= l.weight;
      kept = std::min(kept, own);
    }
    const auto overlap = static_cast<double>(overlap_);
    return 0.25 * std::min(1 / (1 + overlap), std::pow(kept, overlap));
  }

  // Divides (x, w) among the neighbours and itself.
  void send(VecView x) {
    const bool poor = weight_ < least_, silent = poor || world_.suppressed(round_);
    double kept = 1;
    std::vector<Payload> given;
    Payload body;
    double body_weight = 0;
    for (const Link& l : topology_.out(world_.rank(), round_)) {
      if (!takes_part(l.peer, round_)) {
        ++missed_;
        continue;
      }
      missed_ += poor;
      if (!silent && body_weight != l.weight) {
        Vec share = Vec::empty(size_, dtype_, device_);
        axpby(l.weight, x, 0.0, x, share.mutable_view());
        body = Payload::copy_of(share.view());
        quantize(body);
        body_weight = l.weight;
      }
      exchange_.ask(l.peer, round_, silent ? 0 : l.weight * weight_, body);
      if (silent) continue;
      kept -= l.weight;
      if (packing_ != Packing::none) given.push_back(body);
    }
    if (kept == 1) return;
    if (given.empty()) axpby(kept, x, 0.0, x, x);
    for (const Payload& g : given) add(-1, g, x);  // what rounding left of it stays here
    weight_ *= kept;
  }

  void wait(int64_t round, int64_t asked_before = 0) {
    std::vector<Rank> sources;
    if (round >= 0)
      for (const Link& l : topology_.in(world_.rank(), round)) sources.push_back(l.peer);
    wait_for_mail(mailbox_, sources, round, asked_before);
    world_.publish([&] {
      missed_ += std::count_if(sources.begin(), sources.end(), [&](Rank r) { return !mailbox_.has_come_to(r, round); });
    });
  }

  void take_in(int64_t last_round, VecView x) {
    std::vector<Mail> mail;
    world_.publish([&] { mail = mailbox_.take(last_round); });
    sort_by_round(mail);
    for (const Mail& m : mail) {
      add(1, m.body, x);
      weight_ += m.value;
      ++exchanges_;
    }
    for (const Exchange::Outcome& o : exchange_.collect()) {
      take_hint(o);
      if (o.what == Exchange::Outcome::What::yes) continue;
      ++missed_;
      note(o);
      if (o.what != Exchange::Outcome::What::no || !fits(o.sent) || is_of_before(o)) continue;
      add(1, o.sent, x);
      weight_ += o.asked;
    }
  }

  void divide(VecView x) const {
    if (weight_ != 1) axpby(1 / weight_, x, 0.0, x, x);
  }

  const bool combine_after_;
  const int64_t overlap_;
  const Topology topology_;
  const double least_;  // w to send with
  double weight_ = 1;
  int64_t round_ = -1, last_round_ = -1;
  Vec before_, kept_, stepped_;
  Mailbox mailbox_;
};

}  // namespace

std::unique_ptr<Scheme> make_push_sum(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                      Device device) {
  return std::make_unique<PushSum>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
