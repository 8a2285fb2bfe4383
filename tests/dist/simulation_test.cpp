#include "dist/sim/simulation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include "core/node_locals.h"
#include "core/philox.h"
#include "tests/support/spawn_nodes.h"

namespace sinew::dist::testing {
namespace {

constexpr Tag kTest = Tag::test;
constexpr Tag kOther = static_cast<Tag>(101);
constexpr Tag kThird = static_cast<Tag>(102);

FaultPlan plan(const std::string& text) { return parse_fault_plan(text, "plan").value(); }

// Head of a test message.
Head test_head(int64_t arg0 = 0, Tag tag = kTest) {
  Head head{.tag = tag};
  head.arg[0] = arg0;
  return head;
}

TEST(Simulation, LinkModel) {
  // 1 GB/s: a body of 936 bytes and its head of 64 take 1 us on each link; two of them queue at the sender.
  std::vector<Nanos> arrivals;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      world.send(1, test_head(0), Payload::allocate(936));
      world.send(1, test_head(1), Payload::allocate(936));
      EXPECT_EQ(world.now(), 0);  // sending takes the sender no time
    } else {
      for (int i = 0; i < 2; ++i) {
        Received r = world.receive({.tag = kTest, .source = 0}, kSecond);
        EXPECT_TRUE(r.ok());
        EXPECT_EQ(r.message.head.arg[0], i);
        arrivals.push_back(world.now());
      }
    }
    return Numbers{};
  };
  simulate(2, body, {.latency = 5000, .bandwidth = 1e9});
  EXPECT_EQ(arrivals, (std::vector<Nanos>{6000, 7000}));
}

TEST(Simulation, ReceiverLinkIsShared) {
  // Two senders at once: their messages pass the receiver's link one after the other.
  std::vector<Nanos> arrivals;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() > 0) {
      world.send(0, test_head(), Payload::allocate(936));
      return Numbers{};
    }
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(world.receive({.tag = kTest}, kSecond).message.head.source, i + 1);
      arrivals.push_back(world.now());
    }
    return Numbers{};
  };
  simulate(3, body, {.latency = 5000, .bandwidth = 1e9});
  EXPECT_EQ(arrivals, (std::vector<Nanos>{6000, 7000}));
}

TEST(Simulation, HandlersQueueAndReply) {
  std::vector<Nanos> replies;
  int handled = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      world.on(kTest, [&](const Message& m) {
        ++handled;
        Head reply = test_head(m.head.arg[0] * 10, kOther);
        reply.is_reply = 1;
        reply.request = m.head.request;
        world.send(m.head.source, reply);
      });
      world.sleep(kSecond);
      world.on(kTest, {});
      return Numbers{};
    }
    world.sleep(kMillisecond);
    Received r = fetch(world, 0, test_head(world.rank()), {}, kOther, kSecond);
    EXPECT_TRUE(r.ok());
    EXPECT_EQ(r.message.head.arg[0], world.rank() * 10);
    replies.push_back(world.now() - kMillisecond);
    return Numbers{};
  };
  simulate(3, body, {.latency = 1000, .bandwidth = 1e18, .service_cost = 500});
  EXPECT_EQ(handled, 2);
  EXPECT_EQ(replies, (std::vector<Nanos>{2500, 3000}));  // the second waits for the first's service
}

TEST(Simulation, TimeoutsAndArrivalAtTheDeadline) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 1) {
      world.sleep(4000);
      world.send(0, test_head());
      return Numbers{};
    }
    EXPECT_EQ(world.receive({.tag = kTest}, 3000).what, Received::What::timeout);
    EXPECT_EQ(world.now(), 3000);
    EXPECT_EQ(world.receive({.tag = kTest}, 0).what, Received::What::timeout);
    EXPECT_EQ(world.receive({.tag = kTest}, 2000).what, Received::What::message);  // at 5000, exactly
    EXPECT_EQ(world.now(), 5000);
    EXPECT_EQ(world.traffic().timeouts, 2);
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body, {.latency = 1000, .bandwidth = 1e18});
  EXPECT_TRUE(run.nodes[0].finished && run.nodes[1].finished);
}

