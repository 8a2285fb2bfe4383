#include "dist/membership.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

namespace sinew::dist {
namespace {

enum Kind : int64_t { kPrepare = 1, kPromise, kPropose, kAccept, kRefuse, kDecided, kDone, kAsk };
constexpr Nanos kPoll = 20 * kMillisecond;

std::vector<int64_t> numbers_of(const Message& m) {
  std::vector<int64_t> numbers(m.body.size() / sizeof(int64_t));
  if (!numbers.empty()) std::memcpy(numbers.data(), m.body.data(), numbers.size() * sizeof(int64_t));
  return numbers;
}

}  // namespace

Membership::Membership(World& world, Liveness& liveness, std::vector<Rank> members, Nanos deadline)
    : world_(world), liveness_(liveness), deadline_(deadline), members_(std::move(members)) {}

Membership::~Membership() {
  if (finished_) world_.on(Tag::sync, {});
}

void Membership::restore(int64_t epoch, std::vector<Rank> members) {
  epoch_ = epoch;
  members_ = std::move(members);
  liveness_.enter(epoch);
}

void Membership::write(const Value& value, std::vector<int64_t>& numbers) {
  numbers.push_back(static_cast<int64_t>(value.members.size()));
  numbers.insert(numbers.end(), value.members.begin(), value.members.end());
  numbers.insert(numbers.end(), value.completed.begin(), value.completed.end());
  numbers.push_back(value.in_part);
}

bool Membership::read(const std::vector<int64_t>& numbers, size_t at, Value& value) const {
  if (at + 2 > numbers.size() || numbers[at] < 0) return false;
  const auto count = static_cast<size_t>(numbers[at]);
  if ((numbers.size() - at - 2) / 2 < count) return false;
  const auto begin = numbers.begin() + static_cast<std::ptrdiff_t>(at) + 1;
  const auto middle = begin + static_cast<std::ptrdiff_t>(count);
  value.members.assign(begin, middle);
  const auto end = middle + static_cast<std::ptrdiff_t>(count);
  value.completed.assign(middle, end);
  value.in_part = *end != 0;
  return std::all_of(value.members.begin(), value.members.end(),
                     [&](Rank r) { return std::find(members_.begin(), members_.end(), r) != members_.end(); });
}

void Membership::send(Rank to, int64_t kind, int64_t epoch, int64_t ballot, const std::vector<int64_t>& numbers) {
  Head head{.tag = Tag::sync};
  head.arg[0] = kind, head.arg[1] = epoch, head.arg[2] = ballot;
  world_.send(to, head, Payload::copy_of(ConstVecView(numbers)));
}

void Membership::take(Message message) {
  const int64_t kind = message.head.arg[0], epoch = message.head.arg[1];
  if (epoch >= epoch_) return waiting_.push_back(std::move(message));
  if (kind != kDecided && kind != kDone) tell(message.head.source, epoch);
}

void Membership::tell(Rank rank, int64_t epoch) {
  auto decided = decided_.find(epoch);
  if (decided == decided_.end()) return;
  std::vector<int64_t> numbers;
  write(decided->second, numbers);
  send(rank, kDecided, epoch, 0, numbers);
}

bool Membership::is_asked() {
  for (Received r; (r = world_.receive({.tag = Tag::sync}, 0)).ok();) take(std::move(r.message));
  return !waiting_.empty();
}

void Membership::finish() {
  finished_ = true;
  liveness_.idle();
  for (Rank r : members_)
    if (r != world_.rank()) send(r, kDone, epoch_, 0);
  for (const auto& [rank, epoch] : left_behind_) tell(rank, epoch);
  world_.on(Tag::sync, [this](const Message& m) {
    if (m.head.arg[0] == kDone) return;
    if (m.head.arg[1] < epoch_) return take(m);
    send(m.head.source, kDone, m.head.arg[1], 0);
  });
}

// One agreement, as seen by one member.
class Membership::Reform {
 public:
  Reform(Membership& owner, int64_t completed, bool finishing, const std::vector<Rank>& unreached)
      : m_(owner),
        world_(owner.world_),
        liveness_(owner.liveness_),
        members_(owner.members_),
        me_(world_.rank()),
        completed_(completed),
        finishing_(finishing),
        patience_(owner.deadline_),
        begin_(world_.now()) {
    own_.unreached.assign(unreached.begin(), unreached.end());
    liveness_.begin();
    liveness_.idle();
  }

