#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

constexpr RngKey kKey{(uint64_t{5} << 32) + 3, static_cast<uint32_t>(RngPurpose::test), 9, (uint64_t{1} << 40) + 1};
constexpr int64_t kSizes[] = {1, 2, 3, 4, 5, 1023, 1031};

template <class T>
void check_random(RandomDist dist, int64_t n, size_t offset, double p0, double p1, double tolerance) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", distribution " << static_cast<int>(dist) << ", n "
                                    << n << ", offset " << offset);
  std::vector<T> want(static_cast<size_t>(n));
  kernel::RandomArgs args{dist, dtype_of<T>, n, kKey, want.data(), p0, p1};
  cpu_kernels().random(args);
  const DeviceArray<T> y(want.size(), offset);
  args.y = y.data();
  device().random(args);
  const std::vector<T> got = y.read();
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(want[i]), tolerance * epsilon) << "element " << i;
}

template <class T>
void check_distributions() {
  for (int64_t n : kSizes)
    for (size_t offset : {0, 1, 2}) {
      check_random<T>(RandomDist::uniform, n, offset, 0, 1, 0);
      check_random<T>(RandomDist::uniform, n, offset, -2, 2, 0);  // exact: the width is a power of two
      check_random<T>(RandomDist::uniform, n, offset, -0.3, 0.7, 1);
      check_random<T>(RandomDist::rademacher, n, offset, 0, 0, 0);
      check_random<T>(RandomDist::normal, n, offset, 0.5, 2, 64);
    }
}

TEST(CudaRandom, TheCpusNumbers) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_distributions<float>();
    check_distributions<double>();
  });
  device().random({RandomDist::uniform, DType::f32, 0, kKey, nullptr, 0, 1});
}

// More than the largest grid makes at a time.
TEST(CudaRandom, Long) {
  SINEW_NEEDS_CUDA();
  check_random<float>(RandomDist::rademacher, (int64_t{1} << 22) + 4101, 0, 0, 0, 0);
}

template <class T>
void check_dropout(int64_t n, double keep, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", n " << n << ", keep " << keep << ", offset "
                                    << offset);
  const std::vector<T> x = random_values<T>(static_cast<size_t>(n), -1, 1, 1);
  std::vector<T> want(x.size());
  cpu_kernels().dropout({dtype_of<T>, n, keep, kKey, x.data(), want.data()});
  const DeviceArray<T> dx(x, offset), dy(x.size(), offset);
  device().dropout({dtype_of<T>, n, keep, kKey, dx.data(), dy.data()});
  EXPECT_EQ(dy.read(), want);
}

TEST(CudaDropout, TheCpusMask) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (int64_t n : kSizes)
      for (double keep : {0.1, 0.5, 1.0})
        for (size_t offset : {0, 1}) {
          check_dropout<float>(n, keep, offset);
          check_dropout<double>(n, keep, offset);
        }
  });
  device().dropout({DType::f32, 0, 0.5, kKey, nullptr, nullptr});
}

}  // namespace
}  // namespace sinew::testing