TEST(Simulation, LateRepliesAreDropped) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 1) {
      world.on(kTest, [&](const Message& m) {
        Head reply = test_head(m.head.arg[0], kOther);
        reply.is_reply = 1;
        reply.request = m.head.request;
        world.send(0, reply);
      });
      world.sleep(kSecond);
      world.on(kTest, {});
      return Numbers{};
    }
    // The first answer comes when nobody waits for it any more; it must not satisfy the second request.
    EXPECT_FALSE(fetch(world, 1, test_head(1), {}, kOther, 1500).ok());
    Received second = fetch(world, 1, test_head(2), {}, kOther, kSecond);
    EXPECT_TRUE(second.ok());
    EXPECT_EQ(second.message.head.arg[0], 2);
    EXPECT_EQ(world.traffic().late_replies, 1);
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body, {.latency = 1000, .bandwidth = 1e18});
  EXPECT_TRUE(run.nodes[0].finished);
}

TEST(Simulation, MatchingIsFirstComeFirstServed) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      for (int i = 0; i < 4; ++i) world.send(1, test_head(i % 2, i < 2 ? kTest : kOther));
      return Numbers{};
    }
    world.sleep(kSecond);
    EXPECT_EQ(world.receive({.tag = kOther, .arg0 = 1}, 0).message.head.sequence, 6u);
    EXPECT_EQ(world.receive({.tag = kOther}, 0).message.head.sequence, 4u);
    EXPECT_EQ(world.receive({.tag = kTest}, 0).message.head.sequence, 0u);
    EXPECT_EQ(world.receive({.tag = kTest, .source = 0}, 0).message.head.sequence, 2u);
    EXPECT_FALSE(world.receive({.tag = kTest}, 0).ok());
    return Numbers{};
  };
  EXPECT_TRUE(simulate(2, body).nodes[1].finished);
}

TEST(Simulation, KillUnwindsAndOthersLearn) {
  int unwound = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      struct Guard {
        int& n;
        World& w;
        ~Guard() {
          ++n;
          w.send(1, test_head());                    // a crash says nothing more
          (void)w.receive({.tag = kTest}, kSecond);  // and does not wait
        }
      } guard{unwound, world};
      for (;;) world.compute(Cost{1}, [] {});
    }
    EXPECT_EQ(world.peer(0), PeerState::alive);
    EXPECT_EQ(world.receive({.tag = kTest, .source = 0}, 10 * kSecond).what, Received::What::peer_lost);
    EXPECT_EQ(world.now(), 55 * kMillisecond + 100 * kMillisecond);
    EXPECT_EQ(world.peer(0), PeerState::gone);  // no restarts
    EXPECT_EQ(world.receive({.tag = kTest, .source = 0}, kSecond).what, Received::What::peer_lost);
    EXPECT_EQ(world.receive({.tag = kTest}, kMillisecond).what, Received::What::timeout);
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body, {.faults = plan("kill rank=0 at=55ms")});
  EXPECT_EQ(unwound, 1);
  EXPECT_EQ(run.report.nodes[0].what, NodeOutcome::What::killed);
  EXPECT_EQ(run.report.nodes[0].time, 55 * kMillisecond);
  EXPECT_TRUE(run.nodes[1].finished);
}

TEST(Simulation, RestartsWithAHigherIncarnation) {
  std::vector<uint32_t> lives;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 1) {
      world.sleep(500 * kMillisecond);
      EXPECT_EQ(world.peer(0), PeerState::dead);
      world.sleep(kSecond);
      EXPECT_EQ(world.peer(0), PeerState::alive);
      return Numbers{};
    }
    lives.push_back(world.incarnation());
    for (int step = 0; step < 200; ++step) {
      world.report_step(step);
      world.compute(Cost{1}, [] {});
    }
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body, {.restarts = 3, .faults = plan("kill rank=0 step=20\nkill rank=0 at=2s")});
  EXPECT_EQ(lives, (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_TRUE(run.nodes[0].finished && run.nodes[1].finished);
  EXPECT_EQ(run.nodes[0].restarts, 2u);
  EXPECT_EQ(run.report.nodes[0].step, 199);
}

TEST(Simulation, MessagesToTheFormerLifeAreLost) {
  int received = 0;
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      world.sleep(9 * kMillisecond);
      world.send(1, test_head());  // on its way for 5 ms; rank 1 dies at 10 ms and is back at 11 ms
      return Numbers{};
    }
    if (world.receive({.tag = kTest}, kSecond).ok()) ++received;
    return Numbers{};
  };
  simulate(2, body,
           {.latency = 5 * kMillisecond,
            .detection = 0,
            .restarts = 1,
            .restart_delay = kMillisecond,
            .faults = plan("kill rank=1 at=10ms")});
  EXPECT_EQ(received, 0);
}

