// The center's side of the protocol, spoken to directly: what a confused, late or hostile worker may send.
#include "dist/center.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gossip_bodies.h"
#include "tests/support/toy_training.h"

namespace sinew::dist::testing {
namespace {

// Whether one of the lines has these words.
bool has_line(const std::vector<std::string>& lines, const std::string& words) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& l) { return l.find(words) < l.size(); });
}

constexpr Nanos kWait = 100 * kMillisecond;
constexpr Shards kShards{10, 4};  // 4, 4, 2

Head head_of(Tag tag, int64_t a0, int64_t a1 = 0, int64_t a2 = 0, int64_t a3 = 0) {
  Head head{.tag = tag};
  head.arg[0] = a0, head.arg[1] = a1, head.arg[2] = a2, head.arg[3] = a3;
  return head;
}

Payload ones(int64_t n) { return Payload::copy_of(std::vector<double>(n, 1.0)); }

// Rank 0 runs `worker` against the center on rank 1; hands back the center at the end.
Numbers with_center(const std::function<void(World&)>& worker) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      worker(world);
      return Numbers{};
    }
    CenterServer center(world, {.workers = 1, .shards = kShards, .dtype = DType::f64, .fingerprint = 99});
    SINEW_RETURN_IF_ERROR(center.start(std::vector<double>(10, 0.0)));
    SINEW_RETURN_IF_ERROR(center.serve(INT64_MAX).status());
    std::vector<double> out(10);
    center.snapshot(out);
    return out;
  };
  SimulatedRun run = simulate(2, body);
  EXPECT_TRUE(run.nodes[0].finished && run.nodes[1].finished) << run.nodes[1].status.message();
  return run.nodes[1].numbers;
}

int64_t join(World& world) {
  Received r = fetch(world, 1, head_of(Tag::center_join, 99), {}, Tag::center_ack, kWait);
  EXPECT_TRUE(r.ok());
  return r.message.head.arg[0];
}

uint64_t mask_of_shard_0(World& world, int64_t lowest, int64_t life) {
  Received r = fetch(world, 1, head_of(Tag::center_fetch, lowest, life), {}, Tag::center_part, kWait);
  EXPECT_TRUE(r.ok());
  EXPECT_EQ(r.message.head.arg[0], 0);
  return static_cast<uint64_t>(r.message.head.arg[2]);
}

TEST(Center, AddsAreAppliedOnce) {
  Numbers center = with_center([](World& world) {
    const int64_t life = join(world);
    for (int copy = 0; copy < 3; ++copy) world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 2, 0, life, 0), ones(2));
    world.send(1, head_of(Tag::center_add, 0, 2, life, 0), ones(4));  // exchange 1 is missing
    EXPECT_EQ(mask_of_shard_0(world, 0, life), 0b101u);
    world.send(1, head_of(Tag::center_add, 0, 1, life, 0), ones(4));
    EXPECT_EQ(mask_of_shard_0(world, 1, life), 0b11u);
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(4));  // below the lowest: confirmed long ago
    EXPECT_EQ(mask_of_shard_0(world, 3, life), 0u);
  });
  EXPECT_EQ(center, (Numbers{3, 3, 3, 3, 0, 0, 0, 0, 1, 1}));
}

TEST(Center, LivesAreKeptApart) {
  Numbers center = with_center([](World& world) {
    const int64_t first = join(world), second = join(world);
    EXPECT_NE(first, second);
    world.send(1, head_of(Tag::center_add, 0, 0, first, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 0, 0, second, 0), ones(4));  // same number, another life
    world.send(1, head_of(Tag::center_add, 0, 0, 77, 0), ones(4));      // nobody's
    EXPECT_EQ(mask_of_shard_0(world, 0, first), 1u);
    EXPECT_EQ(mask_of_shard_0(world, 0, second), 1u);
  });
  EXPECT_EQ(center[0], 2);
}

