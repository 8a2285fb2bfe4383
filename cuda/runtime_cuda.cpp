// cuda/runtime.h over the CUDA runtime.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda/launch.h"
#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr size_t kSharedWithoutAsking = 48 * 1024;

template <class... Parts>
void check(cudaError_t error, const Parts&... attempted) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky must not be seen by the next call
  SINEW_FAIL("cuda", attempted..., ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }

// What was freed, by size and by the stream whose work used it last: a training step asks for the same sizes again and
// again, and the runtime's own pool takes microseconds for each. Never gives memory back but when there is none left.
class MemoryCache {
 public:
  void* take(size_t bytes, Stream stream) {
    std::lock_guard lock(mutex_);
    const auto found = freed_.find({stream, bytes});
    if (found == freed_.end() || found->second.empty()) return nullptr;
    void* p = found->second.back();
    found->second.pop_back();
    return p;
  }
  void lend(void* p, size_t bytes) {
    std::lock_guard lock(mutex_);
    lent_[p] = bytes;
  }
  void give(void* p, Stream stream) {
    std::lock_guard lock(mutex_);
    const auto found = lent_.find(p);
    SINEW_CHECK(found != lent_.end(), "cuda", "freeing ", p, ", which was not allocated here or is free already");
    freed_[{stream, found->second}].push_back(p);
    lent_.erase(found);
  }
  // Back to the runtime: all of it, or that of one stream.
  void empty(std::optional<Stream> of = {}) {
    std::lock_guard lock(mutex_);
    for (auto& [key, blocks] : freed_) {
      if (of && key.first != *of) continue;
      for (void* p : blocks) (void)cudaFreeAsync(p, native(key.first));
      blocks.clear();
    }
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<Stream, size_t>, std::vector<void*>> freed_;
  std::unordered_map<void*, size_t> lent_;
};
MemoryCache& memory_cache() {
  static MemoryCache& cache = *new MemoryCache;  // tensors of static storage duration are freed after everything else
  return cache;
}
constexpr size_t kGranule = 512;

}  // namespace

Result<int> device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess)
    return make_status(StatusCode::unavailable, "no CUDA device: ", cudaGetErrorString(error), " (",
                       cudaGetErrorName(error), "); install the NVIDIA driver, or run with --device cpu");
  if (count == 0)
    return make_status(StatusCode::unavailable,
                       "no CUDA device is visible; look at CUDA_VISIBLE_DEVICES, or run with --device cpu");
  return count;
}

DeviceProperties device_properties(int device) {
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, device), "reading the properties of device ", device);
  return {p.name, p.major, p.minor, p.multiProcessorCount, p.totalGlobalMem};
}

void device_select(int device) {
  check(cudaSetDevice(device), "selecting device ", device);
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "finding the memory pool of device ", device);
  uint64_t keep = UINT64_MAX;  // by default the pool gives everything back to the system at each synchronisation
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "configuring the memory pool");
}

Stream stream_create() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return stream;
}
void stream_destroy(Stream stream) {
  memory_cache().empty(stream);
  check(cudaStreamDestroy(native(stream)), "destroying a stream");
}
void stream_synchronize(Stream stream) { check(cudaStreamSynchronize(native(stream)), "waiting for a stream"); }

void* memory_allocate(size_t bytes, Stream stream) {
  const size_t rounded = (bytes + kGranule - 1) / kGranule * kGranule;
  void* p = memory_cache().take(rounded, stream);
  if (!p) {
    cudaError_t error = cudaMallocAsync(&p, rounded, native(stream));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      memory_cache().empty();
      check(cudaDeviceSynchronize(), "waiting for memory to be free");
      error = cudaMallocAsync(&p, rounded, native(stream));
    }
    check(error, "allocating ", bytes, " bytes");
  }
  memory_cache().lend(p, rounded);
  return p;
}
void memory_free(void* device, Stream stream) { memory_cache().give(device, stream); }

void copy_to_device(void* device, const void* host, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, native(stream)), "copying ", bytes,
        " bytes to the device");
  check(cudaStreamSynchronize(native(stream)), "waiting for a copy of ", bytes, " bytes to the device");
}
void copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, native(stream)), "copying ", bytes,
        " bytes to the host");
  check(cudaStreamSynchronize(native(stream)), "waiting for a copy of ", bytes, " bytes to the host");
}
void copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)), "copying ", bytes,
        " bytes on the device");
}
void memory_set(void* device, int byte, size_t bytes, Stream stream) {
  check(cudaMemsetAsync(device, byte, bytes, native(stream)), "setting ", bytes, " bytes on the device");
}

void launch_raw(const RawLaunch& what) {
  if (what.shared_bytes > kSharedWithoutAsking)
    check(cudaFuncSetAttribute(what.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(what.shared_bytes)),
          "asking for ", what.shared_bytes, " bytes of shared memory for ", what.name);
  check(cudaLaunchKernel(what.function, dim3(what.grid.x, what.grid.y, what.grid.z),
                         dim3(what.block.x, what.block.y, what.block.z), what.arguments, what.shared_bytes,
                         native(what.stream)),
        "launching ", what.name);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
