#include "core/fiber.h"

#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "core/check.h"

#if defined(__SANITIZE_ADDRESS__)
#define SINEW_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SINEW_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define SINEW_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SINEW_TSAN 1
#endif
#endif
#ifdef SINEW_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SINEW_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if !defined(__x86_64__) && !defined(SINEW_FIBER_UCONTEXT)
#define SINEW_FIBER_UCONTEXT 1
#endif
#ifdef SINEW_FIBER_UCONTEXT
#include <ucontext.h>
#endif

#ifndef SINEW_FIBER_UCONTEXT
// sinew_fiber_switch(save, to): pushes what the System V ABI lets a callee rely on (rbp, rbx, r12-r15, MXCSR, x87
// control word), stores the stack pointer in *save and continues at `to`. It ends in a jump instead of a return,
// because the return-stack predictor would miss on every switch (about 15 ns). Not usable where the kernel enforces
// user shadow stacks (CET); build with SINEW_FIBER_UCONTEXT there.
asm(R"(
  .text
  .globl sinew_fiber_switch
  .hidden sinew_fiber_switch
  .type sinew_fiber_switch, @function
sinew_fiber_switch:
  .cfi_startproc
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $8, %rsp
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  addq $8, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %r8
  jmp *%r8
  .cfi_endproc
  .size sinew_fiber_switch, . - sinew_fiber_switch

  .globl sinew_fiber_begin
  .hidden sinew_fiber_begin
  .type sinew_fiber_begin, @function
sinew_fiber_begin:
  .cfi_startproc
  .cfi_undefined rip
  endbr64
  movq %r12, %rdi
  callq *%r13
  ud2
  .cfi_endproc
  .size sinew_fiber_begin, . - sinew_fiber_begin
)");
extern "C" void sinew_fiber_switch(void** save, void* to);
extern "C" void sinew_fiber_begin();
#endif

namespace sinew {
namespace {

// Wide enough that a frame with a large array cannot step over it; costs no memory.
constexpr size_t kGuard = 64 * 1024;

struct Stack {
  char* mapping = nullptr;  // guard first
  size_t bytes = 0;         // usable, above the guard
  char* bottom() const { return mapping + kGuard; }
};

void unmap(const Stack& s) { munmap(s.mapping, s.bytes + kGuard); }

// Mapping and guarding a stack costs 5 us; the emulation creates thousands. Holds no meaning, only memory.
class StackCache {
 public:
  ~StackCache() {
    closed_ = true;
    for (const Stack& s : free_) unmap(s);
  }
  static Stack take(size_t bytes) {
    auto& free = instance().free_;
    if (!closed_ && !free.empty() && free.back().bytes == bytes) {
      Stack s = free.back();
      free.pop_back();
      return s;
    }
    // NORESERVE: only touched pages count, so a thousand stacks of 256 KiB cost 4 MiB.
    void* p = mmap(nullptr, bytes + kGuard, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    SINEW_CHECK(p != MAP_FAILED && mprotect(p, kGuard, PROT_NONE) == 0, "fiber", "no memory for a stack of ", bytes,
                " bytes (vm.max_map_count limits the number of stacks to about 32,000)");
    return {static_cast<char*>(p), bytes};
  }
  static void give(const Stack& s) {
    if (closed_ || instance().free_.size() >= kMost) return unmap(s);
    instance().free_.push_back(s);
  }

 private:
  static constexpr size_t kMost = 1024;
  static StackCache& instance() {
    static thread_local StackCache cache;
    return cache;
  }
  static thread_local bool closed_;
  std::vector<Stack> free_;
};
thread_local bool StackCache::closed_ = false;

// The runtime's __cxa_eh_globals: caught exceptions and the count of uncaught ones.
struct ExceptionGlobals {
  void* caught = nullptr;
  uintptr_t uncaught = 0;
};

}  // namespace

struct Fiber::Impl {
  Fiber* self = nullptr;
  Entry entry;
  Stack stack;
  bool started = false, running = false, done = false;
  ExceptionGlobals* thread_exceptions = nullptr;  // the thread's; a fiber never leaves its thread
  ExceptionGlobals other;                         // of the side that is not running
#ifdef SINEW_FIBER_UCONTEXT
  ucontext_t inside, outside;
#else
  void *inside = nullptr, *outside = nullptr;
#endif
#ifdef SINEW_ASAN
  void *inside_fake = nullptr, *outside_fake = nullptr;
  const void* outside_bottom = nullptr;
  size_t outside_size = 0;
#endif
#ifdef SINEW_TSAN
  void *inside_tsan = nullptr, *outside_tsan = nullptr;
#endif

