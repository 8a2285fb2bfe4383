// Gossip between pairs without a common clock.
//
//   elastic_gossip, mode async   x_i -= alpha (x_i - x_k), x_k -= alpha (x_k - x_i)
//   adpsgd                       the same with alpha = 1/2, that is the average of both, in every step (Lian, Zhang,
//                                Zhang, Liu, arXiv:1710.06952)
//
// In each round a worker, with scheme.probability, picks another one uniformly and sends it the x from before its
// gradient. That one answers on arrival, whatever its training side does: it computes d = alpha (x_published - x_sent)
// from the value before the exchange, takes d off its published parameters, and sends d, by which the other moves. One
// exchange after the other, so each pair is atomic at the passive end; it never waits, so no order of exchanges can
// lock, and the graph need not be bipartite as in the paper. Both ends add their moves to theta after the optimizer.
//
// Kept: the sum of all x, as each exchange moves both ends by the same bits; with weights that differ, not.
//
// Dynamic weights (dist/weighting.h): every worker scores itself by the median of its distances from each partner as
// they last met, which one partner that runs away does not move. The active end says how suspicious it is by its
// exchanges so far, the passive end by those and this one; it also judges who asks by how their distance has jumped
// since they last met, as far as its own score does not explain it, and weighs the pair.
//
// With scheme.wire the x that is sent carries on what rounding left of the last one; what rounding d leaves stays in
// the parameters of both ends, and so is in their next difference.
//
// An answer needs a message each way and nothing of the other's training, so a worker waits for one as long as they
// take, up to the deadline (dist/exchange.h). As long as one is missing from a peer, the rounds in which that one is
// picked are missed.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "dist/schemes/gossip_scheme.h"
#include "dist/schemes/schemes.h"
#include "dist/weighting.h"

