// What a death takes from the sums that the exchanges keep is counted: SchemeCounters::lost. What the survivors have,
// with the center, and what the dead one had are together what all began with, less what counted exchanges explain.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "dist/exchange.h"
#include "tests/support/gossip_bodies.h"
#include "tests/support/schedules.h"

namespace sinew::dist::testing {
namespace {

constexpr Rank kVictim = 1;
// The victim dies when it says that it is at this step, wherever it really is.
constexpr int64_t kDies = 1'000'000;
constexpr const char* kPlan = "kill rank=1 step=1000000";

// Of the sums: a weight (gosgd; else 1), and element 0 times it.
struct Share {
  double weight = 0, sum = 0;
};

// What a worker of a gossip scheme has, with what its handlers have agreed to and its training side has not done yet.
Share share_of(ToyWorker& worker) {
  const SchemeState state = worker.scheme().save();
  const auto find = [&](const std::string& name) -> const void* {
    const auto found = state.vectors.find(name);
    return found == state.vectors.end() ? nullptr : found->second.view().data;
  };
  const auto fields = [&](const std::string& name) { return static_cast<const int64_t*>(find(name)); };
  const auto first = [&](const std::string& name) {
    double x = 0;
    if (const void* body = find(name)) std::memcpy(&x, body, sizeof x);
    return x;
  };
  Share share{.weight = weight_of(worker.scheme())};
  share.sum = share.weight * to_doubles(worker.theta().view())[0] - first("pending");
  const auto take = [&](int64_t weight, double x) {
    share.weight += std::bit_cast<double>(weight);
    share.sum += std::bit_cast<double>(weight) * x;
  };
  for (int i = 0; const int64_t* settled = fields("exchange.settled." + std::to_string(i)); ++i) {
    const auto what = static_cast<Exchange::Outcome::What>(settled[3]);
    const double sent = first("exchange.settled_sent." + std::to_string(i)),
                 body = first("exchange.settled_body." + std::to_string(i));
    if (find("pending"))
      share.sum += what == Exchange::Outcome::What::yes ? body : 0;
    else if (what == Exchange::Outcome::What::yes)
      take(body == 0 ? 0 : settled[5], body);
    else if (what == Exchange::Outcome::What::no)
      take(settled[4], sent);
  }
  for (int i = 0; const int64_t* mail = fields("mail.of." + std::to_string(i)); ++i)
    take(mail[2], first("mail.body." + std::to_string(i)));
  return share;
}

struct Moment {
  Nanos latency;
  int64_t step;
  bool in_exchange;  // it has asked somebody, or sent its difference, and not moved yet; else it is between two steps
  double later;      // latencies after that: the other one has decided; its answer has come
};

// What is left, of what all began with.
struct Left {
  double weight = 0, sum = 0;
  int64_t lost = 0;
};

Left left_by_death(const Toy& toy, const Moment& moment) {
  const bool has_center = needs_center(toy.scheme);
  Share victim;
  Left left;
  const auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == kGossipWorkers) {
      Result<Numbers> center = toy_run(world, toy);
      return center.ok() ? Numbers{0, center->at(0)} : center;
    }
    ToyWorker worker(toy, world);
    SINEW_RETURN_IF_ERROR(worker.start());
    const auto die = [&] {
      world.sleep(static_cast<Nanos>(moment.later * static_cast<double>(moment.latency)));
      victim = share_of(worker);
      if (has_center && moment.in_exchange) {
        Vec center = Vec::zeros(toy.size, toy.dtype);
        ASSERT_TRUE(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()).ok());
        const double x = to_doubles(worker.theta().view())[0];
        victim.sum -= toy.scheme.alpha * (x - to_doubles(center.view())[0]);  // sent, and not yet moved by
      }
      world.report_step(kDies, worker.theta().mutable_view());
    };
    const auto dies_at = [&](int64_t k, bool in_exchange) {
      return world.rank() == kVictim && k == moment.step && in_exchange == moment.in_exchange;
    };
    worker.after_exchange = [&](int64_t k) {
      if (dies_at(k, true)) die();
    };
    for (int64_t k = 0; k < toy.steps; ++k) {
      if (dies_at(k, false)) die();
      SINEW_RETURN_IF_ERROR(worker.step(k));
    }
    SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
    left.lost += worker.scheme().counters().lost;
    const double weight = weight_of(worker.scheme());
    return Numbers{weight, weight * to_doubles(worker.theta().view())[0]};
  };
  // The others know of it so soon that not all of them have asked it in vain.
  const SimulatedRun run = simulate(node_count(toy.scheme), body,
                                    {.latency = moment.latency, .detection = 15 * kMillisecond, .faults = plan(kPlan)});
  left.weight = victim.weight, left.sum = victim.sum;
  for (Rank r = 0; r < node_count(toy.scheme); ++r) {
    EXPECT_EQ(run.nodes[r].finished, r != kVictim) << run.nodes[r].status.message();
    if (!run.nodes[r].finished) continue;
    left.weight += run.nodes[r].numbers[0], left.sum += run.nodes[r].numbers[1];
  }
  return left;
}

