// cuda/runtime.h over the CUDA runtime.
#include <cuda_runtime_api.h>

#include <cstdint>

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
void stream_destroy(Stream stream) { check(cudaStreamDestroy(native(stream)), "destroying a stream"); }
void stream_synchronize(Stream stream) { check(cudaStreamSynchronize(native(stream)), "waiting for a stream"); }

// The runtime's stream-ordered pool: no wait for the device on either side.
void* memory_allocate(size_t bytes, Stream stream) {
  void* p = nullptr;
  check(cudaMallocAsync(&p, bytes, native(stream)), "allocating ", bytes, " bytes");
  return p;
}
void memory_free(void* device, Stream stream) { check(cudaFreeAsync(device, native(stream)), "freeing ", device); }

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
