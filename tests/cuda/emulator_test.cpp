// The emulation itself: what it finds in wrong kernels, and that right ones run in every order.
#if defined(SINEW_CUDA_EMULATE)
#include "cuda/device/device.cuh"
//
#include <cmath>
#include <string>
#include <thread>

#include "core/bfloat16.h"
#include "cuda/launch.h"
#include "tests/cuda/defects.h"

namespace sinew::testing {
namespace {

using namespace cuda;  // NOLINT: kernels are written as in cuda/*.cu

using CudaEmulator = EmulationTest;
using CudaEmulatorDeathTest = CudaEmulator;

__global__ void coordinates(unsigned* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  atomic_add(out + i, i + 1);
}

TEST_F(CudaEmulator, EveryThreadOfEveryBlockRunsOnce) {
  in_all_orders([] {
    const DeviceArray<unsigned> out(std::vector<unsigned>(3 * 2 * 2 * 5 * 3 * 2, 0));
    run(coordinates, {3, 2, 2}, {5, 3, 2}, 0, out.data());
    const std::vector<unsigned> values = out.read();
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], i + 1);
  });
}

__global__ void reverse_block(const float* x, float* y) {
  SINEW_SHARED(float, values, [128]);
  const unsigned t = threadIdx.x, n = blockDim.x;
  values[t] = x[blockIdx.x * n + t];
  block_sync();
  y[blockIdx.x * n + t] = values[n - 1 - t];
}

__global__ void reverse_block_without_barrier(const float* x, float* y) {
  SINEW_SHARED(float, values, [128]);
  const unsigned t = threadIdx.x, n = blockDim.x;
  values[t] = x[blockIdx.x * n + t];
  y[blockIdx.x * n + t] = values[n - 1 - t];
}

std::vector<float> reversed(const std::vector<float>& x, size_t block) {
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i / block * block + block - 1 - i % block];
  return y;
}

TEST_F(CudaEmulator, BarriersAndStaticSharedMemory) {
  const std::vector<float> x = random_values<float>(4 * 96, 0, 1, 1);
  in_all_orders([&] {
    const DeviceArray<float> in(x), out(x.size());
    run(reverse_block, {4}, {96}, 0, in.data(), out.data());
    EXPECT_EQ(out.read(), reversed(x, 96));
  });
}

TEST_F(CudaEmulator, AMissingBarrierIsFound) {
  const std::vector<float> x = random_values<float>(4 * 96, 0, 1, 1);
  in_all_orders([&] {
    const DeviceArray<float> in(x), out(x.size());
    run(reverse_block_without_barrier, {4}, {96}, 0, in.data(), out.data());
    EXPECT_NE(out.read(), reversed(x, 96));  // reads the NaN that fills fresh shared memory
  });
}

// Wrong only when a later thread runs first: why there are several orders.
__global__ void write_after_read(float* y) {
  SINEW_SHARED(float, values, [64]);
  const unsigned t = threadIdx.x;
  values[t] = float(t);
  block_sync();
  const float left = t > 0 ? values[t - 1] : 0.0f;
  values[t] = left;  // needs a barrier before it
  block_sync();
  y[t] = values[t];
}

TEST_F(CudaEmulator, AWriteAfterReadRaceIsFoundByAnotherOrder) {
  std::vector<float> want(64);
  for (size_t i = 1; i < 64; ++i) want[i] = float(i - 1);
  int right = 0, wrong = 0;
  in_all_orders([&] {
    const DeviceArray<float> out(64);
    run(write_after_read, {1}, {64}, 0, out.data());
    ++(out.read() == want ? right : wrong);
  });
  EXPECT_GT(wrong, 0);
  EXPECT_GT(right, 0);
}

__global__ void two_barriers(int* y) {
  if (threadIdx.x < 40) {
    block_sync();
  } else {
    y[0] = 1;
    block_sync();
  }
}

TEST_F(CudaEmulator, ADivergentBarrierIsAnError) {
  in_all_orders([] {
    const DeviceArray<int> y(1);
    const std::string error = error_from([&] { run(two_barriers, {2}, {64}, 0, y.data()); });
    EXPECT_CONTAINS(error, "kernel test kernel, block (");
    EXPECT_CONTAINS(error, "thread (");
    EXPECT_CONTAINS(error, "comes to block_sync at ");
    EXPECT_CONTAINS(error, "threads wait in block_sync at ");
  });
}

__global__ void early_end(int*) {
  if (threadIdx.x == 5) return;
  block_sync();
}

