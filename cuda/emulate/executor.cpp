#include "cuda/emulate/executor.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>

#include "core/check.h"
#include "cuda/emulate/execution.h"

namespace sinew::cuda::emulate {
namespace {

// The limits of sm_90.
constexpr unsigned kMaxThreads = 1024, kMaxBlockZ = 64, kMaxGridX = 0x7fffffff, kMaxGridYZ = 65535;
constexpr size_t kMaxShared = 227 * 1024, kMaxStaticShared = 48 * 1024;
constexpr size_t kStackBytes = 128 * 1024;

bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

// For addr2line.
std::string program_place(const void* address) {
  Dl_info info;
  if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) return detail::concat(address);
  const auto offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  return detail::concat(info.dli_fname, "+", reinterpret_cast<const void*>(offset));
}

std::string text(const Index& i) { return detail::concat("(", i.x, ",", i.y, ",", i.z, ")"); }

// The i-th of a box, x fastest.
Index index_in(uint64_t i, const Index& extent) {
  return {static_cast<unsigned>(i % extent.x), static_cast<unsigned>(i / extent.x % extent.y),
          static_cast<unsigned>(i / extent.x / extent.y)};
}

Executor& executor() {
  static thread_local Executor instance;
  return instance;
}

}  // namespace

thread_local constinit Executor* watching = nullptr;

std::string place(const char* what, const std::source_location& site) {
  return detail::concat(what, " at ", site.file_name(), ":", site.line(), ":", site.column());
}

void Executor::check_config() const {
  const Index &g = config_.grid, &b = config_.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  SINEW_CHECK(threads >= 1 && threads <= kMaxThreads && b.z <= kMaxBlockZ, "emulate", config_.name, ": a block of ",
              text(b), " threads; 1 to ", kMaxThreads, " are allowed, ", kMaxBlockZ, " in z");
  SINEW_CHECK(g.x >= 1 && g.y >= 1 && g.z >= 1 && g.x <= kMaxGridX && g.y <= kMaxGridYZ && g.z <= kMaxGridYZ, "emulate",
              config_.name, ": a grid of ", text(g), " blocks; 1 to ", kMaxGridX, " in x and ", kMaxGridYZ,
              " in y and z are allowed");
  SINEW_CHECK(config_.cluster >= 1 && config_.cluster <= kMaxCluster && g.x % config_.cluster == 0, "emulate",
              config_.name, ": clusters of ", config_.cluster, " blocks in a grid of ", text(g), "; 1 to ", kMaxCluster,
              " are allowed, and whole clusters in x");
  SINEW_CHECK(config_.cluster == 1 || threads % kWarpSize == 0, "emulate", config_.name, ": blocks of a cluster with ",
              threads, " threads; multiples of ", kWarpSize, " are allowed here");
  SINEW_CHECK(config_.shared_bytes <= kMaxShared, "emulate", config_.name, ": ", config_.shared_bytes,
              " bytes of shared memory, at most ", kMaxShared);
}

void Executor::run(const LaunchConfig& config, void (*body)(void*), void* context) {
  config_ = config;
  check_config();
  options_ = options();
  body_ = body;
  context_ = context;
  error_.clear();
  random_count_ = 0;
  prepare_threads();
  current.block_dim = config.block;
  current.grid_dim = config.grid;
  const uint64_t clusters = uint64_t{config.grid.x} * config.grid.y * config.grid.z / config.cluster;
  std::vector<uint32_t> shuffled;
  if (options_.order == Order::random) {
    shuffled.resize(clusters);
    std::iota(shuffled.begin(), shuffled.end(), 0u);
    for (size_t i = clusters; i > 1; --i) std::swap(shuffled[i - 1], shuffled[random_below(static_cast<uint32_t>(i))]);
  }
  if (options_.accesses && kChecksAccesses) {
    if (!checker_) checker_ = std::make_unique<AccessChecker>(shared_.begin(), SharedMemory::kBytes);
    checker_->begin_launch();
    watching = this;
  }
  for (uint64_t i = 0; i < clusters && error_.empty(); ++i) {
    const uint64_t cluster = options_.order == Order::fifo      ? i
                             : options_.order == Order::reverse ? clusters - 1 - i
                                                                : shuffled[i];
    run_cluster(cluster * config.cluster);
  }
  watching = nullptr;
  for (unsigned i = 1; i < config.cluster; ++i) blocks_[i].arena.close();
  if (!error_.empty()) SINEW_FAIL("emulate", error_);
}