std::vector<Moment> moments() {
  std::vector<Moment> all;
  for (const Nanos latency : {50 * kMicrosecond, 2 * kMillisecond, 8 * kMillisecond})
    for (const int64_t step : {1, 2, 3, 4, 5, 7, 9})
      for (const bool in_exchange : {false, true})
        for (const double later : {0.0, 1.5, 2.5}) all.push_back({latency, step, in_exchange, later});
  return all;
}

// The schemes whose sums hold without a common clock.
TEST(DeathConservation, AWorkerTakesAlongWhatIsCounted) {
  for (const GossipCase& c :
       {GossipCase{"easgd"}, kAsynchronousGossip[0], kAsynchronousGossip[3], kAsynchronousGossip[4]}) {
    Toy toy = still_toy(
        c.name, c.more ? c.more : [](SchemeOptions&) {});
    const bool has_center = needs_center(toy.scheme), weighted = toy.scheme.name == "gosgd";
    toy.scheme.alpha = has_center ? 0.2 : 0.5;
    toy.scheme.probability = 0.4;
    int with_loss = 0, without = 0;
    double largest = 0;
    for (const Moment& m : moments()) {
      SCOPED_TRACE(sinew::detail::concat(c.name, ", latency ", m.latency, ", step ", m.step, ", in exchange ",
                                         m.in_exchange, ", later by ", m.later));
      const Left left = left_by_death(toy, m);
      const double weights = weighted ? 1 : kGossipWorkers, lost = static_cast<double>(left.lost);
      const double gone = weights - left.weight, missing = weights * 2.5 + (has_center ? 1 : 0) - left.sum;
      // All parameters are between 1 and 4, and gosgd sends half of a weight at most.
      if (weighted) {
        ASSERT_GE(gone, -1e-12);
        ASSERT_LE(gone, lost / 2 + 1e-12);
        ASSERT_GE(missing, gone - 1e-12);
        ASSERT_LE(missing, 4 * gone + 1e-12);
      } else {
        ASSERT_NEAR(gone, 0, 1e-12);
        ASSERT_LE(std::abs(missing), lost * toy.scheme.alpha * 3 + 1e-12);
      }
      ++(left.lost > 0 ? with_loss : without);
      largest = std::max(largest, std::abs(missing));
    }
    EXPECT_GT(without, 0) << c.name;
    // A center that lives gets what was sent.
    EXPECT_EQ(with_loss > 0, !has_center) << c.name;
    EXPECT_EQ(largest > 1e-3, !has_center) << c.name;
  }
}

// A worker's run with a center: its parameters at the end, and the center as it last saw it. Adds what it has lost;
// difference: the largest that it sends about after that time.
Result<Numbers> with_center(World& world, const Toy& toy, Nanos after, int64_t& lost, double& difference) {
  ToyWorker worker(toy, world);
  Vec center = Vec::zeros(toy.size, toy.dtype);
  SINEW_RETURN_IF_ERROR(worker.start());
  worker.after_exchange = [&](int64_t) {
    if (world.now() < after) return;
    ASSERT_TRUE(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()).ok());
    const Numbers x = to_doubles(worker.theta().view()), seen = to_doubles(center.view());
    for (size_t i = 0; i < x.size(); ++i)
      difference = std::max(difference, toy.scheme.alpha * std::abs(x[i] - seen[i]));
  };
  for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
  Status status(StatusCode::timeout, "");
  for (int i = 0; i < 20 && status.code() == StatusCode::timeout; ++i)
    status = worker.scheme().finish(worker.theta().mutable_view());
  SINEW_RETURN_IF_ERROR(status);
  lost += worker.scheme().counters().lost;
  SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
  Numbers numbers = to_doubles(worker.theta().view());
  const Numbers last = to_doubles(center.view());
  numbers.insert(numbers.end(), last.begin(), last.end());
  return numbers;
}

