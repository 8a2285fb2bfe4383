// Whole runs in virtual time, through the same functions that the program calls.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "core/safetensors.h"
#include "dist/fault_plan.h"
#include "models/config.h"
#include "models/metrics.h"
#include "models/node.h"
#include "models/run.h"
#include "models/weights_file.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;

class SimulationRun : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/sinew_sim_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { fs::remove_all(root_); }

  using Flags = std::vector<std::pair<std::string, std::string>>;
  Result<RunSummary> run(const Flags& flags) {
    Result<Configuration> configuration = configured(flags);
    if (!configuration.ok()) return configuration.status();
    Result<RunFolder> folder = RunFolder::create(*configuration, {"test"});
    if (!folder.ok()) return folder.status();
    dir_ = folder->dir();
    return run_simulation(configuration->options, *folder);
  }
  Result<Configuration> configured(const Flags& flags) {
    ConfigSources sources;
    auto give = [&](const std::string& key, const std::string& value) {
      sources.flags.push_back({key, value, "--" + key});
    };
    give("run.world", "sim");
    give("data.train_size", "2000");
    give("model.hidden", "16");
    give("train.steps", "40");
    give("train.batch", "16");
    give("run.workers", "4");
    give("train.threads", "1");  // a team would spin for its members on a busy machine
    give("log.progress", "none");
    give("run.dir", root_ + "/run-" + std::to_string(count_++));
    for (const auto& [key, value] : flags) give(key, value);
    return configure(sources);
  }
  std::string fault_file(const std::string& text) {
    const std::string path = root_ + "/plan-" + std::to_string(count_);
    std::ofstream(path) << text;
    return path;
  }

  std::string root_, dir_;
  int count_ = 0;
};

TEST_F(SimulationRun, SameSeedSameParametersUnderEveryScheme) {
  for (const std::string& scheme : dist::scheme_names()) {
    Result<RunSummary> a = run({{"scheme.name", scheme}, {"sim.threads", "3"}}),
                       b = run({{"scheme.name", scheme}, {"sim.threads", "1"}}),
                       lazy = run({{"scheme.name", scheme}, {"sim.always_yield", "true"}}),
                       other = run({{"scheme.name", scheme}, {"train.seed", "2"}});
    ASSERT_TRUE(a.ok()) << scheme << ": " << a.status().message();
    ASSERT_TRUE(b.ok() && lazy.ok() && other.ok()) << scheme;
    EXPECT_EQ(a->parameters_sha256, b->parameters_sha256) << scheme;
    EXPECT_EQ(a->parameters_sha256, lazy->parameters_sha256) << scheme;
    EXPECT_NE(a->parameters_sha256, other->parameters_sha256) << scheme;
    EXPECT_EQ(a->virtual_seconds, b->virtual_seconds) << scheme;
    EXPECT_EQ(a->steps_per_worker, 40);
    EXPECT_EQ(a->parameters_sha256.size(), 64u);
  }
}

