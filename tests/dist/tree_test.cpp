#include "dist/schemes/tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "dist/schemes/schemes.h"
#include "tests/support/scheme_bodies.h"

namespace sinew::dist::testing {
namespace {

constexpr Nanos kStep = 10 * kMillisecond;

TEST(Tree, Shapes) {
  for (auto [workers, fan_out, nodes] : {std::tuple{1, 4, 2},
                                         {4, 4, 5},
                                         {5, 4, 8},
                                         {4, 2, 7},
                                         {16, 4, 21},
                                         {256, 16, 273},
                                         {7, 2, 14},
                                         {1000, 3, 1505}}) {
    const Tree tree(workers, fan_out);
    EXPECT_EQ(Tree::node_count(workers, fan_out), nodes);
    EXPECT_EQ(tree.nodes(), nodes) << workers << " " << fan_out;
    EXPECT_EQ(tree.root(), workers);
    std::vector<int> depth(static_cast<size_t>(tree.nodes()), 0);
    int roots = 0;
    for (Rank r = 0; r < tree.nodes(); ++r) {
      EXPECT_EQ(tree.is_leaf(r), tree.children(r).empty());
      EXPECT_LE(tree.children(r).size(), static_cast<size_t>(fan_out));
      for (Rank child : tree.children(r)) EXPECT_EQ(tree.parent(child), r);
      roots += tree.parent(r) < 0;
      for (Rank up = r; tree.parent(up) >= 0; up = tree.parent(up)) ++depth[static_cast<size_t>(r)];
      if (r < workers) {
        EXPECT_EQ(depth[static_cast<size_t>(r)], depth[0]) << "all leaves are as deep";
      }
    }
    EXPECT_EQ(roots, 1);
    EXPECT_EQ(tree.parent(tree.root()), -1);
  }
}

TEST(Tree, PeriodsOfBothCommunicationSchemes) {
  SchemeOptions o{.name = "easgd_tree", .workers = 8, .period = 10, .fan_out = 2, .far_period = 100};
  const Tree tree(8, 2);  // root 8, then 9 and 10, then 11 to 14 over the leaves
  auto expect = [&](Rank rank, int64_t up, int64_t down) {
    const TreePeriods p = tree_periods(o, tree, rank);
    EXPECT_EQ(p.up, up) << rank;
    EXPECT_EQ(p.down, down) << rank;
  };
  o.tree = "multi_scale";
  expect(0, 10, 0), expect(13, 100, 10), expect(9, 100, 100), expect(8, 0, 100);
  o.tree = "up_down";
  expect(0, 10, 0), expect(13, 10, 100), expect(9, 10, 100), expect(8, 0, 100);
}

Toy tree_toy(const std::string& tree, int workers = 8) {
  Toy toy = common_toy("easgd_tree", "jacobi", workers);
  toy.scheme.tree = tree;
  toy.scheme.fan_out = 2;
  toy.scheme.period = 2;
  toy.scheme.far_period = 4;
  toy.size = 3;
  toy.steps = 60;
  return toy;
}

// Two leaves under the root, in turn: against the rule written out. A push down arrives after its cause, so a leaf
// mixes it in its next step.
TEST(Tree, FollowsTheRule) {
  for (const char* scheme : {"multi_scale", "up_down"}) {
    Toy toy = tree_toy(scheme, 2);
    toy.size = 1;
    toy.noise = 0;
    toy.stagger = kStep / 2;
    toy.scheme.alpha = 0.25;
    toy.start_spread = 1;
    const int64_t down = tree_periods(toy.scheme, Tree(2, 2), 2).down;
    double x[2] = {1, 2}, root = 1, mail[2] = {0, 0};
    bool has_mail[2] = {false, false};
    int64_t clock = 0;
    for (int64_t k = 0; k < toy.steps; ++k)
      for (int i : {0, 1}) {
        const double sent = x[i];
        if (has_mail[i]) x[i] += 0.25 * (mail[i] - x[i]);
        has_mail[i] = false;
        x[i] -= toy.lr * (x[i] - toy.b(i));
        if (k % toy.scheme.period != 0) continue;
        root += 0.25 * (sent - root);
        if (k / down > clock / down) mail[0] = mail[1] = root, has_mail[0] = has_mail[1] = true;
        clock = std::max(clock, k);
      }
    for (int i : {0, 1}) root += 0.25 * (x[i] - root);  // they say goodbye with their last
    const auto nodes = simulate(3, [&](World& world) { return toy_run(world, toy); },
                                {.latency = kMicrosecond, .step_cost = kStep, .jitter = 0})
                           .nodes;
    for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_NEAR(nodes[0].numbers[0], x[0], 1e-12) << scheme;
    EXPECT_NEAR(nodes[1].numbers[0], x[1], 1e-12) << scheme;
    EXPECT_NEAR(nodes[2].numbers[0], root, 1e-12) << scheme;
  }
}

// Without gradients every write is a convex combination: nothing leaves the range of the start, and all draw together.
void check_range(const std::vector<NodeResult>& nodes, const Toy& toy, double spread) {
  double low = 1e9, high = -1e9;
  for (const NodeResult& node : nodes)
    for (double v : node.numbers) low = std::min(low, v), high = std::max(high, v);
  EXPECT_GE(low, toy.start);
  EXPECT_LE(high, toy.start + toy.start_spread * (toy.scheme.workers - 1));
  EXPECT_LT(high - low, spread);
}

TEST(Tree, DrawsTogetherUnderFaults) {
  for (const char* scheme : {"multi_scale", "up_down"})
    for (const char* faults : {"", "drop from=* to=* probability=0.15",
                               "delay from=* to=9 by=35ms\nslow rank=3 factor=4\npause rank=11 at=100ms for=200ms",
                               "suppress rank=* probability=0.3"}) {
      Toy toy = tree_toy(scheme);
      toy.lr = 0;
      toy.start_spread = 1;
      toy.steps = 800;
      const auto nodes = simulate(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); },
                                  {.faults = parse_fault_plan(faults, "plan").value()})
                             .nodes;
      ASSERT_EQ(nodes.size(), 15u);
      for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << faults << node.status.message();
      check_range(nodes, toy, 1.5);  // of 7
    }
}