TEST(Center, IgnoresNonsense) {
  Numbers center = with_center([](World& world) {
    const int64_t life = join(world);
    world.send(1, head_of(Tag::center_add, -1, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 3, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, INT64_MAX, 0, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(3));
    world.send(1, head_of(Tag::center_add, 0, -5, life, 0), ones(4));
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0));
    world.send(1, head_of(Tag::center_fetch, 0, 77));
    world.send(1, head_of(Tag::center_leave, 0, 77, 1));
    EXPECT_EQ(mask_of_shard_0(world, 0, life), 0u);
    // A wrong fingerprint is answered with the right one and given no life.
    Received r = fetch(world, 1, head_of(Tag::center_join, 98), {}, Tag::center_ack, kWait);
    EXPECT_EQ(r.message.head.arg[1], 99);
    EXPECT_EQ(r.message.head.arg[0], 0);
  });
  EXPECT_EQ(center, Numbers(10, 0.0));
}

// Applied as far as its sender is concerned, so that it is not sent again; nothing moves.
TEST(Center, RefusesWhatIsNotFinite) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      const int64_t life = join(world);
      for (double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
        for (int64_t s : {0, 2}) {
          std::vector<double> d(static_cast<size_t>(kShards.length(static_cast<int>(s))), 1.0);
          d.back() = bad;
          world.send(1, head_of(Tag::center_add, s, std::isnan(bad) ? 0 : 1, life, 0), Payload::copy_of(d));
        }
      world.send(1, head_of(Tag::center_add, 1, 0, life, 0), ones(4));
      EXPECT_EQ(mask_of_shard_0(world, 0, life), 0b11u);
      return Numbers{};
    }
    CenterServer center(world, {.workers = 1, .shards = kShards, .dtype = DType::f64, .fingerprint = 99});
    SINEW_RETURN_IF_ERROR(center.start(std::vector<double>(10, 0.0)));
    SINEW_RETURN_IF_ERROR(center.serve(INT64_MAX).status());
    EXPECT_EQ(center.refused(), 4);
    EXPECT_EQ(center.version(), 1);
    std::vector<double> out(10);
    center.snapshot(out);
    EXPECT_EQ(out, (Numbers{0, 0, 0, 0, 1, 1, 1, 1, 0, 0}));
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body);
  EXPECT_TRUE(run.nodes[0].finished && run.nodes[1].finished) << run.nodes[1].status.message();
}

TEST(Center, AFetchedShardDoesNotChangeLater) {
  with_center([](World& world) {
    const int64_t life = join(world);
    Received r = fetch(world, 1, head_of(Tag::center_fetch, 0, life), {}, Tag::center_part, kWait);
    world.send(1, head_of(Tag::center_add, 0, 0, life, 0), ones(4));
    EXPECT_EQ(mask_of_shard_0(world, 0, life), 1u);
    EXPECT_EQ(to_doubles(r.message.body.view(DType::f64)), Numbers(4, 0.0));
  });
}

TEST(Center, ServeReturnsAfterItsSlice) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      world.sleep(kSecond);
      return Numbers{};
    }
    CenterServer center(world, {.workers = 1, .shards = kShards, .dtype = DType::f64, .fingerprint = 99});
    SINEW_RETURN_IF_ERROR(center.start(std::vector<double>(10, 0.0)));
    Result<bool> done = center.serve(55 * kMillisecond);
    EXPECT_TRUE(done.ok() && !*done);
    EXPECT_EQ(world.now(), 55 * kMillisecond);
    done = center.serve(10 * kSecond);  // the worker leaves without a word to the center
    EXPECT_TRUE(done.ok() && *done);
    EXPECT_LT(world.now(), 1200 * kMillisecond);
    return Numbers{};
  };
  EXPECT_TRUE(simulate(2, body).nodes[1].finished);
}

TEST(Shards, EachIsInOnePart) {
  for (int64_t size : {1, 2, 5, 33, 100})
    for (int64_t shard : {1, 3, 7, 200})
      for (int parts : {1, 2, 3, 5, 64}) {
        const Shards shards{size, shard, parts};
        EXPECT_EQ(shards.first(0), 0);
        EXPECT_EQ(shards.first(parts), shards.count());
        EXPECT_FALSE(shards.empty(0));
        for (int p = 0; p < parts; ++p)
          for (int s = shards.first(p); s < shards.first(p + 1); ++s) EXPECT_EQ(shards.part_of(s), p);
      }
}

