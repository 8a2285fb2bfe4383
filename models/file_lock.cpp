#include "models/file_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace sinew::train {
namespace {

constexpr auto kRetry = std::chrono::milliseconds(10);

struct flock whole_file() {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  return range;
}

}  // namespace

FileLock::FileLock(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {}

bool FileLock::try_lock() {
  struct flock range = whole_file();
  // Of the open file, not of the process: the latter ends when any descriptor of the file is closed.
  held_ = held_ || (fd_ >= 0 && ::fcntl(fd_, F_OFD_SETLK, &range) == 0);
  return held_;
}

bool FileLock::lock(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!try_lock()) {
    if (fd_ < 0 || std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(kRetry);
  }
  return true;
}

void FileLock::release() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  held_ = false;
}

bool is_locked(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  struct flock range = whole_file();
  const bool locked = ::fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
  ::close(fd);
  return locked;
}

}  // namespace sinew::train
