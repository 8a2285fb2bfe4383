// The language kernels are written in, and the only header they include for it. nvcc gets the real thing; another
// C++ compiler gets cuda/emulate/device.h, which runs the same source on the CPU. No CUDA API here.
//
// A kernel is `__global__ void name(plain values and pointers)`, with threadIdx, blockIdx, blockDim, gridDim and
// __launch_bounds__ as in CUDA. It does not return before its last block_sync(). Everything else goes through these
// names:
//
//   SINEW_SHARED(type, name, [8][32])    shared array of fixed size; contents undefined (the emulation: NaN)
//   SINEW_DYNAMIC_SHARED(type, name)     pointer to the launch's shared_bytes, 1024-byte aligned; once per kernel
//   SINEW_CLUSTER(2)                     before __launch_bounds__: two blocks in x are a cluster, whose threads
//                                        meet and write to each other's shared memory; sm_90 and later
//   SINEW_UNROLL                         before a loop of constant length
//   SINEW_DEVICE                         a function kernels call
//   block_sync()                         barrier of all threads of the block
//   cluster_sync()                       barrier of all threads of the cluster's blocks, but of those that have ended
//   cluster_store(own, rank, value)      16 bytes to where `own`, in this block's shared memory, lies in that of the
//                                        cluster's block `rank` (blockIdx.x % 2): there after a cluster_sync; before it
//                                        another one, that it is there and its memory free. It may not end before
//   warp_sync()                          barrier of the warp: what its lanes wrote before is there for them
//   warp_shuffle(value, lane)            value of that lane; shuffles and votes do not order memory, and all lanes of
//                                        the warp take part
//   warp_shuffle_xor(value, mask)        value of lane (own ^ mask)
//   warp_shuffle_up(value, distance)     value of lane (own - distance); the own one where there is none
//   warp_shuffle_down(value, distance)   value of lane (own + distance); the own one where there is none
//   warp_ballot(flag)                    bit l is lane l's flag; warp_any(flag), warp_all(flag)
//   atomic_add(pointer, value)           relaxed; returns the old value
//   read_unguarded(pointer)              what is there, or anything else while another thread writes it: must not
//                                        matter
//   sin_cos_pi(x, &sin, &cos)            of pi x, exact in the reduction of x: no pi to subtract
//   Pack<T>                              16 bytes of T, moved in one access; its address is 16-byte aligned
//   as_vector<To>(pointer)               the address of a Pack or the like, which the emulation checks
//
// Of sm_80 and later; those of a warp need all its 32 lanes. Registers and lanes: the PTX manual's tables, and
// tests/cuda/tensor_test.cpp.
//   copy_async(shared, global, there)    starts copying 16 aligned bytes; zeros unless `there`, and global is not read
//   copy_async_commit()                  the thread's copies since the last call are a group
//   copy_async_wait<n>()                 until all but the last n groups of the thread are done (for it: others see
//   them
//                                        after a block_sync)
//   load_matrices(registers[4], row)     ldmatrix: four matrices of 8 rows of 16 bytes, lane l gives row l % 8 of
//   matrix
//                                        l / 8; register j is word (l / 4, l % 4) of matrix j
//   load_matrices_transposed(...)        the same of elements of 16 bits, transposed: register j is rows 2 (l % 4) and
//                                        the next of column l / 4 of matrix j
//   to_tf32(x)                           x rounded to TF32 (10 bits of mantissa), as a register of the next
//   mma_tf32(d[4], a[4], b[2])           d += a b, m16n8k8, inputs cut to TF32, sums in float
//   mma_bf16(d[4], a[4], b[2])           d += a b, m16n8k16, two bf16 a register
//
// Of sm_90a alone; a warpgroup is four warps from a multiple of four on, all of whose threads take part.
//   matrix_descriptor(shared, leading, stride)   an operand for wgmma in rows of 128 bytes, whose groups of 16 bytes
//                                        lie at (group ^ row % 8); eight rows are a block of 1024 bytes, at a multiple
//                                        of that. Along k, rows are the operand's and blocks `stride` bytes apart; else
//                                        rows are k with 64 of the operand, blocks of 8 k are `stride` bytes apart and
//                                        the next 64 `leading` bytes
//   wgmma<n, transposed a, transposed b>(d[n / 2], a, b)   d += a b, m64 n k16 of bf16, in its own time; transposed:
//                                        memory does not run along k. d[4 j + 2 i + e] is row 16 (warp % 4) + l / 4 + 8
//                                        i, column 8 j + 2 (l % 4) + e
//   wgmma_tf32<n>(d[n / 2], a, b)        the same, m64 n k8 of f32, inputs cut to TF32; memory runs along k
//   wgmma_fence()                        before the first wgmma, and before the next one after each wgmma_wait, since
//                                        registers may have been touched (the emulation insists)
//   wgmma_commit(), wgmma_wait<n>()      like copies: until all but the last n groups are done
//   proxy_fence()                        the thread's writes to shared memory are there for wgmma (after a block_sync
//                                        for that of others)
//   Mbarrier                             8 bytes of shared memory, SINEW_SHARED(Mbarrier, ready, [4]), which count
//                                        arrivals of threads and bytes of copies; when all of a phase are there, it is
//                                        complete and the next one begins
//   mbarrier_init(barrier, arrivals)     by one thread, which then calls mbarrier_init_fence(), before a block_sync;
//                                        arrivals: of each phase
//   mbarrier_arrive(barrier)             what the thread has done is there for those who wait for the phase
//   mbarrier_arrive_expect(barrier, bytes)   the phase also waits for so many bytes more
//   mbarrier_wait(barrier, parity)       until the phase of that parity is complete: returns at once unless it is the
//                                        present one. The first phase is 0, so that parity 1 does not wait in it
//                                        On the device for 20 seconds at most: then the kernel ends with an error
//   mbarrier_invalidate(barrier)         before its memory is used for something else
//   prefetch_map(&map)                   by one thread: the map's next use need not wait for it
//   load_box(shared, &map, barrier, x, y[, z])   by one thread: copies the box from there on of a tensor (TensorMap, a
//                                        parameter `const __grid_constant__ TensorMap map`) to shared memory at a
//                                        multiple of 128 bytes (1024 where wgmma reads it); zeros outside the tensor.
//                                        x is a multiple of 16 bytes. All bytes of the box count on the mbarrier
//   load_pixels(shared, &map, barrier, c, w, h, n, tap_w, tap_h)   likewise, of a map of pixels (PixelBoxes): its box
//                                        of the channels from c on and the pixels from (n, h, w) on, which are before
//                                        the move by the tap
#pragma once