// A node of the center dies, and is started again or a worker takes it over: the new one begins as it was last seen,
// and what it had not confirmed is counted by those that sent it.
TEST(DeathConservation, ACenterTakesAlongWhatIsCounted) {
  for (const auto& [servers, dies] : {std::pair{"1", 4}, {"2", 4}, {"2", 5}})
    for (const int restarts : {0, 1}) {
      Toy toy = still_toy("easgd");
      toy.scheme.alpha = 0.2;
      toy.scheme.servers = servers;
      toy.scheme.shard = 3;
      toy.steps = 60;
      double largest = 0;
      for (Nanos at = 60 * kMillisecond; at < 90 * kMillisecond; at += kMillisecond) {
        SCOPED_TRACE(sinew::detail::concat(servers, " servers, ", dies, " dies at ", at, ", restarts ", restarts));
        int64_t lost = 0;
        double difference = 0;  // the largest that a worker sends about then
        const auto body = [&](World& world) {
          if (world.rank() >= kGossipWorkers) return toy_run(world, toy);
          return with_center(world, toy, at - 50 * kMillisecond, lost, difference);
        };
        const SimulatedRun run =
            simulate(node_count(toy.scheme), body,
                     {.latency = 3 * kMillisecond,
                      .restarts = restarts,
                      .restart_delay = 50 * kMillisecond,
                      .faults = plan(sinew::detail::concat("kill rank=", dies, " at=", at / kMillisecond, "ms"))});
        for (Rank r = 0; r < node_count(toy.scheme); ++r)
          ASSERT_EQ(run.nodes[r].finished, r != dies || restarts > 0) << r << ": " << run.nodes[r].status.message();
        const bool is_there = restarts > 0 && center_is_measured(toy.scheme);
        for (int64_t i = 0; i < toy.size; ++i) {
          double sum = is_there ? run.nodes[4].numbers.at(i) : run.nodes[0].numbers.at(toy.size + i);
          for (Rank r = 0; r < kGossipWorkers; ++r) sum += run.nodes[r].numbers.at(i);
          const double missing = std::abs(sum - (1 + 2 + 3 + 4 + 1));
          largest = std::max(largest, missing);
          ASSERT_LE(missing, static_cast<double>(lost) * difference + 1e-12) << i;
        }
      }
      EXPECT_GT(largest, 1e-3) << "something was lost";
    }
}

// What may go wrong beside the death of one node, in schedules of up to six nodes. Nobody is away for so long that it
// adopts.
Schedules around_a_death(int count) {
  return {.count = count,
          .most_workers = 6,
          .kinds = {Trouble::kill, Trouble::pause, Trouble::partition, Trouble::drop, Trouble::delay, Trouble::reorder,
                    Trouble::duplicate},
          .first = 50,
          .last = 300,
          .longest = 600};
}

// Takes the kills out of a schedule: the first one's rank and time, or any of the seed's.
std::pair<Rank, Nanos> take_death(Schedule& schedule) {
  int rank = static_cast<int>(schedule.seed % 9), at = 50 + static_cast<int>(schedule.seed % 250);
  const auto first = std::find_if(schedule.troubles.begin(), schedule.troubles.end(),
                                  [](const Trouble& t) { return t.kind == Trouble::kill; });
  if (first != schedule.troubles.end()) rank = first->rank, at = first->at;
  std::erase_if(schedule.troubles, [](const Trouble& t) { return t.kind == Trouble::kill; });
  return {rank % schedule.workers, at * kMillisecond};
}

