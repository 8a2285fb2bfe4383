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
  SchemeState center;
};

struct End {
  std::vector<Numbers> theta;
  Numbers center;
  uint64_t trace = 0;
  Nanos time = 0;
  bool operator==(const End&) const = default;
};

class SplitRun {
 public:
  SplitRun(const Toy& toy, const SimOptions& options)
      : toy_(toy), sim_(options, node_count(toy.scheme)), workers_(kWorkers) {}

  // Fresh, up to the boundary.
  void first_half() {
    for (Rank r = 0; r < kWorkers; ++r)
      sim_.set_node(r, [this, r](World& world) {
        workers_[r] = std::make_unique<ToyWorker>(toy_, world);
        SINEW_RETURN_IF_ERROR(workers_[r]->start());
        for (int64_t k = 0; k < kHalf; ++k) SINEW_RETURN_IF_ERROR(workers_[r]->step(k));
        return Status::Ok();
      });
    if (has_center())
      sim_.set_node(kWorkers, [this](World& world) {
        center_ = toy_center(toy_, world);
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
    if (has_center()) saved.center = center_->save();
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
    if (!has_center()) return;
    center_ = make_center(toy_.scheme, sim_.world(kWorkers), toy_.size, toy_.dtype);
    Status status = center_->load(saved.center);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  End second_half() {
    for (Rank r = 0; r < kWorkers; ++r)
      sim_.set_node(r, [this, r](World& world) {
        for (int64_t k = kHalf; k < 2 * kHalf; ++k) SINEW_RETURN_IF_ERROR(workers_[r]->step(k));
        SINEW_RETURN_IF_ERROR(workers_[r]->scheme().finish(workers_[r]->theta().mutable_view()));
        world.leave();
        return Status::Ok();
      });
    if (has_center()) sim_.set_node(kWorkers, [this](World& world) { return center_->serve(INT64_MAX).status(); });
    SimReport report = sim_.run();
    check(report);
    End end;
    for (auto& w : workers_) end.theta.push_back(to_doubles(w->theta().view()));
    if (has_center()) {
      Vec c = Vec::zeros(toy_.size, toy_.dtype);
      center_->snapshot(c.mutable_view());
      end.center = to_doubles(c.view());
    }
    end.trace = report.trace_hash;
    end.time = report.virtual_time;
    return end;
  }

 private:
  bool has_center() const { return needs_center(toy_.scheme); }
  static void check(const SimReport& report) {
    for (const NodeOutcome& o : report.nodes)
      EXPECT_EQ(o.what, NodeOutcome::What::finished) << o.status.message() << report.deadlock;
  }

  const Toy toy_;
  Simulation sim_;
  std::vector<std::unique_ptr<ToyWorker>> workers_;
  std::unique_ptr<CenterNode> center_;
};

struct Case {
  const char* label;
  const char* scheme;
  const char* order;
  double momentum;
  bool faults;
  void (*more)(SchemeOptions&) = nullptr;
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
        Case{"dpsgd_atc_faults", "dpsgd", "jacobi", 0, true, [](SchemeOptions& o) { o.mixing = "atc"; }}),
    [](const auto& info) { return std::string(info.param.label); });

TEST_P(Resume, ContinuesBitForBit) {
  Toy toy;
  toy.scheme.name = GetParam().scheme;
  toy.scheme.order = GetParam().order;
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
      options.faults = parse_fault_plan(
                           "drop from=* to=* probability=0.2\nkill rank=2 step=5\npause rank=1 at=200ms for=90ms\n"
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
  EXPECT_EQ(center->load(saved.center).code(), StatusCode::data_error);
  auto scheme = make_scheme(toy.scheme, sim.world(0), 17, toy.dtype);
  EXPECT_EQ(scheme->load({}).code(), StatusCode::data_error);
  toy.scheme.name = "easgd_sync";
  EXPECT_EQ(make_scheme(toy.scheme, sim.world(0), 17, toy.dtype)->load(saved.schemes[0]).code(),
            StatusCode::data_error);
}

}  // namespace
}  // namespace sinew::dist::testing
