// The runtime of the emulation: device memory is malloc with a registry of addresses, and every call is done when it
// returns. New memory is NaN. Pointers that are not the device's, copies over the end of an allocation and double
// frees are Errors; AddressSanitizer sees kernels that run over the end.
#include "cuda/runtime.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "cuda/emulate/executor.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr size_t kMemoryBytes = size_t{1} << 34;

class Memory {
 public:
  void* allocate(size_t bytes) {
    std::lock_guard lock(mutex_);
    void* p = nullptr;
    SINEW_CHECK(bytes <= kMemoryBytes - in_use_ && posix_memalign(&p, 256, bytes) == 0, "cuda", "allocating ", bytes,
                " bytes: out of memory, ", in_use_, " of ", kMemoryBytes, " bytes are in use");
    blocks_[reinterpret_cast<uintptr_t>(p)] = bytes;
    in_use_ += bytes;
    return p;
  }
  void free(void* p) {
    std::lock_guard lock(mutex_);
    const auto block = blocks_.find(reinterpret_cast<uintptr_t>(p));
    SINEW_CHECK(block != blocks_.end(), "cuda", "freeing ", p, ": not an allocation of this device");
    in_use_ -= block->second;
    blocks_.erase(block);
    std::free(p);
  }
  // Whether [p, p + bytes) lies in one allocation; its very end counts when bytes == 0.
  bool contains(const void* p, size_t bytes) {
    std::lock_guard lock(mutex_);
    const auto address = reinterpret_cast<uintptr_t>(p);
    auto next = blocks_.upper_bound(address);
    if (next == blocks_.begin()) return false;
    const auto& [begin, size] = *--next;
    return address - begin <= size && bytes <= size - (address - begin);
  }

 private:
  std::mutex mutex_;
  std::map<uintptr_t, size_t> blocks_;
  size_t in_use_ = 0;
};

// Never destroyed: tensors with static lifetime may be released after main.
Memory& memory() {
  static Memory* const instance = new Memory;
  return *instance;
}

void check_device(const char* attempted, const void* p, size_t bytes) {
  SINEW_CHECK(memory().contains(p, bytes), "cuda", attempted, ": ", bytes, " bytes at ", p,
              " are not (all) device memory");
}

}  // namespace

Result<int> device_count() { return 1; }

DeviceProperties device_properties(int device) {
  SINEW_CHECK(device == 0, "cuda", "device ", device, " of 1");
  return {"emulated", 9, 0, 4, kMemoryBytes};
}

void device_select(int device) { SINEW_CHECK(device == 0, "cuda", "selecting device ", device, " of 1"); }

Stream stream_create() { return std::malloc(1); }
void stream_destroy(Stream stream) { std::free(stream); }
void stream_synchronize(Stream) {}

void* memory_allocate(size_t bytes, Stream) {
  void* p = memory().allocate(bytes);
  std::memset(p, 0xFF, bytes);
  return p;
}

void memory_free(void* device, Stream) { memory().free(device); }

void copy_to_device(void* device, const void* host, size_t bytes, Stream) {
  check_device("copying to the device", device, bytes);
  std::memcpy(device, host, bytes);
}

void copy_to_host(void* host, const void* device, size_t bytes, Stream) {
  check_device("copying to the host", device, bytes);
  std::memcpy(host, device, bytes);
}

void copy_on_device(void* to, const void* from, size_t bytes, Stream) {
  check_device("copying on the device, to", to, bytes);
  check_device("copying on the device, from", from, bytes);
  std::memcpy(to, from, bytes);
}

void memory_set(void* device, int byte, size_t bytes, Stream) {
  check_device("setting", device, bytes);
  std::memset(device, byte, bytes);
}

void launch_raw(const RawLaunch& what) {
  for (size_t i = 0; i < what.count; ++i) {
    if (!what.is_pointer[i]) continue;
    void* p = nullptr;
    std::memcpy(&p, what.arguments[i], sizeof(p));
    SINEW_CHECK(p == nullptr || memory().contains(p, 0), "cuda", "launching ", what.name, ": argument ", i, " (", p,
                ") is host memory");
  }
  emulate::run(
      {what.name,
       {what.grid.x, what.grid.y, what.grid.z},
       {what.block.x, what.block.y, what.block.z},
       what.shared_bytes},
      [](void* launch_data) {
        const RawLaunch& l = *static_cast<const RawLaunch*>(launch_data);
        l.call(l.function, l.arguments);
      },
      const_cast<RawLaunch*>(&what));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
