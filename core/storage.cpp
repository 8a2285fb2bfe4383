#include "core/storage.h"

#include <array>
#include <bit>
#include <mutex>

#include "core/kernel_api.h"

namespace sinew {
namespace {

// Freed CPU storages are kept with their blocks, for reuse by size class: training allocates the same sizes every step,
// and fresh pages cost more than many kernels. Small classes are per thread without a lock; large ones are shared,
// since a message's block is often freed on another thread than its maker's. AddressSanitizer builds keep nothing, so
// that it sees every use after free.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepBlocks = false;
#else
constexpr bool kKeepBlocks = true;
#endif
constexpr size_t kSmallest = 64, kLargeFrom = 64 * 1024, kKeptLimit = size_t{512} << 20;
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
  void delete_all() {
    while (!empty()) {
      Storage* storage = pop();
      cpu_kernels().release(storage->data_, 0);
      delete storage;
    }
  }

 private:
  Storage* first_ = nullptr;
  uint32_t count_ = 0;
};

namespace {

struct SharedCache {
  std::mutex mutex;
  std::array<KeptStorages, kClasses> kept;
  size_t bytes = 0;
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
  SharedCache& cache = shared_cache();
  std::lock_guard lock(cache.mutex);
  if (cache.kept[i].empty()) return nullptr;
  cache.bytes -= c.bytes;
  return cache.kept[i].pop();
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
  SharedCache& cache = shared_cache();
  std::lock_guard lock(cache.mutex);
  if (cache.bytes + c.bytes > kKeptLimit) return false;
  cache.bytes += c.bytes;
  cache.kept[i].push(storage);
  return true;
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
  storage->device_ = device;
  return storage;
}

void Storage::destroy() {
  if (device_ == Device::cpu) {
    const SizeClass c = size_class(bytes_);
    if (keep(this, c)) return;
    cpu_kernels().release(data_, c.bytes);
  } else {
    kernels(device_).release(data_, bytes_ ? bytes_ : 1);
  }
  delete this;
}

}  // namespace sinew
