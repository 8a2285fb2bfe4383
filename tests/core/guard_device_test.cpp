#include "tests/support/guard_device.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "core/kernel_api.h"

namespace sinew::testing {
namespace {

class GuardDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    install_guard_device();
    table_ = &kernels(Device::guard);
  }
  float* make(const std::vector<float>& values) {
    void* p = table_->allocate(values.size() * sizeof(float));
    table_->upload(p, values.data(), values.size() * sizeof(float));
    return static_cast<float*>(p);
  }
  std::vector<float> read(const float* p, size_t n) {
    std::vector<float> out(n);
    table_->download(out.data(), p, n * sizeof(float));
    return out;
  }
  const KernelTable* table_ = nullptr;
};
using GuardDeviceDeathTest = GuardDevice;

TEST_F(GuardDevice, KernelsWork) {
  float* x = make({1, 2, 3});
  float* y = make({0, 0, 0});
  table_->unary({UnaryOp::affine, DType::f32, 3, x, y, 2, 1});
  EXPECT_EQ(read(y, 3), (std::vector<float>{3, 5, 7}));
  table_->copy(x, y, 2 * sizeof(float));
  EXPECT_EQ(read(x, 3), (std::vector<float>{3, 5, 3}));
  table_->release(x, 12);
  table_->release(y, 12);
}

TEST_F(GuardDevice, FreshMemoryIsNaN) {
  void* p = table_->allocate(1 << 20);
  for (float v : read(static_cast<float*>(p), 1 << 18)) ASSERT_NE(v, v);
  table_->release(p, 1 << 20);
}

TEST_F(GuardDevice, MemoryIsReusedAndAligned) {
  const size_t before = guard_bytes_in_use();
  void* p = table_->allocate(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
  EXPECT_EQ(guard_bytes_in_use(), before + 128);
  table_->release(p, 100);
  EXPECT_EQ(guard_bytes_in_use(), before);
  void* q = table_->allocate(80);
  EXPECT_EQ(p, q);
  table_->release(q, 80);
  EXPECT_THROW(table_->allocate(size_t{1} << 40), Error);
}

TEST_F(GuardDevice, HostPointersAreRefused) {
  float* x = make({1, 2});
  float host[2] = {0, 0};
  EXPECT_THROW(table_->unary({UnaryOp::abs, DType::f32, 2, x, host, 0, 0}), Error);
  EXPECT_THROW(table_->unary({UnaryOp::abs, DType::f32, 2, host, x, 0, 0}), Error);
  EXPECT_THROW(table_->upload(host, host, 8), Error);
  EXPECT_THROW(table_->upload(x, x, 8), Error);
  EXPECT_THROW(table_->download(x, x, 8), Error);
  EXPECT_THROW(table_->copy(x, host, 8), Error);
  table_->release(x, 8);
}

TEST_F(GuardDevice, SeveralThreads) {
  std::vector<std::thread> threads;
  std::vector<float> sums(4);
  for (size_t t = 0; t < sums.size(); ++t)
    threads.emplace_back([&, t] {
      float* x = make({0, 0, 0, 0});
      for (int i = 0; i < 50; ++i) table_->unary({UnaryOp::affine, DType::f32, 4, x, x, 1, double(t)});
      for (float v : read(x, 4)) sums[t] += v;
      table_->release(x, 16);
    });
  for (std::thread& t : threads) t.join();
  for (size_t t = 0; t < sums.size(); ++t) EXPECT_EQ(sums[t], 200.0f * float(t));
}

TEST_F(GuardDeviceDeathTest, HostReadDies) {
  float* x = make({1, 2});
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile float*>(x)), "");
  table_->release(x, 8);
}

TEST_F(GuardDeviceDeathTest, HostWriteDies) {
  float* x = make({1, 2});
  EXPECT_DEATH(*static_cast<volatile float*>(x) = 1, "");
  table_->release(x, 8);
}

}  // namespace
}  // namespace sinew::testing
