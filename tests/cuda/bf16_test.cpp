// bf16 on the device. Products and convolutions against the definition on rounded operands, in double; the other
// entries against the device's own f32 on the same values, which they must equal when rounded once, or nearly so where
// sums are added in another order.
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "core/autograd.h"
#include "core/ops.h"
#include "core/vec.h"
#include "cuda/kernels/matrix.h"
#include "tests/cuda/support.h"
#include "tests/support/conv_definition.h"

namespace sinew::testing {
namespace {

using kernel::ConvArgs;
using kernel::GemmArgs;

constexpr double kHalfStep = 1.0 / 256;  // the largest relative error of rounding to bf16

// An operand as the kernel gets it, and the values that it then computes with.
struct Operand {
  Operand(size_t n, bool is_f32, uint32_t stream, size_t offset) : f32(is_f32) {
    const std::vector<float> wide = random_values<float>(n, -1, 1, stream);
    std::vector<bfloat16> narrow;
    for (float x : wide) narrow.push_back(bfloat16(x));
    values.assign(narrow.begin(), narrow.end());
    if (f32)
      as_f32 = std::make_unique<DeviceArray<float>>(wide, offset);
    else
      as_bf16 = std::make_unique<DeviceArray<bfloat16>>(narrow, offset);
  }
  const void* data() const { return f32 ? static_cast<const void*>(as_f32->data()) : as_bf16->data(); }

  bool f32;
  std::vector<double> values;
  std::unique_ptr<DeviceArray<float>> as_f32;
  std::unique_ptr<DeviceArray<bfloat16>> as_bf16;
};

// A result of either type, with `guard` more elements behind it that must stay.
class Result {
 public:
  Result(size_t n, bool narrow, size_t offset) : n_(n), narrow_(narrow) {
    if (narrow)
      bf16_ = std::make_unique<DeviceArray<bfloat16>>(std::vector<bfloat16>(n + 1, bfloat16(77)), offset);
    else
      f32_ = std::make_unique<DeviceArray<float>>(std::vector<float>(n + 1, 77.0f), offset);
  }
  void* data() const { return narrow_ ? static_cast<void*>(bf16_->data()) : f32_->data(); }
  std::vector<double> read() const {
    std::vector<double> got;
    if (narrow_)
      for (bfloat16 x : bf16_->read()) got.push_back(static_cast<double>(float(x)));
    else
      for (float x : f32_->read()) got.push_back(static_cast<double>(x));
    EXPECT_EQ(got.back(), 77) << "wrote beyond the end";
    got.pop_back();
    return got;
  }

