// The program's command line, for tests: with the training itself replaced.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "models/cli/program.h"

namespace sinew::train {

namespace fs = std::filesystem;

class CliTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/sinew_cli_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = fs::canonical(pattern).string();
    before_ = fs::current_path();
    fs::current_path(root_);
    runners_.local_job = [this](const Options& o, RunFolder& folder, const std::vector<std::string>& command) {
      return started("local_job", o, folder, command);
    };
    runners_.node = [this](const Options& o, RunFolder& folder,
                           const dist::JobEnvironment& e) -> Result<std::optional<RunSummary>> {
      environment_ = e;
      Result<RunSummary> summary = started("node", o, folder, {});
      if (!summary.ok()) return summary.status();
      if (e.rank != 0) return std::optional<RunSummary>();
      return std::optional<RunSummary>(*summary);
    };
    runners_.simulation = [this](const Options& o, RunFolder& folder) { return started("simulation", o, folder, {}); };
    runners_.evaluate = [this](const Options& o, const std::string& weights) -> Result<EvalReport> {
      started_ = "evaluate";
      options_ = o;
      return EvalReport{
          .weights = weights, .data = o.data.name, .loss = 1, .accuracy = 0.5, .samples = 2, .classes = {}};
    };
  }
  void TearDown() override {
    for (const char* variable :
         {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SINEW_OPTIM_LR", "SINEW_SCHEME_MODE"})
      unsetenv(variable);
    fs::current_path(before_);
    fs::remove_all(root_);
  }

  Result<RunSummary> started(const char* what, const Options& o, RunFolder& folder,
                             const std::vector<std::string>& command) {
    started_ = what;
    options_ = o;
    command_ = command;
    dir_ = folder.dir();
    if (!failure_.ok()) return failure_;
    folder.begin();
    RunSummary summary;
    summary.test_accuracy = 0.5;
    summary.scheme = o.scheme.name;
    summary.workers = o.run.workers;
    return summary;
  }

  int run(std::vector<std::string> args) {
    args.insert(args.begin(), "sinew");
    out_.str("");
    err_.str("");
    started_ = "";
    return run_program("/bin/sinew", args, runners_, out_, err_);
  }

  // Fails with this exit code, one line on standard error, and nothing started.
  void expect_error(int code, const std::string& line, const std::vector<std::string>& args) {
    EXPECT_EQ(run(args), code) << err_.str();
    std::string text = err_.str();
    EXPECT_EQ(text.find("sinew: " + line), 0u) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_EQ(started_, "");
  }

  static void set_job(int rank, int size) {
    setenv("RANK", std::to_string(rank).c_str(), 1);
    setenv("WORLD_SIZE", std::to_string(size).c_str(), 1);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("MASTER_PORT", "29511", 1);
  }

  Runners runners_;
  std::ostringstream out_, err_;
  std::string root_, started_, dir_;
  Options options_;
  std::vector<std::string> command_;
  dist::JobEnvironment environment_;
  Status failure_;
  fs::path before_;
};

}  // namespace sinew::train