  Result<Formed> run() {
    for (;;) {
      SINEW_RETURN_IF_ERROR(world_.health());
      // States first: what those that have left had sent is here then.
      liveness_.ask(members_, patience_ / 4);
      if (std::any_of(members_.begin(), members_.end(), [this](Rank r) { return is_busy(r); })) last_busy_ = elapsed();
      const Nanos left = 4 * patience_ - (elapsed() - last_busy_);
      const bool hopeless = left <= 0 || !may_return();
      (void)m_.is_asked();
      for (size_t n = m_.waiting_.size(); n > 0 && !decided_ && !over_; --n) {
        Message message = std::move(m_.waiting_.front());
        m_.waiting_.pop_front();
        if (message.head.arg[1] == m_.epoch_)
          handle(message);
        else
          m_.waiting_.push_back(std::move(message));
      }
      if (!decided_ && !over_) ask_those_ahead(), drive();
      if (decided_) return conclude();
      if (over_) {
        if (finishing_) return Formed{.over = true};
        return left_behind();
      }
      if (hopeless)
        return make_status(StatusCode::peer_lost, "rank ", me_, " hears from less than a majority of the ",
                           members_.size(), " workers; it ends, and the others go on if they are more");
      Received r = world_.receive({.tag = Tag::sync}, std::min(kPoll, left));
      if (r.ok()) m_.take(std::move(r.message));
    }
  }

 private:
  struct Promise {
    int64_t completed = 0, accepted_ballot = -1;
    Value accepted;
    std::vector<int64_t> unreached;
    bool reaches(Rank r) const { return std::find(unreached.begin(), unreached.end(), r) == unreached.end(); }
  };

  Nanos elapsed() const { return world_.now() - begin_; }
  bool lost(Rank r) const { return r != me_ && is_lost(world_.peer(r)); }
  bool is_busy(Rank r) const { return r != me_ && !lost(r) && liveness_.is_busy(r); }
  // Whether enough members are left that may answer.
  bool may_return() const {
    const auto gone = [&](Rank r) {
      const PeerState s = r == me_ ? PeerState::alive : world_.peer(r);
      return s == PeerState::gone || s == PeerState::left;
    };
    const auto count = std::count_if(members_.begin(), members_.end(), [&](Rank r) { return !gone(r); });
    return is_quorum(static_cast<size_t>(count), !gone(members_[0]));
  }
  bool is_quorum(size_t count, bool with_lowest) const {
    return 2 * count > members_.size() || (2 * count == members_.size() && with_lowest);
  }
  void send(Rank to, int64_t kind, int64_t ballot, const std::vector<int64_t>& numbers = {}) {
    m_.send(to, kind, m_.epoch_, ballot, numbers);
  }
  Status left_behind() const {
    return make_status(StatusCode::peer_lost, "rank ", me_,
                       " was silent or cut off, and the others went on without it");
  }

  // Who is in a later epoch knows how this one ended, and what it said of that may be lost.
  void ask_those_ahead() {
    if (asked_ >= 0 && elapsed() - asked_ < patience_ / 8) return;
    std::set<Rank> ahead;
    for (const Message& m : m_.waiting_)
      if (m.head.arg[1] > m_.epoch_) ahead.insert(m.head.source);
    for (Rank r : members_)
      if (liveness_.is_ahead(r)) ahead.insert(r);
    if (!ahead.empty()) asked_ = elapsed();
    for (Rank r : ahead) send(r, kAsk, 0);
  }

  // ---- as one of those that accept ----

