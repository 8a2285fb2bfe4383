// What the entries of the table do when the vendor's kernels are chosen (cuda/vendor.h).
#pragma once

#include "core/kernel_api.h"
#include "cuda/vendor.h"
#include "cuda/vendor/cudnn.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// The product without bias and activation, C of type `c`. REQUIRES: vendor, k > 0.
void vendor_product(const kernel::GemmArgs& args, DType c);
// All that the entry does; or false, and no result is written.
bool vendor_convolution(CudnnKind kind, const kernel::ConvArgs& args);

}  // namespace sinew::cuda::SINEW_CUDA_NS
