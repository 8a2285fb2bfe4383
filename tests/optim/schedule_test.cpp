#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sinew::optim {
namespace {

TEST(Schedule, Constant) {
  EXPECT_EQ(constant_schedule()->factor(0), 1);
  EXPECT_EQ(constant_schedule()->factor(1 << 30), 1);
}

TEST(Schedule, StepDropsAtEveryMilestone) {
  SchedulePtr s = step_schedule(0.1, 30);
  EXPECT_EQ(s->factor(0), 1);
  EXPECT_EQ(s->factor(29), 1);
  EXPECT_DOUBLE_EQ(s->factor(30), 0.1);
  EXPECT_DOUBLE_EQ(s->factor(59), 0.1);
  EXPECT_DOUBLE_EQ(s->factor(60), 0.01);
  EXPECT_THROW(step_schedule(0.1, 0), Error);
}

TEST(Schedule, CosineFallsFromOneToZeroAndStays) {
  SchedulePtr s = cosine_schedule(100);
  EXPECT_DOUBLE_EQ(s->factor(0), 1);
  EXPECT_DOUBLE_EQ(s->factor(25), 0.5 * (1 + std::sqrt(0.5)));
  EXPECT_DOUBLE_EQ(s->factor(50), 0.5);
  EXPECT_EQ(s->factor(100), 0);
  EXPECT_EQ(s->factor(150), 0);
  for (int64_t t = 0; t < 100; ++t) EXPECT_GT(s->factor(t), s->factor(t + 1)) << t;
  EXPECT_THROW(cosine_schedule(0), Error);
}

TEST(Schedule, InverseSqrtIsTheEasgdPapersDecay) {
  SchedulePtr s = inverse_sqrt_schedule(1e-4);
  EXPECT_EQ(s->factor(0), 1);
  EXPECT_DOUBLE_EQ(s->factor(30000), 0.5);
  EXPECT_EQ(inverse_sqrt_schedule(0)->factor(12345), 1);
  EXPECT_THROW(inverse_sqrt_schedule(-1), Error);
}

TEST(Schedule, WarmupRampsOverTheBase) {
  SchedulePtr s = warmup_schedule(step_schedule(0.5, 8), 4);
  EXPECT_DOUBLE_EQ(s->factor(0), 0.25);
  EXPECT_DOUBLE_EQ(s->factor(2), 0.75);
  EXPECT_DOUBLE_EQ(s->factor(3), 1);
  EXPECT_DOUBLE_EQ(s->factor(7), 1);
  EXPECT_DOUBLE_EQ(s->factor(8), 0.5);
  SchedulePtr long_ramp = warmup_schedule(step_schedule(0.5, 4), 8);
  EXPECT_DOUBLE_EQ(long_ramp->factor(5), 0.5 * 6 / 8);
  EXPECT_THROW(warmup_schedule(nullptr, 4), Error);
  EXPECT_THROW(warmup_schedule(constant_schedule(), 0), Error);
}

}  // namespace
}  // namespace sinew::optim
