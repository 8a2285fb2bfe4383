#include "core/fiber.h"

#include <gtest/gtest.h>

#include <cfenv>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/check.h"

namespace sinew {
namespace {

TEST(Fiber, RunsInTurns) {
  std::string trace;
  Fiber f([&](Fiber& self) {
    trace += "a";
    self.suspend();
    trace += "b";
    self.suspend();
    trace += "c";
  });
  EXPECT_FALSE(f.done());
  f.resume();
  trace += "1";
  f.resume();
  trace += "2";
  EXPECT_FALSE(f.done());
  f.resume();
  EXPECT_TRUE(f.done());
  EXPECT_EQ(trace, "a1b2c");
}

TEST(Fiber, NeverResumedIsDestroyed) {
  auto alive = std::make_shared<int>(1);
  {
    Fiber f([alive](Fiber&) {});
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(Fiber, MisuseIsAnError) {
  Fiber f([](Fiber&) {});
  EXPECT_THROW(f.suspend(), Error);
  f.resume();
  EXPECT_THROW(f.resume(), Error);
}

TEST(Fiber, ExceptionsUnwindInside) {
  int unwound = 0;
  std::string caught;
  Fiber f([&](Fiber& self) {
    struct Guard {
      int& n;
      ~Guard() { ++n; }
    };
    try {
      Guard g{unwound};
      self.suspend();
      throw std::runtime_error("inside");
    } catch (const std::exception& e) {
      caught = e.what();
    }
  });
  f.resume();
  EXPECT_EQ(unwound, 0);
  f.resume();
  EXPECT_EQ(unwound, 1);
  EXPECT_EQ(caught, "inside");
}

// Without exchanging the runtime's exception globals, each of two fibers rethrows the exception of the other.
TEST(Fiber, SwitchingInsideHandlersKeepsExceptionsApart) {
  std::vector<std::string> rethrown(3);
  std::vector<std::unique_ptr<Fiber>> fibers;
  for (int i = 0; i < 3; ++i) {
    fibers.push_back(std::make_unique<Fiber>([&rethrown, i](Fiber& self) {
      try {
        try {
          throw std::runtime_error(std::to_string(i));
        } catch (...) {
          self.suspend();
          throw;
        }
      } catch (const std::exception& e) {
        rethrown[i] = e.what();
      }
    }));
  }
  try {
    throw std::runtime_error("outside");
  } catch (const std::exception& e) {
    for (auto& f : fibers) f->resume();
    for (auto& f : fibers) f->resume();
    EXPECT_STREQ(e.what(), "outside");
    EXPECT_TRUE(std::current_exception() != nullptr);
  }
  EXPECT_EQ(rethrown, (std::vector<std::string>{"0", "1", "2"}));
}

TEST(Fiber, KeepsRoundingMode) {
  int inside = -1;
  Fiber f([&](Fiber& self) {
    std::fesetround(FE_UPWARD);
    self.suspend();
    inside = std::fegetround();
  });
  f.resume();
  EXPECT_EQ(std::fegetround(), FE_TONEAREST);
  f.resume();
  EXPECT_EQ(inside, FE_UPWARD);
  EXPECT_EQ(std::fegetround(), FE_TONEAREST);
}

TEST(Fiber, Nests) {
  std::string trace;
  Fiber outer([&](Fiber& self) {
    Fiber inner([&](Fiber& me) {
      trace += "i";
      me.suspend();
      trace += "j";
    });
    inner.resume();
    self.suspend();
    inner.resume();
    trace += "o";
  });
  outer.resume();
  trace += "-";
  outer.resume();
  EXPECT_EQ(trace, "i-jo");
}

[[gnu::noinline]] int depth_sum(int n) {
  volatile char frame[512];
  frame[n % 512] = 1;
  return n == 0 ? 0 : frame[n % 512] + depth_sum(n - 1);
}

TEST(Fiber, ThousandFibersUseTheirStacks) {
  constexpr int kFibers = 1000;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<int> turns(kFibers);
  for (int i = 0; i < kFibers; ++i)
    fibers.push_back(std::make_unique<Fiber>(
        [&turns, i](Fiber& self) {
          for (int k = 0; k < 20; ++k) {
            turns[i] += depth_sum(k) == k;
            self.suspend();
          }
        },
        64 * 1024));
  for (int k = 0; k <= 20; ++k)
    for (auto& f : fibers) f->resume();
  for (int i = 0; i < kFibers; ++i) {
    EXPECT_TRUE(fibers[i]->done());
    ASSERT_EQ(turns[i], 20);
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
[[gnu::noinline]] int endless(volatile int* n) {
  *n = *n + 1;
  return *n > 0 ? endless(n) + *n : 0;
}

TEST(FiberDeathTest, OverflowHitsTheGuard) {
  EXPECT_DEATH(
      {
        Fiber f([](Fiber&) {
          volatile int n = 0;
          endless(&n);
        });
        f.resume();
      },
      "");
}
#endif

}  // namespace
}  // namespace sinew
