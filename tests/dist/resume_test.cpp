// Exact continuation in the simulation: a run with a scheduled quiesce in the middle, and the same run stopped there,
// rebuilt from what was saved and continued, end with the same bits and the same deliveries.
#include <gtest/gtest.h>

#include <memory>

#include "tests/support/toy_training.h"

namespace sinew::dist::testing {
namespace {

constexpr int kWorkers = 4;
constexpr int64_t kHalf = 11;  // not a multiple of the period

struct Saved {
  std::vector<int64_t> simulation;
  std::vector<SchemeState> schemes;
  std::vector<Vec> theta, velocity;
  std::vector<SchemeState> centers;
};

struct End {
  std::vector<Numbers> theta;
  std::vector<Numbers> centers;
  uint64_t trace = 0;
  Nanos time = 0;
  bool operator==(const End&) const = default;
};

class SplitRun {
 public:
  SplitRun(const Toy& toy, const SimOptions& options)
      : toy_(toy),
        sim_(options, node_count(toy.scheme)),
        workers_(kWorkers),
        centers_(static_cast<size_t>(node_count(toy.scheme) - kWorkers)) {}

  // Nodes that may die for good.
  void expect_dead(Rank r) { dead_ = r; }

  // Fresh, up to the boundary.
  void first_half() {
    for (Rank r = 0; r < kWorkers; ++r)
      sim_.set_node(r, [this, r](World& world) {
        workers_[r] = std::make_unique<ToyWorker>(toy_, world);
        SINEW_RETURN_IF_ERROR(workers_[r]->start());
        for (int64_t k = 0; k < kHalf; ++k) SINEW_RETURN_IF_ERROR(workers_[r]->step(k));
        return Status::Ok();
      });
    for (size_t i = 0; i < centers_.size(); ++i)
      sim_.set_node(rank_of(i), [this, i](World& world) {
        centers_[i] = toy_center(toy_, world);
        return Status::Ok();  // its handlers go on
      });
    check(sim_.run());
  }

  Saved save() {
    Saved saved;
    saved.simulation = sim_.save();
    for (auto& w : workers_) {
      saved.schemes.push_back(w->scheme().save());
      saved.theta.push_back(w->theta().clone());
      saved.velocity.push_back(w->velocity().clone());
    }
    for (size_t i = 0; i < centers_.size(); ++i)
      saved.centers.push_back(rank_of(i) == dead_ ? SchemeState() : centers_[i]->save());
    return saved;
  }

  void load(const Saved& saved) {
    ASSERT_TRUE(sim_.load(saved.simulation).ok());
    for (Rank r = 0; r < kWorkers; ++r) {
      workers_[r] = std::make_unique<ToyWorker>(toy_, sim_.world(r));
      copy(saved.theta[r].view(), workers_[r]->theta().mutable_view());
      copy(saved.velocity[r].view(), workers_[r]->velocity().mutable_view());
      Status status = workers_[r]->scheme().load(saved.schemes[r]);
      ASSERT_TRUE(status.ok()) << status.message();
    }
    for (size_t i = 0; i < centers_.size(); ++i) {
      if (rank_of(i) == dead_) continue;
      centers_[i] = make_center(toy_.scheme, sim_.world(rank_of(i)), toy_.size, toy_.dtype);
      Status status = centers_[i]->load(saved.centers[i]);
      ASSERT_TRUE(status.ok()) << status.message();
    }
  }

