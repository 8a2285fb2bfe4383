// mbarriers and bulk copies in the emulation: rings of buffers that are right run in every order, and each planted
// defect is found. Compiled like the kernels, so that accesses are checked.
#if defined(SINEW_CUDA_EMULATE)
#include "cuda/device/device.cuh"
//
#include <functional>
#include <string>

#include "core/bfloat16.h"
#include "cuda/emulate/accesses.h"
#include "cuda/launch.h"
#include "tests/cuda/defects.h"

namespace sinew::testing {
namespace {

using namespace cuda;  // NOLINT: kernels are written as in cuda/*.cu

class CudaMbarrier : public EmulationTest {
 protected:
  // Copies as late as may be, accesses checked.
  static void check_accesses() {
    emulate::options() = {.lazy_copies = true};
    emulate::options().accesses = true;
  }
};

// What a launch says of it; "" when nothing.
template <class... P, class... A>
std::string error_of(void (*kernel)(P...), unsigned threads, A... arguments) {
  return error_from([&] { run(kernel, {1}, {threads}, 8192, arguments...); });
}

enum class Defect : uint8_t {
  none,
  no_wait_for_full,
  no_wait_for_empty,
  no_arrival_at_empty,
  arrival_before_the_read,
  two_arrivals_at_empty,
  no_arrival_at_full,
  too_many_bytes_announced,
  too_few_bytes_announced,
  arrival_after_all,
  wrong_parity,
};

constexpr int kRounds = 7;

// A ring of two buffers of 32 floats: warp 1 fills them, by bulk copies of its first thread or by stores of all; warp 0
// adds them up. y[t] = sum of x (rounds, 32).
template <bool kBulk>
__global__ void ring(Defect defect, int rounds, const __grid_constant__ TensorMap map, const float* x, float* y) {
  SINEW_DYNAMIC_SHARED(float, buffers);
  SINEW_SHARED(Mbarrier, full, [2]);
  SINEW_SHARED(Mbarrier, empty, [2]);
  const int t = int(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < 2; ++s) {
      mbarrier_init(full + s, kBulk ? 1 : 32);
      mbarrier_init(empty + s, 32);
    }
    mbarrier_init_fence();
  }
  block_sync();
  if (threadIdx.x >= 32) {
    if (kBulk && t != 0) return;
    for (int i = 0; i < rounds; ++i) {
      const int s = i % 2, lap = i / 2;
      if (defect != Defect::no_wait_for_empty) mbarrier_wait(empty + s, unsigned(lap + 1) % 2);
      if (kBulk) {
        mbarrier_arrive_expect(full + s, defect == Defect::too_many_bytes_announced  ? 144
                                         : defect == Defect::too_few_bytes_announced ? 112
                                                                                     : 128);
        if (defect == Defect::arrival_after_all) mbarrier_arrive(full + s);
        load_box(buffers + s * 32, &map, full + s, 0, 2 * i);
      } else {
        buffers[s * 32 + t] = x[i * 32 + t];
        if (defect != Defect::no_arrival_at_full || t != 5) mbarrier_arrive(full + s);
      }
    }
  } else {
    float sum = 0;
    for (int i = 0; i < rounds; ++i) {
      const int s = i % 2, lap = i / 2;
      if (defect != Defect::no_wait_for_full)
        mbarrier_wait(full + s, unsigned(lap + (defect == Defect::wrong_parity ? 1 : 0)) % 2);
      if (defect == Defect::arrival_before_the_read) mbarrier_arrive(empty + s);
      sum += buffers[s * 32 + (t ^ 1)];
      if (defect == Defect::no_arrival_at_empty || defect == Defect::arrival_before_the_read) continue;
      mbarrier_arrive(empty + s);
      if (defect == Defect::two_arrivals_at_empty) mbarrier_arrive(empty + s);
    }
    y[t ^ 1] = sum;
  }
}

struct Ring {
  std::vector<float> values = random_values<float>(kRounds * 32, -1, 1, 1);
  DeviceArray<float> x{values}, y{32};
  // Rows of 16 floats; a buffer is two of them.
  TensorMap map() const { return make_tensor_map({x.data(), 4, 2, {16, 2 * kRounds}, {0, 64}, {16, 2}, 0}); }
  std::string error(bool bulk, Defect defect, int rounds = kRounds) const {
    return error_of(bulk ? &ring<true> : &ring<false>, 64, defect, rounds, map(), static_cast<const float*>(x.data()),
                    y.data());
  }
  std::vector<float> sums() const {
    std::vector<float> want(32, 0);
    for (size_t i = 0; i < values.size(); ++i) want[i % 32] += values[i];
    return want;
  }
};

TEST_F(CudaMbarrier, ARingOfBuffersRunsInEveryOrder) {
  in_all_orders([] {
    for (const bool bulk : {false, true}) {
      const Ring ring;
      EXPECT_EQ(ring.error(bulk, Defect::none), "");
      expect_close(ring.y.read(), ring.sums(), "sums");
    }
  });
}

#if defined(SINEW_CUDA_ACCESSES)
TEST_F(CudaMbarrier, MissingWaitsAndArrivalsOfARing) {
  check_accesses();
  const Ring ring;
  for (const bool bulk : {false, true})
    for (const bool lazy : {false, true}) {
      emulate::options().lazy_copies = lazy;
      SCOPED_TRACE(::testing::Message() << "bulk " << bulk << ", lazy " << lazy);
      EXPECT_EQ(ring.error(bulk, Defect::none), "");
      emulate::options().order = emulate::Order::reverse;  // the buffers are full when the others begin
      EXPECT_CONTAINS(ring.error(bulk, Defect::no_wait_for_full, 2), "a race");
      emulate::options().order = emulate::Order::fifo;
      EXPECT_CONTAINS(ring.error(bulk, Defect::arrival_before_the_read), "a race");
      // Or the order of the threads shows it otherwise: phases that go by, deadlocks.
      for (const Defect defect : {Defect::no_wait_for_full, Defect::no_wait_for_empty, Defect::wrong_parity})
        EXPECT_NE(ring.error(bulk, defect), "") << static_cast<int>(defect);
    }
  emulate::options().lazy_copies = false;
  EXPECT_CONTAINS(ring.error(true, Defect::no_wait_for_empty), "thread (32,0,0): load_box at ");
  EXPECT_CONTAINS(ring.error(true, Defect::no_wait_for_empty), "a race");
  EXPECT_CONTAINS(ring.error(false, Defect::no_wait_for_empty), "it may wait for ever");
  EXPECT_CONTAINS(ring.error(true, Defect::arrival_before_the_read), "kernel test kernel, block (0,0,0), thread (");
}
#endif

TEST_F(CudaMbarrier, WhatIsCountedWronglyIsFound) {
  const Ring ring;
  for (const bool lazy : {false, true}) {
    emulate::options() = {.lazy_copies = lazy};
    EXPECT_CONTAINS(ring.error(true, Defect::no_arrival_at_empty), "deadlock");
    EXPECT_CONTAINS(ring.error(true, Defect::no_arrival_at_empty), "needs 32 of 32 arrivals and 0 bytes");
    EXPECT_CONTAINS(ring.error(false, Defect::no_arrival_at_full), "needs 1 of 32 arrivals");
    EXPECT_CONTAINS(ring.error(true, Defect::too_many_bytes_announced), "needs 0 of 1 arrivals and 16 bytes");
    EXPECT_CONTAINS(ring.error(true, Defect::too_few_bytes_announced), "16 bytes more than were announced");
    EXPECT_CONTAINS(ring.error(true, Defect::arrival_after_all), "more arrivals than the 1 of a phase");
    EXPECT_NE(ring.error(true, Defect::two_arrivals_at_empty), "");
    EXPECT_EQ(ring.error(true, Defect::none), "");  // as good as new
  }
}

// One mbarrier, one thread or two, one thing wrong.
enum class Misuse : uint8_t {
  none,
  not_initialised,
  misaligned,
  not_shared,
  initialised_twice,
  invalidated,
  no_arrivals,
  accessed,
  accessed_when_invalid,
  no_fence,
  no_barrier,
  other_parity,
};
__global__ void one_mbarrier(Misuse misuse, const __grid_constant__ TensorMap map, float* y) {
  SINEW_DYNAMIC_SHARED(float, buffer);
  SINEW_SHARED(Mbarrier, barriers, [2]);
  Mbarrier* barrier = barriers;
  if (misuse == Misuse::misaligned) barrier = reinterpret_cast<Mbarrier*>(reinterpret_cast<char*>(barriers) + 4);
  if (misuse == Misuse::not_shared) barrier = reinterpret_cast<Mbarrier*>(y);
  if (threadIdx.x == 0) {
    if (misuse != Misuse::not_initialised) mbarrier_init(barrier, misuse == Misuse::no_arrivals ? 0 : 1);
    if (misuse == Misuse::initialised_twice) mbarrier_init(barrier, 1);
    if (misuse == Misuse::invalidated) mbarrier_invalidate(barrier);
    if (misuse == Misuse::accessed_when_invalid) {
      mbarrier_invalidate(barrier);
      barrier->state = 0;
      mbarrier_init(barrier, 1);
    }
    if (misuse == Misuse::accessed) barrier->state = 0;
    if (misuse != Misuse::no_fence) mbarrier_init_fence();
  }
  if (misuse != Misuse::no_barrier) block_sync();
  if (threadIdx.x == 1) {
    mbarrier_arrive_expect(barrier, 128);
    load_box(buffer, &map, barrier, 0, 0);
  }
  mbarrier_wait(barrier, misuse == Misuse::other_parity ? 2 : 0);
  y[threadIdx.x] = buffer[threadIdx.x];
}

TEST_F(CudaMbarrier, WrongUses) {
  const Ring ring;
  const auto error = [&](Misuse misuse) { return error_of(&one_mbarrier, 2, misuse, ring.map(), ring.y.data()); };
  for (const bool checked : {false, true}) {
    if (checked) check_accesses();
    EXPECT_EQ(error(Misuse::none), "");
    EXPECT_EQ(error(Misuse::accessed_when_invalid), "");
    EXPECT_CONTAINS(error(Misuse::not_initialised), "an mbarrier that is not initialised");
    EXPECT_CONTAINS(error(Misuse::not_initialised), "kernel test kernel, block (0,0,0), thread (");
    EXPECT_CONTAINS(error(Misuse::not_initialised), "mbarrier_test.cpp:");
    EXPECT_CONTAINS(error(Misuse::misaligned), "not aligned to 8 bytes");
    EXPECT_CONTAINS(error(Misuse::not_shared), "an mbarrier that is not in shared memory");
    EXPECT_CONTAINS(error(Misuse::initialised_twice), "initialised already, and not invalidated");
    EXPECT_CONTAINS(error(Misuse::invalidated), "an mbarrier that is not initialised");
    EXPECT_CONTAINS(error(Misuse::no_arrivals), "0 arrivals; 1 to 1048575 are allowed");
    EXPECT_CONTAINS(error(Misuse::no_fence), "no mbarrier_init_fence");
    EXPECT_CONTAINS(error(Misuse::other_parity), "a parity of 2");
  }
  if (!emulate::kChecksAccesses) return;
  EXPECT_CONTAINS(error(Misuse::accessed), "writes the memory of an mbarrier that is not invalidated");
  EXPECT_CONTAINS(error(Misuse::no_barrier), "a race");
}

enum class BadCopy : uint8_t { none, misaligned, within_a_group, beyond, nobody_waits, coordinates, barrier_alone };
__global__ void one_copy(BadCopy bad, const __grid_constant__ TensorMap map, float* y) {
  SINEW_DYNAMIC_SHARED(float, buffer);
  SINEW_SHARED(Mbarrier, barrier, [1]);
  mbarrier_init(barrier, 1);
  mbarrier_init_fence();
  mbarrier_arrive_expect(barrier, 128);
  float* const to = buffer + (bad == BadCopy::misaligned ? 4 : bad == BadCopy::beyond ? 2048 : 0);
  if (bad == BadCopy::coordinates)
    load_box(to, &map, barrier, 0, 0, 0);
  else
    load_box(to, &map, barrier, bad == BadCopy::within_a_group ? 2 : 0, 0);
  if (bad == BadCopy::nobody_waits) return;
  if (bad == BadCopy::barrier_alone) block_sync();
  if (bad != BadCopy::barrier_alone) mbarrier_wait(barrier, 0);
  y[0] = buffer[0];
  mbarrier_wait(barrier, 0);
}

TEST_F(CudaMbarrier, WrongCopies) {
  check_accesses();
  const Ring ring;
  const auto error = [&](BadCopy bad) { return error_of(&one_copy, 1, bad, ring.map(), ring.y.data()); };
  EXPECT_EQ(error(BadCopy::none), "");
  EXPECT_CONTAINS(error(BadCopy::misaligned), "not aligned to 128 bytes");
  EXPECT_CONTAINS(error(BadCopy::within_a_group), "begins 8 bytes into a row; multiples of 16 are allowed");
  EXPECT_CONTAINS(error(BadCopy::beyond), "not all shared memory");
  EXPECT_CONTAINS(error(BadCopy::coordinates), "more or fewer coordinates");
  EXPECT_CONTAINS(error(BadCopy::nobody_waits), "waits for 128 bytes of bulk copies");
  if (!emulate::kChecksAccesses) return;
  EXPECT_CONTAINS(error(BadCopy::barrier_alone), "which a bulk copy wrote");
}

__global__ void one_copy_of_pixels(int c, int w, int tap, const __grid_constant__ TensorMap map, float* y) {
  SINEW_DYNAMIC_SHARED(float, buffer);
  SINEW_SHARED(Mbarrier, barrier, [1]);
  mbarrier_init(barrier, 1);
  mbarrier_init_fence();
  mbarrier_arrive_expect(barrier, 1024);
  load_pixels(buffer, &map, barrier, c, w, 0, 0, tap, 0);
  mbarrier_wait(barrier, 0);
  y[0] = buffer[0];
}

// Of 4 x 4 pixels with 64 channels, under filters of 3 x 3.
PixelBoxes small_images(const void* data, int64_t n, int pixels) {
  return {.data = data,
          .n = n,
          .h = 4,
          .w = 4,
          .c = 64,
          .first_h = -1,
          .first_w = -1,
          .end_h = -1,
          .end_w = -1,
          .pixels = pixels};
}

TEST_F(CudaMbarrier, WrongCopiesOfPixels) {
  check_accesses();
  const DeviceArray<uint16_t> x(std::vector<uint16_t>(4 * 4 * 64, 1));
  const DeviceArray<float> y(1);
  const TensorMap map = make_pixel_map(small_images(x.data(), 1, 8));
  const auto error = [&](int c, int w, int tap) { return error_of(&one_copy_of_pixels, 1, c, w, tap, map, y.data()); };
  EXPECT_EQ(error(0, -1, 0), "");
  EXPECT_EQ(error(8, 2, 2), "");
  EXPECT_CONTAINS(error(4, 0, 0), "begins at channel 4; multiples of 8 are allowed");
  EXPECT_CONTAINS(error(0, 3, 0), "begins at pixel (0, 3), which is not of the map");
  EXPECT_CONTAINS(error(0, -2, 0), "begins at pixel (0, -2), which is not of the map");
  EXPECT_CONTAINS(error(0, 0, 256), "moves by tap (0, 256); 0 to 255 are allowed");
  const Ring ring;
  EXPECT_CONTAINS(error_of(&one_copy_of_pixels, 1, 0, 0, 0, ring.map(), y.data()), "a map that is not one of pixels");
}

// A warpgroup multiplies what lies in a buffer (ones, by a bulk copy), and the buffer is given back and filled again:
// kWait: after the product is done.
template <bool kWait>
__global__ void product_of_a_buffer(const __grid_constant__ TensorMap map, float* y) {
  SINEW_DYNAMIC_SHARED(bfloat16, ones);
  SINEW_SHARED(Mbarrier, full, [1]);
  SINEW_SHARED(Mbarrier, empty, [1]);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init(empty, 4);
    mbarrier_init_fence();
  }
  block_sync();
  if (threadIdx.x == 128)
    for (unsigned i = 0; i < 2; ++i) {
      mbarrier_wait(empty, (i + 1) % 2);
      mbarrier_arrive_expect(full, 8192);
      load_box(ones, &map, full, 0, 0);
    }
  if (threadIdx.x >= 128) return;
  float d[32] = {};
  for (unsigned i = 0; i < 2; ++i) {
    mbarrier_wait(full, i % 2);
    wgmma_fence();
    wgmma<64, false, false>(d, matrix_descriptor(ones, 16, 1024), matrix_descriptor(ones, 16, 1024));
    wgmma_commit();
    if (kWait) wgmma_wait<0>();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(empty);
  }
  wgmma_wait<0>();
  for (int i = 0; i < 32; ++i) y[threadIdx.x * 32 + i] = d[i];
}