  void prepare();
  void enter();
  void leave();
  static void run(void* impl) noexcept;
  static void run_halves(unsigned high, unsigned low) noexcept;
};

void Fiber::Impl::prepare() {
  // Tops of page-aligned stacks fall into the same cache sets; staggering them halves the cost of a switch among many.
  size_t index = reinterpret_cast<uintptr_t>(stack.mapping) / (stack.bytes + kGuard);
  size_t usable = stack.bytes - index % 16 * 192;
#ifdef SINEW_FIBER_UCONTEXT
  getcontext(&inside);
  inside.uc_stack.ss_sp = stack.bottom();
  inside.uc_stack.ss_size = usable;
  inside.uc_link = nullptr;
  auto p = reinterpret_cast<uintptr_t>(this);
  makecontext(&inside, reinterpret_cast<void (*)()>(run_halves), 2, unsigned(uint64_t(p) >> 32), unsigned(p));
#else
  auto* top = reinterpret_cast<uint64_t*>(stack.bottom() + usable);
  uint32_t mxcsr;
  uint16_t x87;
  asm volatile("stmxcsr %0" : "=m"(mxcsr));
  asm volatile("fnstcw %0" : "=m"(x87));
  *--top = 0;
  *--top = 0;
  *--top = reinterpret_cast<uint64_t>(&sinew_fiber_begin);
  *--top = 0;                                 // rbp
  *--top = 0;                                 // rbx
  *--top = reinterpret_cast<uint64_t>(this);  // r12
  *--top = reinterpret_cast<uint64_t>(&run);  // r13
  *--top = 0;                                 // r14
  *--top = 0;                                 // r15
  *--top = uint64_t(mxcsr) | uint64_t(x87) << 32;
  inside = top;
#endif
}

void Fiber::Impl::enter() {
  running = true;
  std::swap(*thread_exceptions, other);
#ifdef SINEW_TSAN
  outside_tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(inside_tsan, 0);
#endif
#ifdef SINEW_ASAN
  __sanitizer_start_switch_fiber(&outside_fake, stack.bottom(), stack.bytes);
#endif
#ifdef SINEW_FIBER_UCONTEXT
  swapcontext(&outside, &inside);
#else
  sinew_fiber_switch(&outside, inside);
#endif
#ifdef SINEW_ASAN
  __sanitizer_finish_switch_fiber(outside_fake, nullptr, nullptr);
#endif
}

void Fiber::Impl::leave() {
  running = false;
  std::swap(*thread_exceptions, other);
#ifdef SINEW_TSAN
  __tsan_switch_to_fiber(outside_tsan, 0);
#endif
#ifdef SINEW_ASAN
  // A null slot tells the sanitizer that this stack is left for good.
  __sanitizer_start_switch_fiber(done ? nullptr : &inside_fake, outside_bottom, outside_size);
#endif
#ifdef SINEW_FIBER_UCONTEXT
  swapcontext(&inside, &outside);
#else
  sinew_fiber_switch(&inside, outside);
#endif
#ifdef SINEW_ASAN
  __sanitizer_finish_switch_fiber(inside_fake, &outside_bottom, &outside_size);
#endif
}

void Fiber::Impl::run(void* p) noexcept {
  auto* impl = static_cast<Impl*>(p);
#ifdef SINEW_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &impl->outside_bottom, &impl->outside_size);
#endif
  impl->entry(*impl->self);
  impl->done = true;
  impl->leave();
}

void Fiber::Impl::run_halves(unsigned high, unsigned low) noexcept {
  run(reinterpret_cast<void*>(uintptr_t(uint64_t(high) << 32 | low)));
}

Fiber::Fiber(Entry entry, size_t stack_bytes) : impl_(new Impl) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  impl_->self = this;
  impl_->entry = std::move(entry);
  impl_->stack = StackCache::take((stack_bytes + page - 1) / page * page);
  impl_->thread_exceptions = reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals());
#ifdef SINEW_ASAN
  __asan_unpoison_memory_region(impl_->stack.bottom(), impl_->stack.bytes);  // what a former fiber left there
#endif
#ifdef SINEW_TSAN
  impl_->inside_tsan = __tsan_create_fiber(0);
#endif
  impl_->prepare();
}

Fiber::~Fiber() {
  // Abandoning live frames would leak what they own; there is no way to report it from here.
  if (impl_->started && !impl_->done) std::terminate();
#ifdef SINEW_TSAN
  __tsan_destroy_fiber(impl_->inside_tsan);
#endif
  StackCache::give(impl_->stack);
}

void Fiber::resume() {
  SINEW_CHECK(!impl_->done && !impl_->running, "fiber", "resume() of a fiber that is ",
              impl_->done ? "done" : "running");
  impl_->started = true;
  impl_->enter();
}

void Fiber::suspend() {
  SINEW_CHECK(impl_->running, "fiber", "suspend() from outside");
  impl_->leave();
}

bool Fiber::done() const { return impl_->done; }

}  // namespace sinew
