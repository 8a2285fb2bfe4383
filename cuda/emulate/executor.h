// Executes a kernel on the CPU: every block one after another, those of a cluster together, every thread of a block
// really, in an order that a test chooses.
//
// A block's threads run as plain calls on one fiber until one of them has to wait (barrier, shuffle); only then
// does the next thread get a fiber of its own. A kernel without barriers thus costs two switches a block.
// A barrier or a warp collective is completed by its last arriver, which wakes the others and goes on.
//
// Errors: what a kernel does wrong (divergent barrier, a thread that ends while others wait, too much shared memory,
// a deadlock) is a sinew::Error from run(), naming kernel, block, thread and source lines. Device code must hold
// trivial objects only; fibers are unwound with an exception.
//
// Thread safety: run() may be called from several OS threads at once; each has its own executor. options() is read
// at the start of run() and is set by tests while nothing runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace sinew::cuda::emulate {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

// In which order ready threads (and blocks) take turns. A right kernel gives the same results in all of them.
enum class Order : uint8_t {
  fifo,     // ascending
  reverse,  // descending
  random,   // by Options::seed
};
struct Options {
  Order order = Order::fifo;
  uint64_t seed = 0;
  // Asynchronous copies are made when somebody waits for them, as late as may be; else at once. A missing wait shows in
  // the first case, a buffer that is still being read in the second.
  bool lazy_copies = false;
  // What fresh shared and device memory is filled with: floats that are NaN (0xFF), or finite ones and positive
  // integers (0x3C). A kernel that reads what nobody has written gives different results.
  uint8_t poison = 0xFF;
  // Checks each access to memory (accesses.h), where kernels are compiled for it: several times as slow. Off, but with
  // SINEW_CHECK_ACCESSES in the environment.
  bool accesses = false;
};
Options& options();

struct LaunchConfig {
  const char* name;
  Index grid, block;
  size_t shared_bytes;
  unsigned cluster = 1;  // blocks, along x
};
// body(context) is one thread of the kernel.
void run(const LaunchConfig& config, void (*body)(void* context), void* context);

// ---- what device code calls (cuda/emulate/device.h) ----

// What threadIdx and its like read: the running thread's place. Fibers never change OS thread.
struct Current {
  Index thread_index, block_index, block_dim, grid_dim;
};
extern thread_local constinit Current current __attribute__((tls_model("initial-exec")));

int current_lane();
void block_barrier(const std::source_location& site);
// Of all threads of the cluster that have not ended.
void cluster_barrier(const std::source_location& site);
// `bytes`, which it is aligned to, to where `own`, in this block's shared memory, lies in that of the cluster's block
// `rank`. Errors: before the cluster's first barrier, and none after it.
void cluster_store(void* own, unsigned rank, const void* value, size_t bytes, const std::source_location& site);
// lanes[i] is the record of lane i; count is the number of threads of the warp.
using WarpFunction = void (*)(void* const* lanes, int count);
void warp_collective(const char* what, void* record, WarpFunction function, const std::source_location& site);
// A barrier of the warp, which also orders its lanes' accesses to memory.
void warp_sync(const std::source_location& site);
// The block's one instance of the array that `site` names.
void* static_shared(const void* site, size_t bytes, size_t alignment);
void* dynamic_shared();
// 16 bytes to shared memory: `bytes` of them from global memory, zeros after those.
void copy_async(void* shared, const void* global, size_t bytes);
void copy_async_commit();
void copy_async_wait(unsigned pending);
// Where in shared memory that is, for descriptors, and back.
uint32_t shared_offset(const void* shared);
const void* shared_at(uint32_t offset);
// What the running thread wrote to shared memory is there for wgmma.
void proxy_fence();
// Bytes of shared memory that a wgmma of the running thread's warp reads, from there on.
void read_operand(uint32_t offset, size_t bytes);
// A warp's part of a wgmma: 16 rows of the product of two descriptors, added to d. Done when the group it is committed
// in is waited for, or at once, like asynchronous copies (that a warpgroup's other warps come too is not checked).
struct GroupProduct {
  float* d;
  uint64_t a, b;
  bool transposed_a, transposed_b;
  int warp;                           // of the warpgroup
  void (*read)(const GroupProduct&);  // read_operand of all that it reads
  void (*multiply)(const GroupProduct* const* lanes, int count);
};
void group_product(const GroupProduct& product, const std::source_location& site);
// The thread's registers are there for its next products: an Error without it before the first, and after each wait.
void group_product_fence();
void group_product_commit();
void group_product_wait(unsigned pending, const std::source_location& site);

// Of an mbarrier, 8 bytes of shared memory. Errors: one that is not initialised, initialised again, or whose memory is
// accessed otherwise before it is invalidated; more arrivals than a phase has; more bytes copied than were announced
// when all have arrived; bulk copies that complete on it before a fence; whatever waits for ever.
void mbarrier_init(void* at, unsigned arrivals, const std::source_location& site);
void mbarrier_init_fence();
void mbarrier_invalidate(void* at, const std::source_location& site);
// bytes: that bulk copies of this phase bring.
void mbarrier_arrive(void* at, unsigned bytes, const std::source_location& site);
void mbarrier_wait(void* at, unsigned parity, const std::source_location& site);
// What a tensor map holds, in the emulation: `rank` extents, boxes' and strides in bytes, innermost first.
struct TensorImage {
  static constexpr unsigned kRank = 3;
  const char* data;
  uint32_t rank, element_bytes, swizzle_bytes;  // swizzle: 0, 32, 64, 128
  uint32_t box[kRank];
  uint64_t extent[kRank], stride[kRank];
};
// A box of the tensor from `begin` on, whose bytes complete on the mbarrier; at once, or when nobody can go on.
void load_box(void* shared, const TensorImage& tensor, void* mbarrier, const int* begin,
              const std::source_location& site);
// What a map of pixels holds: images (n, h, w, c) of bf16, densely, and the range of first taps (PixelBoxes).
struct PixelImages {
  static constexpr uint32_t kKind = 0x70697865;
  const char* data;
  uint32_t kind;  // where a TensorImage has its rank
  int32_t c, w, h, n;
  int32_t first_w, last_w, first_h, last_h;
  uint32_t channels, pixels;  // of a box
};
// at: c, w, h, n, tap_w, tap_h
void load_pixels(void* shared, const PixelImages& images, void* mbarrier, const int (&at)[6],
                 const std::source_location& site);

// An access of the running thread to memory, which must be aligned, in bounds, and no race; from: where in the program.
// One that is not ends the launch before it is made. Outside of kernels nothing.
enum class Access : uint8_t { read, write, atomic };
void touch(const void* p, size_t bytes, Access access, size_t alignment, const void* from);
// memcpy that the race detector does not see.
void copy_unwatched(void* to, const void* from, size_t bytes);
// Ends the launch with an Error about the running thread.
[[noreturn]] void fail(const char* what);

}  // namespace sinew::cuda::emulate
