#include "dist/exchange.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace sinew::dist {
namespace {

// Steps after which an open exchange is asked for again; doubled each time, up to a limit: who was silent or cut off
// must be found again.
constexpr int64_t kFirstRepeat = 8, kLongestRepeat = 16, kOverdue = 128;

// The value of a no from who makes no more exchanges.
constexpr double kDone = -2;

int64_t bits(double value) { return std::bit_cast<int64_t>(value); }

}  // namespace

double Exchange::value_of(const Message& request) { return std::bit_cast<double>(request.head.arg[3]); }

Exchange::Exchange(World& world, int workers, Nanos deadline, DType dtype, Packing packing)
    : world_(world),
      workers_(workers),
      deadline_(deadline),
      dtype_(dtype),
      packing_(packing),
      lost_(static_cast<size_t>(workers)),
      done_(lost_),
      silent_(lost_),
      answer_time_(deadline / 4, deadline) {}

Exchange::~Exchange() {
  if (!listening_) return;
  for (Tag tag : {Tag::gossip_request, Tag::gossip_reply, Tag::gossip_ack}) world_.on(tag, {});
}

void Exchange::listen(Decide decide) {
  decide_ = std::move(decide);
  listening_ = true;
  world_.on(Tag::gossip_request, [this](const Message& m) { on_request(unpacked(m, dtype_)); });
  world_.on(Tag::gossip_reply, [this](const Message& m) { on_reply(unpacked(m, dtype_)); });
  world_.on(Tag::gossip_ack, [this](const Message& m) { on_ack(m); });
}

// ---- the passive end ----

// What a life left unconfirmed is lost with it.
void Exchange::forget(Book& book) {
  for (const auto& [number, decision] : book.decided) lost_count_ += decision.unconfirmed;
  book.decided.clear();
}

void Exchange::on_request(const Message& m) {
  if (m.head.source < 0 || m.head.source >= workers_) return;
  silent_[static_cast<size_t>(m.head.source)] = 0;
  Book& book = books_[m.head.source];
  if (m.head.incarnation < book.incarnation) return;
  if (m.head.incarnation > book.incarnation) {
    forget(book);
    book = {.incarnation = m.head.incarnation};
    done_[static_cast<size_t>(m.head.source)] = 0;
  }
  const int64_t number = m.head.arg[0], lowest = m.head.arg[2] >> 1;
  book.lowest = std::max(book.lowest, lowest);
  book.decided.erase(book.decided.begin(), book.decided.lower_bound(book.lowest));
  if (number < book.lowest) return;
  if (auto found = book.decided.find(number); found != book.decided.end()) {
    ++resent_;
    return reply(m, found->second);
  }
  std::erase_if(held_, [&](const Message& h) {
    return h.head.source == m.head.source && (h.head.incarnation != m.head.incarnation || h.head.arg[0] == number);
  });
  decide(book, m);
}

void Exchange::decide(Book& book, const Message& m) {
  Answer answer;
  if (closed_)
    answer.value = kDone;
  else if (!(m.head.arg[2] & 1))
    answer = decide_(m);
  if (answer.what == Answer::What::later) return held_.push_back(m);
  Decision& decision = book.decided[m.head.arg[0]];
  const bool yes = answer.what == Answer::What::yes;
  decision = {yes, yes, answer.value, std::move(answer.body)};
  reply(m, decision);
  notify();
}

void Exchange::reconsider() {
  for (Message& m : std::exchange(held_, {}))
    if (Book& book = books_[m.head.source]; book.incarnation == m.head.incarnation) decide(book, m);
}

void Exchange::reply(const Message& to, const Decision& decision) {
  send_reply(to.head.source, to.head.arg[0], decision);
}

void Exchange::send_reply(Rank to, int64_t number, const Decision& decision) {
  send_packed(world_, to, make_head(Tag::gossip_reply, number, decision.yes, bits(decision.value)), decision.body,
              packing_, dtype_);
}

void Exchange::on_ack(const Message& m) {
  auto found = books_.find(m.head.source);
  if (found == books_.end() || found->second.incarnation != m.head.incarnation) return;
  Book& book = found->second;
  book.lowest = std::max(book.lowest, m.head.arg[1]);
  book.decided.erase(book.decided.begin(), book.decided.lower_bound(book.lowest));
  if (auto decision = book.decided.find(m.head.arg[0]); decision != book.decided.end()) {
    decision->second.body = {};
    decision->second.unconfirmed = false;
  }
  notify();
}

std::vector<Rank> Exchange::unconfirmed() const {
  std::vector<Rank> peers;
  for (const auto& [rank, book] : books_)
    if (std::any_of(book.decided.begin(), book.decided.end(), [](const auto& d) { return d.second.unconfirmed; }))
      peers.push_back(rank);
  return peers;
}

// ---- the active end ----

void Exchange::send_request(int64_t number, const Open& open) {
  send_packed(world_, open.peer,
              make_head(Tag::gossip_request, number, open.round, 2 * lowest() + open.given_up, bits(open.value)),
              open.given_up ? Payload() : open.body, packing_, dtype_);
}

