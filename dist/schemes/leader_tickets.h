// The ticket server of asynchronous LSGD: between two rounds the workers together take `period` steps for each of them,
// however unevenly. Every worker runs one; the one that counts is that of the lowest rank that lives. Handlers only.
//
// A round begins with one ticket for each worker, and those that it asks for ahead of the steps that need them:
// enough to go on while an answer is on its way, at most up to its even share of the round (`period`): what it takes
// beyond that it asks for when it holds none, as the others do. Who has finished a step asks for the next ticket,
// and those ahead, with the number of tickets it has had in the round, so a server that takes over learns from the
// questions what the former one knew; until all have asked it may give out more than the budget. No answer gives
// more than an even share of what is left (guided self-scheduling, Polychronopoulos and Kuck 1987). Answers name the
// number of tickets given in the round so far: one that is lost, late or doubled changes nothing. When the budget is
// spent, workers use up what they hold and join the round with their losses. It is decided when all that take part
// have joined: whoever died, is done, or was given up takes no part, and its tickets leave the budget. Who is done
// and lives leads those that go on, once they are no more: they could not draw it after them. While joined workers
// wait, the server asks the others whether they are there: their handlers answer, however long their steps take. Who
// does not for a quarter of the deadline, or half of it when its answers were slow lately, is given up: messages to
// it or from it are lost. A joined worker that has waited for long asks to decide without the others (`force`). Who
// missed a round learns so by its next question: it is `behind`, takes part again from that on, and counts as having
// used up its share of the running round. Fewer than half of those that are not gone for good hold no rounds: who is
// cut off with few others goes on training, and when they meet again it is behind, not the many.
//
// Messages (arguments in Head::arg)
//   leader_ask     request  round, steps in it, 2 * tickets had in it, tickets wanted ahead; from who is done: round,
//                           steps, 1 + 2 * group, bits of its last loss. From who still holds tickets: one way
//   leader_join    request  round, steps in it, bits of the loss, 2 * group + force
//   leader_answer  reply    Ticket + 8 * tickets given in the round, round, leader of the group, leader of all (-1: no
//                           leader). One way to what came so: instead of a leader its steps
//   leader_probe   one way  0: are you there, 1: I am; number. 2: that worker does not answer; rank
//
// Thread safety: the handlers', and for save and load the training thread's.
#pragma once

#include <algorithm>
#include <vector>

#include "dist/scheme.h"

namespace sinew::dist {

enum class Ticket : int64_t {
  go = 0,       // take one more step
  round = 1,    // join the round
  behind = 2,   // the group is at this round; its last leader
  decided = 3,  // this round's leaders
  wait = 4,     // the others have not joined yet; to a question that was repeated
  alone = 5,    // go, but too few are here for a round
};

// The worker's side: its tickets of a round, and how many it asks for ahead. None, until an answer takes longer than
// half a step: each one that does adds as many as it was short of, up to twice as many. A round in which every answer
// came within a step halves them. They are never more than last for an eighth of the deadline: the others wait for a
// slow worker until it has used up what it holds.
class HeldTickets {
 public:
  HeldTickets(int64_t period, int workers) : most_ahead_(period - 1), budget_(period * workers) {}

  void begin_round(int64_t tickets);
  // An answer in the round: that many were given in it so far. steps: those after which it was asked ahead; or -1.
  void take(int64_t tickets, bool spent, int64_t steps);
  // After a step: whether the answer to what was asked ahead after the step before has come. most: steps that may be
  // held.
  void look_back(int64_t most);
  // There was none for the next step, and the answer took longer than half a step: `missing` steps, rounded up.
  void ask_more(int64_t missing, int64_t most);
  // Another server does not know how far the round is.
  void forget_spent() { spent_ = 0; }

  int64_t had() const { return had_; }
  int64_t ahead() const { return ahead_; }
  bool spent() const { return spent_; }
  // The fields of a question after `steps` steps of the round.
  void ask(Head& head, int64_t steps);
  bool wants(int64_t steps) const { return !spent_ && had_ <= steps + ahead_; }

  void save(SchemeState& state) const;
  Status load(const SchemeState& state);

 private:
  int64_t most_ahead_, budget_;
  int64_t had_ = 1, ahead_ = 0;
  int64_t asked_ = 0, answered_ = 0;  // steps after which it asked ahead, and was answered, last
  int64_t prompt_ = 0;                // 1: all answers of the round came within a step; -1: one did not
  int64_t spent_ = 0;                 // the round's budget is
};

class TicketServer {
 public:
  // ratio: rounds between pulls to the leader of all. repeat: the time after which a worker asks again.
  TicketServer(World& world, const SchemeOptions& options, int64_t ratio, Nanos repeat);
  ~TicketServer();
  TicketServer(const TicketServer&) = delete;
  TicketServer& operator=(const TicketServer&) = delete;

  // Registers the handlers; in place of it after load().
  void listen();
  void save(SchemeState& state) const;
  Status load(const SchemeState& state);

 private:
  struct Worker {
    int64_t tickets = 1;  // used and given in this round
    int64_t ahead = 0;    // wanted ahead of the steps that need them
    int64_t joined = 0, absent = 0, done = 0;
    int64_t group = 0, request = 0, loss = 0;  // bits
    int64_t newest = 0;                        // number of a question
    // Of the last round: whether it was decided for this worker, and how.
    int64_t had = 0, local = -1;
    // Probes: the last one, the last one that was answered, how many slow answers took lately, and one on which it
    // depends whether the worker is there.
    int64_t probed = 0, heard = 0, longest = 0, doubted = 0;
  };
  static constexpr int64_t kFields = 15;

  void on_ask(const Message& m);
  // Something newer has come from this worker: it does not wait for the answer any more.
  static bool is_old(Worker& worker, const Message& m);
  // Its next one, if any is left, and those ahead.
  void give(Worker& worker, int64_t steps);
  void on_join(const Message& m);
  void on_probe(const Message& m);
  // It has been waited for already: no more than an answer to the next probe is.
  void suspect(int64_t rank);
  // Who was given up asks again; whether it hears what it is sent is another question.
  void comes_back(Rank rank);
  // Has left so many probes unanswered that it is given up.
  bool is_overdue(const Worker& worker) const;
  void probe(Rank rank);
  // While `waiting` waits, once for each of its questions.
  void probe_others(Rank waiting);
  void come_to(int64_t round);
  void behind(const Message& m, Worker& worker);
  // Looks who lives, and counts.
  void look();
  bool spent() const { return tickets_ >= period_ * members_; }
  void decide();
  void answer(Rank to, uint64_t request, Ticket what, int64_t round, int64_t local = -1, int64_t global = -1) const;

  World& world_;
  const int64_t period_, ratio_, patience_;  // patience_: unanswered probes
  bool listening_ = false;
  std::vector<Worker> workers_;
  int64_t round_ = 0;
  int64_t members_ = 0, tickets_ = 0;  // who takes part, and its tickets
  int64_t known_ = 0;                  // who takes part or may come back
  int64_t since_look_ = 0;
  int64_t last_global_ = -1, last_best_ = -1;
};

}  // namespace sinew::dist
