// A lock on a file that the kernel releases when its process ends, however that happens. Works between the hosts of a
// shared file system that supports POSIX locks.
//
// Thread safety: one thread at a time.
#pragma once

#include <chrono>
#include <string>
#include <utility>

namespace sinew::train {

class FileLock {
 public:
  FileLock() = default;
  // Opens the file, which is made when it is missing. Where that is not possible, every lock fails.
  explicit FileLock(const std::string& path);
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)), held_(std::exchange(other.held_, false)) {}
  FileLock& operator=(FileLock&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(held_, other.held_);
    return *this;
  }
  ~FileLock() { release(); }

  bool try_lock();
  // Waits for at most so long.
  bool lock(std::chrono::milliseconds limit);
  bool held() const { return held_; }
  // Also closes the file.
  void release();

 private:
  int fd_ = -1;
  bool held_ = false;
};

// Whether another process holds the lock. False for a file that is missing.
bool is_locked(const std::string& path);

}  // namespace sinew::train
