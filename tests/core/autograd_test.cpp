#include "core/autograd.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/node_locals.h"
#include "core/ops.h"
#include "tests/support/gradcheck.h"

namespace sinew {
namespace {

using testing::near;
using testing::values;

Tensor leaf(std::vector<double> v) {
  const Shape shape{static_cast<int64_t>(v.size())};
  return Tensor::from_vector(v, shape).set_requires_grad();
}

TEST(Grad, AccumulatesOverUses) {
  const std::vector<Tensor> x{leaf({2, 3})};
  EXPECT_EQ(values(grad({sum(x[0] * x[0] * x[0])}, x)[0]), (std::vector<double>{12, 27}));
}

// A cotangent that two inputs share must not receive what belongs to one of them.
TEST(Grad, SharedCotangentsAreNotWritten) {
  const std::vector<Tensor> x{leaf({2, 3}), leaf({5, 7})};
  const Tensor v = Tensor::from_vector<double>({10, 100}, {2});
  const Tensor a = affine(x[0], 1, 0), b = affine(x[1], 1, 0);
  // b gets the sum's own cotangent, a that and two more parts, from ops that come later and earlier.
  const std::vector<Tensor> g = grad({a + b, square(a), a}, x, std::vector<Tensor>{v, v, v});
  EXPECT_EQ(values(g[0]), (std::vector<double>{10 + 40 + 10, 100 + 600 + 100}));
  EXPECT_EQ(values(g[1]), (std::vector<double>{10, 100}));
  EXPECT_EQ(values(v), (std::vector<double>{10, 100}));
}

// Convolutions and batch norm add to the cotangent that their input already has; recording, they must not.
TEST(Grad, SeveralConvolutionsAndNormsOfOneInput) {
  using testing::random_input;
  const std::vector<Tensor> in{random_input({2, 5, 4, 3}, 1), random_input({6, 3, 3, 3}, 2),
                               random_input({6, 3, 3, 3}, 3), random_input({6}, 4), random_input({6}, 5)};
  const auto f = [](const std::vector<Tensor>& t) {
    const ConvOptions same{.pad_h = 1, .pad_w = 1};
    const Tensor y = conv2d(t[0], t[1], same) + conv2d(t[0], t[2], same);
    const Tensor n = batch_norm(y, t[3], t[4], Tensor(), Activation::none, 1e-3).y;
    return sum(square(n) * y) + sum(square(conv2d_dx(y, t[1], 5, 4, same)) * t[0]);
  };
  EXPECT_TRUE(testing::check_gradient(f, in));
  EXPECT_TRUE(testing::check_hvp(f, in));
  EXPECT_TRUE(testing::check_hessian_symmetry(f, in));
}

// The cotangent of what a convolution is added to comes by two ways, and is the base of a recorded one.
TEST(Grad, AConvolutionAndItsInputAreAdded) {
  const std::vector<Tensor> in{testing::random_input({2, 5, 4, 3}, 1), testing::random_input({3, 3, 3, 3}, 2)};
  const auto f = [](const std::vector<Tensor>& t) {
    const Tensor y = conv2d(t[0], t[1], {.pad_h = 1, .pad_w = 1}) + t[0];
    return sum(square(y) * y);
  };
  const auto of_gradient = [&](const std::vector<Tensor>& t) {
    std::vector<Tensor> at;
    for (const Tensor& x : t) at.push_back(x.requires_grad() ? x : x.detach().set_requires_grad());
    const std::vector<Tensor> g = grad({f(at)}, at, {}, {.create_graph = true});
    return sum(square(g[0])) + sum(square(g[1]));
  };
  EXPECT_TRUE(testing::check_gradient(f, in));
  EXPECT_TRUE(testing::check_hvp(f, in));
  EXPECT_TRUE(testing::check_gradient(of_gradient, in));
  EXPECT_TRUE(testing::check_hvp(of_gradient, in));
}

// x + y whose derivative, wrongly, is twice the cotangent, and made later where nobody has left anything yet.
Tensor late_sum(const Tensor& x, const Tensor& y) {
  return record((x + y).detach(), {x, y}, "late_sum", [](const VjpContext& ctx, std::span<Tensor> out) {
    for (size_t i = 0; i < 2; ++i) {
      if (!ctx.needs(i)) continue;
      if (ctx.late(i))
        out[i] = 2 * ctx.cotangent;
      else
        ctx.late(i) = {ctx.cotangent, Tensor(), {}, [](const LatePart& part, const Tensor& sum) {
                         if (!sum.defined()) return 2 * part.a;
                         axpby(2, part.a.view(), 1, sum.view(), sum.output_view());
                         return sum;
                       }};
    }
  });
}

TEST(Grad, PartsOfACotangentMayBeMadeLater) {
  const std::vector<Tensor> x{leaf({2, 3}), leaf({5, 7})};
  const Tensor v = Tensor::from_vector<double>({10, 100}, {2});
  auto gradient = [&](const std::vector<Tensor>& outputs) {
    const std::vector<Tensor> g = grad(outputs, x, std::vector<Tensor>(outputs.size(), v));
    EXPECT_EQ(values(v), (std::vector<double>{10, 100}));
    return std::vector{values(g[0]), values(g[1])};
  };
  using Values = std::vector<std::vector<double>>;
  // Of leaves, of results, of one tensor twice, and from two ops.
  EXPECT_EQ(gradient({late_sum(x[0], x[1])}), (Values{{20, 200}, {20, 200}}));
  EXPECT_EQ(gradient({late_sum(x[0], x[0]), x[1] * x[1]}), (Values{{40, 400}, {100, 1400}}));
  const Tensor a = affine(x[0], 3, 0), b = affine(x[1], 1, 0);
  EXPECT_EQ(gradient({late_sum(a, a), late_sum(a, b)}), (Values{{180, 1800}, {20, 200}}));
  // Added to what is there, which is the caller's, another's or nobody's, and which comes before or after it.
  const Tensor c = affine(x[0], 1, 0), d = affine(x[1], 1, 0);
  EXPECT_EQ(gradient({c, late_sum(c, d), square(c)}), (Values{{70, 900}, {20, 200}}));
  const Tensor e = affine(x[0], 1, 0), f = late_sum(e, x[1]);
  EXPECT_EQ(gradient({f + e}), (Values{{30, 300}, {20, 200}}));
  const Tensor h = affine(x[0], 1, 0), k = square(h);
  EXPECT_EQ(gradient({late_sum(h, k), x[1] + x[1]}), (Values{{100, 1400}, {20, 200}}));
}

TEST(Grad, InputsWithoutInfluenceGetZeros) {
  const std::vector<Tensor> x{leaf({2, 3}), leaf({1, 1, 1})};
  EXPECT_EQ(values(grad({sum(x[0])}, x)[1]), (std::vector<double>{0, 0, 0}));
}

TEST(Grad, OfAnIntermediateResult) {
  const Tensor x = leaf({2, 3}), y = square(x);
  const std::vector<Tensor> wrt{y};
  EXPECT_EQ(values(grad({sum(y * y)}, wrt)[0]), (std::vector<double>{8, 18}));
}

TEST(Grad, CotangentsWeighTheOutputs) {
  const std::vector<Tensor> x{leaf({2, 3})}, v{Tensor::from_vector<double>({10, 100}, {2})};
  EXPECT_EQ(values(grad({square(x[0])}, x, v)[0]), (std::vector<double>{40, 600}));
}

TEST(Grad, SeveralOutputs) {
  const std::vector<Tensor> x{leaf({2, 3})};
  const std::vector<Tensor> y{sum(x[0]), sum(square(x[0]))};
  EXPECT_EQ(values(grad(y, x)[0]), (std::vector<double>{5, 7}));
}

TEST(Grad, NothingToDifferentiateIsAnError) {
  const std::vector<Tensor> x{leaf({2, 3})};
  EXPECT_THROW(grad({Tensor::ones({})}, x), Error);
  EXPECT_THROW(grad({square(x[0])}, x), Error);  // not a scalar, no cotangent
  const std::vector<Tensor> bad{Tensor::ones({3}, DType::f64)};
  EXPECT_THROW(grad({square(x[0])}, x, bad), Error);
  const std::vector<Tensor> twice{x[0], x[0]};
  EXPECT_THROW(grad({sum(x[0])}, twice), Error);
}

TEST(Grad, FreesTheGraphUnlessAsked) {
  const std::vector<Tensor> x{leaf({2, 3})};
  const Tensor y = sum(square(x[0]));
  EXPECT_NO_THROW(grad({y}, x, {}, {.retain_graph = true}));
  EXPECT_NO_THROW(grad({y}, x));
  try {
    grad({y}, x);
    FAIL() << "the second backward pass must say that the graph is gone";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("retain_graph"), std::string::npos) << e.what();
  }
}

TEST(Grad, BackwardReleasesSavedMemory) {
  const std::vector<Tensor> x{leaf({2, 3})};
  Tensor middle = square(x[0]);
  const Tensor y = sum(exp(middle));
  detail::TensorImpl* impl = middle.impl();
  EXPECT_GT(impl->references.load(), 1u);
  grad({y}, x);
  EXPECT_EQ(impl->references.load(), 1u);
}

TEST(Grad, InPlaceWriteOfASavedVectorIsAnError) {
  Vec theta = Vec::zeros(4, DType::f64);
  const std::vector<Tensor> p{Tensor::view_of(theta, 0, {4}, true)};
  const Tensor loss = sum(square(p[0]));
  fill(theta.mutable_view(), 1);
  try {
    grad({loss}, p);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("written in place"), std::string::npos) << e.what();
  }
  EXPECT_EQ(values(grad({sum(square(p[0]))}, p)[0]), (std::vector<double>{2, 2, 2, 2}));
}

