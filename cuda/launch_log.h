// What a launch was, in words, and the last ones of the process: a kernel that fails on the GPU is reported by a later
// call that waits, which knows nothing of it.
//
// Thread safety: any thread may call.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>

#include "core/check.h"
#include "cuda/launch.h"
#include "cuda/namespace.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// A launch without its memory: name, grid, block, shared bytes, and the whole numbers among its arguments.
class LaunchNote {
 public:
  LaunchNote() = default;
  explicit LaunchNote(const RawLaunch& what)
      : name_(what.name), grid_(what.grid), block_(what.block), shared_bytes_(what.shared_bytes) {
    for (size_t i = 0; i < what.count && numbers_ < kNumbers; ++i) {
      if (what.kinds[i] != ArgumentKind::integer) continue;
      number_[numbers_++] = what.sizes[i] == 4 ? read<int32_t>(what.arguments[i]) : read<int64_t>(what.arguments[i]);
    }
  }
  // Of other work than a kernel.
  explicit LaunchNote(const char* name) : name_(name) {}

  std::string text() const {
    if (block_.x == 0) return name_;
    std::string all = detail::concat(name_, ", grid ", text_of(grid_), ", block ", text_of(block_), ", ", shared_bytes_,
                                     " shared bytes");
    for (size_t i = 0; i < numbers_; ++i) all += detail::concat(i == 0 ? ", numbers " : " ", number_[i]);
    return all;
  }

 private:
  static constexpr size_t kNumbers = 8;
  template <class T>
  static int64_t read(const void* from) {
    T value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  static std::string text_of(const Dim& d) { return detail::concat("(", d.x, ",", d.y, ",", d.z, ")"); }

  const char* name_ = "";
  Dim grid_{0, 0, 0}, block_{0, 0, 0};
  size_t shared_bytes_ = 0, numbers_ = 0;
  std::array<int64_t, kNumbers> number_{};
};

class LaunchLog {
 public:
  void add(const LaunchNote& note) {
    const std::lock_guard lock(mutex_);
    last_[count_++ % kLast] = note;
  }
  // "" or a line of its own: the last one first.
  std::string text() const {
    const std::lock_guard lock(mutex_);
    std::string all;
    for (size_t i = 0; i < std::min(count_, kLast); ++i)
      all += (i == 0 ? "\nlaunched last: " : "; before it: ") + last_[(count_ - 1 - i) % kLast].text();
    return all;
  }
  static LaunchLog& instance() {
    static LaunchLog& log = *new LaunchLog;
    return log;
  }

 private:
  static constexpr size_t kLast = 8;
  mutable std::mutex mutex_;
  std::array<LaunchNote, kLast> last_;
  size_t count_ = 0;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
