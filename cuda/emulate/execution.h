// The executor's inside: what runs the threads of a block, or of the blocks of a cluster (executor.cpp), and what goes
// on beside them, asynchronous copies and products and the mbarriers that they complete on (asynchronous.cpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "core/fiber.h"
#include "core/philox.h"
#include "cuda/emulate/accesses.h"
#include "cuda/emulate/executor.h"
#include "cuda/emulate/shared_arena.h"

namespace sinew::cuda::emulate {

inline constexpr int kWarpSize = 32;
inline constexpr uint32_t kMbarrierBytes = 8;

std::string place(const char* what, const std::source_location& site);

// Thrown through a kernel's frames to give its fiber back after an error.
struct Unwind {};

enum class State : uint8_t {
  fresh,
  running,
  ready,
  at_barrier,
  at_cluster_barrier,
  in_collective,
  at_mbarrier,
  abandoned,
  done
};

struct Warp;
struct Block;

struct Mbarrier {
  uint32_t offset;     // in the cluster's shared memory
  int64_t arrivals;    // of each phase
  int64_t pending;     // arrivals that this phase still needs
  int64_t bytes = 0;   // of bulk copies that it waits for; below 0: they came before they were announced
  unsigned phase = 0;  // how many are complete
  unsigned initialiser;
  uint32_t initialised;  // when, where accesses are checked
  bool fenced = false, valid = true;
};

// Of rows of a tensor into shared memory. A row's bytes from `first` to `last` are those at `data`, the others zeros.
struct BulkRow {
  const char* data;
  int64_t first, last;
};
struct BulkCopy {
  std::vector<BulkRow> rows;
  int64_t row_bytes;
  unsigned swizzle_bytes;
  char* to;
  unsigned mbarrier, thread;
  uint32_t time;  // of its accesses, where they are checked
};

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  unsigned group;
};

struct PendingProduct {
  GroupProduct product;
  unsigned group;
  uint32_t time;  // of its reads, in the thread of lane 0 where accesses are checked
  bool made = false;
};

struct Thread {
  Index index;
  int lane = 0;
  Warp* warp = nullptr;
  Block* block = nullptr;
  Fiber* fiber = nullptr;  // from its first step on
  State state = State::fresh;
  const char* waits_in = nullptr;
  std::source_location site;
  std::vector<Copy> copies;              // not made yet
  unsigned groups = 0;                   // of copies, closed
  std::vector<PendingProduct> products;  // not waited for yet
  unsigned product_groups = 0;           // closed
  bool fenced_registers = false;         // since the last wait for products
  unsigned mbarrier = 0;                 // that it waits for
};

// The place where threads meet: the first to come names it, the others must come to the same.
struct Meeting {
  unsigned arrived = 0;
  const char* what = nullptr;
  std::source_location site;
};

struct Warp {
  std::array<Thread*, kWarpSize> lanes{};
  std::array<void*, kWarpSize> records{};
  unsigned members = 0, ended = 0;
  Meeting meeting;
};

struct Block {
  explicit Block(char* shared) : arena(shared) {}
  Index index;
  SharedArena arena;
  Meeting barrier;
  unsigned ended = 0;
};

class Executor {
 public:
  Executor() {
    for (unsigned i = 0; i < kMaxCluster; ++i) blocks_.emplace_back(shared_.begin() + i * kArenaBytes);
  }
  ~Executor() {
    closing_ = true;
    for (Fiber* fiber : idle_) fiber->resume();
  }
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void run(const LaunchConfig& config, void (*body)(void*), void* context);

  int lane() const { return running_->lane; }
  void block_barrier(const std::source_location& site);
  void cluster_barrier(const std::source_location& site);
  void cluster_store(void* own, unsigned rank, const void* value, size_t bytes, const std::source_location& site);
  void warp_collective(const char* what, void* record, WarpFunction function, const std::source_location& site);
  void warp_sync(const std::source_location& site);
  void* static_shared(const void* site, size_t bytes, size_t alignment);
  void* dynamic_shared() { return arena().dynamic(); }
  void copy_async(void* shared, const void* global, size_t bytes);
  void copy_async_commit() { ++running_->groups; }
  void copy_async_wait(unsigned pending);
  uint32_t shared_offset(const void* shared);
  const void* shared_at(uint32_t offset);
  void group_product(const GroupProduct& product, const std::source_location& site);
  void group_product_fence() { running_->fenced_registers = true; }
  void group_product_commit() { ++running_->product_groups; }
  // Makes the running warp's products up to those of its last `pending` groups; waited: it goes on when they are done.
  void make_products(unsigned pending, bool waited, const std::source_location& site);
  void mbarrier_init(void* at, unsigned arrivals, const std::source_location& site);
  void mbarrier_init_fence();
  void mbarrier_invalidate(void* at, const std::source_location& site);
  void mbarrier_arrive(void* at, unsigned bytes, const std::source_location& site);
  void mbarrier_wait(void* at, unsigned parity, const std::source_location& site);
  void load_box(void* shared, const TensorImage& tensor, void* mbarrier, const int* begin,
                const std::source_location& site);
  void load_pixels(void* shared, const PixelImages& images, void* mbarrier, const int (&at)[6],
                   const std::source_location& site);
  void proxy_fence();
  void read_operand(uint32_t offset, size_t bytes);
  void touch(const void* p, size_t bytes, Access access, size_t alignment, const void* from);
  [[noreturn]] void fail(const std::string& what) {
    report(what);
    throw Unwind{};
  }

