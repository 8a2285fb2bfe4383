// bfloat16 by itself: every bit pattern, every rounding; and the kernels that store it. Those compute in f32 and round
// once, so each must give exactly what f32's kernel gives on the same values, rounded.
#include "core/bfloat16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "core/autograd.h"
#include "core/kernel_api.h"
#include "core/ops.h"
#include "tests/support/gradcheck.h"

namespace sinew {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
static_assert(bfloat16(1.0f).bits == 0x3F80 && bfloat16(-2.5f) == -2.5f && bfloat16(3.4e38f) == kInf);
static_assert(sizeof(bfloat16) == 2 && std::is_trivial_v<bfloat16>);

bfloat16 of_bits(uint32_t bits) {
  bfloat16 b;
  b.bits = static_cast<uint16_t>(bits);
  return b;
}

TEST(BFloat16, EveryPatternSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float f = of_bits(bits);
    EXPECT_EQ(std::bit_cast<uint32_t>(f), bits << 16);
    // A signaling NaN comes back quiet.
    const uint32_t quiet = std::isnan(f) ? bits | 0x40 : bits;
    ASSERT_EQ(bfloat16(f).bits, quiet) << bits;
    ASSERT_EQ(bfloat16(static_cast<double>(f)).bits, quiet) << bits;
  }
}

// What lies between two neighbours goes to the nearer one, the middle to the even one, both signs alike.
TEST(BFloat16, RoundsToTheNearestTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7F80; ++bits) {
    const uint32_t low = bits << 16;
    const double below = std::bit_cast<float>(low),
                 above = bits == 0x7F7F ? std::ldexp(1.0, 128) : std::bit_cast<float>(low + 0x10000);
    for (uint32_t rest : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const float x = std::bit_cast<float>(low + rest);
      const double down = x - below, up = above - x;
      const uint32_t want = down < up || (down == up && bits % 2 == 0) ? bits : bits + 1;
      ASSERT_EQ(bfloat16(x).bits, want) << x;
      ASSERT_EQ(bfloat16(-x).bits, want | 0x8000) << x;
    }
  }
}

TEST(BFloat16, NansStayNansAndInfinitiesInfinite) {
  for (uint32_t payload : {1u, 0x8000u, 0xFFFFu, 0x10000u, 0x400000u, 0x7FFFFFu})
    for (uint32_t sign : {0u, 0x80000000u}) {
      const bfloat16 b(std::bit_cast<float>(sign | 0x7F800000u | payload));
      EXPECT_TRUE(std::isnan(static_cast<float>(b))) << payload;
      EXPECT_EQ(std::signbit(static_cast<float>(b)), sign != 0);
    }
  EXPECT_EQ(static_cast<float>(bfloat16(-kInf)), -kInf);
  EXPECT_EQ(static_cast<float>(bfloat16(std::numeric_limits<float>::max())), kInf);
}

// The kernels' vectorised loops against the scalar conversion.
TEST(BFloat16, TheCastKernelConvertsLikeTheScalar) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 65536; ++bits)
    for (uint32_t rest : {0u, 1u, 0x8000u, 0xC001u}) x.push_back(std::bit_cast<float>(bits << 16 | rest));
  const auto n = static_cast<int64_t>(x.size());
  const std::vector<bfloat16> got = cast(Tensor::from_vector(x, {n}), DType::bf16).to_vector<bfloat16>();
  std::vector<float> wide(x.size());
  cpu_kernels().cast({DType::bf16, DType::f32, n, got.data(), wide.data()});
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(got[i].bits, bfloat16(x[i]).bits) << x[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), uint32_t{got[i].bits} << 16) << x[i];
  }
}

