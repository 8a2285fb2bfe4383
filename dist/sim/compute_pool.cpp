#include "dist/sim/compute_pool.h"

#include <utility>

#include "core/cpu/cpu_info.h"

namespace sinew::dist {

ComputePool::ComputePool(int threads) {
  for (int i = 1; i < threads; ++i)
    threads_.emplace_back([this, team = num_threads()] {
      set_num_threads(team);
      work();
    });
}

ComputePool::~ComputePool() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  queued_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void ComputePool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    queued_.wait(lock, [this] { return ending_ || !queue_.empty(); });
    if (queue_.empty()) return;
    run_next(lock);
  }
}

// REQUIRES: the queue is not empty. Oldest first: what the engine waits for next was mostly started first.
void ComputePool::run_next(std::unique_lock<std::mutex>& lock) {
  Job* job = queue_.front();
  queue_.pop_front();
  job->state_ = Job::State::running;
  lock.unlock();
  job->run();
  lock.lock();
  job->state_ = Job::State::done;
  done_.notify_all();
}

ComputePool::Job::Job(ComputePool& pool, const std::function<void()>& fn, NodeLocals& locals)
    : pool_(pool), fn_(fn), locals_(locals) {
  {
    std::lock_guard lock(pool_.mutex_);
    pool_.queue_.push_back(this);
  }
  pool_.queued_.notify_one();
}

void ComputePool::Job::run() noexcept {
  NodeLocals* before = exchange_node_locals(&locals_);
  try {
    fn_();
  } catch (...) {
    error_ = std::current_exception();
  }
  exchange_node_locals(before);
}

void ComputePool::Job::finish() noexcept {
  std::unique_lock lock(pool_.mutex_);
  while (state_ != State::done) {
    if (pool_.queue_.empty())
      pool_.done_.wait(lock);
    else
      pool_.run_next(lock);
  }
}

void ComputePool::Job::join() {
  finish();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace sinew::dist
