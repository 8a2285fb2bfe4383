// Gossip between pairs in lockstep: symmetric weights, known to both ends without a message.
//
//   elastic_gossip  x_i -= sum_k alpha (x_i - x_k) over the workers that i picked or that picked i (Pramod,
//                   arXiv:1812.02407; with scheme.topology: over the neighbours in that graph)
//   dpsgd           x_i = sum_j W_ij x_j with Metropolis weights, or one pair a round (Lian et al., arXiv:1705.09056)
//
// awc (adapt with combine, and elastic gossip): the x of all of this are those before the gradient. What each pair
// moves by is computed while the gradient is, and is applied after the optimizer. atc (adapt then combine): the x are
// those after the optimizer.
//
// Of a pair the lower rank is the active end (dist/exchange.h): it sends its x, the other one answers with
// d = w (x_passive - x_active). The one moves by d and the other by -d, in ascending order of the peers: what a pair
// does keeps the sum of all x to the last bit of each addition, and equal bits in both worlds.
//
// With scheme.wire the x that is sent carries on what rounding left of the last one; what rounding d leaves stays in
// the parameters of both ends, and so is in their next difference.
//
// A pair of which one end is late by more than the deadline, dead, suppressed, or not finite does not exchange in this
// round; it is counted.
#include <algorithm>
#include <cmath>
#include <map>

#include "dist/schemes/gossip_scheme.h"
#include "dist/schemes/schemes.h"

