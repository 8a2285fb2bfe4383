// oneDNN as the fast path of the CPU kernels; without it every call declines.
#pragma once

#include "core/kernel_api.h"

namespace sinew::onednn {

// version(): "2.6.3", or "" without it.
// gemm(): false when oneDNN does not serve these arguments (type, size) and our own kernel should.
#if SINEW_HAVE_ONEDNN
bool gemm(const kernel::GemmArgs& args);
const char* version();
#else
inline bool gemm(const kernel::GemmArgs&) { return false; }
inline const char* version() { return ""; }
#endif

}  // namespace sinew::onednn