namespace sinew::dist {
namespace {

class AsyncGossip final : public GossipScheme {
 public:
  AsyncGossip(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : GossipScheme(o, world, size, dtype, device),
        log_(o.on_weights),
        weighting_(o.weighting, o.alpha, parameters_of(o, size)),
        pending_(Payload::allocate(published_bytes())) {
    fill(pending_.mutable_view(dtype_), 0);
  }

  Status start(VecView theta) override {
    SINEW_RETURN_IF_ERROR(GossipScheme::start(theta));
    world_.publish([&] { published_ = Payload::copy_of(theta); });
    return Status::Ok();
  }

  Status before_step(int64_t step, VecView theta) override {
    const int64_t group_step = enter(step, theta), round = round_at(group_step);
    if (round < 0 || options_.alpha == 0) return Status::Ok();
    const Rank peer = uniform_pick(options_.seed, group_step, world_.rank(), options_.workers, options_.probability);
    if (peer == kAnyRank) return Status::Ok();
    if (world_.suppressed(round) || !reachable(peer) || exchange_.has_open(peer)) {
      miss();
      return Status::Ok();
    }
    double suspicion = 0;
    if (!weighting_.fixed()) world_.publish([&] { suspicion = weighting_.expected(round).suspicion; });
    asked_ = exchange_.ask(peer, group_step, suspicion, rounded_copy(theta));
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    if (options_.alpha == 0) return Status::Ok();
    if (asked_ >= 0) exchange_.wait_for_answer(asked_);
    take_answers(theta);
    if (std::exchange(asked_, -1) >= 0) miss();
    SINEW_RETURN_IF_ERROR(heal(theta));
    std::vector<WeighedContact> weighed;
    world_.publish([&] {
      if (take_adopted()) {
        fill(pending_.mutable_view(dtype_), 0);
        weighting_.forget();
        distances_.clear();
      }
      take_pending(theta);
      weighed.swap(weighed_);
      if (!published_.unique()) published_ = Payload::allocate(published_.size());
      download(theta, published_.data());
    });
    for (const WeighedContact& contact : weighed)
      if (log_) log_(contact);
    return Status::Ok();
  }

  SchemeState save() const override {
    SchemeState state = GossipScheme::save();
    world_.publish([&] {
      weighting_.save(state.numbers);
      for (const auto& [rank, distance] : distances_)
        state.numbers["distance." + std::to_string(rank)] = std::bit_cast<int64_t>(distance);
      state.vectors["published"] = Vec::copy_of(published_.view(dtype_));
      state.vectors["pending"] = Vec::copy_of(pending_.view(dtype_));
      state.numbers["pending"] = changed_;
      state.numbers["served"] = served_;
      state.numbers["pending_moved"] = std::bit_cast<int64_t>(pending_moved_);
    });
    return state;
  }
  Status load(const SchemeState& state) override {
    for (auto [name, payload] : {std::pair{"published", &published_}, {"pending", &pending_}}) {
      auto found = state.vectors.find(name);
      if (found == state.vectors.end() || found->second.size() != size_ || found->second.dtype() != dtype_)
        return make_status(StatusCode::data_error, "the saved scheme does not fit: '", name, "' of ", size_,
                           " elements is expected");
      *payload = Payload::copy_of(found->second.view());
    }
    for (auto [name, number] : {std::pair{"pending", &changed_}, {"served", &served_}})
      if (auto found = state.numbers.find(name); found != state.numbers.end()) *number = found->second;
    if (auto found = state.numbers.find("pending_moved"); found != state.numbers.end())
      pending_moved_ = std::bit_cast<double>(found->second);
    weighting_.load(state.numbers);
    for (Rank r = 0; r < options_.workers; ++r)
      if (auto found = state.numbers.find("distance." + std::to_string(r)); found != state.numbers.end())
        distances_[r] = std::bit_cast<double>(found->second);
    return GossipScheme::load(state);
  }
  SchemeCounters counters() const override {
    SchemeCounters c = GossipScheme::counters();
    world_.publish([&] { c.exchanges += served_; });
    return c;
  }

 protected:
  Exchange::Answer decide(const Message& request) override {
    if (published_.size() == 0 || was_stopped()) return {};  // it has not begun, or is not where it was
    if (!fits(request.body)) return {};
    Payload mine, theirs;
    const double alpha = options_.alpha, distance2 = difference(alpha, published_, request.body, theirs);
    if (!std::isfinite(distance2)) return refuse();
    const PairWeights w = weigh(request, std::sqrt(distance2));
    if (w.mine != alpha) difference(w.mine, published_, request.body, theirs);
    quantize(theirs);
    if (w.theirs == w.mine)
      mine = theirs;
    else
      difference(w.theirs, published_, request.body, mine);
    if (!published_.unique()) published_ = Payload::copy_of(published_.view(dtype_));
    in_blocks([&](int64_t at, int64_t n) {
      const ConstVecView part = mine.view(dtype_).slice(at, n);
      accumulate(-1, part, published_.mutable_view(dtype_).slice(at, n));
      accumulate(1, part, pending_.mutable_view(dtype_).slice(at, n));
    });
    changed_ = 1;
    ++served_;
    pending_moved_ += w.theirs * w.theirs * distance2;
    return {Exchange::Answer::What::yes, theirs, distance2};
  }

  bool exchanges_to_the_end() const override { return true; }
  void catch_up_with_handlers(VecView theta) override {
    std::vector<WeighedContact> weighed;
    world_.publish([&] {
      take_pending(theta);
      weighed.swap(weighed_);
    });
    for (const WeighedContact& contact : weighed)
      if (log_) log_(contact);
  }

  Status finish_exchanges(VecView theta) override {
    exchange_.finish();
    take_answers(theta);
    catch_up_with_handlers(theta);
    return Status::Ok();
  }

 private:
  size_t published_bytes() const { return static_cast<size_t>(size_) * size_of(dtype_); }

  void miss() {
    ++missed_;
    if (!weighting_.fixed()) world_.publish([&] { weighting_.miss(); });
  }

  // Inside publish().
  Weights score(Rank peer, int64_t round, double distance) {
    distances_[peer] = distance;
    std::vector<double> all;
    for (const auto& [rank, d] : distances_) all.push_back(d);
    const auto middle = all.begin() + std::ssize(all) / 2;
    std::nth_element(all.begin(), middle, all.end());
    return weighting_.contact(round, *middle, std::numeric_limits<double>::quiet_NaN());
  }

  // On the passive side. Of the pair, `mine` is the weight of who asked.
  PairWeights weigh(const Message& request, double distance) {
    const double alpha = options_.alpha;
    if (weighting_.fixed()) return {alpha, alpha};
    const int64_t round = round_at(Exchange::round_of(request));
    const auto last = distances_.find(request.head.source);
    const double jump = last == distances_.end() || !(last->second > 0 && distance > 0)
                            ? std::numeric_limits<double>::quiet_NaN()
                            : std::log(distance / last->second);
    Weights own = score(request.head.source, round, distance);
    const double said = Exchange::value_of(request);
    const double theirs = std::max(said >= 0 && said <= 1 ? said : 1.0,  // else it is no suspicion at all
                                   weighting_.suspicion_of_partner(round, jump, own.score));
    const PairWeights w = pair_weights(alpha, theirs, own.suspicion);
    if (w.mine == alpha && w.theirs == alpha) return w;
    own.worker = w.theirs, own.center = w.mine;
    if (!*own.reason) own.reason = "the other worker's distance grows";
    weighed_.push_back({round, distance, own});
    return w;
  }

  void take_answers(VecView theta) {
    for (Exchange::Outcome& o : exchange_.collect()) {
      note(o);
      const bool current = o.number == asked_;
      if (current) asked_ = -1;
      if (o.what != Exchange::Outcome::What::yes || !fits(o.body) || is_of_before(o)) {
        if (current) miss();
        continue;
      }
      add(1, o.body, theta);
      if (weighting_.fixed()) {
        moved_ += options_.alpha * options_.alpha * o.value;
      } else {
        const double moved = norm(on_device(o.body));
        moved_ += moved * moved;
        world_.publish([&] { score(o.peer, round_at(o.round), std::sqrt(o.value)); });
      }
      exchanges_ += current;
      count_age(o);
    }
  }

  // Inside publish(): what this worker gave to others since.
  void take_pending(VecView theta) {
    if (!std::exchange(changed_, 0)) return;
    add(-1, pending_, theta);
    fill(pending_.mutable_view(dtype_), 0);
    moved_ += std::exchange(pending_moved_, 0.0);
  }

  const WeightsLog log_;
  int64_t asked_ = -1;

  // Shared with the handlers.
  Weighting weighting_;
  std::map<Rank, double> distances_;     // at the last exchange with each
  std::vector<WeighedContact> weighed_;  // not yet in the log
  Payload published_;                    // theta after the last step, less what was given since
  Payload pending_;                      // what was given since
  int64_t changed_ = 0, served_ = 0;
  double pending_moved_ = 0;
};

}  // namespace

std::unique_ptr<Scheme> make_async_gossip(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                          Device device) {
  return std::make_unique<AsyncGossip>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