TEST(Tree, GoesOnWithoutAnInnerNode) {
  for (int restarts : {0, 1}) {
    Toy toy = tree_toy("multi_scale");
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 200;
    // 11 is the parent of leaves 0 and 1, 9 its parent.
    const auto nodes =
        simulate(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); },
                 {.restarts = restarts,
                  .faults = parse_fault_plan("kill rank=11 at=45ms\nkill rank=9 at=60ms", "plan").value()})
            .nodes;
    std::vector<NodeResult> living;
    for (size_t r = 0; r < nodes.size(); ++r) {
      const bool killed = restarts == 0 && (r == 9 || r == 11);
      EXPECT_EQ(nodes[r].finished, !killed) << r << ": " << nodes[r].status.message();
      if (!killed) living.push_back(nodes[r]);
    }
    check_range(living, toy, 1.5);
  }
}

// A worker's parameters, then what it measures on when all have come to their ends.
Result<Numbers> run_and_measure(World& world, const Toy& toy, std::vector<std::string>& notes) {
  Toy own = toy;
  own.scheme.on_note = [&](const std::string& text) { notes.push_back(text); };
  if (world.rank() >= toy.scheme.workers) return toy_run(world, own);
  ToyWorker worker(own, world);
  SINEW_RETURN_IF_ERROR(worker.start());
  for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
  SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
  world.sleep(kSecond);
  Vec point = Vec::zeros(toy.size, toy.dtype);
  SINEW_RETURN_IF_ERROR(worker.scheme().evaluation_point(worker.theta().view(), point.mutable_view()));
  Numbers all = to_doubles(worker.theta().view());
  const Numbers measured = to_doubles(point.view());
  all.insert(all.end(), measured.begin(), measured.end());
  return all;
}

