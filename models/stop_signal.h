// Ends this process in order when it is asked to stop: SIGINT, SIGTERM and SIGHUP (unless ignored, as nohup does).
//
// `last_words` runs on a thread of its own while the others go on, so it also works while they wait or compute; then
// the process prints its one line and ends at once with 128 + the signal's number. A second signal does not wait for
// the last words. What the program writes is complete at any time: appended lines, or files replaced by rename.
//
// Thread safety: one object at a time in a process; last_words must be safe beside the other threads. When the
// destructor returns, it is not running and will not run.
#pragma once

#include <signal.h>

#include <array>
#include <functional>
#include <string>
#include <thread>

namespace sinew::train {

class StopSignal {
 public:
  // folder: named in the line.
  StopSignal(std::string folder, std::function<void()> last_words);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

 private:
  void wait();

  const std::string folder_;
  const std::function<void()> last_words_;
  std::array<int, 2> pipe_{-1, -1};
  std::array<struct sigaction, 3> old_{};
  std::thread thread_;
};

}  // namespace sinew::train