  // Another one proposes. It may have to wait for those that are silent; one that only repeats itself hears nothing.
  void stop_proposing(int64_t ballot, bool proposed = false) {
    highest_ = std::max(highest_, ballot);
    proposing_ = false;
    const int64_t progress = 2 * ballot + proposed;
    if (progress > progress_) next_try_ = elapsed() + patience_ + patience_ / 4;
    progress_ = std::max(progress_, progress);
  }

  void handle(const Message& message) {
    const Rank from = message.head.source;
    if (std::find(members_.begin(), members_.end(), from) == members_.end()) return;
    const int64_t ballot = message.head.arg[2];
    const std::vector<int64_t> numbers = numbers_of(message);
    switch (static_cast<Kind>(message.head.arg[0])) {
      case kPrepare:
      case kPropose: {
        if (ballot < promised_) return send(from, kRefuse, promised_);
        stop_proposing(ballot, message.head.arg[0] == kPropose);
        promised_ = ballot;
        if (message.head.arg[0] == kPropose) {
          if (!m_.read(numbers, 0, own_.accepted)) return;
          own_.accepted_ballot = ballot;
          return send(from, kAccept, ballot);
        }
        std::vector<int64_t> answer{completed_, own_.accepted_ballot};
        write(own_.accepted, answer);
        answer.insert(answer.end(), own_.unreached.begin(), own_.unreached.end());
        return send(from, kPromise, ballot, answer);
      }
      case kPromise: {
        if (!proposing_ || proposed_ || ballot != ballot_ || numbers.size() < 4) return;
        Promise promise{numbers[0], numbers[1], {}, {}};
        if (!m_.read(numbers, 2, promise.accepted)) return;
        const size_t end = 4 + 2 * promise.accepted.members.size();
        promise.unreached.assign(numbers.begin() + static_cast<std::ptrdiff_t>(end), numbers.end());
        promises_[from] = promise;
        return;
      }
      case kAccept:
        if (proposing_ && proposed_ && ballot == ballot_) accepted_by_.insert(from);
        return;
      case kRefuse:
        if (ballot > ballot_) stop_proposing(ballot);
        return;
      case kDecided: {
        Value value;
        if (m_.read(numbers, 0, value)) decided_ = value;
        return;
      }
      case kDone:
        over_ = true;
        return;
      case kAsk:  // answered by who is in a later epoch
        return;
    }
  }

  // ---- as the one that proposes ----

  // The lowest that is not lost does so at once, the next one in case that nothing comes of it.
  void drive() {
    if (!proposing_) {
      int64_t place = 0, index = 0;
      for (; members_[static_cast<size_t>(index)] != me_; ++index) place += !lost(members_[static_cast<size_t>(index)]);
      if (elapsed() < next_try_ + place * patience_ / 2) return;
      const auto count = static_cast<int64_t>(members_.size());
      ballot_ = (std::max(highest_, promised_) / count + 1) * count + index;
      promised_ = ballot_;
      proposing_ = true, proposed_ = false;
      own_.completed = completed_;
      promises_ = {{me_, own_}};
      accepted_by_ = {me_};
      began_ = elapsed(), sent_ = -1;
    }
    if (!proposed_) {
      if (!is_quorum(promises_.size(), promises_.count(members_[0]) > 0)) return repeat();
      const bool in_time = elapsed() - began_ < patience_;
      if (std::any_of(members_.begin(), members_.end(),
                      [&](Rank r) { return promises_.count(r) == 0 && !lost(r) && (in_time || is_busy(r)); }))
        return repeat();
      // What was accepted before may have been decided; else those that promised are the next group.
      const Promise* latest = nullptr;
      for (const auto& [rank, p] : promises_)
        if (p.accepted_ballot >= 0 && (!latest || p.accepted_ballot > latest->accepted_ballot)) latest = &p;
      Value value = latest ? latest->accepted : Value{};
      if (!latest) {
        std::tie(value.members, value.in_part) = next_members();
        for (Rank r : value.members) value.completed.push_back(promises_.at(r).completed);
      }
      own_.accepted = value;
      own_.accepted_ballot = ballot_;
      proposed_ = true, sent_ = -1;
    }
    if (!is_quorum(accepted_by_.size(), accepted_by_.count(members_[0]) > 0)) return repeat();
    decided_ = own_.accepted;
    std::vector<int64_t> numbers;
    write(*decided_, numbers);
    for (Rank r : members_)
      if (r != me_) send(r, kDecided, 0, numbers);
  }