// Whoever dies for good, whole levels too: one root is left, all draw together, and results are measured on it.
TEST(Tree, ASurvivorIsTheRoot) {
  struct Case {
    std::vector<Rank> dead;
    Rank root;
  };
  for (const char* scheme : {"multi_scale", "up_down"})
    for (const char* wire : {"f32", "int8"})
      for (const Case& c : {Case{{8}, 9},
                            {{8, 9}, 10},
                            {{8, 10, 12}, 9},
                            {{9, 10, 8}, 11},
                            {{8, 9, 11, 12}, 10},
                            {{11, 12, 13, 14}, 8},
                            {{14, 13, 12, 11, 10, 9, 8}, 0},
                            {{8, 9, 10, 11, 12, 13, 14, 0, 3}, 1}}) {
        Toy toy = tree_toy(scheme);
        toy.scheme.wire = wire;
        toy.lr = 0;
        toy.start_spread = 1;
        toy.steps = 300;
        std::string faults;
        for (size_t i = 0; i < c.dead.size(); ++i)
          faults += detail::concat("kill rank=", c.dead[i], " at=", 45 + 10 * i, "ms\n");
        std::vector<std::vector<std::string>> notes(15);
        const auto nodes =
            simulate(15, [&](World& w) { return run_and_measure(w, toy, notes[static_cast<size_t>(w.rank())]); },
                     {.faults = parse_fault_plan(faults, "plan").value()})
                .nodes;
        double low = 1e9, high = -1e9;
        for (Rank r = 0; r < 15; ++r) {
          const NodeResult& node = nodes[static_cast<size_t>(r)];
          const std::vector<std::string>& said = notes[static_cast<size_t>(r)];
          const bool killed = std::find(c.dead.begin(), c.dead.end(), r) != c.dead.end();
          ASSERT_EQ(node.finished, !killed) << r << ": " << node.status.message() << "\n" << faults;
          if (killed) continue;
          for (double v : node.numbers) low = std::min(low, v), high = std::max(high, v);
          if (c.root == 8) {
            EXPECT_TRUE(said.empty());
          } else if (r < 8 || r == c.root) {
            ASSERT_FALSE(said.empty()) << r;
            EXPECT_TRUE(said.back().ends_with(detail::concat("rank ", c.root, ", is the root now"))) << said.back();
          }
        }
        EXPECT_GE(low, 1 - 0.05) << faults;
        EXPECT_LE(high, 8 + 0.05) << faults;
        EXPECT_LT(high - low, 1.5) << scheme << " " << wire << "\n" << faults;
        // All measure on the root's x; a worker that is the root moves on toward the others' last when they have left.
        const Numbers& root = nodes[static_cast<size_t>(c.root)].numbers;
        const Numbers& first = nodes[c.root == 1 ? 2 : 1].numbers;
        for (size_t i = 0; i < 3; ++i) {
          for (size_t r = 0; r < 8; ++r)
            if (const Numbers& node = nodes[r].numbers; nodes[r].finished && static_cast<Rank>(r) != c.root) {
              EXPECT_EQ(node[3 + i], c.root >= 8 ? root[i] : first[3 + i]) << r << "\n" << faults;
            }
          if (c.root < 8) {
            EXPECT_EQ(root[i], root[3 + i]) << "it is measured on what it has";
          }
        }
      }
}

// Whether the root dies before them or after.
TEST(Tree, HalfOfTheWorkersWithoutARootEnd) {
  const Toy toy = tree_toy("up_down");
  for (const char* root_dies : {"60ms", "20ms"})
    for (const char* workers_die : {"45ms", "300ms"}) {
      std::string faults = detail::concat("kill rank=8 at=", root_dies, "\n");
      for (int r : {0, 1, 2, 3}) faults += detail::concat("kill rank=", r, " at=", workers_die, "\n");
      const auto nodes = simulate(15, [&](World& world) { return toy_run(world, toy); },
                                  {.faults = parse_fault_plan(faults, "plan").value()})
                             .nodes;
      for (size_t r = 4; r < 8; ++r) {
        EXPECT_EQ(nodes[r].status.code(), StatusCode::peer_lost) << faults;
        EXPECT_EQ(nodes[r].status.message(),
                  "the root of the tree (rank 8) is gone, and half of the workers or more are")
            << faults;
      }
      EXPECT_EQ(nodes[9].status.code(), StatusCode::peer_lost) << faults;
    }
}