 private:
  size_t n_;
  bool narrow_;
  std::unique_ptr<DeviceArray<bfloat16>> bf16_;
  std::unique_ptr<DeviceArray<float>> f32_;
};

// A sum of products of values up to 1, the size of its terms and their number.
struct Sum {
  double value = 0, size = 0, terms = 0;
  void add(double term) { value += term, size += std::abs(term), ++terms; }
};
// Sums are f32's; a result in bf16 is rounded once more.
void expect_near(double got, double want, const Sum& sum, bool narrow, const std::string& where) {
  const double summing = 2.4e-7 * (sum.size + 1) * std::sqrt(sum.terms + 1);
  ASSERT_NEAR(got, want, summing + (narrow ? kHalfStep * (std::abs(want) + summing) : 0)) << where;
}

// ---- products ----

struct Gemm {
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
  F32Operand f32_operand = F32Operand::none;
  bool bias = false;
  Activation act = Activation::none;
  int64_t batch = 1, pad = 0;  // pad: extra elements in every leading dimension
  size_t offset = 0;           // of every pointer, in elements
  double alpha = 1;
};

void check(const Gemm& c) {
  SCOPED_TRACE(::testing::Message() << c.m << "x" << c.n << "x" << c.k << " trans " << c.trans_a << c.trans_b << " f32 "
                                    << static_cast<int>(c.f32_operand) << " bias " << c.bias << " act "
                                    << static_cast<int>(c.act) << " batch " << c.batch << " pad " << c.pad << " offset "
                                    << c.offset);
  const int64_t lda = (c.trans_a ? c.m : c.k) + c.pad, ldb = (c.trans_b ? c.k : c.n) + c.pad, ldc = c.n + c.pad;
  const int64_t sa = lda * (c.trans_a ? c.k : c.m), sb = ldb * (c.trans_b ? c.n : c.k), sc = ldc * c.m;
  const bool narrow = c.f32_operand != F32Operand::none;
  const auto size = [&](int64_t stride) { return static_cast<size_t>(c.batch * stride); };
  const Operand a(size(sa), c.f32_operand == F32Operand::a, 1, c.offset),
      b(size(sb), c.f32_operand == F32Operand::b, 2, c.offset);
  const std::vector<float> bias = random_values<float>(static_cast<size_t>(c.n), -1, 1, 3);
  const DeviceArray<float> at_bias(bias, c.offset);
  const Result result(size(sc), narrow, c.offset);
  GemmArgs args{DType::bf16,
                c.trans_a,
                c.trans_b,
                c.m,
                c.n,
                c.k,
                c.alpha,
                0,
                a.data(),
                lda,
                b.data(),
                ldb,
                result.data(),
                ldc,
                c.batch,
                sa,
                sb,
                sc,
                c.bias ? at_bias.data() : nullptr,
                c.act,
                c.f32_operand};
  device().gemm(args);
  const std::vector<double> got = result.read();
  for (int64_t z = 0; z < c.batch; ++z)
    for (int64_t i = 0; i < c.m; ++i)
      for (int64_t j = 0; j < ldc; ++j) {
        const double value = got[static_cast<size_t>(z * sc + i * ldc + j)];
        if (j >= c.n) {
          ASSERT_EQ(value, 77) << "wrote beyond column " << c.n;
          continue;
        }
        Sum sum;
        for (int64_t p = 0; p < c.k; ++p)
          sum.add(a.values[static_cast<size_t>(z * sa + (c.trans_a ? p * lda + i : i * lda + p))] *
                  b.values[static_cast<size_t>(z * sb + (c.trans_b ? j * ldb + p : p * ldb + j))]);
        double want = c.alpha * sum.value + (c.bias ? static_cast<double>(bias[static_cast<size_t>(j)]) : 0);
        if (c.act == Activation::relu) want = std::max(want, 0.0);
        if (c.act == Activation::tanh) want = std::tanh(want);
        expect_near(value, want, sum, narrow, std::to_string(i) + ", " + std::to_string(j));
      }
}

void check_transposes(Gemm c) {
  for (bool trans_a : {false, true})
    for (bool trans_b : {false, true}) {
      c.trans_a = trans_a, c.trans_b = trans_b;
      check(c);
    }
}

TEST(CudaBf16Gemm, RaggedEdgesTransposesAndTypes) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_transposes({.m = 72, .n = 40, .k = 40});  // as they lie in memory
    check_transposes({.m = 65, .n = 9, .k = 33, .f32_operand = F32Operand::b});
    check_transposes({.m = 7, .n = 70, .k = 50, .f32_operand = F32Operand::a});
  });
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {1, 65, 8}, {65, 1, 7}, {3, 2, 100}})
    for (const F32Operand operand : {F32Operand::none, F32Operand::a, F32Operand::b})
      check({.m = m, .n = n, .k = k, .f32_operand = operand});
}

TEST(CudaBf16Gemm, BiasActivationsBatchesAndOffsets) {
  SINEW_NEEDS_CUDA();
  for (const Activation act : {Activation::none, Activation::relu, Activation::tanh})
    check({.m = 20, .n = 36, .k = 24, .trans_b = true, .f32_operand = F32Operand::b, .bias = true, .act = act});
  check({.m = 20, .n = 36, .k = 24, .bias = true, .act = Activation::relu, .alpha = -0.5});
  check_transposes({.m = 20, .n = 35, .k = 11, .batch = 3, .pad = 5});
  check_transposes({.m = 24, .n = 16, .k = 16, .f32_operand = F32Operand::b, .bias = true, .batch = 2, .pad = 8});
  check_transposes({.m = 16, .n = 24, .k = 32, .offset = 1});
  check({.m = 16, .n = 24, .k = 32, .f32_operand = F32Operand::a, .offset = 1});
}

struct Using {
  explicit Using(cuda::WgmmaUse use, cuda::WgmmaCopies copies = cuda::WgmmaCopies::threads) {
    cuda::set_wgmma_use(use);
    cuda::set_wgmma_copies(copies);
  }
  ~Using() {
    cuda::set_wgmma_use(cuda::WgmmaUse::filling);
    cuda::set_wgmma_copies(cuda::WgmmaCopies::threads);
  }
  Using(const Using&) = delete;
  Using& operator=(const Using&) = delete;
};