void Executor::prepare_threads() {
  const size_t of_block = size_t{config_.block.x} * config_.block.y * config_.block.z;
  const size_t count = of_block * config_.cluster;
  threads_.assign(count, Thread{});
  warps_.assign((count + kWarpSize - 1) / kWarpSize, Warp{});
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = threads_[i];
    thread.index = index_in(i % of_block, config_.block);
    thread.block = &blocks_[i / of_block];
    thread.lane = static_cast<int>(i % kWarpSize);
    thread.warp = &warps_[i / kWarpSize];
    thread.warp->lanes[thread.warp->members++] = &thread;
  }
}

void Executor::prepare_cluster(uint64_t first) {
  ready_.clear();
  ready_begin_ = 0;
  for (Thread& thread : threads_) {
    thread.fiber = nullptr;
    thread.state = State::fresh;
    thread.copies.clear();
    thread.groups = 0;
    thread.products.clear();
    thread.product_groups = 0;
    thread.fenced_registers = false;
    ready_.push_back(&thread);
  }
  for (Warp& warp : warps_) {
    warp.ended = 0;
    warp.meeting = {};
  }
  for (unsigned i = 0; i < config_.cluster; ++i) {
    Block& block = blocks_[i];
    block.index = index_in(first + i, config_.grid);
    block.barrier = {};
    block.ended = 0;
    block.arena.begin_block(config_.shared_bytes, options_.poison);
  }
  cluster_barrier_ = {};
  cluster_has_met_ = cluster_has_stored_ = false;
  mbarriers_.clear();
  bulk_copies_.clear();
  ended_ = 0;
  if (watching == nullptr) return;
  checker_->begin_block(static_cast<unsigned>(threads_.size()), config_.cluster);
  if (config_.cluster > 1) checker_->clocks().start();
}

void Executor::run_cluster(uint64_t first) {
  prepare_cluster(first);
  while (error_.empty()) {
    Thread* thread = next_ != nullptr ? next_ : pop();
    if (thread == nullptr && ended_ < threads_.size() && make_a_bulk_copy()) continue;
    if (thread == nullptr) break;
    if (thread->fiber == nullptr) {
      next_ = thread;
      idle_fiber()->resume();
    } else {
      next_ = nullptr;
      make_running(*thread);
      thread->fiber->resume();
    }
  }
  if (error_.empty()) error_ = ended_ < threads_.size() ? deadlock() : unfinished();
  for (unsigned i = 0; i < config_.cluster; ++i)
    if (error_.empty() && !blocks_[i].arena.gaps_are_whole())
      error_ = detail::concat("kernel ", config_.name, ", block ", text(blocks_[i].index),
                              ": writes beyond its shared memory");
  if (!error_.empty()) unwind_fibers();
}

// What every fiber of the pool does: the thread in next_, and those after it for as long as they are fresh.
void Executor::run_fiber(Fiber& self) {
  while (!closing_) {
    while (next_ != nullptr && next_->fiber == nullptr) {
      Thread& thread = *next_;
      next_ = nullptr;
      run_thread(thread, self);
      if (error_.empty()) next_ = pop();
    }
    idle_.push_back(&self);
    self.suspend();
  }
}

void Executor::run_thread(Thread& thread, Fiber& fiber) {
  thread.fiber = &fiber;
  make_running(thread);
  try {
    body_(context_);
    end(thread);
  } catch (const Unwind&) {
    thread.state = State::done;
  }
}

void Executor::end(Thread& thread) {
  thread.state = State::done;  // whatever is wrong: its fiber is free again
  for (const Meeting* meeting : {&thread.block->barrier, &thread.warp->meeting})
    if (meeting->arrived > 0)
      return report(
          detail::concat("ends while ", meeting->arrived, " threads wait in ", place(meeting->what, meeting->site)));
  if (!thread.copies.empty()) return report("ends before asynchronous copies that it did not wait for");
  if (!thread.products.empty()) return report("ends before a wgmma that it did not wait for");
  ++thread.warp->ended;
  ++thread.block->ended;
  ++ended_;
  (void)settle_cluster_barrier();
}

