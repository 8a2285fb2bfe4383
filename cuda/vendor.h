// NVIDIA's cuBLAS and cuDNN in place of our kernels for matrix products and convolutions.
//
//   Status s = cuda::set_matmul_kernels(cuda::MatmulKernels::vendor);   // after install()
//   if (!s.ok()) ...                                                    // one line: which library is missing
//
// The libraries are opened then, or the files that the environment's SINEW_CUBLAS and SINEW_CUDNN name (the emulated
// device knows no others). They take TF32 where set_matmul_precision allows it. Ours stay for what they do not do:
// convolutions of f64, with extents of more than 31 bits, and those for which cuDNN has no algorithm that repeats its
// bits within 256 MiB: what it suggests is used in its order, and what it then refuses to compute is remembered. While
// a graph is recorded an algorithm that has not computed yet is tried first, outside of the recording. Bias and
// activation are ours, after them, on a result that is rounded in bf16. Gradients of filters in bf16 are rounded to
// bf16 by cuDNN, ours are not; what is added to a result in bf16 is not rounded before, by ours it is.
//
// Thread safety: as set_matmul_precision (cuda/install.h); holds for the process, for what begins later.
#pragma once

#include <cstdint>

#include "core/status.h"
#include "cuda/namespace.h"

namespace sinew::cuda {
inline namespace SINEW_CUDA_NS {

enum class MatmulKernels : uint8_t { own, vendor };
// unavailable when a library is missing or does not start; nothing changes then.
Status set_matmul_kernels(MatmulKernels value);
MatmulKernels matmul_kernels();

}  // namespace SINEW_CUDA_NS
}  // namespace sinew::cuda
