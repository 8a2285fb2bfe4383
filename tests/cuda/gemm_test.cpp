#include <cmath>
#include <limits>
#include <tuple>

#include "cuda/kernels/matrix.h"
#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

struct Case {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
  double alpha = 1, beta = 0;
  bool bias = false;
  Activation act = Activation::none;
  int64_t batch = 1;
  int64_t pad = 0;      // extra elements in every leading dimension
  size_t offset = 0;    // of every pointer, in elements
  bool coarse = false;  // factors are multiples of 1/256, which TF32 holds exactly
};

// The definition, in double; also the size of the terms, for the tolerance.
std::pair<double, double> exact(const Case& c, const auto& a, const auto& b, const auto& old, const auto& bias,
                                int64_t i, int64_t j, int64_t z, int64_t lda, int64_t ldb, int64_t ldc) {
  const int64_t rows_a = c.trans_a ? c.k : c.m, rows_b = c.trans_b ? c.n : c.k;
  double sum = 0, size = 0;
  for (int64_t p = 0; p < c.k; ++p) {
    const double x = a[static_cast<size_t>(z * rows_a * lda + (c.trans_a ? p * lda + i : i * lda + p))];
    const double y = b[static_cast<size_t>(z * rows_b * ldb + (c.trans_b ? j * ldb + p : p * ldb + j))];
    sum += x * y;
    size += std::abs(x * y);
  }
  double value = c.alpha * sum;
  size = std::abs(c.alpha) * size;
  if (c.beta != 0) value += c.beta * old[static_cast<size_t>(z * c.m * ldc + i * ldc + j)];
  if (c.bias) value += bias[static_cast<size_t>(j)];
  switch (c.act) {
    case Activation::none:
      break;
    case Activation::relu:
      value = value > 0 ? value : 0;
      break;
    case Activation::tanh:
      value = std::tanh(value);
      break;
    case Activation::sigmoid:
      value = 1 / (1 + std::exp(-value));
      break;
  }
  return {value, size + 2};
}

template <class T>
void check_case(const Case& c, void (*gemm)(const kernel::GemmArgs&) = device().gemm) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << " " << c.m << "x" << c.n << "x" << c.k << " trans "
                                    << c.trans_a << c.trans_b << " alpha " << c.alpha << " beta " << c.beta << " bias "
                                    << c.bias << " act " << static_cast<int>(c.act) << " batch " << c.batch << " pad "
                                    << c.pad);
  const int64_t rows_a = c.trans_a ? c.k : c.m, lda = (c.trans_a ? c.m : c.k) + c.pad;
  const int64_t rows_b = c.trans_b ? c.n : c.k, ldb = (c.trans_b ? c.k : c.n) + c.pad;
  const int64_t ldc = c.n + c.pad;
  auto size = [&](int64_t rows, int64_t ld) { return static_cast<size_t>(c.batch * rows * ld); };
  std::vector<T> a = random_values<T>(size(rows_a, lda), -1, 1, 1), b = random_values<T>(size(rows_b, ldb), -1, 1, 2);
  if (c.coarse) {
    for (T& x : a) x = std::round(x * 256) / 256;
    for (T& x : b) x = std::round(x * 256) / 256;
  }
  const std::vector<T> bias = random_values<T>(static_cast<size_t>(c.n), -1, 1, 3);
  // beta == 0 must not read C.
  const std::vector<T> old = c.beta == 0 ? std::vector<T>(size(c.m, ldc), std::numeric_limits<T>::quiet_NaN())
                                         : random_values<T>(size(c.m, ldc), -1, 1, 4);
  const DeviceArray<T> da(a, c.offset), db(b, c.offset), dc(old, c.offset), dbias(bias, c.offset);
  gemm({dtype_of<T>,
        c.trans_a,
        c.trans_b,
        c.m,
        c.n,
        c.k,
        c.alpha,
        c.beta,
        da.data(),
        lda,
        db.data(),
        ldb,
        dc.data(),
        ldc,
        c.batch,
        rows_a * lda,
        rows_b * ldb,
        c.m * ldc,
        c.bias ? dbias.data() : nullptr,
        c.act});
  const std::vector<T> got = dc.read();
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (int64_t z = 0; z < c.batch; ++z)
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < ldc; ++j) {
        const double value = static_cast<double>(got[static_cast<size_t>(z * c.m * ldc + i * ldc + j)]);
        if (j >= c.n) {  // between the rows nothing is written
          const double before = static_cast<double>(old[static_cast<size_t>(z * c.m * ldc + i * ldc + j)]);
          ASSERT_TRUE(value == before || (std::isnan(value) && std::isnan(before))) << "padding of row " << i;
          continue;
        }
        const auto [want, terms] = exact(c, a, b, old, bias, i, j, z, lda, ldb, ldc);
        ASSERT_NEAR(value, want, 4 * epsilon * terms * std::sqrt(static_cast<double>(c.k) + 1))
            << "batch " << z << ", row " << i << ", column " << j;
      }
}

