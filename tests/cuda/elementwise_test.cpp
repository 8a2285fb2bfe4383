#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

constexpr UnaryOp kOps[] = {
#define SINEW_OP(name) UnaryOp::name,
    SINEW_UNARY_OPS(SINEW_OP)
#undef SINEW_OP
};
constexpr const char* kNames[] = {
#define SINEW_OP(name) #name,
    SINEW_UNARY_OPS(SINEW_OP)
#undef SINEW_OP
};

bool needs_positive(UnaryOp op) { return op == UnaryOp::log || op == UnaryOp::sqrt || op == UnaryOp::pow; }

template <class T>
void expect_close(const std::vector<T>& got, const std::vector<T>& want) {
  ASSERT_EQ(got.size(), want.size());
  const double tolerance = 16 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = static_cast<double>(got[i]), w = static_cast<double>(want[i]);
    if (std::isnan(w)) {
      ASSERT_TRUE(std::isnan(g)) << "element " << i << " is " << g;
    } else if (std::isinf(w)) {
      ASSERT_EQ(g, w) << "element " << i;
    } else {
      ASSERT_NEAR(g, w, tolerance * (1 + std::abs(w))) << "element " << i;
    }
  }
}

template <class T>
void check_op(size_t index, size_t n, size_t offset) {
  SCOPED_TRACE(::testing::Message() << kNames[index] << " " << to_string(dtype_of<T>) << ", n " << n << ", offset "
                                    << offset);
  const double low = needs_positive(kOps[index]) ? 0.01 : -3;
  const std::vector<T> x = random_values<T>(n, low, 3, static_cast<uint32_t>(index));
  std::vector<T> want(n);
  kernel::UnaryArgs args{kOps[index], dtype_of<T>, static_cast<int64_t>(n), x.data(), want.data(), 1.5, -0.25};
  cpu_kernels().unary(args);
  const DeviceArray<T> in(x, offset), out(n, offset);
  args.x = in.data();
  args.y = out.data();
  device().unary(args);
  expect_close(out.read(), want);
  args.y = in.data();  // in place
  device().unary(args);
  expect_close(in.read(), want);
}

TEST(CudaUnary, EveryOpOnRaggedSizes) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (size_t op = 0; op < std::size(kOps); ++op)
      for (size_t n : {1, 3, 4, 5, 257, 1031}) {
        check_op<float>(op, n, 0);
        check_op<double>(op, n, 0);
      }
  });
}

TEST(CudaUnary, UnalignedPointersTakeTheScalarPath) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_op<float>(0, 1031, 1);
    check_op<float>(0, 1031, 3);
    check_op<double>(0, 1031, 1);
  });
}

// More elements than the largest grid has threads: the grid-stride loop.
TEST(CudaUnary, LongArrays) {
  SINEW_NEEDS_CUDA();
  check_op<float>(0, (size_t{1} << 21) + 4 * 256 + 3, 0);
  check_op<float>(0, (size_t{1} << 19) + 4 * 256 + 3, 1);
}

TEST(CudaUnary, SpecialValues) {
  SINEW_NEEDS_CUDA();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.0f, -0.0f, inf, -inf, std::nanf(""), 1e30f, -1e30f};
  for (size_t op = 0; op < std::size(kOps); ++op) {
    SCOPED_TRACE(kNames[op]);
    std::vector<float> want(x.size());
    kernel::UnaryArgs args{kOps[op], DType::f32, static_cast<int64_t>(x.size()), x.data(), want.data(), 2, 1};
    // Huge arguments of sin and cos: every libm has its own last bits.
    if (kOps[op] == UnaryOp::sin || kOps[op] == UnaryOp::cos) args.n = 5;
    want.resize(static_cast<size_t>(args.n));
    cpu_kernels().unary(args);
    const DeviceArray<float> in(x), out(want.size());
    args.x = in.data();
    args.y = out.data();
    device().unary(args);
    expect_close(out.read(), want);
  }
}

TEST(CudaUnary, NothingToDo) {
  SINEW_NEEDS_CUDA();
  device().unary({UnaryOp::abs, DType::f32, 0, nullptr, nullptr, 0, 0});
  device().synchronize();
}

TEST(CudaUnary, IntegersAreRefused) {
  SINEW_NEEDS_CUDA();
  const DeviceArray<int32_t> x(4);
  EXPECT_THROW(device().unary({UnaryOp::abs, DType::i32, 4, x.data(), x.data(), 0, 0}), Error);
}

}  // namespace
}  // namespace sinew::testing