TEST(CudaBf16Gemm, LargeTilesAndChunksOfK) {
  SINEW_NEEDS_CUDA();
  {
    const Using mma(cuda::WgmmaUse::never);
    check({.m = 72, .n = 40, .k = 40, .trans_b = true, .f32_operand = F32Operand::b, .batch = 129});  // 128 x 128
    check({.m = 136, .n = 130, .k = 40, .trans_a = true, .batch = 33});
  }
  check_transposes({.m = 10, .n = 72, .k = 530});
  check({.m = 12, .n = 8, .k = 520, .f32_operand = F32Operand::b, .bias = true, .act = Activation::relu, .pad = 4});
}

// Ragged edges of both tiles, several slices deep, sums in chunks.
TEST(CudaBf16Gemm, Wgmma) {
  SINEW_NEEDS_CUDA();
  const Using wgmma(cuda::WgmmaUse::always);
  in_all_orders([] { check_transposes({.m = 72, .n = 40, .k = 270}); });
  check_transposes({.m = 136, .n = 264, .k = 72, .f32_operand = F32Operand::b});
  check({.m = 130, .n = 100, .k = 40, .bias = true, .act = Activation::relu, .batch = 2});
  check({.m = 20, .n = 24, .k = 1100, .f32_operand = F32Operand::a});
}

// The same with bulk copies; blocks make several tiles, and go around their rings of buffers more than once. A suite of
// its own, as long as they have not run on a GPU: scripts/gpu_check.sh runs suites in processes of their own.
TEST(CudaBulkCopies, ProductsOfBf16) {
  SINEW_NEEDS_CUDA();
  const Using wgmma(cuda::WgmmaUse::always, cuda::WgmmaCopies::bulk);
  in_all_orders([] {
    check_transposes({.m = 72, .n = 40, .k = 70});
    check({.m = 72, .n = 40, .k = 270, .trans_b = true, .batch = 5});
    // A slice a tile, so that it is the end of a tile that frees its buffers; both tiles.
    for (int64_t n : {16, 136}) check({.m = 20, .n = n, .k = 40, .batch = 33});
  });
#if !defined(SINEW_CUDA_EMULATE)  // so that blocks of a large GPU make several tiles too
  for (int64_t n : {24, 136}) check({.m = 20, .n = n, .k = 328, .batch = 600});
#endif
  check_transposes({.m = 136, .n = 264, .k = 72, .f32_operand = F32Operand::b});
  check_transposes({.m = 20, .n = 35, .k = 11, .batch = 3, .pad = 5});
  check({.m = 130, .n = 100, .k = 40, .bias = true, .act = Activation::relu, .batch = 2});
  check({.m = 130, .n = 136, .k = 328, .trans_b = true, .batch = 5});
  check({.m = 20, .n = 24, .k = 1100, .f32_operand = F32Operand::a});
  check({.m = 5, .n = 7, .k = 0});
}

TEST(CudaBf16Gemm, EmptySums) {
  SINEW_NEEDS_CUDA();
  check({.m = 5, .n = 7, .k = 0});
  check({.m = 5, .n = 7, .k = 0, .f32_operand = F32Operand::b, .bias = true});
}

// ---- convolutions ----

struct Conv {
  int64_t n, h, w, c, k, r, s;
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  size_t offset = 0;
};
enum class Which : uint8_t { all, forward, backward };

