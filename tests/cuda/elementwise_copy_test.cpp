#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

template <class T>
std::vector<T> values(size_t n, uint32_t stream) {
  const bool is_signed = T(-1) < T(0);
  return random_values<T>(n, is_signed ? -100 : 0, 100, stream);
}

// ---- fill, where, cast ----

constexpr size_t kSizes[] = {1, 2, 5, 16, 31, 1031};

template <class T>
void check_fill(size_t n, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", n " << n << ", offset " << offset);
  const DeviceArray<T> y(n + 1, offset);
  device().fill({dtype_of<T>, static_cast<int64_t>(n) + 1, y.data(), 77});
  device().fill({dtype_of<T>, static_cast<int64_t>(n), y.data(), 3.75});
  std::vector<T> want(n, static_cast<T>(3.75));
  want.push_back(T(77));
  EXPECT_EQ(y.read(), want);
}

TEST(CudaFill, EveryTypeAndSize) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (size_t n : kSizes)
      for (size_t offset : {0, 1}) {
        check_fill<float>(n, offset);
        check_fill<double>(n, offset);
        check_fill<int32_t>(n, offset);
        check_fill<int64_t>(n, offset);
        check_fill<uint8_t>(n, offset);
      }
  });
  device().fill({DType::f32, 0, nullptr, 1});
}

template <class T>
void check_where(size_t n, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", n " << n << ", offset " << offset);
  const std::vector<T> mask = random_values<T>(n, 0, 2, 1), a = values<T>(n, 2), b = values<T>(n, 3);
  std::vector<T> truncated(n), want(n);
  for (size_t i = 0; i < n; ++i) truncated[i] = mask[i] < T(1) ? T(0) : mask[i];
  const auto count = static_cast<int64_t>(n);
  cpu_kernels().where({dtype_of<T>, count, truncated.data(), a.data(), b.data(), want.data()});
  const DeviceArray<T> dm(truncated, offset), da(a, offset), db(b, offset), dy(n, offset);
  device().where({dtype_of<T>, count, dm.data(), da.data(), db.data(), dy.data()});
  EXPECT_EQ(dy.read(), want);
}

TEST(CudaWhere, EveryTypeAndSize) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (size_t n : kSizes)
      for (size_t offset : {0, 1}) {
        check_where<float>(n, offset);
        check_where<double>(n, offset);
        check_where<int32_t>(n, offset);
        check_where<int64_t>(n, offset);
        check_where<uint8_t>(n, offset);
      }
  });
  device().where({DType::f32, 0, nullptr, nullptr, nullptr, nullptr});
}

template <class From, class To>
void check_cast(size_t n, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<From>) << " to " << to_string(dtype_of<To>) << ", n " << n
                                    << ", offset " << offset);
  // A float outside an integer type's range has no defined value.
  const std::vector<From> x = To(-1) > To(0) ? random_values<From>(n, 0, 100, 1) : values<From>(n, 1);
  std::vector<To> want(n);
  const auto count = static_cast<int64_t>(n);
  cpu_kernels().cast({dtype_of<From>, dtype_of<To>, count, x.data(), want.data()});
  const DeviceArray<From> dx(x, offset);
  const DeviceArray<To> dy(n, offset);
  device().cast({dtype_of<From>, dtype_of<To>, count, dx.data(), dy.data()});
  EXPECT_EQ(dy.read(), want);
}
template <class From>
void check_casts(size_t n, size_t offset) {
  check_cast<From, float>(n, offset);
  check_cast<From, double>(n, offset);
  check_cast<From, int32_t>(n, offset);
  check_cast<From, int64_t>(n, offset);
  check_cast<From, uint8_t>(n, offset);
}

TEST(CudaCast, EveryPairOfTypes) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (size_t n : kSizes)
      for (size_t offset : {0, 1}) {
        check_casts<float>(n, offset);
        check_casts<double>(n, offset);
        check_casts<int32_t>(n, offset);
        check_casts<int64_t>(n, offset);
        check_casts<uint8_t>(n, offset);
      }
  });
  device().cast({DType::f32, DType::u8, 0, nullptr, nullptr});
}

// ---- strided copies ----

struct Copy {
  std::vector<int64_t> shape, src, dst;
  int64_t from = 0, to = 0;  // offsets of x and y
};

std::vector<int64_t> contiguous(const std::vector<int64_t>& shape) {
  std::vector<int64_t> stride(shape.size());
  int64_t elements = 1;
  for (size_t i = shape.size(); i-- > 0; elements *= shape[i]) stride[i] = elements;
  return stride;
}

// The axes of `shape` in another order, as core/ops/shape.cpp asks for it: shape and dst are the result's.
Copy permute(const std::vector<int64_t>& shape, const std::vector<size_t>& order) {
  Copy c;
  const std::vector<int64_t> stride = contiguous(shape);
  for (size_t axis : order) {
    c.shape.push_back(shape[axis]);
    c.src.push_back(stride[axis]);
  }
  c.dst = contiguous(c.shape);
  return c;
}