TEST_F(CudaMbarrier, ABufferThatAProductStillReads) {
  const DeviceArray<bfloat16> x(std::vector<bfloat16>(4096, bfloat16(1.0f)));
  const DeviceArray<float> y(128 * 32);
  const TensorMap map = make_tensor_map({x.data(), 2, 2, {64, 64}, {0, 128}, {64, 64}, 128});
  const auto error = [&](bool wait) {
    try {
      launch(Kernel<TensorMap, float*>{"test kernel", wait ? &product_of_a_buffer<true> : &product_of_a_buffer<false>},
             {1}, {160}, 8192, nullptr, map, y.data());
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  in_all_orders([&] {
    EXPECT_EQ(error(true), "");
    EXPECT_EQ(y.read(), std::vector<float>(128 * 32, 32.0f));
  });
  if (!emulate::kChecksAccesses) return;
  check_accesses();
  for (const bool lazy : {false, true}) {
    emulate::options().lazy_copies = lazy;
    EXPECT_CONTAINS(error(false), "a race");
  }
  EXPECT_CONTAINS(error(false), "thread (128,0,0): load_box at ");
}

// kFence: after the operand is written.
template <bool kFence>
__global__ void product_of_what_threads_wrote(float* y) {
  SINEW_DYNAMIC_SHARED(bfloat16, ones);
  for (int i = int(threadIdx.x); i < 4096; i += 128) ones[i] = bfloat16(1.0f);
  if (kFence) proxy_fence();
  block_sync();
  float d[32] = {};
  wgmma_fence();
  wgmma<64, false, false>(d, matrix_descriptor(ones, 16, 1024), matrix_descriptor(ones, 16, 1024));
  wgmma_commit();
  wgmma_wait<0>();
  y[threadIdx.x] = d[0];
}

#if defined(SINEW_CUDA_ACCESSES)
TEST_F(CudaMbarrier, AProductOfWhatThreadsWroteNeedsAFence) {
  check_accesses();
  const DeviceArray<float> y(128);
  EXPECT_EQ(error_of(&product_of_what_threads_wrote<true>, 128, y.data()), "");
  EXPECT_CONTAINS(error_of(&product_of_what_threads_wrote<false>, 128, y.data()), "wrote with no proxy_fence after it");
}
#endif

// What making a map of these boxes fails with; "" when it does not.
template <class Boxes>
std::string error_of_map(TensorMap (*make)(const Boxes&), Boxes boxes, const std::function<void(Boxes&)>& change) {
  change(boxes);
  try {
    make(boxes);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST_F(CudaMbarrier, TensorsThatCannotBeMapped) {
  const DeviceArray<float> x(std::vector<float>(256, 1.0f));
  const TensorBoxes good{x.data(), 4, 2, {16, 16}, {0, 64}, {16, 2}, 64};
  const auto error = [&](const auto& change) { return error_of_map<TensorBoxes>(&make_tensor_map, good, change); };
  EXPECT_EQ(error([](TensorBoxes&) {}), "");
  EXPECT_CONTAINS(error([&](TensorBoxes& b) { b.data = x.data() + 1; }), "not aligned to 16 bytes");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.element_bytes = 8; }), "elements of 8 bytes; 2 and 4 are allowed");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.rank = 4; }), "a rank of 4; 1 to 3 are allowed");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.extent[1] = 0; }), "extent 1 is 0");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.stride[1] = 72; }), "stride 1 is 72 bytes");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.box[1] = 257; }), "extent 1 of the box is 257");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.box[0] = 10; }), "rows of the box have 40 bytes");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.swizzle_bytes = 128; }), "they must be equal");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.swizzle_bytes = 16; }), "0, 32, 64 and 128 are allowed");
  EXPECT_CONTAINS(error([](TensorBoxes& b) { b.extent[1] = 17; }), "not (all) device memory");
  std::vector<float> host(256);
  EXPECT_CONTAINS(error([&](TensorBoxes& b) {
                    b.data = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(host.data()) + 15) / 16 * 16);
                  }),
                  "not (all) device memory");
}

