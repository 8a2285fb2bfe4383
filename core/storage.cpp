#include "core/storage.h"

#include <array>
#include <bit>
#include <mutex>
#include <vector>

#include "core/kernel_api.h"

namespace sinew {
namespace {

// CPU blocks are kept for reuse by size class: training allocates the same sizes every step, and fresh pages cost
// more than many kernels. Small classes are per thread without a lock; large ones are shared, since a message's block
// is often freed on another thread than its maker's. AddressSanitizer builds keep nothing, so that it sees every use
// after free.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepBlocks = false;
#else
constexpr bool kKeepBlocks = true;
#endif
constexpr size_t kSmallest = 64, kLargeFrom = 64 * 1024, kKeptLimit = size_t{512} << 20;
constexpr size_t kKeptPerThread = 32;  // blocks of one small class

// Eight classes per doubling: at most 12.5 % of a block is unused.
struct SizeClass {
  int index;
  size_t bytes;
};
SizeClass size_class(size_t bytes) {
  if (bytes <= 8 * kSmallest) {
    const size_t units = bytes == 0 ? 1 : (bytes + kSmallest - 1) / kSmallest;
    return {static_cast<int>(units) - 1, units * kSmallest};
  }
  const int log = std::bit_width(bytes - 1) - 1;  // 2^log < bytes <= 2^(log + 1)
  const size_t step = size_t{1} << (log - 3);
  const size_t eighths = (bytes + step - 1) / step;  // 9 .. 16
  return {8 + (log - 9) * 8 + static_cast<int>(eighths) - 9, eighths * step};
}
constexpr int kClasses = 8 + 40 * 8;

struct SharedBlocks {
  std::mutex mutex;
  std::array<std::vector<void*>, kClasses> free;
  size_t kept = 0;
};
SharedBlocks& shared_blocks() {
  static SharedBlocks* blocks = new SharedBlocks;  // never destroyed: threads may outlive static destruction
  return *blocks;
}

struct ThreadBlocks {
  std::array<std::vector<void*>, kClasses> free;
  bool alive = true;
  ~ThreadBlocks() {
    alive = false;
    for (auto& list : free)
      for (void* data : list) cpu_kernels().release(data, 0);
  }
};
ThreadBlocks& thread_blocks() {
  static thread_local ThreadBlocks blocks;
  return blocks;
}

void* take_block(size_t bytes) {
  const SizeClass c = size_class(bytes);
  if (kKeepBlocks && c.index < kClasses) {
    if (c.bytes < kLargeFrom) {
      ThreadBlocks& blocks = thread_blocks();
      auto& list = blocks.free[static_cast<size_t>(c.index)];
      if (blocks.alive && !list.empty()) {
        void* data = list.back();
        list.pop_back();
        return data;
      }
    } else {
      SharedBlocks& shared = shared_blocks();
      std::lock_guard lock(shared.mutex);
      auto& list = shared.free[static_cast<size_t>(c.index)];
      if (!list.empty()) {
        void* data = list.back();
        list.pop_back();
        shared.kept -= c.bytes;
        return data;
      }
    }
  }
  return cpu_kernels().allocate(c.bytes);
}

void give_block(void* data, size_t bytes) {
  const SizeClass c = size_class(bytes);
  if (kKeepBlocks && c.index < kClasses) {
    if (c.bytes < kLargeFrom) {
      ThreadBlocks& blocks = thread_blocks();
      auto& list = blocks.free[static_cast<size_t>(c.index)];
      if (blocks.alive && list.size() < kKeptPerThread) {
        list.push_back(data);
        return;
      }
    } else {
      SharedBlocks& shared = shared_blocks();
      std::lock_guard lock(shared.mutex);
      if (shared.kept + c.bytes <= kKeptLimit) {
        shared.free[static_cast<size_t>(c.index)].push_back(data);
        shared.kept += c.bytes;
        return;
      }
    }
  }
  cpu_kernels().release(data, c.bytes);
}

}  // namespace

Storage* Storage::allocate(size_t bytes, Device device) {
  void* data = device == Device::cpu ? take_block(bytes) : kernels(device).allocate(bytes ? bytes : 1);
  Storage* storage = new Storage;
  storage->data_ = data;
  storage->bytes_ = bytes;
  storage->device_ = device;
  return storage;
}

void Storage::destroy() {
  if (device_ == Device::cpu)
    give_block(data_, bytes_);
  else
    kernels(device_).release(data_, bytes_ ? bytes_ : 1);
  delete this;
}

}  // namespace sinew
