// LSGD with a global budget of steps between rounds (dist/schemes/leader_tickets.h): fast workers take more of them.
// A round is an election by the ticket server; then each worker asks the leader of its group for its parameters, and in
// every ratio-th round the leader of all. Everything happens after the optimizer (Algorithm 1).
//
// Where the answers of the ticket server take longer than half a step, a worker asks for tickets ahead, and waits only
// when it holds none. A worker waits for one ticket, and the round or the parameters that may follow, no longer than
// `deadline`. A server that is silent for half of what is left of that is not asked for some periods, but the next one;
// then it is given less time. A leader's parameters are waited for as long as they take, as learned from those so far,
// but at least a quarter of the deadline. Who waits in vain takes its next step without a ticket. Who has missed a
// round takes over the last leader's parameters, as does one whose parameters are not finite, which never leads. Who is
// done leads those that go on with its final parameters.
//
// Messages (arguments in Head::arg), beside the ticket server's
//   leader_fetch       request  round
//   leader_parameters  reply    1: these are they, 0: it did not lead in that round and is not done; body: parameters
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "dist/gossip_group.h"
#include "dist/learned_deadline.h"
#include "dist/rules.h"
#include "dist/schemes/leader.h"
#include "dist/schemes/leader_tickets.h"
#include "dist/schemes/schemes.h"
#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

class LeaderAsync final : public LeaderScheme {
 public:
  LeaderAsync(const SchemeOptions& o, World& world, int64_t size, DType dtype, Device device)
      : LeaderScheme(o, world, size, dtype, device),
        tickets_(world, o, ratio_, repeat()),
        own_(period_, o.workers),
        group_(world, o, dtype),
        silent_(static_cast<size_t>(o.workers)),
        mute_(silent_),
        fetch_time_(o.deadline / 4, o.deadline) {}
  ~LeaderAsync() override {
    if (listening_) world_.on(Tag::leader_fetch, {});
  }

  Status start(VecView theta) override {
    listen();
    return group_.start(theta);
  }

  Status before_step(int64_t, VecView theta) override {
    group_.serve(round_, theta);
    step_began_ = world_.now();
    return Status::Ok();
  }

  Status after_step(int64_t, VecView theta) override {
    ++steps_;
    if (hold_ > 0 && ++held_ >= hold_) {
      std::fill(silent_.begin(), silent_.end(), char{0});
      held_ = 0;
    }
    proximal_pull(theta);
    if (options_.workers == 1) return Status::Ok();
    // Nobody stays drawn to who is no longer there.
    if (followed_ != kAnyRank && is_lost(world_.peer(followed_))) forget_anchor(false, true), followed_ = kAnyRank;
    if (const Rank now = server(); now != server_) server_ = now, own_.forget_spent();
    const Nanos asks = world_.now(), step = std::max<Nanos>(asks - step_began_, 1);
    const int64_t most = options_.deadline / 8 / step;
    if (own_.ahead() > 0) {
      for (Received r; (r = world_.receive({.tag = Tag::leader_answer}, 0)).ok();) (void)hear(r.message.head);
      own_.look_back(most);
    }
    if (own_.had() > steps_) {
      if (own_.wants(steps_)) world_.send(server(), ask_head());
      return Status::Ok();
    }
    const Deadline deadline(world_, options_.deadline);
    Answer answer{.what = Ticket::round};
    if (!own_.spent()) answer = query(ask_head(), deadline, theta);
    if (const Nanos took = world_.now() - asks; answer.what == Ticket::go && took >= step / 2)
      own_.ask_more((took + step - 1) / step, most);
    if (answer.what == Ticket::round) {
      const bool suppressed = world_.suppressed(round_);
      const double loss = suppressed ? std::numeric_limits<double>::quiet_NaN() : loss_at(theta);
      answer = query(join_head(loss), deadline, theta);
      if (answer.what == Ticket::decided) return round(answer, loss, suppressed, deadline, theta);
    }
    if (answer.what == Ticket::behind) return adopt(answer.local, answer.round, deadline.left(), theta);
    if (answer.what == Ticket::alone) return look_for_others(deadline, theta);
    if (answer.what == Ticket::go) return Status::Ok();
    ++counters_.missed;
    end_round(round_, nullptr);
    return world_.health();
  }

  Status finish(VecView theta) override {
    if (options_.workers > 1) {
      const double loss = world_.suppressed(round_) ? std::numeric_limits<double>::quiet_NaN() : loss_at(theta);
      const Payload own = rounded(theta);
      sent();
      end_round(kFinal, std::isfinite(loss) ? &own : nullptr);
      Head done = ask_head(loss);
      (void)query(done, Deadline(world_, options_.deadline), theta);
      const Request request(world_);  // whose answers nobody waits for
      done.request = request.id();
      // Whoever serves later, or comes back, knows that this worker is not to be waited for, and where it stays.
      for (Rank r = 0; r < options_.workers; ++r)
        if (r != world_.rank() && r != server()) world_.send(r, done);
    }
    settle(theta);
    return Status::Ok();
  }

