// The stores that need no network: one in this process's memory, one in a directory.
#include "dist/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "dist/store_table.h"

namespace sinew::dist {

Result<int64_t> parse_store_counter(const std::string& key, const std::string& text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return make_status(StatusCode::data_error, "store key '", key, "' holds no counter: only add() may write it");
  return value;
}

Status check_store_entry(const std::string& key, size_t value_size) {
  if (key.empty() || key.size() > kMaxStoreKey)
    return make_status(StatusCode::invalid_argument, "a store key has ", key.size(), " bytes; allowed are 1 to ",
                       kMaxStoreKey);
  if (value_size > kMaxStoreValue)
    return make_status(StatusCode::invalid_argument, "the value of store key '", key, "' has ", value_size,
                       " bytes; allowed are up to ", kMaxStoreValue);
  return {};
}

Status missing_store_key(const std::string& key) {
  return make_status(StatusCode::not_found, "the store has no key '", key, "'");
}

Status late_store_key(const std::string& key, Nanos timeout) {
  return make_status(StatusCode::timeout, "store key '", key, "' was not set within ",
                     static_cast<double>(timeout) / kSecond, " s");
}

namespace {

class MemoryStore final : public Store {
 public:
  Status set(const std::string& key, const std::string& value) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, value.size()));
    std::lock_guard lock(mutex_);
    table_[key] = value;
    changed_.notify_all();
    return {};
  }
  Result<std::string> get(const std::string& key, Nanos timeout) override {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout);
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline, [&] { return table_.count(key) != 0; }))
      return late_store_key(key, timeout);
    return table_[key];
  }
  Result<std::string> try_get(const std::string& key) override {
    std::lock_guard lock(mutex_);
    auto found = table_.find(key);
    if (found == table_.end()) return missing_store_key(key);
    return found->second;
  }
  Result<int64_t> add(const std::string& key, int64_t amount) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, 0));
    std::lock_guard lock(mutex_);
    int64_t old = 0;
    if (auto found = table_.find(key); found != table_.end()) {
      Result<int64_t> parsed = parse_store_counter(key, found->second);
      if (!parsed.ok()) return parsed;
      old = *parsed;
    }
    table_[key] = std::to_string(old + amount);
    changed_.notify_all();
    return old + amount;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> table_;
};

// A key may hold '/', '.' and any byte; a file name may not.
std::string file_name_of(const std::string& key) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string name = "k-";
  for (unsigned char c : key) {
    if (std::isalnum(c) || c == '-' || c == '_')
      name += static_cast<char>(c);
    else
      name += {'%', kHex[c >> 4], kHex[c & 15]};
  }
  return name;
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

constexpr Nanos kLockTimeout = 5 * kSecond;
constexpr auto kFilePoll = std::chrono::milliseconds(5);

class FileStore final : public Store {
 public:
  explicit FileStore(std::string directory) : directory_(std::move(directory)) {}

  Status set(const std::string& key, const std::string& value) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, value.size()));
    return write(key, value);
  }
  Result<std::string> get(const std::string& key, Nanos timeout) override {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout);
    for (;;) {
      Result<std::string> value = try_get(key);
      if (value.ok() || value.status().code() != StatusCode::not_found) return value;
      if (std::chrono::steady_clock::now() >= deadline) return late_store_key(key, timeout);
      std::this_thread::sleep_for(kFilePoll);
    }
  }
  Result<std::string> try_get(const std::string& key) override {
    std::string path = path_of(key);
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) {
      if (errno == ENOENT) return missing_store_key(key);
      return failure("read", path);
    }
    std::string value(kMaxStoreValue, '\0');
    size_t size = 0;
    while (size < value.size()) {
      ssize_t n = ::read(file.get(), value.data() + size, value.size() - size);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failure("read", path);
      if (n == 0) break;
      size += static_cast<size_t>(n);
    }
    value.resize(size);
    return value;
  }
  Result<int64_t> add(const std::string& key, int64_t amount) override {
    SINEW_RETURN_IF_ERROR(check_store_entry(key, 0));
    // The lock file is never removed: removing it would let two processes lock different files of one name.
    std::string path = directory_ + "/lock";
    FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (lock.get() < 0) return failure("open", path);
    auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(kLockTimeout);
    while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return failure("lock", path);
      if (std::chrono::steady_clock::now() >= deadline)
        return make_status(StatusCode::timeout, "another process holds ", path, " for more than 5 s");
      std::this_thread::sleep_for(kFilePoll);
    }
    int64_t old = 0;
    Result<std::string> text = try_get(key);
    if (text.ok()) {
      Result<int64_t> parsed = parse_store_counter(key, *text);
      if (!parsed.ok()) return parsed;
      old = *parsed;
    } else if (text.status().code() != StatusCode::not_found) {
      return text.status();
    }
    SINEW_RETURN_IF_ERROR(write(key, std::to_string(old + amount)));
    return old + amount;
  }

 private:
  std::string path_of(const std::string& key) const { return directory_ + "/" + file_name_of(key); }
  static Status failure(const char* what, const std::string& path) {
    return make_status(StatusCode::io_error, "cannot ", what, " ", path, ": ", std::strerror(errno));
  }
  // Readers see the old value or the new one, never a part: the value appears by rename.
  Status write(const std::string& key, const std::string& value) {
    std::string temporary = directory_ + "/write-XXXXXX";
    FileDescriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
    if (file.get() < 0) return failure("create a file in", directory_);
    size_t done = 0;
    while (done < value.size()) {
      ssize_t n = ::write(file.get(), value.data() + done, value.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        Status status = failure("write", temporary);
        ::unlink(temporary.c_str());
        return status;
      }
      done += static_cast<size_t>(n);
    }
    std::string path = path_of(key);
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      Status status = failure("write", path);
      ::unlink(temporary.c_str());
      return status;
    }
    return {};
  }

  std::string directory_;
};

}  // namespace

std::shared_ptr<Store> make_memory_store() { return std::make_shared<MemoryStore>(); }

Result<std::shared_ptr<Store>> make_file_store(const std::string& directory) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return make_status(StatusCode::io_error, "cannot create the store directory ", directory, ": ",
                       std::strerror(errno));
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
    return make_status(StatusCode::io_error, directory, " is not a directory; a file store needs one");
  return std::shared_ptr<Store>(std::make_shared<FileStore>(directory));
}

}  // namespace sinew::dist