namespace sinew::dist {
namespace {

class LockstepGossip final : public GossipScheme {
 public:
  LockstepGossip(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : GossipScheme(o, world, size, dtype, device),
        elastic_(o.name == "elastic_gossip"),
        combine_after_(o.mixing == "atc"),
        topology_(topology_options(o)) {}

  Status before_step(int64_t step, VecView theta) override {
    group_step_ = enter(step, theta);
    if (!combine_after_) begin(group_step_, theta);
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    if (combine_after_) begin(group_step_, theta);
    end(theta);
    return heal(theta);
  }

  SchemeState save() const override {
    SchemeState state = GossipScheme::save();
    world_.publish([&] { state.numbers["round_step"] = round_step_; });
    return state;
  }
  Status load(const SchemeState& state) override {
    auto step = state.numbers.find("round_step");
    if (step == state.numbers.end()) return Status(StatusCode::data_error, "the saved scheme has no 'round_step'");
    round_step_ = step->second;
    return GossipScheme::load(state);
  }

 protected:
  Exchange::Answer decide(const Message& request) override {
    using What = Exchange::Answer::What;
    const int64_t round = Exchange::round_of(request);
    if (round > round_step_) return {What::later};
    if (round < round_step_ || is_over_) return {.what = What::no, .value = static_cast<double>(round_step_ + 1)};
    if (Exchange::value_of(request) == kIsItOver) return {What::later};
    Duty* duty = find_duty(duties_, request.head.source);
    if (!duty || duty->state != Duty::State::open) return {What::no};
    duty->state = Duty::State::missed;
    if (!fits(snapshot_) || !fits(request.body)) return {What::no};
    const double distance2 = difference(duty->weight, snapshot_, request.body, duty->body);
    if (!std::isfinite(distance2)) return refuse();
    quantize(duty->body);
    duty->state = Duty::State::met;
    duty->value = duty->weight * duty->weight * distance2;
    return {What::yes, duty->body, duty->value};
  }

  Status finish_exchanges(VecView theta) override {
    exchange_.finish();
    for (const Exchange::Outcome& o : exchange_.collect()) take_late(o, theta);
    return Status::Ok();
  }

 private:
  // Asked, in place of a weight, by a passive end that hears nothing.
  static constexpr double kIsItOver = -1;

  Links links(int64_t step, int64_t round) const {
    if (elastic_ && options_.alpha == 0) return {};
    Links all = topology_.in(world_.rank(), topology_.name() == "uniform" ? step : round);
    if (elastic_ && topology_.name() != "uniform")
      for (Link& l : all) l.weight = options_.alpha;
    return all;
  }

  void begin(int64_t step, ConstVecView theta) {
    const int64_t round = round_at(step);
    const Links all = round < 0 ? Links() : links(step, round);
    if (all.empty()) return;
    const bool silent = world_.suppressed(round);
    const Payload own = silent ? Payload() : Payload::copy_of(theta);
    const bool asks = std::any_of(all.begin(), all.end(), [&](const Link& l) { return l.peer > world_.rank(); });
    const Payload body = silent || !asks || packing_ == Packing::none ? own : rounded_copy(theta);
    std::vector<Duty> duties;
    for (const Link& l : all)
      if (l.peer < world_.rank()) duties.push_back({.peer = l.peer, .weight = l.weight});
    world_.publish([&] {
      round_step_ = step;
      is_over_ = false;
      snapshot_ = own;
      duties_ = std::move(duties);
      exchange_.reconsider();
    });
    for (const Link& l : all) {
      peers_.push_back(l.peer);
      if (l.peer < world_.rank()) continue;
      if (takes_part(l.peer, step))
        asked_.push_back(exchange_.ask(l.peer, step, l.weight, body));
      else
        ++missed_;
    }
  }

  // Of the round: nothing more can come before long.
  bool complete() const {
    return std::none_of(duties_.begin(), duties_.end(),
                        [&](const Duty& d) { return d.state == Duty::State::open && !exchange_.lost(d.peer); }) &&
           std::none_of(asked_.begin(), asked_.end(), [&](int64_t n) { return exchange_.pending(n); });
  }

  void wait() {
    const auto ready = [this] { return complete(); };
    const Deadline deadline(world_, options_.deadline);
    if (exchange_.wait(Deadline(world_, options_.deadline / 8), peers_, ready)) return;
    // Who waits for a worker that has gone on would wait in vain: it asks.
    std::vector<Rank> silent;
    world_.publish([&] {
      for (const Duty& d : duties_)
        if (d.state == Duty::State::open && !exchange_.lost(d.peer)) silent.push_back(d.peer);
    });
    std::map<int64_t, Rank> questions;
    for (Rank r : silent) questions[exchange_.ask(r, group_step_, kIsItOver, {})] = r;
    const bool all = exchange_.wait(deadline, peers_, [&] {
      for (const auto& [number, peer] : questions)
        if (Duty* d = find_duty(duties_, peer); d->state == Duty::State::open && !exchange_.is_open(number))
          d->state = Duty::State::missed;
      return complete();
    });
    for (const auto& [number, peer] : questions) exchange_.give_up(number);
    if (all) return;
    world_.publish([&] {
      for (const Duty& d : duties_)
        if (d.state == Duty::State::open) exchange_.miss(d.peer);
      exchange_.miss(asked_);
    });
  }

  void end(VecView theta) {
    std::vector<Duty> duties;
    if (!peers_.empty()) {
      wait();
      world_.publish([&] {
        duties.swap(duties_);
        is_over_ = true;
        snapshot_ = Payload();
        exchange_.reconsider();
      });
    }
    struct Move {
      Rank peer;
      double sign, moved;
      Payload d;
    };
    std::vector<Move> moves;
    for (Duty& d : duties) {
      if (d.state == Duty::State::met)
        moves.push_back({d.peer, -1, d.value, std::move(d.body)});
      else
        ++missed_;
    }
    for (Exchange::Outcome& o : exchange_.collect()) {
      note(o);
      const bool current = std::erase(asked_, o.number) > 0;
      if (o.what != Exchange::Outcome::What::yes && o.value > 0) catch_up(static_cast<int64_t>(o.value) - 1);
      if (!current) {
        take_late(o, theta);
      } else if (o.what == Exchange::Outcome::What::yes) {
        moves.push_back({o.peer, 1, o.value, std::move(o.body)});
      } else {
        ++missed_;
      }
    }
    for (int64_t number : asked_) {
      exchange_.give_up(number);
      ++missed_;
    }
    asked_.clear();
    peers_.clear();
    std::sort(moves.begin(), moves.end(), [](const Move& a, const Move& b) { return a.peer < b.peer; });
    for (const Move& m : moves) {
      add(m.sign, m.d, theta);
      moved_ += m.moved;
    }
    exchanges_ += static_cast<int64_t>(moves.size());
  }

  // An answer after the deadline: the passive end has moved, so this one does.
  void take_late(const Exchange::Outcome& o, VecView theta) {
    if (o.what != Exchange::Outcome::What::yes || !fits(o.body) || is_of_before(o)) return;
    add(1, o.body, theta);
    moved_ += o.value;
  }

  const bool elastic_, combine_after_;
  const Topology topology_;
  int64_t group_step_ = 0;
  std::vector<int64_t> asked_;  // this round's exchanges in which this worker is the active end
  std::vector<Rank> peers_;     // of this round

  // Shared with the handlers.
  int64_t round_step_ = -1;  // of the last round in which this worker had a link
  bool is_over_ = true;
  Payload snapshot_;  // its x of that round
  std::vector<Duty> duties_;
};

}  // namespace

std::unique_ptr<Scheme> make_lockstep_gossip(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                             Device device) {
  return std::make_unique<LockstepGossip>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