// The network falls in two, and the root dies. Nobody sees the workers of the other side as gone, and each side sees a
// living node that could be the root: only the one that hears of more than half of the workers is.
TEST(Tree, OnlyOneSideOfAPartitionHasARoot) {
  struct Case {
    const char* apart;  // from the others: workers 5, 6 and 7, and inner nodes
    bool root_with_most;
    Rank also_dead;  // then the root is 9, or, without inner nodes, worker 0
  };
  // The short runs end before those without an answer give up.
  for (int64_t steps : {40, 150})
    for (const Case& c :
         {Case{"5,6,7,14", true, -1}, {"5,6,7,9,14", false, -1}, {"5,6,7", true, 9}, {"0,6,7", false, 9}}) {
      Toy toy = tree_toy("multi_scale");
      toy.scheme.deadline = 100 * kMillisecond;
      toy.steps = steps;
      std::string faults = detail::concat("partition ranks=", c.apart, "\nkill rank=8 at=45ms\n");
      if (c.also_dead > 0)
        for (Rank r = 9; r < 15; ++r) faults += detail::concat("kill rank=", r, " at=45ms\n");
      // All have met.
      faults.insert(faults.find('\n'), " after=30ms");
      const auto nodes = simulate(15, [&](World& world) { return toy_run(world, toy); },
                                  {.faults = parse_fault_plan(faults, "plan").value()})
                             .nodes;
      const std::string apart = detail::concat(",", c.apart, ",");
      for (Rank r = 0; r < 8; ++r) {
        const bool with_most = apart.find(detail::concat(",", r, ",")) == std::string::npos;
        const NodeResult& node = nodes[static_cast<size_t>(r)];
        EXPECT_EQ(node.finished, with_most && c.root_with_most) << r << ": " << node.status.message() << "\n" << faults;
        if (!node.finished) {
          EXPECT_EQ(node.status.code(), StatusCode::peer_lost) << r;
        }
      }
      if (c.also_dead < 0) {
        EXPECT_EQ(nodes[9].finished, c.root_with_most) << nodes[9].status.message();
      }
    }
}

// Workers that end while the root is down wait for it, and measure on what it then has.
TEST(Tree, IsMeasuredOnARootThatIsBeingRestarted) {
  for (const char* wire : {"f32", "int8"}) {
    Toy toy = tree_toy("multi_scale");
    toy.scheme.wire = wire;
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 100;
    std::vector<std::string> notes;
    const auto nodes = simulate(15, [&](World& world) { return run_and_measure(world, toy, notes); },
                                {.jitter = 0,
                                 .restarts = 1,
                                 .restart_delay = 2 * kSecond,  // workers measure at 2 s
                                 .faults = parse_fault_plan("kill rank=8 at=1500ms", "plan").value()})
                           .nodes;
    for (size_t r = 0; r < 15; ++r) ASSERT_TRUE(nodes[r].finished) << r << ": " << nodes[r].status.message();
    EXPECT_EQ(nodes[8].restarts, 1u);
    for (size_t r = 0; r < 8; ++r)
      for (size_t i = 0; i < 3; ++i) EXPECT_EQ(nodes[r].numbers[3 + i], nodes[8].numbers[i]) << wire << " " << r;
  }
}

// A restarted worker whose root has nothing yet looks further, within one deadline.
TEST(Tree, ARestartedWorkerWaitsForOneDeadline) {
  SchemeOptions o{.name = "easgd_tree", .workers = 2, .fan_out = 2};
  o.deadline = kSecond;
  const Tree tree(2, 2);
  Nanos waited = 0;
  const auto nodes =
      simulate(3,
               [&](World& world) -> Result<Numbers> {
                 if (world.rank() == 1) return Numbers{};
                 if (world.rank() == 2) {  // says late that it has no parameters, and then nothing
                   TreeLinks links(o, world, tree, 3, DType::f64, o.fingerprint);
                   int asked = 0;
                   world.on(Tag::tree_fetch, [&](const Message& m) {
                     if (++asked == 8) links.answer(m, Payload(), 0);
                   });
                   world.sleep(5 * kSecond);
                   world.on(Tag::tree_fetch, {});
                   return Numbers{};
                 }
                 if (world.incarnation() == 0) {
                   world.sleep(kSecond);
                   return Numbers{};
                 }
                 const auto scheme = make_tree_leaf(o, world, 3, DType::f64, Device::cpu);
                 Vec x = Vec::zeros(3, DType::f64);
                 const Nanos begin = world.now();
                 SINEW_RETURN_IF_ERROR(scheme->start(x.mutable_view()));
                 waited = world.now() - begin;
                 return Numbers{};
               },
               {.restarts = 1,
                .restart_delay = 100 * kMillisecond,
                .faults = parse_fault_plan("kill rank=0 at=100ms\ndelay from=2 to=0 by=100ms", "plan").value()})
          .nodes;
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
  EXPECT_GT(waited, kSecond / 2) << "the answer was late";
  EXPECT_LE(waited, kSecond + kMillisecond);
}

