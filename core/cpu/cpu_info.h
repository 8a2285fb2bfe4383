// What the CPU backend runs on.
#pragma once

#include "core/kernel_api.h"

namespace sinew {

// "x86-64-v4" ...: the instruction set the kernels use on this machine.
const char* cpu_isa_name();
// Our own gemm, without oneDNN: the oracle.
void reference_gemm(const kernel::GemmArgs& args);
// The convolutions that the table chooses between: our own, the oracle, and oneDNN's where it serves the arguments
// (f32, and ours elsewhere; the same as ours in builds without it). For tests and benchmarks.
struct ConvKernels {
  void (*forward)(const kernel::ConvArgs&);
  void (*dx)(const kernel::ConvArgs&);
  void (*dw)(const kernel::ConvArgs&);
  bool (*pair)(const kernel::ConvPairArgs&) = nullptr;
};
ConvKernels own_conv();
ConvKernels onednn_conv();
// Threads of a parallel region started by this thread (1 without OpenMP).
int num_threads();
// Sets it for regions started by the calling thread. Part of a run's identity on machines where a library's results
// depend on it.
void set_num_threads(int n);

}  // namespace sinew
