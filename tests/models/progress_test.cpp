#include "models/progress.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <sstream>

namespace sinew::train {
namespace {

ProgressState state(int64_t step, double seconds) {
  return {.step = step,
          .total_steps = 200,
          .loss = 0.25,
          .accuracy = 0.9,
          .samples_per_second = 41234,
          .alive = 4,
          .nodes = 5,
          .elapsed_seconds = seconds};
}

int count(const std::string& text, char c) { return static_cast<int>(std::count(text.begin(), text.end(), c)); }

TEST(Progress, Text) {
  EXPECT_EQ(progress_text(state(50, 30)), "step 50/200  loss 0.2500  acc 0.900  41.2k samples/s  alive 4/5  ETA 1:30");
  EXPECT_EQ(progress_text(state(200, 30)), "step 200/200  loss 0.2500  acc 0.900  41.2k samples/s  alive 4/5");
  ProgressState unknown{.total_steps = 10, .samples_per_second = 9.4};
  EXPECT_EQ(progress_text(unknown), "step 0/10  9 samples/s  alive 1/1");
  ProgressState diverged{.total_steps = 10, .loss = 5e35, .samples_per_second = 9.4};
  EXPECT_EQ(progress_text(diverged), "step 0/10  loss 5e+35  9 samples/s  alive 1/1");
  EXPECT_TRUE(progress_text(state(1, 3600)).ends_with("ETA 199:00:00"));
}

TEST(Progress, BarFitsTheTerminal) {
  std::string text = " 25 %  " + progress_text(state(50, 30));
  EXPECT_EQ(progress_bar(state(50, 30), 200, false), "[#####               ] " + text);
  EXPECT_EQ(progress_bar(state(50, 30), static_cast<int>(text.size()) + 11, false), "[##      ] " + text);
  EXPECT_EQ(progress_bar(state(50, 30), static_cast<int>(text.size()), false), text);
  EXPECT_EQ(progress_bar(state(50, 30), 80, false), text) << "everything must fit a usual terminal";
  for (int width : {1, 10, 40, 80, 90, 120})
    EXPECT_LE(progress_bar(state(50, 30), width, false).size(), static_cast<size_t>(width));
  EXPECT_EQ(progress_bar(state(50, 30), 200, true).find("\x1b[32m[#####"), 0u);
  EXPECT_EQ(progress_bar(state(999, 30), 200, false).find("[####################] 100 %"), 0u);
}

TEST(Progress, PlainLinesEverySoOftenWithoutCarriageReturns) {
  std::ostringstream out;
  Progress progress({.mode = ProgressMode::plain, .every_seconds = 10}, out);
  for (int step = 0; step <= 200; ++step) progress.update(state(step, 0.1 * step));
  EXPECT_EQ(count(out.str(), '\n'), 3);  // at 0, 10 and 20 seconds
  progress.note("worker 2 died; restarting");
  progress.finish(state(200, 20.1));
  EXPECT_EQ(count(out.str(), '\n'), 5);
  EXPECT_EQ(count(out.str(), '\r'), 0);
  EXPECT_EQ(count(out.str(), '\x1b'), 0);
}

TEST(Progress, BarIsRedrawnAndEnded) {
  std::ostringstream out;
  Progress progress({.mode = ProgressMode::bar, .width = 80, .color = false}, out);
  for (int i = 0; i < 100; ++i) progress.update(state(i, 0.01 * i));
  EXPECT_EQ(count(out.str(), '\n'), 0);
  EXPECT_GE(count(out.str(), '\r'), 9);
  EXPECT_LE(count(out.str(), '\r'), 11);
  progress.note("worker 2 died");
  EXPECT_TRUE(out.str().ends_with("\r\x1b[Kworker 2 died\n"));
  progress.finish(state(200, 1));
  EXPECT_TRUE(out.str().ends_with("alive 4/5\n")) << out.str();
  EXPECT_EQ(count(out.str(), '\n'), 2);
}

TEST(Progress, NoneIsSilentButForNotes) {
  std::ostringstream out;
  Progress progress({.mode = ProgressMode::none}, out);
  progress.update(state(1, 1));
  progress.finish(state(200, 2));
  EXPECT_EQ(out.str(), "");
  progress.note("worker 1 died");
  EXPECT_EQ(out.str(), "worker 1 died\n");
}

TEST(Progress, Modes) {
  EXPECT_EQ(progress_mode("auto", true), ProgressMode::bar);
  EXPECT_EQ(progress_mode("auto", false), ProgressMode::plain);
  EXPECT_EQ(progress_mode("bar", false), ProgressMode::bar);
  EXPECT_EQ(progress_mode("plain", true), ProgressMode::plain);
  EXPECT_EQ(progress_mode("none", true), ProgressMode::none);
}

TEST(Progress, NoColor) {
  unsetenv("NO_COLOR");
  EXPECT_TRUE(color_allowed(true));
  EXPECT_FALSE(color_allowed(false));
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(color_allowed(true));
  setenv("NO_COLOR", "", 1);  // no-color.org: only a value that is not empty counts
  EXPECT_TRUE(color_allowed(true));
  unsetenv("NO_COLOR");
}

}  // namespace
}  // namespace sinew::train