  // Collective, after finish(): the mean over all workers.
  Status evaluation_point(ConstVecView theta, VecView out) override {
    settle(theta);
    return group_.average(out);
  }

  SchemeState save() const override {
    SchemeState state = LeaderScheme::save();
    tickets_.save(state);
    own_.save(state);
    group_.save(state);
    world_.publish([&] {
      if (published_.size() > 0) state.vectors["published"] = Vec::copy_of(published_.view(dtype_));
      state.numbers["published"] = published_round_;
      state.numbers["ended"] = ended_;
    });
    std::vector<int64_t> silent;
    for (size_t r = 0; r < silent_.size(); ++r) silent.push_back(silent_[r] + 2 * mute_[r]);
    state.vectors["silent"] = Vec::copy_of(ConstVecView(silent));
    state.numbers["round"] = round_;
    state.numbers["steps"] = steps_;
    state.numbers["lonely"] = lonely_;
    state.numbers["hold"] = hold_;
    state.numbers["held"] = held_;
    state.numbers["server"] = server_;
    fetch_time_.save("fetch_time", state.numbers);
    return state;
  }
  Status load(const SchemeState& state) override {
    SINEW_RETURN_IF_ERROR(LeaderScheme::load(state));
    SINEW_RETURN_IF_ERROR(tickets_.load(state));
    SINEW_RETURN_IF_ERROR(own_.load(state));
    group_.load(state);
    SINEW_RETURN_IF_ERROR(load_numbers(state, {{"round", &round_},
                                               {"steps", &steps_},
                                               {"lonely", &lonely_},
                                               {"hold", &hold_},
                                               {"held", &held_},
                                               {"server", &server_},
                                               {"published", &published_round_},
                                               {"ended", &ended_}}));
    fetch_time_.load("fetch_time", state.numbers);
    if (auto found = state.vectors.find("published"); found != state.vectors.end())
      published_ = Payload::copy_of(found->second.view());
    Vec silent = Vec::empty(options_.workers, DType::i64);
    SINEW_RETURN_IF_ERROR(load_vector(state, "silent", silent));
    for (size_t r = 0; r < silent_.size(); ++r) {
      const int64_t saved = static_cast<const int64_t*>(silent.view().data)[r];
      silent_[r] = saved & 1, mute_[r] = saved >> 1 & 1;
    }
    listen();
    group_.listen();
    return Status::Ok();
  }

 private:
  struct Answer {
    Ticket what = Ticket::wait;  // wait: there was none in time
    int64_t tickets = 0, round = 0;
    Rank local = kAnyRank, global = kAnyRank;
  };
  static constexpr int64_t kFinal = INT64_MAX;  // for a round: this worker's parameters will not change any more
  struct Asked {
    Rank rank;
    uint64_t request;
    int64_t round;
  };

  void listen() {
    listening_ = true;
    tickets_.listen();
    world_.on(Tag::leader_fetch, [this](const Message& m) {
      const Asked asked{m.head.source, m.head.request, m.head.arg[0]};
      std::erase_if(asked_, [&](const Asked& a) { return a.rank == asked.rank; });
      asked_.push_back(asked);
      answer_asked();
    });
  }

  // last_loss: of who takes no more steps.
  Head ask_head(std::optional<double> last_loss = {}) {
    Head head{.tag = Tag::leader_ask};
    own_.ask(head, steps_);
    head.arg[0] = round_;
    if (last_loss) head.arg[2] = 1 + 2 * own_group(), head.arg[3] = std::bit_cast<int64_t>(*last_loss);
    return head;
  }
  Head join_head(double loss) const {
    Head head{.tag = Tag::leader_join};
    head.arg[0] = round_, head.arg[1] = steps_, head.arg[2] = std::bit_cast<int64_t>(loss);
    head.arg[3] = own_group() * 2;
    return head;
  }

  // The lowest rank that lives and answers.
  Rank server() const {
    Rank r = 0;
    while (r < world_.rank() && (silent_[static_cast<size_t>(r)] || is_lost(world_.peer(r)))) ++r;
    return r;
  }

  Nanos repeat() const { return std::min(options_.deadline / 16 + 1, kLook); }

