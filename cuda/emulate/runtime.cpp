// The runtime of the emulation: device memory is malloc with a registry of addresses, and every call is done when it
// returns, behind what libraries have put on the stream (emulate/stream.h). Only copies that are begun are made as late
// as may be: when they are waited for, or other work of ours comes. Pinned memory that is used or freed meanwhile is an
// Error. New memory holds emulate::Options::poison.
// Pointers that are not the device's, copies over the end of an allocation and double frees are Errors;
// AddressSanitizer sees kernels that run over the end.
#include "cuda/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "cuda/emulate/accesses.h"
#include "cuda/emulate/executor.h"
#include "cuda/emulate/stream.h"
#include "cuda/launch.h"
#include "cuda/memory_cache.h"
#include "cuda/recording.h"
#include "cuda/vendor/library.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr size_t kMemoryBytes = size_t{1} << 34;
// Before and behind each allocation, so that nothing else is where kernels may go by mistake. AddressSanitizer has its
// own.
constexpr size_t kMargin = emulate::kChecksAccesses ? emulate::kRedZone : 0;

class Memory {
 public:
  void* allocate(size_t bytes) {
    std::lock_guard lock(mutex_);
    void* p = nullptr;
    SINEW_CHECK(bytes <= kMemoryBytes - in_use_ && posix_memalign(&p, 256, bytes + 2 * kMargin) == 0, "cuda",
                "allocating ", bytes, " bytes: out of memory, ", in_use_, " of ", kMemoryBytes, " bytes are in use");
    p = static_cast<char*>(p) + kMargin;
    blocks_[reinterpret_cast<uintptr_t>(p)] = bytes;
    in_use_ += bytes;
    if (emulate::kChecksAccesses) emulate::watch_memory(p, bytes);
    return p;
  }
  void free(void* p) {
    std::lock_guard lock(mutex_);
    const auto block = blocks_.find(reinterpret_cast<uintptr_t>(p));
    SINEW_CHECK(block != blocks_.end(), "cuda", "freeing ", p, ": not an allocation of this device");
    in_use_ -= block->second;
    blocks_.erase(block);
    if (emulate::kChecksAccesses) emulate::forget_memory(p);
    std::free(static_cast<char*>(p) - kMargin);
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

// Keeps nothing but for graphs, so that every use after free is seen.
MemoryCache& memory_cache() {
  static MemoryCache& cache = *new MemoryCache;
  return cache;
}
void give_back() {
  memory_cache().empty({}, [](void* p, Stream) { memory().free(p); });
}

// What was recorded, to be done again in the same order.
struct RecordedCalls {
  std::vector<std::function<void()>> calls;
  size_t mark = 0;  // where those begin that can be renewed
  RenewableCalls renewable;
  std::unique_ptr<MemoryCache::Kept> memory;
};
std::unique_ptr<RecordedCalls> recording;  // of the one thread that records
RecordedCalls& renewed() { return *static_cast<RecordedCalls*>(Recording::renewed()); }

emulate::Stream& native(Stream stream) { return *static_cast<emulate::Stream*>(stream); }

void wait_for_foreign(Stream stream) {
  while (stream != nullptr && native(stream).foreign > 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
}

// Page-locked memory, and the copies to and from it that nobody has waited for.
class Pinned {
 public:
  void* allocate(size_t bytes) {
    std::lock_guard lock(mutex_);
    constexpr size_t kPage = 4096;
    void* p = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
    SINEW_CHECK(p != nullptr, "cuda", "allocating ", bytes, " bytes of page-locked memory: out of memory");
    std::memset(p, emulate::options().poison, bytes);
    blocks_[static_cast<char*>(p)] = bytes;
    return p;
  }
  void free(void* host) {
    std::lock_guard lock(mutex_);
    const auto block = blocks_.find(static_cast<char*>(host));
    SINEW_CHECK(block != blocks_.end(), "cuda", "freeing ", host, ", which is no page-locked memory or free already");
    check_unused("freeing", block->first, block->second);
    blocks_.erase(block);
    std::free(host);
  }
  BegunCopy begin(void* to, const void* from, size_t bytes, const void* host, Stream stream) {
    std::lock_guard lock(mutex_);
    const char* const p = static_cast<const char*>(host);
    auto block = blocks_.upper_bound(const_cast<char*>(p));
    const bool inside = block != blocks_.begin() && (--block, p + bytes <= block->first + block->second);
    SINEW_CHECK(inside, "cuda", "beginning a copy: ", bytes, " bytes at ", host, " are not (all) page-locked memory");
    check_unused("beginning a copy", p, bytes);
    copies_.push_back({to, from, bytes, p, stream});
    return &copies_.back();
  }
  void wait(BegunCopy copy) {
    std::lock_guard lock(mutex_);
    const auto known = [&](const Copy& c) { return &c == copy; };
    const auto found = std::find_if(copies_.begin(), copies_.end(), known);
    SINEW_CHECK(found != copies_.end(), "cuda", "waiting for a copy that was not begun, or waited for already");
    for (auto c = copies_.begin(); c != std::next(found); ++c) make(*c);
    copies_.erase(found);
  }
  // What was begun on the stream comes before what follows.
  void make_all(Stream stream) {
    std::lock_guard lock(mutex_);
    for (Copy& c : copies_)
      if (c.stream == stream) make(c);
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
    const char* host;
    Stream stream;
    bool made = false;
  };
  static void make(Copy& c) {
    if (c.made) return;
    wait_for_foreign(c.stream);
    check_device("copying", c.host == c.from ? c.to : c.from, c.bytes);
    std::memcpy(c.to, c.from, c.bytes);
    c.made = true;
  }
  void check_unused(const char* attempted, const char* p, size_t bytes) const {
    for (const Copy& c : copies_)
      SINEW_CHECK(p + bytes <= c.host || c.host + c.bytes <= p, "cuda", attempted, ": a copy of ", c.bytes,
                  " bytes that nobody has waited for uses this page-locked memory");
  }

  std::mutex mutex_;
  std::map<char*, size_t> blocks_;
  std::list<Copy> copies_;  // in order; addresses are what begin() returns
};
Pinned& pinned() {
  static Pinned& instance = *new Pinned;
  return instance;
}

// Before work of ours on the stream.
void catch_up(Stream stream) {
  wait_for_foreign(stream);
  pinned().make_all(stream);
}

// Does it, records it, or puts it in the place of what was recorded.
void enqueue(Stream stream, const Call& what, std::function<void()> call) {
  if (Recording::mode() == RecordingMode::renewing) {
    if (const std::optional<size_t> place = renewed().renewable.renew(what))
      renewed().calls[renewed().mark + *place] = std::move(call);
    return;
  }
  if (!Recording::here()) {
    catch_up(stream);
    return call();
  }
  recording->calls.push_back(std::move(call));
  if (Recording::mode() == RecordingMode::renewable) recording->renewable.record(what);
}

// A launch with copies of its arguments.
class KeptLaunch {
 public:
  explicit KeptLaunch(const RawLaunch& what) : launch_(what) {
    for (size_t i = 0; i < what.count; ++i) {
      void* const copy = ::operator new(what.sizes[i], kAlignment);
      std::memcpy(copy, what.arguments[i], what.sizes[i]);
      values_.push_back(copy);
    }
    launch_.arguments = values_.data();
  }
  ~KeptLaunch() {
    for (void* value : values_) ::operator delete(value, kAlignment);
  }
  KeptLaunch(const KeptLaunch&) = delete;
  KeptLaunch& operator=(const KeptLaunch&) = delete;
  const RawLaunch& launch() const { return launch_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  RawLaunch launch_;
  std::vector<void*> values_;
};

}  // namespace

Result<int> device_count() { return 1; }

DeviceProperties device_properties(int device) {
  SINEW_CHECK(device == 0, "cuda", "device ", device, " of 1");
  // Each process has one of its own.
  static const auto begin = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return {"emulated", 9, 0, 4, kMemoryBytes, static_cast<uint64_t>(::getpid()) << 40 ^ begin};
}

void device_select(int device) { SINEW_CHECK(device == 0, "cuda", "selecting device ", device, " of 1"); }

Stream stream_create() { return new emulate::Stream; }
void stream_destroy(Stream stream) { delete &native(stream); }
void stream_synchronize(Stream stream) {
  const DeviceUse use("waiting for the device");
  catch_up(stream);
}
bool stream_finished(Stream stream) {
  const DeviceUse use("asking the device");
  if (stream != nullptr && native(stream).foreign > 0) return false;
  pinned().make_all(stream);
  return true;
}

void* memory_allocate(size_t bytes, Stream stream) {
  const DeviceUse use;
  Recording::check_stays("allocating memory");
  void* p = memory_cache().take(bytes, stream);
  if (p == nullptr) p = memory().allocate(bytes);
  memory_cache().lend(p, bytes);
  const auto poison = [=] { std::memset(p, emulate::options().poison, bytes); };
  poison();
  if (Recording::here()) enqueue(stream, Call("poison"), poison);
  return p;
}

void memory_free(void* device, Stream stream) {
  const DeviceUse use;
  pinned().make_all(stream);
  memory_cache().give(device, stream);
  give_back();
}

void copy_to_device(void* device, const void* host, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the device");
  catch_up(stream);
  check_device("copying to the device", device, bytes);
  std::memcpy(device, host, bytes);
}

void copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the host");
  catch_up(stream);
  check_device("copying to the host", device, bytes);
  std::memcpy(host, device, bytes);
}

void* pinned_allocate(size_t bytes) {
  const DeviceUse use("allocating page-locked memory");
  return pinned().allocate(bytes);
}
void pinned_free(void* host) { pinned().free(host); }
BegunCopy copy_to_device_begin(void* device, const void* host, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the device");
  check_device("copying to the device", device, bytes);
  return pinned().begin(device, host, bytes, host, stream);
}
BegunCopy copy_to_host_begin(void* host, const void* device, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the host");
  check_device("copying to the host", device, bytes);
  return pinned().begin(host, device, bytes, host, stream);
}
void copy_wait(BegunCopy copy) {
  const DeviceUse use("waiting for a copy");
  pinned().wait(copy);
}

void copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  const DeviceUse use;
  enqueue(stream, Call("copy on the device", to, from, bytes), [=] {
    check_device("copying on the device, to", to, bytes);
    check_device("copying on the device, from", from, bytes);
    std::memcpy(to, from, bytes);
  });
}

void memory_set(void* device, int byte, size_t bytes, Stream stream) {
  const DeviceUse use;
  enqueue(stream, Call("memory_set", device, byte, bytes), [=] {
    check_device("setting", device, bytes);
    std::memset(device, byte, bytes);
  });
}

TensorMap encode_tensor_map(const TensorBoxes& b) {
  emulate::TensorImage image{static_cast<const char*>(b.data),
                             static_cast<uint32_t>(b.rank),
                             static_cast<uint32_t>(b.element_bytes),
                             static_cast<uint32_t>(b.swizzle_bytes),
                             {1, 1, 1},
                             {1, 1, 1},
                             {static_cast<uint64_t>(b.element_bytes), 0, 0}};
  size_t bytes = static_cast<size_t>(b.element_bytes);
  for (int d = 0; d < b.rank; ++d) {
    image.box[d] = static_cast<uint32_t>(b.box[d]);
    image.extent[d] = static_cast<uint64_t>(b.extent[d]);
    if (d > 0) image.stride[d] = static_cast<uint64_t>(b.stride[d]);
    bytes += (image.extent[d] - 1) * image.stride[d];
  }
  check_device("mapping a tensor", b.data, bytes);
  TensorMap map{};
  static_assert(sizeof(image) <= sizeof(map));
  std::memcpy(&map, &image, sizeof(image));
  return map;
}

TensorMap encode_pixel_map(const PixelBoxes& b) {
  const auto i = [](int64_t value) { return static_cast<int32_t>(value); };
  const emulate::PixelImages images{static_cast<const char*>(b.data),
                                    emulate::PixelImages::kKind,
                                    i(b.c),
                                    i(b.w),
                                    i(b.h),
                                    i(b.n),
                                    b.first_w,
                                    i(b.w) - 1 + b.end_w,
                                    b.first_h,
                                    i(b.h) - 1 + b.end_h,
                                    static_cast<uint32_t>(b.channels),
                                    static_cast<uint32_t>(b.pixels)};
  check_device("mapping pixels", b.data, static_cast<size_t>(b.n * b.h * b.w * b.c * 2));
  TensorMap map{};
  static_assert(sizeof(images) <= sizeof(map));
  std::memcpy(&map, &images, sizeof(images));
  return map;
}

void library_call(Stream stream, const std::function<void()>& call) {
  const DeviceUse use;
  Recording::check_stays("a library's call");
  enqueue(stream, Call("library"), call);
}
bool library_trial(size_t bytes, const std::function<void(Stream, void*)>& call) {
  const DeviceUse use;
  emulate::Stream side;
  void* const device = memory().allocate(bytes);
  call(&side, device);
  memory().free(device);
  return true;
}
bool is_recording() { return Recording::here(); }

void record_begin(Stream stream) {
  Recording::instance().mutex.lock();
  Recording::mode() = RecordingMode::recording;
  memory_cache().record(stream);
  recording = std::make_unique<RecordedCalls>();
}

void record_mark() {
  SINEW_CHECK(Recording::mode() == RecordingMode::recording, "cuda", "a mark belongs in a recording, once");
  recording->mark = recording->calls.size();
  Recording::mode() = RecordingMode::renewable;
}

RecordedWork record_end(Stream stream, bool keep) {
  std::unique_ptr<RecordedCalls> calls = std::move(recording);
  calls->memory = memory_cache().stop();
  Recording::mode() = RecordingMode::none;
  Recording::instance().mutex.unlock();
  if (keep) return calls.release();
  memory_cache().forget(*calls->memory, stream);
  give_back();
  return nullptr;
}

void record_renew(RecordedWork work, bool on) {
  Recording::renewed() = on ? work : nullptr;
  Recording::mode() = on ? RecordingMode::renewing : RecordingMode::none;
  if (on) renewed().renewable.begin();
}

void record_launch(RecordedWork work, Stream stream) {
  const DeviceUse use("launching a graph");
  const RecordedCalls& recorded = *static_cast<RecordedCalls*>(work);
  recorded.renewable.check_complete();
  catch_up(stream);
  for (const std::function<void()>& call : recorded.calls) call();
}

void record_release(RecordedWork work, Stream stream) {
  const DeviceUse use;
  const std::unique_ptr<RecordedCalls> calls(static_cast<RecordedCalls*>(work));
  memory_cache().forget(*calls->memory, stream);
  give_back();
}

namespace {

void run(const RawLaunch& what) {
  for (size_t i = 0; i < what.count; ++i) {
    if (what.kinds[i] != ArgumentKind::pointer) continue;
    void* p = nullptr;
    std::memcpy(&p, what.arguments[i], sizeof(p));
    SINEW_CHECK(p == nullptr || memory().contains(p, 0), "cuda", "launching ", what.name, ": argument ", i, " (", p,
                ") is host memory");
  }
  emulate::run(
      {what.name,
       {what.grid.x, what.grid.y, what.grid.z},
       {what.block.x, what.block.y, what.block.z},
       what.shared_bytes,
       what.cluster},
      [](void* launch_data) {
        const RawLaunch& l = *static_cast<const RawLaunch*>(launch_data);
        l.call(l.function, l.arguments);
      },
      const_cast<RawLaunch*>(&what));
}

}  // namespace

void launch_raw(const RawLaunch& what) {
  const DeviceUse use;
  if (Recording::mode() == RecordingMode::none) {
    catch_up(what.stream);
    return run(what);
  }
  enqueue(what.stream, Call(what), [kept = std::make_shared<KeptLaunch>(what)] { run(kept->launch()); });
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