Thread* Executor::pop() {
  if (ready_begin_ == ready_.size()) {
    ready_.clear();
    ready_begin_ = 0;
    return nullptr;
  }
  if (options_.order == Order::fifo) return ready_[ready_begin_++];
  if (options_.order == Order::random) {
    const size_t choice = random_below(static_cast<uint32_t>(ready_.size()));
    std::swap(ready_[choice], ready_.back());
  }
  Thread* thread = ready_.back();
  ready_.pop_back();
  return thread;
}

void Executor::wait(State state, const char* what, const std::source_location& site) {
  Thread& me = *running_;
  me.state = state;
  me.waits_in = what;
  me.site = site;
  me.fiber->suspend();
  if (unwinding_) throw Unwind{};
}

void Executor::arrive(Meeting& meeting, const char* what, const std::source_location& site, unsigned ended) {
  if (ended > 0) fail(detail::concat("comes to ", place(what, site), " after ", ended, " of its threads have ended"));
  if (meeting.arrived == 0) {
    meeting.what = what;
    meeting.site = site;
  } else if (std::strcmp(meeting.what, what) != 0 || !same_place(meeting.site, site)) {
    fail(detail::concat("comes to ", place(what, site), " while ", meeting.arrived, " threads wait in ",
                        place(meeting.what, meeting.site)));
  }
  ++meeting.arrived;
}

void Executor::block_barrier(const std::source_location& site) {
  Block& block = *running_->block;
  arrive(block.barrier, "block_sync", site, block.ended);
  if (block.barrier.arrived < threads_of_block()) return wait(State::at_barrier, "block_sync", site);
  block.barrier.arrived = 0;
  if (watching != nullptr && config_.cluster == 1) checker_->clocks().barrier();
  std::vector<unsigned> met;
  for (Thread& thread : threads_) {
    if (thread.block != &block) continue;
    if (config_.cluster > 1) met.push_back(number(thread));
    if (thread.state == State::at_barrier) wake(thread);
  }
  if (watching != nullptr && config_.cluster > 1) checker_->clocks().meet(met);
}

void Executor::cluster_barrier(const std::source_location& site) {
  if (config_.cluster == 1) fail(detail::concat(place("cluster_sync", site), " in a kernel without clusters"));
  arrive(cluster_barrier_, "cluster_sync", site, 0);
  running_->state = State::at_cluster_barrier;
  if (!settle_cluster_barrier()) wait(State::at_cluster_barrier, "cluster_sync", site);
}

bool Executor::settle_cluster_barrier() {
  if (cluster_barrier_.arrived == 0 || cluster_barrier_.arrived + ended_ < threads_.size()) return false;
  cluster_barrier_.arrived = 0;
  cluster_has_met_ = true;
  cluster_has_stored_ = false;
  std::vector<unsigned> met;
  for (Thread& thread : threads_) {
    if (thread.state != State::at_cluster_barrier) continue;
    met.push_back(number(thread));
    if (&thread != running_)
      wake(thread);
    else
      thread.state = State::running;
  }
  if (watching != nullptr) checker_->clocks().meet(met);
  return true;
}

void Executor::cluster_store(void* own, unsigned rank, const void* value, size_t bytes,
                             const std::source_location& site) {
  const std::string where = place("cluster_store", site);
  if (rank >= config_.cluster) fail(detail::concat(where, ": to block ", rank, " of a cluster of ", config_.cluster));
  if (!arena().contains(own, 1)) fail(where + ": an address that is not in the block's shared memory");
  Block& block = blocks_[rank];
  char* const to = block.arena.begin() + (static_cast<char*>(own) - arena().begin());
  if (!cluster_has_met_) fail(where + ": before the first cluster_sync, when the other block may not have begun");
  if (block.ended == threads_of_block()) fail(where + ": to a block that has ended");
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0)
    fail(detail::concat(where, ": an address that is not aligned to ", bytes, " bytes"));
  std::string wrong = wrong_access(block, to, bytes, Access::write);
  if (wrong.empty() && watching != nullptr) wrong = checker_->touch(to, bytes, Access::write, number(*running_));
  if (!wrong.empty()) fail(detail::concat(where, ": ", wrong));
  std::memcpy(to, value, bytes);
  cluster_has_stored_ = true;
}

