// Products and convolutions of bf16 on the device, against the definition on rounded operands, in double.
#include <functional>
#include <utility>

#include "tests/cuda/bf16.h"
#include "tests/support/conv_definition.h"

namespace sinew::testing {
namespace {

using kernel::ConvArgs;
using kernel::GemmArgs;

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

TEST(CudaBf16Gemm, LargeTilesAndChunksOfK) {
  SINEW_NEEDS_CUDA();
  {
    const Using mma(cuda::WgmmaUse::never);
    check({.m = 72, .n = 40, .k = 40, .trans_b = true, .f32_operand = F32Operand::b, .batch = 129});  // 128 x 128
    check({.m = 136, .n = 130, .k = 40, .trans_a = true, .batch = 33});
  }
  check_transposes({.m = 10, .n = 72, .k = 530});
  for (const int64_t pad : {4, 8})  // of bf16, rows that are no groups of 16 bytes and rows that are
    check({.m = 12,
           .n = 8,
           .k = 520,
           .f32_operand = F32Operand::b,
           .bias = true,
           .act = Activation::relu,
           .batch = 2,
           .pad = pad,
           .alpha = -0.5});
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

// The same with bulk copies; blocks make several tiles, and go around their rings of buffers more than once.
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
  for (int64_t n : {128, 256})  // whole tiles of columns, written 16 bytes at a time
    check({.m = 70,
           .n = n,
           .k = 72,
           .f32_operand = F32Operand::b,
           .bias = true,
           .act = Activation::relu,
           .batch = 2,
           .pad = 8,
           .alpha = -0.5});
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

// Of conv_bulk_wgmma.cu. It does strides of 1 and sums over multiples of 64 channels; what else is here others do.
struct UsingBulkChoice {
  explicit UsingBulkChoice(const cuda::ConvBulkChoice& choice) { cuda::set_conv_bulk_choice(choice); }
  ~UsingBulkChoice() { cuda::set_conv_bulk_choice({}); }
  UsingBulkChoice(const UsingBulkChoice&) = delete;
  UsingBulkChoice& operator=(const UsingBulkChoice&) = delete;
};
TEST(CudaBulkCopies, Convolutions) {
  SINEW_NEEDS_CUDA();
  const Using wgmma(cuda::WgmmaUse::always, cuda::WgmmaCopies::bulk);
  for (const int tile_n : {64, 128, 192}) {  // 64: not towards the filters; 192: only there
    const UsingBulkChoice choice({.tile_n = tile_n});
    in_all_orders([] { check({2, 6, 5, 64, 64, 3, 3, 1, 1, 1, 1}); });
    check({3, 8, 9, 64, 40, 3, 3, 1, 1, 1, 1});    // tiles over the ends of images
    check({2, 7, 6, 128, 136, 3, 3, 1, 1, 0, 1});  // dw 128 x 128
    check({2, 6, 7, 192, 192, 2, 3, 1, 1, 1, 1});
  }
  check({1, 7, 9, 64, 64, 5, 2, 1, 1, 2, 0});  // unequal taps and padding
  // Towards the filters, slices of several images, and of less than a row.
  check({9, 4, 4, 64, 64, 3, 3, 1, 1, 1, 1}, Which::backward);
  check({1, 2, 70, 64, 64, 1, 1}, Which::backward);
  check({2, 4, 5, 64, 64, 1, 1, 1, 1, 1, 2});  // more padding than taps
  check({1, 9, 9, 64, 64, 3, 3, 2, 2, 1, 1});
#if !defined(SINEW_CUDA_EMULATE)  // so that blocks of a large GPU make several tiles
  check({34, 32, 32, 64, 64, 1, 1}, Which::forward);
#endif
}
// In chunks of the summed indices, the last of which is shorter.
TEST(CudaBulkCopies, ConvolutionsInChunks) {
  SINEW_NEEDS_CUDA();
  const Using wgmma(cuda::WgmmaUse::always, cuda::WgmmaCopies::bulk);
  for (const int tile_n : {64, 128, 192}) {  // 64: not towards the filters; 192: only there
    const UsingBulkChoice choice({.tile_n = tile_n, .chunks = 4});
    in_all_orders([] { check({2, 6, 5, 64, 64, 3, 3, 1, 1, 1, 1}); });
    check({3, 12, 11, 64, 72, 1, 3, 1, 1, 0, 1});
    check({3, 12, 11, 128, 64, 1, 3, 1, 1, 0, 1});
  }
}
// Two chunks of unequal length, whose blocks exchange sums.
TEST(CudaBulkCopies, ConvolutionsByPairsOfBlocks) {
  SINEW_NEEDS_CUDA();
  const Using wgmma(cuda::WgmmaUse::always, cuda::WgmmaCopies::bulk);
  const UsingBulkChoice choice({.tile_n = 128, .chunks = 2, .pairs = true});
  in_all_orders([] { check({2, 6, 5, 64, 72, 3, 3, 1, 1, 1, 1}); });
  check({2, 6, 5, 128, 128, 3, 3, 1, 1, 1, 1});                   // more slices than buffers
  check({3, 12, 11, 128, 40, 1, 3, 1, 1, 0, 1}, Which::forward);  // the second half of the columns is beyond all
  check({2, 9, 8, 64, 136, 2, 1, 1, 1, 1, 0}, Which::forward);    // several tiles, whole columns and others
  check({2, 9, 8, 136, 64, 2, 1, 1, 1, 1, 0}, Which::backward);
}

// Few pixels and long sums, which several blocks share.
TEST(CudaBf16Conv, ChunksOfSums) {
  SINEW_NEEDS_CUDA();
  check({2, 4, 5, 64, 72, 3, 3, 1, 1, 1, 1});
  check({2, 5, 4, 64, 70, 3, 3, 2, 2, 1, 1});
  check({1, 3, 3, 520, 36, 1, 1});
}

}  // namespace
}  // namespace sinew::testing
