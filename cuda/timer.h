// Seconds that the device takes, for benchmarks.
//
//   Timer timer;
//   timer.start();
//   ...                             // work on the backend's stream
//   double seconds = timer.stop();  // waits for it
//
// On a real device the times are the GPU's (events on the stream), under emulation the host's. Errors as in runtime.h.
#pragma once

#include "cuda/namespace.h"

namespace sinew::cuda {
inline namespace SINEW_CUDA_NS {

class Timer {
 public:
  Timer();
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void start();
  double stop();

 private:
  void *begin_, *end_;
};

}  // namespace SINEW_CUDA_NS
}  // namespace sinew::cuda
