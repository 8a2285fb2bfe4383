// Threads that run the computations of simulated nodes while the engine lets others' events happen. Inside of the
// simulator.
//
// The engine's thread starts a computation when the node's virtual time allows, and waits for it when the node's
// virtual time has come to its end: what ran in between cannot have depended on it, since computations touch their
// node's private memory only. Results are the same for any number of threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "core/node_locals.h"

namespace sinew::dist {

class ComputePool {
 public:
  // threads: at work together, the waiting engine's included; 2 and more.
  explicit ComputePool(int threads);
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  // One computation; waits for itself when it goes out of scope.
  class Job {
   public:
    Job(ComputePool& pool, const std::function<void()>& fn, NodeLocals& locals);
    ~Job() { finish(); }
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;
    // Waits, running computations meanwhile, and throws what the computation threw.
    void join();

   private:
    friend class ComputePool;
    void finish() noexcept;
    void run() noexcept;

    enum class State { queued, running, done };
    ComputePool& pool_;
    const std::function<void()>& fn_;
    NodeLocals& locals_;
    State state_ = State::queued;
    std::exception_ptr error_;
  };

 private:
  void work();
  void run_next(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable queued_, done_;
  std::deque<Job*> queue_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sinew::dist
