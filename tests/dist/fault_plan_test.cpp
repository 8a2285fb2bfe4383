#include "dist/fault_plan.h"

#include <gtest/gtest.h>

namespace sinew::dist {
namespace {

TEST(FaultPlan, ReadsEveryKind) {
  Result<FaultPlan> plan = parse_fault_plan(
      "# a comment\n"
      "kill rank=2 at=1.5s   # by time\n"
      "kill rank=3 step=50\n"
      "\n"
      "pause rank=1 at=2s for=3ms\n"
      "slow rank=0 factor=4 from=1s until=2s\n"
      "delay from=0 to=4 by=5us\n"
      "drop from=* to=4 probability=0.01 after=7ns\n"
      "suppress rank=* probability=0.333\n",
      "test.plan");
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const auto& f = plan->faults;
  ASSERT_EQ(f.size(), 7u);
  EXPECT_EQ(f[0].kind, Fault::Kind::kill);
  EXPECT_EQ(f[0].at, 1'500'000'000);
  EXPECT_EQ(f[0].step, -1);
  EXPECT_EQ(f[1].step, 50);
  EXPECT_EQ(f[2].duration, 3 * kMillisecond);
  EXPECT_EQ(f[3].factor, 4);
  EXPECT_EQ(f[3].begin, kSecond);
  EXPECT_EQ(f[3].until, 2 * kSecond);
  EXPECT_EQ(f[4].from, 0);
  EXPECT_EQ(f[4].to, 4);
  EXPECT_EQ(f[4].duration, 5 * kMicrosecond);
  EXPECT_EQ(f[5].from, kAnyRank);
  EXPECT_EQ(f[5].begin, 7);
  EXPECT_EQ(f[6].probability, 0.333);
}

TEST(FaultPlan, ErrorsNameLineAndRemedy) {
  const std::pair<const char*, const char*> cases[] = {
      {"explode rank=1", "p:1: unknown fault 'explode'; allowed are kill, pause"},
      {"\n\nkill rank=1", "p:3: kill needs one of at= and step="},
      {"kill rank=1 at=1s step=4", "p:1: kill needs one of"},
      {"kill at=1s", "p:1: kill needs rank="},
      {"kill rank=-1 at=1s", "'rank=-1': rank= must be a rank"},
      {"kill rank=1 at=5", "'at=5': at= must be a time such as"},
      {"kill rank=1 at=-5s", "must be a time"},
      {"kill rank=1 at=nans", "must be a time"},
      {"kill rank=1 at=1e30s", "must be a time"},
      {"kill rank=1 rank=2 at=1s", "rank= is given twice"},
      {"kill rank=1 at=1s for=2s", "'for=2s' is not one of its settings: rank at step"},
      {"kill rank", "'rank' is not one of its settings"},
      {"kill =1", "is not one of its settings"},
      {"kill ank=1", "is not one of its settings"},
      {"pause rank=1 at=1s", "pause needs for="},
      {"slow rank=1", "slow needs factor="},
      {"slow rank=1 factor=0", "must be a factor"},
      {"delay from=1 to=2", "delay needs by="},
      {"drop probability=1.5", "must be a probability from 0 to 1"},
      {"drop from=x", "must be a rank"},
      {"suppress probability=nan", "must be a probability"},
      {"kill rank=1 step=99999999999999999999", "must be a step"},
  };
  for (auto [text, expected] : cases) {
    Result<FaultPlan> plan = parse_fault_plan(text, "p");
    ASSERT_FALSE(plan.ok()) << text;
    EXPECT_EQ(plan.status().code(), StatusCode::data_error);
    EXPECT_NE(plan.status().message().find(expected), std::string::npos) << plan.status().message();
  }
}

TEST(FaultPlan, DrawsAreRepeatableAndIndependent) {
  FaultPlan plan = parse_fault_plan("suppress rank=* probability=0.25\ndrop from=* to=* probability=0.1", "p").value();
  int suppressed = 0, dropped = 0, equal = 0;
  for (int round = 0; round < 10000; ++round) {
    const bool s = plan_suppresses(plan, 0, round);
    suppressed += s;
    equal += s == plan_suppresses(plan, 1, round);
    dropped += plan_drops(plan, 0, 1, round, 0);
    ASSERT_EQ(s, plan_suppresses(plan, 0, round));
  }
  EXPECT_NEAR(suppressed, 2500, 200);
  EXPECT_NEAR(dropped, 1000, 150);
  EXPECT_NEAR(equal, 6250, 300);  // 0.25^2 + 0.75^2
  FaultPlan other = plan;
  other.seed = 2;
  int same = 0;
  for (int round = 0; round < 10000; ++round)
    same += plan_suppresses(plan, 0, round) == plan_suppresses(other, 0, round);
  EXPECT_LT(same, 9000);
}

TEST(FaultPlan, Windows) {
  FaultPlan plan = parse_fault_plan(
                       "slow rank=1 factor=3 from=1s until=2s\nslow rank=* factor=2\n"
                       "delay from=0 to=* by=1ms after=1s\ndelay from=0 to=1 by=2ms\ndrop from=0 to=1 until=1s",
                       "p")
                       .value();
  EXPECT_EQ(plan_slowdown(plan, 1, 0), 2);
  EXPECT_EQ(plan_slowdown(plan, 1, kSecond), 6);
  EXPECT_EQ(plan_slowdown(plan, 1, 2 * kSecond), 2);
  EXPECT_EQ(plan_slowdown(plan, 0, kSecond), 2);
  EXPECT_EQ(plan_delay(plan, 0, 1, 0), 2 * kMillisecond);
  EXPECT_EQ(plan_delay(plan, 0, 1, kSecond), 3 * kMillisecond);
  EXPECT_EQ(plan_delay(plan, 0, 2, kSecond), kMillisecond);
  EXPECT_EQ(plan_delay(plan, 1, 0, kSecond), 0);
  EXPECT_TRUE(plan_drops(plan, 0, 1, 5, 0));
  EXPECT_FALSE(plan_drops(plan, 0, 1, 5, kSecond));
  EXPECT_FALSE(plan_drops(plan, 1, 0, 5, 0));
}

}  // namespace
}  // namespace sinew::dist