  End second_half() {
    for (Rank r = 0; r < kWorkers; ++r)
      sim_.set_node(r, [this, r](World& world) {
        for (int64_t k = kHalf; k < 2 * kHalf; ++k) SINEW_RETURN_IF_ERROR(workers_[r]->step(k));
        SINEW_RETURN_IF_ERROR(workers_[r]->scheme().finish(workers_[r]->theta().mutable_view()));
        world.leave();
        return Status::Ok();
      });
    for (size_t i = 0; i < centers_.size(); ++i)
      if (rank_of(i) != dead_)
        sim_.set_node(rank_of(i), [this, i](World& world) { return centers_[i]->serve(INT64_MAX).status(); });
    SimReport report = sim_.run();
    check(report);
    End end;
    for (auto& w : workers_) end.theta.push_back(to_doubles(w->theta().view()));
    for (auto& center : centers_) {
      if (!center || rank_of(end.centers.size()) == dead_) continue;
      Vec c = Vec::zeros(toy_.size, toy_.dtype);
      center->snapshot(c.mutable_view());
      end.centers.push_back(to_doubles(c.view()));
    }
    end.trace = report.trace_hash;
    end.time = report.virtual_time;
    return end;
  }

 private:
  static Rank rank_of(size_t center) { return kWorkers + static_cast<Rank>(center); }
  void check(const SimReport& report) const {
    for (size_t r = 0; r < report.nodes.size(); ++r) {
      if (static_cast<Rank>(r) == dead_) continue;
      EXPECT_EQ(report.nodes[r].what, NodeOutcome::What::finished)
          << report.nodes[r].status.message() << report.deadlock;
    }
  }