// A leaf that was stopped, while the others went on for more than 10 periods, takes over the x of the nearest node that
// has gone on, before it pushes anything; otherwise it keeps its own. Nobody pushes to it here.
TEST(Tree, AStoppedLeafPushesNoOldParameters) {
  struct Case {
    int64_t parent, root;  // their clocks, in its periods after the stop
    double pushed;
  };
  for (const Case& c : {Case{200, 200, 5}, {-1, 200, 4}, {8, 8, 0}, {-1, -1, 0}}) {
    const SchemeOptions o{.name = "easgd_tree", .workers = 4, .period = 2, .fan_out = 2};
    const Tree tree(4, 2);  // root 4, then 5 over the leaves 0 and 1
    std::vector<double> pushed;
    const auto body = [&](World& world) -> Result<Numbers> {
      const Rank me = world.rank();
      Vec x = Vec::zeros(3, DType::f64);
      if (me == 0) {
        const auto scheme = make_tree_leaf(o, world, 3, DType::f64, Device::cpu);
        SINEW_RETURN_IF_ERROR(scheme->start(x.mutable_view()));
        for (int64_t k = 0; k < 100; ++k) {
          SINEW_RETURN_IF_ERROR(scheme->before_step(k, x.mutable_view()));
          world.compute({}, [] {});
        }
        return Numbers{};
      }
      fill(x.mutable_view(), me);
      TreeLinks links(o, world, tree, 3, DType::f64, o.fingerprint);
      const Payload own = Payload::copy_of(x.view());
      const int64_t ahead = me == 4 ? c.root : c.parent;
      world.on(Tag::tree_fetch, [&](const Message& m) {
        links.answer(m, own, world.now() > kSecond && ahead >= 0 ? 50 + ahead * o.period : 0);
      });
      world.on(Tag::tree_push, [&](const Message& m) {
        if (me == 5) pushed.push_back(to_doubles(m.body.view(DType::f64))[0]);
      });
      world.sleep(5 * kSecond);
      world.on(Tag::tree_fetch, {});
      world.on(Tag::tree_push, {});
      return Numbers{};
    };
    const auto nodes = simulate(7, body,
                                {.step_cost = kStep,
                                 .jitter = 0,
                                 .faults = parse_fault_plan("pause rank=0 at=505ms for=2s", "plan").value()})
                           .nodes;
    for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
    ASSERT_GT(pushed.size(), 40u);
    for (size_t i = 0; i < pushed.size(); ++i)
      EXPECT_EQ(pushed[i], i < 26 ? 0 : c.pushed) << i << ", clocks " << c.parent << " and " << c.root;
  }
}

// A worker that is the root pushes down when its steps pass a multiple of the period, as inner nodes do: here multiples
// of 3, and it looks every other step.
TEST(Tree, AWorkerThatIsTheRootPushesDownInTime) {
  Toy toy = tree_toy("up_down", 2);
  toy.scheme.period = 2, toy.scheme.far_period = 3;
  toy.steps = 60;
  const Tree tree(2, 2);
  std::vector<int64_t> clocks;
  const auto nodes = simulate(3,
                              [&](World& world) -> Result<Numbers> {
                                if (world.rank() != 1) return toy_run(world, toy);
                                TreeLinks links(toy.scheme, world, tree, toy.size, toy.dtype, toy.scheme.fingerprint);
                                world.on(Tag::tree_push, [&](const Message& m) {
                                  if (m.head.source == 0) clocks.push_back(m.head.arg[1]);
                                });
                                for (int i = 0; i < 10; ++i, world.sleep(100 * kMillisecond)) links.send_question(0, 0);
                                world.on(Tag::tree_push, {});
                                return Numbers{};
                              },
                              {.jitter = 0, .faults = parse_fault_plan("kill rank=2 at=45ms", "plan").value()})
                         .nodes;
  ASSERT_TRUE(nodes[0].finished) << nodes[0].status.message();
  std::vector<int64_t> expected;
  for (int64_t k = 2; k < toy.steps; k += 2)
    if (k / 3 > (k - 2) / 3) expected.push_back(k);
  ASSERT_GT(clocks.size(), 10u);
  EXPECT_TRUE(std::equal(clocks.rbegin(), clocks.rend(), expected.rbegin()));
}

