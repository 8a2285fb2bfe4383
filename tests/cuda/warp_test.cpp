// What a warp's lanes do together, in the emulation: shuffles, votes, and the warp's barrier, which orders memory.
#if defined(SINEW_CUDA_EMULATE)
#include "cuda/device/device.cuh"
//
#include <string>

#include "cuda/launch.h"
#include "tests/cuda/defects.h"

namespace sinew::testing {
namespace {

using namespace cuda;  // NOLINT: kernels are written as in cuda/*.cu

using CudaWarps = EmulationTest;

std::vector<float> reversed_in_warps(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i / 32 * 32 + 31 - i % 32];
  return y;
}

// Sums of the lanes up to each, by shuffles from below; and what the other ways to shuffle give.
__global__ void shuffles_by_lane(int* sums, int* y) {
  const int t = int(threadIdx.x), lane = t % 32;
  int sum = t;
  for (int distance = 1; distance < 32; distance *= 2) {
    const int below = warp_shuffle_up(sum, distance);
    if (lane >= distance) sum += below;
  }
  sums[t] = sum;
  y[t * 3] = warp_shuffle(t, (lane * 7 + 3) % 32);
  y[t * 3 + 1] = warp_shuffle_up(t, 5);
  y[t * 3 + 2] = warp_shuffle_down(t, 5);
}

TEST_F(CudaWarps, ShufflesByLaneUpAndDown) {
  in_all_orders([] {
    const DeviceArray<int> sums(64), y(64 * 3);
    run(shuffles_by_lane, {1}, {64}, 0, sums.data(), y.data());
    const std::vector<int> prefix = sums.read(), got = y.read();
    int want = 0;
    for (int t = 0; t < 64; ++t) {
      const int lane = t % 32, begin = t - lane;
      want = lane == 0 ? t : want + t;
      EXPECT_EQ(prefix[size_t(t)], want);
      EXPECT_EQ(got[size_t(t) * 3], begin + (lane * 7 + 3) % 32);
      EXPECT_EQ(got[size_t(t) * 3 + 1], lane < 5 ? t : t - 5);
      EXPECT_EQ(got[size_t(t) * 3 + 2], lane >= 27 ? t : t + 5);
    }
  });
}

__global__ void votes(uint32_t* y) {
  const unsigned t = threadIdx.x, warp = t / 32;
  const uint32_t bits = warp_ballot(t % 3 == 0);
  const bool any = warp_any(warp == 1 && t % 32 == 7), all = warp_all(warp == 0 || t % 32 != 9);
  y[t] = bits;
  y[64 + t] = uint32_t(any) + 2 * uint32_t(all);
}

TEST_F(CudaWarps, Votes) {
  in_all_orders([] {
    const DeviceArray<uint32_t> y(128);
    run(votes, {1}, {64}, 0, y.data());
    const std::vector<uint32_t> got = y.read();
    uint32_t want[2] = {};
    for (uint32_t t = 0; t < 64; ++t) want[t / 32] |= uint32_t{t % 3 == 0} << t % 32;
    for (size_t t = 0; t < 64; ++t) {
      EXPECT_EQ(got[t], want[t / 32]);
      EXPECT_EQ(got[64 + t], t < 32 ? 2u : 1u);
    }
  });
}

__global__ void divergent_vote(uint32_t* y) {
  if (threadIdx.x < 7)
    y[threadIdx.x] = warp_ballot(true);
  else
    warp_sync();
}

TEST_F(CudaWarps, ADivergentVoteIsAnError) {
  in_all_orders([] {
    const DeviceArray<uint32_t> y(32);
    EXPECT_CONTAINS(error_from([&] { run(divergent_vote, {1}, {32}, 0, y.data()); }), "while");
  });
}

// Each warp turns its own part around; the lanes wait for each other, or do not.
template <bool kSync>
__global__ void reverse_warps(const float* x, float* y) {
  SINEW_SHARED(float, values, [64]);
  const unsigned t = threadIdx.x;
  values[t] = x[t];
  if (kSync) warp_sync();
  y[t] = values[t / 32 * 32 + 31 - t % 32];
}

TEST_F(CudaWarps, AMissingBarrierOfAWarpIsFound) {
  const std::vector<float> x = random_values<float>(64, 0, 1, 1);
  in_all_orders([&] {
    const DeviceArray<float> in(x), out(64);
    run(reverse_warps<true>, {1}, {64}, 0, in.data(), out.data());
    EXPECT_EQ(out.read(), reversed_in_warps(x));
    const std::string error =
        error_from([&] { run(reverse_warps<false>, {1}, {64}, 0, in.data(), out.data()); });  // where it is checked
    if (error.empty())
      EXPECT_NE(out.read(), reversed_in_warps(x));
    else
      EXPECT_CONTAINS(error, "a race");
  });
}

#if defined(SINEW_CUDA_ACCESSES)

// What a warp_sync orders: its warp's lanes, before reads (kRead) and before writes (kWrite) alike. kOther: the value
// that is read is of another warp.
template <bool kRead, bool kWrite, bool kOther>
__global__ void shift_in_warps(float* y) {
  SINEW_SHARED(float, values, [64]);
  const unsigned t = threadIdx.x, from = kOther ? t ^ 32 : t ^ 5;
  values[t] = float(t);
  for (int round = 0; round < 3; ++round) {
    if (kRead) warp_sync();
    const float other = values[from] + values[t / 32 * 32];  // all lanes read the latter
    if (kWrite) warp_sync();
    values[t] = other;
  }
  y[t] = values[t];
}

TEST_F(CudaWarps, AMissingBarrierOfAWarpIsFoundInOneRun) {
  emulate::options().accesses = true;
  const DeviceArray<float> y(64);
  EXPECT_EQ(error_from([&] { run(shift_in_warps<true, true, false>, {1}, {64}, 0, y.data()); }), "");
  for (const auto wrong : {&shift_in_warps<false, true, false>, &shift_in_warps<true, false, false>}) {
    const std::string error = error_from([&] { run(wrong, {1}, {64}, 0, y.data()); });
    EXPECT_NE(error.find("of the shared memory"), std::string::npos) << error;
    EXPECT_NE(error.find("a race"), std::string::npos) << error;
  }
  const std::string other = error_from([&] { run(shift_in_warps<true, true, true>, {1}, {64}, 0, y.data()); });
  EXPECT_NE(other.find("a race"), std::string::npos) << other;
}

// One lane arrives for its warp: the others' writes are there for who waits when the warp has met before.
template <bool kSync>
__global__ void one_lane_arrives(float* y) {
  SINEW_SHARED(Mbarrier, ready, [1]);
  SINEW_SHARED(float, values, [32]);
  const unsigned t = threadIdx.x;
  if (t == 0) mbarrier_init(ready, 1);
  if (t == 0) mbarrier_init_fence();
  block_sync();
  if (t < 32) {
    values[t] = float(t);
    if (kSync) warp_sync();
    if (t == 0) mbarrier_arrive(ready);
  } else {
    mbarrier_wait(ready, 0);
    y[t] = values[t - 32];
  }
  block_sync();
}

TEST_F(CudaWarps, AnArrivalForAWarpNeedsItsBarrier) {
  emulate::options().accesses = true;
  const DeviceArray<float> y(64);
  EXPECT_EQ(error_from([&] { run(one_lane_arrives<true>, {1}, {64}, 0, y.data()); }), "");
  const std::string error = error_from([&] { run(one_lane_arrives<false>, {1}, {64}, 0, y.data()); });
  EXPECT_NE(error.find("a race"), std::string::npos) << error;
}

#endif

}  // namespace
}  // namespace sinew::testing
#endif
