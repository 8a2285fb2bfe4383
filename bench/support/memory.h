// How far a process's memory rises above what it held at one moment.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "bench/support/device.h"

namespace sinew::bench {

// A line of /proc/self/status in bytes: VmRSS (resident now), VmHWM (the most so far).
inline int64_t process_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) != 0) continue;
    int64_t kilobytes = 0;
    std::istringstream(line.substr(field.size() + 1)) >> kilobytes;
    return kilobytes * 1024;
  }
  fail("/proc/self/status has no " + field + ": memory is measured on Linux only");
}

// The peak of resident memory from the construction on, above what was resident then.
class PeakGrowth {
 public:
  PeakGrowth() {
    // 5 sets the peak to what is resident now (proc(5)).
    std::ofstream("/proc/self/clear_refs") << "5" << std::flush;
    before_ = process_bytes("VmRSS");
    if (process_bytes("VmHWM") > before_ + (int64_t{8} << 20))
      fail("the peak of this process's memory cannot be reset (/proc/self/clear_refs)");
  }
  int64_t bytes() const { return process_bytes("VmHWM") - before_; }

 private:
  int64_t before_;
};

}  // namespace sinew::bench