template <class T>
void check_transposes(Case c) {
  for (bool trans_a : {false, true})
    for (bool trans_b : {false, true}) {
      c.trans_a = trans_a;
      c.trans_b = trans_b;
      check_case<T>(c);
    }
}

TEST(CudaGemm, RaggedEdgesAndTransposes) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (auto [m, n, k] : {std::tuple{65, 129, 9}, {129, 65, 17}, {1, 65, 8}, {65, 1, 7}, {1, 1, 1}, {64, 64, 16}}) {
      check_transposes<float>({m, n, k});
      check_transposes<double>({m, n, k});
    }
  });
}

TEST(CudaGemm, EmptySum) {
  SINEW_NEEDS_CUDA();
  check_transposes<float>({5, 7, 0});
  check_case<float>({.m = 5, .n = 7, .k = 0, .beta = 0.5});
  check_case<float>({.m = 5, .n = 7, .k = 0, .bias = true});
  check_case<float>({0, 7, 3});
  check_case<float>({5, 0, 3});
}

TEST(CudaGemm, AlphaBetaBiasActivation) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (double alpha : {1.0, -0.5, 0.0})
      for (double beta : {0.0, 1.0, 0.25}) {
        check_case<float>({.m = 33, .n = 70, .k = 20, .alpha = alpha, .beta = beta});
        check_case<double>({.m = 33, .n = 70, .k = 20, .alpha = alpha, .beta = beta});
      }
    for (Activation act : {Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid}) {
      check_case<float>({.m = 33, .n = 70, .k = 20, .bias = true, .act = act});
      check_case<double>({.m = 33, .n = 70, .k = 20, .bias = false, .act = act});
    }
  });
}

TEST(CudaGemm, BatchesLeadingDimensionsAndOffsets) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_transposes<float>({.m = 20, .n = 35, .k = 11, .beta = 1, .batch = 3, .pad = 5});
    check_transposes<double>({.m = 20, .n = 35, .k = 11, .bias = true, .batch = 2, .pad = 3, .offset = 1});
  });
}

// Enough tiles for the large kind (cuda/gemm.cpp): float 128, double 64 on a side, with ragged edges; k a multiple of
// 16 bytes and not; leading dimensions that are and are not.
TEST(CudaGemm, LargeTiles) {
  SINEW_NEEDS_CUDA();
  check_transposes<float>({.m = 65, .n = 33, .k = 12, .batch = 133});
  check_transposes<float>({.m = 68, .n = 36, .k = 12, .batch = 133});
  check_transposes<double>({.m = 66, .n = 34, .k = 12, .batch = 66});
  check_case<float>({.m = 129, .n = 130, .k = 20, .batch = 34});
  check_case<float>({.m = 132, .n = 136, .k = 20, .bias = true, .act = Activation::relu, .batch = 34, .pad = 4});
}

