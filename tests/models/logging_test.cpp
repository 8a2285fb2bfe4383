#include "models/logging.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "models/options.h"

namespace sinew::train {
namespace {

TEST(Logging, Line) {
  EXPECT_EQ(log_line(1'700'000'000'123'456'789, "worker 2", LogLevel::warning, "two\nlines"),
            "2023-11-14T22:13:20.123Z worker 2 warning: two lines\n");
}

TEST(Logging, LevelsFilter) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  Logger log("center", LogLevel::info, pipe_ends[1]);
  log.debug("not ", 1);
  log.info("shown ", 2);
  log.error("shown too");
  close(pipe_ends[1]);
  std::string text(1000, '\0');
  ssize_t size = read(pipe_ends[0], text.data(), text.size());
  close(pipe_ends[0]);
  ASSERT_GT(size, 0);
  text.resize(static_cast<size_t>(size));
  EXPECT_EQ(text.find("not"), std::string::npos);
  EXPECT_NE(text.find("center info: shown 2\n"), std::string::npos) << text;
  EXPECT_NE(text.find("center error: shown too\n"), std::string::npos) << text;
}

TEST(Logging, EveryLevelOfTheOptionIsALevel) {
  for (const std::string& name : find_option("log.level")->names()) EXPECT_NO_THROW(log_level_named(name));
  EXPECT_THROW(log_level_named("loud"), Error);
}

TEST(Logging, LastErrorOfAProcess) {
  std::string path = testing::TempDir() + "/rank-0.log." + std::to_string(getpid());
  std::ofstream(path) << "sinew: first\nnoise\nsinew: the cause\nmore noise\n";
  EXPECT_EQ(last_error_in(path), "the cause");
  std::ofstream(path) << "noise\n";
  EXPECT_EQ(last_error_in(path), "");
  EXPECT_EQ(last_error_in(path + ".missing"), "");
}

}  // namespace
}  // namespace sinew::train