  // What a message of a server says, none when it is malformed; the tickets that it gives for this round are taken.
  std::optional<Answer> hear(const Head& head) {
    const int64_t* a = head.arg;
    if (a[0] < 0) return {};
    Answer answer{.what = static_cast<Ticket>(a[0] % 8), .tickets = a[0] / 8, .round = a[1]};
    if (answer.what == Ticket::go || answer.what == Ticket::round) {
      if (answer.round == round_) own_.take(answer.tickets, answer.what == Ticket::round, a[2]);
      return answer;
    }
    if (std::min(a[2], a[3]) < kAnyRank || std::max(a[2], a[3]) >= options_.workers) return {};
    answer.local = static_cast<Rank>(a[2]), answer.global = static_cast<Rank>(a[3]);
    return answer;
  }

  // Asks the server, again after each silence, and another one when it keeps silent. For a ticket the answer to what
  // was asked ahead will do.
  Answer query(Head head, const Deadline& deadline, ConstVecView theta) {
    const bool for_ticket = head.tag == Tag::leader_ask && (head.arg[2] & 1) == 0;
    Request request(world_);
    head.request = request.id();
    const Nanos eighth = options_.deadline / 8, half = std::max(deadline.left() / 2, eighth), repeat = this->repeat();
    const Deadline patience(world_, half);
    for (Nanos silence = 0; deadline.left() > 0; group_.serve(round_, theta)) {
      const Rank to = server();
      if (head.tag == Tag::leader_join && patience.left() == 0) head.arg[3] |= 1;
      world_.send(to, head);
      silence += repeat;
      for (const Deadline next(world_, std::min(repeat, deadline.left())); next.left() > 0;) {
        const Received r = world_.receive({.tag = Tag::leader_answer}, next.left());
        if (!r.ok()) break;
        const std::optional<Answer> answer = hear(r.message.head);
        if (!answer) continue;
        if (r.message.head.request != request.id()) {
          if (!for_ticket || (own_.had() <= steps_ && !own_.spent())) continue;
          return {.what = own_.had() > steps_ ? Ticket::go : Ticket::round};
        }
        silence = 0;
        if (answer->what == Ticket::wait) continue;
        if (hold_ > 0 && std::count(silent_.begin(), silent_.end(), 1) == 0) hold_ = 0;
        return *answer;
      }
      if (silence < (hold_ > 0 ? eighth : half) || to == world_.rank()) continue;
      silent_[static_cast<size_t>(to)] = 1;
      hold_ = std::clamp(2 * hold_, period_, 8 * period_);
      silence = 0;
    }
    return {};
  }

  // The leader's parameters of this round; empty: it is lost, did not lead, or the time is over.
  Payload fetch_from(Rank leader, int64_t round, const Deadline& round_deadline, ConstVecView theta) {
    char& mute = mute_[static_cast<size_t>(leader)];
    // Who leads has joined and waits, so it answers as soon as it knows.
    const Nanos begin = world_.now(), limit = mute ? options_.deadline / 8 : fetch_time_.value();
    const Deadline deadline(world_, std::min(round_deadline.left(), limit));
    Request request(world_);
    Head head{.tag = Tag::leader_fetch, .request = request.id()};
    head.arg[0] = round;
    const Nanos repeat = options_.deadline / 8 + 1;
    for (Nanos silence = repeat; deadline.left() > 0 && !is_lost(world_.peer(leader));) {
      if (silence >= repeat) {
        world_.send(leader, head);
        silence = 0;
      }
      const Nanos slice = std::min({deadline.left(), repeat, kLook});
      const Received r =
          world_.receive({.tag = Tag::leader_parameters, .source = leader, .request = request.id()}, slice);
      if (r.ok()) {
        mute = 0;
        fetch_time_.observe(world_.now() - begin);
        return r.message.head.arg[0] ? unpacked(r.message, dtype_).body : Payload();
      }
      silence += slice;
      group_.serve(round_, theta);
    }
    mute = deadline.left() == 0;
    if (!mute) return {};
    fetch_time_.observe(limit);  // they may take longer than they did
    world_.send(server(), make_head(Tag::leader_probe, 2, leader));
    return {};
  }

  Status round(const Answer& answer, double loss, bool suppressed, const Deadline& deadline, VecView theta) {
    LeaderRound r{.round = answer.round, .loss = loss, .steps = steps_};
    const Rank self = world_.rank();
    const bool leads = answer.local == self || answer.global == self;
    const Payload own = leads ? rounded(theta) : Payload();
    if (leads) sent();
    end_round(answer.round, leads ? &own : nullptr);
    Payload from_local;
    bool has_local = false;
    if (!suppressed && answer.local != kAnyRank) {
      from_local = answer.local == self ? own : fetch_from(answer.local, answer.round, deadline, theta);
      if ((has_local = take(from_local, answer.local == self, options_.pull, local(), theta))) r.local = answer.local;
    }
    if (!suppressed && answer.global != kAnyRank) {
      const bool same = answer.global == answer.local && has_local;
      const Payload from = same                    ? from_local
                           : answer.global == self ? own
                                                   : fetch_from(answer.global, answer.round, deadline, theta);
      if (take(from, answer.global == self, options_.pull_global, global(), theta)) r.global = answer.global;
    }
    if (has_local) counters_.staleness.add(0), set_anchor(r.global != kAnyRank);
    if (r.global != kAnyRank) followed_ = r.global;
    begin_round(answer.round + 1, 0, answer.tickets);
    record(r);
    return Status::Ok();
  }

