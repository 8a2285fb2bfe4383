// Which accesses of a block, or of a cluster of blocks, happened before what a thread does now: barriers of the block
// and of warps, and vector clocks where mbarriers order threads and asynchronous copies among each other, or where
// there are several blocks.
//
// An actor is a thread; or, one for each mbarrier, what is copied to complete on it; or, one for each
// warp, its products of shared memory (wgmma). What the last two do is ordered before nobody but those who wait for it,
// and those whom a barrier then orders behind them. Times are stamps, which only grow, of all actors and launches of
// the process. Without such actors a thread's time is that of the last barrier, and nothing is stored.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace sinew::cuda::emulate {

class Clocks {
 public:
  static constexpr unsigned kMaxMbarriers = 64;  // more of them share actors: less is found

  static uint32_t next_stamp();

  // threads: of all blocks of a cluster.
  void begin_block(unsigned threads, unsigned blocks) {
    threads_ = threads;
    blocks_ = blocks;
    active_ = false;
    fences_.assign(threads, 0);
    warp_floors_.assign((threads + kWarp - 1) / kWarp, 0);
    floor_ = next_stamp();
  }
  std::string name(unsigned actor) const;
  bool active() const { return active_; }
  // Where actors other than threads come in.
  void start();
  // An mbarrier of the block, from 0 on, is initialised.
  void add_mbarrier(unsigned mbarrier);

  // The time of what a thread does now.
  uint32_t now(unsigned thread) const {
    const uint32_t met = std::max(floor_, warp_floors_[thread / kWarp]);
    return active_ ? std::max(own_[thread], met) : met;
  }
  // Whether what the actor did at that time happened before what the thread does now.
  bool before(unsigned actor, uint32_t stamp, unsigned thread) const {
    if (actor == thread || (actor < threads_ && before_barrier(stamp)) || before_warp_sync(actor, stamp, thread))
      return true;
    return active_ && at(thread, actor) >= stamp;
  }

  // Whether a thread did that before the last barrier.
  bool before_barrier(uint32_t stamp) const { return stamp < floor_; }

  // Whether both are threads of one warp, which has met since.
  bool before_warp_sync(unsigned actor, uint32_t stamp, unsigned thread) const {
    return same_warp(actor, thread) && stamp < warp_floors_[thread / kWarp];
  }
  bool same_warp(unsigned actor, unsigned other) const {
    return actor < threads_ && other < threads_ && actor / kWarp == other / kWarp;
  }

  // All threads have met.
  void barrier();
  // These have, of a cluster: active() is true.
  void meet(const std::vector<unsigned>& threads);
  void warp_sync(unsigned warp);
  // The thread's writes so far are there for other proxies; whether a write is.
  void fence(unsigned thread);
  bool fenced(unsigned thread, uint32_t written) const { return fences_[thread] >= written; }
  void arrive(unsigned mbarrier, unsigned thread);
  // The actor of copies, and that one of them is done.
  unsigned copies(unsigned mbarrier) const { return threads_ + mbarrier % kMaxMbarriers; }
  void copied(unsigned mbarrier, uint32_t stamp);
  void complete(unsigned mbarrier) { mbarriers_[mbarrier].complete = mbarriers_[mbarrier].arriving; }
  void wait(unsigned mbarrier, unsigned thread);
  bool is_thread(unsigned actor) const { return actor < threads_; }
  bool is_product(unsigned actor) const { return actor >= products(0); }
  // The actor of a warp's products, and that a thread has waited for those up to that time.
  unsigned products(unsigned warp) const { return threads_ + kMaxMbarriers + warp; }
  void wait_products(unsigned warp, uint32_t stamp, unsigned thread);

 private:
  static constexpr unsigned kWarp = 32;
  using Clock = std::vector<uint32_t>;  // by actor
  // Each of them knows from here on what any of them knew and did.
  template <class Threads>
  void join(const Threads& threads);
  unsigned width() const { return threads_ + kMaxMbarriers + (threads_ + kWarp - 1) / kWarp; }
  uint32_t& at(unsigned thread, unsigned actor) { return of_threads_[size_t{thread} * width() + actor]; }
  uint32_t at(unsigned thread, unsigned actor) const { return of_threads_[size_t{thread} * width() + actor]; }

  struct Mbarrier {
    Clock arriving, complete;  // of arrivals so far, and of those of completed phases
  };
  unsigned threads_ = 0, blocks_ = 1;
  bool active_ = false;
  uint32_t floor_ = 0;
  Clock own_, of_threads_, fences_;
  Clock warp_floors_;  // by warp: when its lanes met last
  std::vector<Mbarrier> mbarriers_;
};

}  // namespace sinew::cuda::emulate