void check(const Conv& c, Which which = Which::all) {
  SCOPED_TRACE(::testing::Message() << c.n << "x" << c.h << "x" << c.w << "x" << c.c << " filters " << c.k << "x" << c.r
                                    << "x" << c.s << " stride " << c.stride_h << "," << c.stride_w << " pad " << c.pad_h
                                    << "," << c.pad_w << " offset " << c.offset);
  ConvArgs a{};
  a.dtype = DType::bf16;
  a.n = c.n, a.h = c.h, a.w = c.w, a.c = c.c, a.k = c.k, a.r = c.r, a.s = c.s;
  a.stride_h = c.stride_h, a.stride_w = c.stride_w, a.pad_h = c.pad_h, a.pad_w = c.pad_w;
  a.p = (c.h + 2 * c.pad_h - c.r) / c.stride_h + 1, a.q = (c.w + 2 * c.pad_w - c.s) / c.stride_w + 1;
  const Operand x(static_cast<size_t>(a.n * a.h * a.w * a.c), false, 1, c.offset),
      filter(static_cast<size_t>(a.k * a.r * a.s * a.c), true, 2, c.offset),
      y(static_cast<size_t>(a.n * a.p * a.q * a.k), false, 3, c.offset);
  const std::vector<float> bias = random_values<float>(static_cast<size_t>(a.k), -1, 1, 4);
  const DeviceArray<float> at_bias(bias, c.offset);
  a.x = x.data(), a.filter = filter.data(), a.y = y.data();
  std::vector<Sum> forward(y.values.size()), dx(x.values.size()), dw(filter.values.size());
  for_every_conv_product(a, [&](size_t i, size_t f, size_t o) {
    if (which != Which::backward) forward[o].add(x.values[i] * filter.values[f]);
    if (which == Which::forward) return;
    dx[i].add(y.values[o] * filter.values[f]);
    dw[f].add(y.values[o] * x.values[i]);
  });
  const auto compare = [&](const char* what, void (*entry)(const ConvArgs&), const std::vector<Sum>& want,
                           bool narrow) {
    const Result out(want.size(), narrow, c.offset);
    a.out = out.data();
    entry(a);
    const std::vector<double> got = out.read();
    for (size_t i = 0; i < want.size(); ++i)
      expect_near(got[i], want[i].value, want[i], narrow, what + (" " + std::to_string(i)));
  };
  // To the bit what a sum afterwards would be.
  const auto expect_accumulates = [&](const char* what, void (*entry)(const ConvArgs&), size_t n) {
    const DeviceArray<bfloat16> plain(n);
    std::vector<bfloat16> before = random_values<bfloat16>(n, -1, 1, 5);
    const DeviceArray<bfloat16> sum(before, c.offset);
    a.out = plain.data();
    entry(a);
    a.out = sum.data(), a.accumulate = true;
    entry(a);
    a.accumulate = false;
    const std::vector<bfloat16> got = sum.read(), added = plain.read();
    for (size_t i = 0; i < n; ++i)
      ASSERT_EQ(got[i].bits, bfloat16(float(before[i]) + float(added[i])).bits) << what << " " << i;
  };
  if (which != Which::backward) {
    compare("forward", device().conv_forward, forward, true);
    expect_accumulates("forward", device().conv_forward, forward.size());
    a.bias = at_bias.data(), a.act = Activation::relu;
    for (size_t i = 0; i < forward.size(); ++i) {
      forward[i].add(static_cast<double>(bias[i % bias.size()]));
      forward[i].value = std::max(forward[i].value, 0.0);
    }
    compare("bias and relu", device().conv_forward, forward, true);
    a.bias = nullptr, a.act = Activation::none;
  }
  if (which == Which::forward) return;
  compare("dx", device().conv_dx, dx, true);
  expect_accumulates("dx", device().conv_dx, dx.size());
  compare("dw", device().conv_dw, dw, false);
}

TEST(CudaBf16Conv, KernelsStridesAndPadding) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check({2, 6, 5, 8, 16, 3, 3, 1, 1, 1, 1});
    check({1, 7, 9, 8, 8, 3, 3, 2, 2, 1, 1});
  });
  for (const Conv& c : {Conv{2, 5, 6, 16, 8, 1, 1}, Conv{1, 6, 6, 8, 8, 1, 1, 2, 2}, Conv{1, 8, 7, 8, 8, 5, 2, 3, 2, 2},
                        Conv{3, 4, 4, 24, 40, 3, 3, 2, 2, 1, 1}, Conv{40, 2, 2, 8, 8, 3, 3, 1, 1, 1, 1},
                        Conv{3, 1, 1, 8, 8, 3, 3, 1, 1, 1, 1}})
    check(c);
}

// Channels or filters that make no whole groups of 16 bytes, pointers that are not aligned.
TEST(CudaBf16Conv, OddChannelsAndUnalignedPointers) {
  SINEW_NEEDS_CUDA();
  for (const Conv& c :
       {Conv{2, 6, 5, 3, 16, 3, 3, 1, 1, 1, 1}, Conv{2, 7, 7, 1, 6, 5, 5, 1, 1, 2, 2},
        Conv{1, 6, 6, 5, 7, 3, 3, 2, 2, 1, 1}, Conv{1, 5, 5, 8, 13, 3, 3, 1, 1, 1, 1}, Conv{1, 1, 1, 1, 1, 1, 1},
        Conv{1, 5, 5, 13, 8, 3, 3, 1, 1, 1, 1}, Conv{1, 5, 6, 8, 8, 3, 3, 2, 2, 1, 1, 1}})
    check(c);
}

