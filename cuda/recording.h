// Who may use the device while a thread records a graph: that thread alone, since all work goes to one stream and would
// be recorded too. Every call of the runtime begins with a DeviceUse.
#pragma once

#include <shared_mutex>

#include "core/check.h"
#include "cuda/namespace.h"

namespace sinew::cuda::SINEW_CUDA_NS {

struct Recording {
  std::shared_mutex mutex;
  static Recording& instance() {
    static Recording& recording = *new Recording;
    return recording;
  }
  // Whether this thread records.
  static bool& here() {
    static thread_local bool recording = false;
    return recording;
  }
};

class DeviceUse {
 public:
  // `waits`: what the call does is named when the host would wait for the device, which cannot be recorded.
  explicit DeviceUse(const char* waits = nullptr) : shared_(!Recording::here()) {
    SINEW_CHECK(shared_ || waits == nullptr, "cuda", waits, " cannot be recorded in a graph");
    if (shared_) Recording::instance().mutex.lock_shared();
  }
  ~DeviceUse() {
    if (shared_) Recording::instance().mutex.unlock_shared();
  }
  DeviceUse(const DeviceUse&) = delete;
  DeviceUse& operator=(const DeviceUse&) = delete;

 private:
  bool shared_;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
