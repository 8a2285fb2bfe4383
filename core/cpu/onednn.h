// oneDNN as the fast path of the CPU kernels; without it every call declines.
#pragma once

#include "core/kernel_api.h"

namespace sinew::onednn {

// version(): "2.6.3", or "" without it.
// The others return false when oneDNN does not serve these arguments (type, size) and our own kernel should.
#if SINEW_HAVE_ONEDNN
bool gemm(const kernel::GemmArgs& args);
bool conv_forward(const kernel::ConvArgs& args);
bool conv_dx(const kernel::ConvArgs& args);
bool conv_dw(const kernel::ConvArgs& args);
const char* version();
#else
inline bool gemm(const kernel::GemmArgs&) { return false; }
inline bool conv_forward(const kernel::ConvArgs&) { return false; }
inline bool conv_dx(const kernel::ConvArgs&) { return false; }
inline bool conv_dw(const kernel::ConvArgs&) { return false; }
inline const char* version() { return ""; }
#endif

}  // namespace sinew::onednn
