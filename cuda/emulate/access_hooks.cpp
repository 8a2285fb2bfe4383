// What g++ -fsanitize=thread calls at each access to memory. Ours: they tell the race detector, and libtsan is not
// linked (accesses.h). Only kernels are compiled so.
#include <cstddef>
#include <cstdint>

#include "cuda/emulate/executor.h"

#if defined(SINEW_CUDA_ACCESSES)

using sinew::cuda::emulate::Access;
using sinew::cuda::emulate::touch;

// NOLINTBEGIN(bugprone-reserved-identifier): the compiler's names
extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define SINEW_HOOK(bytes)                                                                                       \
  void __tsan_read##bytes(void* p) { touch(p, bytes, Access::read, bytes, __builtin_return_address(0)); }       \
  void __tsan_write##bytes(void* p) { touch(p, bytes, Access::write, bytes, __builtin_return_address(0)); }     \
  void __tsan_unaligned_read##bytes(void* p) { touch(p, bytes, Access::read, 1, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##bytes(void* p) { touch(p, bytes, Access::write, 1, __builtin_return_address(0)); }
SINEW_HOOK(1)
SINEW_HOOK(2)
SINEW_HOOK(4)
SINEW_HOOK(8)
SINEW_HOOK(16)
#undef SINEW_HOOK

void __tsan_read_range(void* p, size_t bytes) { touch(p, bytes, Access::read, 1, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t bytes) { touch(p, bytes, Access::write, 1, __builtin_return_address(0)); }

// The blocks of a launch run on one OS thread, so that no order stronger than relaxed is needed.
#define SINEW_ATOMICS(bits)                                                                                       \
  uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* p, int) {                              \
    touch(const_cast<const uint##bits##_t*>(p), bits / 8, Access::atomic, bits / 8, __builtin_return_address(0)); \
    return __atomic_load_n(p, __ATOMIC_RELAXED);                                                                  \
  }                                                                                                               \
  uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t* p, uint##bits##_t value, int) {         \
    touch(const_cast<uint##bits##_t*>(p), bits / 8, Access::atomic, bits / 8, __builtin_return_address(0));       \
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);                                                        \
  }                                                                                                               \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile uint##bits##_t* p, uint##bits##_t* expected,           \
                                                  uint##bits##_t value, int, int) {                               \
    touch(const_cast<uint##bits##_t*>(p), bits / 8, Access::atomic, bits / 8, __builtin_return_address(0));       \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);            \
  }
SINEW_ATOMICS(32)
SINEW_ATOMICS(64)
#undef SINEW_ATOMICS
}
// NOLINTEND(bugprone-reserved-identifier)

#endif