  bool take(const Payload& parameters, bool leads, double strength, Vec& into, VecView theta) {
    if (parameters.size() != theta.bytes()) return false;
    if (!leads) upload(parameters.data(), into.mutable_view());
    follow(strength, leads, into, theta);
    return true;
  }

  // This worker has missed rounds before this one: its parameters are old. It takes over those of `first`, or of
  // another one that is there; until one answers, it is behind and asks again after the next step.
  Status adopt(Rank first, int64_t round, Nanos limit, VecView theta) {
    end_round(round - 1, nullptr);
    const Vec before = Vec::copy_of(theta);
    const Result<int64_t> adopted = group_.adopt(theta, first, limit);
    if (!adopted.ok()) return adopted.status();
    ++counters_.missed;
    if (*adopted == GossipGroup::kNobody) return world_.health();
    if (*adopted == GossipGroup::kUnfit) {  // nobody has better ones
      begin_round(round, period_ - 1, period_);
      return Status::Ok();
    }
    if (const double d2 = squared_distance(theta, before.view()); std::isfinite(d2)) moved_ += d2;
    running_.clear();
    counters_.staleness.add(round - round_);
    begin_round(round, period_ - 1, period_);
    return Status::Ok();
  }

  // Too few are here for a round, as it seems: the others may have gone on, and be done. Asks now and then.
  Status look_for_others(const Deadline& deadline, VecView theta) {
    if (lonely_++ % (8 * period_) != 0) return Status::Ok();
    const Nanos limit = options_.deadline / 8;
    Vec theirs = Vec::copy_of(theta);
    const Result<int64_t> round = group_.adopt(theirs.mutable_view(), kAnyRank, std::min(limit, deadline.left()));
    if (!round.ok()) return round.status();
    if (*round >= 0) std::fill(silent_.begin(), silent_.end(), char{0});
    return *round > round_ ? adopt(kAnyRank, *round, std::min(limit, deadline.left()), theta) : Status::Ok();
  }

  void begin_round(int64_t round, int64_t steps, int64_t tickets) {
    round_ = round, steps_ = steps;
    own_.begin_round(tickets);
  }

  // Nobody will get parameters of this round or an earlier one from this worker, but for what it has published.
  void end_round(int64_t round, const Payload* published) {
    world_.publish([&] {
      ended_ = std::max(ended_, round);
      if (published) published_ = *published, published_round_ = round;
      answer_asked();
    });
  }

  // Inside publish(), or a handler.
  void answer_asked() {
    std::erase_if(asked_, [&](const Asked& a) {
      if (a.round > ended_) return false;
      const bool has = a.round == published_round_ || published_round_ == kFinal;
      Head head{.tag = Tag::leader_parameters, .is_reply = 1, .request = a.request};
      head.arg[0] = has;
      send_packed(world_, a.rank, head, has ? published_ : Payload(), packing_, dtype_);
      return true;
    });
  }

  void settle(ConstVecView theta) {
    if (!std::exchange(settled_, true)) group_.settle(theta);
  }

  TicketServer tickets_;
  HeldTickets own_;
  Nanos step_began_ = 0;
  int64_t server_ = kAnyRank;  // of the last step
  GossipGroup group_;
  std::vector<char> silent_;     // servers that did not answer, and are not asked
  std::vector<char> mute_;       // leaders that did not answer, and are given less time
  LearnedDeadline fetch_time_;   // of a leader's parameters
  int64_t hold_ = 0, held_ = 0;  // for so many steps, of which so many are over
  int64_t round_ = 0, steps_ = 0;
  Rank followed_ = kAnyRank;  // the last leader of all
  int64_t lonely_ = 0;        // steps for which there were too few others
  bool listening_ = false, settled_ = false;

  // Shared with the handlers.
  std::vector<Asked> asked_;
  Payload published_;
  int64_t published_round_ = -1, ended_ = -1;
};

}  // namespace

std::unique_ptr<Scheme> make_leader_async(const SchemeOptions& options, World& world, int64_t size, DType dtype,
                                          Device device) {
  return std::make_unique<LeaderAsync>(options, world, size, dtype, device);
}

}  // namespace sinew::dist