#include <stdint.h>

#include "cuda/namespace.h"

#if defined(__CUDACC__)

#define SINEW_FUNCTOR_NS functor_cuda
#define SINEW_DEVICE __device__ __forceinline__
#define SINEW_UNROLL _Pragma("unroll")
#define SINEW_CLUSTER(blocks) __cluster_dims__(blocks, 1, 1)
#define SINEW_SHARED(type, name, extents) __shared__ type name extents
#define SINEW_DYNAMIC_SHARED(type, name)                                   \
  extern __shared__ __align__(1024) unsigned char sinew_dynamic_shared_[]; \
  type* const name = reinterpret_cast<type*>(sinew_dynamic_shared_)

namespace sinew::cuda::SINEW_CUDA_NS {

SINEW_DEVICE void block_sync() { __syncthreads(); }

constexpr unsigned kWholeWarp = 0xffffffffu;
SINEW_DEVICE void warp_sync() { __syncwarp(); }
SINEW_DEVICE uint32_t warp_ballot(bool flag) { return __ballot_sync(kWholeWarp, flag); }
SINEW_DEVICE bool warp_any(bool flag) { return __any_sync(kWholeWarp, flag) != 0; }
SINEW_DEVICE bool warp_all(bool flag) { return __all_sync(kWholeWarp, flag) != 0; }

// Any trivial type: moved in words of 4 bytes, smaller ones widened. shuffle: of one word.
template <class T, class Shuffle>
SINEW_DEVICE T shuffled(T value, Shuffle shuffle) {
  if constexpr (sizeof(T) % 4 != 0) {
    return static_cast<T>(static_cast<int>(shuffle(static_cast<unsigned>(static_cast<int>(value)))));
  } else {
    unsigned words[sizeof(T) / 4];
    memcpy(words, &value, sizeof(T));
    SINEW_UNROLL
    for (unsigned& word : words) word = shuffle(word);
    memcpy(&value, words, sizeof(T));
    return value;
  }
}
template <class T>
SINEW_DEVICE T warp_shuffle_xor(T value, int mask) {
  return shuffled(value, [mask](unsigned word) { return __shfl_xor_sync(kWholeWarp, word, mask); });
}
template <class T>
SINEW_DEVICE T warp_shuffle(T value, int lane) {
  return shuffled(value, [lane](unsigned word) { return __shfl_sync(kWholeWarp, word, lane); });
}
template <class T>
SINEW_DEVICE T warp_shuffle_up(T value, int distance) {
  return shuffled(value, [distance](unsigned word) { return __shfl_up_sync(kWholeWarp, word, unsigned(distance)); });
}
template <class T>
SINEW_DEVICE T warp_shuffle_down(T value, int distance) {
  return shuffled(value, [distance](unsigned word) { return __shfl_down_sync(kWholeWarp, word, unsigned(distance)); });
}

template <class T>
SINEW_DEVICE T atomic_add(T* pointer, T value) {
  return atomicAdd(pointer, value);
}

template <class To, class T>
SINEW_DEVICE To* as_vector(T* pointer) {
  return reinterpret_cast<To*>(pointer);
}

template <class T>
SINEW_DEVICE T read_unguarded(const T* pointer) {
  return *pointer;
}

SINEW_DEVICE void sin_cos_pi(float x, float* sin, float* cos) { sincospif(x, sin, cos); }
SINEW_DEVICE void sin_cos_pi(double x, double* sin, double* cos) { sincospi(x, sin, cos); }

SINEW_DEVICE uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

SINEW_DEVICE void copy_async(void* shared, const void* global, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(there ? 16 : 0)
               : "memory");
}
SINEW_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
SINEW_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

