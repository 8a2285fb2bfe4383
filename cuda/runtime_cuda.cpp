// cuda/runtime.h over the CUDA runtime.
#include <cuda.h>  // types only: libcuda is not linked
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda/launch.h"
#include "cuda/launch_log.h"
#include "cuda/memory_cache.h"
#include "cuda/pinned_cache.h"
#include "cuda/recording.h"
#include "cuda/runtime.h"
#include "cuda/vendor/library.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr size_t kSharedWithoutAsking = 48 * 1024;

template <class... Parts>
void check(cudaError_t error, const Parts&... attempted) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky must not be seen by the next call
  SINEW_FAIL("cuda", attempted..., ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

// Of a call that waits: what is wrong may be a kernel of before.
template <class... Parts>
void check_done(cudaError_t error, const Parts&... attempted) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  SINEW_FAIL("cuda", attempted..., ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")",
             LaunchLog::instance().text());
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

// What must not be part of a recording is done on another stream than the recorded one.
cudaStream_t side_stream() {
  static const cudaStream_t side = [] {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    return stream;
  }();
  return side;
}
// Marks the end of the work on the recorded stream that came before the recording.
cudaEvent_t before_recording() {
  static const cudaEvent_t event = [] {
    cudaEvent_t made = nullptr;
    check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "creating an event");
    return made;
  }();
  return event;
}
void* allocate_for_recording(size_t bytes) {
  void* p = nullptr;
  cudaError_t error = cudaMallocAsync(&p, bytes, side_stream());
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    check_done(cudaEventSynchronize(before_recording()), "waiting for memory to be free");
    memory_cache().empty_recording([](void* unused) { (void)cudaFreeAsync(unused, side_stream()); });
    give_back({});
    check_done(cudaStreamSynchronize(side_stream()), "waiting for memory to be free");
    error = cudaMallocAsync(&p, bytes, side_stream());
  }
  check(error, "allocating ", bytes, " bytes for a graph");
  check(cudaStreamSynchronize(side_stream()), "waiting for ", bytes, " bytes");
  return p;
}

PinnedCache& pinned_cache() {
  static PinnedCache& cache = *new PinnedCache(size_t{1} << 30);
  return cache;
}

// Begins a copy; what it returns is done when the copy is. Whatever fails, no copy is left that nobody can wait for.
BegunCopy begin_copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  const cudaError_t copied = cudaMemcpyAsync(to, from, bytes, kind, stream);
  const cudaError_t marked = copied == cudaSuccess ? cudaEventRecord(event, stream) : copied;
  if (marked == cudaSuccess) return event;
  (void)cudaStreamSynchronize(stream);
  (void)cudaEventDestroy(event);
  check(marked, "copying ", bytes, kind == cudaMemcpyHostToDevice ? " bytes to the device" : " bytes to the host");
  return nullptr;
}

struct RecordedGraph {
  ~RecordedGraph() {
    if (executable != nullptr) (void)cudaGraphExecDestroy(executable);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
  }
  cudaGraph_t graph = nullptr;  // the nodes are named by it
  cudaGraphExec_t executable = nullptr;
  RenewableCalls renewable;
  std::vector<cudaGraphNode_t> nodes;  // of the renewable calls
  std::unique_ptr<MemoryCache::Kept> memory;
};
std::unique_ptr<RecordedGraph> recording;  // of the one thread that records
RecordedGraph& renewed() { return *static_cast<RecordedGraph*>(Recording::renewed()); }