TEST(Simulation, PauseSlowDelayDrop) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      world.compute(Cost{1}, [] {});
      Numbers out{static_cast<double>(world.now())};  // 10 ms, four times slower
      world.sleep(20 * kMillisecond);                 // to 60 ms
      world.send(1, test_head());                     // 5 ms late, to a paused node: there at 150 ms
      world.send(2, test_head());                     // dropped
      return out;
    }
    if (world.rank() == 1) {
      EXPECT_TRUE(world.receive({.tag = kTest}, kSecond).ok());
      return Numbers{static_cast<double>(world.now())};
    }
    world.sleep(30 * kMillisecond);
    world.compute(Cost{1}, [] {});  // paused from 35 to 135 ms
    Numbers out{static_cast<double>(world.now())};
    EXPECT_FALSE(world.receive({.tag = kTest}, kSecond).ok());
    return out;
  };
  SimulatedRun run = simulate(3, body,
                              {.bandwidth = 1e18,
                               .jitter = 0,
                               .faults = plan("slow rank=0 factor=4 until=1s\n"
                                              "delay from=0 to=* by=5ms\n"
                                              "drop from=0 to=2\n"
                                              "pause rank=1 at=50ms for=100ms\n"
                                              "pause rank=2 at=35ms for=100ms")});
  EXPECT_EQ(run.nodes[0].numbers[0], 40e6);
  EXPECT_EQ(run.nodes[1].numbers[0], 150e6);
  EXPECT_EQ(run.nodes[2].numbers[0], 140e6);
}

TEST(Simulation, DuplicateReorderPartition) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      for (int64_t i = 0; i < 4; ++i) {
        world.report_step(i);
        for (Rank to : {1, 2}) {
          Head head = test_head();
          head.arg[0] = i;
          world.send(to, head);
        }
        world.sleep(kMillisecond);
      }
      return Numbers{};
    }
    Numbers came;
    for (Received r; (r = world.receive({.tag = kTest}, kSecond)).ok();)
      came.push_back(static_cast<double>(r.message.head.arg[0]));
    return came;
  };
  SimulatedRun run = simulate(3, body,
                              {.jitter = 0,
                               .faults = plan("duplicate to=1 after_step=3\nreorder to=1 by=5ms until_step=1\n"
                                              "partition ranks=2 after=500us until=1500us")});
  EXPECT_EQ(run.nodes[1].numbers, (Numbers{1, 2, 3, 3, 0}));
  EXPECT_EQ(run.nodes[2].numbers, (Numbers{0, 2, 3}));
}

TEST(Simulation, Corrupts) {
  auto body = [&](World& world) -> Result<Numbers> {
    Numbers theta(3, 1), sums;
    for (int64_t step = 0; step < 4; ++step) {
      world.report_step(step, VecView(theta));
      sums.push_back(theta[0] + theta[1] + theta[2]);
      world.sleep(10 * kMillisecond);
    }
    return sums;
  };
  SimulatedRun run =
      simulate(2, body, {.faults = plan("corrupt rank=0 step=1 value=5\ncorrupt rank=1 at=15ms value=nan")});
  EXPECT_EQ(run.nodes[0].numbers, (Numbers{3, 15, 15, 15}));
  EXPECT_EQ(run.nodes[1].numbers[1], 3);
  EXPECT_TRUE(std::isnan(run.nodes[1].numbers[2]));
}

