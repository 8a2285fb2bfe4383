// Pooling and its transposes against the CPU's table: the same order of additions, so tolerances are for contraction
// only.
#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

struct Case {
  int64_t n, h, w, c, kernel, stride, pad;
  size_t offset = 0;  // of every pointer, in elements

  int64_t p() const { return (h + 2 * pad - kernel) / stride + 1; }
  int64_t q() const { return (w + 2 * pad - kernel) / stride + 1; }
  size_t inputs() const { return static_cast<size_t>(n * h * w * c); }
  size_t outputs() const { return static_cast<size_t>(n * p() * q() * c); }
};
// Windows side by side, overlapping, with gaps, one over all, larger than 3; channels that do not fill 16 bytes, more
// than a block has threads, unaligned pointers; extents 1 and 0.
constexpr Case kCases[] = {
    {2, 8, 8, 8, 2, 2, 0},  {1, 9, 7, 5, 2, 2, 0},    {2, 9, 8, 4, 3, 2, 1},    {1, 5, 6, 16, 3, 1, 1},
    {1, 7, 11, 3, 2, 3, 0}, {3, 7, 7, 12, 7, 7, 0},   {1, 9, 9, 2, 5, 4, 2},    {1, 4, 4, 300, 2, 1, 1},
    {1, 1, 1, 1, 1, 1, 0},  {2, 6, 6, 8, 3, 3, 0, 1}, {1, 6, 5, 8, 2, 2, 0, 2}, {0, 4, 4, 3, 2, 2, 0},
    {2, 4, 4, 0, 2, 2, 0},  {1, 2, 1200, 4, 2, 2, 0}, {1, 5, 7, 4, 2, 2, 1},    {1, 8, 9, 5, 3, 2, 0},
    {2, 7, 6, 4, 3, 2, 2},  {1, 1, 3, 8, 3, 2, 1},    {1, 5, 4, 260, 3, 2, 1},  {1, 6, 7, 8, 3, 2, 1, 1}};

using Entry = void (*)(const kernel::PoolArgs&);

template <class T>
kernel::PoolArgs args_of(const Case& c, const T* x, T* y, uint8_t* index) {
  return {dtype_of<T>, c.n, c.h, c.w, c.c, c.p(), c.q(), c.kernel, c.stride, c.pad, x, y, index};
}

// Places are read unless `writes` says that the entry writes them; they come back.
template <class T>
std::vector<T> on_device(Entry entry, const Case& c, const std::vector<T>& x, size_t n, std::vector<uint8_t>* index,
                         bool writes = false) {
  const DeviceArray<T> in(x, c.offset), out(n, c.offset);
  const DeviceArray<uint8_t> places(index ? *index : std::vector<uint8_t>(), c.offset);
  entry(args_of<T>(c, in.data(), out.data(), index ? places.data() : nullptr));
  if (writes) *index = places.read();
  return out.read();
}
template <class T>
std::vector<T> on_cpu(Entry entry, const Case& c, const std::vector<T>& x, size_t n, std::vector<uint8_t>* index) {
  std::vector<T> y(n);
  if (n > 0) entry(args_of<T>(c, x.data(), y.data(), index ? index->data() : nullptr));
  return y;
}

template <class T>
void expect_close(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(want[i]),
                16 * static_cast<double>(std::numeric_limits<T>::epsilon()))
        << what << " element " << i;
}

template <class T>
void check(const Case& c) {
  SCOPED_TRACE(::testing::Message() << "(" << c.n << ", " << c.h << ", " << c.w << ", " << c.c << ") kernel "
                                    << c.kernel << " stride " << c.stride << " pad " << c.pad << " "
                                    << to_string(dtype_of<T>));
  const std::vector<T> x = random_values<T>(c.inputs(), -1, 1, 1), y = random_values<T>(c.outputs(), -1, 1, 2);
  std::vector<uint8_t> places(c.outputs()), places_on_device(c.outputs(), 255);
  const std::vector<T> maximum = on_cpu(cpu_kernels().max_pool, c, x, c.outputs(), &places);
  EXPECT_EQ(on_device(device().max_pool, c, x, c.outputs(), &places_on_device, true), maximum);
  EXPECT_EQ(places_on_device, places);
  EXPECT_EQ(on_device<T>(device().max_pool, c, x, c.outputs(), nullptr), maximum);
  EXPECT_EQ(on_device(device().max_pool_gather, c, x, c.outputs(), &places),
            on_cpu(cpu_kernels().max_pool_gather, c, x, c.outputs(), &places));
  expect_close(on_device(device().max_pool_scatter, c, y, c.inputs(), &places),
               on_cpu(cpu_kernels().max_pool_scatter, c, y, c.inputs(), &places), "scatter");
  expect_close(on_device<T>(device().avg_pool, c, x, c.outputs(), nullptr),
               on_cpu<T>(cpu_kernels().avg_pool, c, x, c.outputs(), nullptr), "average");
  expect_close(on_device<T>(device().avg_pool_grad, c, y, c.inputs(), nullptr),
               on_cpu<T>(cpu_kernels().avg_pool_grad, c, y, c.inputs(), nullptr), "average's transpose");
}

TEST(CudaPool, EqualsTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) {
      check<float>(c);
      check<double>(c);
    }
  });
}

// Padding never wins; the first of equals; a NaN is seen; windows of the known extents and of another.
TEST(CudaPool, MaximaOfSpecialValues) {
  SINEW_NEEDS_CUDA();
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  for (const int64_t kernel : {2, 3, 4}) {
    const Case c{1, 4, 4, 4, kernel, 1, 1};
    for (const float fill : {-5.0f, 0.0f, -inf, nan}) {
      std::vector<float> x(c.inputs(), fill);
      x[21] = nan;
      x[42] = inf;
      std::vector<uint8_t> want_places(c.outputs()), places(c.outputs(), 255);
      const std::vector<float> want = on_cpu(cpu_kernels().max_pool, c, x, c.outputs(), &want_places);
      const std::vector<float> got = on_device(device().max_pool, c, x, c.outputs(), &places, true);
      EXPECT_EQ(places, want_places);
      for (size_t i = 0; i < got.size(); ++i)
        EXPECT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]))) << got[i] << " for " << want[i];
    }
  }
}

// <pool(x), y> = <x, transpose(y)>.
TEST(CudaPool, TransposesAreTransposes) {
  SINEW_NEEDS_CUDA();
  for (const Case& c : kCases) {
    const std::vector<double> x = random_values<double>(c.inputs(), -1, 1, 3),
                              y = random_values<double>(c.outputs(), -1, 1, 4);
    std::vector<uint8_t> places(c.outputs());
    (void)on_device(device().max_pool, c, x, c.outputs(), &places, true);
    const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
      double sum = 0;
      for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
      return sum;
    };
    EXPECT_NEAR(dot(on_device(device().max_pool_gather, c, x, c.outputs(), &places), y),
                dot(x, on_device(device().max_pool_scatter, c, y, c.inputs(), &places)), 1e-10);
    EXPECT_NEAR(dot(on_device<double>(device().avg_pool, c, x, c.outputs(), nullptr), y),
                dot(x, on_device<double>(device().avg_pool_grad, c, y, c.inputs(), nullptr)), 1e-10);
  }
}

}  // namespace
}  // namespace sinew::testing
