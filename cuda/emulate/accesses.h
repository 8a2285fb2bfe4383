// What is wrong with an access to memory: out of bounds of an allocation, or a race with an earlier one of the launch,
// which is found in one run: two threads touch the same memory, one of them writing, and nothing orders these accesses.
// What orders the threads of a block are its barriers, those of a warp warp_sync (a shuffle does not order memory), and
// mbarriers those who arrive and the copies that complete before those who wait (clocks.h). Nothing orders other blocks
// than those of a cluster, but
// atomic accesses do not race with each other.
//
// Kernels are compiled with -fsanitize=thread, so that each access calls a function (`__tsan_read4`...); these are
// ours, in access_hooks.cpp, and libtsan is not linked. Watched are shared and device memory, two bytes at a time;
// accesses of one byte are not, since their neighbours would be false alarms.
//
// Thread safety: a AccessChecker belongs to one OS thread. The shadow of device memory is not locked: launches of
// different OS threads work on different memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulate/clocks.h"
#include "cuda/emulate/executor.h"

namespace sinew::cuda::emulate {

// Whether kernels are compiled so.
#if defined(SINEW_CUDA_ACCESSES)
inline constexpr bool kChecksAccesses = true;
#else
inline constexpr bool kChecksAccesses = false;
#endif

// Who touched two bytes last. Times are stamps (clocks.h): 0 is never.
struct Touch {
  uint32_t written = 0, read = 0;
  uint32_t others = 0;              // with `several`: which list of the cluster has the reads; 0: none has
  uint16_t writer = 0, reader = 0;  // actors of their clusters
  bool atomic = false;              // the write was
  bool several = false;             // reads of several actors, that nothing orders
  bool one_warp = false;            // with `several` and no list: they are of the reader's warp
  bool elsewhere = false;           // another block of the launch has read it too
};

// The shadow of an allocation of device memory, by pages that are made when they are touched.
class Shadow {
 public:
  explicit Shadow(size_t bytes) : pages_((bytes + kPage - 1) / kPage) {}
  Touch* at(size_t offset);

 private:
  static constexpr size_t kPage = 4096;
  std::vector<std::unique_ptr<Touch[]>> pages_;
};
struct WatchedRange {
  const char* begin;
  size_t bytes;
  Shadow* shadow;
};
// Of the runtime: memory that kernels of this device may touch, with so many bytes before and behind it that nothing
// else has.
inline constexpr ptrdiff_t kRedZone = 256;
void watch_memory(const void* begin, size_t bytes);
void forget_memory(const void* begin);

class AccessChecker {
 public:
  // Of the cluster's shared memory: [begin, begin + bytes).
  AccessChecker(const char* shared, size_t bytes);
  void begin_launch();
  // Of all blocks of a cluster.
  void begin_block(unsigned threads, unsigned blocks);
  Clocks& clocks() { return clocks_; }
  // "" or what is wrong: "reads byte 4 of the shared memory, which thread 3 ...", or beyond an allocation of device
  // memory. thread: its number in the cluster.
  std::string touch(const void* p, size_t bytes, Access access, unsigned thread) {
    return touch(p, bytes, access, thread, thread, clocks_.now(thread));
  }
  // Something that the thread starts, and that another actor does.
  std::string touch(const void* p, size_t bytes, Access access, unsigned thread, unsigned actor, uint32_t time);

 private:
  using Reads = std::vector<std::pair<unsigned, uint32_t>>;  // actors and times
  // The allocation of device memory with p; null: none.
  const WatchedRange* find(const char* p);
  std::string out_of_bounds(const char* p);
  bool reads_are_before(const Touch& touch, unsigned thread) const;
  void note_read(Touch& touch, unsigned thread, unsigned actor, uint32_t time, uint32_t first);
  // 0, or what the access races with: 'w' a write, 'r' a read; of another block: 'W', 'R'.
  // first: the stamp from which on touches count.
  char conflict(const Touch& touch, Access access, unsigned thread, uint32_t first) const;

  const char* const shared_;
  const size_t shared_bytes_;
  std::vector<Touch> shared_touches_;
  // Device memory as of version_, by address, and the places in it that were touched last.
  std::vector<WatchedRange> memory_;
  std::array<const WatchedRange*, 4> recent_{};
  size_t next_recent_ = 0;
  // Between two allocations: what was touched last and is not device memory. An end of null is no end.
  const char *elsewhere_begin_ = nullptr, *elsewhere_end_ = nullptr;
  uint64_t version_ = 0;
  uint32_t block_ = 0, launch_ = 0;
  Clocks clocks_;
  std::vector<Reads> lists_;  // of the block; the first is none
};

}  // namespace sinew::cuda::emulate