// The node of the call that was recorded last: what the next one would have to wait for.
cudaGraphNode_t last_node(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaGraphNode_t* nodes = nullptr;
  size_t count = 0;
#if CUDART_VERSION >= 13000
  check(cudaStreamGetCaptureInfo(native(stream), &status, nullptr, nullptr, &nodes, nullptr, &count),
#else
  check(cudaStreamGetCaptureInfo_v2(native(stream), &status, nullptr, nullptr, &nodes, &count),
#endif
        "reading the state of a recording");
  SINEW_CHECK(status == cudaStreamCaptureStatusActive && count == 1, "cuda", "a recording has ", count,
              " last calls (state ", static_cast<int>(status), ")");
  return nodes[0];
}

// After a call of this thread.
void note_recorded(const Call& call, Stream stream) {
  recording->renewable.record(call);
  recording->nodes.push_back(last_node(stream));
}

// A copy or memory_set, which stays as it is.
void renew_same(const Call& call) { (void)renewed().renewable.renew(call); }
void renew_launch(const RawLaunch& what) {
  const std::optional<size_t> place = renewed().renewable.renew(Call(what));
  if (!place) return;
  cudaKernelNodeParams p = {};
  p.func = const_cast<void*>(what.function);
  p.gridDim = dim3(what.grid.x, what.grid.y, what.grid.z);
  p.blockDim = dim3(what.block.x, what.block.y, what.block.z);
  p.sharedMemBytes = static_cast<unsigned>(what.shared_bytes);
  p.kernelParams = what.arguments;
  check(cudaGraphExecKernelNodeSetParams(renewed().executable, renewed().nodes[*place], &p), "renewing ",
        LaunchNote(what), " in a graph");
}

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
  check_done(cudaStreamSynchronize(native(stream)), "waiting for a stream");
}

bool stream_finished(Stream stream) {
  const DeviceUse use("asking the device");
  const cudaError_t error = cudaStreamQuery(native(stream));
  if (error == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check_done(error, "asking whether a stream is done");
  return true;
}

void* memory_allocate(size_t bytes, Stream stream) {
  const DeviceUse use;
  Recording::check_stays("allocating memory");
  // No bytes have an address of their own, too.
  const size_t rounded = (std::max<size_t>(bytes, 1) + kGranule - 1) / kGranule * kGranule;
  void* p = memory_cache().take(rounded, stream);
  if (!p && Recording::here()) p = allocate_for_recording(rounded);
  if (!p) {
    cudaError_t error = cudaMallocAsync(&p, rounded, native(stream));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      give_back({});
      check_done(cudaDeviceSynchronize(), "waiting for memory to be free");
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
  check_done(cudaStreamSynchronize(native(stream)), "waiting for a copy of ", bytes, " bytes to the device");
}
void copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the host");
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, native(stream)), "copying ", bytes,
        " bytes to the host");
  check_done(cudaStreamSynchronize(native(stream)), "waiting for a copy of ", bytes, " bytes to the host");
}
void* pinned_allocate(size_t bytes) {
  const size_t rounded = PinnedCache::rounded(bytes);
  if (void* p = pinned_cache().take(rounded)) return p;  // also while another thread records
  const DeviceUse use("allocating page-locked memory");
  void* p = nullptr;
  if (cudaMallocHost(&p, rounded) != cudaSuccess) {
    cudaGetLastError();
    for (void* block : pinned_cache().empty()) (void)cudaFreeHost(block);
    check(cudaMallocHost(&p, rounded), "allocating ", rounded, " bytes of page-locked memory");
  }
  pinned_cache().lend(p, rounded);
  return p;
}
void pinned_free(void* host) {
  const std::vector<void*> too_many = pinned_cache().give(host);
  if (too_many.empty()) return;
  const DeviceUse use;
  for (void* block : too_many) (void)cudaFreeHost(block);
}
BegunCopy copy_to_device_begin(void* device, const void* pinned, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the device");
  return begin_copy(device, pinned, bytes, cudaMemcpyHostToDevice, native(stream));
}
BegunCopy copy_to_host_begin(void* pinned, const void* device, size_t bytes, Stream stream) {
  const DeviceUse use("copying to the host");
  return begin_copy(pinned, device, bytes, cudaMemcpyDeviceToHost, native(stream));
}
void copy_wait(BegunCopy copy) {
  const DeviceUse use("waiting for a copy");
  const auto event = static_cast<cudaEvent_t>(copy);
  const cudaError_t error = cudaEventSynchronize(event);
  (void)cudaEventDestroy(event);
  check_done(error, "waiting for a copy");
}
void copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  const DeviceUse use;
  const auto call = [&] { return Call("copy on the device", to, from, bytes); };
  if (Recording::mode() == RecordingMode::renewing) return renew_same(call());
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)), "copying ", bytes,
        " bytes on the device");
  if (Recording::mode() == RecordingMode::renewable) note_recorded(call(), stream);
}
void memory_set(void* device, int byte, size_t bytes, Stream stream) {
  const DeviceUse use;
  const auto call = [&] { return Call("memory_set", device, byte, bytes); };
  if (Recording::mode() == RecordingMode::renewing) return renew_same(call());
  check(cudaMemsetAsync(device, byte, bytes, native(stream)), "setting ", bytes, " bytes on the device");
  if (Recording::mode() == RecordingMode::renewable) note_recorded(call(), stream);
}