// Restarted inner nodes take over what the nearest node has, at once, and are in their places again.
TEST(Tree, ARestartedNodeComesBackToItsPlace) {
  for (Rank killed : {8, 9, 11}) {
    Toy toy = tree_toy("multi_scale");
    toy.lr = 0;
    toy.start_spread = 1;
    toy.steps = 200;
    double at_restart = 0;
    std::vector<std::string> notes;
    const auto body = [&](World& world) -> Result<Numbers> {
      if (world.rank() != killed) return run_and_measure(world, toy, notes);
      auto center = toy_center(toy, world);
      Vec x = Vec::zeros(toy.size, toy.dtype);
      center->snapshot(x.mutable_view());
      if (world.incarnation() > 0) at_restart = to_doubles(x.view())[0];
      EXPECT_TRUE(center->has_result());
      SINEW_RETURN_IF_ERROR(center->serve(INT64_MAX).status());
      EXPECT_GT(center->version(), 10);
      center->snapshot(x.mutable_view());
      return to_doubles(x.view());
    };
    const auto nodes =
        simulate(15, body,
                 {.restarts = 1,
                  .restart_delay = 100 * kMillisecond,
                  .faults = parse_fault_plan(detail::concat("kill rank=", killed, " at=700ms"), "plan").value()})
            .nodes;
    for (size_t r = 0; r < nodes.size(); ++r) ASSERT_TRUE(nodes[r].finished) << r << nodes[r].status.message();
    EXPECT_EQ(nodes[static_cast<size_t>(killed)].restarts, 1u);
    EXPECT_GT(at_restart, 1.1) << "all inner nodes began at 1, and the leaves at 1 to 8";
    EXPECT_TRUE(notes.empty()) << notes[0];
    check_range(nodes, toy, 1.5);
  }
}

// What arrives, with what rounding has left, is what was pushed.
TEST(Tree, PushesCarryOnWhatRoundingLeft) {
  for (const char* wire : {"bf16", "int8"}) {
    SchemeOptions o{.name = "easgd_tree", .workers = 2, .fan_out = 2};
    o.wire = wire;
    constexpr int64_t kSize = 500, kPushes = 50;
    const Tree tree(2, 2);
    Numbers pushed(kSize), arrived(kSize), unsent;
    int64_t came = 0;
    const auto nodes = in_simulation()(3, [&](World& world) -> Result<Numbers> {
      TreeLinks links(o, world, tree, kSize, DType::f64, 7);
      if (world.rank() == 2) {
        world.on(Tag::tree_push, [&](const Message& m) {
          EXPECT_EQ(m.body.size(), packed_bytes(packing_of(wire), kSize, DType::f64));
          const Numbers x = to_doubles(links.read(m).view(DType::f64));
          for (size_t i = 0; i < kSize; ++i) arrived[i] += x[i];
          ++came;
        });
        world.sleep(kSecond);
        world.on(Tag::tree_push, {});
        return Numbers{};
      }
      if (world.rank() == 1) return Numbers{};
      for (int64_t k = 0; k < kPushes; ++k) {
        Numbers x(kSize, 1e-3);
        x[0] = x[300] = 1 + 0.01 * static_cast<double>(k);
        for (size_t i = 0; i < kSize; ++i) pushed[i] += x[i];
        links.push_up(k, Payload::copy_of(x));
      }
      SchemeState state;
      links.save(state);
      unsent = to_doubles(state.vectors.at("unsent.up").view());
      return Numbers{};
    });
    for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
    EXPECT_EQ(came, kPushes);
    for (size_t i = 0; i < kSize; ++i) {
      ASSERT_NEAR(arrived[i] + unsent[i], pushed[i], 1e-12) << wire;
      EXPECT_GT(arrived[i], 0.5 * pushed[i]) << "alone each of these would be rounded to 0 by int8";
    }
  }
}

