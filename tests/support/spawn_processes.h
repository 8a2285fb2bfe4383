// The same bodies on real processes over UCX: one forked process per node, results back through files.
//
// The parent must not have started UCX; a child never returns into the test. A plan of faults may kill ranks; a killed
// rank is started again with the next incarnation when `restart` is set, and is gone for good otherwise.
//
// Example:
//   check_all_reduce(in_processes(), 3, 1000, DType::f32);
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "dist/ucx/ucx_world.h"
#include "tests/support/processes.h"
#include "tests/support/spawn_nodes.h"

namespace sinew::dist::testing {

struct ProcessSpawnOptions {
  FaultPlan faults;
  bool restart = false;
  Rank absent = kAnyRank;  // killed before it does anything
};

namespace detail {

inline std::string result_path(const std::string& directory, Rank rank) {
  return directory + "/result-" + std::to_string(rank);
}

[[noreturn]] inline void run_child(const std::string& directory, Rank rank, int nodes, uint32_t incarnation, Nanos age,
                                   const NodeBody& body, const FaultPlan& faults) {
  Status status;
  Numbers numbers;
  {
    auto store = make_file_store(directory + "/store");
    status = store.status();
    if (store.ok()) {
      auto world = make_ucx_world(
          {.rank = rank, .size = nodes, .incarnation = incarnation, .secret = "test", .faults = faults, .age = age},
          *store);
      status = world.status();
      if (world.ok()) {
        Result<Numbers> result = body(**world);
        status = result.status();
        if (result.ok()) numbers = std::move(*result);
        if (status.ok()) (*world)->leave();
      }
    }
  }
  if (status.ok() && test::leaks()) status = Status(StatusCode::internal, "the process has lost memory");
  {
    std::ofstream out(result_path(directory, rank) + ".tmp", std::ios::binary);
    const int32_t code = static_cast<int32_t>(status.code());
    const int64_t count = static_cast<int64_t>(numbers.size());
    out.write(reinterpret_cast<const char*>(&code), sizeof code);
    out.write(reinterpret_cast<const char*>(&count), sizeof count);
    out.write(reinterpret_cast<const char*>(numbers.data()), count * static_cast<int64_t>(sizeof(double)));
    out << status.message();
  }
  std::filesystem::rename(result_path(directory, rank) + ".tmp", result_path(directory, rank));
  _exit(0);
}

inline NodeResult read_result(const std::string& directory, Rank rank) {
  NodeResult node;
  std::ifstream in(result_path(directory, rank), std::ios::binary);
  int32_t code = -1;
  int64_t count = 0;
  if (!in.read(reinterpret_cast<char*>(&code), sizeof code)) {
    node.status = Status(StatusCode::peer_lost, "the process ended without a result");
    return node;
  }
  in.read(reinterpret_cast<char*>(&count), sizeof count);
  node.numbers.resize(static_cast<size_t>(count));
  in.read(reinterpret_cast<char*>(node.numbers.data()), count * static_cast<int64_t>(sizeof(double)));
  const std::string message((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  node.finished = code == 0;
  if (code != 0) node.status = Status(static_cast<StatusCode>(code), message);
  return node;
}

}  // namespace detail

// A process that has met the others kills itself that much later, if it was not started again. A plan's times begin
// before the processes have met, when UCX may take another one along (dist/ucx/README.md).
inline void die_after(const World& world, Nanos time) {
  if (world.incarnation() > 0) return;
  std::thread([time] {
    std::this_thread::sleep_for(std::chrono::nanoseconds(time));
    ::kill(::getpid(), SIGKILL);
  }).detach();
}

inline Spawn in_processes(ProcessSpawnOptions options = {}) {
  return [options](int nodes, const NodeBody& body) {
    set_num_threads(1);
    test::TemporaryDirectory directory;
    const std::string dir = directory.path();
    auto store = make_file_store(dir + "/store");
    SINEW_CHECK(store.ok(), "in_processes", store.status().message());
    const auto begin = std::chrono::steady_clock::now();
    auto start = [&](Rank rank, uint32_t incarnation) {
      const Nanos age = (std::chrono::steady_clock::now() - begin).count();
      const pid_t pid = fork();
      if (pid == 0 && rank == options.absent) ::kill(::getpid(), SIGKILL);
      if (pid == 0) detail::run_child(dir, rank, nodes, incarnation, incarnation > 0 ? age : 0, body, options.faults);
      return pid;
    };
    struct Child {
      pid_t pid;
      uint32_t restarts = 0;
    };
    std::vector<Child> children;
    for (Rank r = 0; r < nodes; ++r) children.push_back({start(r, 0)});
    const auto end = std::chrono::steady_clock::now() + test::kProcessTimeout;
    for (int running = nodes; running > 0;) {
      for (Rank r = 0; r < nodes; ++r) {
        Child& child = children[static_cast<size_t>(r)];
        int status = 0;
        if (child.pid <= 0 || waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && options.restart) {
          child.pid = start(r, ++child.restarts);
          continue;
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) (void)(*store)->set("gone/" + std::to_string(r), "1").ok();
        child.pid = -1;
        --running;
      }
      if (std::chrono::steady_clock::now() > end) {
        for (Child& child : children)
          if (child.pid > 0) kill(child.pid, SIGKILL), waitpid(child.pid, nullptr, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::vector<NodeResult> results;
    for (Rank r = 0; r < nodes; ++r) {
      results.push_back(detail::read_result(dir, r));
      results.back().restarts = children[static_cast<size_t>(r)].restarts;
    }
    return results;
  };
}

}  // namespace sinew::dist::testing