// More rows of tiles than are made together.
TEST(CudaGemm, ManyRowsOfTiles) {
  SINEW_NEEDS_CUDA();
  check_case<float>({.m = 19 * 64 + 3, .n = 70, .k = 9});
  check_case<double>({.m = 17 * 64 + 1, .n = 33, .k = 9});
}

// Small outputs and long k: chunks of k (cuda/gemm.cpp) and a second pass.
TEST(CudaGemm, ChunksOfK) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_transposes<float>({.m = 10, .n = 72, .k = 517});
    check_transposes<float>({.m = 12, .n = 8, .k = 260, .bias = true, .act = Activation::relu, .pad = 4});
    check_case<float>({.m = 5, .n = 6, .k = 300, .alpha = 2, .beta = 0.5, .batch = 3, .pad = 1});
    check_case<float>({.m = 5, .n = 6, .k = 300, .bias = true, .act = Activation::tanh, .batch = 2});
    check_transposes<double>({.m = 10, .n = 7, .k = 131, .bias = true, .act = Activation::sigmoid});
  });
}

TEST(CudaGemm, SameBitsInEveryOrder) {
  SINEW_NEEDS_CUDA();
  const DeviceArray<float> a(random_values<float>(8 * 700, -1, 1, 1)), b(random_values<float>(9 * 700, -1, 1, 2));
  const DeviceArray<float> c(size_t{8} * 9);
  const kernel::GemmArgs args{DType::f32, false, true, 8, 9, 700, 1, 0, a.data(), 700, b.data(), 700, c.data(), 9, 1};
  device().gemm(args);
  const std::vector<float> first = c.read();
  in_all_orders([&] {
    device().gemm(args);
    EXPECT_EQ(c.read(), first);
  });
}

TEST(CudaGemm, MoreBatchesThanALaunchHas) {
  SINEW_NEEDS_CUDA();
  check_case<float>({.m = 1, .n = 1, .k = 0, .beta = 0.5, .batch = 16387});
}

TEST(CudaGemm, TilesForBenchmarks) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const bool trans : {false, true})
      check_case<float>(
          {.m = 132, .n = 72, .k = 20, .trans_a = trans, .trans_b = !trans, .alpha = 0.5, .beta = 1},
          [](const kernel::GemmArgs& args) { cuda::gemm_with(args, cuda::GemmTile::large_many_threads); });
  });
}

void on_tensor_cores(const kernel::GemmArgs& args) { cuda::gemm_with(args, cuda::GemmTile::tensor); }

template <class... Cases>
void check_tensor(Cases... cases) {
  for (Case c : {cases...})
    for (const bool trans_a : {false, true})
      for (const bool trans_b : {false, true}) {
        c.trans_a = trans_a;
        c.trans_b = trans_b;
        c.coarse = true;
        check_case<float>(c, on_tensor_cores);
      }
}

// One to six slices of 16 k: fewer and more than are in flight.
TEST(CudaGemmTensor, RaggedEdgesAndTransposes) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_tensor(Case{132, 20, 4}, Case{20, 140, 36}, Case{8, 4, 84});
    check_case<float>({.m = 4, .n = 7, .k = 8, .trans_b = true, .coarse = true}, on_tensor_cores);
    check_case<float>({.m = 4, .n = 7, .k = 0, .trans_b = true, .coarse = true}, on_tensor_cores);
  });
}

TEST(CudaGemmTensor, AlphaBetaBiasActivationBatches) {
  SINEW_NEEDS_CUDA();
  check_tensor(Case{.m = 20, .n = 24, .k = 20, .alpha = -0.5, .beta = 0.25, .batch = 3, .pad = 4},
               Case{.m = 20, .n = 24, .k = 20, .bias = true, .act = Activation::relu},
               Case{.m = 20, .n = 24, .k = 20, .bias = true, .act = Activation::tanh});
}

