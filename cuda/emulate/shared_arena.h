// Shared memory: that of the blocks of a cluster, one behind the other; and a block's, the dynamic part first, then the
// static arrays as the kernel comes to them.
//
// Between them are gaps. AddressSanitizer watches them; elsewhere they hold a pattern, so that a write into one is
// found when the block has ended. Fresh memory holds the poison. Not thread safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sinew::cuda::emulate {

// How many blocks a cluster may have here; the portable limit of sm_90 is 8.
inline constexpr unsigned kMaxCluster = 4;
// Of a block, and what its memory is aligned to: descriptors hold offsets.
inline constexpr size_t kArenaBytes = 256 * 1024;

class SharedMemory {
 public:
  static constexpr size_t kBytes = kMaxCluster * kArenaBytes;
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  char* begin() const { return begin_; }
  bool contains(const void* p) const { return static_cast<size_t>(static_cast<const char*>(p) - begin_) < kBytes; }

 private:
  char* const begin_;
};

class SharedArena {
 public:
  explicit SharedArena(char* begin) : begin_(begin) {}

  void begin_block(size_t dynamic_bytes, uint8_t poison);
  // AddressSanitizer lets nobody in until the next block.
  void close();
  void* dynamic() const { return begin_ + kDynamicBegin; }
  // The array that `site` names; null: it is not there yet.
  void* find(const void* site) const;
  void* place(const void* site, size_t bytes, size_t alignment);
  // Of all arrays placed in this block.
  size_t static_bytes() const { return static_bytes_; }
  char* begin() const { return begin_; }
  bool contains(const void* p, size_t bytes) const;
  // In one array, or the dynamic part.
  bool is_placed(const void* p, size_t bytes) const;
  bool gaps_are_whole() const;

 private:
  static constexpr size_t kGap = 128, kDynamicBegin = 1024;
  static constexpr char kGapPattern = 0x5a;
  struct Array {
    const void* site;
    void* data;
  };
  void* take(size_t bytes, size_t alignment);

  char* begin_;
  uint8_t poison_ = 0xFF;
  std::vector<Array> arrays_;
  size_t end_ = 0, static_bytes_ = 0;
  std::vector<char*> gaps_;                       // behind what was placed
  std::vector<std::pair<size_t, size_t>> taken_;  // begin and end of each
};

}  // namespace sinew::cuda::emulate