// Ragged edges of the tiles of conv_tensor.cu and conv_dw_tensor.cu.
TEST(CudaBf16Conv, EveryTile) {
  SINEW_NEEDS_CUDA();
  const Using mma(cuda::WgmmaUse::never);
  check({1, 19, 7, 8, 40, 3, 3, 1, 1, 1, 1});                   // 64 x 32; dw 64 x 64
  check({1, 131, 131, 8, 24, 1, 1});                            // 128 x 32; dw 32 x 64, chunks
  check({1, 131, 131, 8, 40, 1, 1}, Which::forward);            // 128 x 64
  check({1, 93, 93, 136, 8, 1, 1}, Which::backward);            // 128 x 128
  check({1, 9, 9, 8, 136, 3, 3, 1, 1, 1, 1}, Which::backward);  // dw 128 x 128
}

// Of conv_wgmma.cu: several slices deep, every width, strides whose parts differ in taps.
TEST(CudaBf16Conv, Wgmma) {
  SINEW_NEEDS_CUDA();
  const Using wgmma(cuda::WgmmaUse::always);
  in_all_orders([] { check({2, 9, 8, 16, 40, 3, 3, 1, 1, 1, 1}); });  // 64; dw 64 x 128
  check({2, 9, 9, 40, 72, 3, 3, 2, 2, 1, 1});                         // 128, towards x 64
  check({1, 12, 12, 72, 136, 1, 1});                                  // 256, towards x 128; dw 128 x 128
}

// Few pixels and long sums, which several blocks share.
TEST(CudaBf16Conv, ChunksOfSums) {
  SINEW_NEEDS_CUDA();
  check({2, 4, 5, 64, 72, 3, 3, 1, 1, 1, 1});
  check({2, 5, 4, 64, 70, 3, 3, 2, 2, 1, 1});
  check({1, 3, 3, 520, 36, 1, 1});
}

// ---- everything else: the device's f32, rounded once ----

Tensor on_device(const Tensor& t) {
  std::vector<std::byte> bytes(t.bytes());
  t.read(bytes.data());
  return Tensor::from_host(bytes.data(), t.shape(), t.dtype(), Device::cuda);
}
// Values that bf16 holds exactly.
Tensor exact(const Shape& shape, uint32_t stream, double low = -1, double high = 1) {
  const RngKey key{17, static_cast<uint32_t>(RngPurpose::test), stream, 0};
  return on_device(cast(random_uniform(shape, low, high, key), DType::bf16));
}
Tensor vector_of(int64_t n, uint32_t stream, double low, double high) {
  const RngKey key{17, static_cast<uint32_t>(RngPurpose::test), stream, 0};
  return on_device(random_uniform({n}, low, high, key));
}
Tensor wide(const Tensor& x) { return cast(x, DType::f32); }
std::vector<double> doubles(const Tensor& t) { return to_doubles(t.view()); }
void expect_rounded(const Tensor& got, const Tensor& f32, const char* what) {
  ASSERT_EQ(got.dtype(), DType::bf16) << what;
  ASSERT_EQ(got.shape(), f32.shape()) << what;
  EXPECT_EQ(doubles(got), doubles(cast(f32, DType::bf16))) << what;
}
// Where sums in f32 are added in another order, and may then be rounded to the neighbour.
void expect_near_rounded(const Tensor& got, const Tensor& f32, const char* what) {
  ASSERT_EQ(got.dtype(), DType::bf16) << what;
  const std::vector<double> a = doubles(got), b = doubles(f32);
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], b[i], kHalfStep * std::abs(b[i]) + 2e-5) << what << " element " << i;
}
void expect_near_f32(const Tensor& got, const Tensor& want, const char* what) {
  ASSERT_EQ(got.dtype(), DType::f32) << what;
  expect_close(got.to_vector<float>(), want.to_vector<float>(), what);
}

