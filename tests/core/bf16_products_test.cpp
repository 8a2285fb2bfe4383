// Products and convolutions of bf16 against the definition's plain loops on rounded operands, summed in double: our own
// kernels and the table's, which are oneDNN's where the processor has instructions for them. Sums are f32's; a result
// in bf16 is rounded once more.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/kernel_api.h"
#include "core/ops.h"
#include "tests/support/conv_definition.h"

namespace sinew {
namespace {

using kernel::ConvArgs;
using kernel::GemmArgs;

constexpr double kHalfStep = 1.0 / 256;  // the largest relative error of rounding to bf16

Tensor random(int64_t n, uint32_t stream) {
  return random_uniform({n}, -1, 1, {19, static_cast<uint32_t>(RngPurpose::test), stream, 0});
}
// An operand as the kernel gets it, and the values that it then computes with.
struct Operand {
  Tensor given;
  std::vector<double> values;
};
Operand bf16(int64_t n, uint32_t stream) {
  const Tensor t = cast(random(n, stream), DType::bf16);
  return {t, to_doubles(t.view())};
}
Operand f32(int64_t n, uint32_t stream) {
  const Tensor t = random(n, stream);
  return {t, to_doubles(cast(t, DType::bf16).view())};
}

// `terms` products of values up to 1 were added up to `want`.
void expect_near(double got, double want, bool rounded, int64_t terms, const std::string& where) {
  const double summing = 6e-8 * static_cast<double>(2 * terms + 8), rounding = rounded ? kHalfStep * std::abs(want) : 0;
  ASSERT_NEAR(got, want, summing + rounding) << where;
}

// ---- matrix products ----

struct Sizes {
  int64_t m, n, k, batch;
};
using Gemm = void (*)(const GemmArgs&);

void check_gemm(Gemm run, const Sizes& s, bool trans_a, bool trans_b, F32Operand operand, bool bias, Activation act) {
  const int64_t pad = 3;
  const int64_t lda = (trans_a ? s.m : s.k) + pad, ldb = (trans_b ? s.k : s.n) + pad, ldc = s.n + pad;
  const int64_t sa = lda * (trans_a ? s.k : s.m), sb = ldb * (trans_b ? s.n : s.k), sc = ldc * s.m;
  const Operand a = operand == F32Operand::a ? f32(s.batch * sa, 1) : bf16(s.batch * sa, 1);
  const Operand b = operand == F32Operand::b ? f32(s.batch * sb, 2) : bf16(s.batch * sb, 2);
  const Tensor add = random(s.n, 3);
  const std::vector<double> add_values = to_doubles(add.view());
  const bool rounded = operand != F32Operand::none;
  const Tensor c = Tensor::full({s.batch * sc}, 77, rounded ? DType::bf16 : DType::f32);
  GemmArgs args{};
  args.dtype = DType::bf16, args.f32_operand = operand;
  args.trans_a = trans_a, args.trans_b = trans_b, args.m = s.m, args.n = s.n, args.k = s.k, args.alpha = 1;
  args.a = a.given.data(), args.lda = lda, args.b = b.given.data(), args.ldb = ldb, args.c = c.data(), args.ldc = ldc;
  args.batch = s.batch, args.batch_stride_a = sa, args.batch_stride_b = sb, args.batch_stride_c = sc;
  args.bias = bias ? add.data() : nullptr, args.act = act;
  run(args);
  const std::vector<double> got = to_doubles(c.view());
  for (int64_t q = 0; q < s.batch; ++q)
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < ldc; ++j) {
        const double value = got[static_cast<size_t>(q * sc + i * ldc + j)];
        if (j >= s.n) {
          ASSERT_EQ(value, 77) << "wrote beyond column " << s.n;
          continue;
        }
        double want = bias ? add_values[static_cast<size_t>(j)] : 0;
        for (int64_t p = 0; p < s.k; ++p)
          want += a.values[static_cast<size_t>(q * sa + (trans_a ? p * lda + i : i * lda + p))] *
                  b.values[static_cast<size_t>(q * sb + (trans_b ? j * ldb + p : p * ldb + j))];
        if (act == Activation::relu) want = std::max(want, 0.0);
        if (act == Activation::tanh) want = std::tanh(want);
        expect_near(value, want, rounded, s.k, std::to_string(i) + ", " + std::to_string(j));
      }
}

class BF16Gemm : public ::testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(BF16Gemm, MatchesPlainLoops) {
  static const Sizes sizes[] = {{1, 1, 1, 1},      {3, 5, 7, 2},      {16, 64, 64, 1},  {13, 33, 65, 3},
                                {65, 130, 257, 1}, {150, 70, 300, 2}, {12, 2100, 9, 1}, {128, 10, 1024, 1}};
  const Sizes& s = sizes[std::get<0>(GetParam())];
  const int flags = std::get<1>(GetParam());
  for (const Gemm run : {cpu_kernels().gemm, reference_gemm})
    for (const F32Operand operand : {F32Operand::none, F32Operand::a, F32Operand::b}) {
      check_gemm(run, s, flags & 1, flags & 2, operand, false, Activation::none);
      check_gemm(run, s, flags & 1, flags & 2, operand, true, Activation::relu);
      check_gemm(run, s, flags & 1, flags & 2, operand, true, Activation::tanh);
    }
}
INSTANTIATE_TEST_SUITE_P(Sizes, BF16Gemm, ::testing::Combine(::testing::Range(0, 8), ::testing::Range(0, 4)));

// ---- convolutions ----

struct Case {
  int64_t n, h, w, c, k, r, s, stride_h, stride_w, pad_h, pad_w;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.n << " x " << c.h << " x " << c.w << " x " << c.c << ", " << c.k << " filters " << c.r << " x " << c.s
       << ", stride " << c.stride_h << " x " << c.stride_w << ", padding " << c.pad_h << " x " << c.pad_w;
}

ConvKernels table() { return {cpu_kernels().conv_forward, cpu_kernels().conv_dx, cpu_kernels().conv_dw}; }

// To the bit what a sum afterwards would be.
void expect_accumulates(void (*kernel)(const ConvArgs&), ConvArgs a, int64_t size, const char* what) {
  const Tensor plain = Tensor::empty({size}, DType::bf16), before = cast(random(size, 5), DType::bf16);
  const Tensor sum = cast(before, DType::bf16);
  a.bias = nullptr, a.act = Activation::none;
  a.out = plain.data();
  kernel(a);
  a.out = sum.data(), a.accumulate = true;
  kernel(a);
  EXPECT_EQ(to_doubles(sum.view()), to_doubles(add(before, plain).view())) << what;
}

void check_conv(const Case& c, const ConvKernels& kernels) {
  ConvArgs a{};
  a.dtype = DType::bf16;
  a.n = c.n, a.h = c.h, a.w = c.w, a.c = c.c, a.k = c.k, a.r = c.r, a.s = c.s;
  a.p = (c.h + 2 * c.pad_h - c.r) / c.stride_h + 1, a.q = (c.w + 2 * c.pad_w - c.s) / c.stride_w + 1;
  a.stride_h = c.stride_h, a.stride_w = c.stride_w, a.pad_h = c.pad_h, a.pad_w = c.pad_w;
  const Operand x = bf16(a.n * a.h * a.w * a.c, 1), f = f32(a.k * a.r * a.s * a.c, 2),
                y = bf16(a.n * a.p * a.q * a.k, 3);
  const Tensor bias = random(a.k, 4);
  a.x = x.given.data(), a.filter = f.given.data(), a.y = y.given.data();
  const auto run = [&](void (*kernel)(const ConvArgs&), size_t size, DType type, bool with_bias, Activation act) {
    const Tensor out = Tensor::full({static_cast<int64_t>(size) + 1}, 77, type);  // one behind the end, to stay
    a.out = out.data(), a.bias = with_bias ? bias.data() : nullptr, a.act = act;
    kernel(a);
    std::vector<double> got = to_doubles(out.view());
    EXPECT_EQ(got.back(), 77) << "wrote beyond the end";
    got.pop_back();
    return got;
  };
  std::vector<double> want_y(y.values.size()), want_x(x.values.size()), want_f(f.values.size());
  testing::for_every_conv_product(a, [&](size_t i, size_t j, size_t k) {
    want_y[k] += x.values[i] * f.values[j];
    want_x[i] += y.values[k] * f.values[j];
    want_f[j] += y.values[k] * x.values[i];
  });
  const auto compare = [](const std::vector<double>& got, const std::vector<double>& want, bool rounded, int64_t terms,
                          const std::string& what) {
    for (size_t i = 0; i < want.size(); ++i)
      expect_near(got[i], want[i], rounded, terms, what + " [" + std::to_string(i) + "]");
  };
  const auto none = Activation::none, relu = Activation::relu;
  const DType b16 = DType::bf16;
  const int64_t terms = a.r * a.s * a.c;
  compare(run(kernels.forward, want_y.size(), b16, false, none), want_y, true, terms, "forward");
  compare(run(kernels.dx, want_x.size(), b16, false, none), want_x, true, a.r * a.s * a.k, "dx");
  compare(run(kernels.dw, want_f.size(), DType::f32, false, none), want_f, false, a.n * a.p * a.q, "dw");
  if (kernels.forward == table().forward || kernels.forward == own_conv().forward) {
    expect_accumulates(kernels.forward, a, static_cast<int64_t>(want_y.size()), "forward");
    expect_accumulates(kernels.dx, a, static_cast<int64_t>(want_x.size()), "dx");
  }
  const std::vector<double> bias_values = to_doubles(bias.view());
  for (size_t i = 0; i < want_y.size(); ++i) want_y[i] += bias_values[i % bias_values.size()];
  compare(run(kernels.forward, want_y.size(), b16, true, none), want_y, true, terms, "bias");
  for (double& v : want_y) v = std::max(v, 0.0);
  compare(run(kernels.forward, want_y.size(), b16, true, relu), want_y, true, terms, "bias and relu");
}

class BF16Conv : public ::testing::TestWithParam<Case> {};
TEST_P(BF16Conv, OwnKernelsMatchTheDefinition) { check_conv(GetParam(), own_conv()); }
TEST_P(BF16Conv, OneDnnMatchesTheDefinition) { check_conv(GetParam(), onednn_conv()); }
TEST_P(BF16Conv, TheTablesKernelsMatchTheDefinition) { check_conv(GetParam(), table()); }
INSTANTIATE_TEST_SUITE_P(Geometries, BF16Conv,
                         ::testing::Values(Case{1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0},      //
                                           Case{2, 8, 9, 16, 16, 3, 3, 1, 1, 1, 1},    // as in residual networks
                                           Case{3, 8, 8, 16, 32, 3, 3, 2, 2, 1, 1},    //
                                           Case{2, 8, 8, 16, 32, 1, 1, 2, 2, 0, 0},    //
                                           Case{4, 16, 16, 32, 32, 3, 3, 1, 1, 1, 1},  //
                                           Case{3, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1},    //
                                           Case{9, 16, 18, 24, 40, 3, 3, 1, 1, 1, 1},  // ours by Winograd's filtering
                                           Case{4, 16, 18, 24, 40, 5, 5, 1, 1, 2, 2},  //
                                           Case{5, 7, 6, 24, 40, 1, 1, 1, 1, 0, 0},    //
                                           Case{3, 12, 12, 1, 32, 5, 5, 1, 1, 2, 2},   // one channel
                                           Case{2, 32, 32, 3, 16, 3, 3, 1, 1, 1, 1},   // three
                                           Case{2, 14, 14, 3, 17, 5, 5, 1, 1, 0, 0},   // and odd filters
                                           Case{2, 11, 13, 3, 20, 7, 7, 2, 2, 0, 0},   //
                                           Case{2, 5, 4, 7, 5, 3, 2, 2, 1, 1, 0},      // nothing square
                                           Case{1, 2, 3, 4, 6, 5, 5, 1, 1, 2, 1},      // filters larger than x
                                           Case{2, 7, 7, 8, 8, 2, 2, 3, 3, 0, 0},      // rows that no filter meets
                                           Case{1, 6, 6, 2, 3, 1, 1, 1, 1, 2, 1},      // outputs of padding only
                                           Case{40, 2, 2, 64, 64, 3, 3, 1, 1, 1, 1},   //
                                           Case{33, 4, 4, 33, 70, 3, 3, 1, 1, 1, 1}));

TEST(BF16ConvThreads, EachThreadMayConvolve) {
  for (int round = 0; round < 3; ++round) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) threads.emplace_back([] { check_conv({4, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1}, table()); });
    for (std::thread& t : threads) t.join();
  }
}