  // Of those that promised, those that reach each other; or all, when these are too few.
  std::pair<std::vector<Rank>, bool> next_members() const {
    std::vector<Rank> all, group;
    for (const auto& [rank, p] : promises_) all.push_back(rank);
    group = all;
    for (;;) {
      std::ptrdiff_t most = 0, worst = 0;
      for (size_t i = 0; i < group.size(); ++i) {
        const Promise& own = promises_.at(group[i]);
        const auto cut_off = std::count_if(group.begin(), group.end(), [&](Rank r) {
          return r != group[i] && !(own.reaches(r) && promises_.at(r).reaches(group[i]));
        });
        if (cut_off > 0 && cut_off >= most) most = cut_off, worst = static_cast<std::ptrdiff_t>(i);
      }
      if (most == 0) break;
      group.erase(group.begin() + worst);
    }
    const bool with_lowest = !group.empty() && group[0] == members_[0];
    if (is_quorum(group.size(), with_lowest)) return {group, false};
    return {all, true};
  }

  // Asks those that have not answered, now and then.
  void repeat() {
    if (sent_ >= 0 && elapsed() - sent_ < patience_ / 8) return;
    sent_ = elapsed();
    std::vector<int64_t> numbers;
    if (proposed_) write(own_.accepted, numbers);
    for (Rank r : members_)
      if (r != me_ && !lost(r) && (proposed_ ? accepted_by_.count(r) : promises_.count(r)) == 0)
        send(r, proposed_ ? kPropose : kPrepare, ballot_, numbers);
  }

  Result<Formed> conclude() {
    const Value& value = *decided_;
    m_.decided_[m_.epoch_++] = value;
    m_.members_ = value.members;
    liveness_.enter(m_.epoch_);
    std::erase_if(m_.waiting_, [&](const Message& m) { return m.head.arg[1] < m_.epoch_; });
    const auto stays = [&](Rank r) {
      return std::find(value.members.begin(), value.members.end(), r) != value.members.end();
    };
    if (!stays(me_)) return left_behind();
    for (Rank r : members_) {
      if (stays(r)) continue;
      m_.left_behind_.emplace_back(r, m_.epoch_ - 1);
      m_.tell(r, m_.epoch_ - 1);
    }
    Formed formed;
    formed.in_part = value.in_part;
    formed.completed = *std::max_element(value.completed.begin(), value.completed.end());
    for (size_t i = 0; i < value.members.size(); ++i) {
      if (value.completed[i] < formed.completed)
        formed.behind.push_back(value.members[i]);
      else if (formed.holder == kAnyRank)
        formed.holder = value.members[i];
    }
    return formed;
  }

  Membership& m_;
  World& world_;
  Liveness& liveness_;
  const std::vector<Rank> members_;
  const Rank me_;
  const int64_t completed_;
  const bool finishing_;
  const Nanos patience_;
  const Nanos begin_;
  Nanos last_busy_ = 0;  // when it was last known that a member is
  Nanos asked_ = -1;     // those ahead
  int64_t promised_ = -1, highest_ = -1, progress_ = -1;
  Promise own_;
  std::optional<Value> decided_;
  bool over_ = false;

  bool proposing_ = false, proposed_ = false;
  int64_t ballot_ = -1;
  std::map<Rank, Promise> promises_;
  std::set<Rank> accepted_by_;
  Nanos next_try_ = 0, began_ = 0, sent_ = -1;
};

Result<Membership::Formed> Membership::reform(int64_t completed, bool finishing, const std::vector<Rank>& unreached) {
  Result<Formed> formed = Reform(*this, completed, finishing, unreached).run();
  liveness_.renew();
  return formed;
}

}  // namespace sinew::dist