TEST(CudaBf16, Elementwise) {
  SINEW_NEEDS_CUDA();
  const int64_t n = 1003;  // not a multiple of 16 bytes
  const Tensor x = exact({n}, 1, 0.05, 2), y = exact({n}, 2, 0.05, 2), x32 = wide(x), y32 = wide(y);
  const Tensor got = Tensor::empty({n}, DType::bf16, Device::cuda), want = Tensor::empty({n}, DType::f32, Device::cuda);
#define SINEW_CHECK_UNARY(name)                                                      \
  device().unary({UnaryOp::name, DType::bf16, n, x.data(), got.data(), 1.7, 0.3});   \
  device().unary({UnaryOp::name, DType::f32, n, x32.data(), want.data(), 1.7, 0.3}); \
  expect_rounded(got, want, #name);
  SINEW_UNARY_OPS(SINEW_CHECK_UNARY)
#undef SINEW_CHECK_UNARY
#define SINEW_CHECK_BINARY(name)                                                                        \
  device().binary({BinaryOp::name, DType::bf16, 1, {n}, {1}, {1}, x.data(), y.data(), got.data()});     \
  device().binary({BinaryOp::name, DType::f32, 1, {n}, {1}, {1}, x32.data(), y32.data(), want.data()}); \
  expect_rounded(got, want, #name);
  SINEW_BINARY_OPS(SINEW_CHECK_BINARY)
#undef SINEW_CHECK_BINARY
}

TEST(CudaBf16, Casts) {
  SINEW_NEEDS_CUDA();
  const std::vector<float> values = {1.0f + 1.0f / 256, 1.0f + 3.0f / 256, -1.0f - 1.0f / 512, 3e38f, 200.0f, -3.0f};
  const Tensor f = on_device(Tensor::from_vector(values, {6}));
  EXPECT_EQ(doubles(cast(f, DType::bf16)), to_doubles(cast(Tensor::from_vector(values, {6}), DType::bf16).view()));
  const Tensor b = on_device(cast(Tensor::from_vector(std::vector<float>{1.5, -3, 200}, {3}), DType::bf16));
  EXPECT_EQ(cast(b, DType::f64).to_vector<double>(), (std::vector<double>{1.5, -3, 200}));
  EXPECT_EQ(cast(b, DType::i32).to_vector<int32_t>(), (std::vector<int32_t>{1, -3, 200}));
  EXPECT_EQ(cast(b, DType::i64).to_vector<int64_t>(), (std::vector<int64_t>{1, -3, 200}));
  EXPECT_EQ(doubles(cast(on_device(Tensor::from_vector<uint8_t>({255, 3}, {2})), DType::bf16)),
            (std::vector<double>{255, 3}));
  for (const int64_t n : {5, 64, 1003}) {
    const Tensor x = vector_of(n, 3, -2, 2);
    expect_rounded(cast(x, DType::bf16), x, "f32");
    EXPECT_EQ(doubles(cast(cast(x, DType::bf16), DType::f32)), doubles(cast(x, DType::bf16)));
  }
}

TEST(CudaBf16, BroadcastsMovesAndMasks) {
  SINEW_NEEDS_CUDA();
  for (const int64_t c : {3, 16}) {
    const Tensor x = exact({7, 5, c}, 1), row = exact({c}, 2), column = exact({5, 1}, 3);
    expect_rounded(x + row, wide(x) + wide(row), "row");
    expect_rounded(x * column, wide(x) * wide(column), "column");
    expect_rounded(permute(x, {2, 0, 1}), permute(wide(x), {2, 0, 1}), "permute");
    expect_rounded(broadcast_to(row, {4, c}), broadcast_to(wide(row), {4, c}), "broadcast");
    expect_rounded(slice_axis(x, 1, 0, 5, 2), slice_axis(wide(x), 1, 0, 5, 2), "slice");
    expect_rounded(pad_axis(x, 2, 1, 2), pad_axis(wide(x), 2, 1, 2), "pad");
    expect_rounded(concat(x, x, 0), concat(wide(x), wide(x), 0), "concat");
    const Tensor index = on_device(Tensor::from_vector<int64_t>({6, 0, 6}, {3}));
    expect_rounded(gather(x, index), gather(wide(x), index), "gather");
    const Tensor zero = Tensor::zeros(x.shape(), DType::bf16, Device::cuda), mask = maximum(x, zero);
    expect_rounded(where(mask, x, zero), where(wide(mask), wide(x), wide(zero)), "where");
  }
  expect_rounded(permute(exact({40, 50}, 4), {1, 0}), permute(wide(exact({40, 50}, 4)), {1, 0}), "transpose");
  expect_rounded(Tensor::full({33}, 0.1, DType::bf16, Device::cuda), Tensor::full({33}, 0.1, DType::f32, Device::cuda),
                 "fill");
  for (const int64_t n : {7, 64, 203}) {
    const Tensor x = exact({n}, 5);
    const RngKey key{17, static_cast<uint32_t>(RngPurpose::test), 9, 0};
    expect_rounded(dropout(x, 0.3, key), dropout(wide(x), 0.3, key), "dropout");
  }
}

TEST(CudaBf16, SumsAreF32) {
  SINEW_NEEDS_CUDA();
  for (const Shape& shape : {Shape{3000, 5}, Shape{30, 400}, Shape{2, 900, 3}, Shape{9000}}) {
    const Tensor x = exact(shape, 1, 0, 1);
    for (int axis = 0; axis < shape.ndim(); ++axis) expect_near_f32(sum(x, {axis}), sum(wide(x), {axis}), "sum");
    expect_near_f32(sum(x), sum(wide(x)), "sum");
    expect_rounded(max(x, {0}), max(wide(x), {0}), "max");
    EXPECT_EQ(argmax(x, 0).to_vector<int64_t>(), argmax(wide(x), 0).to_vector<int64_t>());
  }
  EXPECT_EQ(sum(Tensor::ones({1000}, DType::bf16, Device::cuda)).item<float>(), 1000);
}

TEST(CudaBf16, Pools) {
  SINEW_NEEDS_CUDA();
  for (const Shape& shape : {Shape{2, 7, 6, 3}, Shape{2, 5, 5, 24}}) {
    const Tensor x = exact(shape, 1);
    for (const PoolOptions& o : {PoolOptions{2, 2, 0}, PoolOptions{3, 2, 1}, PoolOptions{3, 1, 1}}) {
      const Tensor places = max_pool2d_places(x, o), y = max_pool2d(x, o);
      EXPECT_EQ(places.to_vector<uint8_t>(), max_pool2d_places(wide(x), o).to_vector<uint8_t>());
      expect_rounded(y, max_pool2d(wide(x), o), "max");
      expect_rounded(max_pool2d_gather(x, places, o), max_pool2d_gather(wide(x), places, o), "gather");
      const int64_t h = x.dim(1), w = x.dim(2);
      expect_rounded(max_pool2d_scatter(y, places, h, w, o), max_pool2d_scatter(wide(y), places, h, w, o), "scatter");
      expect_rounded(avg_pool2d(x, o), avg_pool2d(wide(x), o), "average");
      expect_rounded(avg_pool2d_grad(y, h, w, o), avg_pool2d_grad(wide(y), h, w, o), "average's gradient");
    }
  }
}

std::vector<Tensor> pass(std::vector<Tensor> in, bool bf16,
                         const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& forward,
                         const Tensor& g) {
  for (Tensor& t : in) t = (bf16 || t.dtype() != DType::bf16 ? t.detach() : wide(t)).set_requires_grad();
  std::vector<Tensor> out = forward(in);
  const std::vector<Tensor> y{out[0]}, cotangent{bf16 ? g : wide(g)};
  for (const Tensor& t : grad(y, in, cotangent)) out.push_back(t);
  return out;
}
void expect_same_pass(const std::vector<Tensor>& got, const std::vector<Tensor>& want, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "result " << i);
    if (got[i].dtype() == DType::bf16)
      expect_near_rounded(got[i], want[i], what);
    else
      expect_near_f32(got[i], want[i], what);
  }
}