TEST(Grad, WritesIntoDestinations) {
  Vec flat = Vec::zeros(32, DType::f64);
  const Tensor x = testing::random_input({4, 3}, 1);
  const std::vector<Tensor> p{testing::random_input({2, 3}, 2).set_requires_grad(), leaf({0.5, -0.5})};
  auto loss = [&] { return sum(square(linear(x, p[0], p[1], Activation::relu))); };
  const std::vector<Tensor> want = grad({loss()}, p);
  const std::vector<Tensor> into{Tensor::view_of(flat, 0, {2, 3}), Tensor::view_of(flat, 16, {2})};
  const std::vector<Tensor> got = grad({loss()}, p, {}, {.into = into});
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(got[i].data(), into[i].data());
    EXPECT_EQ(values(got[i]), values(want[i]));
  }
  EXPECT_EQ(to_doubles(flat.view())[6], 0);  // padding untouched
}

TEST(Grad, DestinationsWithSharedParameters) {
  Vec flat = Vec::zeros(16, DType::f64);
  const Tensor x = testing::random_input({2, 3}, 1);
  const std::vector<Tensor> p{testing::random_input({3, 3}, 2).set_requires_grad()};
  auto loss = [&] { return sum(linear(linear(x, p[0], Tensor()), p[0], Tensor())); };
  const std::vector<Tensor> into{Tensor::view_of(flat, 0, {3, 3})};
  EXPECT_EQ(values(grad({loss()}, p, {}, {.into = into})[0]), values(grad({loss()}, p)[0]));
}

