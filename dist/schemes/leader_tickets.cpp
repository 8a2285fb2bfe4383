#include "dist/schemes/leader_tickets.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <utility>

#include "dist/schemes/leader.h"
#include "dist/schemes/state.h"

namespace sinew::dist {

void HeldTickets::begin_round(int64_t tickets) {
  if (prompt_ > 0) ahead_ /= 2;
  had_ = std::clamp<int64_t>(tickets, 0, budget_);
  asked_ = answered_ = prompt_ = spent_ = 0;
}

void HeldTickets::take(int64_t tickets, bool spent, int64_t steps) {
  had_ = std::max(had_, std::min(tickets, budget_));
  spent_ = spent;
  answered_ = std::max(answered_, steps);
}

void HeldTickets::look_back(int64_t most) {
  ahead_ = std::min(ahead_, most);
  if (asked_ == 0) return;
  prompt_ = prompt_ >= 0 && answered_ >= asked_ ? 1 : -1;
  asked_ = 0;
}

void HeldTickets::ask_more(int64_t missing, int64_t most) {
  ahead_ = std::min({2 * ahead_ + 1, ahead_ + missing, most, most_ahead_});
  prompt_ = -1;
}

void HeldTickets::ask(Head& head, int64_t steps) {
  had_ = std::max(had_, steps);
  asked_ = had_ > steps ? steps : 0;
  head.arg[1] = steps, head.arg[2] = 2 * had_, head.arg[3] = ahead_;
}

void HeldTickets::save(SchemeState& state) const {
  for (auto [name, value] : {std::pair{"held.had", had_},
                             {"held.ahead", ahead_},
                             {"held.asked", asked_},
                             {"held.answered", answered_},
                             {"held.prompt", prompt_},
                             {"held.spent", spent_}})
    state.numbers[name] = value;
}

Status HeldTickets::load(const SchemeState& state) {
  SINEW_RETURN_IF_ERROR(load_numbers(state, {{"held.had", &had_},
                                             {"held.ahead", &ahead_},
                                             {"held.asked", &asked_},
                                             {"held.answered", &answered_},
                                             {"held.prompt", &prompt_},
                                             {"held.spent", &spent_}}));
  ahead_ = std::clamp<int64_t>(ahead_, 0, most_ahead_);
  return Status::Ok();
}

TicketServer::TicketServer(World& world, const SchemeOptions& options, int64_t ratio, Nanos repeat)
    : world_(world),
      period_(options.period),
      ratio_(ratio),
      patience_(
          std::max<int64_t>((options.deadline / 4 + repeat - 1) / repeat - 1, 1)),  // the first follows one silence
      workers_(static_cast<size_t>(options.workers)) {
  members_ = tickets_ = known_ = options.workers;
}

TicketServer::~TicketServer() {
  if (!listening_) return;
  for (Tag tag : {Tag::leader_ask, Tag::leader_join, Tag::leader_probe}) world_.on(tag, {});
}

void TicketServer::listen() {
  listening_ = true;
  world_.on(Tag::leader_ask, [this](const Message& m) { on_ask(m); });
  world_.on(Tag::leader_join, [this](const Message& m) { on_join(m); });
  world_.on(Tag::leader_probe, [this](const Message& m) { on_probe(m); });
}

void TicketServer::answer(Rank to, uint64_t request, Ticket what, int64_t round, int64_t local, int64_t global) const {
  Head head{.tag = Tag::leader_answer, .is_reply = request != 0, .request = request};
  head.arg[0] = static_cast<int64_t>(what) + 8 * workers_[static_cast<size_t>(to)].tickets;
  head.arg[1] = round, head.arg[2] = local, head.arg[3] = global;
  world_.send(to, head);
}

void TicketServer::look() {
  members_ = tickets_ = known_ = since_look_ = 0;
  for (size_t r = 0; r < workers_.size(); ++r) {
    Worker& w = workers_[r];
    if (w.done) continue;
    const PeerState state = world_.peer(static_cast<Rank>(r));
    known_ += state != PeerState::gone && state != PeerState::left;
    if (w.absent) continue;
    if (is_lost(state)) {
      w.absent = 1, w.joined = 0;  // until it asks again
      continue;
    }
    ++members_;
    tickets_ += w.tickets;
  }
}

void TicketServer::come_to(int64_t round) {
  if (round <= round_) return;
  round_ = round;
  for (Worker& w : workers_) w.tickets = 1, w.joined = w.had = 0;
  last_global_ = last_best_ = -1;
  look();
}

void TicketServer::behind(const Message& m, Worker& worker) {
  worker.absent = 1;
  worker.joined = worker.done = 0;
  answer(m.head.source, m.head.request, Ticket::behind, round_, last_best_);
  look();
  decide();
}

bool TicketServer::is_old(Worker& w, const Message& m) {
  const auto number = static_cast<int64_t>(m.head.request);
  if (number == 0) return false;
  const int64_t newest = std::exchange(w.newest, std::max(w.newest, number));
  return number < newest;
}

void TicketServer::on_ask(const Message& m) {
  const Rank from = m.head.source;
  if (from < 0 || from >= static_cast<Rank>(workers_.size())) return;
  Worker& w = workers_[static_cast<size_t>(from)];
  const int64_t round = m.head.arg[0], steps = m.head.arg[1], budget = period_ * static_cast<int64_t>(workers_.size());
  const int64_t had = std::min(m.head.arg[2] / 2, std::max(budget, steps));
  const bool holds = m.head.request == 0;
  if (is_old(w, m)) return;
  come_to(round);
  if (m.head.arg[2] & 1) {
    w.done = 1, w.joined = 0, w.loss = m.head.arg[3], w.group = m.head.arg[2] >> 1;
    answer(from, m.head.request, Ticket::go, round_);
    look();
    return decide();
  }
  if (holds && (round < round_ || w.joined || w.done)) return;  // it is late
  if (round < round_) return behind(m, w);
  comes_back(from);
  const bool returns = w.absent || w.done;
  w.absent = w.done = w.joined = 0;
  if (returns || ++since_look_ >= static_cast<int64_t>(workers_.size())) look();
  if (had > w.tickets) tickets_ += had - w.tickets, w.tickets = had;
  w.ahead = std::clamp<int64_t>(m.head.arg[3], 0, period_ - 1);
  give(w, steps);
  answer(from, m.head.request, w.tickets <= had && spent() ? Ticket::round : Ticket::go, round_, holds ? steps : -1);
}

void TicketServer::give(Worker& w, int64_t steps) {
  const int64_t left = std::max<int64_t>(period_ * members_ - tickets_, 0), members = std::max<int64_t>(members_, 1);
  const int64_t wanted = std::max(steps + 1, std::min(steps + 1 + w.ahead, period_));
  const int64_t given = std::clamp<int64_t>(wanted - w.tickets, 0, (left + members - 1) / members);
  w.tickets += given, tickets_ += given;
}

void TicketServer::on_join(const Message& m) {
  const Rank from = m.head.source;
  if (from < 0 || from >= static_cast<Rank>(workers_.size())) return;
  Worker& w = workers_[static_cast<size_t>(from)];
  const int64_t round = m.head.arg[0], steps = m.head.arg[1];
  if (is_old(w, m)) return;
  come_to(round);
  if (round == round_ - 1 && w.had) return answer(from, m.head.request, Ticket::decided, round, w.local, last_global_);
  if (round < round_) return behind(m, w);
  const bool again = w.joined && w.request == static_cast<int64_t>(m.head.request);
  comes_back(from);
  w.absent = w.done = 0;
  w.tickets = std::max(w.tickets, steps);
  look();
  if (!spent() || w.tickets > steps) {  // somebody's tickets have become free, or it did not hear of its own
    w.joined = 0;
    give(w, steps);
    return answer(from, m.head.request, Ticket::go, round_);
  }
  w.joined = 1, w.request = static_cast<int64_t>(m.head.request);
  w.loss = m.head.arg[2], w.group = m.head.arg[3] >> 1;
  if (m.head.arg[3] & 1) {
    for (Worker& other : workers_)
      if (!other.joined && !other.done) other.absent = 1;
    look();
  }
  decide();
  if (again && w.joined) probe_others(from);
  if (again && w.joined) answer(from, m.head.request, Ticket::wait, round_);
}

void TicketServer::on_probe(const Message& m) {
  if (m.head.source < 0 || m.head.source >= static_cast<Rank>(workers_.size())) return;
  if (m.head.arg[0] == 0) return world_.send(m.head.source, make_head(Tag::leader_probe, 1, m.head.arg[1]));
  if (m.head.arg[0] == 2) return suspect(m.head.arg[1]);
  Worker& w = workers_[static_cast<size_t>(m.head.source)];
  const int64_t number = m.head.arg[1];
  if (number <= w.heard || number > w.probed) return;
  w.heard = number;
  // How long one that was given up was away says nothing.
  if (!w.absent) w.longest = std::clamp(w.probed - number + 1, w.longest - 1, patience_);
}

void TicketServer::suspect(int64_t rank) {
  if (rank < 0 || rank >= static_cast<int64_t>(workers_.size()) || rank == world_.rank()) return;
  Worker& w = workers_[static_cast<size_t>(rank)];
  if (w.doubted <= w.heard) w.doubted = w.probed + 1;
  probe(static_cast<Rank>(rank));
}

void TicketServer::comes_back(Rank rank) {
  Worker& w = workers_[static_cast<size_t>(rank)];
  if (!w.absent || w.probed == w.heard) return;
  w.heard = w.probed;
  suspect(rank);
}

bool TicketServer::is_overdue(const Worker& w) const {
  const bool doubted = w.doubted > w.heard && w.probed - w.doubted >= std::max<int64_t>(w.longest, 1);
  return doubted || w.probed - w.heard >= std::max(patience_, std::min(3 * w.longest, 2 * patience_));
}

void TicketServer::probe(Rank rank) {
  world_.send(rank, make_head(Tag::leader_probe, 0, ++workers_[static_cast<size_t>(rank)].probed));
}

void TicketServer::probe_others(Rank waiting) {
  for (Rank r = 0; r < waiting; ++r)
    if (workers_[static_cast<size_t>(r)].joined) return;  // the lowest of those that wait sets the pace
  bool lost = false;
  for (Rank r = 0; r < static_cast<Rank>(workers_.size()); ++r) {
    Worker& w = workers_[static_cast<size_t>(r)];
    if (w.joined || w.done || w.absent || r == world_.rank()) continue;
    if (is_overdue(w))
      w.absent = 1, lost = true;
    else
      probe(r);
  }
  if (!lost) return;
  look();
  decide();
}

void TicketServer::decide() {
  bool any = false;
  for (const Worker& w : workers_) {
    if (w.done || w.absent) continue;
    if (!w.joined) return;
    any = true;
  }
  if (!any) return;
  if (2 * members_ < known_) {
    for (size_t r = 0; r < workers_.size(); ++r) {
      Worker& w = workers_[r];
      if (!std::exchange(w.joined, 0)) continue;
      ++w.tickets, ++tickets_;
      answer(static_cast<Rank>(r), static_cast<uint64_t>(w.request), Ticket::alone, round_);
    }
    return;
  }
  // Who stays where it is leads the others, who could not draw it after them, once it is as many as they are.
  const auto stays = [&](size_t r) {
    const Worker& w = workers_[r];
    return w.done && std::isfinite(std::bit_cast<double>(w.loss)) && !is_lost(world_.peer(static_cast<Rank>(r)));
  };
  int64_t staying = 0;
  for (size_t r = 0; r < workers_.size(); ++r) staying += stays(r);
  struct Candidates {
    std::vector<Rank> ranks;
    std::vector<double> losses;
    bool stay = false;
    void add(Rank rank, const Worker& w) {
      if (w.done && !stay) *this = {.stay = true};
      if (!w.done && stay) return;
      ranks.push_back(rank);
      losses.push_back(std::bit_cast<double>(w.loss));
    }
    int64_t leader() const {
      const int at = elect(losses);
      return at < 0 ? -1 : ranks[static_cast<size_t>(at)];
    }
  };
  std::map<int64_t, Candidates> groups;
  Candidates all;
  for (size_t r = 0; r < workers_.size(); ++r) {
    const Worker& w = workers_[r];
    if (!w.joined && !(staying >= members_ && stays(r))) continue;
    groups[w.group].add(static_cast<Rank>(r), w);
    all.add(static_cast<Rank>(r), w);
  }
  last_best_ = all.leader();
  last_global_ = groups.size() > 1 && (round_ + 1) % ratio_ == 0 ? last_best_ : -1;
  for (size_t r = 0; r < workers_.size(); ++r) {
    Worker& w = workers_[r];
    w.had = std::exchange(w.joined, 0);
    w.tickets = w.had ? 1 + w.ahead : 1;
    if (!w.had) continue;
    w.local = groups[w.group].leader();
    answer(static_cast<Rank>(r), static_cast<uint64_t>(w.request), Ticket::decided, round_, w.local, last_global_);
  }
  ++round_;
  look();
}

void TicketServer::save(SchemeState& state) const {
  world_.publish([&] {
    std::vector<int64_t> fields;
    for (const Worker& w : workers_)
      fields.insert(fields.end(), {w.tickets, w.ahead, w.joined, w.absent, w.done, w.group, w.request, w.loss, w.newest,
                                   w.had, w.local, w.probed, w.heard, w.longest, w.doubted});
    state.vectors["tickets"] = Vec::copy_of(ConstVecView(fields));
    for (auto [name, value] : {std::pair{"tickets.round", round_},
                               {"tickets.members", members_},
                               {"tickets.given", tickets_},
                               {"tickets.known", known_},
                               {"tickets.since_look", since_look_},
                               {"tickets.global", last_global_},
                               {"tickets.best", last_best_}})
      state.numbers[name] = value;
  });
}

Status TicketServer::load(const SchemeState& state) {
  auto found = state.vectors.find("tickets");
  const auto size = static_cast<int64_t>(workers_.size()) * kFields;
  if (found == state.vectors.end() || found->second.size() != size || found->second.dtype() != DType::i64)
    return make_status(StatusCode::data_error, "the saved scheme has no tickets of ", workers_.size(), " workers");
  std::vector<int64_t> fields(static_cast<size_t>(size));
  download(found->second.view(), fields.data());
  const int64_t* v = fields.data();
  for (Worker& w : workers_)
    for (int64_t* field : {&w.tickets, &w.ahead, &w.joined, &w.absent, &w.done, &w.group, &w.request, &w.loss,
                           &w.newest, &w.had, &w.local, &w.probed, &w.heard, &w.longest, &w.doubted})
      *field = *v++;
  return load_numbers(state, {{"tickets.round", &round_},
                              {"tickets.members", &members_},
                              {"tickets.given", &tickets_},
                              {"tickets.known", &known_},
                              {"tickets.since_look", &since_look_},
                              {"tickets.global", &last_global_},
                              {"tickets.best", &last_best_}});
}

}  // namespace sinew::dist
