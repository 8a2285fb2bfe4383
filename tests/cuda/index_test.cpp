#include <cmath>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

std::vector<int64_t> indices(size_t n, int64_t rows, uint32_t stream) {
  return random_values<int64_t>(n, 0, static_cast<double>(rows), stream);
}

// ---- gather ----

template <class T>
void check_gather(int64_t n, int64_t rows, int64_t width, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", " << n << " of " << rows << " x " << width
                                    << ", offset " << offset);
  const std::vector<T> x = random_values<T>(static_cast<size_t>(rows * width), 0, 100, 1);
  const std::vector<int64_t> index = indices(static_cast<size_t>(n), rows, 2);
  std::vector<T> want(static_cast<size_t>(n * width));
  cpu_kernels().gather({dtype_of<T>, n, rows, width, x.data(), index.data(), want.data()});
  const DeviceArray<T> dx(x, offset), dy(want.size(), offset);
  const DeviceArray<int64_t> di(index);
  device().gather({dtype_of<T>, n, rows, width, dx.data(), di.data(), dy.data()});
  EXPECT_EQ(dy.read(), want);
}

TEST(CudaGather, TypesWidthsAndOffsets) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (int64_t width : {1, 2, 3, 4, 16, 64, 67})
      for (size_t offset : {0, 1}) {
        check_gather<float>(37, 11, width, offset);
        check_gather<double>(37, 11, width, offset);
        check_gather<uint8_t>(37, 11, width, offset);
      }
    check_gather<int32_t>(5, 3, 8, 0);
    check_gather<int64_t>(5, 1, 8, 0);
  });
  device().gather({DType::f32, 0, 3, 8, nullptr, nullptr, nullptr});
  device().gather({DType::f32, 3, 3, 0, nullptr, nullptr, nullptr});
  check_gather<uint8_t>((int64_t{1} << 22) + 1000, 20, 1, 0);  // more than the largest grid takes at a time
}

// ---- one-hot ----

template <class T>
void check_one_hot(int64_t n, int64_t classes, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", " << n << " x " << classes << ", offset "
                                    << offset);
  const std::vector<int64_t> index = indices(static_cast<size_t>(n), classes, 3);
  std::vector<T> want(static_cast<size_t>(n * classes));
  cpu_kernels().one_hot({dtype_of<T>, n, classes, index.data(), want.data()});
  const DeviceArray<T> dy(want.size(), offset);
  const DeviceArray<int64_t> di(index);
  device().one_hot({dtype_of<T>, n, classes, di.data(), dy.data()});
  EXPECT_EQ(dy.read(), want);
}

TEST(CudaOneHot, SizesAndOffsets) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (int64_t classes : {1, 2, 3, 10, 64, 101})
      for (size_t offset : {0, 1}) {
        check_one_hot<float>(33, classes, offset);
        check_one_hot<double>(33, classes, offset);
      }
    check_one_hot<float>(1, 1, 0);
  });
  device().one_hot({DType::f32, 0, 10, nullptr, nullptr});
}

// ---- scatter-add ----

// Bit for bit: the order of additions is promised.
template <class T>
void check_scatter_add(int64_t n, int64_t rows, int64_t width, const std::vector<int64_t>& index, size_t offset = 0) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", " << n << " to " << rows << " x " << width
                                    << ", offset " << offset);
  const std::vector<T> x = random_values<T>(static_cast<size_t>(n * width), -1, 1, 4);
  std::vector<T> want(static_cast<size_t>(rows * width));
  cpu_kernels().scatter_add({dtype_of<T>, n, rows, width, x.data(), index.data(), want.data()});
  const DeviceArray<T> dx(x, offset), dy(want.size(), offset);
  const DeviceArray<int64_t> di(index);
  device().scatter_add({dtype_of<T>, n, rows, width, dx.data(), di.data(), dy.data()});
  EXPECT_EQ(dy.read(), want);
}

TEST(CudaScatterAdd, OneTile) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (auto [n, rows, width] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1},
                                  {300, 7, 4},
                                  {300, 1, 3},
                                  {50, 1000, 8},
                                  {1000, 70000, 1},
                                  {17, 16, 5},
                                  {64, 17, 6}})
      for (size_t offset : {0, 1}) {
        const std::vector<int64_t> index = indices(static_cast<size_t>(n), rows, 5);
        check_scatter_add<float>(n, rows, width, index, offset);
        check_scatter_add<double>(n, rows, width, index, offset);
      }
  });
}

TEST(CudaScatterAdd, SeveralTiles) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_scatter_add<float>(20000, 300, 1, indices(20000, 300, 6));
    check_scatter_add<float>(8193, 5000, 2, indices(8193, 5000, 7));
  });
}

TEST(CudaScatterAdd, Nothing) {
  SINEW_NEEDS_CUDA();
  check_scatter_add<float>(0, 4, 3, {});
  device().scatter_add({DType::f32, 3, 4, 0, nullptr, nullptr, nullptr});
  device().scatter_add({DType::f32, 0, 0, 3, nullptr, nullptr, nullptr});
}

TEST(CudaScatterAdd, OneRowGetsAlmostAll) {
  SINEW_NEEDS_CUDA();
  std::vector<int64_t> index(9000, 3);
  index[17] = 0;
  index[8500] = 4;
  check_scatter_add<float>(9000, 5, 4, index);
}

}  // namespace
}  // namespace sinew::testing
