// Puts the CUDA backend into core's slot for Device::cuda. Programs, tests and benchmarks call it; libraries never do.
//
//   #if SINEW_HAVE_CUDA                    // defined by linking sinew::cuda
//   Status s = cuda::install();
//   if (!s.ok()) ...                       // one line: what is missing and what to do
//   #endif
//   Tensor x = Tensor::ones({2, 3}, DType::f32, Device::cuda);
//
// The process uses device 0 of those it sees (CUDA_VISIBLE_DEVICES) and one stream, so all work of all threads is in
// one order. Every entry of the table is there.
#pragma once

#include "core/status.h"
#include "cuda/namespace.h"

namespace sinew::cuda {
inline namespace SINEW_CUDA_NS {

// unavailable without a driver or a device; later calls return what the first one did. Not thread safe against
// use of the table, like set_kernel_table.
Status install();

}  // namespace SINEW_CUDA_NS
}  // namespace sinew::cuda
