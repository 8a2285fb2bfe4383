#include "models/parts.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "models/weights_file.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;

class Parts : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/sinew_parts_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    options_.data.train_size = 200;
    options_.model.hidden = {8};
    options_.run.workers = 3;
    options_.scheme.name = "local";
    options_.scheme.alpha = 0.3;
  }
  void TearDown() override { fs::remove_all(root_); }

  // What rank leaves; with parameters of that seed where it has finished.
  void leave(const RunContext& context, const RunFolder& folder, int rank, const std::string& state, int64_t restarts) {
    NodeResult result;
    result.report = {.rank = rank,
                     .role = "worker",
                     .state = state,
                     .pid = 1,
                     .restarts = restarts,
                     .counters = {.steps = 10,
                                  .samples = 100,
                                  .train_seconds = 2,
                                  .bytes_sent = 1000,
                                  .exchanges = 5,
                                  .staleness = {.count = 2, .sum = 6, .most = 4 + rank}},
                     .evaluated = "own"};
    if (state == "finished") result.point = context.model.initialize(static_cast<uint64_t>(rank));
    ASSERT_TRUE(write_point(folder, context.model, result).ok());
    ASSERT_TRUE(write_report(folder, result.report).ok());
  }

  std::string root_;
  Options options_;
};

TEST_F(Parts, AReportRoundTrips) {
  const NodeReport report{.rank = 3,
                          .role = "center",
                          .state = "finished",
                          .pid = 77,
                          .restarts = 2,
                          .counters = {.steps = 1,
                                       .samples = 2,
                                       .train_seconds = 0.5,
                                       .bytes_sent = 3,
                                       .bytes_received = 4,
                                       .exchanges = 5,
                                       .missed = 6,
                                       .staleness = {.count = 7, .sum = 8, .most = 9}},
                          .evaluated = "center",
                          .evaluation = {},
                          .parameters_sha256 = {}};
  const std::string text = node_report_json(report);
  Result<NodeReport> back = parse_node_report(text, "rank-3.json");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(node_report_json(*back), text);
  EXPECT_EQ(back->counters.missed, 6);
  EXPECT_EQ(back->counters.staleness.sum, 8);
  EXPECT_EQ(parse_node_report("{}", "rank-3.json").status().code(), StatusCode::data_error);
  EXPECT_EQ(parse_node_report("nonsense", "rank-3.json").status().code(), StatusCode::data_error);
}

// The lowest rank that finished is measured; what the others did counts too, and who has not finished is lost.
TEST_F(Parts, TheSummaryOfWhatIsThere) {
  Result<RunContext> context = prepare_run(options_);
  ASSERT_TRUE(context.ok()) << context.status().message();
  const RunFolder folder = RunFolder::join(root_ + "/run").value();
  make_parts(folder);
  EXPECT_EQ(finish_parts(*context, folder).status().code(), StatusCode::peer_lost);
  leave(*context, folder, 0, "running", 0);  // killed
  leave(*context, folder, 1, "finished", 2);
  leave(*context, folder, 2, "finished", 0);
  Result<RunSummary> summary = finish_parts(*context, folder);
  ASSERT_TRUE(summary.ok()) << summary.status().message();
  EXPECT_EQ(summary->lost, std::vector<int>{0});
  EXPECT_EQ(summary->restarts, 2);
  EXPECT_EQ(summary->bytes_sent, 3000);
  EXPECT_EQ(summary->exchanges, 15);
  EXPECT_EQ(summary->staleness_mean, 3);
  EXPECT_EQ(summary->staleness_most, 6);
  EXPECT_EQ(summary->samples_per_second, 150);
  Result<Vec> kept = load_weights(folder.model(), context->model);
  ASSERT_TRUE(kept.ok()) << kept.status().message();
  const Vec expected = context->model.initialize(1);
  EXPECT_EQ(to_doubles(kept->view()), to_doubles(expected.view()));
  remove_parts(folder);
  EXPECT_FALSE(fs::exists(root_ + "/run/parts"));
  // A process that comes too late leaves nothing.
  EXPECT_FALSE(write_report(folder, {.rank = 0}).ok());
  EXPECT_FALSE(fs::exists(root_ + "/run/parts"));
}

}  // namespace
}  // namespace sinew::train