// Workers that take turns: what each finds at the center does not depend on who serves it.
TEST(Center, GivesTheSameWhoeverServesIt) {
  for (const char* scheme : {"easgd", "eamsgd", "downpour", "mdownpour", "adownpour", "mvadownpour"})
    for (int64_t size : {2, 33}) {
      std::vector<std::vector<Numbers>> ends;
      for (const char* servers : {"1", "2", "3", "workers"}) {
        Toy toy;
        toy.scheme = {.name = scheme, .workers = 4, .period = 2, .shard = 7};
        toy.scheme.servers = servers;
        toy.size = size;
        toy.noise = 0.5;
        toy.stagger = 3 * kMillisecond;
        ends.emplace_back(5);
        const auto body = [&](World& world) -> Result<Numbers> {
          if (world.rank() >= 4) {
            Result<Numbers> center = toy_run(world, toy);
            if (center.ok() && center_is_measured(toy.scheme)) ends.back()[4] = *center;
            return center;
          }
          ToyWorker worker(toy, world);
          SINEW_RETURN_IF_ERROR(worker.start());
          world.sleep(toy.stagger * world.rank());
          for (int64_t k = 0; k < 20; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
          SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
          ends.back()[static_cast<size_t>(world.rank())] = to_doubles(worker.theta().view());
          Vec center = Vec::zeros(toy.size, toy.dtype);
          SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
          if (world.rank() == 0 && !center_is_measured(toy.scheme)) ends.back()[4] = to_doubles(center.view());
          return Numbers{};
        };
        const SimulatedRun run = simulate(node_count(toy.scheme), body, {.latency = 10 * kMicrosecond, .jitter = 0});
        for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << servers << ": " << node.status.message();
        EXPECT_EQ(ends.back(), ends.front()) << scheme << ", served by " << servers;
      }
    }
}

// The answer has a step's time for its way: exchanges take nothing, where they took a round trip.
TEST(Center, AskedEarlyItComesMeanwhile) {
  const auto duration = [](int64_t overlap) {
    Toy toy;
    toy.scheme = {.name = "easgd", .workers = 2, .period = 4, .overlap = overlap};
    toy.size = 12;
    toy.steps = 40;
    const SimulatedRun run = simulate(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); },
                                      {.latency = 4 * kMillisecond, .step_cost = 10 * kMillisecond, .jitter = 0});
    for (const NodeResult& node : run.nodes) EXPECT_TRUE(node.finished) << node.status.message();
    return run.report.virtual_time;
  };
  constexpr int kHidden = 9;  // all exchanges but the first
  EXPECT_LE(duration(1), duration(0) - kHidden * 2 * 4 * kMillisecond);
}

struct Death {
  const char* servers;
  const char* faults;
  int restarts;
  int deaths;
  int64_t size = 12;
};