// Many workers, in groups and in a tree of several levels.
TEST_F(SimulationRun, ManyWorkersRepeatBitForBit) {
  const Flags many{{"run.workers", "64"}, {"train.steps", "12"}, {"model.hidden", "4"}, {"scheme.period", "2"}};
  for (const Flags& scheme : {Flags{{"scheme.name", "elastic_gossip"}},
                              {{"scheme.name", "lsgd"}, {"scheme.groups", "8"}},
                              {{"scheme.name", "easgd_tree"}, {"scheme.fan_out", "8"}, {"scheme.far_period", "4"}}}) {
    Flags flags = many;
    flags.insert(flags.end(), scheme.begin(), scheme.end());
    const std::string& name = scheme[0].second;
    const Result<RunSummary> a = run(flags), b = run(flags);
    flags.emplace_back("train.seed", "2");
    const Result<RunSummary> other = run(flags);
    ASSERT_TRUE(a.ok() && b.ok() && other.ok()) << name << ": " << a.status().message();
    EXPECT_EQ(a->parameters_sha256.size(), 64u);
    EXPECT_EQ(a->parameters_sha256, b->parameters_sha256) << name;
    EXPECT_EQ(a->virtual_seconds, b->virtual_seconds) << name;
    EXPECT_NE(a->parameters_sha256, other->parameters_sha256) << name;
    EXPECT_EQ(a->workers, 64) << name;
    EXPECT_GE(a->exchanges, 64 * 3) << name;
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// A worker costs the vectors that are its own, with a fifth more, and 64 KiB; gradients and activations are the
// executing threads'.
TEST_F(SimulationRun, AWorkerKeepsItsOwnVectorsOnly) {
  using Flags = std::vector<std::pair<std::string, std::string>>;
  const auto peak_kib = [&](Flags flags, const std::string& workers) {
    ++count_;  // for a folder of its own
    const pid_t child = ::fork();
    if (child == 0) {
      flags.insert(flags.begin(), {{"run.workers", workers}, {"train.steps", "3"}, {"model.hidden", "12"}});
      ::_exit(run(flags).ok() ? 0 : 1);
    }
    int status = -1;
    rusage usage{};
    EXPECT_EQ(::wait4(child, &status, 0, &usage), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << workers << " workers";
    return static_cast<double>(usage.ru_maxrss);
  };
  const double vector_kib = (784 * 12 + 12 + 12 * 10 + 10) * 4.0 / 1024;
  struct Case {
    const char *scheme, *optimizer;
    // Parameters; the optimizer's velocity; what was last sent to the center, or told others; what a pair moves by; in
    // a tree what has come from above, and a share of the inner nodes.
    int vectors;
  };
  for (const Case& c : {Case{"local", "sgd", 1},
                        {"local", "nesterov", 2},
                        {"easgd", "sgd", 2},
                        {"dpsgd", "sgd", 3},
                        {"easgd_tree", "sgd", 4}}) {
    const Flags flags{{"scheme.name", c.scheme}, {"optim.name", c.optimizer}};
    const double a_worker = (peak_kib(flags, "1000") - peak_kib(flags, "200")) / 800;
    EXPECT_LE(a_worker, 1.2 * c.vectors * vector_kib + 64) << "KiB: " << c.scheme << ", " << c.optimizer;
    EXPECT_GE(a_worker, c.vectors * vector_kib) << "something was measured";
  }
  // The order of 60000 samples would be 234 KiB.
  const Flags full{
      {"scheme.name", "local"}, {"optim.name", "sgd"}, {"data.sharding", "full"}, {"data.train_size", "60000"}};
  EXPECT_LE((peak_kib(full, "600") - peak_kib(full, "100")) / 500, 1.2 * vector_kib + 64);
}
#endif

// At learning rate 0 all workers stay where they start: at the given weights, and so does what they agree on.
TEST_F(SimulationRun, EverySchemeStartsFromGivenWeights) {
  const std::string path = root_ + "/given.safetensors";
  Result<RunContext> context = prepare_run(configured({})->options);
  ASSERT_TRUE(context.ok());
  const Vec given = context->model.initialize(77);
  ASSERT_TRUE(save_weights(path, context->model, given.view()).ok());
  for (const std::string& scheme : dist::scheme_names()) {
    const Result<RunSummary> s =
        run({{"scheme.name", scheme}, {"optim.lr", "0"}, {"train.steps", "20"}, {"model.weights", path}});
    ASSERT_TRUE(s.ok()) << scheme << ": " << s.status().message();
    const Result<Vec> end = load_weights(dir_ + "/model.safetensors", context->model);
    ASSERT_TRUE(end.ok()) << end.status().message();
    // Means of equal numbers are rounded.
    const std::vector<double> a = to_doubles(end->view()), b = to_doubles(given.view());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-6 * std::abs(b[i])) << scheme << " " << i;
  }
}

// Parameters and buffers, and all nodes of a job must have the same.
TEST_F(SimulationRun, GivenWeightsArePartOfTheFingerprint) {
  const Flags net = {{"model.name", "resnet20"}, {"scheme.name", "allreduce"}};
  auto prepared = [&](const std::string& file) {
    Flags flags = net;
    if (!file.empty()) flags.emplace_back("model.weights", root_ + "/" + file);
    return prepare_run(configured(flags)->options);
  };
  Result<RunContext> plain = prepared("");
  ASSERT_TRUE(plain.ok()) << plain.status().message();
  Vec theta = plain->model.initialize(77);
  fill(theta.mutable_view().slice(plain->model.layout().size(), plain->model.buffer_layout().size()), 0.75);
  for (const char* file : {"a.safetensors", "same.safetensors"})
    ASSERT_TRUE(save_weights(root_ + "/" + file, plain->model, theta.view()).ok());
  fill(theta.mutable_view().slice(theta.size() - 1, 1), 0.5);
  ASSERT_TRUE(save_weights(root_ + "/other.safetensors", plain->model, theta.view()).ok());
  const Result<RunContext> a = prepared("a.safetensors"), same = prepared("same.safetensors"),
                           other = prepared("other.safetensors");
  ASSERT_TRUE(a.ok() && same.ok() && other.ok()) << a.status().message();
  EXPECT_EQ(to_doubles(other->weights.view()), to_doubles(theta.view()));
  EXPECT_EQ(a->scheme.fingerprint, same->scheme.fingerprint);
  EXPECT_NE(a->scheme.fingerprint, other->scheme.fingerprint);
  EXPECT_NE(a->scheme.fingerprint, plain->scheme.fingerprint);
}

// y = 2 x_0 - x_1 + 1, from a safetensors file: a linear network finds it.
TEST_F(SimulationRun, LearnsNumbers) {
  SafetensorsFile file;
  std::vector<float> x, y;
  for (int i = 0; i < 400; ++i) {
    x.push_back(static_cast<float>(i % 20) / 10 - 1), x.push_back(static_cast<float>(i / 20) / 10 - 1);
    y.push_back(2 * x[x.size() - 2] - x.back() + 1);
  }
  auto array = [](const std::vector<float>& values, const Shape& shape) {
    NamedArray a{DType::f32, shape, std::vector<std::byte>(values.size() * 4)};
    std::memcpy(a.bytes.data(), values.data(), a.bytes.size());
    return a;
  };
  file.tensors.emplace("x", array(x, {400, 2}));
  file.tensors.emplace("y", array(y, {400}));
  ASSERT_TRUE(write_safetensors(root_ + "/line.safetensors", file).ok());
  const std::vector<std::pair<std::string, std::string>> flags = {
      {"data.name", "tensors"}, {"data.file", root_ + "/line.safetensors"},
      {"data.train_size", "0"}, {"model.hidden", "none"},
      {"train.steps", "300"},   {"scheme.name", "allreduce"},
      {"optim.lr", "0.05"}};
  Result<RunSummary> s = run(flags);
  ASSERT_TRUE(s.ok()) << s.status().message();
  EXPECT_LT(s->test_loss, 1e-4);
  EXPECT_TRUE(std::isnan(s->test_accuracy));
  EXPECT_EQ(describe(*s).find("accuracy"), std::string::npos) << describe(*s);
  Result<RunSummary> back = parse_summary(summary_json(*s), "summary.json");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_TRUE(std::isnan(back->test_accuracy));
}

TEST_F(SimulationRun, ShardsOfAllSizesTakeTheSameSteps) {
  Result<RunSummary> s = run({{"scheme.name", "allreduce"},
                              {"data.train_size", "400"},
                              {"data.sharding", "dirichlet"},
                              {"data.concentration", "0.05"},
                              {"train.steps", "0"},
                              {"train.epochs", "2"}});
  ASSERT_TRUE(s.ok()) << s.status().message();
  EXPECT_EQ(s->steps_per_worker, 2 * (400 / 4 / 16));
}

// An image that cannot be read ends the run with its name.
TEST_F(SimulationRun, AnUnreadableSampleIsOneLine) {
  const std::string dir = root_ + "/images";
  for (const char* name : {"train/a/0.jpg", "train/b/0.jpg", "val/a/0.jpg"}) {
    fs::create_directories(fs::path(dir + "/" + name).parent_path());
    std::ofstream(dir + "/" + name) << "no image";
  }
  Result<RunSummary> s = run({{"data.name", "images"},
                              {"data.dir", dir},
                              {"data.train_size", "0"},
                              {"data.crop", "8"},
                              {"run.workers", "1"},
                              {"train.batch", "2"}});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.status().code(), StatusCode::data_error);
  EXPECT_NE(s.status().message().find("/0.jpg: not a PNG or JPEG image"), std::string::npos) << s.status().message();
}

TEST_F(SimulationRun, LearnsAndLeavesItsFiles) {
  Result<RunSummary> s =
      run({{"scheme.name", "easgd"}, {"train.steps", "400"}, {"model.hidden", "64"}, {"train.eval_every", "200"}});
  ASSERT_TRUE(s.ok()) << s.status().message();
  EXPECT_GT(s->test_accuracy, 0.3);  // ten classes
  EXPECT_EQ(s->evaluated, "center");
  EXPECT_GT(s->bytes_sent, 0);
  EXPECT_EQ(s->exchanges, 4 * 40);
  for (const char* name : {"config.toml", "metrics.jsonl", "status.json", "model.safetensors"})
    EXPECT_TRUE(fs::exists(dir_ + "/" + name)) << name;
  Result<std::vector<MetricsRecord>> records = MetricsReader(dir_ + "/metrics.jsonl").poll();
  ASSERT_TRUE(records.ok());
  int own = 0, center = 0;
  for (const MetricsRecord& r : *records) own += r.measured == "own", center += r.measured == "center";
  EXPECT_EQ(own, 4 * 100);
  EXPECT_EQ(center, 2);
  // The file holds what was measured.
  Options options;
  options.data.train_size = 2000;
  options.model.hidden = {64};
  Result<EvalReport> eval = evaluate_file(options, dir_ + "/model.safetensors");
  ASSERT_TRUE(eval.ok()) << eval.status().message();
  EXPECT_EQ(eval->accuracy, s->test_accuracy);
  EXPECT_EQ(eval->classes.size(), 10u);
}

// Every exchange whose weights are not alpha is a line with its reason: the oracle's, after a suppressed one.
TEST_F(SimulationRun, WeightsAreLogged) {
  const std::string plan = fault_file("suppress rank=* probability=0.4\n");
  Result<RunSummary> s = run({{"scheme.name", "easgd"},
                              {"scheme.period", "1"},
                              {"scheme.alpha", "0.1"},
                              {"scheme.weighting", "oracle"},
                              {"fault.plan", plan}});
  ASSERT_TRUE(s.ok()) << s.status().message();
  Result<std::vector<MetricsRecord>> records = MetricsReader(dir_ + "/metrics.jsonl").poll();
  ASSERT_TRUE(records.ok());
  int lines = 0, expected = 0;
  for (const MetricsRecord& r : *records) {
    if (r.measured != "exchange") continue;
    ++lines;
    EXPECT_EQ(r.value("h1"), 1);
    EXPECT_EQ(r.value("h2"), 0);
    EXPECT_GT(r.value("distance"), 0);
    EXPECT_EQ(r.reason, "contacts failed before");
  }
  const dist::FaultPlan faults = dist::parse_fault_plan("suppress rank=* probability=0.4", "plan").value();
  for (dist::Rank rank = 0; rank < 4; ++rank)
    for (int64_t round = 1; round < 40; ++round)
      expected += dist::plan_suppresses(faults, rank, round - 1) && !dist::plan_suppresses(faults, rank, round);
  EXPECT_EQ(lines, expected);
  EXPECT_GT(lines, 10);
  EXPECT_EQ(s->exchanges + s->missed, 4 * 40);
}

// The workers train on while the center is away. How far they are from the one that comes back, or that a worker takes
// over, is nobody's failure (failure matrix, row 8).
TEST_F(SimulationRun, ACenterThatComesBackMakesNobodyFailed) {
  for (const char* restarts : {"1", "0"}) {
    Result<RunSummary> s = run({{"scheme.name", "easgd"},
                                {"scheme.period", "2"},
                                {"scheme.weighting", "dynamic"},
                                {"train.steps", "160"},
                                {"run.restarts", restarts},
                                {"fault.plan", fault_file("kill rank=4 at=500ms\n")}});
    ASSERT_TRUE(s.ok()) << s.status().message();
    EXPECT_GT(s->exchanges_lost + s->missed + s->restarts, 0);
    Result<std::vector<MetricsRecord>> records = MetricsReader(dir_ + "/metrics.jsonl").poll();
    ASSERT_TRUE(records.ok());
    for (const MetricsRecord& r : *records) {
      if (r.measured != "exchange") continue;
      EXPECT_LT(r.value("h1"), 1) << restarts << ": worker " << r.worker << " in step " << r.step << ": " << r.reason;
    }
  }
}

// Rounds of a leader scheme: the leader is the one with the lowest mean of the last losses, which the trainer tells.
TEST_F(SimulationRun, LeadersAreLogged) {
  Result<RunSummary> s = run({{"scheme.name", "lsgd"}, {"scheme.loss_window", "5"}});
  ASSERT_TRUE(s.ok()) << s.status().message();
  EXPECT_EQ(s->evaluated, "average");
  EXPECT_EQ(s->exchanges, 4 * 4);
  Result<std::vector<MetricsRecord>> records = MetricsReader(dir_ + "/metrics.jsonl").poll();
  ASSERT_TRUE(records.ok());
  std::map<int64_t, std::map<int, double>> losses;  // by round and worker
  double loss[4][41] = {};                          // by worker and step
  for (const MetricsRecord& r : *records)
    if (r.measured == "round") losses[r.step / 10 - 1][r.worker] = r.value("own_loss");
  for (const MetricsRecord& r : *records) {
    if (r.measured == "own" && !std::isnan(r.value("loss"))) loss[r.worker][r.step] = r.value("loss");
    if (r.measured != "round") continue;
    const auto& all = losses.at(r.step / 10 - 1);
    auto best = std::min_element(all.begin(), all.end(), [](auto& a, auto& b) { return a.second < b.second; });
    EXPECT_EQ(r.value("leader"), best->first);
    EXPECT_EQ(r.value("steps"), 10);
    EXPECT_EQ(r.value("distance") > 0, r.worker != best->first);
  }
  ASSERT_EQ(losses.size(), 4u);
  for (const auto& [round, of] : losses)
    for (int worker = 0; worker < 4; ++worker) {
      double sum = 0;
      for (int64_t step = 10 * round + 6; step <= 10 * round + 10; ++step) sum += loss[worker][step];
      EXPECT_NEAR(of.at(worker), sum / 5, 1e-9) << round << " " << worker;
    }
}

// Equal parameters have equal losses on a batch that all share, whatever each has seen; the lowest rank leads.
TEST_F(SimulationRun, AProbeIsTheSameForAll) {
  for (const char* mode : {"sync", "async"}) {
    Result<RunSummary> s = run({{"scheme.name", "lsgd"},
                                {"scheme.mode", mode},
                                {"scheme.leader", "probe_batch"},
                                {"scheme.probe", "100"},
                                {"data.sharding", "partition"},
                                {"optim.name", "sgd"},
                                {"optim.lr", "1e-30"}});
    ASSERT_TRUE(s.ok()) << s.status().message();
    Result<std::vector<MetricsRecord>> records = MetricsReader(dir_ + "/metrics.jsonl").poll();
    ASSERT_TRUE(records.ok());
    double first = 0;
    for (const MetricsRecord& r : *records) {
      if (r.measured != "round") continue;
      if (first == 0) first = r.value("own_loss");
      EXPECT_EQ(r.value("own_loss"), first);
      EXPECT_EQ(r.value("leader"), 0);
    }
    EXPECT_GT(first, 0);
  }
}

TEST_F(SimulationRun, AKilledWorkerComesBackOrIsLost) {
  const std::string plan = fault_file("kill rank=2 step=20\n");
  Result<RunSummary> back = run({{"scheme.name", "easgd"}, {"fault.plan", plan}});
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(back->restarts, 1);
  EXPECT_EQ(back->exchanges, 4 * 4);  // before steps 0, 10, 20 and 30, over both lives
  EXPECT_TRUE(back->lost.empty());
  Result<RunSummary> lost = run({{"scheme.name", "easgd"}, {"fault.plan", plan}, {"run.restarts", "0"}});
  ASSERT_TRUE(lost.ok()) << lost.status().message();
  EXPECT_EQ(lost->restarts, 0);
  EXPECT_EQ(lost->lost, (std::vector<int>{2}));
  // As with real processes, a synchronous scheme does not take it back, but goes on.
  Result<RunSummary> smaller = run({{"scheme.name", "allreduce"}, {"fault.plan", plan}});
  ASSERT_TRUE(smaller.ok()) << smaller.status().message();
  EXPECT_EQ(smaller->lost, (std::vector<int>{2}));
  std::ifstream status(dir_ + "/status.json");
  const std::string text((std::istreambuf_iterator<char>(status)), std::istreambuf_iterator<char>());
  EXPECT_NE(text.find("\"restarts\": 0"), std::string::npos) << text;
  EXPECT_EQ(text.find("\"restarts\": 1"), std::string::npos) << text;
}

// At its very end a worker is cut off, or the center is stopped, for many deadlines: what it has not confirmed is tried
// again for run.grace.
TEST_F(SimulationRun, WhatIsUnconfirmedAtTheEndIsTriedAgain) {
  for (const char* scheme : {"easgd", "downpour"})
    for (const char* faults : {"drop from=1 after_step=35 until=9s", "partition ranks=1 after=385ms until=9s",
                               "pause rank=4 at=385ms for=9s"}) {
      const auto with = [&](const std::string& grace) {
        return run({{"scheme.name", scheme},
                    {"scheme.deadline", "300ms"},
                    {"sim.step_seconds", "10ms"},
                    {"fault.plan", fault_file(faults)},
                    {"run.grace", grace}});
      };
      for (const char* grace : {"30s", "0"}) {
        const Result<RunSummary> s = with(grace);
        ASSERT_TRUE(s.ok()) << scheme << " " << faults << ": " << s.status().message();
        EXPECT_TRUE(s->lost.empty());
        EXPECT_GT(s->virtual_seconds, 9);
      }
      EXPECT_EQ(with("2s").status().code(), StatusCode::timeout) << scheme << " " << faults;
    }
}

// Exchanges of all workers queue at a center that needs time for each.
TEST_F(SimulationRun, ACenterThatNeedsTimeForEachMessageHasAQueue) {
  const auto with = [&](const char* workers, const char* service) {
    const Result<RunSummary> s = run({{"scheme.name", "easgd"},
                                      {"scheme.period", "2"},
                                      {"scheme.deadline", "60s"},
                                      {"run.workers", workers},
                                      {"sim.service", service}});
    EXPECT_TRUE(s.ok()) << s.status().message();
    return s.ok() ? *s : RunSummary();
  };
  for (const char* workers : {"2", "8"}) {
    const RunSummary quick = with(workers, "1us"), slow = with(workers, "50ms");
    EXPECT_EQ(slow.exchanges, 20 * std::stoi(workers));
    EXPECT_EQ(slow.missed, 0);
    EXPECT_LT(quick.virtual_seconds, 1);
    // Two messages an exchange, the question and the difference.
    const double expected = 2 * 0.05 * static_cast<double>(slow.exchanges);
    EXPECT_GE(slow.virtual_seconds, 0.95 * expected) << workers;
    EXPECT_LE(slow.virtual_seconds, 1.3 * expected) << workers;
  }
}

// How old what is mixed in is: nothing with one worker, the others' exchanges with a center, and it grows with delays
// of messages and with a worker that is slower. Nothing is stale where all wait for a round.
TEST_F(SimulationRun, StalenessIsReported) {
  const auto with = [&](Flags flags, const std::string& faults = "") {
    if (!faults.empty()) flags.push_back({"fault.plan", fault_file(faults)});
    flags.push_back({"scheme.period", "1"});
    const Result<RunSummary> s = run(flags);
    EXPECT_TRUE(s.ok()) << flags[0].second << ": " << s.status().message();
    return s.ok() ? *s : RunSummary();
  };
  for (const char* scheme : {"easgd", "downpour"}) {
    const RunSummary alone = with({{"scheme.name", scheme}, {"run.workers", "1"}});
    EXPECT_EQ(alone.staleness_mean, 0) << scheme;
    EXPECT_EQ(alone.staleness_most, 0) << scheme;
    const RunSummary four = with({{"scheme.name", scheme}});
    EXPECT_NEAR(four.staleness_mean, 3, 0.2) << scheme;
    const RunSummary slow = with({{"scheme.name", scheme}}, "slow rank=1 factor=5");
    EXPECT_GE(slow.staleness_most, 12) << scheme;
    EXPECT_LE(slow.staleness_most, 20) << scheme;
  }
  EXPECT_NEAR(with({{"scheme.name", "easgd"}, {"scheme.shard", "4000"}}).staleness_mean, 3, 0.2);
  struct Gossip {
    const char *scheme, *direction;
    int64_t late;  // at least, with messages that take up to 100 ms, ten steps; pairs and pulls wait that long
  };
  for (const Gossip& g : {Gossip{"elastic_gossip", "", 0},
                          {"gossiping_sgd", "pull", 0},
                          {"gossiping_sgd", "push", 4},
                          {"gosgd", "", 4}}) {
    Flags flags{{"scheme.name", g.scheme}, {"scheme.probability", "1"}};
    if (g.scheme != std::string("gosgd")) flags.push_back({"scheme.mode", "async"});
    if (*g.direction) flags.push_back({"scheme.direction", g.direction});
    const RunSummary quick = with(flags), late = with(flags, "delay by=0s jitter=100ms");
    EXPECT_GE(quick.staleness_mean, 0) << g.scheme;
    EXPECT_LE(quick.staleness_most, 2) << g.scheme;
    EXPECT_GE(late.staleness_most, g.late) << g.scheme;
    EXPECT_LE(late.staleness_most, 30) << g.scheme;
  }
  const Flags leaders{
      {"scheme.name", "lsgd"}, {"scheme.mode", "async"}, {"scheme.deadline", "50ms"}, {"train.steps", "120"}};
  EXPECT_EQ(with(leaders).staleness_most, 0);
  EXPECT_GE(with(leaders, "pause rank=1 at=500ms for=300ms").staleness_most, 5);
  EXPECT_TRUE(std::isnan(with({{"scheme.name", "allreduce"}}).staleness_mean));
  EXPECT_TRUE(std::isnan(with({{"scheme.name", "sgp"}}).staleness_mean));
}

// A gossip scheme is measured at the mean of all workers; one that dies comes back, or the others go on.
TEST_F(SimulationRun, GossipIsMeasuredAtTheAverage) {
  const std::string plan = fault_file("kill rank=2 step=20\n");
  for (const char* scheme : {"elastic_gossip", "gossiping_sgd", "gosgd", "dpsgd", "sgp", "adpsgd"}) {
    Result<RunSummary> s = run({{"scheme.name", scheme}, {"train.steps", "60"}, {"train.eval_every", "30"}});
    ASSERT_TRUE(s.ok()) << scheme << ": " << s.status().message();
    EXPECT_EQ(s->evaluated, "average");
    EXPECT_GT(s->exchanges, 0) << scheme;
    EXPECT_GT(s->test_accuracy, 0.1) << scheme;
    Result<std::vector<MetricsRecord>> records = MetricsReader(dir_ + "/metrics.jsonl").poll();
    ASSERT_TRUE(records.ok());
    for (const MetricsRecord& r : *records) EXPECT_EQ(r.measured, "own");
    Result<RunSummary> back = run({{"scheme.name", scheme}, {"fault.plan", plan}});
    ASSERT_TRUE(back.ok()) << scheme << ": " << back.status().message();
    EXPECT_EQ(back->restarts, 1) << scheme;
    EXPECT_TRUE(back->lost.empty());
    Result<RunSummary> lost = run({{"scheme.name", scheme}, {"fault.plan", plan}, {"run.restarts", "0"}});
    ASSERT_TRUE(lost.ok()) << scheme << ": " << lost.status().message();
    EXPECT_EQ(lost->lost, (std::vector<int>{2})) << scheme;
  }
}

// Who adopts the center loses its momentum, which is not finite either, and needs the center no more.
TEST_F(SimulationRun, AMomentumThatIsNotFiniteEndsWithTheParameters) {
  for (const Flags& scheme :
       {Flags{{"scheme.name", "easgd"}}, Flags{{"scheme.name", "easgd"}, {"scheme.update_order", "post"}},
        Flags{{"scheme.name", "easgd_sync"}}, Flags{{"scheme.name", "easgd_sync"}, {"scheme.order", "gauss_seidel"}}}) {
    const std::string plan = fault_file("corrupt rank=1 step=12 value=nan\n");
    Flags flags{{"scheme.period", "5"}, {"optim.name", "qgm"}, {"train.nonfinite", "skip"}, {"fault.plan", plan}};
    flags.insert(flags.end(), scheme.begin(), scheme.end());
    Result<RunSummary> s = run(flags);
    const std::string name = scheme[0].second + " " + scheme.back().second;
    ASSERT_TRUE(s.ok()) << name << ": " << s.status().message();
    EXPECT_EQ(s->missed, 1) << name;
    EXPECT_EQ(s->exchanges, 4 * 8 - 1) << name;
    EXPECT_TRUE(std::isfinite(s->consensus_distance)) << name;
  }
}

TEST_F(SimulationRun, ANonFiniteLossStopsTheRunOrIsSkipped) {
  Result<RunSummary> stopped = run({{"scheme.name", "easgd"}, {"optim.lr", "1000"}});
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.status().code(), StatusCode::non_finite);
  Result<RunSummary> skipped = run({{"scheme.name", "easgd"}, {"optim.lr", "1000"}, {"train.nonfinite", "skip"}});
  // All steps are taken, and the useless result is called that.
  ASSERT_FALSE(skipped.ok());
  EXPECT_EQ(skipped.status().code(), StatusCode::non_finite);
  EXPECT_NE(skipped.status().message().find("useless"), std::string::npos) << skipped.status().message();
}

// Runs and tests take their network from the zoo, by its name.
TEST_F(SimulationRun, AnUnknownNetworkIsRefusedEverywhere) {
  Options options;
  options.data.train_size = 100;
  options.model.name = "mlpp";
  for (const Status& status : {prepare_run(options).status(), evaluate_file(options, "none").status()}) {
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_NE(status.message().find("did you mean mlp?"), std::string::npos) << status.message();
  }
}

TEST_F(SimulationRun, BadWeightsAreOneClearLine) {
  Options options;
  options.data.train_size = 100;
  const std::string path = root_ + "/bad.safetensors";
  std::ofstream(path) << "not a safetensors file";
  Result<EvalReport> corrupt = evaluate_file(options, path);
  ASSERT_FALSE(corrupt.ok());
  EXPECT_EQ(corrupt.status().code(), StatusCode::data_error);
  EXPECT_NE(corrupt.status().message().find(path), std::string::npos);
  ASSERT_TRUE(write_safetensors(path, {}).ok());
  Result<EvalReport> empty = evaluate_file(options, path);
  ASSERT_FALSE(empty.ok());
  EXPECT_NE(empty.status().message().find("fc1"), std::string::npos) << empty.status().message();
}

}  // namespace
}  // namespace sinew::train