TEST_F(CudaMbarrier, ImagesThatCannotBeMapped) {
  const DeviceArray<uint16_t> x(std::vector<uint16_t>(2 * 4 * 4 * 64, 1));
  const PixelBoxes good = small_images(x.data(), 2, 32);
  const auto error = [&](const auto& change) { return error_of_map<PixelBoxes>(&make_pixel_map, good, change); };
  EXPECT_EQ(error([](PixelBoxes&) {}), "");
  EXPECT_CONTAINS(error([&](PixelBoxes& b) { b.data = x.data() + 1; }), "not aligned to 16 bytes");
  EXPECT_CONTAINS(error([](PixelBoxes& b) { b.n = 0; }), "an extent of 0; 1 to 2^31 - 1 are allowed");
  EXPECT_CONTAINS(error([](PixelBoxes& b) { b.c = 60; }), "60 channels; multiples of 8 are allowed");
  EXPECT_CONTAINS(error([](PixelBoxes& b) { b.first_w = -129; }), "-129 from the image; -128 to 127 are allowed");
  EXPECT_CONTAINS(error([](PixelBoxes& b) { b.end_h = -5; }), "there are no pixels");
  EXPECT_CONTAINS(error([](PixelBoxes& b) { b.channels = 32; }), "boxes of 32 channels; 64 are allowed");
  EXPECT_CONTAINS(error([](PixelBoxes& b) { b.pixels = 257; }), "boxes of 257 pixels; 1 to 256 are allowed");
  EXPECT_CONTAINS(error([](PixelBoxes& b) { b.n = 3; }), "not (all) device memory");
}

}  // namespace
}  // namespace sinew::testing
#endif
