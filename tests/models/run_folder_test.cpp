#include "models/run_folder.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace sinew::train {
namespace {

namespace fs = std::filesystem;

std::string slurp(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class RunFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/sinew_run_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = fs::canonical(pattern).string();
    before_ = fs::current_path();
    fs::current_path(root_);
  }
  void TearDown() override {
    fs::current_path(before_);
    fs::remove_all(root_);
  }
  static Configuration configuration(const std::string& out = "") {
    ConfigSources sources;
    if (!out.empty()) sources.flags = {{"out", out, "--out"}};
    return configure(sources).value();
  }
  std::string root_;
  fs::path before_;
};

TEST_F(RunFolderTest, NumberedFoldersDescribeTheRun) {
  Configuration a = configuration(), b = configuration();
  Result<RunFolder> first = RunFolder::create(a, {"sinew", "train", "--data.dir", "it's here"});
  ASSERT_TRUE(first.ok()) << first.status().message();
  Result<RunFolder> second = RunFolder::create(b, {"sinew", "train"});
  ASSERT_TRUE(second.ok()) << second.status().message();
  EXPECT_NE(first->dir(), second->dir());
  EXPECT_EQ(a.options.run.dir, first->dir());
  EXPECT_TRUE(first->dir().ends_with("-mlp-local-1")) << first->dir();
  EXPECT_TRUE(second->dir().ends_with("-mlp-local-2")) << second->dir();
  EXPECT_TRUE(fs::path(first->dir()).is_absolute());
  EXPECT_EQ(fs::path(first->dir()).parent_path(), fs::path(root_) / "runs");

  EXPECT_EQ(slurp(first->dir() + "/command.txt"), "sinew train --data.dir 'it'\\''s here'\n");
  auto facts = nlohmann::json::parse(slurp(first->dir() + "/env.json"));
  for (const char* name : {"date", "sinew", "compiler", "ucx", "onednn", "processor", "host"})
    EXPECT_FALSE(facts.at(name).get<std::string>().empty()) << name;
  EXPECT_TRUE(fs::is_directory(first->dir() + "/log"));
  EXPECT_EQ(first->log(3), first->dir() + "/log/rank-3.log");

  ConfigSources again;
  again.file = first->config();
  Result<Configuration> back = configure(again);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(back->options.run.dir, "");
  EXPECT_EQ(back->options.train.threads, a.options.train.threads);
}

TEST_F(RunFolderTest, AFolderHoldsOneRun) {
  Configuration c = configuration("here");
  Result<RunFolder> folder = RunFolder::create(c, {"sinew", "train"});
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  std::string dir = root_ + "/here";
  EXPECT_EQ(folder->dir(), dir);

  Result<RunFolder> started = RunFolder::create(c, {"sinew", "train"});
  EXPECT_EQ(started.status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(started.status().message(), "--out: " + dir +
                                            " already holds a started run (config.toml); choose another folder, or "
                                            "remove it: rm -r " +
                                            dir);
  ASSERT_TRUE(write_file(folder->summary(), "{}").ok());
  Result<RunFolder> finished = RunFolder::create(c, {"sinew", "train"});
  EXPECT_NE(finished.status().message().find("already holds a finished run (summary.json)"), std::string::npos);
}

TEST_F(RunFolderTest, FoldersWithOtherFilesAreAllowed) {
  fs::create_directory("notes");
  std::ofstream("notes/readme.txt") << "mine";
  Configuration c = configuration("notes");
  EXPECT_TRUE(RunFolder::create(c, {"sinew"}).ok());
  EXPECT_EQ(slurp("notes/readme.txt"), "mine");
}

TEST_F(RunFolderTest, UnusedFoldersGoUsedOnesStay) {
  Configuration unused = configuration("unused"), used = configuration("used"), logged = configuration("logged");
  RunFolder::create(unused, {"sinew"})->remove_if_unused();
  EXPECT_FALSE(fs::exists("unused"));
  RunFolder measured = RunFolder::create(used, {"sinew"}).value();
  std::ofstream(measured.metrics()) << "\n";
  measured.remove_if_unused();
  EXPECT_TRUE(fs::exists("used/config.toml"));
  RunFolder with_log = RunFolder::create(logged, {"sinew"}).value();
  std::ofstream(with_log.log(0)) << "why\n";
  with_log.remove_if_unused();
  EXPECT_TRUE(fs::exists("logged/config.toml"));

  fs::create_directory("notes");
  std::ofstream("notes/mine.txt") << "mine";
  Configuration notes = configuration("notes");
  RunFolder::create(notes, {"sinew"})->remove_if_unused();
  EXPECT_TRUE(fs::exists("notes/mine.txt"));
  EXPECT_FALSE(fs::exists("notes/config.toml"));
}

TEST_F(RunFolderTest, AFolderThatCannotBeCompletedIsNotHalfARun) {
  fs::create_directory("half");
  std::ofstream("half/log") << "not a folder";
  Configuration c = configuration("half");
  EXPECT_EQ(RunFolder::create(c, {"sinew"}).status().code(), StatusCode::io_error);
  EXPECT_FALSE(fs::exists("half/command.txt"));
  EXPECT_EQ(slurp("half/log"), "not a folder");
  fs::remove("half/log");
  EXPECT_TRUE(RunFolder::create(c, {"sinew"}).ok());
}

TEST_F(RunFolderTest, CannotCreate) {
  std::ofstream("file") << "x";
  for (const char* out : {"file", "file/below"}) {
    Configuration c = configuration(out);
    Result<RunFolder> folder = RunFolder::create(c, {"sinew"});
    EXPECT_EQ(folder.status().code(), StatusCode::io_error);
    EXPECT_NE(folder.status().message().find("--out DIR"), std::string::npos) << folder.status().message();
  }
  std::ofstream("runs") << "x";
  Configuration c = configuration();
  EXPECT_EQ(RunFolder::create(c, {"sinew"}).status().code(), StatusCode::io_error);
}

TEST_F(RunFolderTest, StatusIsReplacedWhole) {
  RunFolder folder = RunFolder::join(root_ + "/job").value();
  ASSERT_TRUE(
      folder.write_status("running", {{0, "worker", 11, "running", 5, 0}, {1, "center", 12, "starting", 0, 0}}).ok());
  ASSERT_TRUE(folder.write_status("running", {{0, "worker", 13, "restarting", 40, 1}}).ok());
  auto json = nlohmann::json::parse(slurp(folder.status()));
  EXPECT_EQ(json["state"], "running");
  ASSERT_EQ(json["processes"].size(), 1u);
  EXPECT_EQ(json["processes"][0]["rank"], 0);
  EXPECT_EQ(json["processes"][0]["role"], "worker");
  EXPECT_EQ(json["processes"][0]["pid"], 13);
  EXPECT_EQ(json["processes"][0]["state"], "restarting");
  EXPECT_EQ(json["processes"][0]["step"], 40);
  EXPECT_EQ(json["processes"][0]["restarts"], 1);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(root_ + "/job")) files += entry.is_regular_file();
  EXPECT_EQ(files, 1) << "a temporary file was left";
}

TEST_F(RunFolderTest, WriteFileFails) {
  Status status = write_file(root_ + "/no/such/file", "x");
  EXPECT_EQ(status.code(), StatusCode::io_error);
  EXPECT_NE(status.message().find("/no/such/file"), std::string::npos);
}

TEST(ShellLine, QuotesWhatAShellWouldChange) {
  EXPECT_EQ(shell_line({"a", "b c", "", "$x", "d=e,f"}), "a 'b c' '' '$x' d=e,f");
}

}  // namespace
}  // namespace sinew::train
