// cuda/timer.h over the CUDA runtime.
#include <cuda_runtime_api.h>

#include "cuda/entries.h"
#include "cuda/timer.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

void check(cudaError_t error, const char* attempted) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky must not be seen by the next call
  SINEW_FAIL("cuda", attempted, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

cudaEvent_t create() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "creating an event");
  return event;
}

cudaEvent_t native(void* event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

Timer::Timer() : begin_(create()), end_(create()) {}

Timer::~Timer() {
  cudaEventDestroy(native(begin_));
  cudaEventDestroy(native(end_));
}

void Timer::start() {
  check(cudaEventRecord(native(begin_), static_cast<cudaStream_t>(stream())), "recording an event");
}

double Timer::stop() {
  check(cudaEventRecord(native(end_), static_cast<cudaStream_t>(stream())), "recording an event");
  check(cudaEventSynchronize(native(end_)), "waiting for an event");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, native(begin_), native(end_)), "reading a time");
  return static_cast<double>(milliseconds) / 1e3;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
