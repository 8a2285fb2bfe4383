// Who may use the device while a thread records a graph: that thread alone, since all work goes to one stream and would
// be recorded too. Every call of the runtime begins with a DeviceUse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "core/check.h"
#include "cuda/launch.h"
#include "cuda/namespace.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// What becomes of a thread's calls: recorded, after the mark also so that they can be renewed, or themselves in place
// of recorded ones.
enum class RecordingMode : uint8_t { none, recording, renewable, renewing };

struct Recording {
  std::shared_mutex mutex;
  static Recording& instance() {
    static Recording& recording = *new Recording;
    return recording;
  }
  // This thread's.
  static RecordingMode& mode() {
    static thread_local RecordingMode mode = RecordingMode::none;
    return mode;
  }
  // What this thread renews.
  static RecordedWork& renewed() {
    static thread_local RecordedWork work = nullptr;
    return work;
  }
  static bool here() { return mode() == RecordingMode::recording || mode() == RecordingMode::renewable; }
  // Before what only the part of a graph that stays may do.
  static void check_stays(const char* what) {
    SINEW_CHECK(mode() != RecordingMode::renewable && mode() != RecordingMode::renewing, "cuda", what,
                " in the part of a graph that is renewed");
  }
};

class DeviceUse {
 public:
  // `waits`: what the call does is named when the host would wait for the device, which cannot be recorded.
  explicit DeviceUse(const char* waits = nullptr) : shared_(!Recording::here()) {
    SINEW_CHECK(Recording::mode() == RecordingMode::none || waits == nullptr, "cuda", waits,
                " cannot be recorded in a graph");
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

// A recorded call: what it is, and all that it was given, as bytes.
class Call {
 public:
  explicit Call(const RawLaunch& what) : name_(what.name), launch_(true) {
    add(what.function), add(what.grid), add(what.block), add(what.shared_bytes);
    for (size_t i = 0; i < what.count; ++i) add(what.arguments[i], what.sizes[i]);
  }
  template <class... Values>
  explicit Call(const char* name, const Values&... values) : name_(name), launch_(false) {
    (add(values), ...);
  }
  const char* name() const { return name_; }
  bool is_launch() const { return launch_; }
  bool same_values(const Call& other) const { return bytes_ == other.bytes_; }

 private:
  void add(const void* data, size_t size) {
    const size_t begin = bytes_.size();
    bytes_.resize(begin + size);
    std::memcpy(bytes_.data() + begin, data, size);
  }
  template <class T>
  void add(const T& value) {
    add(&value, sizeof(value));
  }

  const char* name_;
  bool launch_;
  std::vector<std::byte> bytes_;
};

// The calls of a graph that can be renewed, counted off one by one while they are.
class RenewableCalls {
 public:
  void record(Call call) {
    calls_.push_back(std::move(call));
    next_ = calls_.size();
  }
  void begin() { next_ = 0; }
  // The place of the next call when it has become another one; nothing when it is as it was.
  std::optional<size_t> renew(Call call) {
    SINEW_CHECK(next_ < calls_.size(), "cuda", "renewing a graph: '", call.name(), "' comes after all of its ",
                calls_.size(), " calls");
    const size_t place = next_;
    Call& old = calls_[place];
    if (old.is_launch() == call.is_launch() && old.same_values(call)) {
      ++next_;
      return std::nullopt;
    }
    SINEW_CHECK(old.is_launch() && call.is_launch(), "cuda", "renewing a graph: '", call.name(),
                "' cannot take the place of '", old.name(), "'");
    ++next_;
    old = std::move(call);
    return place;
  }
  void check_complete() const {
    SINEW_CHECK(next_ == calls_.size(), "cuda", "renewing a graph: ", next_, " calls, it has ", calls_.size());
  }

 private:
  std::vector<Call> calls_;
  size_t next_ = 0;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
