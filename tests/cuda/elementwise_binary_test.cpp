#include <cmath>
#include <limits>

#include "cuda/axes.h"
#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

constexpr BinaryOp kOps[] = {
#define SINEW_OP(name) BinaryOp::name,
    SINEW_BINARY_OPS(SINEW_OP)
#undef SINEW_OP
};
constexpr const char* kNames[] = {
#define SINEW_OP(name) #name,
    SINEW_BINARY_OPS(SINEW_OP)
#undef SINEW_OP
};

// Operands of a case: a and b are contiguous but broadcast along the axes where their bit is set.
struct Case {
  std::vector<int64_t> shape;
  unsigned broadcast_a = 0, broadcast_b = 0;
  size_t offset = 0;
};

size_t fill_strides(const Case& c, unsigned broadcast, int64_t* stride) {
  int64_t elements = 1;
  for (size_t i = c.shape.size(); i-- > 0;) {
    const bool is_broadcast = (broadcast >> i & 1) != 0;
    stride[i] = is_broadcast ? 0 : elements;
    if (!is_broadcast) elements *= c.shape[i];
  }
  return static_cast<size_t>(elements);
}

template <class T>
void expect_close(const std::vector<T>& got, const std::vector<T>& want) {
  ASSERT_EQ(got.size(), want.size());
  const double tolerance = is_float(dtype_of<T>) ? 4 * static_cast<double>(std::numeric_limits<T>::epsilon()) : 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = static_cast<double>(got[i]), w = static_cast<double>(want[i]);
    ASSERT_NEAR(g, w, tolerance * (1 + std::abs(w))) << "element " << i;
  }
}

// Integers with few values, so that equals occur; u8 wraps.
template <class T>
std::vector<T> values(size_t n, uint32_t stream) {
  const bool is_signed = T(-1) < T(0);
  if (is_float(dtype_of<T>)) return random_values<T>(n, -2, 2, stream);
  return random_values<T>(n, is_signed ? -5 : 0, is_signed ? 5 : 10, stream);
}

template <class T>
void check(size_t op, const Case& c) {
  kernel::BinaryArgs args{};
  args.op = kOps[op];
  args.dtype = dtype_of<T>;
  args.ndim = static_cast<int>(c.shape.size());
  size_t n = 1;
  ::testing::Message trace;
  trace << kNames[op] << " " << to_string(dtype_of<T>) << " broadcast " << c.broadcast_a << " " << c.broadcast_b
        << " offset " << c.offset << " of";
  for (size_t i = 0; i < c.shape.size(); ++i) {
    args.shape[i] = c.shape[i];
    n *= static_cast<size_t>(c.shape[i]);
    trace << " " << c.shape[i];
  }
  SCOPED_TRACE(trace);
  const std::vector<T> a = values<T>(fill_strides(c, c.broadcast_a, args.stride_a), 1);
  const std::vector<T> b = values<T>(fill_strides(c, c.broadcast_b, args.stride_b), 2);
  std::vector<T> want(n);
  args.a = a.data();
  args.b = b.data();
  args.y = want.data();
  cpu_kernels().binary(args);
  const DeviceArray<T> da(a, c.offset), db(b, c.offset), dy(n, c.offset);
  args.a = da.data();
  args.b = db.data();
  args.y = dy.data();
  device().binary(args);
  expect_close(dy.read(), want);
  if (c.broadcast_a == 0) {  // in place
    args.y = da.data();
    device().binary(args);
    expect_close(da.read(), want);
  } else if (c.broadcast_b == 0) {
    args.y = db.data();
    device().binary(args);
    expect_close(db.read(), want);
  }
}

template <class T>
void check_all_ops(const Case& c) {
  for (size_t op = 0; op < std::size(kOps); ++op) check<T>(op, c);
}
void check_all_types(const Case& c) {
  check_all_ops<float>(c);
  check_all_ops<double>(c);
  check_all_ops<int32_t>(c);
  check_all_ops<int64_t>(c);
  check_all_ops<uint8_t>(c);
}

TEST(CudaBinary, EveryOpAndTypeOnThePlainPath) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_all_types({{267}});
    check_all_types({{3, 37}, 0, 0, 1});
    check_all_types({{}});
  });
}

TEST(CudaBinary, EveryOpAndTypeBroadcast) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_all_types({{3, 48}, 0, 1});  // groups, b a row
    check_all_types({{3, 7}, 1, 0});   // element by element, a a row
  });
}

TEST(CudaBinary, ScalarsRowsAndColumns) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (size_t offset : {0, 1})
      for (const Case& c : {Case{{1031}, 1, 0}, Case{{1031}, 0, 1}, Case{{64}, 1, 1}, Case{{5, 64}, 2, 0},
                            Case{{5, 64}, 0, 2}, Case{{5, 64}, 1, 2}, Case{{5, 63}, 0, 2}, Case{{65, 1}, 1, 0},
                            Case{{4, 3, 32}, 2, 0}, Case{{4, 3, 32}, 0, 5}, Case{{2, 3, 4, 5, 6, 16}, 21, 42},
                            Case{{2, 1, 4, 1, 3, 7}, 21, 42}, Case{{3, 5, 2}, 4, 3}}) {
        Case shifted = c;
        shifted.offset = offset;
        check<float>(1, shifted);
        check<double>(1, shifted);
        check<int64_t>(1, shifted);
        check<uint8_t>(1, shifted);
      }
  });
}