TEST(BFloat16, CastsToAndFromTheOtherTypes) {
  const Tensor b = Tensor::from_vector(std::vector<bfloat16>{bfloat16(1.5f), bfloat16(-3.0f), bfloat16(200.0f)}, {3});
  EXPECT_EQ(cast(b, DType::f64).to_vector<double>(), (std::vector<double>{1.5, -3, 200}));
  EXPECT_EQ(cast(b, DType::i32).to_vector<int32_t>(), (std::vector<int32_t>{1, -3, 200}));
  EXPECT_EQ(cast(b, DType::i64).to_vector<int64_t>(), (std::vector<int64_t>{1, -3, 200}));
  EXPECT_EQ(to_doubles(cast(Tensor::from_vector<int64_t>({257, -3}, {2}), DType::bf16).view()),
            (std::vector<double>{256, -3}));
  EXPECT_EQ(to_doubles(cast(Tensor::from_vector<uint8_t>({255, 3}, {2}), DType::bf16).view()),
            (std::vector<double>{255, 3}));
  EXPECT_EQ(to_doubles(cast(b, DType::bf16).view()), to_doubles(b.view()));
}

// ---- kernels: f32's, rounded once ----

RngKey key(uint32_t stream) { return {17, static_cast<uint32_t>(RngPurpose::test), stream, 0}; }
// Values that bf16 holds exactly, positive and negative, many of them equal.
Tensor exact(const Shape& shape, uint32_t stream, double low = -1, double high = 1) {
  return cast(random_uniform(shape, low, high, key(stream)), DType::bf16);
}
Tensor wide(const Tensor& x) { return cast(x, DType::f32); }
std::vector<uint16_t> bits(const Tensor& bf16) {
  std::vector<uint16_t> out;
  for (bfloat16 b : bf16.to_vector<bfloat16>()) out.push_back(b.bits);
  return out;
}
void expect_rounded(const Tensor& bf16, const Tensor& f32, const char* what) {
  ASSERT_EQ(bf16.dtype(), DType::bf16) << what;
  ASSERT_EQ(bf16.shape(), f32.shape()) << what;
  EXPECT_EQ(bits(bf16), bits(cast(f32, DType::bf16))) << what;
}
void expect_equal(const Tensor& got, const Tensor& want, const char* what) {
  ASSERT_EQ(got.dtype(), DType::f32) << what;
  EXPECT_EQ(got.to_vector<float>(), want.to_vector<float>()) << what;
}

