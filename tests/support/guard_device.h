// Device::guard: a device whose memory host code cannot touch, for finding host code that only works because the
// CPU's memory happens to be its own.
//
// The memory is one arena that is kept inaccessible (PROT_NONE). Every entry of its kernel table opens the arena,
// calls the CPU's entry and closes it again, so a host read or write outside the table dies with SIGSEGV. Each
// entry also refuses (Error) a pointer that does not lie in the arena: what a real device would do with host memory.
// New memory is filled with 0xFF bytes: NaN for floats, an absurd index for integers.
//
// Thread safety: one mutex around every call. While one thread is inside a kernel, the host accesses of the others
// are not seen.
//
// Example:
//   install_guard_device();
//   Tensor x = Tensor::ones({2, 3}, DType::f32, Device::guard);
//   float sum_on_device = sum(x).item<float>();   // right: goes through download
//   float crash = *x.data_as<float>();            // SIGSEGV
#pragma once

#include <cstddef>

namespace sinew::testing {

// Fills core's slot for Device::guard; later calls do nothing.
void install_guard_device();

// Bytes handed out and not yet released, each rounded up to its size class.
size_t guard_bytes_in_use();

}  // namespace sinew::testing