// A node of the center dies, for good or not. What it served is taken over, the rest goes on.
TEST(Center, SomebodyTakesADeadNodesPartOver) {
  for (const Death& d :
       {Death{"2", "kill rank=5 at=155ms", 0, 1}, Death{"2", "kill rank=5 at=155ms", 1, 0},
        Death{"3", "kill rank=4 at=155ms\nkill rank=6 at=160ms", 0, 2},
        Death{"2", "kill rank=4 at=155ms\nkill rank=0 at=1s", 0, 2}, Death{"workers", "kill rank=3 at=155ms", 0, 1},
        Death{"workers", "kill rank=0 at=155ms", 0, 1}, Death{"workers", "kill rank=2 at=155ms", 1, 0},
        Death{"workers", "kill rank=0 at=155ms\nkill rank=1 at=2s", 1, 0},
        Death{"workers", "kill rank=0 at=155ms\ndrop probability=0.1", 0, 1},
        // Killed when the others are done, or nearly.
        Death{"2", "slow rank=3 factor=2\nkill rank=5 at=7s", 0, 1},
        Death{"2", "slow rank=3 factor=2\nslow rank=2 factor=2\nkill rank=5 at=7s", 0, 1},
        Death{"workers", "slow rank=3 factor=2\nkill rank=2 at=7s", 0, 1},
        Death{"workers", "slow rank=3 factor=2\nkill rank=1 at=7s", 0, 1},
        Death{"workers", "slow rank=3 factor=2\nkill rank=0 at=7s", 0, 1},
        Death{"2", "slow rank=1 factor=3\nslow rank=2 factor=3\nslow rank=3 factor=3\nkill rank=5 at=7s", 0, 1},
        Death{"2", "slow rank=1 factor=3\nslow rank=2 factor=3\nslow rank=3 factor=3\nkill rank=4 at=7s", 0, 1},
        Death{"workers", "slow rank=1 factor=3\nslow rank=2 factor=3\nkill rank=3 at=7s", 0, 1},
        Death{"workers", "slow rank=2 factor=3\nslow rank=3 factor=3\nkill rank=0 at=7s", 0, 1},
        // Nodes whose part is empty.
        Death{"4", "kill rank=5 at=155ms", 0, 1, 9}})
    for (const char* scheme : {"easgd", "downpour", "mdownpour"}) {
      Toy toy;
      toy.scheme = {.name = scheme, .workers = 4, .period = 1, .shard = 5, .deadline = kSecond};
      toy.scheme.servers = d.servers;
      toy.size = d.size;
      toy.steps = 500;
      toy.lr = std::string(scheme) == "easgd" ? 0 : 0.01;
      toy.start_spread = 1;
      std::vector<std::string> notes;
      toy.scheme.on_note = [&](const std::string& note) { notes.push_back(note); };
      Numbers center;
      const auto body = [&](World& world) -> Result<Numbers> {
        if (world.rank() >= 4) return toy_run(world, toy);
        ToyWorker worker(toy, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = world.incarnation() * 100; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        Vec c = Vec::zeros(toy.size, toy.dtype);
        SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), c.mutable_view()));
        if (center.empty()) center = to_doubles(c.view());
        return to_doubles(worker.theta().view());
      };
      const SimulatedRun run =
          simulate(node_count(toy.scheme), body,
                   {.restarts = d.restarts, .restart_delay = 200 * kMillisecond, .faults = plan(d.faults)});
      const std::string label = detail::concat(scheme, " at ", d.servers, ": ", d.faults, ", restarts ", d.restarts);
      std::vector<Numbers> ends;
      int killed = 0;
      for (size_t r = 0; r < run.nodes.size(); ++r) {
        killed += run.report.nodes[r].what == NodeOutcome::What::killed;
        if (run.report.nodes[r].what == NodeOutcome::What::killed) continue;
        ASSERT_TRUE(run.nodes[r].finished) << label << ", rank " << r << ": " << run.nodes[r].status.message();
        if (r < 4) ends.push_back(run.nodes[r].numbers);
      }
      EXPECT_EQ(killed, d.deaths) << label;
      ASSERT_EQ(center.size(), static_cast<size_t>(d.size)) << label;
      const bool still = toy.lr == 0;
      for (size_t i = 0; i < center.size(); ++i) {
        double low = 1e9, high = -1e9;
        for (const Numbers& end : ends) low = std::min(low, end[i]), high = std::max(high, end[i]);
        EXPECT_LT(high - low, still ? 1e-6 : 2) << label;
        EXPECT_GT(center[i], low - (still ? 1e-6 : 1)) << label;
        EXPECT_LT(center[i], high + (still ? 1e-6 : 1)) << label;
        if (still) {
          EXPECT_GT(low, 1.2) << label << ": the workers began at 1, 2, 3 and 4";
        }
      }
      EXPECT_EQ(notes.empty(), d.deaths == 0) << label;
    }
}

TEST(Center, EndsAroundASilentWorker) {
  for (const char* faults :
       {"", "pause rank=2 step=38 for=3s", "pause rank=1 step=38 for=7s", "pause rank=0 step=38 for=3s",
        "partition ranks=2 after=390ms until=5s", "partition ranks=0 after=390ms until=5s",
        "partition ranks=1 after=390ms until=12s\ndrop probability=0.1 after=300ms", "drop to=2 after=400ms until=3s",
        "duplicate probability=0.3\nreorder probability=0.3 by=500ms"})
    for (uint64_t seed = 1; seed <= 3; ++seed)
      check_ends_around_a_silent_worker(in_simulation({.seed = seed, .faults = plan(faults, seed)}), faults);
}

