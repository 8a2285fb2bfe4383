#include "cuda/emulate/executor.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/fiber.h"
#include "core/philox.h"
#include "cuda/emulate/accesses.h"
#include "cuda/emulate/shared_arena.h"

namespace sinew::cuda::emulate {
namespace {

// The limits of sm_90.
constexpr unsigned kMaxThreads = 1024, kMaxBlockZ = 64, kMaxGridX = 0x7fffffff, kMaxGridYZ = 65535;
constexpr size_t kMaxShared = 227 * 1024, kMaxStaticShared = 48 * 1024;
constexpr int kWarpSize = 32;
constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kCopyBytes = 16;  // of an asynchronous copy

// Thrown through a kernel's frames to give its fiber back after an error.
struct Unwind {};

enum class State : uint8_t { fresh, running, ready, at_barrier, in_collective, abandoned, done };

struct Warp;

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  unsigned group;
};

struct Thread {
  Index index;
  int lane = 0;
  Warp* warp = nullptr;
  Fiber* fiber = nullptr;  // from its first step on
  State state = State::fresh;
  const char* waits_in = nullptr;
  std::source_location site;
  std::vector<Copy> copies;                                 // not made yet
  unsigned groups = 0;                                      // of copies, closed
  std::vector<std::pair<GroupProduct, unsigned>> products;  // not made yet, and their groups
  unsigned product_groups = 0;                              // closed
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

bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string place(const char* what, const std::source_location& site) {
  return detail::concat(what, " at ", site.file_name(), ":", site.line(), ":", site.column());
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

class Executor {
 public:
  Executor() = default;
  ~Executor() {
    closing_ = true;
    for (Fiber* fiber : idle_) fiber->resume();
  }
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void run(const LaunchConfig& config, void (*body)(void*), void* context);

  int lane() const { return running_->lane; }
  void block_barrier(const std::source_location& site);
  void warp_collective(const char* what, void* record, WarpFunction function, const std::source_location& site);
  void* static_shared(const void* site, size_t bytes, size_t alignment);
  void* dynamic_shared() const { return arena_.dynamic(); }
  void copy_async(void* shared, const void* global, size_t bytes);
  void copy_async_commit() { ++running_->groups; }
  void copy_async_wait(unsigned pending);
  uint32_t shared_offset(const void* shared);
  const void* shared_at(uint32_t offset);
  void group_product(const GroupProduct& product, const std::source_location& site);
  void group_product_commit() { ++running_->product_groups; }
  void group_product_wait(unsigned pending, const std::source_location& site);
  void touch(const void* p, size_t bytes, Access access, size_t alignment, const void* from);
  [[noreturn]] void fail(const std::string& what) {
    report(what);
    throw Unwind{};
  }

 private:
  void check_config() const;
  void prepare_threads();
  void run_block(const Index& block);
  void prepare_block(const Index& block);
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
  }
  void wait(State state, const char* what, const std::source_location& site);
  void arrive(Meeting& meeting, const char* what, const std::source_location& site, unsigned ended);
  Fiber* idle_fiber();
  void unwind_fibers();
  void report(const std::string& what);
  std::string deadlock() const;
  uint32_t random_below(uint32_t bound) {
    return below(philox_u32({options_.seed, static_cast<uint32_t>(RngPurpose::test), 0, 0}, random_count_++), bound);
  }
  void make(const Copy& copy);

  // The launch.
  LaunchConfig config_{};
  Options options_;
  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;
  std::string error_;
  uint64_t random_count_ = 0;

  // The block.
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Meeting barrier_;
  unsigned ended_ = 0;
  std::vector<Thread*> ready_;  // to run, from ready_begin_ on; threads not yet started are among them
  size_t ready_begin_ = 0;
  Thread* next_ = nullptr;  // what the fiber or the scheduler that gets control runs first
  Thread* running_ = nullptr;

  // Kept between launches.
  SharedArena arena_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  bool unwinding_ = false, closing_ = false;
  std::unique_ptr<AccessChecker> checker_;  // from the first launch on that looks for races
};

// The executor whose launch looks for races: accesses of this OS thread are its running thread's.
thread_local constinit Executor* watching __attribute__((tls_model("initial-exec"))) = nullptr;

Executor& executor() {
  static thread_local Executor instance;
  return instance;
}

void Executor::check_config() const {
  const Index &g = config_.grid, &b = config_.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  SINEW_CHECK(threads >= 1 && threads <= kMaxThreads && b.z <= kMaxBlockZ, "emulate", config_.name, ": a block of ",
              text(b), " threads; 1 to ", kMaxThreads, " are allowed, ", kMaxBlockZ, " in z");
  SINEW_CHECK(g.x >= 1 && g.y >= 1 && g.z >= 1 && g.x <= kMaxGridX && g.y <= kMaxGridYZ && g.z <= kMaxGridYZ, "emulate",
              config_.name, ": a grid of ", text(g), " blocks; 1 to ", kMaxGridX, " in x and ", kMaxGridYZ,
              " in y and z are allowed");
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
  const uint64_t blocks = uint64_t{config.grid.x} * config.grid.y * config.grid.z;
  std::vector<uint32_t> shuffled;
  if (options_.order == Order::random) {
    shuffled.resize(blocks);
    std::iota(shuffled.begin(), shuffled.end(), 0u);
    for (size_t i = blocks; i > 1; --i) std::swap(shuffled[i - 1], shuffled[random_below(static_cast<uint32_t>(i))]);
  }
  if (options_.accesses && kChecksAccesses) {
    if (!checker_) checker_ = std::make_unique<AccessChecker>(arena_.begin(), SharedArena::kBytes);
    checker_->begin_launch();
    watching = this;
  }
  for (uint64_t i = 0; i < blocks && error_.empty(); ++i) {
    const uint64_t block = options_.order == Order::fifo      ? i
                           : options_.order == Order::reverse ? blocks - 1 - i
                                                              : shuffled[i];
    run_block(index_in(block, config.grid));
  }
  watching = nullptr;
  if (!error_.empty()) SINEW_FAIL("emulate", error_);
}

void Executor::prepare_threads() {
  const size_t count = size_t{config_.block.x} * config_.block.y * config_.block.z;
  threads_.assign(count, Thread{});
  warps_.assign((count + kWarpSize - 1) / kWarpSize, Warp{});
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = threads_[i];
    thread.index = index_in(i, config_.block);
    thread.lane = static_cast<int>(i % kWarpSize);
    thread.warp = &warps_[i / kWarpSize];
    thread.warp->lanes[thread.warp->members++] = &thread;
  }
}

void Executor::prepare_block(const Index& block) {
  current.block_index = block;
  ready_.clear();
  ready_begin_ = 0;
  for (Thread& thread : threads_) {
    thread.fiber = nullptr;
    thread.state = State::fresh;
    thread.copies.clear();
    thread.groups = 0;
    thread.products.clear();
    thread.product_groups = 0;
    ready_.push_back(&thread);
  }
  for (Warp& warp : warps_) {
    warp.ended = 0;
    warp.meeting = {};
  }
  barrier_ = {};
  ended_ = 0;
  arena_.begin_block(config_.shared_bytes, options_.poison);
  if (watching != nullptr) checker_->begin_block();
}

void Executor::run_block(const Index& block) {
  prepare_block(block);
  while (error_.empty()) {
    Thread* thread = next_ != nullptr ? next_ : pop();
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
  if (error_.empty() && ended_ < threads_.size()) error_ = deadlock();
  if (error_.empty() && !arena_.gaps_are_whole()) error_ = "writes beyond its shared memory";
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
  for (const Meeting* meeting : {&barrier_, &thread.warp->meeting})
    if (meeting->arrived > 0)
      return report(
          detail::concat("ends while ", meeting->arrived, " threads wait in ", place(meeting->what, meeting->site)));
  if (!thread.copies.empty()) return report("ends before asynchronous copies that it did not wait for");
  if (!thread.products.empty()) return report("ends before a wgmma that it did not wait for");
  ++thread.warp->ended;
  ++ended_;
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
  arrive(barrier_, "block_sync", site, ended_);
  if (barrier_.arrived < threads_.size()) return wait(State::at_barrier, "block_sync", site);
  barrier_.arrived = 0;
  if (watching != nullptr) checker_->barrier();
  for (Thread& thread : threads_)
    if (thread.state == State::at_barrier) wake(thread);
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

uint32_t Executor::shared_offset(const void* shared) {
  if (!arena_.contains(shared, 1)) fail("a descriptor of memory that is not shared");
  return static_cast<uint32_t>(static_cast<const char*>(shared) - arena_.begin());
}

const void* Executor::shared_at(uint32_t offset) {
  if (offset > SharedArena::kBytes - 2) fail("wgmma reads beyond shared memory");
  return arena_.begin() + offset;
}

void Executor::group_product(const GroupProduct& product, const std::source_location& site) {
  running_->products.emplace_back(product, running_->product_groups);
  if (options_.lazy_copies) return;
  ++running_->product_groups;  // by itself, and at once
  group_product_wait(0, site);
}

// All lanes have issued the same products: each is made by the last of them to come.
void Executor::group_product_wait(unsigned pending, const std::source_location& site) {
  Thread& me = *running_;
  struct Lane {
    Thread* thread;
    unsigned pending;
    Executor* executor;
  };
  Lane lane{&me, pending, this};
  warp_collective(
      "wgmma", &lane,
      [](void* const* lanes, int count) {
        const auto products = [&](int i) -> auto& { return static_cast<Lane*>(lanes[i])->thread->products; };
        const Thread& first = *static_cast<Lane*>(lanes[0])->thread;
        size_t made = 0;
        for (; made < first.products.size(); ++made) {
          if (first.products[made].second + static_cast<Lane*>(lanes[0])->pending >= first.product_groups) break;
          const GroupProduct* of_lanes[kWarpSize];
          for (int i = 0; i < count; ++i) {
            if (products(i).size() <= made) static_cast<Lane*>(lanes[0])->executor->fail("wgmma not by all lanes");
            of_lanes[i] = &products(i)[made].first;
          }
          of_lanes[0]->multiply(of_lanes, count);
        }
        for (int i = 0; i < count; ++i)
          products(i).erase(products(i).begin(), products(i).begin() + static_cast<std::ptrdiff_t>(made));
      },
      site);
}

void* Executor::static_shared(const void* site, size_t bytes, size_t alignment) {
  if (void* data = arena_.find(site)) return data;
  const size_t all = arena_.static_bytes() + bytes;
  if (all > kMaxStaticShared || all + config_.shared_bytes > kMaxShared)
    fail(detail::concat("uses ", all, " bytes of static and ", config_.shared_bytes,
                        " bytes of dynamic shared memory; at most ", kMaxStaticShared, " static, ", kMaxShared,
                        " together"));
  return arena_.place(site, bytes, alignment);
}

void Executor::make(const Copy& copy) {
  char* const to = static_cast<char*>(copy.to);
  touch(to, kCopyBytes, Access::write, 1, nullptr);
  if (copy.bytes > 0) touch(copy.from, copy.bytes, Access::read, 1, nullptr);
  if (copy.bytes > 0) std::memcpy(to, copy.from, copy.bytes);
  std::memset(to + copy.bytes, 0, kCopyBytes - copy.bytes);
}

void Executor::copy_async(void* shared, const void* global, size_t bytes) {
  if (!arena_.contains(shared, kCopyBytes)) fail("copy_async to memory that is not shared");
  if (reinterpret_cast<uintptr_t>(shared) % kCopyBytes != 0 || reinterpret_cast<uintptr_t>(global) % kCopyBytes != 0)
    fail("copy_async: an address is not aligned to 16 bytes");
  const Copy copy{shared, global, bytes, running_->groups};
  touch(shared, kCopyBytes, Access::write, 1, nullptr);  // it may be made at any time from here to the wait
  if (options_.lazy_copies)
    running_->copies.push_back(copy);
  else
    make(copy);
}

void Executor::copy_async_wait(unsigned pending) {
  std::vector<Copy>& copies = running_->copies;
  size_t done = 0;
  while (done < copies.size() && copies[done].group + pending < running_->groups) make(copies[done++]);
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(done));
}

void Executor::touch(const void* p, size_t bytes, Access access, size_t alignment, const void* from) {
  if (watching == nullptr || !error_.empty()) return;
  const auto at = reinterpret_cast<uintptr_t>(p);
  if (at - reinterpret_cast<uintptr_t>(&current) < sizeof(current)) return;
  const char* const verb = access == Access::read ? "reads " : "writes ";
  std::string wrong;
  if (at % alignment != 0)
    wrong = detail::concat(verb, bytes, " bytes at an address that is not aligned to them");
  else if (arena_.contains(p, 1) && !arena_.is_placed(p, bytes))
    wrong = detail::concat(verb, "shared memory out of bounds");
  else
    wrong = checker_->touch(p, bytes, access, static_cast<unsigned>(running_ - threads_.data()));
  if (wrong.empty()) return;
  report(from == nullptr ? wrong : detail::concat(wrong, "; at ", program_place(from)));
  // The compiler takes it that a hook does not throw, and the access must not be made: this fiber is left as it is.
  running_->state = State::abandoned;
  running_->fiber->suspend();
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
    error_ = detail::concat("kernel ", config_.name, ", block ", text(current.block_index), ", thread ",
                            text(running_->index), ": ", what);
}

std::string Executor::deadlock() const {
  std::map<std::string, std::vector<const Thread*>> groups;
  for (const Thread& thread : threads_)
    if (thread.state != State::done) groups[place(thread.waits_in, thread.site)].push_back(&thread);
  std::string all = detail::concat("kernel ", config_.name, ", block ", text(current.block_index), ": deadlock;");
  for (const auto& [where, members] : groups)
    all += detail::concat(" ", members.size(), " threads (first ", text(members[0]->index), ") wait in ", where, ";");
  return all;
}

}  // namespace

thread_local constinit Current current;

Options& options() {
  static Options instance{.accesses = std::getenv("SINEW_CHECK_ACCESSES") != nullptr};
  return instance;
}

void run(const LaunchConfig& config, void (*body)(void*), void* context) { executor().run(config, body, context); }
int current_lane() { return executor().lane(); }
void block_barrier(const std::source_location& site) { executor().block_barrier(site); }
void warp_collective(const char* what, void* record, WarpFunction function, const std::source_location& site) {
  executor().warp_collective(what, record, function, site);
}
void* static_shared(const void* site, size_t bytes, size_t alignment) {
  return executor().static_shared(site, bytes, alignment);
}
void* dynamic_shared() { return executor().dynamic_shared(); }
void copy_async(void* shared, const void* global, size_t bytes) { executor().copy_async(shared, global, bytes); }
void copy_async_commit() { executor().copy_async_commit(); }
void copy_async_wait(unsigned pending) { executor().copy_async_wait(pending); }
uint32_t shared_offset(const void* shared) { return executor().shared_offset(shared); }
const void* shared_at(uint32_t offset) { return executor().shared_at(offset); }
void group_product(const GroupProduct& product, const std::source_location& site) {
  executor().group_product(product, site);
}
void group_product_commit() { executor().group_product_commit(); }
void group_product_wait(unsigned pending, const std::source_location& site) {
  executor().group_product_wait(pending, site);
}
void touch(const void* p, size_t bytes, Access access, size_t alignment, const void* from) {
  if (watching != nullptr) watching->touch(p, bytes, access, alignment, from);
}
void copy_unwatched(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void fail(const char* what) { executor().fail(what); }

}  // namespace sinew::cuda::emulate