void Exchange::send_ack(Rank peer, int64_t number) { world_.send(peer, make_head(Tag::gossip_ack, number, lowest())); }

int64_t Exchange::ask(Rank peer, int64_t round, double value, Payload body) {
  int64_t number = 0;
  ++outstanding_;
  world_.publish([&] {
    number = next_++;
    lost_[static_cast<size_t>(peer)] = 0;
    Open& open = open_[number];
    open = {.peer = peer,
            .round = round,
            .value = value,
            .body = std::move(body),
            .due = kFirstRepeat,
            .asked_at = world_.now()};
    send_request(number, open);
  });
  return number;
}

void Exchange::on_reply(const Message& m) {
  auto found = open_.find(m.head.arg[0]);
  if (found == open_.end() || found->second.peer != m.head.source) {
    if (m.head.arg[1]) send_ack(m.head.source, m.head.arg[0]);
    return;
  }
  Open& open = found->second;
  if (const auto value = std::bit_cast<double>(m.head.arg[2]); value > largest_answer_) largest_answer_ = value;
  answer_time_.observe(std::min(world_.now() - open.asked_at, answer_time_.value()));
  if (!m.head.arg[1] && m.head.arg[2] == bits(kDone)) done_[static_cast<size_t>(open.peer)] = 1;
  settled_.push_back({.number = found->first,
                      .round = open.round,
                      .peer = open.peer,
                      .what = m.head.arg[1] ? Outcome::What::yes : Outcome::What::no,
                      .asked = open.value,
                      .value = std::bit_cast<double>(m.head.arg[2]),
                      .sent = std::move(open.body),
                      .body = m.body});
  open_.erase(found);
  if (m.head.arg[1]) send_ack(m.head.source, m.head.arg[0]);
  notify();
}

bool Exchange::pending(int64_t number) const {
  auto found = open_.find(number);
  return found != open_.end() && !lost_[static_cast<size_t>(found->second.peer)] &&
         !silent_[static_cast<size_t>(found->second.peer)];
}

void Exchange::miss(const std::vector<int64_t>& numbers) {
  for (int64_t number : numbers)
    if (pending(number)) miss(open_.at(number).peer);
}

bool Exchange::silent(Rank peer) const {
  bool silent = false;
  world_.publish([&] { silent = silent_[static_cast<size_t>(peer)]; });
  return silent;
}

std::vector<Rank> Exchange::owing(int64_t before) const {
  std::vector<Rank> peers;
  for (const auto& [number, open] : open_)
    if (open.round < before && !lost(open.peer)) peers.push_back(open.peer);
  return peers;
}

bool Exchange::has_open(Rank peer) const { return oldest_age(peer) >= 0; }
bool Exchange::overdue(Rank peer) const { return oldest_age(peer) >= kOverdue; }

int64_t Exchange::oldest_age(Rank peer) const {
  int64_t age = -1;
  if (outstanding_ == 0) return age;
  world_.publish([&] {
    const auto oldest = std::find_if(open_.begin(), open_.end(), [&](const auto& o) { return o.second.peer == peer; });
    if (oldest != open_.end()) age = oldest->second.age;
  });
  return age;
}

bool Exchange::done(Rank peer) const {
  bool done = false;
  world_.publish([&] { done = done_[static_cast<size_t>(peer)]; });
  return done;
}