  const Toy toy_;
  Rank dead_ = kAnyRank;
  Simulation sim_;
  std::vector<std::unique_ptr<ToyWorker>> workers_;
  std::vector<std::unique_ptr<CenterNode>> centers_;
};

struct Case {
  const char* label;
  const char* scheme;
  const char* order;
  double momentum;
  bool faults;
  void (*more)(SchemeOptions&) = nullptr;
  const char* weighting = "fixed";
  const char* outer = "none";
};
class Resume : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    All, Resume,
    ::testing::Values(
        Case{"local", "local", "jacobi", 0.9, false}, Case{"allreduce", "allreduce", "jacobi", 0.9, false},
        Case{"easgd", "easgd", "jacobi", 0, false}, Case{"easgd_faults", "easgd", "jacobi", 0, true},
        Case{"eamsgd", "eamsgd", "jacobi", 0.9, false}, Case{"eamsgd_faults", "eamsgd", "jacobi", 0.9, true},
        Case{"jacobi", "easgd_sync", "jacobi", 0, false}, Case{"gauss_seidel", "easgd_sync", "gauss_seidel", 0, false},
        Case{"elastic_gossip", "elastic_gossip", "jacobi", 0, false},
        Case{"elastic_gossip_faults", "elastic_gossip", "jacobi", 0, true},
        Case{"elastic_gossip_async", "elastic_gossip", "jacobi", 0.9, true,
             [](SchemeOptions& o) { o.mode = "async", o.probability = 0.7; }},
        Case{"gossiping_pull", "gossiping_sgd", "jacobi", 0, false},
        Case{"gossiping_pull_async", "gossiping_sgd", "jacobi", 0, true, [](SchemeOptions& o) { o.mode = "async"; }},
        Case{"gossiping_push_async", "gossiping_sgd", "jacobi", 0, true,
             [](SchemeOptions& o) { o.mode = "async", o.direction = "push"; }},
        Case{"gosgd", "gosgd", "jacobi", 0, false}, Case{"gosgd_faults", "gosgd", "jacobi", 0.9, true},
        Case{"sgp", "sgp", "jacobi", 0.9, false}, Case{"sgp_faults", "sgp", "jacobi", 0, true},
        Case{"sgp_overlap", "sgp", "jacobi", 0, false, [](SchemeOptions& o) { o.overlap = 2; }},
        Case{"adpsgd_faults", "adpsgd", "jacobi", 0, true},
        Case{"gossip_pga", "dpsgd", "jacobi", 0, false, [](SchemeOptions& o) { o.global_average_every = 3; }},
        Case{"dpsgd", "dpsgd", "jacobi", 0.9, false},
        Case{"dpsgd_atc_faults", "dpsgd", "jacobi", 0, true, [](SchemeOptions& o) { o.mixing = "atc"; }},
        Case{"downpour", "downpour", "jacobi", 0, false}, Case{"downpour_faults", "downpour", "jacobi", 0, true},
        Case{"mdownpour_faults", "mdownpour", "jacobi", 0, true}, Case{"adownpour", "adownpour", "jacobi", 0, false},
        Case{"easgd_servers", "easgd", "jacobi", 0, false, [](SchemeOptions& o) { o.servers = "3"; }},
        Case{"easgd_hosts_faults", "easgd", "jacobi", 0, true, [](SchemeOptions& o) { o.servers = "workers"; }},
        Case{"mdownpour_servers_faults", "mdownpour", "jacobi", 0, true, [](SchemeOptions& o) { o.servers = "2"; }},
        Case{"mvadownpour_hosts", "mvadownpour", "jacobi", 0, false, [](SchemeOptions& o) { o.servers = "workers"; }},
        Case{"dynamic_hosts_faults", "easgd", "jacobi", 0, true, [](SchemeOptions& o) { o.servers = "workers"; },
             "dynamic"},
        Case{"admm", "admm", "jacobi", 0, false}, Case{"mvadownpour_faults", "mvadownpour", "jacobi", 0, true},
        Case{"dynamic_faults", "easgd", "jacobi", 0, true, nullptr, "dynamic"},
        Case{"dynamic_sync", "easgd_sync", "jacobi", 0, false, nullptr, "dynamic"},
        Case{"oracle_faults", "eamsgd", "jacobi", 0.9, true, nullptr, "oracle"},
        Case{"tree_faults", "easgd_tree", "jacobi", 0, true}, Case{"local_sgd", "local_sgd", "jacobi", 0.9, false},
        Case{"diloco", "local_sgd", "jacobi", 0, false, nullptr, "fixed", "nesterov"},
        Case{"lsgd", "lsgd", "jacobi", 0.9, false,
             [](SchemeOptions& o) { o.groups = "2", o.proximal = o.proximal_global = 0.3; }},
        Case{"lgd", "lgd", "jacobi", 0, false},
        Case{"lsgd_async", "lsgd", "jacobi", 0.9, false, [](SchemeOptions& o) { o.mode = "async"; }},
        Case{"lsgd_async_faults", "lsgd", "jacobi", 0, true,
             [](SchemeOptions& o) { o.mode = "async", o.groups = "2", o.proximal = 0.3; }},
        Case{"lsgd_int8", "lsgd", "jacobi", 0.9, false, [](SchemeOptions& o) { o.wire = "int8", o.groups = "2"; }},
        Case{"lsgd_async_int8_faults", "lsgd", "jacobi", 0, true,
             [](SchemeOptions& o) { o.wire = "int8", o.mode = "async"; }},
        Case{"tree_int8_faults", "easgd_tree", "jacobi", 0, true, [](SchemeOptions& o) { o.wire = "int8"; }},
        Case{"allreduce_int8", "allreduce", "jacobi", 0.9, false, [](SchemeOptions& o) { o.wire = "int8"; }},
        Case{"gauss_seidel_int8", "easgd_sync", "gauss_seidel", 0, false, [](SchemeOptions& o) { o.wire = "int8"; }},
        Case{"local_sgd_bf16", "local_sgd", "jacobi", 0, false,
             [](SchemeOptions& o) { o.wire = "bf16", o.parameters = 13; }},
        Case{"gossip_pga_int8", "dpsgd", "jacobi", 0, false,
             [](SchemeOptions& o) { o.global_average_every = 3, o.wire = "int8"; }},
        Case{"asgd", "asgd", "jacobi", 0, false}, Case{"mvasgd", "mvasgd", "jacobi", 0.9, false},
        Case{"msgd", "msgd", "jacobi", 0.9, false}),
    [](const auto& info) { return std::string(info.param.label); });

TEST_P(Resume, ContinuesBitForBit) {
  Toy toy;
  toy.scheme.name = GetParam().scheme;
  toy.scheme.order = GetParam().order;
  toy.scheme.weighting.rule = GetParam().weighting;
  toy.scheme.outer = GetParam().outer;
  toy.scheme.weighting.warmup_rounds = 0;
  toy.scheme.weighting.coefficients = {2, 1};
  toy.scheme.weighting.peers = toy.scheme.name == "easgd" || toy.scheme.name == "eamsgd";
  toy.scheme.fan_out = 2;  // of 4 workers: three inner nodes
  toy.scheme.far_period = 8;
  toy.scheme.workers = kWorkers;
  toy.scheme.period = 4;
  toy.scheme.shard = 5;
  toy.scheme.deadline = 200 * kMillisecond;
  toy.momentum = GetParam().momentum;
  toy.size = 17;
  toy.noise = 0.5;
  if (GetParam().more) GetParam().more(toy.scheme);
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SimOptions options{.seed = seed, .restarts = 1, .restart_delay = 30 * kMillisecond};
    if (GetParam().faults) {
      options.faults =
          parse_fault_plan(
              // Where workers serve, one that comes back needs the others, which stop here at the boundary.
              std::string(center_servers(toy.scheme) > 0 || !survives_center(toy.scheme) ? "kill rank=2 step=5\n"
                                                                                         : "") +
                  "drop from=* to=* probability=0.2\npause rank=1 at=200ms for=90ms\n"
                  "slow rank=0 factor=2",
              "plan")
              .value();
      options.faults.seed = seed;
    }
    SplitRun whole(toy, options);
    whole.first_half();
    Saved saved = whole.save();
    End expected = whole.second_half();
    for (bool always_yield : {false, true}) {
      options.always_yield = always_yield;
      SplitRun resumed(toy, options);
      resumed.load(saved);
      EXPECT_TRUE(resumed.second_half() == expected) << "seed " << seed;
    }
  }
}