namespace {

// A function of the driver.
template <class Function>
Function* driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;
  check(cudaGetDriverEntryPointByVersion(name, &function, kSince, cudaEnableDefault, &found), "finding ", name);
#else
  check(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found), "finding ", name);
#endif
  SINEW_CHECK(found == cudaDriverEntryPointSuccess && function != nullptr, "cuda", "the driver has no ", name,
              "; drivers of CUDA 12.0 and newer have it");
  return reinterpret_cast<Function*>(function);
}
static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));
TensorMap as_tensor_map(const CUtensorMap& map) {
  TensorMap to;
  std::memcpy(&to, &map, sizeof(to));
  return to;
}

}  // namespace

TensorMap encode_tensor_map(const TensorBoxes& b) {
  static const auto encode = driver_function<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  cuuint64_t extent[TensorBoxes::kRank], stride[TensorBoxes::kRank];
  cuuint32_t box[TensorBoxes::kRank], step[TensorBoxes::kRank] = {1, 1, 1};
  for (int d = 0; d < b.rank; ++d) {
    extent[d] = static_cast<cuuint64_t>(b.extent[d]);
    box[d] = static_cast<cuuint32_t>(b.box[d]);
    if (d > 0) stride[d - 1] = static_cast<cuuint64_t>(b.stride[d]);
  }
  CUtensorMap map;
  const CUresult result =
      encode(&map, b.element_bytes == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
             static_cast<cuuint32_t>(b.rank), const_cast<void*>(b.data), extent, stride, box, step,
             CU_TENSOR_MAP_INTERLEAVE_NONE,
             b.swizzle_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
             : b.swizzle_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
             : b.swizzle_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                     : CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SINEW_CHECK(result == CUDA_SUCCESS, "cuda", "mapping a tensor of ", b.extent[0], " by ", b.rank > 1 ? b.extent[1] : 1,
              ": cuTensorMapEncodeTiled says ", static_cast<int>(result));
  return as_tensor_map(map);
}

TensorMap encode_pixel_map(const PixelBoxes& b) {
  static const auto encode = driver_function<decltype(cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  constexpr int kRank = 4;
  const auto bytes = [](int64_t elements) { return static_cast<cuuint64_t>(elements * 2); };
  const auto count = [](int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t extent[kRank] = {count(b.c), count(b.w), count(b.h), count(b.n)};
  const cuuint64_t stride[kRank - 1] = {bytes(b.c), bytes(b.w * b.c), bytes(b.h * b.w * b.c)};
  const int first[2] = {b.first_w, b.first_h}, end[2] = {b.end_w, b.end_h};
  const cuuint32_t step[kRank] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result = encode(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kRank, const_cast<void*>(b.data), extent, stride, first, end,
      static_cast<cuuint32_t>(b.channels), static_cast<cuuint32_t>(b.pixels), step, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SINEW_CHECK(result == CUDA_SUCCESS, "cuda", "mapping images (", b.n, ", ", b.h, ", ", b.w, ", ", b.c,
              "): cuTensorMapEncodeIm2col says ", static_cast<int>(result));
  return as_tensor_map(map);
}

void library_call(Stream, const std::function<void()>& call) {
  const DeviceUse use;
  Recording::check_stays("a library's call");
  call();
}
bool library_trial(size_t bytes, const std::function<void(Stream, void*)>& call) {
  const DeviceUse use;
  void* memory = nullptr;
  const cudaError_t error = cudaMallocAsync(&memory, bytes, side_stream());
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return false;
  }
  check(error, "allocating ", bytes, " bytes for a library's trial");
  call(side_stream(), memory);
  (void)cudaFreeAsync(memory, side_stream());
  check(cudaStreamSynchronize(side_stream()), "waiting for a library's trial");
  return true;
}
bool is_recording() { return Recording::here(); }

void record_begin(Stream stream) {
  const cudaEvent_t before = before_recording();
  Recording::instance().mutex.lock();
  Recording::mode() = RecordingMode::recording;
  memory_cache().record(stream);
  recording = std::make_unique<RecordedGraph>();
  cudaError_t error = cudaEventRecord(before, native(stream));
  if (error == cudaSuccess) error = cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed);
  if (error == cudaSuccess) return;
  memory_cache().forget(*memory_cache().stop(), stream);
  recording.reset();
  Recording::mode() = RecordingMode::none;
  Recording::instance().mutex.unlock();
  check(error, "beginning a graph");
}

void record_mark() {
  SINEW_CHECK(Recording::mode() == RecordingMode::recording, "cuda", "a mark belongs in a recording, once");
  Recording::mode() = RecordingMode::renewable;
}

RecordedWork record_end(Stream stream, bool keep) {
  std::unique_ptr<RecordedGraph> recorded = std::move(recording);
  cudaError_t error = cudaStreamEndCapture(native(stream), &recorded->graph);
  recorded->memory = memory_cache().stop();
  Recording::mode() = RecordingMode::none;
  Recording::instance().mutex.unlock();
  if (error == cudaSuccess && keep) error = cudaGraphInstantiate(&recorded->executable, recorded->graph, 0);
  if (keep && error == cudaSuccess) return recorded.release();
  memory_cache().forget(*recorded->memory, stream);
  if (!keep) {
    cudaGetLastError();  // a recording that was given up may have been invalid
    return nullptr;
  }
  check(error, "making a graph");
  return nullptr;
}

void record_renew(RecordedWork work, bool on) {
  Recording::renewed() = on ? work : nullptr;
  Recording::mode() = on ? RecordingMode::renewing : RecordingMode::none;
  if (on) renewed().renewable.begin();
}

void record_launch(RecordedWork work, Stream stream) {
  const DeviceUse use("launching a graph");
  const RecordedGraph& recorded = *static_cast<RecordedGraph*>(work);
  recorded.renewable.check_complete();
  check(cudaGraphLaunch(recorded.executable, native(stream)), "launching a graph");
  LaunchLog::instance().add(LaunchNote("a recorded graph"));
}

void record_release(RecordedWork work, Stream stream) {
  const DeviceUse use;
  const std::unique_ptr<RecordedGraph> recorded(static_cast<RecordedGraph*>(work));
  check(cudaGraphExecDestroy(std::exchange(recorded->executable, nullptr)), "releasing a graph");
  memory_cache().forget(*recorded->memory, stream);
}

void launch_raw(const RawLaunch& what) {
  const DeviceUse use;
  if (what.shared_bytes > kSharedWithoutAsking)
    check(cudaFuncSetAttribute(what.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(what.shared_bytes)),
          "asking for shared memory for ", LaunchNote(what));
  if (Recording::mode() == RecordingMode::renewing) return renew_launch(what);
  check(cudaLaunchKernel(what.function, dim3(what.grid.x, what.grid.y, what.grid.z),
                         dim3(what.block.x, what.block.y, what.block.z), what.arguments, what.shared_bytes,
                         native(what.stream)),
        "launching ", LaunchNote(what));
  if (Recording::mode() == RecordingMode::none) LaunchLog::instance().add(LaunchNote(what));
  if (Recording::mode() == RecordingMode::renewable) note_recorded(Call(what), what.stream);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