 private:
  void check_config() const;
  void prepare_threads();
  // The blocks of a cluster, from number `first` of the grid on.
  void run_cluster(uint64_t first);
  void prepare_cluster(uint64_t first);
  void run_fiber(Fiber& self);
  void run_thread(Thread& thread, Fiber& fiber);
  void end(Thread& thread);

  Thread* pop();
  void wake(Thread& thread) {
    thread.state = State::ready;
    ready_.push_back(&thread);
  }
  void make_running(Thread& thread) {
    thread.state = State::running;
    running_ = &thread;
    current.thread_index = thread.index;
    current.block_index = thread.block->index;
  }
  // Of the running thread's block.
  SharedArena& arena() const { return running_->block->arena; }
  unsigned threads_of_block() const { return static_cast<unsigned>(threads_.size()) / config_.cluster; }
  // Ends the cluster's barrier when all have come that have not ended.
  bool settle_cluster_barrier();
  void wait(State state, const char* what, const std::source_location& site);
  void arrive(Meeting& meeting, const char* what, const std::source_location& site, unsigned ended);
  Fiber* idle_fiber();
  void unwind_fibers();
  void report(const std::string& what);
  std::string where(const Thread& thread) const;
  std::string deadlock() const;
  unsigned number(const Thread& thread) const { return static_cast<unsigned>(&thread - threads_.data()); }
  uint32_t random_below(uint32_t bound) {
    return below(philox_u32({options_.seed, static_cast<uint32_t>(RngPurpose::test), 0, 0}, random_count_++), bound);
  }
  void make(const Copy& copy);

  // The one that is there; ends the launch otherwise.
  unsigned find_mbarrier(void* at, const char* verb, const std::source_location& site);
  // Where a thread may not begin with an mbarrier; "" or what is wrong.
  std::string wrong_mbarrier_address(const void* at) const;
  // Ends the phase when it is complete. "" or what is wrong.
  std::string settle(unsigned mbarrier);
  void begin_copy(BulkCopy copy, void* mbarrier, const char* what, const std::source_location& site);
  std::string make(const BulkCopy& copy);
  // One of those that nobody has made, when no thread can go on; false: there is none.
  bool make_a_bulk_copy();
  std::string unfinished() const;
  // "" or what is wrong with an access of the running thread to memory.
  std::string wrong_access(const void* p, size_t bytes, Access access, size_t alignment) const;
  // The same of shared memory of that block.
  std::string wrong_access(const Block& block, const void* p, size_t bytes, Access access) const;
  [[noreturn]] void abandon();

  // The launch.
  LaunchConfig config_{};
  Options options_;
  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;
  std::string error_;
  uint64_t random_count_ = 0;

  // The cluster, mostly of one block.
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Meeting cluster_barrier_;
  bool cluster_has_met_ = false;       // they are all there
  bool cluster_has_stored_ = false;    // since they met
  std::vector<Mbarrier> mbarriers_;    // as they were initialised
  std::vector<BulkCopy> bulk_copies_;  // not made yet
  unsigned ended_ = 0;
  std::vector<Thread*> ready_;  // to run, from ready_begin_ on; threads not yet started are among them
  size_t ready_begin_ = 0;
  Thread* next_ = nullptr;  // what the fiber or the scheduler that gets control runs first
  Thread* running_ = nullptr;

  // Kept between launches.
  SharedMemory shared_;
  std::vector<Block> blocks_;  // by their ranks in a cluster
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  bool unwinding_ = false, closing_ = false;
  std::unique_ptr<AccessChecker> checker_;  // from the first launch on that looks for races
};

// The executor whose launch looks for races: accesses of this OS thread are its running thread's.
extern thread_local constinit Executor* watching __attribute__((tls_model("initial-exec")));

}  // namespace sinew::cuda::emulate