// Who takes over, takes over the newest that any worker has seen, not its own.
TEST(Center, ATakenOverCenterIsTheNewestSeen) {
  for (const char* faults : {"", "kill rank=3 at=95ms"}) {
    SchemeOptions o{.name = "downpour", .workers = 3, .period = 1, .shard = 5, .deadline = kSecond};
    std::vector<std::string> notes;
    o.on_note = [&](const std::string& note) { notes.push_back(note); };
    const auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() == 3) {
        auto center = make_center(o, world, 7, DType::f64);
        SINEW_RETURN_IF_ERROR(center->start(std::vector<double>(7, 0.0)));
        SINEW_RETURN_IF_ERROR(center->serve(INT64_MAX).status());
        return Numbers{};
      }
      // Worker 2 moves by 1 in every step; the others only look on, worker 0 once in a while.
      std::vector<double> x(7, 0.0);
      auto scheme = make_scheme(o, world, 7, DType::f64);
      SINEW_RETURN_IF_ERROR(scheme->start(x));
      double at_gap = 0;
      for (int64_t k = 0; k < 20; ++k) {
        if (world.rank() != 0 || k % 5 == 0) SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
        world.sleep(10 * kMillisecond);
        if (world.rank() == 2 && k < 8)
          for (double& v : x) v += 1;
        if (k == 8) at_gap = x[0];
      }
      SINEW_RETURN_IF_ERROR(scheme->finish(x));
      std::vector<double> center(7);
      SINEW_RETURN_IF_ERROR(scheme->evaluation_point(x, center));
      return Numbers{x[0], at_gap, center[0], center[6]};
    };
    const SimulatedRun run = simulate(4, body, {.faults = plan(faults)});
    for (Rank r = 0; r < 3; ++r) {
      ASSERT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
    }
    if (*faults) {
      EXPECT_GE(run.nodes[0].numbers[2], run.nodes[2].numbers[1] - 1);
      EXPECT_GE(run.nodes[0].numbers[3], run.nodes[2].numbers[1] - 1);
      EXPECT_TRUE(has_line(notes, "takes it over: rank 0"));
      EXPECT_TRUE(has_line(notes, "goes on as rank 2 last saw it")) << notes.back();
    }
  }
}

// The newest state may be with a worker that is done already: it stays, joins the new node, and tells it.
TEST(Center, AWorkerThatIsDoneTellsANewNode) {
  Toy toy;
  toy.scheme = {.name = "easgd", .workers = 4, .period = 100, .shard = 3, .deadline = kSecond};
  served_by_workers(toy.scheme);
  toy.size = 12;
  toy.steps = 450;
  std::vector<std::string> notes;
  toy.scheme.on_note = [&](const std::string& note) { notes.push_back(note); };
  // Worker 1 ends after 4.5 s and has seen the part at 4 s, the others at 3 s, and ask again at 6 s.
  const SimulatedRun run = simulate(4, [&](World& world) { return toy_run(world, toy); },
                                    {.faults = plan("slow rank=0 factor=3\nslow rank=2 factor=3\n"
                                                    "slow rank=3 factor=3\nkill rank=3 at=4300ms")});
  for (Rank r : {0, 1, 2}) EXPECT_TRUE(run.nodes[r].finished) << r << ": " << run.nodes[r].status.message();
  EXPECT_TRUE(has_line(notes, "part 3 of the center, at rank 0 now, goes on as rank 1 last saw it")) << notes.size();
}

