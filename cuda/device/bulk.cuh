// mbarriers, bulk copies and clusters of sm_90; what they do: cuda/device/device.cuh. nvcc only.
#pragma once

#include "cuda/tensor_map.h"

namespace sinew::cuda::SINEW_CUDA_NS {

struct Mbarrier {
  uint64_t state;
};

SINEW_DEVICE void mbarrier_init(Mbarrier* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// The second for copies, which are of another proxy.
SINEW_DEVICE void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
SINEW_DEVICE void mbarrier_invalidate(Mbarrier* barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}
SINEW_DEVICE void mbarrier_arrive(Mbarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
SINEW_DEVICE void mbarrier_arrive_expect(Mbarrier* barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
SINEW_DEVICE bool mbarrier_is_complete(uint32_t barrier, unsigned parity) {
  uint32_t complete;
  asm volatile(
      "{ .reg .pred complete; mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2; "
      "selp.u32 %0, 1, 0, complete; }"
      : "=r"(complete)
      : "r"(barrier), "r"(parity)
      : "memory");
  return complete != 0;
}
SINEW_DEVICE uint64_t nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}
// try_wait sleeps, but not without end. A kernel whose threads wait for each other ends with an error, not never.
inline constexpr uint64_t kMbarrierDeadline = 20'000'000'000;
SINEW_DEVICE void mbarrier_wait(Mbarrier* barrier, unsigned parity) {
  const uint32_t address = shared_address(barrier);
  if (mbarrier_is_complete(address, parity)) return;
  const uint64_t began = nanoseconds();
  while (!mbarrier_is_complete(address, parity))
    if (nanoseconds() - began > kMbarrierDeadline) __trap();
}

SINEW_DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}
template <class T>
SINEW_DEVICE void cluster_store(T* own, int rank, const T& value) {
  static_assert(sizeof(T) == 16);
  uint32_t words[4];
  memcpy(words, &value, sizeof(T));
  asm volatile(
      "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; st.shared::cluster.v4.b32 [there], {%2, %3, %4, %5}; "
      "}" ::"r"(shared_address(own)),
      "r"(rank), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
      : "memory");
}

SINEW_DEVICE void prefetch_map(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
SINEW_DEVICE void load_box(void* shared, const TensorMap* map, Mbarrier* barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
          "r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
}
SINEW_DEVICE void load_box(void* shared, const TensorMap* map, Mbarrier* barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
SINEW_DEVICE void load_pixels(void* shared, const TensorMap* map, Mbarrier* barrier, int c, int w, int h, int n,
                              int tap_w, int tap_h) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2], {%7, %8};" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(c), "r"(w), "r"(h), "r"(n), "h"(uint16_t(tap_w)), "h"(uint16_t(tap_h))
      : "memory");
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