SINEW_DEVICE void load_matrices(uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row)));
}

SINEW_DEVICE void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row)));
}

SINEW_DEVICE uint32_t to_tf32(float x) {
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
}

SINEW_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

SINEW_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

SINEW_DEVICE uint64_t matrix_descriptor(const void* shared, uint32_t leading, uint32_t stride) {
  return uint64_t(shared_address(shared) >> 4 & 0x3fffu) | uint64_t(leading >> 4 & 0x3fffu) << 16 |
         uint64_t(stride >> 4 & 0x3fffu) << 32 | uint64_t(1) << 62;
}
SINEW_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
SINEW_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
SINEW_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
SINEW_DEVICE void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace sinew::cuda::SINEW_CUDA_NS

#include "cuda/device/bulk.cuh"
#include "cuda/device/wgmma.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

template <int kN, bool kTransposedA, bool kTransposedB>
SINEW_DEVICE void wgmma(float (&d)[kN / 2], uint64_t a, uint64_t b) {
  Wgmma<kN, kTransposedA, kTransposedB>::multiply(d, a, b);
}
template <int kN>
SINEW_DEVICE void wgmma_tf32(float (&d)[kN / 2], uint64_t a, uint64_t b) {
  WgmmaTf32<kN>::multiply(d, a, b);
}
// The registers may have changed since.
template <int kCount>
SINEW_DEVICE void wgmma_results(float (&d)[kCount]) {
  SINEW_UNROLL
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

}  // namespace sinew::cuda::SINEW_CUDA_NS

#else
#if !defined(SINEW_CUDA_EMULATE)
#error "kernel files are compiled by nvcc, or by the host compiler with SINEW_CUDA_EMULATE defined"
#endif
#define SINEW_FUNCTOR_NS functor_emulated
#include "cuda/emulate/device.h"
#endif

namespace sinew::cuda::SINEW_CUDA_NS {

template <class T>
struct alignas(16) Pack {
  static constexpr int kWidth = 16 / sizeof(T);
  T v[kWidth];
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
