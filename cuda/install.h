// Puts the CUDA backend into core's slot for Device::cuda. Programs, tests and benchmarks call it; libraries never do.
//
//   #if SINEW_HAVE_CUDA                    // defined by linking sinew::cuda
//   Status s = cuda::install();
//   if (!s.ok()) ...                       // one line: what is missing and what to do
//   #endif
//   Tensor x = Tensor::ones({2, 3}, DType::f32, Device::cuda);
//
// The process uses device 0 of those it sees (CUDA_VISIBLE_DEVICES; `sinew train` gives each of its processes one) and
// one stream, so all work of all threads is in one order. Every entry of the table is there.
#pragma once

#include <cstdint>

#include "core/status.h"
#include "cuda/namespace.h"

namespace sinew::cuda {
inline namespace SINEW_CUDA_NS {

// unavailable without a driver or a device; later calls return what the first one did. Not thread safe against
// use of the table, like set_kernel_table.
Status install();
// How many devices the process sees; 0 without a driver.
int devices();

// What f32 products and convolutions may be computed with: the ordinary units, or the tensor cores, which round the
// factors to 10 bits of mantissa (sums stay f32) where the operands allow accesses of 16 bytes: rows of multiples of 4
// elements. Any thread may set it; it holds for the process, for what begins later.
enum class MatmulPrecision : uint8_t { f32, tf32 };
void set_matmul_precision(MatmulPrecision value);
MatmulPrecision matmul_precision();

}  // namespace SINEW_CUDA_NS
}  // namespace sinew::cuda
