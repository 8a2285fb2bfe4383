// That a process of a test which loses memory is found out; in other builds nobody can tell.
#if defined(__SANITIZE_ADDRESS__)

#include "tests/support/leaks.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "tests/support/processes.h"

namespace sinew::test {
namespace {

SINEW_PROCESS_BODY(forgetful) {
  // On a stack that is gone when it is looked for.
  std::thread([] { *static_cast<volatile char*>(std::malloc(1000)) = 1; }).join();
  return 0;
}

TEST(Leaks, AreFoundInProcessesThatEndByExit) {
  ProcessGroup group("forgetful", 1);
  EXPECT_EQ(group.wait(0), 4);
}

}  // namespace
}  // namespace sinew::test

#endif