void Executor::warp_collective(const char* what, void* record, WarpFunction function,
                               const std::source_location& site) {
  Thread& me = *running_;
  Warp& warp = *me.warp;
  arrive(warp.meeting, what, site, warp.ended);
  warp.records[static_cast<size_t>(me.lane)] = record;
  if (warp.meeting.arrived < warp.members) return wait(State::in_collective, what, site);
  warp.meeting.arrived = 0;
  function(warp.records.data(), static_cast<int>(warp.members));
  for (unsigned i = 0; i < warp.members; ++i)
    if (warp.lanes[i] != &me) wake(*warp.lanes[i]);
}

void Executor::warp_sync(const std::source_location& site) {
  warp_collective(
      "warp_sync", this,
      [](void* const* lanes, int) {
        Executor& me = *static_cast<Executor*>(lanes[0]);
        if (watching != nullptr) me.checker_->clocks().warp_sync(me.number(*me.running_) / kWarpSize);
      },
      site);
}

void* Executor::static_shared(const void* site, size_t bytes, size_t alignment) {
  if (void* data = arena().find(site)) return data;
  const size_t all = arena().static_bytes() + bytes;
  if (all > kMaxStaticShared || all + config_.shared_bytes > kMaxShared)
    fail(detail::concat("uses ", all, " bytes of static and ", config_.shared_bytes,
                        " bytes of dynamic shared memory; at most ", kMaxStaticShared, " static, ", kMaxShared,
                        " together"));
  for (unsigned i = 0; i < config_.cluster; ++i) blocks_[i].arena.place(site, bytes, alignment);  // the same in all
  return arena().find(site);
}

std::string Executor::wrong_access(const void* p, size_t bytes, Access access, size_t alignment) const {
  const auto at = reinterpret_cast<uintptr_t>(p);
  const char* const verb = access == Access::read ? "reads " : "writes ";
  if (at % alignment != 0) return detail::concat(verb, bytes, " bytes at an address that is not aligned to them");
  if (!shared_.contains(p)) return "";
  if (config_.cluster > 1 && !arena().contains(p, 1)) return detail::concat(verb, "the shared memory of another block");
  return wrong_access(*running_->block, p, bytes, access);
}

std::string Executor::wrong_access(const Block& block, const void* p, size_t bytes, Access access) const {
  const char* const verb = access == Access::read ? "reads " : "writes ";
  if (!block.arena.is_placed(p, bytes)) return detail::concat(verb, "shared memory out of bounds");
  const auto offset = static_cast<size_t>(static_cast<const char*>(p) - shared_.begin());
  for (const Mbarrier& b : mbarriers_)
    if (b.valid && offset < b.offset + kMbarrierBytes && b.offset < offset + bytes)
      return detail::concat(verb, "the memory of an mbarrier that is not invalidated");
  return "";
}

void Executor::touch(const void* p, size_t bytes, Access access, size_t alignment, const void* from) {
  if (watching == nullptr || !error_.empty()) return;
  if (reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(&current) < sizeof(current)) return;
  std::string wrong = wrong_access(p, bytes, access, alignment);
  if (wrong.empty()) wrong = checker_->touch(p, bytes, access, number(*running_));
  if (wrong.empty()) return;
  report(from == nullptr ? wrong : detail::concat(wrong, "; at ", program_place(from)));
  abandon();
}

// The compiler takes it that a hook does not throw, and the access must not be made: this fiber is left as it is.
void Executor::abandon() {
  running_->state = State::abandoned;
  running_->fiber->suspend();
  std::abort();  // nobody resumes it
}

Fiber* Executor::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>([this](Fiber& self) { run_fiber(self); }, kStackBytes));
    return fibers_.back().get();
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

void Executor::unwind_fibers() {
  next_ = nullptr;
  unwinding_ = true;
  for (Thread& thread : threads_) {
    if (thread.fiber == nullptr || thread.state == State::done) continue;
    if (thread.state == State::abandoned) {  // never to run again, so it cannot be freed
      for (auto fiber = fibers_.begin(); fiber != fibers_.end(); ++fiber)
        if (fiber->get() == thread.fiber) {
          (void)fiber->release();
          fibers_.erase(fiber);
          break;
        }
      continue;
    }
    running_ = &thread;
    thread.fiber->resume();
  }
  unwinding_ = false;
}

void Executor::report(const std::string& what) {
  if (error_.empty())
    error_ = detail::concat("kernel ", config_.name, ", block ", text(running_->block->index), ", thread ",
                            text(running_->index), ": ", what);
}

