// Launching a kernel: the same line for the GPU and for the emulation.
//
//   Kernel<int64_t, const float*, float*> k = ...;               // from a .cu file, see cuda/kernels.h
//   launch(k, {blocks}, {256}, 0, stream, n, x, y);
//
// Arguments are converted to exactly the kernel's parameter types. More than 48 KB of dynamic shared memory is asked
// for here. Asynchronous on a real device. Errors: an Error with the kernel's name, its grid, block, shared bytes and
// whole numbers (launch_log.h); see cuda/runtime.h.
#pragma once

#include <array>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda/namespace.h"
#include "cuda/runtime.h"

namespace sinew::cuda::SINEW_CUDA_NS {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

// A kernel as host code holds it. cluster: as its SINEW_CLUSTER says; the grid has a multiple of so many blocks in x.
template <class... P>
struct Kernel {
  const char* name;
  void (*function)(P...);
  unsigned cluster = 1;
};

enum class ArgumentKind : uint8_t { other, pointer, integer };

// A launch without its types; what a runtime implements.
struct RawLaunch {
  const char* name;
  const void* function;
  Dim grid, block;
  size_t shared_bytes;
  Stream stream;
  void** arguments;  // pointers to the values
  size_t count;
  const ArgumentKind* kinds;  // per argument; the emulation refuses pointers to host memory
  const size_t* sizes;        // per argument
  // Calls the function as one thread of the emulation; a copy of every argument per call, as on the device.
  void (*call)(const void* function, void** arguments);
  unsigned cluster;  // for the emulation; on the device the function knows
};
void launch_raw(const RawLaunch& what);

template <class... P, size_t... I>
void call_kernel(const void* function, void** arguments, std::index_sequence<I...>) {
  reinterpret_cast<void (*)(P...)>(reinterpret_cast<uintptr_t>(function))(*static_cast<P*>(arguments[I])...);
}

template <class... P, class... A>
void launch(const Kernel<P...>& kernel, Dim grid, Dim block, size_t shared_bytes, Stream stream, A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel parameters are plain data");
  std::tuple<P...> values(static_cast<P>(arguments)...);
  std::array<void*, sizeof...(P)> pointers =
      std::apply([](P&... value) { return std::array<void*, sizeof...(P)>{&value...}; }, values);
  static constexpr ArgumentKind kKinds[] = {std::is_pointer_v<P>                          ? ArgumentKind::pointer
                                            : std::is_integral_v<P> && sizeof(P) % 4 == 0 ? ArgumentKind::integer
                                                                                          : ArgumentKind::other...};
  static constexpr size_t kSizes[] = {sizeof(P)...};
  launch_raw({kernel.name, reinterpret_cast<const void*>(kernel.function), grid, block, shared_bytes, stream,
              pointers.data(), pointers.size(), kKinds, kSizes,
              [](const void* function, void** values_at) {
                call_kernel<P...>(function, values_at, std::index_sequence_for<P...>());
              },
              kernel.cluster});
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