// The center of a worker that has taken it over is saved with that worker.
TEST(Resume, ATakenOverCenterGoesOn) {
  for (const char* scheme : {"easgd", "mdownpour", "adownpour"})
    for (const char* when : {"35ms", "85ms"}) {  // taken over well before the boundary, or around it
      Toy toy;
      toy.scheme = {.name = scheme, .workers = kWorkers, .period = 1, .shard = 5, .deadline = kSecond};
      toy.size = 17;
      toy.noise = 0.5;
      SimOptions options;
      options.faults = parse_fault_plan(std::string("kill rank=4 at=") + when, "plan").value();
      SplitRun whole(toy, options);
      whole.expect_dead(4);
      whole.first_half();
      const Saved saved = whole.save();
      const End expected = whole.second_half();
      const bool served = saved.schemes[0].numbers.count("served.serves.0") > 0;
      EXPECT_TRUE(served) << scheme << " " << when;
      SplitRun resumed(toy, options);
      resumed.expect_dead(4);
      resumed.load(saved);
      EXPECT_TRUE(resumed.second_half() == expected) << scheme << " " << when;
    }
}

TEST(Resume, RefusesWhatDoesNotFit) {
  Toy toy;
  toy.scheme.name = "easgd";
  toy.scheme.workers = kWorkers;
  toy.scheme.shard = 5;
  toy.size = 17;
  SplitRun run(toy, {});
  run.first_half();
  Saved saved = run.save();
  Simulation sim({}, kWorkers + 1);
  auto center = make_center(toy.scheme, sim.world(kWorkers), 18, toy.dtype);
  EXPECT_EQ(center->load(saved.centers[0]).code(), StatusCode::data_error);
  auto scheme = make_scheme(toy.scheme, sim.world(0), 17, toy.dtype);
  EXPECT_EQ(scheme->load({}).code(), StatusCode::data_error);
  toy.scheme.name = "easgd_sync";
  EXPECT_EQ(make_scheme(toy.scheme, sim.world(0), 17, toy.dtype)->load(saved.schemes[0]).code(),
            StatusCode::data_error);
}

}  // namespace
}  // namespace sinew::dist::testing
