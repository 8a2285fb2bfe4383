// Marks the functions that the CPU's kernels, compiled once per instruction set, share with each other and with CUDA's:
// always inlined, so that no file hands code for a wider instruction set to another through the linker.
#pragma once

#if defined(__CUDACC__)
#define SINEW_HD __host__ __device__ __forceinline__
#else
#define SINEW_HD inline __attribute__((always_inline))
#endif
