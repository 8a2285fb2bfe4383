// The namespace of this build of the backend: `sinew::cuda::real` over the CUDA runtime, `sinew::cuda::emulated`
// on the CPU. Both are inline namespaces, so users write sinew::cuda::install(), and both builds link into one program.
#pragma once

#if defined(SINEW_CUDA_EMULATE)
#define SINEW_CUDA_NS emulated
#else
#define SINEW_CUDA_NS real
#endif

namespace sinew::cuda {
inline namespace SINEW_CUDA_NS {}
}  // namespace sinew::cuda
