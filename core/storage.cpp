#include "core/storage.h"

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>

#include "core/kernel_api.h"

namespace sinew {
namespace {

// Freed CPU storages are kept with their blocks, for reuse by size class: training allocates the same sizes every step,
// and fresh pages cost more than many kernels. Small classes are per thread without a lock; large ones are shared,
// since a message's block is often freed on another thread than its maker's. AddressSanitizer builds keep nothing, so
// that it sees every use after free. Large classes: what is kept may make up, with what is in use, the most that was in
// use at one time, and kKeptAnyway in any case.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepBlocks = false;
#else
constexpr bool kKeepBlocks = true;
#endif
constexpr size_t kSmallest = 64, kLargeFrom = 64 * 1024, kKeptAnyway = size_t{512} << 20;
constexpr uint32_t kKeptPerThread = 32;  // storages of one small class

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
size_t bytes_of_class(size_t index) {
  if (index < 8) return (index + 1) * kSmallest;
  return (index % 8 + 9) << ((index - 8) / 8 + 6);
}

}  // namespace

// A list of kept storages of one size class.
class KeptStorages {
 public:
  bool empty() const { return !first_; }
  uint32_t count() const { return count_; }
  void push(Storage* storage) {
    storage->next_kept_ = first_;
    first_ = storage;
    ++count_;
  }
  Storage* pop() {
    Storage* storage = first_;
    first_ = storage->next_kept_;
    --count_;
    return storage;
  }
  void delete_one() {
    Storage* storage = pop();
    cpu_kernels().release(storage->data_, 0);
    delete storage;
  }
  void delete_all() {
    while (!empty()) delete_one();
  }

 private:
  Storage* first_ = nullptr;
  uint32_t count_ = 0;
};

namespace {

class SharedCache {
 public:
  Storage* take(const SizeClass& c) {
    std::lock_guard lock(mutex_);
    const size_t i = touch(c);
    used_ += c.bytes;
    most_used_ = std::max(most_used_, used_);
    if (kept_[i].empty()) {
      make_room(0);
      return nullptr;
    }
    bytes_ -= c.bytes;
    return kept_[i].pop();
  }

  // False: not kept.
  bool keep(Storage* storage, const SizeClass& c) {
    std::lock_guard lock(mutex_);
    const size_t i = touch(c);
    used_ -= c.bytes;
    if (!make_room(c.bytes)) return false;
    bytes_ += c.bytes;
    kept_[i].push(storage);
    return true;
  }

 private:
  bool has_room(size_t more) const { return bytes_ + more <= std::max(kKeptAnyway, most_used_ - used_); }
  size_t touch(const SizeClass& c) {
    const size_t i = static_cast<size_t>(c.index);
    touched_[i] = ++clock_;
    return i;
  }
  // The class that nobody has asked for in the longest time gives its blocks back first.
  bool make_room(size_t more) {
    while (!has_room(more)) {
      size_t oldest = kClasses;
      for (size_t i = 0; i < kClasses; ++i)
        if (!kept_[i].empty() && (oldest == kClasses || touched_[i] < touched_[oldest])) oldest = i;
      if (oldest == kClasses) return false;
      bytes_ -= bytes_of_class(oldest);
      kept_[oldest].delete_one();
    }
    return true;
  }

  std::mutex mutex_;
  std::array<KeptStorages, kClasses> kept_;
  std::array<uint64_t, kClasses> touched_{};
  uint64_t clock_ = 0;
  size_t bytes_ = 0;                 // kept
  size_t used_ = 0, most_used_ = 0;  // given out
};
SharedCache& shared_cache() {
  static SharedCache* cache = new SharedCache;  // never destroyed: threads may outlive static destruction
  return *cache;
}

struct ThreadCache {
  std::array<KeptStorages, kClasses> kept;
  bool alive = true;
  ~ThreadCache() {
    alive = false;
    for (KeptStorages& list : kept) list.delete_all();
  }
};
ThreadCache& thread_cache() {
  static thread_local ThreadCache cache;
  return cache;
}

// A kept storage of the class, or nullptr.
Storage* take_kept(const SizeClass& c) {
  if (!kKeepBlocks || c.index >= kClasses) return nullptr;
  const size_t i = static_cast<size_t>(c.index);
  if (c.bytes < kLargeFrom) {
    ThreadCache& cache = thread_cache();
    return cache.alive && !cache.kept[i].empty() ? cache.kept[i].pop() : nullptr;
  }
  return shared_cache().take(c);
}

// False: not kept.
bool keep(Storage* storage, const SizeClass& c) {
  if (!kKeepBlocks || c.index >= kClasses) return false;
  const size_t i = static_cast<size_t>(c.index);
  if (c.bytes < kLargeFrom) {
    ThreadCache& cache = thread_cache();
    if (!cache.alive || cache.kept[i].count() >= kKeptPerThread) return false;
    cache.kept[i].push(storage);
    return true;
  }
  return shared_cache().keep(storage, c);
}

}  // namespace

Storage* Storage::allocate(size_t bytes, Device device) {
  const bool cpu = device == Device::cpu;
  const SizeClass c = size_class(bytes);
  if (Storage* kept = cpu ? take_kept(c) : nullptr) {
    kept->bytes_ = bytes;
    kept->references_.store(1, std::memory_order_relaxed);
    kept->version_.store(0, std::memory_order_relaxed);
    return kept;
  }
  void* data = cpu ? cpu_kernels().allocate(c.bytes) : kernels(device).allocate(bytes ? bytes : 1);
  Storage* storage = new Storage;
  storage->data_ = data;
  storage->bytes_ = bytes;
  storage->device_ = storage->allocator_ = device;
  return storage;
}

Storage* Storage::allocate_for_copies(size_t bytes, Device copier) {
  if (!has_kernels(copier) || !kernels(copier).host_allocate || bytes == 0) return allocate(bytes, Device::cpu);
  void* data = nullptr;
  try {
    data = kernels(copier).host_allocate(bytes);
  } catch (const Error&) {  // the system limits how much there is: copies are only slower without
    return allocate(bytes, Device::cpu);
  }
  Storage* storage = new Storage;
  storage->data_ = data;
  storage->bytes_ = bytes;
  storage->allocator_ = copier;
  return storage;
}

void Storage::destroy() {
  if (device_ != allocator_) {
    kernels(allocator_).host_release(data_);
  } else if (device_ == Device::cpu) {
    const SizeClass c = size_class(bytes_);
    if (keep(this, c)) return;
    cpu_kernels().release(data_, c.bytes);
  } else {
    kernels(device_).release(data_, bytes_ ? bytes_ : 1);
  }
  delete this;
}

}  // namespace sinew
