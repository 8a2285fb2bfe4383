#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "models/run.h"

namespace sinew::train {
namespace {

RunSummary example() {
  return {.test_accuracy = 0.9812,
          .test_loss = 0.0625,
          .evaluated = "center",
          .scheme = "easgd",
          .model = "mlp",
          .data = "mnist",
          .world = "ucx",
          .workers = 4,
          .steps_per_worker = 936,
          .parameters = 1863690,
          .samples_per_second = 40000,
          .bytes_sent = 12345678901,
          .wall_seconds = 12.5,
          .virtual_seconds = 0,
          .exchanges = 372,
          .missed = 1,
          .refused = 2,
          .exchanges_lost = 3,
          .staleness_mean = 2.5,
          .staleness_most = 9,
          .consensus_distance = 0.25,
          .restarts = 1,
          .lost = {2, 3},
          .seed = 1,
          .parameters_sha256 = "abc"};
}

TEST(RunSummary, JsonHasEveryPromisedFieldAndRoundTrips) {
  std::string text = summary_json(example());
  auto json = nlohmann::json::parse(text);
  for (const char* field : {"test_accuracy",
                            "test_loss",
                            "evaluated",
                            "scheme",
                            "model",
                            "data",
                            "workers",
                            "steps_per_worker",
                            "samples_per_second",
                            "bytes_sent",
                            "wall_seconds",
                            "virtual_seconds",
                            "restarts",
                            "refused",
                            "exchanges_lost",
                            "staleness_mean",
                            "staleness_most",
                            "consensus_distance",
                            "lost",
                            "seed",
                            "parameters_sha256"})
    EXPECT_TRUE(json.contains(field)) << field;
  EXPECT_EQ(json["test_accuracy"], 0.9812);
  EXPECT_EQ(json["lost"], (std::vector<int>{2, 3}));
  Result<RunSummary> back = parse_summary(text, "summary.json");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(summary_json(*back), text);
}

TEST(RunSummary, ALossThatIsNotFiniteIsNull) {
  RunSummary s = example();
  s.test_loss = std::nan("");
  Result<RunSummary> back = parse_summary(summary_json(s), "summary.json");
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(std::isnan(back->test_loss));
}

TEST(RunSummary, BadJson) {
  EXPECT_EQ(parse_summary("nonsense", "s.json").status().message(), "s.json: not a JSON object");
  EXPECT_EQ(parse_summary("{}", "s.json").status().message(), "s.json: no valid \"test_accuracy\"");
  auto json = nlohmann::json::parse(summary_json(example()));
  json["workers"] = "four";
  EXPECT_EQ(parse_summary(json.dump(), "s.json").status().message(), "s.json: no valid \"workers\"");
}

TEST(RunSummary, Description) {
  std::string text = describe(example());
  EXPECT_EQ(text.find("easgd, 4 workers, mlp on mnist\n"), 0u) << text;
  EXPECT_NE(text.find("test accuracy  0.9812  (center)"), std::string::npos) << text;
  EXPECT_NE(text.find("12.35 GB"), std::string::npos) << text;
  EXPECT_NE(text.find("staleness      2.5 on average, at most 9"), std::string::npos) << text;
  EXPECT_NE(text.find("restarts       1, lost rank 2, 3"), std::string::npos) << text;
  EXPECT_NE(text.find("sha256 abc"), std::string::npos) << text;
  RunSummary quiet = example();
  quiet.restarts = 0;
  quiet.lost.clear();
  EXPECT_EQ(describe(quiet).find("restarts"), std::string::npos);
}

TEST(EvalReport, ShowsEveryClass) {
  EvalReport report{.weights = "m.safetensors",
                    .data = "mnist",
                    .loss = 0.5,
                    .accuracy = 0.75,
                    .samples = 4,
                    .classes = {{"zero", 3, 2}, {"one", 1, 1}, {"two", 0, 0}}};
  std::string text = describe(report);
  EXPECT_NE(text.find("test accuracy  0.7500  (4 samples)"), std::string::npos) << text;
  EXPECT_NE(text.find("zero            66.67 %  2 of 3"), std::string::npos) << text;
  EXPECT_NE(text.find("two              0.00 %  0 of 0"), std::string::npos) << text;
  auto json = nlohmann::json::parse(eval_json(report));
  EXPECT_EQ(json["test_accuracy"], 0.75);
  EXPECT_EQ(json["classes"][0]["correct"], 2);
}

TEST(LocalJob, ProcessesTakeTheGpusInTurn) {
  EXPECT_EQ(gpu_for(0, 2, nullptr), "0");
  EXPECT_EQ(gpu_for(3, 2, nullptr), "1");
  EXPECT_EQ(gpu_for(1, 3, "5,GPU-8932f937,7"), "GPU-8932f937");
  EXPECT_EQ(gpu_for(5, 3, "5,GPU-8932f937,7"), "7");
  EXPECT_EQ(gpu_for(2, 2, "5,6,none"), "5");  // CUDA sees those before the first that is not there
}

}  // namespace
}  // namespace sinew::train