TEST(BFloat16Kernels, ElementwiseIsF32sRoundedOnce) {
  const int64_t n = 1003;  // not a multiple of any vector
  const Tensor x = exact({n}, 1, 0.05, 2), y = exact({n}, 2, 0.05, 2);
  const Tensor x32 = wide(x), y32 = wide(y);
#define SINEW_CHECK_UNARY(name)                                                             \
  {                                                                                         \
    const Tensor got = Tensor::empty({n}, DType::bf16), want = Tensor::empty({n});          \
    cpu_kernels().unary({UnaryOp::name, DType::bf16, n, x.data(), got.data(), 1.7, 0.3});   \
    cpu_kernels().unary({UnaryOp::name, DType::f32, n, x32.data(), want.data(), 1.7, 0.3}); \
    expect_rounded(got, want, #name);                                                       \
  }
  SINEW_UNARY_OPS(SINEW_CHECK_UNARY)
#undef SINEW_CHECK_UNARY
#define SINEW_CHECK_BINARY(name)                                                                               \
  {                                                                                                            \
    const Tensor got = Tensor::empty({n}, DType::bf16), want = Tensor::empty({n});                             \
    cpu_kernels().binary({BinaryOp::name, DType::bf16, 1, {n}, {1}, {1}, x.data(), y.data(), got.data()});     \
    cpu_kernels().binary({BinaryOp::name, DType::f32, 1, {n}, {1}, {1}, x32.data(), y32.data(), want.data()}); \
    expect_rounded(got, want, #name);                                                                          \
  }
  SINEW_BINARY_OPS(SINEW_CHECK_BINARY)
#undef SINEW_CHECK_BINARY
}

TEST(BFloat16Kernels, BroadcastsMovesAndMasks) {
  const Tensor x = exact({7, 5, 3}, 1), row = exact({3}, 2), column = exact({5, 1}, 3);
  expect_rounded(x + row, wide(x) + wide(row), "row");
  expect_rounded(x * column, wide(x) * wide(column), "column");
  expect_rounded(permute(x, {2, 0, 1}), permute(wide(x), {2, 0, 1}), "permute");
  expect_rounded(broadcast_to(row, {4, 3}), broadcast_to(wide(row), {4, 3}), "broadcast");
  expect_rounded(slice_axis(x, 1, 0, 5, 2), slice_axis(wide(x), 1, 0, 5, 2), "slice");
  expect_rounded(pad_axis(x, 2, 1, 2), pad_axis(wide(x), 2, 1, 2), "pad");
  expect_rounded(concat(x, x, 0), concat(wide(x), wide(x), 0), "concat");
  const Tensor index = Tensor::from_vector<int64_t>({6, 0, 6}, {3});
  expect_rounded(gather(x, index), gather(wide(x), index), "gather");
  expect_rounded(scatter_add(gather(x, index), index, 7), scatter_add(gather(wide(x), index), index, 7), "scatter_add");
  const Tensor zero = Tensor::zeros(x.shape(), DType::bf16), mask = maximum(x, zero);
  expect_rounded(where(mask, x, zero), where(wide(mask), wide(x), wide(zero)), "where");
  expect_rounded(Tensor::full({33}, 0.1, DType::bf16), Tensor::full({33}, 0.1), "fill");
  expect_rounded(dropout(x, 0.3, key(9)), dropout(wide(x), 0.3, key(9)), "dropout");
}

TEST(BFloat16Kernels, SumsAreF32) {
  for (const Shape& shape : {Shape{10000, 5}, Shape{300, 400}, Shape{2, 9000, 3}, Shape{70000}}) {
    const Tensor x = exact(shape, 1, 0, 1);
    for (int axis = 0; axis < shape.ndim(); ++axis) expect_equal(sum(x, {axis}), sum(wide(x), {axis}), "sum");
    expect_equal(sum(x), sum(wide(x)), "sum");
    expect_rounded(mean(x), mean(wide(x)), "mean");
    expect_rounded(max(x, {0}), max(wide(x), {0}), "max");
    EXPECT_EQ(argmax(x, 0).to_vector<int64_t>(), argmax(wide(x), 0).to_vector<int64_t>());
  }
  // In bf16, 257 is not there: a sum kept in it would stop at 256.
  EXPECT_EQ(sum(Tensor::ones({1000}, DType::bf16)).item<float>(), 1000);
  EXPECT_EQ(sum(Tensor::ones({1000, 2}, DType::bf16), {0}).to_vector<float>(), (std::vector<float>{1000, 1000}));
}

TEST(BFloat16Kernels, Pools) {
  for (const Shape& shape : {Shape{2, 7, 6, 3}, Shape{2, 5, 5, 300}}) {
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

// Forward and first derivative, data in bf16 and vectors in f32.
TEST(BFloat16Kernels, Normalisations) {
  for (int64_t c : {3, 16, 130})
    for (const bool residual : {false, true})
      for (const Activation act : {Activation::none, Activation::relu}) {
        const Shape shape{9, 11, 17, c};
        const Tensor x = exact(shape, 1, -1, 3), r = residual ? exact(shape, 2) : Tensor(), g = exact(shape, 3);
        const Tensor gamma = random_uniform({c}, 0.5, 2, key(4)), beta = random_uniform({c}, -1, 1, key(5));
        const auto pass = [&](bool bf16) {
          const auto leaf = [&](const Tensor& t) { return (bf16 ? t.detach() : wide(t)).set_requires_grad(); };
          std::vector<Tensor> in{leaf(x), gamma.detach().set_requires_grad(), beta.detach().set_requires_grad()};
          if (residual) in.push_back(leaf(r));
          const BatchNorm n = batch_norm(in[0], in[1], in[2], residual ? in[3] : Tensor(), act);
          std::vector<Tensor> out{n.y, n.mean, n.inv_std, n.variance};
          const std::vector<Tensor> cotangent{bf16 ? g : wide(g)}, y{n.y};
          for (const Tensor& t : grad(y, in, cotangent)) out.push_back(t);
          return out;
        };
        const std::vector<Tensor> got = pass(true), want = pass(false);
        // The rectifier's mask with a residual comes from y, and y > 0 survives rounding: no smallest value is lost
        // here.
        for (size_t i = 0; i < got.size(); ++i)
          i == 0 || i == 4 || i == 7 ? expect_rounded(got[i], want[i], "batch norm")
                                     : expect_equal(got[i], want[i], "batch norm");
        expect_rounded(channel_affine(x, beta, gamma, beta, r, act),
                       channel_affine(wide(x), beta, gamma, beta, residual ? wide(r) : Tensor(), act), "affine");
      }
  for (int64_t d : {5, 64, 1000}) {
    const Tensor x = exact({40, d}, 1), g = exact({40, d}, 2);
    const Tensor gamma = random_uniform({d}, 0.5, 2, key(4)), beta = random_uniform({d}, -1, 1, key(5));
    const auto pass = [&](bool bf16) {
      const std::vector<Tensor> in{(bf16 ? x.detach() : wide(x)).set_requires_grad(),
                                   gamma.detach().set_requires_grad(), beta.detach().set_requires_grad()};
      std::vector<Tensor> out{layer_norm(in[0], in[1], in[2])};
      const std::vector<Tensor> cotangent{bf16 ? g : wide(g)}, y{out[0]};
      for (const Tensor& t : grad(y, in, cotangent)) out.push_back(t);
      return out;
    };
    const std::vector<Tensor> got = pass(true), want = pass(false);
    for (size_t i = 0; i < got.size(); ++i)
      i < 2 ? expect_rounded(got[i], want[i], "layer norm") : expect_equal(got[i], want[i], "layer norm");
  }
}

// dx added to what is there is, to the bit, what a sum afterwards would be.
TEST(BFloat16Kernels, BatchNormsGradientAccumulates) {
  const int64_t rows = 300, c = 5;
  const Tensor g = exact({rows, c}, 1), x = exact({rows, c}, 2), y = exact({rows, c}, 3), before = exact({rows, c}, 4);
  const Tensor v = random_uniform({c}, 0.5, 2, key(5)), ignored = Tensor::empty({c});
  for (const bool relu : {false, true})
    for (const bool from_y : {false, true}) {
      const Tensor plain = Tensor::empty({rows, c}, DType::bf16), sum = cast(before, DType::bf16);
      const Tensor through = Tensor::empty({rows, c}, DType::bf16);
      kernel::BatchNormGradArgs args{DType::bf16, relu, rows, c};
      args.g = g.data(), args.x = x.data(), args.y = relu && from_y ? y.data() : nullptr;
      args.gamma = args.beta = args.mean = args.inv_std = v.data();
      args.dx = plain.data(), args.dgamma = args.dbeta = ignored.data(), args.dresidual = through.data();
      cpu_kernels().batch_norm_grad(args);
      args.dx = sum.data(), args.accumulate = true;
      cpu_kernels().batch_norm_grad(args);
      EXPECT_EQ(bits(sum), bits(before + plain));
    }
}

// ---- what takes no bf16 says so ----

void expect_error(const std::function<void()>& fn, const std::string& part) {
  try {
    fn();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(BFloat16Errors, OpsRefuseWhatTheyDoNotTake) {
  const Tensor b = Tensor::ones({4, 3}, DType::bf16), f = Tensor::ones({4, 3}), v = Tensor::ones({3});
  const Tensor labels = Tensor::zeros({4}, DType::i64);
  expect_error([&] { add(b, f); }, "[add] operands differ");
  expect_error([&] { softmax(b); }, "[softmax] needs f32 or f64, got bf16");
  expect_error([&] { softmax_cross_entropy(b, labels); }, "needs f32 or f64, got bf16");
  expect_error([&] { mse(b, b); }, "[mse] needs f32 or f64");
  expect_error([&] { one_hot(labels, 3, DType::bf16); }, "[one_hot] needs f32 or f64");
  expect_error([&] { random_normal({3}, 0, 1, key(1), DType::bf16); }, "[random] needs f32 or f64");
  expect_error([&] { linear(f, b, Tensor()); }, "[linear] operands differ");
  expect_error([&] { linear(b, f, cast(v, DType::bf16)); }, "[linear] operands differ");
  expect_error([&] { matmul(b, cast(f, DType::f64), false, true); }, "[matmul] operands differ");
  expect_error([&] { batch_norm(b, cast(v, DType::bf16), v); }, "needs f32 beside it, got (3) bf16");
  expect_error([&] { batch_norm_composite(b, v, v); }, "[batch_norm] needs f32 or f64");
  expect_error([&] { layer_norm(b, v, cast(v, DType::bf16)); }, "[layer_norm] operands differ");
  expect_error([&] { axpby(1, b.view(), 0, b.view(), b.output_view()); }, "needs f32 or f64, got bf16");
  const Tensor image = Tensor::ones({1, 3, 3, 2}, DType::bf16), filter = Tensor::ones({2, 2, 2, 2});
  expect_error([&] { conv2d(image, cast(filter, DType::bf16)); }, "[conv2d] operands differ");
  expect_error([&] { conv2d(wide(image), cast(filter, DType::bf16)); }, "[conv2d] operands differ");
  expect_error([&] { conv2d_dw(image, wide(image), 2, 2); }, "[conv2d_dw] operands differ");
}

TEST(BFloat16Errors, KernelsRefuseWhatTheyDoNotTake) {
  std::vector<bfloat16> x(64);
  const auto refused = [](const std::function<void()>& fn) { expect_error(fn, "no kernel for elements of type bf16"); };
  const KernelTable& t = cpu_kernels();
  std::vector<int64_t> index(1);
  double result;
  refused([&] { t.softmax({DType::bf16, false, 1, 8, x.data(), x.data()}); });
  refused([&] { t.axpby({DType::bf16, 8, 1, 0, x.data(), x.data(), x.data()}); });
  refused([&] { t.dot({DType::bf16, 8, x.data(), x.data(), &result}); });
  refused([&] { t.one_hot({DType::bf16, 1, 2, index.data(), x.data()}); });
  refused([&] { t.scatter_add({DType::bf16, 1, 1, 8, x.data(), index.data(), x.data()}); });
  refused([&] { t.random({RandomDist::uniform, DType::bf16, 8, key(1), x.data(), 0, 1}); });
  kernel::BatchNormGrad2Args second{};
  second.dtype = DType::bf16;
  refused([&] { t.batch_norm_grad2(second); });
  kernel::SgdArgs sgd;
  sgd.dtype = DType::bf16;
  refused([&] { t.sgd(sgd); });
}

TEST(BFloat16Errors, SecondDerivativesOfNormalisationsAreRefused) {
  const Tensor x = exact({6, 4}, 1).set_requires_grad(), v = Tensor::ones({4}).set_requires_grad();
  const std::vector<Tensor> wrt{x};
  const auto twice = [&](const Tensor& y) {
    const std::vector<Tensor> g = grad({sum(square(y))}, wrt, {}, {.create_graph = true});
    grad({sum(square(g[0]))}, wrt);
  };
  expect_error([&] { twice(batch_norm(x, v, v).y); }, "has no second derivative of bf16 data; use f32");
  expect_error([&] { twice(layer_norm(x, v, v)); }, "has no second derivative of bf16 data; use f32");
}

// The other families are closed: here a second derivative, against f64's.
TEST(BFloat16, ProductsDifferentiateTwice) {
  const Tensor x = exact({2, 5, 4, 3}, 1), w = random_uniform({6, 3, 3, 3}, -1, 1, key(2));
  const auto hv = [&](DType image, DType filter) {
    const std::vector<Tensor> in{cast(x, image).set_requires_grad(), cast(w, filter).set_requires_grad()};
    const Tensor y = conv2d(in[0], in[1], {1, 1, 1, 1});
    const Tensor z = linear(reshape(y, {40, 6}), reshape(in[1], {27, 6}), Tensor());
    const std::vector<Tensor> g = grad({sum(square(z))}, in, {}, {.create_graph = true});
    EXPECT_EQ(g[0].dtype(), image);
    EXPECT_EQ(g[1].dtype(), filter);
    std::vector<double> out;
    for (const Tensor& h : grad({sum(g[0]) + sum(g[1])}, in))
      for (double d : to_doubles(h.view())) out.push_back(d);
    return out;
  };
  const std::vector<double> got = hv(DType::bf16, DType::f32), want = hv(DType::f64, DType::f64);
  double largest = 0;
  for (double d : want) largest = std::max(largest, std::abs(d));
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], largest / 64) << i;
}

}  // namespace
}  // namespace sinew