TEST_F(CudaEmulator, AThreadThatEndsWhileOthersWaitIsAnError) {
  in_all_orders([] {
    const DeviceArray<int> y(1);
    const std::string error = error_from([&] { run(early_end, {1}, {64}, 0, y.data()); });
    EXPECT_TRUE(error.find("ends while") != std::string::npos || error.find("have ended") != std::string::npos)
        << error;
  });
  // The executor is as good as new after an error.
  const DeviceArray<float> in(std::vector<float>(96, 2.0f)), out(96);
  run(reverse_block, {1}, {96}, 0, in.data(), out.data());
  EXPECT_EQ(out.read(), std::vector<float>(96, 2.0f));
}

__global__ void barrier_against_shuffle(int* y) {
  if (threadIdx.x % 32 == 3)
    block_sync();
  else
    y[threadIdx.x] = warp_shuffle_xor(1, 1);
}

TEST_F(CudaEmulator, ADeadlockNamesWhoWaitsWhere) {
  in_all_orders([] {
    const DeviceArray<int> y(64);
    const std::string error = error_from([&] { run(barrier_against_shuffle, {1}, {64}, 0, y.data()); });
    EXPECT_CONTAINS(error, "deadlock; 2 threads (first (3,0,0)) wait in block_sync at ");
    EXPECT_CONTAINS(error, "62 threads (first (0,0,0)) wait in warp_shuffle_xor at ");
  });
}

__global__ void divergent_shuffle(int* y) {
  if (threadIdx.x < 7)
    y[threadIdx.x] = warp_shuffle_xor(1, 1);
  else
    y[threadIdx.x] = warp_shuffle_xor(2, 1);
}

TEST_F(CudaEmulator, ADivergentShuffleIsAnError) {
  in_all_orders([] {
    const DeviceArray<int> y(32);
    EXPECT_CONTAINS(error_from([&] { run(divergent_shuffle, {1}, {32}, 0, y.data()); }), "while");
  });
}

struct Wide {
  double a;
  int b, c;
};
template <class T>
__global__ void butterflies(T* y) {
  T sum = T(threadIdx.x + 1);
  for (int mask = 16; mask > 0; mask /= 2) sum = T(sum + warp_shuffle_xor(sum, mask));
  y[threadIdx.x] = sum;
}
__global__ void exchange_structs(Wide* y) {
  const int t = int(threadIdx.x);
  y[t] = warp_shuffle_xor(Wide{t * 0.5, t, -t}, 5);
}

template <class T>
void check_butterflies() {
  const DeviceArray<T> y(64);
  run(butterflies<T>, {1}, {64}, 0, y.data());
  std::vector<T> want(64);
  for (size_t i = 0; i < 64; ++i) want[i] = T(i < 32 ? 528 : 528 + 32 * 32);
  EXPECT_EQ(y.read(), want);
}

TEST_F(CudaEmulator, Shuffles) {
  in_all_orders([] {
    check_butterflies<float>();
    check_butterflies<double>();
    check_butterflies<int64_t>();
    check_butterflies<uint8_t>();
    const DeviceArray<Wide> y(32);
    run(exchange_structs, {1}, {32}, 0, y.data());
    const std::vector<Wide> got = y.read();
    for (int t = 0; t < 32; ++t) {
      EXPECT_EQ(got[size_t(t)].a, (t ^ 5) * 0.5);
      EXPECT_EQ(got[size_t(t)].b, t ^ 5);
      EXPECT_EQ(got[size_t(t)].c, -(t ^ 5));
    }
  });
}

__global__ void dynamic_sum(const int* x, int* y) {
  SINEW_DYNAMIC_SHARED(int, values);
  values[threadIdx.x] = x[threadIdx.x];
  block_sync();
  if (threadIdx.x != 0) return;
  int sum = 0;
  for (unsigned i = 0; i < blockDim.x; ++i) sum += values[i];
  y[0] = sum;
}