TEST(Simulation, PauseByStep) {
  auto body = [&](World& world) -> Result<Numbers> {
    for (int step = 0; step < 3; ++step) {
      world.report_step(step);
      world.compute(Cost{1}, [] {});
    }
    return Numbers{static_cast<double>(world.now())};
  };
  SimulatedRun run = simulate(1, body, {.jitter = 0, .faults = plan("pause rank=0 step=1 for=70ms")});
  EXPECT_EQ(run.nodes[0].numbers[0], 100e6);
}

TEST(Simulation, LeavingIsSeen) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) return Numbers{};  // the helper leaves for it
    EXPECT_EQ(world.receive({.tag = kTest, .source = 0}, 10 * kSecond).what, Received::What::peer_lost);
    EXPECT_EQ(world.peer(0), PeerState::left);
    return Numbers{};
  };
  EXPECT_TRUE(simulate(2, body).nodes[1].finished);
}

TEST(Simulation, ReportsDeadlock) {
  auto body = [&](World& world) -> Result<Numbers> {
    (void)world.receive({.tag = kTest, .source = 1 - world.rank(), .request = 7}, INT64_MAX);
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body);
  EXPECT_EQ(run.report.nodes[0].what, NodeOutcome::What::deadlocked);
  EXPECT_NE(run.report.deadlock.find("rank 0 waits for tag 100 from rank 1, request 7"), std::string::npos)
      << run.report.deadlock;
  EXPECT_NE(run.report.deadlock.find("rank 1 waits for tag 100 from rank 0"), std::string::npos);
}

TEST(Simulation, FailuresAreDeaths) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) throw std::runtime_error("a mistake");
    if (world.rank() == 1) return Status(StatusCode::data_error, "bad data");
    for (Rank r : {0, 1})
      EXPECT_EQ(world.receive({.tag = kTest, .source = r}, kSecond).what, Received::What::peer_lost);
    return Numbers{};
  };
  SimulatedRun run = simulate(3, body);
  EXPECT_EQ(run.nodes[0].status.message(), "a mistake");
  EXPECT_EQ(run.nodes[1].status.code(), StatusCode::data_error);
  EXPECT_TRUE(run.nodes[2].finished);
}

TEST(Simulation, AFailingHandlerEndsItsNode) {
  auto body = [&](World& world) -> Result<Numbers> {
    if (world.rank() == 0) {
      world.send(1, test_head());
    } else {
      world.on(kTest, [](const Message&) { throw std::runtime_error("handler broke"); });
      world.sleep(kSecond);
      (void)world.receive({.tag = kOther}, kSecond);
    }
    return Numbers{};
  };
  SimulatedRun run = simulate(2, body);
  EXPECT_TRUE(run.nodes[0].finished);
  EXPECT_FALSE(run.nodes[1].finished);
  EXPECT_NE(run.nodes[1].status.message().find("handler broke"), std::string::npos);
}

TEST(Simulation, NodeLocalsAreTheNodes) {
  auto body = [&](World& world) -> Result<Numbers> {
    node_locals().grad_enabled = world.rank() == 0;
    for (int i = 0; i < 3; ++i) {
      (void)world.receive({.tag = kTest}, kMillisecond);
      EXPECT_EQ(node_locals().grad_enabled, world.rank() == 0);
    }
    return Numbers{};
  };
  simulate(2, body);
  EXPECT_TRUE(node_locals().grad_enabled);
}