std::string Executor::where(const Thread& thread) const {
  const std::string block = config_.cluster > 1 ? detail::concat(" of block ", text(thread.block->index)) : "";
  const std::string at = place(thread.waits_in, thread.site) + block;
  if (thread.state != State::at_mbarrier) return at;
  const Mbarrier& b = mbarriers_[thread.mbarrier];
  return detail::concat(at, " for the mbarrier at byte ", b.offset % kArenaBytes, ", whose phase ", b.phase, " needs ",
                        b.pending, " of ", b.arrivals, " arrivals and ", b.bytes, " bytes");
}

std::string Executor::deadlock() const {
  std::map<std::string, std::vector<const Thread*>> groups;
  for (const Thread& thread : threads_)
    if (thread.state != State::done) groups[where(thread)].push_back(&thread);
  std::string all = detail::concat("kernel ", config_.name, ", block ", text(blocks_[0].index), ": deadlock;");
  for (const auto& [where, members] : groups)
    all += detail::concat(" ", members.size(), " threads (first ", text(members[0]->index), ") wait in ", where, ";");
  return all;
}

thread_local constinit Current current;

Options& options() {
  static Options instance{.accesses = std::getenv("SINEW_CHECK_ACCESSES") != nullptr};
  return instance;
}

void run(const LaunchConfig& config, void (*body)(void*), void* context) { executor().run(config, body, context); }
int current_lane() { return executor().lane(); }
void block_barrier(const std::source_location& site) { executor().block_barrier(site); }
void cluster_barrier(const std::source_location& site) { executor().cluster_barrier(site); }
void cluster_store(void* own, unsigned rank, const void* value, size_t bytes, const std::source_location& site) {
  executor().cluster_store(own, rank, value, bytes, site);
}
void warp_collective(const char* what, void* record, WarpFunction function, const std::source_location& site) {
  executor().warp_collective(what, record, function, site);
}
void warp_sync(const std::source_location& site) { executor().warp_sync(site); }
void* static_shared(const void* site, size_t bytes, size_t alignment) {
  return executor().static_shared(site, bytes, alignment);
}
void* dynamic_shared() { return executor().dynamic_shared(); }
void copy_async(void* shared, const void* global, size_t bytes) { executor().copy_async(shared, global, bytes); }
void copy_async_commit() { executor().copy_async_commit(); }
void copy_async_wait(unsigned pending) { executor().copy_async_wait(pending); }
uint32_t shared_offset(const void* shared) { return executor().shared_offset(shared); }
const void* shared_at(uint32_t offset) { return executor().shared_at(offset); }
void proxy_fence() { executor().proxy_fence(); }
void read_operand(uint32_t offset, size_t bytes) { executor().read_operand(offset, bytes); }
void group_product(const GroupProduct& product, const std::source_location& site) {
  executor().group_product(product, site);
}
void group_product_fence() { executor().group_product_fence(); }
void group_product_commit() { executor().group_product_commit(); }
void group_product_wait(unsigned pending, const std::source_location& site) {
  executor().make_products(pending, true, site);
}
void mbarrier_init(void* at, unsigned arrivals, const std::source_location& site) {
  executor().mbarrier_init(at, arrivals, site);
}
void mbarrier_init_fence() { executor().mbarrier_init_fence(); }
void mbarrier_invalidate(void* at, const std::source_location& site) { executor().mbarrier_invalidate(at, site); }
void mbarrier_arrive(void* at, unsigned bytes, const std::source_location& site) {
  executor().mbarrier_arrive(at, bytes, site);
}
void mbarrier_wait(void* at, unsigned parity, const std::source_location& site) {
  executor().mbarrier_wait(at, parity, site);
}
void load_box(void* shared, const TensorImage& tensor, void* mbarrier, const int* begin,
              const std::source_location& site) {
  executor().load_box(shared, tensor, mbarrier, begin, site);
}
void load_pixels(void* shared, const PixelImages& images, void* mbarrier, const int (&at)[6],
                 const std::source_location& site) {
  executor().load_pixels(shared, images, mbarrier, at, site);
}
void touch(const void* p, size_t bytes, Access access, size_t alignment, const void* from) {
  if (watching != nullptr) watching->touch(p, bytes, access, alignment, from);
}
void copy_unwatched(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void fail(const char* what) { executor().fail(what); }

}  // namespace sinew::cuda::emulate