// As AWorkerTakesAlongWhatIsCounted, whatever the network does. The bound takes the widest range that parameters were
// in, since a stale answer may lead out of that of the start.
TEST(DeathConservation, AWorkerUnderAnySchedule) {
  constexpr GossipCase kCases[] = {kAsynchronousGossip[0], kAsynchronousGossip[3], kAsynchronousGossip[4]};
  int with_loss = 0;
  double largest = 0;
  check_schedules(around_a_death(400), [&](const Schedule& given) -> std::string {
    Schedule schedule = given;
    schedule.restarts = 0;
    const auto [victim, at] = take_death(schedule);
    const bool in_exchange = schedule.seed / 8 % 2 == 1;
    const GossipCase& c = kCases[schedule.seed % std::size(kCases)];
    const int workers = schedule.workers;
    Toy toy = still_toy(c.name, [&](SchemeOptions& o) {
      o.workers = workers;
      if (c.more) c.more(o);
    });
    toy.scheme.alpha = 0.5;
    toy.steps = 80;
    const bool weighted = toy.scheme.name == "gosgd";
    SimOptions options = schedule.options();
    options.faults.faults.push_back(plan(sinew::detail::concat("kill rank=", victim, " step=", kDies)).faults[0]);
    Share dead;
    double low = 1, high = workers;
    int64_t lost = 0;
    const SimulatedRun run = simulate(
        workers,
        [&, victim = victim, at = at](World& world) -> Result<Numbers> {
          ToyWorker worker(toy, world);
          SINEW_RETURN_IF_ERROR(worker.start());
          const auto die = [&](bool is_in_exchange) {
            if (world.rank() != victim || is_in_exchange != in_exchange || world.now() < at) return;
            dead = share_of(worker);
            world.report_step(kDies, worker.theta().mutable_view());
          };
          worker.after_exchange = [&](int64_t) { die(true); };
          for (int64_t k = 0; k < toy.steps; ++k) {
            die(false);
            SINEW_RETURN_IF_ERROR(worker.step(k));
            const double x = to_doubles(worker.theta().view())[0];
            low = std::min(low, x), high = std::max(high, x);
          }
          SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
          lost += worker.scheme().counters().lost;
          const double weight = weight_of(worker.scheme());
          return Numbers{weight, weight * to_doubles(worker.theta().view())[0]};
        },
        options);
    if (!run.report.deadlock.empty()) return run.report.deadlock;
    double weights = dead.weight, sum = dead.sum;
    for (Rank r = 0; r < workers; ++r) {
      if (run.nodes[r].finished == (r == victim))
        return sinew::detail::concat(c.name, ": rank ", r, ": ", run.nodes[r].status.message());
      if (r == victim) continue;
      weights += run.nodes[r].numbers[0], sum += run.nodes[r].numbers[1];
    }
    const double all = weighted ? 1 : workers, count = static_cast<double>(lost);
    const double gone = all - weights, missing = all * (workers + 1) / 2 - sum;
    with_loss += lost > 0, largest = std::max(largest, std::abs(missing));
    const bool fits =
        weighted ? gone >= -1e-11 && gone <= count / 2 + 1e-11 && missing >= low * gone - 1e-11 &&
                       missing <= high * gone + 1e-11
                 : std::abs(gone) <= 1e-11 && std::abs(missing) <= count * toy.scheme.alpha * (high - low) + 1e-11;
    return fits ? ""
                : sinew::detail::concat(c.name, ": rank ", victim, " at ", at, ", weight ", gone, " and ", missing,
                                        " are gone, ", lost, " are counted");
  });
  EXPECT_GT(with_loss, 0);
  EXPECT_GT(largest, 1e-3);
}

// As ACenterTakesAlongWhatIsCounted; who comes in its place is the same node, or a worker.
TEST(DeathConservation, ACenterUnderAnySchedule) {
  double largest = 0;
  Schedules schedules = around_a_death(200);
  std::erase(schedules.kinds, Trouble::partition);  // in which nobody may have a majority
  check_schedules(schedules, [&](const Schedule& given) -> std::string {
    Schedule schedule = given;
    const Nanos at = take_death(schedule).second;
    const int workers = schedule.workers - 1;
    Toy toy = still_toy("easgd", [&](SchemeOptions& o) { o.workers = workers, o.shard = 3; });
    toy.scheme.alpha = 0.2;
    toy.steps = 80;
    SimOptions options = schedule.options();
    options.faults.faults.push_back(
        plan(sinew::detail::concat("kill rank=", workers, " at=", at / kMillisecond, "ms")).faults[0]);
    int64_t lost = 0;
    double difference = 0;
    const SimulatedRun run = simulate(
        schedule.workers,
        [&](World& world) {
          return world.rank() == workers ? toy_run(world, toy) : with_center(world, toy, 0, lost, difference);
        },
        options);
    if (!run.report.deadlock.empty()) return run.report.deadlock;
    for (Rank r = 0; r < workers; ++r)
      if (!run.nodes[r].finished) return sinew::detail::concat("rank ", r, ": ", run.nodes[r].status.message());
    const bool is_there = run.nodes[workers].finished;
    for (int64_t i = 0; i < toy.size; ++i) {
      double sum = is_there ? run.nodes[workers].numbers.at(i) : run.nodes[0].numbers.at(toy.size + i);
      for (Rank r = 0; r < workers; ++r) sum += run.nodes[r].numbers.at(i);
      const double missing = std::abs(sum - (workers * (workers + 1) / 2 + 1));
      largest = std::max(largest, missing);
      if (missing > static_cast<double>(lost) * difference + 1e-11)
        return sinew::detail::concat("element ", i, ": ", missing, " is gone, ", lost, " of up to ", difference,
                                     " are counted");
    }
    return "";
  });
  EXPECT_GT(largest, 1e-3);
}

}  // namespace
}  // namespace sinew::dist::testing