TEST(Grad, LongChainsNeitherRecurseNorLeak) {
  Tensor y = leaf({1.0});
  const std::vector<Tensor> x{y};
  for (int i = 0; i < 300000; ++i) y = affine(y, 1, 0);
  EXPECT_EQ(values(grad({y}, x)[0])[0], 1);
  Tensor z = x[0];
  for (int i = 0; i < 300000; ++i) z = affine(z, 1, 0);  // destroyed without a backward pass
}

TEST(Grad, FourthOrder) {
  const std::vector<Tensor> x{leaf({0.3})};
  Tensor y = sin(x[0]);
  for (int i = 0; i < 4; ++i) y = grad({y}, x, {}, {.create_graph = true})[0];
  EXPECT_NEAR(y.item<double>(), std::sin(0.3), 1e-15);
}

TEST(Grad, CastsTheCotangentBack) {
  const std::vector<Tensor> x{leaf({2, 3})};
  const Tensor y = cast(x[0], DType::f32);
  const std::vector<Tensor> v{Tensor::from_vector<float>({0.5f, 4}, {2})};
  const Tensor g = grad({square(y)}, x, v)[0];
  EXPECT_EQ(g.dtype(), DType::f64);
  EXPECT_EQ(values(g), (std::vector<double>{2, 24}));
}

// (x y, x + y) as one op.
std::vector<Tensor> product_and_sum(const Tensor& x, const Tensor& y, int* calls = nullptr) {
  std::vector<Tensor> outs{(x * y).detach(), (x + y).detach()};
  record_all(outs, {x, y}, "product_and_sum", [calls](const VjpContext& ctx, std::span<Tensor> out) {
    if (calls) ++*calls;
    ASSERT_EQ(ctx.cotangents.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      const Tensor &product = ctx.cotangents[0], &sum = ctx.cotangents[1];
      if (product.defined()) out[i] = product * ctx.inputs[1 - i];
      if (sum.defined()) out[i] = out[i].defined() ? out[i] + sum : sum;
    }
  });
  return outs;
}