TEST(CudaBf16, Normalisations) {
  SINEW_NEEDS_CUDA();
  for (const auto& [rows, c] : {std::pair<int64_t, int64_t>{70, 3}, {130, 16}, {9, 300}, {700, 8}})
    for (const bool residual : {false, true})
      for (const Activation act : {Activation::none, Activation::relu}) {
        SCOPED_TRACE(::testing::Message() << rows << " x " << c << " residual " << residual);
        const Tensor x = exact({rows, c}, 1, -1, 3), r = residual ? exact({rows, c}, 2) : Tensor();
        const Tensor g = exact({rows, c}, 3), gamma = vector_of(c, 4, 0.5, 2), beta = vector_of(c, 5, -1, 1);
        std::vector<Tensor> in{x, gamma, beta};
        if (residual) in.push_back(r);
        const auto forward = [&](const std::vector<Tensor>& t) {
          const BatchNorm n = batch_norm(t[0], t[1], t[2], residual ? t[3] : Tensor(), act);
          return std::vector<Tensor>{n.y, n.mean, n.inv_std, n.variance};
        };
        expect_same_pass(pass(in, true, forward, g), pass(in, false, forward, g), "batch norm");
        expect_rounded(channel_affine(x, beta, gamma, beta, r, act),
                       channel_affine(wide(x), beta, gamma, beta, residual ? wide(r) : Tensor(), act), "affine");
      }
  for (const int64_t d : {5, 16, 64, 520, 1000, 1200}) {
    SCOPED_TRACE(d);
    const Tensor x = exact({20, d}, 1), g = exact({20, d}, 2), gamma = vector_of(d, 4, 0.5, 2);
    const Tensor beta = vector_of(d, 5, -1, 1);
    const auto forward = [&](const std::vector<Tensor>& t) {
      return std::vector<Tensor>{layer_norm(t[0], t[1], t[2])};
    };
    expect_same_pass(pass({x, gamma, beta}, true, forward, g), pass({x, gamma, beta}, false, forward, g), "layer norm");
  }
}

