#include "dist/fault_plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "dist/own_faults.h"
#include "tests/support/processes.h"

namespace sinew::dist {
namespace {

// Of three workers and a center, rank 3, which only serves: what it never does or reports strikes nobody.
TEST(FaultPlan, SaysWhatCanNeverAct) {
  for (const auto& [line, expected] : std::vector<std::pair<const char*, const char*>>{
           {"kill rank=4 at=1s", "rank 4, but the job's ranks are 0 to 3"},
           {"partition ranks=0,4", "rank 4, but the job's ranks are 0 to 3"},
           {"kill rank=3 step=5", "kill rank=3: no worker, so it reports no steps; give at=TIME; workers are 0 to 2"},
           {"pause rank=3 probability=0.1 for=1s", "pause rank=3: no worker, so it reports no steps"},
           {"corrupt rank=3 at=1s value=nan", "corrupt rank=3: no worker, so it does not train; workers are 0 to 2"},
           {"slow rank=3 factor=2", "slow rank=3: no worker"},
           {"suppress rank=3", "suppress rank=3: no worker"},
           {"drop from=3 after_step=0", "drop from=3 after_step=0: no worker, so it reports no steps; give after=TIME"},
           {"delay from=1 to=1 by=1ms", "delay from=1 to=1: what a rank sends to itself"},
           {"partition ranks=0,1,2,3", "partition: nobody is on its other side"},
           {"kill rank=3 at=1s", ""},
           {"pause rank=3 at=1s for=1s", ""},
           {"kill rank=* step=5", ""},
           {"corrupt rank=2 probability=0.1 value=nan", ""},
           {"drop from=3 until_step=0", ""},
           {"drop to=3 after_step=5", ""},
           {"partition ranks=3", ""}}) {
    const std::string why = why_never(parse_fault_plan(line, "p").value().faults.at(0), 3, 4);
    EXPECT_EQ(why.substr(0, std::string(expected).size()), expected) << line << ": " << why;
    EXPECT_EQ(why.empty(), std::string(expected).empty()) << line << ": " << why;
  }
}

TEST(FaultPlan, ReadsEveryKind) {
  Result<FaultPlan> plan = parse_fault_plan(
      "# a comment\n"
      "kill rank=2 at=1.5s   # by time\n"
      "kill rank=3 step=50\n"
      "\n"
      "pause rank=1 at=2s for=3ms\n"
      "slow rank=0 factor=4 after=1s until=2s\n"
      "delay from=0 to=4 by=5us\n"
      "drop from=* to=4 probability=0.01 after=7ns\n"
      "suppress rank=* probability=0.333\n"
      "kill rank=* probability=0.001\n"
      "corrupt rank=1 step=5 value=nan\n"
      "corrupt rank=1 at=1s sigma=0.5\n"
      "duplicate from=1 after_step=10 until_step=20\n"
      "reorder probability=0.1\n"
      "partition ranks=0,3 after=1s until=2s\n"
      "suppress rank=2 fail=0.02 recover=0.05\n"
      "delay by=1ms jitter=4ms\n",
      "test.plan");
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const auto& f = plan->faults;
  ASSERT_EQ(f.size(), 15u);
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
  EXPECT_TRUE(f[7].at < 0 && f[7].step < 0);
  EXPECT_EQ(f[7].probability, 0.001);
  EXPECT_TRUE(std::isnan(f[8].value));
  EXPECT_EQ(f[9].sigma, 0.5);
  EXPECT_EQ(f[10].first_step, 10);
  EXPECT_EQ(f[10].until_step, 20);
  EXPECT_GT(f[11].duration, 0);
  EXPECT_EQ(f[12].ranks, (std::vector<Rank>{0, 3}));
  EXPECT_EQ(ranks_named(f[12]), (std::vector<Rank>{0, 3}));
  EXPECT_EQ(f[13].recover, 0.05);
  EXPECT_EQ(f[14].jitter, 4 * kMillisecond);
}

TEST(FaultPlan, ErrorsNameLineAndRemedy) {
  const std::pair<const char*, const char*> cases[] = {
      {"explode rank=1", "p:1: unknown fault 'explode'; allowed are kill, pause"},
      {"\n\nkill rank=1", "p:3: kill needs exactly one of at=, step= and probability="},
      {"kill rank=1 at=1s step=4", "p:1: kill needs exactly one of"},
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
      {"slow rank=1 factor=2 from=1s", "slow: "},
      {"delay from=1 to=2", "delay needs by="},
      {"drop probability=1.5", "must be a probability from 0 to 1"},
      {"drop from=x", "must be a rank"},
      {"suppress probability=nan", "must be a probability"},
      {"kill rank=1 step=99999999999999999999", "must be a step"},
      {"corrupt rank=1 step=3", "corrupt needs one of sigma= and value="},
      {"corrupt rank=1 step=3 value=nanx", "must be a number, nan or inf"},
      {"corrupt rank=1 step=3 sigma=0", "must be a number above 0"},
      {"partition ranks=0,x", "must be ranks such as 0,3"},
      {"partition after=1s", "partition needs ranks="},
      {"partition ranks=1 after=2s until=1s", "it is over before it begins"},
      {"drop after_step=5 until_step=5", "it is over before it begins"},
      {"reorder by=soon", "must be a time"},
      {"duplicate rank=1", "'rank=1' is not one of its settings: from to probability"},
      {"suppress rank=1 fail=0.1", "suppress needs recover= beside fail="},
      {"suppress rank=1 fail=0.1 recover=0.1 probability=1", "either probability= or fail= and recover="},
      {"trace as=kill", "trace needs file="},
      {"trace file=/nowhere/t.csv", "trace: cannot read /nowhere/t.csv"},
      {"trace file=/dev/null as=slow", "allowed are pause, kill, partition, suppress"},
      {"trace file=/dev/null scale=0", "scale= must be a number"},
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
    dropped += plan_message(plan, 0, 1, round, {}).dropped;
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
                       "slow rank=1 factor=3 after=1s until=2s\nslow rank=* factor=2\n"
                       "delay from=0 to=* by=1ms after=1s\ndelay from=0 to=1 by=2ms\ndrop from=0 to=1 until=1s\n"
                       "duplicate from=1 to=0 after_step=5 until_step=7\nreorder from=2 by=3ms",
                       "p")
                       .value();
  EXPECT_EQ(plan_slowdown(plan, 1, {0}), 2);
  EXPECT_EQ(plan_slowdown(plan, 1, {kSecond}), 6);
  EXPECT_EQ(plan_slowdown(plan, 1, {2 * kSecond}), 2);
  EXPECT_EQ(plan_slowdown(plan, 0, {kSecond}), 2);
  EXPECT_EQ(plan_message(plan, 0, 1, 5, {0}).delay, 2 * kMillisecond);
  EXPECT_EQ(plan_message(plan, 0, 1, 5, {kSecond}).delay, 3 * kMillisecond);
  EXPECT_EQ(plan_message(plan, 0, 2, 5, {kSecond}).delay, kMillisecond);
  EXPECT_EQ(plan_message(plan, 1, 0, 5, {kSecond}).delay, 0);
  EXPECT_TRUE(plan_message(plan, 0, 1, 5, {0}).dropped);
  EXPECT_FALSE(plan_message(plan, 0, 1, 5, {kSecond}).dropped);
  EXPECT_FALSE(plan_message(plan, 1, 0, 5, {0}).dropped);
  for (int64_t step = -1; step < 9; ++step)
    EXPECT_EQ(plan_message(plan, 1, 0, 5, {0, step}).duplicated, step == 5 || step == 6) << step;
  EXPECT_EQ(plan_message(plan, 2, 0, 5, {0}).held, 3 * kMillisecond);
  EXPECT_TRUE(plan_touches_messages(plan));
  EXPECT_FALSE(plan_touches_messages(parse_fault_plan("slow rank=1 factor=3", "p").value()));
}

TEST(FaultPlan, JitterIsUniformAndIndependentOfTheDraw) {
  const FaultPlan plan = parse_fault_plan("delay by=1ms jitter=4ms probability=0.5", "p").value();
  double sum = 0, count = 0;
  for (uint64_t i = 0; i < 4000; ++i) {
    const Nanos delay = plan_message(plan, 0, 1, i, {}).delay;
    if (delay == 0) continue;
    ASSERT_TRUE(delay >= kMillisecond && delay < 5 * kMillisecond) << delay;
    sum += static_cast<double>(delay), ++count;
  }
  EXPECT_NEAR(count, 2000, 150);
  EXPECT_NEAR(sum / count, 3e6, 1e5);
}

TEST(FaultPlan, PartitionsCutBetweenTheSides) {
  const FaultPlan plan = parse_fault_plan("partition ranks=0,2 after=1s until=2s", "p").value();
  for (Rank from = 0; from < 4; ++from)
    for (Rank to = 0; to < 4; ++to) {
      const bool across = (from % 2 == 0) != (to % 2 == 0);
      EXPECT_EQ(plan_message(plan, from, to, 1, {kSecond}).dropped, across);
      EXPECT_FALSE(plan_message(plan, from, to, 1, {0}).dropped);
    }
  // By chance: for a second or not, for all links alike.
  const FaultPlan now_and_then = parse_fault_plan("partition ranks=0 probability=0.3", "p").value();
  int cut = 0;
  for (int slot = 0; slot < 1000; ++slot) {
    const bool parts = plan_parts(now_and_then, 0, 1, {slot * kSecond});
    cut += parts;
    EXPECT_EQ(parts, plan_parts(now_and_then, 3, 0, {slot * kSecond + kSecond - 1}));
  }
  EXPECT_NEAR(cut, 300, 50);
}

// Against the chain, one round after another.
TEST(FaultPlan, SuppressesAsAMarkovChain) {
  for (const auto& [fail, recover] : {std::pair{0.02, 0.05}, {0.5, 0.9}, {0.0, 0.5}, {1.0, 1.0}, {0.3, 0.0}}) {
    const FaultPlan plan =
        parse_fault_plan(detail::concat("suppress rank=* fail=", fail, " recover=", recover), "p").value();
    bool down = false;
    int rounds_down = 0, ups = 0, fails = 0, downs = 0, recovers = 0;
    for (int64_t round = 0; round < 4000; ++round) {
      const bool next = plan_suppresses(plan, 1, round);
      (down ? downs : ups) += 1;
      (down ? recovers : fails) += down != next;
      down = next;
      rounds_down += down;
    }
    EXPECT_EQ(rounds_down > 0, fail > 0);
    if (ups > 100) {
      EXPECT_NEAR(static_cast<double>(fails) / ups, fail, 0.05) << fail << " " << recover;
    }
    if (downs > 100) {
      EXPECT_NEAR(static_cast<double>(recovers) / downs, recover, 0.05) << fail << " " << recover;
    }
  }
}

TEST(FaultPlan, ReadsTraces) {
  test::TemporaryDirectory directory;
  std::ofstream(directory.path() + "/spot.csv") << "# seconds,event,rank\n10,down,1\n12,down,2\n\n30,up,1\n";
  const std::string name = directory.path() + "/the.plan";
  const auto read = [&](const std::string& text) { return parse_fault_plan(text, name).value().faults; };
  const auto pauses = read("trace file=spot.csv scale=0.1");
  ASSERT_EQ(pauses.size(), 2u);
  EXPECT_EQ(pauses[0].kind, Fault::Kind::pause);
  EXPECT_EQ(pauses[0].rank, 1);
  EXPECT_EQ(pauses[0].at, kSecond);
  EXPECT_EQ(pauses[0].duration, 2 * kSecond);
  EXPECT_GT(pauses[1].duration, 100'000 * kSecond) << "it does not come back";
  EXPECT_EQ(read("trace file=spot.csv as=kill")[0].at, 10 * kSecond);
  EXPECT_EQ(read("trace file=spot.csv as=partition")[0].ranks, std::vector<Rank>{1});
  EXPECT_EQ(read("trace file=spot.csv as=suppress")[0].until, 30 * kSecond);
  for (auto [line, expected] : {std::pair{"40,up,1", "rank 1 is up already"},
                                {"20,down,3", "earlier than the line before"},
                                {"40,gone,3", "must be seconds,down,rank"}}) {
    std::ofstream(directory.path() + "/bad.csv") << "10,down,1\n30,up,1\n" << line << "\n";
    const Result<FaultPlan> bad = parse_fault_plan("trace file=bad.csv", name);
    ASSERT_FALSE(bad.ok());
    EXPECT_NE(bad.status().message().find(expected), std::string::npos) << bad.status().message();
    EXPECT_NE(bad.status().message().find("bad.csv:3"), std::string::npos) << bad.status().message();
  }
}

TEST(OwnFaults, StrikeOnceOrByChance) {
  const FaultPlan plan = parse_fault_plan(
                             "kill rank=1 step=5\npause rank=* step=3 for=1s\ncorrupt rank=1 at=2s value=7\n"
                             "kill rank=1 at=4s\nkill rank=2 step=0\ncorrupt rank=1 probability=0.5 sigma=1",
                             "p")
                             .value();
  using Kind = Fault::Kind;
  auto kinds = [](const std::vector<Fault>& faults, bool by_chance) {
    std::vector<Kind> kinds;
    for (const Fault& f : faults)
      if ((f.probability < 1) == by_chance) kinds.push_back(f.kind);
    return kinds;
  };
  OwnFaults first(plan, 1, 0);
  EXPECT_EQ(kinds(first.at_step(4, kSecond), false), std::vector<Kind>{Kind::pause}) << "step 3 was skipped";
  EXPECT_EQ(kinds(first.at_step(5, 2 * kSecond), false), (std::vector<Kind>{Kind::kill, Kind::corrupt}));
  EXPECT_TRUE(kinds(first.at_step(6, 9 * kSecond), false).empty());
  EXPECT_EQ(first.next_timed(), 4 * kSecond);
  EXPECT_TRUE(first.take_timed(3 * kSecond).empty());
  EXPECT_EQ(first.take_timed(4 * kSecond).size(), 1u);
  EXPECT_EQ(first.next_timed(), INT64_MAX);

  int chances = 0, same = 0;
  OwnFaults again(plan, 1, 0), second(plan, 1, 1, {3 * kSecond, -1});
  for (int64_t step = 0; step < 1000; ++step) {
    const size_t n = kinds(again.at_step(step, 0), true).size(), m = kinds(second.at_step(step, 0), true).size();
    chances += static_cast<int>(n), same += n == m;
  }
  EXPECT_NEAR(chances, 500, 60);
  EXPECT_NEAR(same, 500, 60) << "another life, other draws";
  EXPECT_TRUE(kinds(second.at_step(2000, 9 * kSecond), false).empty()) << "over before this life";
  EXPECT_EQ(second.next_timed(), 4 * kSecond) << "not over yet";

  Vec theta = Vec::zeros(1000, DType::f32);
  corrupt(plan.faults[2], 1, 1, 3, theta.mutable_view());
  EXPECT_EQ(to_doubles(theta.view())[999], 7);
  corrupt(plan.faults[5], 1, 1, 3, theta.mutable_view());
  double sum2 = 0;
  for (double v : to_doubles(theta.view())) sum2 += (v - 7) * (v - 7);
  EXPECT_NEAR(sum2 / 1000, 1, 0.2);
}

}  // namespace
}  // namespace sinew::dist
