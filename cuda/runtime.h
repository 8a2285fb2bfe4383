// What the host side of the backend needs of a CUDA device, in our words. Two implementations: runtime_cuda.cpp over
// the CUDA runtime, emulate/runtime.cpp on the CPU. Kernels are launched through cuda/launch.h.
//
// Errors: device_count() says what is missing as a Status; everything else throws sinew::Error that says what was
// attempted, with which sizes, and the runtime's answer. A kernel that failed on the GPU is reported by the next call
// that waits, with the last launches of the process.
//
// Thread safety: all functions may be called from any thread. Work on one stream is ordered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/status.h"
#include "cuda/namespace.h"
#include "cuda/tensor_map.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// cudaStream_t on a real device.
using Stream = void*;

struct DeviceProperties {
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  size_t memory_bytes = 0;
  uint64_t identity = 0;  // the same in all processes that use the device
};

// At least 1, or unavailable: no driver, no device.
Result<int> device_count();
DeviceProperties device_properties(int device);
// The calling thread's device from here on; its allocator keeps what is freed for the next allocation.
void device_select(int device);

Stream stream_create();
void stream_destroy(Stream stream);
void stream_synchronize(Stream stream);
// Whether all work on the stream is done; does not wait.
bool stream_finished(Stream stream);

// Device memory, 256-byte aligned, usable by work enqueued on `stream` later; contents undefined (the emulation: NaN).
void* memory_allocate(size_t bytes, Stream stream);
// Freed once the work on `stream` so far is done.
void memory_free(void* device, Stream stream);
// The host buffer is free again on return.
void copy_to_device(void* device, const void* host, size_t bytes, Stream stream);
// Returns when the data is there.
void copy_to_host(void* host, const void* device, size_t bytes, Stream stream);
void copy_on_device(void* to, const void* from, size_t bytes, Stream stream);
// Page-locked host memory, which the device copies to and from by itself; contents undefined (the emulation: NaN).
// Freed blocks are kept for the next request of about their size (pinned_cache.h).
void* pinned_allocate(size_t bytes);
void pinned_free(void* host);
// Begin a copy in the order of the stream, and return. `pinned` is the copy's until copy_wait, once for each copy.
using BegunCopy = void*;
BegunCopy copy_to_device_begin(void* device, const void* pinned, size_t bytes, Stream stream);
BegunCopy copy_to_host_begin(void* pinned, const void* device, size_t bytes, Stream stream);
void copy_wait(BegunCopy copy);
void memory_set(void* device, int byte, size_t bytes, Stream stream);

// What make_tensor_map of checked boxes is; strides beyond the rank are not used.
TensorMap encode_tensor_map(const TensorBoxes& boxes);
TensorMap encode_pixel_map(const PixelBoxes& boxes);

// Work recorded as a graph. From record_begin on what this thread enqueues on `stream` is recorded, not done; calls
// that wait for the device are Errors. What memory_allocate returns meanwhile stays with the graph until
// record_release. record_end returns nullptr with keep = false. Other threads' calls of this header wait while one
// records.
// What was recorded after record_mark can be renewed: from record_renew(work, true) to record_renew(work, false) this
// thread's calls are not done, but take the places of the recorded ones in their order. A launch takes the place of any
// launch; copies and memory_set must be as recorded. Neither recording after the mark nor renewing may allocate.
// record_launch is an Error when calls are missing.
using RecordedWork = void*;
void record_begin(Stream stream);
void record_mark();
RecordedWork record_end(Stream stream, bool keep);
void record_renew(RecordedWork work, bool on);
void record_launch(RecordedWork work, Stream stream);
void record_release(RecordedWork work, Stream stream);

}  // namespace sinew::cuda::SINEW_CUDA_NS
