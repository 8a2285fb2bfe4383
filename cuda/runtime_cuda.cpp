// cuda/runtime.h over the CUDA runtime.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "cuda/launch.h"
#include "cuda/memory_cache.h"
#include "cuda/recording.h"
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

MemoryCache& memory_cache() {
  static MemoryCache& cache = *new MemoryCache;  // tensors of static storage duration are freed after everything else
  return cache;
}
constexpr size_t kGranule = 512;

void give_back(std::optional<Stream> of) {
  memory_cache().empty(of, [](void* p, Stream stream) { (void)cudaFreeAsync(p, native(stream)); });
}

// Allocations while a stream records must not be part of the recording: they are made on another one.
void* allocate_for_recording(size_t bytes) {
  static const cudaStream_t side = [] {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    return stream;
  }();
  void* p = nullptr;
  check(cudaMallocAsync(&p, bytes, side), "allocating ", bytes, " bytes for a graph");
  check(cudaStreamSynchronize(side), "waiting for ", bytes, " bytes");
  return p;
}

struct RecordedGraph {
  cudaGraphExec_t executable = nullptr;
  std::unique_ptr<MemoryCache::Kept> memory;
};

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
  uint64_t identity = 0xcbf29ce484222325ull;  // FNV-1a of the UUID
  for (const char byte : p.uuid.bytes) identity = (identity ^ static_cast<unsigned char>(byte)) * 0x100000001b3ull;
  return {p.name, p.major, p.minor, p.multiProcessorCount, p.totalGlobalMem, identity};
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
  give_back(stream);
  check(cudaStreamDestroy(native(stream)), "destroying a stream");
}
void stream_synchronize(Stream stream) {
  const DeviceUse use("waiting for the device");
  check(cudaStreamSynchronize(native(stream)), "waiting for a stream");
}

bool stream_finished(Stream stream) {
  const DeviceUse use("asking the device");
  const cudaError_t error = cudaStreamQuery(native(stream));
  if (error == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(error, "asking whether a stream is done");
  return true;
}

void* memory_allocate(size_t bytes, Stream stream) {
  const DeviceUse use;
  const size_t rounded = (bytes + kGranule - 1) / kGranule * kGranule;
  void* p = memory_cache().take(rounded, stream);
  if (!p && Recording::here()) p = allocate_for_recording(rounded);
  if (!p) {
    cudaError_t error = cudaMallocAsync(&p, rounded, native(stream));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      give_back({});
      check(cudaDeviceSynchronize(), "waiting for memory to be free");
      error = cudaMallocAsync(&p, rounded, native(stream));
    }
    check(error, "allocating ", bytes, " bytes");
  }
  memory_cache().lend(p, rounded);
  return p;
}
void memory_free(void* device, Stream stream) {
  const DeviceUse use;
  memory_cache().give(device, stream);
}

void copy_to_device(void* device, const void* host, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the device");
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, native(stream)), "copying ", bytes,
        " bytes to the device");
  check(cudaStreamSynchronize(native(stream)), "waiting for a copy of ", bytes, " bytes to the device");
}
void copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the host");
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, native(stream)), "copying ", bytes,
        " bytes to the host");
  check(cudaStreamSynchronize(native(stream)), "waiting for a copy of ", bytes, " bytes to the host");
}
void copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  const DeviceUse use;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)), "copying ", bytes,
        " bytes on the device");
}
void memory_set(void* device, int byte, size_t bytes, Stream stream) {
  const DeviceUse use;
  check(cudaMemsetAsync(device, byte, bytes, native(stream)), "setting ", bytes, " bytes on the device");
}

void record_begin(Stream stream) {
  Recording::instance().mutex.lock();
  Recording::here() = true;
  memory_cache().record();
  const cudaError_t error = cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed);
  if (error == cudaSuccess) return;
  memory_cache().forget(*memory_cache().stop(), stream);
  Recording::here() = false;
  Recording::instance().mutex.unlock();
  check(error, "beginning a graph");
}

RecordedWork record_end(Stream stream, bool keep) {
  cudaGraph_t graph = nullptr;
  cudaError_t error = cudaStreamEndCapture(native(stream), &graph);
  auto recorded = std::make_unique<RecordedGraph>();
  recorded->memory = memory_cache().stop();
  Recording::here() = false;
  Recording::instance().mutex.unlock();
  if (error == cudaSuccess && keep) error = cudaGraphInstantiate(&recorded->executable, graph, 0);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  if (keep && error == cudaSuccess) return recorded.release();
  memory_cache().forget(*recorded->memory, stream);
  if (!keep) {
    cudaGetLastError();  // a recording that was given up may have been invalid
    return nullptr;
  }
  check(error, "making a graph");
  return nullptr;
}

void record_launch(RecordedWork work, Stream stream) {
  const DeviceUse use;
  check(cudaGraphLaunch(static_cast<RecordedGraph*>(work)->executable, native(stream)), "launching a graph");
}

void record_release(RecordedWork work, Stream stream) {
  const DeviceUse use;
  const std::unique_ptr<RecordedGraph> recorded(static_cast<RecordedGraph*>(work));
  check(cudaGraphExecDestroy(recorded->executable), "releasing a graph");
  memory_cache().forget(*recorded->memory, stream);
}

void launch_raw(const RawLaunch& what) {
  const DeviceUse use;
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
