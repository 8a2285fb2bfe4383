// The backend's entries of core's kernel table; cuda/install.cpp puts them there. Each lives in the .cpp of its family.
#pragma once

#include "core/kernel_api.h"
#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {

#define SINEW_ENTRY(name, Args) void name(const kernel::Args& args);
SINEW_KERNELS(SINEW_ENTRY)
#undef SINEW_ENTRY

// The stream all work of this process goes to: kernels, copies and allocations of all threads are in one order,
// so a block of memory may be freed by another thread than the one that used it.
Stream stream();

}  // namespace sinew::cuda::SINEW_CUDA_NS
