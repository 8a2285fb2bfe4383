#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

struct Extents {
  int64_t outer, reduced, inner;
};
// Warp and block per row, columns, ragged ends, both kinds of splitting, extents 1 and 0.
constexpr Extents kShapes[] = {{1, 1, 1},    {1, 7, 1},     {5, 1, 1},    {33, 10, 1},  {9, 1024, 1},
                               {3, 1025, 1}, {1, 70000, 1}, {7, 4099, 1}, {1, 5, 3},    {4, 9, 33},
                               {2, 100, 64}, {1, 4500, 5},  {1, 600, 16}, {1, 1200, 8}, {1, 1026, 2},
                               {1, 601, 16}, {1, 1, 40},    {3, 2, 1},    {0, 5, 3},    {4, 5, 0}};

template <class T>
std::vector<T> input(const Extents& e, uint32_t stream) {
  // Few distinct values for integers, so that argmax meets equals; sums of u8 wrap.
  const bool integer = T(1) / T(2) == T(0);
  return random_values<T>(static_cast<size_t>(e.outer * e.reduced * e.inner), integer ? 0 : -1, integer ? 100 : 1,
                          stream);
}

template <class T, class Out>
std::vector<Out> on_cpu(ReduceOp op, const Extents& e, const std::vector<T>& x) {
  std::vector<Out> y(static_cast<size_t>(e.outer * e.inner));
  cpu_kernels().reduce({op, dtype_of<T>, e.outer, e.reduced, e.inner, x.data(), y.data()});
  return y;
}

template <class T, class Out>
std::vector<Out> on_device(ReduceOp op, const Extents& e, const std::vector<T>& x) {
  const DeviceArray<T> in(x);
  const DeviceArray<Out> out(static_cast<size_t>(e.outer * e.inner));
  device().reduce({op, dtype_of<T>, e.outer, e.reduced, e.inner, in.data(), out.data()});
  return out.read();
}

template <class T>
void check_type(const Extents& e) {
  SCOPED_TRACE(::testing::Message() << "(" << e.outer << ", " << e.reduced << ", " << e.inner << ") "
                                    << to_string(dtype_of<T>));
  const std::vector<T> x = input<T>(e, 3);
  EXPECT_EQ((on_device<T, T>(ReduceOp::max, e, x)), (on_cpu<T, T>(ReduceOp::max, e, x)));
  EXPECT_EQ((on_device<T, int64_t>(ReduceOp::argmax, e, x)), (on_cpu<T, int64_t>(ReduceOp::argmax, e, x)));
  const std::vector<T> got = on_device<T, T>(ReduceOp::sum, e, x), want = on_cpu<T, T>(ReduceOp::sum, e, x);
  ASSERT_EQ(got.size(), want.size());
  // Rounding of sums of n values below 1: at most n/2 * epsilon in any order; much less in a tree.
  double tolerance = 0;
  if (is_float(dtype_of<T>))
    tolerance = 2 * std::sqrt(static_cast<double>(e.reduced)) * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                std::sqrt(static_cast<double>(e.reduced) + 1);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(want[i]), tolerance) << "output " << i;
}

TEST(CudaReduce, EveryOpTypeAndShape) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Extents& e : kShapes) {
      check_type<float>(e);
      check_type<double>(e);
      check_type<int32_t>(e);
      check_type<int64_t>(e);
      check_type<uint8_t>(e);
    }
  });
}

TEST(CudaReduce, SumsAreTheSameBitsInEveryOrder) {
  SINEW_NEEDS_CUDA();
  for (const Extents& e : {Extents{1, 70000, 1}, Extents{3, 5000, 7}, Extents{1, 3000, 8}, Extents{40, 300, 1}}) {
    const std::vector<float> x = input<float>(e, 4);
    const std::vector<float> first = on_device<float, float>(ReduceOp::sum, e, x);
    in_all_orders([&] { EXPECT_EQ((on_device<float, float>(ReduceOp::sum, e, x)), first); });
  }
}

TEST(CudaReduce, EmptySumsAreZero) {
  SINEW_NEEDS_CUDA();
  EXPECT_EQ((on_device<float, float>(ReduceOp::sum, {3, 0, 1}, {})), std::vector<float>(3, 0.0f));
  EXPECT_EQ((on_device<int64_t, int64_t>(ReduceOp::sum, {2, 0, 5}, {})), std::vector<int64_t>(10, 0));
}

TEST(CudaReduce, NanWinsAndTheFirstOfEquals) {
  SINEW_NEEDS_CUDA();
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const Extents e{5, 4, 1};
  const std::vector<float> x = {1, nan, 3, nan, 2, 5, 5, 1, -inf, -inf, -inf, -inf, nan, inf, 1, 2, -1, 0, inf, 3};
  in_all_orders([&] {
    EXPECT_EQ((on_device<float, int64_t>(ReduceOp::argmax, e, x)), (std::vector<int64_t>{1, 1, 0, 0, 2}));
    const std::vector<float> max = on_device<float, float>(ReduceOp::max, e, x);
    EXPECT_TRUE(std::isnan(max[0]));
    EXPECT_EQ(max[1], 5);
    EXPECT_EQ(max[2], -inf);
    EXPECT_TRUE(std::isnan(max[3]));
    EXPECT_EQ(max[4], inf);
  });
}

TEST(CudaReduce, LowestIntegers) {
  SINEW_NEEDS_CUDA();
  const int32_t low = std::numeric_limits<int32_t>::min();
  const Extents e{1, 3, 1};
  EXPECT_EQ((on_device<int32_t, int32_t>(ReduceOp::max, e, {low, low, low})), std::vector<int32_t>{low});
  EXPECT_EQ((on_device<int32_t, int64_t>(ReduceOp::argmax, e, {low, low, low})), std::vector<int64_t>{0});
}

}  // namespace
}  // namespace sinew::testing
