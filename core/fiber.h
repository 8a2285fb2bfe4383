// Stackful fibers for the simulator and the CUDA emulation: a callable on its own stack, entered and left by hand.
//
// Invariants
//  - A fiber is entered and left on the OS thread that created it; it never migrates.
//  - Exceptions must not cross the entry function: the callable catches everything (an escaping one terminates).
//  - The per-thread C++ exception globals are swapped with the fiber, so switching inside a catch block is safe.
//  - Suspending inside an OpenMP parallel region or while holding a mutex is forbidden (checked by the callers).
//  - Stacks have a guard region; AddressSanitizer and ThreadSanitizer are told of every switch.
//
// Example:
//   Fiber f([](Fiber& self) { self.suspend(); });
//   f.resume();   // runs until suspend()
//   f.resume();   // runs to the end; f.done()
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace sinew {

class Fiber {
 public:
  using Entry = std::function<void(Fiber& self)>;
  static constexpr size_t kDefaultStack = 256 * 1024;

  explicit Fiber(Entry entry, size_t stack_bytes = kDefaultStack);
  // REQUIRES: done(), or never resumed.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // From outside: runs the fiber until it suspends or ends.
  void resume();
  // From inside: back to whoever resumed it.
  void suspend();
  bool done() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace sinew
