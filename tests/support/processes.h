// Real processes for tests. A test starts this very binary again for each process, which runs a body by name
// instead of the tests:
//
//   SINEW_PROCESS_BODY(say_hello) {            // int(ProcessContext&), in any file of the test binary
//     process.report("hello from " + std::to_string(process.rank));
//     return 0;
//   }
//   TEST(Hello, ThreeProcesses) {
//     ProcessGroup group("say_hello", 3);
//     ASSERT_TRUE(group.wait_all());
//     EXPECT_EQ(group.report(1), "hello from 1");
//   }
//
// A body uses process.check(condition, text): the first failure is reported and ends the process with code 1.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/leaks.h"

namespace sinew::test {

// Generous: a loaded machine under a sanitizer must not fail a test.
inline constexpr auto kProcessTimeout = std::chrono::seconds(120);

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline bool eventually(const std::function<bool()>& condition, std::chrono::nanoseconds limit = kProcessTimeout) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sinew-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data()) ? pattern : "";
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// What a body sees.
struct ProcessContext {
  int rank = 0;
  int size = 1;
  int incarnation = 0;
  std::string directory;                     // shared by the group
  std::map<std::string, std::string> extra;  // from ProcessGroup::set

  // Appends a line to report-<rank>.
  void report(const std::string& line) const {
    std::ofstream(directory + "/report-" + std::to_string(rank), std::ios::app) << line << '\n' << std::flush;
  }
  // Marks a place that the test, or another process, waits for.
  void reach(const std::string& place) const {
    std::ofstream(directory + "/at-" + place + "-" + std::to_string(rank)) << incarnation;
  }
  bool wait_for(const std::string& place, int of_rank) const {
    return eventually(
        [&] { return std::filesystem::exists(directory + "/at-" + place + "-" + std::to_string(of_rank)); });
  }
  void check(bool condition, const std::string& what) const {
    if (condition) return;
    std::fprintf(stderr, "rank %d: failed: %s\n", rank, what.c_str());
    std::fflush(stderr);
    ::_exit(1);
  }
};

using ProcessBody = std::function<int(ProcessContext&)>;
inline std::map<std::string, ProcessBody>& process_bodies() {
  static std::map<std::string, ProcessBody> bodies;
  return bodies;
}

struct RegisterProcessBody {
  RegisterProcessBody(const char* name, ProcessBody body) { process_bodies()[name] = std::move(body); }
};

#define SINEW_PROCESS_BODY(name)                                                         \
  static int name##_body(::sinew::test::ProcessContext& process);                        \
  static const ::sinew::test::RegisterProcessBody name##_registered(#name, name##_body); \
  static int name##_body([[maybe_unused]] ::sinew::test::ProcessContext& process)

// Runs in place of the tests when the environment names a body.
class BodyRunner : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* name = std::getenv("SINEW_TEST_BODY");
    if (!name) return;
    ProcessContext process;
    process.rank = std::atoi(std::getenv("SINEW_TEST_RANK"));
    process.size = std::atoi(std::getenv("SINEW_TEST_SIZE"));
    process.incarnation = std::atoi(std::getenv("SINEW_TEST_INCARNATION"));
    process.directory = std::getenv("SINEW_TEST_DIRECTORY");
    for (char** entry = environ; *entry; ++entry) {
      const std::string text = *entry;
      const std::string prefix = "SINEW_TEST_X_";
      const size_t equals = text.find('=');
      if (text.rfind(prefix, 0) == 0)
        process.extra[text.substr(prefix.size(), equals - prefix.size())] = text.substr(equals + 1);
    }
    auto body = process_bodies().find(name);
    process.check(body != process_bodies().end(), std::string("no body named ") + name);
    int code = 3;
    try {
      code = body->second(process);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: exception: %s\n", process.rank, error.what());
    }
    if (code == 0 && leaks()) code = 4;
    std::fflush(nullptr);
    std::_Exit(code);
  }
};
inline ::testing::Environment* const body_runner = ::testing::AddGlobalTestEnvironment(new BodyRunner);