int64_t extent_of(const Copy& c, const std::vector<int64_t>& stride) {
  int64_t last = 0;
  for (size_t i = 0; i < c.shape.size(); ++i) {
    if (c.shape[i] == 0) return 0;
    last += (c.shape[i] - 1) * stride[i];
  }
  return last + 1;
}

template <class T>
void check_copy(const Copy& c, size_t misaligned) {
  ::testing::Message trace;
  trace << to_string(dtype_of<T>) << ", misaligned " << misaligned;
  for (size_t i = 0; i < c.shape.size(); ++i) trace << ", " << c.shape[i] << ": " << c.src[i] << " to " << c.dst[i];
  SCOPED_TRACE(trace);
  const std::vector<T> x = values<T>(static_cast<size_t>(extent_of(c, c.src) + c.from), 1);
  std::vector<T> want = values<T>(static_cast<size_t>(extent_of(c, c.dst) + c.to) + 3, 2);
  const DeviceArray<T> dx(x, misaligned), dy(want, misaligned);
  kernel::StridedCopyArgs args{};
  args.dtype = dtype_of<T>;
  args.ndim = static_cast<int>(c.shape.size());
  for (size_t i = 0; i < c.shape.size(); ++i) {
    args.shape[i] = c.shape[i];
    args.src_stride[i] = c.src[i];
    args.dst_stride[i] = c.dst[i];
  }
  args.x = x.data() + c.from;
  args.y = want.data() + c.to;
  cpu_kernels().strided_copy(args);
  args.x = dx.data() + c.from;
  args.y = dy.data() + c.to;
  device().strided_copy(args);
  EXPECT_EQ(dy.read(), want);
}

void check_copies(const std::vector<Copy>& copies) {
  for (const Copy& c : copies)
    for (size_t misaligned : {0, 1}) {
      check_copy<float>(c, misaligned);
      check_copy<int64_t>(c, misaligned);
      check_copy<uint8_t>(c, misaligned);
    }
}

TEST(CudaStridedCopy, Permutations) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_copies({permute({33, 65}, {1, 0}), permute({64, 32}, {1, 0}), permute({16, 16}, {1, 0}),
                  permute({15, 70}, {1, 0}), permute({3, 40, 35}, {0, 2, 1}), permute({3, 40, 35}, {2, 0, 1}),
                  permute({20, 2, 3, 18}, {3, 1, 2, 0}), permute({3, 4, 5, 16}, {1, 0, 2, 3}),
                  permute({4, 3, 6, 5}, {0, 2, 3, 1}), permute({2, 3, 2, 3, 2, 5}, {5, 4, 3, 2, 1, 0})});
  });
}

TEST(CudaStridedCopy, BroadcastSliceAndPad) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_copies({
        {{7, 64}, {1, 0}, {64, 1}},          // one element fills a row
        {{7, 63}, {1, 0}, {63, 1}},          // the same, ragged
        {{1000}, {0}, {1}},                  // one element fills everything
        {{5, 48}, {0, 1}, {48, 1}},          // a row into every row
        {{5, 3}, {16, 1}, {3, 1}, 7},        // slice, ragged
        {{5, 16}, {64, 1}, {16, 1}, 32},     // slice in groups of 16 bytes
        {{5, 16}, {16, 1}, {48, 1}, 0, 16},  // pad, or one part of a concatenation
        {{3, 4, 5}, {20, 5, 1}, {56, 8, 1}, 0, 9},
        {{40, 20}, {3, 120}, {60, 3}},  // no contiguous axis
        {{9}, {4}, {1}},                // every fourth
        {{9}, {1}, {5}},                // to every fifth
        {{40, 32}, {1, 41}, {1, 47}},   // both along the outer axis
        {{4, 6}, {6, 1}, {6, 1}},       // a plain copy
        {{}, {}, {}, 2, 1},             // one element
        {{3, 0}, {1, 1}, {1, 1}},
    });
  });
}

TEST(CudaStridedCopy, EveryType) {
  SINEW_NEEDS_CUDA();
  check_copy<double>(permute({40, 18}, {1, 0}), 0);
  check_copy<int32_t>(permute({40, 18}, {1, 0}), 0);
}

// More units than the largest grid takes at a time.
TEST(CudaStridedCopy, Long) {
  SINEW_NEEDS_CUDA();
  check_copy<uint8_t>({{1100, 3851}, {3852, 1}, {3851, 1}}, 0);
}

// So many tiles that the large ones are taken.
TEST(CudaStridedCopy, LongTransposes) {
  SINEW_NEEDS_CUDA();
  check_copy<float>(permute({2053, 2049}, {1, 0}), 0);
  check_copy<uint8_t>(permute({17, 525, 531}, {0, 2, 1}), 0);
  check_copy<bfloat16>(permute({2050, 2051}, {1, 0}), 0);
}

}  // namespace
}  // namespace sinew::testing