TEST_F(CudaEmulator, DynamicSharedMemory) {
  in_all_orders([] {
    const DeviceArray<int> x(std::vector<int>(100, 3)), y(1);
    run(dynamic_sum, {1}, {100}, 100 * sizeof(int), x.data(), y.data());
    EXPECT_EQ(y.read()[0], 300);
  });
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_F(CudaEmulator, AWriteBehindSharedMemoryIsAnError) {
  const DeviceArray<int> x(std::vector<int>(100, 3)), y(1);
  const std::string error = error_from([&] { run(dynamic_sum, {1}, {100}, 99 * sizeof(int), x.data(), y.data()); });
  EXPECT_CONTAINS(error, "writes beyond its shared memory");
  EXPECT_CONTAINS(error_from([&] { run(dynamic_sum, {1}, {100}, 0, x.data(), y.data()); }), "beyond its shared memory");
}
#endif

__global__ void read_uninitialised(float* y) {
  SINEW_SHARED(float, fixed, [4]);
  SINEW_DYNAMIC_SHARED(float, dynamic);
  y[blockIdx.x * 2] = fixed[1];
  y[blockIdx.x * 2 + 1] = dynamic[1];
  fixed[1] = dynamic[1] = 1;  // must not be seen by the next block
}

TEST_F(CudaEmulator, UninitialisedSharedMemoryIsNaN) {
  const DeviceArray<float> y(std::vector<float>(6, 0.0f));
  run(read_uninitialised, {3}, {1}, 16, y.data());
  for (float v : y.read()) EXPECT_TRUE(std::isnan(v));
}

TEST_F(CudaEmulator, FreshDeviceMemoryIsNaN) {
  const DeviceArray<float> y(100);
  for (float v : y.read()) EXPECT_TRUE(std::isnan(v));
}

// Takes the larger of 0 and what is there: right by luck where fresh integers are -1.
__global__ void floor_of_unwritten(const int* device_memory, int* y) {
  SINEW_SHARED(int, fixed, [4]);
  y[0] = fixed[1] > 0 ? fixed[1] : 0;
  y[1] = device_memory[1] > 0 ? device_memory[1] : 0;
}

TEST_F(CudaEmulator, AnUninitialisedIntegerShowsBetweenTwoFillings) {
  std::vector<std::vector<int>> results;
  for (const uint8_t poison : {0xFF, 0x3C}) {
    emulate::options().poison = poison;
    const DeviceArray<int> fresh(4), y(2);
    run(floor_of_unwritten, {1}, {1}, 0, fresh.data(), y.data());
    results.push_back(y.read());
  }
  emulate::options() = {};
  EXPECT_EQ(results[0], (std::vector<int>{0, 0}));
  EXPECT_EQ(results[1], (std::vector<int>{0x3C3C3C3C, 0x3C3C3C3C}));
}

__global__ void too_much_static(int* y) {
  SINEW_SHARED(char, a, [40000]);
  SINEW_SHARED(char, b, [10000]);
  y[0] = a[0] + b[0];
}
__global__ void nothing(int*) {}

TEST_F(CudaEmulator, LimitsOfTheDevice) {
  const DeviceArray<int> y(1);
  EXPECT_CONTAINS(error_from([&] { run(too_much_static, {1}, {1}, 0, y.data()); }), "50000 bytes of static");
  EXPECT_CONTAINS(error_from([&] { run(nothing, {1}, {1}, 228 * 1024, y.data()); }), "shared memory");
  EXPECT_CONTAINS(error_from([&] { run(nothing, {1}, {1025}, 0, y.data()); }), "block of (1025,1,1)");
  EXPECT_CONTAINS(error_from([&] { run(nothing, {0}, {32}, 0, y.data()); }), "grid of (0,1,1)");
  EXPECT_CONTAINS(error_from([&] { run(nothing, {1, 70000}, {32}, 0, y.data()); }), "grid of (1,70000,1)");
  EXPECT_EQ(error_from([&] { run(nothing, {1}, {1024}, 227 * 1024, y.data()); }), "");
}

TEST_F(CudaEmulator, HostPointersAreRefused) {
  int host = 0;
  EXPECT_CONTAINS(error_from([&] { run(nothing, {1}, {1}, 0, &host); }), "argument 0");
  EXPECT_CONTAINS(error_from([&] {
                    device().unary({UnaryOp::abs, DType::f32, 1, &host, &host, 0, 0});
                  }),
                  "is host memory");
  EXPECT_THROW(device().upload(&host, &host, 4), Error);
  EXPECT_THROW(device().download(&host, &host, 4), Error);
  EXPECT_THROW(device().release(&host, 4), Error);
  void* p = device().allocate(100);
  EXPECT_THROW(device().upload(p, std::vector<char>(101).data(), 101), Error);  // over the end
  device().release(p, 100);
  EXPECT_THROW(device().release(p, 100), Error);
}

TEST_F(CudaEmulator, LaunchesFromSeveralOsThreads) {
  std::vector<std::thread> threads;
  std::vector<int> good(3);
  for (size_t i = 0; i < good.size(); ++i)
    threads.emplace_back([&good, i] {
      const std::vector<float> x = random_values<float>(8 * 96, 0, 1, uint32_t(i));
      for (int round = 0; round < 20; ++round) {
        const DeviceArray<float> in(x), out(x.size());
        run(reverse_block, {8}, {96}, 0, in.data(), out.data());
        good[i] += out.read() == reversed(x, 96);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(good, std::vector<int>(3, 20));
}

#if defined(__SANITIZE_ADDRESS__)
__global__ void over_the_end(int kind, int* y) {
  SINEW_SHARED(int, fixed, [64]);
  SINEW_DYNAMIC_SHARED(int, dynamic);
  const unsigned t = threadIdx.x;
  int* const begin = fixed;  // without its extent, so that the address is checked and not the index
  if (kind == 0) begin[t + 1] = 1;
  if (kind == 1) dynamic[t + 1] = 1;
  if (kind == 2) y[t + 1] = 1;
  if (kind == 3) dynamic[int(t) - 1] = 1;
}

TEST_F(CudaEmulatorDeathTest, OutOfBoundsIsFoundByAddressSanitizer) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (int kind = 0; kind < 4; ++kind) {
    const int n = 64;
    int* y = static_cast<int*>(device().allocate(n * sizeof(int)));
    EXPECT_DEATH(run(over_the_end, {1}, {64}, n * sizeof(int), kind, y), "AddressSanitizer") << "kind " << kind;
    device().release(y, n * sizeof(int));
  }
}
#endif

// The block's rows one behind the other, through two buffers; what is left out of it are the two mistakes.
template <bool kWait, bool kSecondBarrier>
__global__ void copied_rows(int rows, const float* x, float* y) {
  SINEW_SHARED(float, buffer, [2][32 * 4]);
  const int t = static_cast<int>(threadIdx.x);
  const auto fetch = [&](int row) {
    if (row < rows) copy_async(buffer[row % 2] + t * 4, x + (row * 32 + t) * 4, true);
    copy_async_commit();
  };
  fetch(0);
  for (int row = 0; row < rows; ++row) {
    fetch(row + 1);
    copy_async_wait<kWait ? 1 : 2>();
    block_sync();
    for (int i = 0; i < 4; ++i) y[(row * 32 + t) * 4 + i] = buffer[row % 2][(31 - t) * 4 + i];
    if (kSecondBarrier) block_sync();
  }
  copy_async_wait<0>();
}

TEST_F(CudaEmulator, AsynchronousCopies) {
  constexpr int kRows = 5;
  const std::vector<float> x = random_values<float>(size_t{kRows} * 128, 0, 1, 1);
  std::vector<float> want(x.size());
  for (size_t i = 0; i < x.size(); ++i) want[i] = x[i / 128 * 128 + (31 - i % 128 / 4) * 4 + i % 4];
  const DeviceArray<float> in(x);
  const auto result = [&](auto kernel) {
    const DeviceArray<float> out(x.size());
    run(kernel, {1}, {32}, 0, kRows, in.data(), out.data());
    return out.read();
  };
  int without_wait = 0, without_barrier = 0;
  in_all_orders([&] {
    EXPECT_EQ(result(&copied_rows<true, true>), want);
    without_wait += result(&copied_rows<false, true>) != want;
    without_barrier += result(&copied_rows<true, false>) != want;
  });
  EXPECT_GT(without_wait, 0);
  EXPECT_GT(without_barrier, 0);
}

__global__ void copy_nobody_waits_for(const float* x) {
  SINEW_SHARED(float, buffer, [4]);
  copy_async(buffer, x, true);
  copy_async_commit();
}
__global__ void copy_to_odd_address(const float* x) {
  SINEW_SHARED(float, buffer, [8]);
  copy_async(buffer + 1, x, true);
}
__global__ void copy_to_global(float* x) { copy_async(x, x, true); }

TEST_F(CudaEmulator, WrongAsynchronousCopies) {
  const DeviceArray<float> x(std::vector<float>(8, 1));
  emulate::options().lazy_copies = true;
  const std::string waiting = error_from([&] { run(copy_nobody_waits_for, {1}, {1}, 0, x.data()); });
  emulate::options() = {};
  EXPECT_CONTAINS(waiting, "ends before asynchronous copies");
  const std::string odd = error_from([&] { run(copy_to_odd_address, {1}, {1}, 0, x.data()); });
  EXPECT_CONTAINS(odd, "not aligned to 16 bytes");
  const std::string global = error_from([&] { run(copy_to_global, {1}, {1}, 0, x.data()); });
  EXPECT_CONTAINS(global, "not shared");
}

// One product of ones (64 x 16 by 16 x 64), and what comes of it: every element is 16. kWait: before it is read;
// kSpoil: the operand is written over before that.
template <bool kWait, bool kSpoil>
__global__ void product_of_ones(float* y) {
  SINEW_DYNAMIC_SHARED(bfloat16, ones);  // rows of 128 bytes: both operands
  for (int i = int(threadIdx.x); i < 4096; i += 128) ones[i] = bfloat16(1.0f);
  proxy_fence();
  block_sync();
  float d[32] = {};
  wgmma_fence();
  wgmma<64, false, true>(d, matrix_descriptor(ones, 16, 1024), matrix_descriptor(ones, 8192, 1024));
  wgmma_commit();
  if (kSpoil)
    for (int i = int(threadIdx.x); i < 4096; i += 128) ones[i] = bfloat16(2.0f);
  if (kWait) wgmma_wait<0>();
  for (int i = 0; i < 32; ++i) y[threadIdx.x * 32 + i] = d[i];
  wgmma_wait<0>();
}
__global__ void product_nobody_waits_for() {
  SINEW_DYNAMIC_SHARED(bfloat16, ones);
  float d[32] = {};
  wgmma_fence();
  wgmma<64, false, false>(d, matrix_descriptor(ones, 16, 1024), matrix_descriptor(ones, 16, 1024));
  wgmma_commit();
}
// The fences that are left out: before the first product, or before the one after a wait.
template <bool kFirst, bool kSecond>
__global__ void two_products(float* y) {
  SINEW_DYNAMIC_SHARED(bfloat16, ones);
  for (int i = int(threadIdx.x); i < 4096; i += 128) ones[i] = bfloat16(1.0f);
  proxy_fence();
  block_sync();
  float d[32] = {};
  for (const bool fence : {kFirst, kSecond}) {
    if (fence) wgmma_fence();
    wgmma<64, false, true>(d, matrix_descriptor(ones, 16, 1024), matrix_descriptor(ones, 8192, 1024));
    wgmma_commit();
    wgmma_wait<0>();
    for (float& value : d) value += 1.0f;
  }
  for (int i = 0; i < 32; ++i) y[threadIdx.x * 32 + i] = d[i];
}
__global__ void product_of_other_memory(const float* x) { matrix_descriptor(x, 16, 1024); }

TEST_F(CudaEmulator, ProductsOfWarpgroups) {
  const DeviceArray<float> y(128 * 32);
  const std::vector<float> right(128 * 32, 16.0f);
  in_all_orders([&] {
    run(product_of_ones<true, false>, {1}, {128}, 8192, y.data());
    EXPECT_EQ(y.read(), right);
  });
  emulate::options().lazy_copies = true;
  run(product_of_ones<false, false>, {1}, {128}, 8192, y.data());
  EXPECT_NE(y.read(), right) << "a result that nobody waited for";
  run(product_of_ones<true, true>, {1}, {128}, 8192, y.data());
  EXPECT_NE(y.read(), right) << "an operand that was written over";
  const std::string waiting = error_from([&] { run(product_nobody_waits_for, {1}, {128}, 8192); });
  emulate::options() = {};
  EXPECT_CONTAINS(waiting, "ends before a wgmma");
  const std::string global = error_from([&] { run(product_of_other_memory, {1}, {1}, 0, y.data()); });
  EXPECT_CONTAINS(global, "not shared");
}

// No value shows it here: on the device the tensor cores may read registers before they are written.
TEST_F(CudaEmulator, AMissingFenceBeforeAProductIsAnError) {
  const DeviceArray<float> y(128 * 32);
  in_all_orders([&] {
    run(two_products<true, true>, {1}, {128}, 8192, y.data());
    EXPECT_EQ(y.read(), std::vector<float>(128 * 32, 34.0f));
    for (const auto kernel : {&two_products<false, true>, &two_products<true, false>})
      EXPECT_CONTAINS(error_from([&] { run(kernel, {1}, {128}, 8192, y.data()); }), "with no wgmma_fence before it");
  });
}

}  // namespace
}  // namespace sinew::testing
#endif