TEST(CudaBinary, NothingToDo) {
  SINEW_NEEDS_CUDA();
  check<float>(0, {{0}});
  check<float>(0, {{3, 0, 2}, 0, 1});
}

// More elements than the largest grid takes at a time: the grid-stride loops.
TEST(CudaBinary, LongArrays) {
  SINEW_NEEDS_CUDA();
  check<double>(0, {{(int64_t{1} << 22) + 1031}});
  check<float>(0, {{(int64_t{1} << 20) + 1031}, 0, 0, 1});
  check<float>(2, {{(int64_t{1} << 10) + 7, 1031}, 0, 1});
  check<double>(2, {{(int64_t{1} << 11) + 7, 2056}, 2, 1});
}

TEST(CudaBinary, SpecialValues) {
  SINEW_NEEDS_CUDA();
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> a = {nan, 1, inf, -inf, 0, -0.0f, 1, 5}, b = {1, nan, inf, inf, 0, 0, 0, nan};
  for (size_t op = 0; op < std::size(kOps); ++op) {
    SCOPED_TRACE(kNames[op]);
    std::vector<float> want(a.size());
    kernel::BinaryArgs args{kOps[op], DType::f32, 1, {8}, {1}, {1}, a.data(), b.data(), want.data()};
    cpu_kernels().binary(args);
    const DeviceArray<float> da(a), db(b), dy(a.size());
    args.a = da.data();
    args.b = db.data();
    args.y = dy.data();
    device().binary(args);
    const std::vector<float> got = dy.read();
    for (size_t i = 0; i < a.size(); ++i)
      ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
          << "element " << i << ": " << got[i];
  }
}

// ---- the index arithmetic underneath ----

TEST(CudaIndexing, DivisorsAreExact) {
  for (int64_t d : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}, int64_t{7}, int64_t{10}, int64_t{641},
                    int64_t{4096}, int64_t{65537}, (int64_t{1} << 30) - 1, int64_t{1} << 30, (int64_t{1} << 31) - 1}) {
    const cuda::Divisor by(d);
    auto check_at = [&](int64_t n) {
      if (n < 0 || n > INT32_MAX) return;
      ASSERT_EQ(cuda::divide(static_cast<uint32_t>(n), by), static_cast<uint32_t>(n / d)) << n << " / " << d;
    };
    for (int64_t n = 0; n < 1000; ++n) {
      check_at(n);
      check_at(INT32_MAX - n);
      for (int64_t off : {-1, 0, 1}) check_at((INT32_MAX / d - n) * d + off);
    }
  }
}

// Every element exactly once, whatever the limits that parts have to keep.
TEST(CudaIndexing, PartsCoverTheSpace) {
  cuda::Axes axes;
  axes.add_outer(3, 2, 1);
  axes.add_outer(5, -7, 3);
  axes.add_outer(1, 99, 99);
  axes.add_outer(4, 1, 40);
  for (auto [largest, reach] :
       {std::pair<int64_t, int64_t>{1000, 1000}, {20, 1000}, {7, 1000}, {1, 1000}, {1000, 9}, {1000, 0}}) {
    std::vector<int> seen(60);
    auto part = [&](const cuda::Space& space, int64_t n, int64_t at_a, int64_t at_b, int64_t first) {
      EXPECT_LE(n, largest);
      for (int64_t i = 0; i < n; ++i) {
        const cuda::Offsets at = cuda::offsets_of(space, static_cast<uint32_t>(i));
        const int64_t k = first + i, c0 = k % 3, c1 = k / 3 % 5, c2 = k / 15;
        ++seen[static_cast<size_t>(k)];
        EXPECT_EQ(at_a + at.a, 2 * c0 - 7 * c1 + c2);
        EXPECT_EQ(at_b + at.b, c0 + 3 * c1 + 40 * c2);
        EXPECT_LE(std::abs(at.b), reach);
      }
    };
    cuda::in_parts(axes, part, largest, reach);
    EXPECT_EQ(seen, std::vector<int>(60, 1)) << largest << " " << reach;
  }
}

TEST(CudaIndexing, AxesMerge) {
  cuda::Axes axes;
  axes.add_outer(4, 1, 0);
  axes.add_outer(1, 7, 7);
  axes.add_outer(3, 4, 0);
  EXPECT_EQ(axes.count, 1);
  EXPECT_EQ(axes.extent[0], 12);
  axes.add_outer(2, 12, 1);
  EXPECT_EQ(axes.count, 2);
  EXPECT_EQ(axes.elements(), 24);
}

}  // namespace
}  // namespace sinew::testing