std::vector<Exchange::Outcome> Exchange::collect() {
  std::vector<Outcome> outcomes;
  if (outstanding_ == 0) return outcomes;
  world_.publish([&] { outcomes.swap(settled_); });
  outstanding_ -= static_cast<int64_t>(outcomes.size());
  std::sort(outcomes.begin(), outcomes.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
  return outcomes;
}

void Exchange::give_up(int64_t number) {
  world_.publish([&] {
    if (auto found = open_.find(number); found != open_.end()) found->second.given_up = true;
  });
}

void Exchange::nudge() {
  if (outstanding_ == 0) return;
  bool due = false;
  world_.publish([&] {
    std::vector<char> is_overdue(static_cast<size_t>(workers_));
    for (auto& [number, open] : open_) {
      ++open.age;
      char& waits = is_overdue[static_cast<size_t>(open.peer)];
      if (waits) continue;
      waits = open.age >= kOverdue;
      if (open.age < open.due) continue;
      open.due = open.age + std::min(open.due, kLongestRepeat);
      due = true;
      ++resent_;
      send_request(number, open);
    }
  });
  if (due) look({});
}

// ---- waiting ----

void Exchange::notify() {
  if (!std::exchange(waiting_, false)) return;
  world_.send(world_.rank(), Head{.tag = Tag::gossip_wake});
}

// Learns who is lost, and settles what is open with those that will not answer.
void Exchange::look(const std::vector<Rank>& more) {
  std::vector<Rank> peers = more;
  world_.publish([&] {
    for (const auto& [number, open] : open_) peers.push_back(open.peer);
    for (Rank r : unconfirmed()) peers.push_back(r);
  });
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  std::vector<PeerState> states;
  for (Rank r : peers) states.push_back(world_.peer(r));
  world_.publish([&] {
    for (size_t i = 0; i < peers.size(); ++i) {
      const Rank r = peers[i];
      lost_[static_cast<size_t>(r)] = is_lost(states[i]);
      if (states[i] != PeerState::gone && states[i] != PeerState::left) continue;
      // One that has left had settled its exchanges; one that died has taken them along.
      const bool gone = states[i] == PeerState::gone;
      for (auto at = open_.begin(); at != open_.end();) {
        if (at->second.peer != r) {
          ++at;
          continue;
        }
        settled_.push_back({.number = at->first,
                            .round = at->second.round,
                            .peer = r,
                            .what = gone ? Outcome::What::lost : Outcome::What::no,
                            .asked = at->second.value,
                            .sent = std::move(at->second.body)});
        lost_count_ += gone;
        at = open_.erase(at);
      }
      if (auto book = books_.find(r); book != books_.end()) {
        if (gone) forget(book->second);
        book->second.decided.clear();
      }
    }
  });
}

void Exchange::repeat() {
  world_.publish([&] {
    for (const auto& [number, open] : open_) {
      ++resent_;
      send_request(number, open);
    }
    if (!closed_) return;  // until then the active end asks when it misses an answer
    for (const auto& [rank, book] : books_)
      for (const auto& [number, decision] : book.decided)
        if (decision.unconfirmed) {
          ++resent_;
          send_reply(rank, number, decision);
        }
  });
}

bool Exchange::wait(const Deadline& deadline, const std::vector<Rank>& peers, const std::function<bool()>& ready) {
  bool done = false;
  const int64_t stops = world_.stops();
  auto check = [&] {
    world_.publish([&] {
      done = ready();
      waiting_ = !done;
    });
    return done;
  };
  world_.publish([&] {
    for (Rank r : peers) lost_[static_cast<size_t>(r)] = 0;  // who was lost may be back
  });
  if (check()) return true;
  look(peers);
  // What comes from others in the meantime is no reason not to look.
  for (Nanos look_at = world_.now() + kLook, repeat_at = world_.now() + deadline_ / 8; !check();) {
    const Nanos left = deadline.left();
    const Nanos slice = std::min(left, std::max<Nanos>(std::min(look_at, repeat_at) - world_.now(), 1));
    if (left == 0 || !world_.receive({.tag = Tag::gossip_wake}, slice).ok()) {
      bool on_its_way = false;
      world_.publish([&] { on_its_way = !std::exchange(waiting_, false); });
      if (on_its_way) {
        (void)world_.receive({.tag = Tag::gossip_wake}, kSecond).ok();
        continue;
      }
      if (left == 0) {
        was_stopped_ = world_.stops() != stops;
        return false;
      }
    }
    if (world_.now() >= look_at) {
      look_at = world_.now() + kLook;
      look(peers);
      if (idle_) idle_();
    }
    if (world_.now() < repeat_at) continue;
    repeat_at = world_.now() + deadline_ / 8;
    repeat();
  }
  return true;
}

void Exchange::wait_for_answer(int64_t number) {
  Nanos limit = 0;
  world_.publish([&] { limit = answer_time_.value(); });
  wait(Deadline(world_, limit), {}, [&] { return !pending(number); });
}

void Exchange::finish() {
  const Deadline deadline(world_, deadline_);
  world_.publish([&] {
    closed_ = true;
    reconsider();
    for (auto& [number, open] : open_) open.given_up = true;
  });
  look({});
  wait(deadline, {}, [&] {
    return std::all_of(open_.begin(), open_.end(),
                       [&](const auto& o) { return lost_[static_cast<size_t>(o.second.peer)] != 0; });
  });
  wait(deadline, {}, [&] {
    const std::vector<Rank> waiting = unconfirmed();
    return std::all_of(waiting.begin(), waiting.end(), [&](Rank r) { return lost_[static_cast<size_t>(r)]; });
  });
  world_.publish([&] {
    for (auto& [number, open] : open_)
      settled_.push_back({.number = number,
                          .round = open.round,
                          .peer = open.peer,
                          .what = Outcome::What::lost,
                          .asked = open.value,
                          .sent = std::move(open.body)});
    lost_count_ += static_cast<int64_t>(open_.size());
    open_.clear();
  });
}

// ---- counters ----

int64_t Exchange::resent() const {
  int64_t n = 0;
  world_.publish([&] { n = resent_; });
  return n;
}

int64_t Exchange::lost_count() const {
  int64_t n = 0;
  world_.publish([&] {
    n = lost_count_;
    if (!closed_) return;
    for (const auto& [rank, book] : books_)  // nobody will wait for these
      for (const auto& [number, decision] : book.decided) n += decision.unconfirmed;
  });
  return n;
}

}  // namespace sinew::dist