class ProcessGroup {
 public:
  ProcessGroup(std::string body, int size) : ProcessGroup(std::move(body), size, {}) {}
  ProcessGroup(std::string body, int size, std::map<std::string, std::string> extra)
      : body_(std::move(body)), size_(size), extra_(std::move(extra)), children_(static_cast<size_t>(size)) {
    for (int rank = 0; rank < size; ++rank) start(rank, 0);
  }
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;
  ~ProcessGroup() {
    for (int rank = 0; rank < size_; ++rank) {
      signal(rank, SIGKILL);
      wait(rank);
    }
    if (::testing::Test::HasFailure()) {
      for (int rank = 0; rank < size_; ++rank)
        std::fprintf(stderr, "--- rank %d\n%s", rank, read_text(path("log", rank)).c_str());
    }
  }

  const std::string& directory() const { return directory_.path(); }
  // Starts the rank's process (again).
  void start(int rank, int incarnation) {
    std::vector<std::string> environment;
    for (char** entry = environ; *entry; ++entry)
      if (std::strncmp(*entry, "GTEST_", 6) != 0 && std::strncmp(*entry, "SINEW_TEST_", 11) != 0)
        environment.push_back(*entry);
    environment.push_back("SINEW_TEST_BODY=" + body_);
    environment.push_back("SINEW_TEST_RANK=" + std::to_string(rank));
    environment.push_back("SINEW_TEST_SIZE=" + std::to_string(size_));
    environment.push_back("SINEW_TEST_INCARNATION=" + std::to_string(incarnation));
    environment.push_back("SINEW_TEST_DIRECTORY=" + directory());
    for (const auto& [key, value] : extra_) environment.push_back("SINEW_TEST_X_" + key + "=" + value);
    std::vector<char*> pointers;
    for (std::string& entry : environment) pointers.push_back(entry.data());
    pointers.push_back(nullptr);
    const std::string log = path("log", rank);
    char name[] = "test", brief[] = "--gtest_brief=1";
    char* arguments[] = {name, brief, nullptr};
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that dies leaves nothing behind
      const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      ::dup2(fd, 1);
      ::dup2(fd, 2);
      ::execve("/proc/self/exe", arguments, pointers.data());
      ::_exit(127);
    }
    children_[static_cast<size_t>(rank)] = {pid, false, 0};
  }
  pid_t pid(int rank) const { return children_.at(static_cast<size_t>(rank)).pid; }
  void signal(int rank, int number) {
    if (!children_.at(static_cast<size_t>(rank)).ended && pid(rank) > 0) ::kill(pid(rank), number);
  }
  // Waits for process.reach(place) of the rank, which need not be one of this group's own processes. False when the
  // whole group has ended without it.
  bool reached(const std::string& place, int rank) {
    const std::string mark = directory() + "/at-" + place + "-" + std::to_string(rank);
    auto all_ended = [&] {
      bool all = true;
      for (int own = 0; own < size_; ++own) all &= ended(own);
      return all;
    };
    return eventually([&] { return std::filesystem::exists(mark) || all_ended(); }) && std::filesystem::exists(mark);
  }
  // Exit code, or 128 + signal. Kills what does not end in time: then -1.
  int wait(int rank) {
    Child& child = children_.at(static_cast<size_t>(rank));
    if (!eventually([&] { return ended(rank); })) {
      ::kill(child.pid, SIGKILL);
      ::waitpid(child.pid, nullptr, 0);
      child = {child.pid, true, -1};
    }
    return child.code;
  }
  // True when all ended with code 0.
  bool wait_all() {
    bool good = true;
    for (int rank = 0; rank < size_; ++rank) good &= wait(rank) == 0;
    return good;
  }
  // The lines that the rank reported.
  std::string report(int rank) const {
    std::string text = read_text(path("report", rank));
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

 private:
  struct Child {
    pid_t pid = -1;
    bool ended = true;
    int code = 0;
  };
  std::string path(const char* kind, int rank) const { return directory() + "/" + kind + "-" + std::to_string(rank); }
  bool ended(int rank) {
    Child& child = children_.at(static_cast<size_t>(rank));
    if (child.ended) return true;
    int status = 0;
    if (::waitpid(child.pid, &status, WNOHANG) != child.pid) return false;
    child.ended = true;
    child.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
  }

  TemporaryDirectory directory_;
  std::string body_;
  int size_;
  std::map<std::string, std::string> extra_;
  std::vector<Child> children_;
};

}  // namespace sinew::test