// Random traffic with handlers, timeouts, publishing and faults: what the schemes do not happen to do.
Result<Numbers> storm(World& world, uint64_t seed, int rounds) {
  double state = world.rank();
  int64_t late = 0;
  world.on(kTest, [&](const Message& m) {
    state = 0.5 * (state + static_cast<double>(m.head.arg[0]));
    Head reply = test_head(static_cast<int64_t>(state * 1000), kOther);
    reply.is_reply = 1;
    reply.request = m.head.request;
    world.send(m.head.source, reply, Payload::allocate(m.body.size() / 2));
  });
  double sum = 0;
  for (int k = 0; k < rounds; ++k) {
    world.report_step(k);
    RngKey key{seed, uint32_t(RngPurpose::test), uint32_t(world.rank()), uint64_t(k)};
    auto draw = [&](int i, uint32_t bound) { return below(philox_u32(key, i), bound); };
    world.compute(Cost{0.01 * draw(0, 100)}, [] {});
    const Rank to = static_cast<Rank>(draw(1, world.size()));
    Received r = fetch(world, to, test_head(k), Payload::allocate(draw(2, 20000)), kOther, draw(3, 400) * kMicrosecond);
    sum += r.ok() ? static_cast<double>(r.message.head.arg[0]) : 1.0;
    if (draw(4, 2)) world.send(static_cast<Rank>(draw(5, world.size())), test_head(k, kThird));
    if (draw(6, 2)) sum += world.receive({.tag = kThird}, draw(7, 300) * kMicrosecond).ok();
    if (draw(8, 4) == 0) sum += static_cast<int>(world.peer(to));
    if (draw(9, 4) == 0) world.publish([&] { state += 1; });
    if (draw(10, 8) == 0) late = world.traffic().late_replies;
  }
  world.on(kTest, {});
  return Numbers{sum, state, static_cast<double>(world.now()), static_cast<double>(late)};
}

SimOptions storm_options(uint64_t seed, bool always_yield) {
  SimOptions o{.seed = seed, .latency = 50 * kMicrosecond, .bandwidth = 1e9, .step_cost = kMillisecond};
  o.detection = 5 * kMillisecond;
  o.restarts = 1;
  o.restart_delay = 3 * kMillisecond;
  o.always_yield = always_yield;
  o.faults = plan(
      "drop from=* to=* probability=0.02\n"
      "delay from=1 to=* by=300us after=5ms until=20ms\n"
      "slow rank=2 factor=3 after=10ms until=30ms\n"
      "pause rank=3 at=12ms for=4ms\n"
      "pause rank=4 step=11 for=3ms\n"
      "kill rank=5 at=15ms\n"
      "kill rank=6 step=20");
  return o;
}

TEST(Simulation, LazyAndAlwaysYieldAgree) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto body = [&](World& world) { return storm(world, seed, 60); };
    SimulatedRun lazy = simulate(8, body, storm_options(seed, false));
    SimulatedRun yielding = simulate(8, body, storm_options(seed, true));
    SimulatedRun again = simulate(8, body, storm_options(seed, false));
    EXPECT_EQ(lazy.report.trace_hash, yielding.report.trace_hash) << "seed " << seed;
    EXPECT_EQ(lazy.report.trace_hash, again.report.trace_hash);
    EXPECT_EQ(lazy.report.virtual_time, yielding.report.virtual_time);
    EXPECT_EQ(lazy.report.nodes[5].restarts + lazy.report.nodes[6].restarts, 2u);
    for (Rank r = 0; r < 8; ++r) EXPECT_EQ(lazy.nodes[r].numbers, yielding.nodes[r].numbers) << "rank " << r;
    EXPECT_LT(lazy.report.events, yielding.report.events);
    SimulatedRun other = simulate(8, body, storm_options(seed + 100, false));
    EXPECT_NE(lazy.report.trace_hash, other.report.trace_hash);
  }
}

TEST(Simulation, ContinuesFromASavedState) {
  auto segment = [](Simulation& sim, int nodes, uint64_t seed) {
    std::vector<Numbers> results(nodes);
    for (Rank r = 0; r < nodes; ++r)
      sim.set_node(r, [&results, r, seed](World& world) {
        Result<Numbers> result = storm(world, seed, 20);
        if (!result.ok()) return result.status();
        results[r] = *result;
        return Status::Ok();
      });
    SimReport report = sim.run();
    return std::pair{results, report.trace_hash};
  };
  for (bool always_yield : {false, true}) {
    Simulation whole(storm_options(3, always_yield), 8);
    segment(whole, 8, 1);
    std::vector<int64_t> saved = whole.save();
    auto expected = segment(whole, 8, 2);
    Simulation resumed(storm_options(3, always_yield), 8);
    ASSERT_TRUE(resumed.load(saved).ok());
    EXPECT_EQ(segment(resumed, 8, 2), expected);
  }
  Simulation smaller(SimOptions{}, 3);
  EXPECT_EQ(smaller.load(Simulation(SimOptions{}, 4).save()).code(), StatusCode::data_error);
}

