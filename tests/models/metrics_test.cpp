#include "models/metrics.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <map>

namespace sinew::train {
namespace {

std::string fresh(const std::string& name) {
  std::string path = testing::TempDir() + "/" + name + "." + std::to_string(getpid());
  std::remove(path.c_str());
  return path;
}

MetricsRecord record(int worker, int64_t step) {
  return {.step = step,
          .epoch = 0.1 * static_cast<double>(step),
          .wall_seconds = 1.5,
          .virtual_seconds = 0.25,
          .bytes_sent = 1LL << 40,
          .bytes_received = 7,
          .worker = worker,
          .measured = "center",
          .values = {{"loss", 0.5}, {"accuracy", 0.875}}};
}

TEST(Metrics, LineRoundTrips) {
  MetricsRecord r = record(2, 30);
  std::string line = metrics_line(r);
  EXPECT_EQ(line,
            "{\"step\":30,\"epoch\":3.0,\"wall_seconds\":1.5,\"virtual_seconds\":0.25,\"bytes_sent\":1099511627776,"
            "\"bytes_received\":7,\"worker\":2,\"measured\":\"center\",\"loss\":0.5,\"accuracy\":0.875}");
  Result<MetricsRecord> back = parse_metrics_line(line, "here");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(metrics_line(*back), line);
  EXPECT_EQ(back->value("accuracy"), 0.875);
  EXPECT_TRUE(std::isnan(back->value("no such value")));
  r.reason = "the distance grows";
  line = metrics_line(r);
  EXPECT_TRUE(line.ends_with(",\"accuracy\":0.875,\"reason\":\"the distance grows\"}")) << line;
  EXPECT_EQ(metrics_line(*parse_metrics_line(line, "here")), line);
}

TEST(Metrics, NonFiniteValuesAreNull) {
  MetricsRecord r = record(0, 1);
  r.values = {{"loss", std::numeric_limits<double>::quiet_NaN()},
              {"accuracy", std::numeric_limits<double>::infinity()}};
  std::string line = metrics_line(r);
  EXPECT_NE(line.find("\"loss\":null,\"accuracy\":null"), std::string::npos) << line;
  EXPECT_TRUE(std::isnan(parse_metrics_line(line, "here")->value("loss")));
}

TEST(Metrics, BadLines) {
  for (const char* bad : {"", "[]", "{", "{}", "{\"step\":\"x\"}"}) {
    Result<MetricsRecord> r = parse_metrics_line(bad, "metrics.jsonl:3");
    EXPECT_EQ(r.status().code(), StatusCode::data_error) << bad;
    EXPECT_EQ(r.status().message().find("metrics.jsonl:3: "), 0u) << r.status().message();
  }
}

TEST(Metrics, ReaderFollowsAndLeavesUnfinishedLines) {
  std::string path = fresh("follow.jsonl");
  MetricsReader reader(path);
  EXPECT_TRUE(reader.poll()->empty());  // no file yet
  MetricsWriter writer = MetricsWriter::open(path).value();
  ASSERT_TRUE(writer.append(record(0, 1)).ok());
  ASSERT_TRUE(writer.append(record(0, 2)).ok());
  EXPECT_EQ(reader.poll()->size(), 2u);
  EXPECT_TRUE(reader.poll()->empty());
  std::string line = metrics_line(record(0, 3));
  std::ofstream(path, std::ios::app) << line.substr(0, 10);
  EXPECT_TRUE(reader.poll()->empty());
  std::ofstream(path, std::ios::app) << line.substr(10) << "\n";
  auto rest = reader.poll();
  ASSERT_EQ(rest->size(), 1u);
  EXPECT_EQ(rest->at(0).step, 3);
  std::ofstream(path, std::ios::app) << "broken\n";
  EXPECT_EQ(reader.poll().status().message(), path + ":4: not a JSON object");
}

TEST(Metrics, LinesOfSeveralProcessesNeverMix) {
  std::string path = fresh("many.jsonl");
  constexpr int kProcesses = 4, kLines = 500;
  for (int p = 0; p < kProcesses; ++p) {
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Result<MetricsWriter> writer = MetricsWriter::open(path);
      bool good = writer.ok();
      for (int i = 0; good && i < kLines; ++i) {
        MetricsRecord r = record(p, i);
        for (int v = 0; v < 20 * p; ++v) r.values.emplace_back("value" + std::to_string(v), v);
        good = writer->append(r).ok();
      }
      _exit(good ? 0 : 1);
    }
  }
  for (int p = 0; p < kProcesses; ++p) {
    int status = 0;
    ASSERT_GT(wait(&status), 0);
    EXPECT_EQ(status, 0);
  }
  Result<std::vector<MetricsRecord>> records = MetricsReader(path).poll();
  ASSERT_TRUE(records.ok()) << records.status().message();
  std::map<int, int64_t> next;
  for (const MetricsRecord& r : *records) EXPECT_EQ(r.step, next[r.worker]++);
  for (int p = 0; p < kProcesses; ++p) EXPECT_EQ(next[p], kLines);
}

TEST(Metrics, CannotOpen) {
  EXPECT_EQ(MetricsWriter::open(testing::TempDir() + "/no/such/metrics.jsonl").status().code(), StatusCode::io_error);
}

}  // namespace
}  // namespace sinew::train