// dx added to what is there is, to the bit, what a sum afterwards would be.
TEST(CudaBf16, BatchNormsGradientAccumulates) {
  SINEW_NEEDS_CUDA();
  const int64_t rows = 100;
  for (const int64_t c : {5, 16})
    for (const bool from_y : {false, true}) {
      const Tensor g = exact({rows, c}, 1), x = exact({rows, c}, 2), y = exact({rows, c}, 3),
                   before = exact({rows, c}, 4);
      const Tensor v = vector_of(c, 5, 0.5, 2), ignored = Tensor::empty({c}, DType::f32, Device::cuda);
      const Tensor plain = Tensor::empty({rows, c}, DType::bf16, Device::cuda),
                   sum = before + Tensor::zeros({rows, c}, DType::bf16, Device::cuda);
      const Tensor through = Tensor::empty({rows, c}, DType::bf16, Device::cuda);
      kernel::BatchNormGradArgs args{DType::bf16, true, rows, c};
      args.g = g.data(), args.x = x.data(), args.y = from_y ? y.data() : nullptr;
      args.gamma = args.beta = args.mean = args.inv_std = v.data();
      args.dx = plain.data(), args.dgamma = args.dbeta = ignored.data(), args.dresidual = through.data();
      device().batch_norm_grad(args);
      args.dx = sum.data(), args.accumulate = true;
      device().batch_norm_grad(args);
      EXPECT_EQ(doubles(sum), doubles(before + plain));
    }
}

// ---- what takes no bf16 says so ----

TEST(CudaBf16, OtherEntriesRefuseIt) {
  SINEW_NEEDS_CUDA();
  const auto refused = [](const std::function<void()>& fn) {
    try {
      fn();
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("bf16"), std::string::npos) << e.what();
    }
  };
  const DeviceArray<bfloat16> array(64);
  const DeviceArray<int64_t> index(1);
  const DeviceArray<double> result(1);
  bfloat16* const p = array.data();
  const KernelTable& t = device();
  refused([&] { t.softmax({DType::bf16, false, 1, 8, p, p}); });
  refused([&] { t.axpby({DType::bf16, 8, 1, 0, p, p, p}); });
  refused([&] { t.dot({DType::bf16, 8, p, p, result.data()}); });
  refused([&] { t.one_hot({DType::bf16, 1, 2, index.data(), p}); });
  refused([&] { t.scatter_add({DType::bf16, 1, 1, 8, p, index.data(), p}); });
  refused([&] { t.random({RandomDist::uniform, DType::bf16, 8, {}, p, 0, 1}); });
  kernel::BatchNormGrad2Args second{};
  second.dtype = DType::bf16, second.rows = second.channels = 2;
  refused([&] { t.batch_norm_grad2(second); });
  kernel::SgdArgs sgd;
  sgd.dtype = DType::bf16, sgd.n = 2;
  refused([&] { t.sgd(sgd); });
}

}  // namespace
}  // namespace sinew::testing