// Another number of threads may add up in another order where oneDNN convolves, but for that our kernels do not.
TEST(BF16ConvThreads, DoNotChangeAnyBitOfOurKernels) {
  const auto all = [](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    const Tensor x = cast(reshape(random(20 * 16 * 17 * 9, 1), {20, 16, 17, 9}), DType::bf16), f = random(24 * 81, 2);
    const Tensor y = cast(random(20 * 16 * 17 * 24, 3), DType::bf16);
    const Tensor dw = Tensor::empty({24 * 81}), dx = Tensor::empty(x.shape(), DType::bf16);
    ConvArgs a{};
    a.dtype = DType::bf16;
    a.n = 20, a.h = a.p = 16, a.w = a.q = 17, a.c = 9, a.k = 24, a.r = a.s = 3;
    a.stride_h = a.stride_w = a.pad_h = a.pad_w = 1;
    a.x = x.data(), a.filter = f.data(), a.y = y.data();
    a.out = dw.data();
    own_conv().dw(a);
    a.out = dx.data();
    own_conv().dx(a);
    set_num_threads(before);
    std::vector<double> out = to_doubles(dw.view());
    for (double d : to_doubles(dx.view())) out.push_back(d);
    return out;
  };
  const std::vector<double> one = all(1);
  EXPECT_EQ(one, all(2));
  EXPECT_EQ(one, all(3));
}