TEST(RecordAll, GivesTheDerivativeOfAllResultsInOneCall) {
  const std::vector<Tensor> x{leaf({2, 3}), leaf({5, 7})};
  int calls = 0;
  std::vector<Tensor> r = product_and_sum(x[0], x[1], &calls);
  const std::vector<Tensor> g = grad({sum(square(r[0]) + r[1])}, x);  // 2 x y^2 + 1, 2 y x^2 + 1
  EXPECT_EQ(values(g[0]), (std::vector<double>{101, 295}));
  EXPECT_EQ(values(g[1]), (std::vector<double>{41, 127}));
  EXPECT_EQ(calls, 1);
  EXPECT_THROW(grad({r[0]}, x, std::vector<Tensor>{r[0].detach()}), Error);  // freed
}

TEST(RecordAll, ResultsMayBeUnused) {
  const std::vector<Tensor> x{leaf({2, 3}), leaf({5, 7})};
  EXPECT_EQ(values(grad({sum(product_and_sum(x[0], x[1])[0])}, x)[0]), (std::vector<double>{5, 7}));
  EXPECT_EQ(values(grad({sum(product_and_sum(x[0], x[1])[1])}, x)[0]), (std::vector<double>{1, 1}));
}

TEST(RecordAll, HigherOrdersAndChains) {
  testing::TensorFn f = [](const std::vector<Tensor>& in) {
    std::vector<Tensor> a = product_and_sum(sin(in[0]), in[1]), b = product_and_sum(a[0], a[1]);
    return b[0] * a[1] + b[1];
  };
  const std::vector<Tensor> x{testing::random_input({4}, 1), testing::random_input({4}, 2)};
  EXPECT_TRUE(testing::check_gradient(f, x));
  EXPECT_TRUE(testing::check_hvp(f, x));
  EXPECT_TRUE(testing::check_hessian_symmetry(f, x));
  EXPECT_TRUE(testing::check_third_order(f, x));
}

TEST(RecordAll, DerivativeWithRespectToAResult) {
  const Tensor x = leaf({2, 3}), y = leaf({5, 7});
  const std::vector<Tensor> r = product_and_sum(x, y);
  const std::vector<Tensor> wrt{r[1], x};
  const std::vector<Tensor> g = grad({sum(square(r[1]) * r[0])}, wrt);
  EXPECT_EQ(values(g[0]), (std::vector<double>{140, 420}));  // 2 (x + y) x y
  EXPECT_EQ(values(g[1]), (std::vector<double>{5 * 49 + 140, 7 * 100 + 420}));
}

TEST(RecordAll, OneResultDoesNotKeepTheOthersMemory) {
  const Tensor x = leaf({2, 3}), y = leaf({5, 7});
  std::vector<Tensor> r = product_and_sum(x, y);
  const StorageRef storage = r[0].impl()->storage;
  r[0] = Tensor();
  EXPECT_TRUE(storage->unique());
  EXPECT_EQ(values(grad({sum(r[1])}, std::vector<Tensor>{x})[0]), (std::vector<double>{1, 1}));
}

TEST(GradMode, StopsRecordingInScope) {
  const Tensor x = leaf({1.0});
  {
    GradMode off(false);
    EXPECT_FALSE(square(x).requires_grad());
  }
  EXPECT_TRUE(square(x).requires_grad());
}

TEST(GradMode, BelongsToTheNode) {
  NodeLocals other;
  other.grad_enabled = false;
  NodeLocals* before = exchange_node_locals(&other);
  EXPECT_FALSE(GradMode::enabled());
  exchange_node_locals(before);
  EXPECT_TRUE(GradMode::enabled());
}

TEST(Tensors, OnlyFloatLeavesRequireGrad) {
  const Tensor x = leaf({1.0});
  EXPECT_THROW(square(x).set_requires_grad(), Error);
  EXPECT_THROW(Tensor::zeros({2}, DType::i64).set_requires_grad(), Error);
  EXPECT_FALSE(x.detach().requires_grad());
  EXPECT_THROW(x.item<float>(), Error);
  EXPECT_THROW(Tensor::from_vector<float>({1, 2}, {3}), Error);
}

}  // namespace
}  // namespace sinew
