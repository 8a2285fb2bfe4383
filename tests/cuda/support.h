// What the backend's tests share: device arrays, a CPU twin of every call, and the orders threads run in.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/kernel_api.h"
#include "core/philox.h"
#include "cuda/install.h"
#if defined(SINEW_CUDA_EMULATE)
#include "cuda/emulate/executor.h"
#endif

namespace sinew::testing {

// Installs the backend, or skips the test where there is no device.
#define SINEW_NEEDS_CUDA() \
  if (const Status status = cuda::install(); !status.ok()) GTEST_SKIP() << status.message()

inline const KernelTable& device() { return kernels(Device::cuda); }

// Runs body once per order of threads, with one of two fillings of fresh memory each; accesses are checked in the first
// (once on a real device, which chooses its own order).
template <class Body>
void in_all_orders(const Body& body) {
#if defined(SINEW_CUDA_EMULATE)
  using cuda::emulate::Order;
  const cuda::emulate::Options before = cuda::emulate::options();
  for (cuda::emulate::Options options : {cuda::emulate::Options{.order = Order::fifo, .lazy_copies = true},
                                         {.order = Order::reverse, .lazy_copies = true, .poison = 0x3C},
                                         {.order = Order::random, .seed = 1},
                                         {.order = Order::random, .seed = 2, .poison = 0x3C}}) {
    options.accesses = before.accesses || options.order == Order::fifo;
    SCOPED_TRACE(::testing::Message() << "order " << static_cast<int>(options.order) << ", seed " << options.seed);
    cuda::emulate::options() = options;
    body();
  }
  cuda::emulate::options() = before;
#else
  body();
#endif
}

// An array of device memory with `offset` elements in front of data(), to test unaligned pointers.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t n, size_t offset = 0)
      : n_(n), offset_(offset), p_(static_cast<T*>(device().allocate(bytes()))) {}
  explicit DeviceArray(const std::vector<T>& values, size_t offset = 0) : DeviceArray(values.size(), offset) {
    device().upload(data(), values.data(), n_ * sizeof(T));
  }
  ~DeviceArray() { device().release(p_, bytes()); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return p_ + offset_; }
  std::vector<T> read() const {
    std::vector<T> values(n_);
    device().download(values.data(), data(), n_ * sizeof(T));
    return values;
  }

 private:
  size_t bytes() const { return n_ + offset_ == 0 ? 1 : (n_ + offset_) * sizeof(T); }
  size_t n_, offset_;
  T* p_;
};

// Relative to 1 + |want|: sums in another order, products and sums in one rounding.
template <class T>
void expect_close(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const double tolerance = 256 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(want[i]),
                tolerance * (1 + std::abs(static_cast<double>(want[i]))))
        << what << " element " << i;
}

// Uniform in [low, high), the same on every machine.
template <class T>
std::vector<T> random_values(size_t n, double low, double high, uint32_t stream) {
  std::vector<T> values(n);
  for (size_t i = 0; i < n; ++i)
    values[i] = static_cast<T>(
        low + (high - low) * uniform01(philox_u64({7, static_cast<uint32_t>(RngPurpose::test), stream, 0}, i)));
  return values;
}

}  // namespace sinew::testing