TEST(Simulation, AThousandNodes) {
  constexpr int kNodes = 1000;
  auto body = [&](World& world) -> Result<Numbers> {
    const Rank next = (world.rank() + 1) % kNodes;
    double sum = 0;
    for (int k = 0; k < 10; ++k) {
      world.compute(Cost{1}, [] {});
      world.send(next, test_head(world.rank()));
      Received r = world.receive({.tag = kTest}, kSecond);
      EXPECT_TRUE(r.ok());
      sum += static_cast<double>(r.message.head.arg[0]);
    }
    return Numbers{sum};
  };
  SimulatedRun run = simulate(kNodes, body);
  for (Rank r = 0; r < kNodes; ++r) ASSERT_EQ(run.nodes[r].numbers, Numbers{10.0 * ((r + kNodes - 1) % kNodes)});
}

// Computations of different nodes run at once, each ends before its node goes on, and what one throws comes out of it.
TEST(SimulationThreads, ComputationsOverlap) {
  constexpr int kNodes = 6;
  int threads = 3;
  std::atomic<int> running = 0, most = 0;
  std::vector<int> done(kNodes);
  auto body = [&](World& world) -> Result<Numbers> {
    for (int k = 0; k < 3; ++k) {
      world.compute({}, [&] {
        for (int seen = most, now = ++running; seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        for (int wait = 0; most < threads && wait < 2000; ++wait)  // for the others, if they come
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        --running;
        ++done[world.rank()];
      });
      EXPECT_EQ(done[world.rank()], k + 1);
    }
    return Numbers{static_cast<double>(world.now())};
  };
  const SimulatedRun many = simulate(kNodes, body, {.threads = 3});
  EXPECT_EQ(most, 3);
  done.assign(kNodes, 0);
  threads = 1;
  const SimulatedRun one = simulate(kNodes, body);
  for (int r = 0; r < kNodes; ++r) EXPECT_EQ(many.nodes[r].numbers, one.nodes[r].numbers);
}

TEST(SimulationThreads, WhatAComputationThrowsComesOut) {
  const SimulatedRun run = simulate(2,
                                    [](World& world) -> Result<Numbers> {
                                      try {
                                        world.compute({}, [&] {
                                          if (world.rank() == 1) throw std::runtime_error("bad data");
                                        });
                                      } catch (const std::runtime_error& e) {
                                        return make_status(StatusCode::data_error, e.what());
                                      }
                                      return Numbers{1};
                                    },
                                    {.threads = 2});
  EXPECT_TRUE(run.nodes[0].finished);
  EXPECT_EQ(run.nodes[1].status.message(), "bad data");
}

// A node that is killed in the middle of a computation waits for it before its memory goes.
TEST(SimulationThreads, AKilledNodeWaitsForItsComputation) {
  std::atomic<bool> alive = true;
  struct Memory {
    std::atomic<bool>& alive;
    explicit Memory(std::atomic<bool>& a) : alive(a) {}
    ~Memory() { alive = false; }
  };
  const SimulatedRun run = simulate(3,
                                    [&](World& world) -> Result<Numbers> {
                                      std::optional<Memory> memory;
                                      if (world.rank() == 1) memory.emplace(alive);
                                      world.compute({}, [&] {
                                        std::this_thread::sleep_for(std::chrono::milliseconds(20));
                                        if (world.rank() == 1) {
                                          EXPECT_TRUE(alive);
                                        }
                                      });
                                      return Numbers{1};
                                    },
                                    {.threads = 2, .faults = parse_fault_plan("kill rank=1 at=3ms", "plan").value()});
  EXPECT_FALSE(run.nodes[1].finished);
  EXPECT_FALSE(alive);
}

}  // namespace
}  // namespace sinew::dist::testing
