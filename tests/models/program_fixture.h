// The program as a process of its own, for tests: started, watched, signalled, with its output and its run folder.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "dist/ucx/ucx_world.h"

namespace sinew::train::testing {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

inline std::string slurp(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Where the build put the program, or where a copy of build and tests has it.
inline std::string program() {
  const char* moved = std::getenv("SINEW_TEST_PROGRAM");
  return moved ? moved : SINEW_PROGRAM;
}

// One run of a program, with its output in a file.
class Process {
 public:
  Process(const Words& words, const std::string& output, const Words& environment = {}) : output_(output) {
    pid_ = fork();
    if (pid_ == 0) {
      ::signal(SIGHUP, SIG_DFL);  // whatever started the tests
      if (!freopen(output.c_str(), "w", stdout) || dup2(1, 2) < 0) _exit(126);
      for (const std::string& v : environment) putenv(const_cast<char*>(v.c_str()));
      std::vector<char*> argv;
      for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Process() {
    if (running()) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running() {
    int status = 0;
    if (code_ < 0 && waitpid(pid_, &status, WNOHANG) == pid_)
      code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return code_ < 0;
  }
  // The exit code; -1 when it did not end within two minutes.
  int wait() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (running() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return code_;
  }
  void signal(int number) const { kill(pid_, number); }
  std::string output() const { return slurp(output_); }

 private:
  std::string output_;
  pid_t pid_ = -1;
  int code_ = -1;
};

class Program : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sinew-program-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override {
    end_processes();
    fs::remove_all(root_);
  }

  // What a test that failed has left on its way would slow down those after it: workers outlive their supervisor. All
  // of a run's processes name its folder.
  void end_processes() const {
    if (root_.empty()) return;  // a test that was skipped; every name has this in it
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const int pid = std::atoi(entry.path().filename().c_str());
      if (pid > 0 && slurp(entry.path() / "cmdline").find(root_) != std::string::npos) kill(pid, SIGKILL);
    }
  }

  std::unique_ptr<Process> start(Words words, const Words& environment = {}) {
    words.insert(words.begin(), program());
    return std::make_unique<Process>(words, root_ + "/output-" + std::to_string(count_++), environment);
  }
  // Expects the exit code, and that the last line contains every given part.
  void expect_failure(int code, const Words& words, const Words& parts) {
    auto p = start(words);
    EXPECT_EQ(p->wait(), code) << p->output();
    const std::string text = p->output();
    const size_t line = text.rfind("sinew: ");
    ASSERT_NE(line, std::string::npos) << text;
    for (const std::string& part : parts) EXPECT_NE(text.find(part, line), std::string::npos) << text;
  }
  Words run_of(const std::string& scheme, const std::string& folder, Words more = {}) {
    Words words = {"train",
                   "--data.train_size",
                   "2000",
                   "--model.hidden",
                   "32",
                   "--batch",
                   "16",
                   "--workers",
                   "3",
                   "--scheme",
                   scheme,
                   "--steps",
                   "300",
                   "--train.threads",
                   "1",
                   "--log.progress",
                   "none",
                   "--out",
                   root_ + "/" + folder};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Json status(const std::string& folder) {
    const Json json = Json::parse(slurp(root_ + "/" + folder + "/status.json"), nullptr, false);
    return json.is_discarded() ? Json::object() : json;
  }
  // Waits until the folder has a summary; the run's own process need not be there any more.
  bool has_summary(const std::string& folder) {
    const std::string path = root_ + "/" + folder + "/summary.json";
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!fs::exists(path) && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return fs::exists(path);
  }
  Json summary(const std::string& folder) { return Json::parse(slurp(root_ + "/" + folder + "/summary.json")); }
  // Waits until `rank` has reported `step` and returns its pid; 0 when that does not happen.
  int pid_at_step(const std::string& folder, int rank, int64_t step, Process& run) {
    while (run.running()) {
      const Json now = status(folder);
      if (now.contains("processes"))
        for (const Json& p : now.at("processes"))
          if (p.at("rank") == rank && p.at("state") == "running" && p.at("step") >= step) return p.at("pid");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return 0;
  }

  std::string root_;
  int count_ = 0;
};

class ProgramWithUcx : public Program {
 protected:
  void SetUp() override {
    if (!dist::ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
    Program::SetUp();
  }
};

// As torchrun would choose one.
inline std::string free_port() {
  const int probe = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(bind(probe, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length), 0);
  close(probe);
  return std::to_string(ntohs(address.sin_port));
}

}  // namespace sinew::train::testing
