// The bodies of the simulated tests, on real processes over UCX; one of the processes is killed.
#if SINEW_HAVE_UCX

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <tuple>

#include "dist/communicator.h"
#include "tests/support/busy_bodies.h"
#include "tests/support/collective_bodies.h"
#include "tests/support/gossip_bodies.h"
#include "tests/support/leader_bodies.h"
#include "tests/support/scheme_bodies.h"
#include "tests/support/spawn_processes.h"

namespace sinew::dist::testing {
namespace {

TEST(UcxWorld, ReceiveEach) { check_receive_each(in_processes()); }

TEST(UcxCollectives, SameBodiesAsInTheSimulation) {
  for (int members : {1, 2, 3}) {
    check_all_reduce(in_processes(), members, 400'003, DType::f32);
    for (Packing packing : {Packing::bf16, Packing::int8})
      check_packed_all_reduce(in_processes(), members, 200'003, DType::f32, packing);
    check_broadcast(in_processes(), members, 1000, members - 1);
    check_all_gather(in_processes(), members, 5);
  }
}

TEST(UcxScheme, LockstepSchemesEqualTheSimulation) {
  check_lockstep_equals_simulation(in_processes(), "allreduce", "jacobi");
  check_lockstep_equals_simulation(in_processes(), "easgd_sync", "jacobi");
  check_lockstep_equals_simulation(in_processes(), "easgd_sync", "gauss_seidel");
  check_lockstep_equals_simulation(in_processes(), "local_sgd", "jacobi");
  constexpr auto int8 = [](SchemeOptions& o) { o.wire = "int8"; };
  check_lockstep_equals_simulation(in_processes(), "allreduce", "jacobi", int8);
  check_lockstep_equals_simulation(in_processes(), "easgd_sync", "jacobi", int8);
  check_lockstep_equals_simulation(in_processes(), "local_sgd", "jacobi", [](SchemeOptions& o) { o.wire = "bf16"; });
  check_lockstep_equals_simulation(in_processes(), "dpsgd", "jacobi",
                                   [](SchemeOptions& o) { o.wire = "int8", o.global_average_every = 4; });
  check_lockstep_equals_simulation(in_processes(), "lsgd", "jacobi", two_leaders);
  check_lockstep_equals_simulation(in_processes(), "lsgd", "jacobi",
                                   [](SchemeOptions& o) { two_leaders(o), o.wire = "int8"; });
  check_lockstep_equals_simulation(in_processes(), "lgd", "jacobi");
}

TEST(UcxScheme, ElasticSchemesConserve) {
  check_elastic_conserves(in_processes(), "easgd");
  check_elastic_conserves(in_processes(), "eamsgd");
  check_still_elastic_is_local(in_processes(), "easgd");
}

TEST(UcxGossip, LockstepSchemesEqualTheSimulation) {
  for (const GossipCase& c : kLockstepGossip)
    check_lockstep_equals_simulation(in_processes(), c.name, "jacobi", c.more);
}

TEST(UcxGossip, Conserves) {
  for (const GossipCase& c : kLockstepGossip) check_gossip_conserves(in_processes(), c);
  for (const GossipCase& c : kAsynchronousGossip) check_gossip_conserves(in_processes(), c, false);
}

TEST(UcxGossip, WhoIsLateStaysWithTheOthers) {
  for (const GossipCase& c : kAsynchronousGossip) check_late_worker_stays(in_processes(), c);
}

TEST(UcxGossip, DropsLoseNothing) {
  const auto plan = parse_fault_plan("drop from=* to=* probability=0.03\n", "plan");
  ASSERT_TRUE(plan.ok());
  for (const GossipCase& c : {kLockstepGossip[0], kLockstepGossip[6], kAsynchronousGossip[0], kAsynchronousGossip[3]})
    check_gossip_conserves(in_processes({.faults = *plan}), c, false);
}

TEST(UcxScheme, DownpourDelivers) {
  check_downpour_delivers(in_processes(), "downpour");
  check_downpour_delivers(in_processes(), "mdownpour");
  check_downpour_delivers(in_processes(), "downpour", 3, "int8");
}

TEST(UcxScheme, DropsLoseNothing) {
  const auto plan = parse_fault_plan("drop from=* to=* probability=0.05\n", "plan");
  ASSERT_TRUE(plan.ok());
  check_elastic_conserves(in_processes({.faults = *plan}), "easgd");
  check_downpour_delivers(in_processes({.faults = *plan}), "downpour");
  check_admm_center(in_processes({.faults = *plan}));
}

// A worker whose parameters become nonsense adopts the center; the others and the center do not notice.
TEST(UcxScheme, DynamicWeightsKeepBadParametersOut) {
  for (double bad : {50.0, static_cast<double>(NAN)}) {
    Toy toy = common_toy("easgd");
    toy.scheme.weighting = {.rule = "dynamic", .warmup_rounds = 2};
    toy.steps = 60;
    const auto nodes = in_processes()(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
      if (world.rank() != 1) return toy_run(world, toy);
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      for (int64_t k = 0; k < toy.steps; ++k) {
        if (k == 48) fill(worker.theta().mutable_view(), bad);
        SINEW_RETURN_IF_ERROR(worker.step(k));
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      return to_doubles(worker.theta().view());
    });
    for (const NodeResult& node : nodes) {
      ASSERT_TRUE(node.finished) << node.status.message();
      for (double v : node.numbers) ASSERT_LT(std::fabs(v), 3) << bad;
    }
  }
}

// The leaves draw together through inner nodes of their own, some of which are killed: one, the root, all. Restarted
// ones come back to their places.
TEST(UcxScheme, ATreeDrawsTogether) {
  struct Case {
    std::vector<Rank> dead;
    bool restart = false;
    const char* wire = "f32";
  };
  for (const Case& c : {Case{{}}, {{5}}, {{4}, false, "int8"}, {{4, 5, 6}}, {{4}, true}, {{4, 5}, true, "bf16"}}) {
    Toy toy = common_toy("easgd_tree", "jacobi", 4);
    toy.scheme.fan_out = 2;  // root 4, and 5 and 6 above the leaves
    toy.scheme.period = 2;
    toy.scheme.far_period = 4;
    toy.lr = 0;
    toy.start_spread = 1;
    toy.scheme.wire = c.wire;
    toy.steps = 400;
    std::string faults;
    for (Rank r : c.dead) faults += sinew::detail::concat("dies: ", r, "\n");
    const auto nodes =
        in_processes({.restart = c.restart})(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
          if (std::count(c.dead.begin(), c.dead.end(), world.rank()) > 0)
            die_after(world, 100 * (world.rank() - 2) * kMillisecond);
          if (world.rank() >= 4) return toy_run(world, toy);
          ToyWorker worker(toy, world);
          SINEW_RETURN_IF_ERROR(worker.start());
          Communicator leaves(world, {0, 1, 2, 3}, 30 * kSecond);
          SINEW_RETURN_IF_ERROR(leaves.barrier());  // nobody is done before another begins
          for (int64_t k = 0; k < toy.steps; ++k) {
            SINEW_RETURN_IF_ERROR(worker.step(k));
            world.sleep(4 * kMillisecond);  // the rest of a step of training; late processes are killed in time, too
          }
          SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
          return to_doubles(worker.theta().view());
        });
    double low = 1e9, high = -1e9;
    for (Rank r = 0; r < 7; ++r) {
      const NodeResult& node = nodes[static_cast<size_t>(r)];
      const bool dies = std::find(c.dead.begin(), c.dead.end(), r) != c.dead.end();
      ASSERT_EQ(node.finished, !dies || c.restart) << faults << r << ": " << node.status.message();
      EXPECT_EQ(node.restarts, dies && c.restart ? 1u : 0u) << faults << r;
      for (double v : node.numbers) low = std::min(low, v), high = std::max(high, v);
    }
    EXPECT_GE(low, 1 - 0.05);
    EXPECT_LE(high, 4 + 0.05);
    EXPECT_LT(high - low, 2) << "of 3\n" << faults;
  }
}

FaultPlan kill_rank_1() { return *parse_fault_plan("kill rank=1 step=10\n", "plan"); }

// With a learning rate of 0 the death may take only what was in flight: the others and the center stay near the sum.
void check_survivors(const std::vector<NodeResult>& nodes) {
  for (size_t r : {size_t{0}, size_t{2}, size_t{3}})
    EXPECT_TRUE(nodes[r].finished) << r << ": " << nodes[r].status.message();
}

// Workers begin at 1, 2, ..., and only what they exchange and adopt moves them. The killed one's second life begins far
// off; nobody may end outside of where the others were.
void check_adopts(Toy toy) {
  toy.lr = 0;
  toy.start_spread = 1;
  toy.steps = 1500;  // the others are still there when it is back
  const auto nodes = in_processes({.faults = kill_rank_1(), .restart = true})(
      node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
        Toy own = toy;
        if (world.incarnation() > 0) own.start = 1000;
        if (world.rank() >= toy.scheme.workers) return toy_run(world, own);
        ToyWorker worker(own, world);
        SINEW_RETURN_IF_ERROR(worker.start());
        for (int64_t k = 0; k < toy.steps; ++k) {
          SINEW_RETURN_IF_ERROR(worker.step(k));
          world.sleep(kMillisecond);
        }
        SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
        return to_doubles(worker.theta().view());
      });
  EXPECT_EQ(nodes[1].restarts, 1u);
  for (size_t r = 0; r < nodes.size(); ++r) {
    ASSERT_TRUE(nodes[r].finished) << r << ": " << nodes[r].status.message();
    for (double x : nodes[r].numbers) {
      ASSERT_GE(x, 1 - 1e-9) << r;
      ASSERT_LE(x, toy.scheme.workers + 1e-9) << r;
    }
  }
}

TEST(UcxScheme, OthersGoOnWithoutAKilledWorker) {
  for (const Variant& v : kVariants) {
    Toy toy = common_toy(v.name);
    if (!needs_center(toy.scheme) || v.more) continue;  // the same on the wire, too, and once is enough
    toy.scheme.weighting.rule = v.weighting;
    toy.steps = 40;
    const auto nodes =
        in_processes({.faults = kill_rank_1()})(node_count(toy.scheme), [&](World& w) { return toy_run(w, toy); });
    EXPECT_FALSE(nodes[1].finished);
    check_survivors(nodes);
  }
}

TEST(UcxGossip, OthersGoOnWithoutAKilledWorker) {
  for (const auto* cases : {kLockstepGossip, kAsynchronousGossip})
    for (size_t i : {0, 2, 3, 4}) {
      Toy toy = common_gossip_toy(cases[i], 4);
      toy.steps = 60;
      const auto nodes = in_processes({.faults = kill_rank_1()})(4, [&](World& w) { return gossip_run(w, toy); });
      EXPECT_FALSE(nodes[1].finished) << cases[i].name;
      check_survivors(nodes);
    }
}

TEST(UcxGossip, AKilledWorkerComesBackAndAdopts) {
  for (const GossipCase& c : {kLockstepGossip[0], kAsynchronousGossip[3], kAsynchronousGossip[4]}) {
    SCOPED_TRACE(c.name);
    check_adopts(common_gossip_toy(c, 4));
  }
}

// Without a clock: the leader, the ticket server, or another worker is killed; who comes back takes over the leader's
// parameters. Without gradients all that live end at the leader.
TEST(UcxLeader, OthersGoOnWithoutAKilledWorkerOrServer) {
  for (const auto& [faults, dies, restart] : {std::tuple{"kill rank=2 step=40\n", 2, false},
                                              {"kill rank=0 step=40\n", 0, false},
                                              {"kill rank=2 step=40\n", 2, true}}) {
    Toy toy = toy_with(leaders("lsgd", 4,
                               [](SchemeOptions& o) {
                                 o.mode = "async";
                                 o.period = 4;
                                 o.pull = 0.5;
                                 o.deadline = 4 * kSecond;
                               }),
                       0);
    toy.steps = restart ? 400 : 150;
    const auto nodes = in_processes(
        {.faults = *parse_fault_plan(faults, "plan"), .restart = restart})(4, [&](World& world) -> Result<Numbers> {
      Toy own = toy;
      int64_t last = -1;
      own.scheme.on_round = [&](const LeaderRound& r) { last = r.round; };
      if (world.incarnation() > 0) own.start = 100;
      Result<Numbers> theta = run_with(world, own, led_by(1), [&](ToyWorker&, int64_t) { world.sleep(kMillisecond); });
      if (!theta.ok()) return theta.status();
      return Numbers{theta->at(0), static_cast<double>(last)};
    });
    for (Rank r = 0; r < 4; ++r) {
      const NodeResult& node = nodes[static_cast<size_t>(r)];
      if (r == dies && !restart) {
        EXPECT_FALSE(node.finished);
        continue;
      }
      ASSERT_TRUE(node.finished) << faults << " rank " << r << ": " << node.status.message();
      EXPECT_NEAR(node.numbers[0], 2, 1e-3) << faults << " rank " << r;
      EXPECT_GE(node.numbers[1], 25) << faults << " rank " << r;
    }
  }
}

TEST(UcxScheme, AKilledWorkerComesBackAndAdoptsTheCenter) {
  for (const char* scheme : {"easgd", "downpour"}) {
    SCOPED_TRACE(scheme);
    check_adopts(common_toy(scheme));
  }
}

TEST(UcxScheme, SynchronousSchemesSurviveADeath) {
  for (const char* scheme : kInLockstep) {
    Toy toy = common_toy(scheme, "jacobi", 4);
    toy.steps = 100;
    const auto nodes = in_processes({.faults = kill_rank_1()})(4, [&](World& w) { return toy_run(w, toy); });
    check_survivors(nodes);
    const bool equal = toy.scheme.name == "allreduce" || toy.scheme.name == "local_sgd";
    EXPECT_EQ(nodes[0].numbers == nodes[3].numbers, equal) << scheme;
  }
}

// Killed before it has joined, or after it; or it comes too late.
TEST(UcxScheme, TheOthersBeginWithoutOneThatIsLost) {
  for (const char* scheme : kInLockstep) {
    check_begins_without_one(in_processes({.absent = 1}), scheme);
    check_begins_without_one(in_processes(), scheme, [](World& world) {
      if (world.rank() == 0) std::raise(SIGKILL);
    });
  }
  check_begins_without_one(in_processes(), "lsgd", [](World& world) {
    while (world.rank() == 2 && world.peer(0) != PeerState::left) world.sleep(20 * kMillisecond);
  });
}

// Its communication thread answers for it.
TEST(UcxScheme, ABusyMemberIsWaitedFor) { check_busy_member_is_waited_for(in_processes(), {"easgd_sync"}, 0, kSecond); }

// A leader is killed or stopped between two rounds, or somewhere in one; or another worker is.
TEST(UcxLeader, AnotherOneIsElectedInLockstep) {
  for (const auto& [scheme, faults, leader, lost, steps] : {std::tuple{"lsgd", "kill rank=1 step=9\n", 1, 1, 24},
                                                            {"lsgd", "kill rank=2 step=8\n", 1, 2, 24},
                                                            {"lsgd", "pause rank=1 step=9 for=4s\n", 1, 1, 24},
                                                            {"lsgd", "kill rank=1 at=600ms\n", 1, 1, 1000},
                                                            {"lgd", "kill rank=1 step=9\n", 1, 1, 24},
                                                            {"lgd", "kill rank=0 at=650ms\n", 1, 0, 1000}}) {
    SCOPED_TRACE(sinew::detail::concat(scheme, ": ", faults));
    check_leaders_survive(in_processes({.faults = *parse_fault_plan(faults, "plan")}), scheme, "0,1,4/2,3", leader,
                          lost, steps, steps > 100 ? kMillisecond : 0);
  }
}

// As SynchronousSchemesSurviveADeath, with rounded numbers: whoever is left still has equal bits.
TEST(UcxScheme, PackedRoundsSurviveADeath) {
  for (const char* scheme : {"allreduce", "local_sgd"}) {
    Toy toy = common_toy(scheme, "jacobi", 4);
    toy.scheme.wire = "int8";
    toy.steps = 100;
    const auto nodes = in_processes({.faults = kill_rank_1()})(4, [&](World& w) { return toy_run(w, toy); });
    check_survivors(nodes);
    EXPECT_EQ(nodes[0].numbers, nodes[2].numbers) << scheme;
    EXPECT_EQ(nodes[0].numbers, nodes[3].numbers) << scheme;
  }
}

// Half of the members, without the lowest rank, do not go on; the others do.
TEST(UcxScheme, OnlyOneSideOfAPartitionGoesOn) {
  for (const char* scheme : {"allreduce", "lsgd"}) {
    Toy toy = common_toy(scheme, "jacobi", 4);
    toy.steps = 20;
    toy.scheme.deadline = kSecond;
    const auto plan = parse_fault_plan("partition ranks=1,2 after_step=5\n", "plan");
    ASSERT_TRUE(plan.ok());
    const auto nodes = in_processes({.faults = *plan})(4, [&](World& w) { return toy_run(w, toy); });
    for (size_t r : {size_t{0}, size_t{3}}) EXPECT_TRUE(nodes[r].finished) << nodes[r].status.message();
    for (size_t r : {size_t{1}, size_t{2}}) EXPECT_EQ(nodes[r].status.code(), StatusCode::peer_lost);
  }
}

TEST(UcxScheme, EndsAroundASilentWorker) {
  for (const char* faults : {"pause rank=2 step=38 for=9s\n", "pause rank=0 step=38 for=3s\n"})
    check_ends_around_a_silent_worker(in_processes({.faults = *parse_fault_plan(faults, "plan")}), faults);
}

// A node of the center is killed for good, or comes back; with a learning rate of 0 the workers still draw together.
TEST(UcxScheme, SomebodyTakesADeadCentersPlace) {
  for (const auto& [servers, dies, restart] : {std::tuple{"1", 3, false},
                                               {"1", 3, true},
                                               {"2", 4, false},
                                               {"2", 3, true},
                                               {"workers", 1, false},
                                               {"workers", 1, true}}) {
    SCOPED_TRACE(servers);
    Toy toy = common_toy("easgd");
    toy.scheme.servers = servers;
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 300;
    toy.scheme.period = 5;
    toy.scheme.deadline = 2 * kSecond;  // what a death swallows is asked again while the others still train
    const int count = node_count(toy.scheme);
    const auto nodes = in_processes({.restart = restart})(count, [&, dying = dies](World& world) -> Result<Numbers> {
      if (world.rank() == dying) die_after(world, 300 * kMillisecond);
      if (world.rank() >= 3) return toy_run(world, toy);
      ToyWorker worker(toy, world);
      SINEW_RETURN_IF_ERROR(worker.start());
      for (int64_t k = 0; k < toy.steps; ++k) {
        SINEW_RETURN_IF_ERROR(worker.step(k));
        world.sleep(5 * kMillisecond);
      }
      SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
      Vec center = Vec::zeros(toy.size, toy.dtype);
      SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), center.mutable_view()));
      return Numbers{to_doubles(worker.theta().view())[0], to_doubles(center.view())[0]};
    });
    const auto dead = static_cast<size_t>(dies);
    EXPECT_EQ(nodes[dead].restarts, restart ? 1u : 0u);
    EXPECT_EQ(nodes[dead].finished, restart) << nodes[dead].status.message();
    for (size_t r = 0; r < 3; ++r) {
      if (r == dead && !restart) continue;
      ASSERT_TRUE(nodes[r].finished) << nodes[r].status.message();
      EXPECT_NEAR(nodes[r].numbers[0], nodes[0].numbers[1], 1e-3) << r << ", restart " << restart;
      EXPECT_GT(nodes[r].numbers[0], 1.2) << "they began at 1, 2 and 3";
    }
  }
}

}  // namespace
}  // namespace sinew::dist::testing

#endif