TEST(CudaGemmTensor, ChunksOfKAndManyTiles) {
  SINEW_NEEDS_CUDA();
  check_tensor(Case{12, 8, 260});
  check_case<float>({.m = 9 * 128 + 4, .n = 132, .k = 8, .coarse = true}, on_tensor_cores);
}

// The setting reaches the entry, and rounds: the error is that of TF32, not that of f32.
TEST(CudaGemmTensor, TheSettingReachesTheEntry) {
  SINEW_NEEDS_CUDA();
  constexpr size_t kN = 32;
  const std::vector<float> x = random_values<float>(kN * kN, -1, 1, 1), y = random_values<float>(kN * kN, -1, 1, 2);
  const DeviceArray<float> a(x), b(y), c(kN * kN);
  const kernel::GemmArgs args{DType::f32, false, true, kN, kN, kN, 1, 0, a.data(), kN, b.data(), kN, c.data(), kN, 1};
  const auto error = [&] {
    device().gemm(args);
    const std::vector<float> got = c.read();
    double largest = 0;
    for (size_t i = 0; i < kN; ++i)
      for (size_t j = 0; j < kN; ++j) {
        double sum = 0;
        for (size_t k = 0; k < kN; ++k) sum += static_cast<double>(x[i * kN + k]) * static_cast<double>(y[j * kN + k]);
        largest = std::max(largest, std::abs(static_cast<double>(got[i * kN + j]) - sum));
      }
    return largest;
  };
  EXPECT_EQ(cuda::matmul_precision(), cuda::MatmulPrecision::f32);
  EXPECT_LT(error(), 1e-5);
  cuda::set_matmul_precision(cuda::MatmulPrecision::tf32);
  const double rounded = error();
  cuda::set_matmul_precision(cuda::MatmulPrecision::f32);
  EXPECT_GT(rounded, 1e-5);
  EXPECT_LT(rounded, 5e-3);
  EXPECT_LT(error(), 1e-5);
}

struct Tf32ByBulkCopies {
  Tf32ByBulkCopies() {
    cuda::set_matmul_precision(cuda::MatmulPrecision::tf32);
    cuda::set_wgmma_use(cuda::WgmmaUse::always);
  }
  ~Tf32ByBulkCopies() {
    cuda::set_wgmma_use(cuda::WgmmaUse::filling);
    cuda::set_matmul_precision(cuda::MatmulPrecision::f32);
  }
  Tf32ByBulkCopies(const Tf32ByBulkCopies&) = delete;
  Tf32ByBulkCopies& operator=(const Tf32ByBulkCopies&) = delete;
};

// By wgmma with bulk copies, any operand packed first: both tiles, blocks that make several, chunks of k.
TEST(CudaBulkCopies, ProductsOfTf32) {
  SINEW_NEEDS_CUDA();
  if (cuda::wgmma_use() == cuda::WgmmaUse::never) GTEST_SKIP() << "wgmma is of sm_90a";
  const Tf32ByBulkCopies choice;
  in_all_orders([] {
    check_transposes<float>({.m = 70, .n = 37, .k = 41, .coarse = true});
    check_case<float>({.m = 9, .n = 7, .k = 300, .coarse = true});
    check_case<float>({.m = 9, .n = 7, .k = 20, .batch = 33, .coarse = true});
    check_transposes<float>(
        {.m = 20, .n = 130, .k = 35, .batch = 2, .pad = 1, .coarse = true});  // rows in groups of 16 bytes
  });
  check_transposes<float>(
      {.m = 20, .n = 130, .k = 35, .alpha = -0.5, .beta = 0.25, .batch = 3, .pad = 1, .offset = 1, .coarse = true});
  check_case<float>({.m = 20, .n = 24, .k = 20, .bias = true, .act = Activation::tanh, .coarse = true});
  check_case<float>({.m = 130, .n = 136, .k = 290, .batch = 5, .coarse = true});
}

}  // namespace
}  // namespace sinew::testing
