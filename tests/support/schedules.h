// Properties of runs in the simulation, under generated fault plans (RapidCheck). A plan that breaks one is made
// smaller until nothing can be left out of it, and printed as a fault plan (docs/fault_plans.md) that can be run again.
//
//   SINEW_TEST_SCHEDULES=100000        so many schedules for each property
//   RC_PARAMS="seed=7 max_success=10"  RapidCheck's own settings; seed is 1 without them
//
// Without RapidCheck (scripts/setup.sh installs it) a property is tested with 200 fixed plans, which are not made
// smaller.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "core/philox.h"
#include "tests/support/spawn_nodes.h"

#if SINEW_HAVE_RAPIDCHECK
#include <rapidcheck.h>
#endif

namespace sinew::dist::testing {

// One line of a plan, or two. What a kind does not need, it does not use.
struct Trouble {
  enum Kind { kill, pause, partition, drop, delay, reorder, duplicate, slow, link, kinds } kind = kill;
  int rank = 0, other = 0;  // modulo the workers
  int at = 0, length = 0;   // milliseconds
  int percent = 0;
};

struct Schedule {
  int workers = 3;
  int restarts = 0;
  uint64_t seed = 1;
  std::vector<Trouble> troubles;

  std::string text() const {
    std::string text;
    std::set<int> slowed;
    for (const Trouble& t : troubles) {
      const int rank = t.rank % workers, other = t.other % workers;
      const std::string span = sinew::detail::concat(" after=", t.at, "ms until=", t.at + t.length + 1, "ms");
      const std::string chance = sinew::detail::concat(" probability=", t.percent / 100.0);
      switch (t.kind) {
        case Trouble::kill:
          text += sinew::detail::concat("kill rank=", rank, " at=", t.at, "ms");
          break;
        case Trouble::pause:
          text += sinew::detail::concat("pause rank=", rank, " at=", t.at, "ms for=", t.length + 1, "ms");
          break;
        case Trouble::partition:
          text += sinew::detail::concat("partition ranks=", rank);
          if (other != rank) text += sinew::detail::concat(",", other);
          text += span;
          break;
        case Trouble::drop:
          text += "drop" + chance + span;
          break;
        case Trouble::delay:
          text += sinew::detail::concat("delay from=", rank, " by=", t.length / 5, "ms", chance, span);
          break;
        case Trouble::slow:  // one step, and one of each rank, since factors multiply
          if (!slowed.insert(rank).second) continue;
          text += sinew::detail::concat("slow rank=", rank, " factor=", 1 + t.length / 10, " after=", t.at,
                                        "ms until=", t.at + 12, "ms");
          break;
        case Trouble::link:
          if (rank == other) continue;
          text +=
              sinew::detail::concat("drop from=", rank, " to=", other, span, "\ndrop from=", other, " to=", rank, span);
          break;
        case Trouble::reorder:
          text += sinew::detail::concat("reorder by=", t.length / 5, "ms", chance, span);
          break;
        default:
          text += "duplicate" + chance + span;
      }
      text += "\n";
    }
    return text;
  }
  SimOptions options() const {
    SimOptions options{.seed = seed, .jitter = 0.5, .restarts = restarts, .restart_delay = 50 * kMillisecond};
    options.faults = parse_fault_plan(text(), "plan").value();
    options.faults.seed = seed;
    return options;
  }
};

inline std::ostream& operator<<(std::ostream& out, const Schedule& s) {
  return out << s.workers << " workers, seed " << s.seed << ", restarts " << s.restarts << "\n" << s.text();
}

// What schedules may contain.
struct Schedules {
  int count = 1000;
  int most_workers = 9;
  std::vector<Trouble::Kind> kinds = {Trouble::kill,  Trouble::pause,   Trouble::partition, Trouble::drop,
                                      Trouble::delay, Trouble::reorder, Trouble::duplicate};
  int first = 0, last = 200;  // milliseconds, when something may begin
  int longest = 2000;         // milliseconds
  int most_percent = 40;
};

#if SINEW_HAVE_RAPIDCHECK

inline rc::Gen<Schedule> any_schedule(const Schedules& s) {
  namespace gen = rc::gen;
  const auto trouble = gen::map(
      gen::tuple(gen::elementOf(s.kinds), gen::inRange(0, 9), gen::inRange(0, 9), gen::inRange(s.first, s.last),
                 gen::oneOf(gen::inRange(0, 60), gen::inRange(0, s.longest)), gen::inRange(1, s.most_percent + 1)),
      [](const std::tuple<Trouble::Kind, int, int, int, int, int>& t) {
        const auto& [kind, rank, other, at, length, percent] = t;
        return Trouble{kind, rank, other, at, length, percent};
      });
  // Ranges are whole from the first schedule on, and a plan has up to 5 lines.
  const auto troubles = gen::resize(5, gen::container<std::vector<Trouble>>(gen::resize(rc::kNominalSize, trouble)));
  return gen::resize(rc::kNominalSize, gen::map(gen::tuple(gen::inRange(3, s.most_workers + 1), gen::inRange(0, 2),
                                                           gen::inRange<uint64_t>(1, 1 << 20), troubles),
                                                [](const std::tuple<int, int, uint64_t, std::vector<Trouble>>& t) {
                                                  const auto& [workers, restarts, seed, troubles] = t;
                                                  return Schedule{workers, restarts, seed, troubles};
                                                }));
}

// `wrong` runs a schedule and says what is wrong; empty: nothing.
inline void check_schedules(const Schedules& schedules, const std::function<std::string(const Schedule&)>& wrong) {
  rc::detail::TestParams params;
  params.seed = 1, params.maxSuccess = schedules.count;
#ifdef __SANITIZE_THREAD__
  params.maxSuccess /= 20;
#endif
  if (std::getenv("RC_PARAMS")) params = rc::detail::configuration().testParams;
  if (const char* more = std::getenv("SINEW_TEST_SCHEDULES")) params.maxSuccess = std::stoi(more);
  const rc::Gen<Schedule> any = any_schedule(schedules);
  const auto result = rc::detail::checkTestable(
      [&] {
        const Schedule schedule = *any;
        const std::string what = wrong(schedule);
        if (!what.empty()) RC_FAIL(what);
      },
      rc::detail::TestMetadata{}, params);
  std::ostringstream text;
  rc::detail::printResultMessage(result, text);
  EXPECT_TRUE(result.template is<rc::detail::SuccessResult>()) << text.str();
}

#else

inline void check_schedules(const Schedules& s, const std::function<std::string(const Schedule&)>& wrong) {
  constexpr int kPlans = 200;
  for (int i = 0; i < std::min(s.count, kPlans); ++i) {
    uint64_t draws = 0;
    const auto draw = [&](int from, int to) {  // below `to`
      const double u = uniform01(philox_u64({2, uint32_t(RngPurpose::test), static_cast<uint32_t>(i), 0}, draws++));
      return from + static_cast<int>(u * (to - from));
    };
    Schedule schedule{.workers = draw(3, s.most_workers + 1), .restarts = draw(0, 2), .seed = 1 + uint64_t(i)};
    for (int left = draw(0, 6); left > 0; --left) {
      Trouble t{.kind = s.kinds[static_cast<size_t>(draw(0, static_cast<int>(s.kinds.size())))]};
      t.rank = draw(0, 9), t.other = draw(0, 9), t.at = draw(s.first, s.last);
      t.length = draw(0, 2) ? draw(0, s.longest) : draw(0, 60), t.percent = draw(1, s.most_percent + 1);
      schedule.troubles.push_back(t);
    }
    EXPECT_EQ(wrong(schedule), "") << schedule;
  }
}

#endif

}  // namespace sinew::dist::testing