// A node that is started again does not go on from the first that speaks to it, who may have seen less than others.
TEST(Center, ARestartedCenterIsTheNewestSeen) {
  SchemeOptions o{.name = "downpour", .workers = 3, .period = 1, .shard = 5, .deadline = kSecond};
  const auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 3) {
      auto center = make_center(o, world, 7, DType::f64);
      SINEW_RETURN_IF_ERROR(center->start(std::vector<double>(7, 0.0)));
      SINEW_RETURN_IF_ERROR(center->serve(INT64_MAX).status());
      Numbers c(7);
      center->snapshot(c);
      return c;
    }
    // Worker 2 moves by 1 in each of eight steps; worker 0 looks on once in a while, and first after the death.
    std::vector<double> x(7, 0.0);
    auto scheme = make_scheme(o, world, 7, DType::f64);
    SINEW_RETURN_IF_ERROR(scheme->start(x));
    if (world.rank() > 0) world.sleep(5 * kMillisecond);
    for (int64_t k = 0; k < 20; ++k) {
      if (world.rank() != 0 || k % 5 == 0) SINEW_RETURN_IF_ERROR(scheme->before_step(k, x));
      world.sleep(10 * kMillisecond);
      if (world.rank() == 2 && k < 8)
        for (double& v : x) v += 1;
    }
    SINEW_RETURN_IF_ERROR(scheme->finish(x));
    return Numbers{};
  };
  const SimulatedRun run = simulate(
      4, body, {.jitter = 0, .restarts = 1, .restart_delay = kMillisecond, .faults = plan("kill rank=3 at=97ms")});
  for (const NodeResult& node : run.nodes) ASSERT_TRUE(node.finished) << node.status.message();
  EXPECT_EQ(run.nodes[3].restarts, 1u);
  EXPECT_EQ(run.nodes[3].numbers, Numbers(7, 8.0));
}

// Its next exchange may be long after: who serves a part and is started again waits for it, and asks for no more than
// what it lacks.
TEST(Center, ARestartedWorkerIsToldItsPartWithTheOthersNextExchange) {
  Toy toy;
  toy.scheme = {.name = "easgd", .workers = 3, .period = 600, .shard = 4, .deadline = kSecond};
  served_by_workers(toy.scheme);
  toy.size = 12;
  toy.steps = 2000;
  const SimulatedRun run =
      simulate(3,
               [&](World& world) -> Result<Numbers> {
                 ToyWorker worker(toy, world);
                 SINEW_RETURN_IF_ERROR(worker.start());
                 for (int64_t k = world.incarnation() * 1300; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
                 SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
                 return to_doubles(worker.theta().view());
               },
               {.restarts = 1, .restart_delay = 200 * kMillisecond, .faults = plan("kill rank=1 at=6500ms")});
  for (Rank r = 0; r < 3; ++r) {
    ASSERT_TRUE(run.nodes[r].finished) << r << ": " << run.nodes[r].status.message();
    EXPECT_EQ(run.nodes[r].restarts, r == 1 ? 1u : 0u);
    EXPECT_LT(run.report.nodes[r].traffic.messages_sent, 200) << r;
  }
}

// A center that nobody has seen begins with the average of the workers.
TEST(Center, AnUnseenCenterIsTheAverageOfTheWorkers) {
  for (const char* servers : {"1", "2"}) {
    Toy toy;
    toy.scheme = {.name = "easgd", .workers = 4, .period = 20, .alpha = 0, .shard = 5, .deadline = kSecond};
    toy.scheme.servers = servers;
    toy.size = 12;
    toy.steps = 61;
    toy.lr = 0;
    std::vector<std::string> notes;
    toy.scheme.on_note = [&](const std::string& note) { notes.push_back(note); };
    const auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() >= 4) {
        auto center = toy_center(toy, world);
        return center->serve(INT64_MAX).ok() ? Numbers{} : Numbers{1};
      }
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      fill(worker.theta().mutable_view(), 1.0 + world.rank());
      world.sleep(100 * kMillisecond);  // the center has died
      for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      Vec c = Vec::zeros(toy.size, toy.dtype);
      SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), c.mutable_view()));
      return to_doubles(c.view());
    };
    const std::string faults = std::string("kill rank=4 at=50ms") + (*servers == '2' ? "\nkill rank=5 at=50ms" : "");
    const SimulatedRun run = simulate(node_count(toy.scheme), body, {.faults = plan(faults.c_str())});
    for (Rank r = 0; r < 4; ++r) {
      ASSERT_TRUE(run.nodes[r].finished) << run.nodes[r].status.message();
      EXPECT_EQ(run.nodes[r].numbers, Numbers(12, 2.5)) << servers << ", rank " << r;
    }
    ASSERT_FALSE(notes.empty());
    EXPECT_NE(notes.back().find("with the average of 4 workers' parameters"), std::string::npos) << notes.back();
  }
}

}  // namespace
}  // namespace sinew::dist::testing
