#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

constexpr int64_t kSizes[] = {1, 2, 3, 4, 5, 1023, 5000};

template <class T>
std::vector<T> values(int64_t n, uint32_t stream) {
  return random_values<T>(static_cast<size_t>(n), -1, 1, stream);
}

template <class T>
void expect_near(const std::vector<T>& got, const std::vector<T>& want) {
  ASSERT_EQ(got.size(), want.size());
  const double tolerance = 4 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(want[i]), tolerance) << "element " << i;
}

template <class T>
void check_axpby(int64_t n, double a, double b, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", n " << n << ", " << a << " x + " << b
                                    << " y, offset " << offset);
  const std::vector<T> x = values<T>(n, 1), y = values<T>(n, 2);
  std::vector<T> want(x.size());
  cpu_kernels().axpby({dtype_of<T>, n, a, b, x.data(), y.data(), want.data()});
  const DeviceArray<T> dx(x, offset), dy(y, offset), dz(x.size(), offset);
  device().axpby({dtype_of<T>, n, a, b, dx.data(), b == 0 ? nullptr : dy.data(), dz.data()});
  expect_near(dz.read(), want);
  device().axpby({dtype_of<T>, n, a, b, dx.data(), dy.data(), dy.data()});
  expect_near(dy.read(), want);
  const DeviceArray<T> y_again(y, offset);
  device().axpby({dtype_of<T>, n, a, b, dx.data(), y_again.data(), dx.data()});
  expect_near(dx.read(), want);
}

TEST(CudaAxpby, SizesOffsetsAndInPlace) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (int64_t n : kSizes)
      for (size_t offset : {0, 1})
        for (double b : {0.0, 1.0, -0.75}) {
          check_axpby<float>(n, 0.5, b, offset);
          check_axpby<double>(n, -3, b, offset);
        }
  });
  device().axpby({DType::f32, 0, 1, 1, nullptr, nullptr, nullptr});
}

TEST(CudaAxpby, Long) {
  SINEW_NEEDS_CUDA();
  check_axpby<double>((int64_t{1} << 22) + 1031, 1, 1, 0);
}

template <class T>
double device_dot(const std::vector<T>& x, const std::vector<T>& y, size_t offset) {
  const DeviceArray<T> dx(x, offset), dy(y, offset);
  const DeviceArray<double> result(1);
  device().dot(
      {dtype_of<T>, static_cast<int64_t>(x.size()), dx.data(), &x == &y ? dx.data() : dy.data(), result.data()});
  return result.read()[0];
}

template <class T>
void check_dot(int64_t n) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", n " << n);
  const std::vector<T> x = values<T>(n, 1), y = values<T>(n, 2);
  double want = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    want += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    norm += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  EXPECT_NEAR(device_dot(x, y, 0), want, 1e-12 * (1 + std::sqrt(static_cast<double>(n))));
  EXPECT_NEAR(device_dot(x, x, 0), norm, 1e-13 * (1 + norm));
  EXPECT_EQ(device_dot(x, y, 1), device_dot(x, y, 0));  // the same bits, aligned or not
}

TEST(CudaDot, Sizes) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (int64_t n : {0, 1, 2, 3, 4, 5, 1023, 4096, 4097, 20001}) {
      check_dot<float>(n);
      check_dot<double>(n);
    }
  });
}

TEST(CudaDot, TheSameBitsInEveryOrderAndMoreSharesThanBlocks) {
  SINEW_NEEDS_CUDA();
  const std::vector<double> x = values<double>((int64_t{1} << 21) + 12345, 3);
  const double first = device_dot(x, x, 0);
  double want = 0;
  for (double v : x) want += v * v;
  EXPECT_NEAR(first, want, 1e-12 * want);
  const std::vector<float> y = values<float>(70001, 4);
  const double once = device_dot(y, y, 0);
  in_all_orders([&] { EXPECT_EQ(device_dot(y, y, 0), once); });
}

struct Elastic {
  bool d, move_x, move_c, distance;
};

template <class T>
void check_elastic(int64_t n, const Elastic& what, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", n " << n << ", offset " << offset << ", d "
                                    << what.d << ", moves " << what.move_x << what.move_c << ", distance "
                                    << what.distance);
  std::vector<T> x = values<T>(n, 1), c = values<T>(n, 2), d(x.size(), T(7));
  double distance2 = -1;
  const DeviceArray<T> dx(x, offset), dc(c, offset), dd(d, offset);
  const DeviceArray<double> result(std::vector<double>{-1.0});
  cpu_kernels().elastic({dtype_of<T>, n, 0.3, x.data(), c.data(), what.d ? d.data() : nullptr, what.move_x, what.move_c,
                         what.distance ? &distance2 : nullptr});
  device().elastic({dtype_of<T>, n, 0.3, dx.data(), dc.data(), what.d ? dd.data() : nullptr, what.move_x, what.move_c,
                    what.distance ? result.data() : nullptr});
  expect_near(dx.read(), x);
  expect_near(dc.read(), c);
  expect_near(dd.read(), d);
  EXPECT_NEAR(result.read()[0], distance2, 1e-13 * (1 + std::abs(distance2)));
}

TEST(CudaElastic, EveryFlag) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (int64_t n : {0, 1, 3, 4, 1023, 5000})
      for (unsigned flags = 0; flags < 16; ++flags) {
        const Elastic what{(flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, (flags & 8) != 0};
        check_elastic<float>(n, what, flags % 2);
        check_elastic<double>(n, what, 0);
      }
  });
}

TEST(CudaElastic, Long) {
  SINEW_NEEDS_CUDA();
  check_elastic<double>((int64_t{1} << 20) + 1031, {true, true, true, true}, 0);
  check_elastic<double>((int64_t{1} << 21) + 1031, {true, true, false, false}, 0);
}

}  // namespace
}  // namespace sinew::testing