// ---- the ops: types, and gradients into given destinations ----

TEST(BF16Ops, GradientsOfWhatIsLearnedAreF32AndGoWhereTheyAreWanted) {
  const Tensor x = cast(reshape(random(2 * 6 * 6 * 3, 1), {2, 6, 6, 3}), DType::bf16).set_requires_grad();
  const std::vector<Tensor> leaves{
      reshape(random(4 * 27, 2), {4, 3, 3, 3}).set_requires_grad(), random(4, 3).set_requires_grad(),
      reshape(random(5 * 144, 4), {5, 144}).set_requires_grad(), random(5, 5).set_requires_grad()};
  const auto loss = [&] {
    const Tensor y = conv2d(x, leaves[0], leaves[1], Activation::relu, {1, 1, 1, 1});
    EXPECT_EQ(y.dtype(), DType::bf16);
    const Tensor z = linear(flatten(y), leaves[2], leaves[3], Activation::relu);
    EXPECT_EQ(z.dtype(), DType::bf16);
    return sum(square(cast(z, DType::f32)));
  };
  std::vector<Tensor> into;
  for (const Tensor& t : leaves) into.push_back(Tensor::empty(t.shape()));
  const std::vector<Tensor> want = grad({loss()}, leaves), got = grad({loss()}, leaves, {}, {.into = into});
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_EQ(got[i].dtype(), DType::f32);
    EXPECT_EQ(got[i].data(), into[i].data()) << i;
    EXPECT_EQ(got[i].to_vector<float>(), want[i].to_vector<float>()) << i;
  }
  const std::vector<Tensor> to_x{x};
  EXPECT_EQ(grad({loss()}, to_x)[0].dtype(), DType::bf16);
}

}  // namespace
}  // namespace sinew
