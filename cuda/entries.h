// The backend's entries of core's kernel table; cuda/install.cpp puts them there. Each lives in the .cpp of its family.
#pragma once

#include "core/kernel_api.h"
#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {

void unary(const kernel::UnaryArgs& args);
void reduce(const kernel::ReduceArgs& args);
void gemm(const kernel::GemmArgs& args);
void conv_forward(const kernel::ConvArgs& args);
void conv_dx(const kernel::ConvArgs& args);
void conv_dw(const kernel::ConvArgs& args);

// The stream all work of this process goes to: kernels, copies and allocations of all threads are in one order,
// so a block of memory may be freed by another thread than the one that used it.
Stream stream();

}  // namespace sinew::cuda::SINEW_CUDA_NS
