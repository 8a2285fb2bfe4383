// Memory that a process has lost. What ends by _exit skips the sanitizer's own check at the end.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

namespace sinew::test {

// Says on the standard error what was lost, where this build can tell.
inline bool leaks() {
#if defined(__SANITIZE_ADDRESS__)
  return __lsan_do_recoverable_leak_check() != 0;
#else
  return false;
#endif
}

}  // namespace sinew::test
