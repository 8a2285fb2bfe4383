// Checks of each access: planted races, accesses out of bounds and misaligned ones are found in one run and in the most
// harmless order, right kernels are not accused. Compiled like the kernels: each access calls the detector.
#if defined(SINEW_CUDA_ACCESSES)
#include "cuda/device/device.cuh"
//
#include <string>

#include "cuda/launch.h"
#include "tests/cuda/defects.h"

namespace sinew::testing {
namespace {

using namespace cuda;  // NOLINT: kernels are written as in cuda/*.cu

class CudaAccesses : public EmulationTest {
 protected:
  void SetUp() override {
    EmulationTest::SetUp();
    emulate::options().accesses = true;
  }
};

// What a launch of 64 threads a block says of it; "" when nothing.
template <class... P, class... A>
std::string error_of(void (*kernel)(P...), unsigned blocks, A... arguments) {
  return error_from([&] { run(kernel, {blocks}, {64}, 64 * sizeof(float), arguments...); });
}

// kRead: the barrier before the neighbour's value is read; kWrite: the one before it is written again.
template <bool kRead, bool kWrite, class T>
__global__ void shift(T* y) {
  SINEW_SHARED(T, values, [64]);
  const unsigned t = threadIdx.x;
  values[t] = T(float(t));
  if (kRead) block_sync();
  const T left = t > 0 ? values[t - 1] : T(0.0f);
  if (kWrite) block_sync();
  values[t] = left;
  block_sync();
  y[t] = values[t];
}

template <class T>
void check_shift() {
  const DeviceArray<T> y(64);
  EXPECT_EQ(error_of(&shift<true, true, T>, 1, y.data()), "");
  const std::string unread = error_of(&shift<false, true, T>, 1, y.data());
  EXPECT_NE(unread.find("a race"), std::string::npos) << unread;
  EXPECT_NE(unread.find("kernel test kernel, block (0,0,0), thread (1,0,0): reads byte "), std::string::npos) << unread;
  EXPECT_NE(unread.find("of the shared memory, which thread 0 wrote"), std::string::npos) << unread;
  const std::string overwritten = error_of(&shift<true, false, T>, 1, y.data());
  EXPECT_NE(overwritten.find("a race"), std::string::npos) << overwritten;
}

TEST_F(CudaAccesses, AMissingBarrierBeforeAReadOrAWriteIsFoundInOneRun) {
  check_shift<float>();
  check_shift<double>();
  check_shift<bfloat16>();
}

// A shuffle does not order memory, not even within a warp.
__global__ void shuffle_is_no_barrier(float* y) {
  SINEW_DYNAMIC_SHARED(float, values);
  values[threadIdx.x] = 1.0f;
  const float other = warp_shuffle_xor(2.0f, 1);
  y[threadIdx.x] = values[threadIdx.x ^ 1] + other;
}

TEST_F(CudaAccesses, AShuffleDoesNotOrderMemory) {
  const DeviceArray<float> y(64);
  EXPECT_NE(error_of(&shuffle_is_no_barrier, 1, y.data()).find("a race"), std::string::npos);
}

// All blocks read x[0]; which ones write it?
__global__ void one_writes(unsigned writer, float* x, float* y) {
  if (threadIdx.x != 0) return;
  y[blockIdx.x] = x[0];
  if (blockIdx.x == writer) x[0] = 2.0f;
}
__global__ void all_write(float* x) {
  if (threadIdx.x == 0) x[0] = 1.0f;
}
__global__ void all_count(int* x) { atomic_add(x, 1); }
__global__ void count_and_look(int* x, int* y) {
  atomic_add(x, 1);
  if (threadIdx.x == 0) y[blockIdx.x] = x[0];
}

TEST_F(CudaAccesses, BlocksThatShareDeviceMemory) {
  const DeviceArray<float> x(std::vector<float>(1, 1.0f)), y(8);
  EXPECT_EQ(error_of(&one_writes, 8, 99u, x.data(), y.data()), "");
  for (unsigned writer : {0u, 3u, 7u}) {
    const std::string error = error_of(&one_writes, 8, writer, x.data(), y.data());
    EXPECT_NE(error.find("of 4 bytes of device memory, which another block"), std::string::npos) << error;
  }
  EXPECT_NE(error_of(&all_write, 2, x.data()).find("a race"), std::string::npos);
  EXPECT_EQ(error_of(&all_write, 1, x.data()), "");
  EXPECT_EQ(error_of(&all_write, 1, x.data()), "");  // another launch
}

TEST_F(CudaAccesses, AtomicsRaceWithPlainAccessesOnly) {
  const DeviceArray<int> x(std::vector<int>(1, 0)), y(8);
  EXPECT_EQ(error_of(&all_count, 8, x.data()), "");
  EXPECT_EQ(x.read()[0], 8 * 64);
  EXPECT_NE(error_of(&count_and_look, 8, x.data(), y.data()).find("a race"), std::string::npos);
}

// A copy may be made at any time from its issue to the wait for it.
template <bool kBarrier>
__global__ void copied_over(const float* x, float* y) {
  SINEW_SHARED(float, buffer, [64 * 4]);
  const unsigned t = threadIdx.x;
  for (int i = 0; i < 2; ++i) {
    copy_async(buffer + t * 4, x + t * 4, true);
    copy_async_commit();
    copy_async_wait<0>();
    block_sync();
    y[t] = buffer[(63 - t) * 4];
    if (kBarrier) block_sync();
  }
}

TEST_F(CudaAccesses, AsynchronousCopies) {
  const DeviceArray<float> x(std::vector<float>(256, 1.0f)), y(64);
  for (const bool lazy : {false, true}) {
    emulate::options().lazy_copies = lazy;
    EXPECT_EQ(error_of(&copied_over<true>, 1, x.data(), y.data()), "");
    EXPECT_NE(error_of(&copied_over<false>, 1, x.data(), y.data()).find("a race"), std::string::npos);
  }
}

// kind: 0 behind a shared array, 1 behind dynamic memory, 2 and 3 behind and before device memory; all of it read or
// written.
template <bool kWrite>
__global__ void beyond(int kind, float* y) {
  SINEW_SHARED(float, fixed, [64]);
  SINEW_DYNAMIC_SHARED(float, dynamic);
  float* const begin[] = {fixed, dynamic, y};
  fixed[threadIdx.x] = dynamic[threadIdx.x] = 1.0f;
  float* const p = begin[kind < 3 ? kind : 2] + (kind == 3 ? -1 : 64);
  if (threadIdx.x != 5) return;
  if (kWrite)
    *p = 1.0f;
  else
    y[0] = *p;
}

TEST_F(CudaAccesses, AccessesOutOfBounds) {
  const char* const where[] = {"shared memory out of bounds", "shared memory out of bounds",
                               "0 bytes behind the end of 256 bytes of device memory",
                               "4 bytes before the begin of 256 bytes of device memory"};
  for (int kind = 0; kind < 4; ++kind) {
    const DeviceArray<float> y(64);
    for (const std::string& error :
         {error_of(&beyond<false>, 1, kind, y.data()), error_of(&beyond<true>, 1, kind, y.data())}) {
      EXPECT_NE(error.find(where[kind]), std::string::npos) << kind << ": " << error;
      EXPECT_NE(error.find("thread (5,0,0)"), std::string::npos) << error;
    }
  }
}

__global__ void sum_packs(const float* x, float* y) {
  const Pack<float> pack = *as_vector<const Pack<float>>(x + 4 * threadIdx.x);
  y[threadIdx.x] = pack.v[0] + pack.v[1] + pack.v[2] + pack.v[3];
}

TEST_F(CudaAccesses, AMisalignedLoadOfAVector) {
  const DeviceArray<float> x(std::vector<float>(260, 1.0f)), y(64);
  EXPECT_EQ(error_of(&sum_packs, 1, static_cast<const float*>(x.data()), y.data()), "");
  EXPECT_EQ(y.read(), std::vector<float>(64, 4.0f));
  const std::string error = error_of(&sum_packs, 1, static_cast<const float*>(x.data() + 1), y.data());
  EXPECT_NE(error.find("at an address that is not aligned to them"), std::string::npos) << error;
  EXPECT_EQ(error_of(&sum_packs, 1, static_cast<const float*>(x.data()), y.data()), "");  // as good as new
}

TEST_F(CudaAccesses, CanBeTurnedOff) {
  emulate::options().accesses = false;
  const DeviceArray<float> y(64);
  EXPECT_EQ(error_of(&shift<true, false, float>, 1, y.data()), "");
}

}  // namespace
}  // namespace sinew::testing
#endif