TEST(Tree, ASavedStateThatDoesNotFitIsRefused) {
  Toy toy = tree_toy("multi_scale", 2);
  toy.steps = 10;
  const auto nodes = simulate(3, [&](World& world) -> Result<Numbers> {
                       if (world.rank() != 0) return toy_run(world, toy);
                       ToyWorker worker(toy, world);
                       SINEW_RETURN_IF_ERROR(worker.start());
                       for (int64_t k = 0; k < toy.steps; ++k) SINEW_RETURN_IF_ERROR(worker.step(k));
                       Scheme& scheme = worker.scheme();
                       SchemeState good = scheme.save();
                       good.vectors["arrived.2"] = Vec::zeros(toy.size, toy.dtype);
                       for (const char* name : {"arrived.", "arrived.x", "arrived.2x", "arrived.-1", "arrived.3",
                                                "arrived.99999999999999999999", "arrived.2"})
                         for (DType dtype : {toy.dtype, DType::i64}) {
                           SchemeState bad = good;
                           bad.vectors[name] = Vec::zeros(std::string(name) == "arrived.2" ? 2 : toy.size, dtype);
                           const Status status = scheme.load(bad);
                           EXPECT_EQ(status.code(), StatusCode::data_error) << name;
                           EXPECT_NE(status.message().find(name), std::string::npos) << status.message();
                         }
                       SINEW_RETURN_IF_ERROR(scheme.load(good));
                       EXPECT_EQ(scheme.save().vectors.count("arrived.2"), 1u);
                       SINEW_RETURN_IF_ERROR(scheme.finish(worker.theta().mutable_view()));
                       return Numbers{};
                     }).nodes;
  for (const NodeResult& node : nodes) ASSERT_TRUE(node.finished) << node.status.message();
}

TEST(Tree, KeepsBadParametersOut) {
  Toy toy = tree_toy("multi_scale");
  toy.steps = 100;
  const auto nodes = simulate(node_count(toy.scheme), [&](World& world) -> Result<Numbers> {
                       if (world.rank() == 9) {
                         auto node = toy_center(toy, world);
                         SINEW_RETURN_IF_ERROR(node->serve(INT64_MAX).status());
                         return Numbers{};
                       }
                       if (world.rank() != 1) return toy_run(world, toy);
                       ToyWorker worker(toy, world);
                       SINEW_RETURN_IF_ERROR(worker.start());
                       for (int64_t k = 0; k < toy.steps; ++k) {
                         if (k == 40) fill(worker.theta().mutable_view(), NAN);
                         SINEW_RETURN_IF_ERROR(worker.step(k));
                       }
                       SINEW_RETURN_IF_ERROR(worker.scheme().finish(worker.theta().mutable_view()));
                       EXPECT_GT(worker.scheme().counters().missed, 0);
                       return to_doubles(worker.theta().view());
                     }).nodes;
  for (size_t r = 0; r < nodes.size(); ++r) {
    ASSERT_TRUE(nodes[r].finished) << r << ": " << nodes[r].status.message();
    for (double v : nodes[r].numbers) EXPECT_TRUE(std::isfinite(v) || r == 1) << r;
  }
}

// 64 leaves, fan-out 8, twice.
TEST(Tree, Repeats) {
  Toy toy = tree_toy("multi_scale", 64);
  toy.scheme.fan_out = 8;
  auto run = [&](bool always_yield) {
    return simulate(node_count(toy.scheme), [&](World& world) { return toy_run(world, toy); },
                    {.always_yield = always_yield});
  };
  const SimulatedRun a = run(false), b = run(false), c = run(true);
  EXPECT_EQ(a.report.trace_hash, b.report.trace_hash);
  EXPECT_EQ(a.report.trace_hash, c.report.trace_hash);
  for (size_t r = 0; r < a.nodes.size(); ++r) {
    ASSERT_TRUE(a.nodes[r].finished) << a.nodes[r].status.message();
    EXPECT_EQ(a.nodes[r].numbers, b.nodes[r].numbers);
    EXPECT_EQ(a.nodes[r].numbers, c.nodes[r].numbers);
  }
}

}  // namespace
}  // namespace sinew::dist::testing
