// Batch and layer norm beyond their rows of the op table: known values, the fused kernels against public ops on awkward
// shapes, accuracy, threads.
#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/ops.h"
#include "tests/support/gradcheck.h"

namespace sinew::testing {
namespace {

struct Variant {
  bool residual;
  Activation act;
};
constexpr Variant kVariants[] = {
    {false, Activation::none}, {false, Activation::relu}, {true, Activation::none}, {true, Activation::relu}};

// x, gamma, beta, residual for `shape`.
std::vector<Tensor> leaves(const Shape& shape, DType dtype = DType::f64, double offset = 0) {
  const Shape channels{shape.dim(-1)};
  std::vector<Tensor> in{random_input(shape, 1) + offset, random_input(channels, 2), random_input(channels, 3),
                         random_input(shape, 4)};
  for (Tensor& t : in) t = cast(t, dtype).set_requires_grad();
  return in;
}

// y, gradient and Hv (with all of dx, dgamma, dbeta, dresidual on the path) of fused or composite.
std::vector<double> all_orders(const std::vector<Tensor>& in, Variant v, bool fused) {
  const Tensor residual = v.residual ? in[3] : Tensor();
  const Tensor y = fused ? batch_norm(in[0], in[1], in[2], residual, v.act, 1e-3).y
                         : batch_norm_composite(in[0], in[1], in[2], residual, v.act, 1e-3);
  std::vector<double> out = values(y);
  const Tensor w = cast(random_input(y.shape(), 5), y.dtype());
  const std::vector<Tensor> g = grad({sum(square(y) * w)}, in, {}, {.create_graph = true});
  std::vector<Tensor> on_graph, directions;
  for (size_t i = 0; i < g.size(); ++i) {
    for (double d : values(g[i])) out.push_back(d);
    if (!g[i].requires_grad()) continue;
    on_graph.push_back(g[i]);
    directions.push_back(cast(random_input(g[i].shape(), 10 + static_cast<uint32_t>(i)), g[i].dtype()));
  }
  for (const Tensor& h : grad(on_graph, in, directions))
    for (double d : values(h)) out.push_back(d);
  return out;
}

double relative_error(const std::vector<double>& got, const std::vector<double>& want) {
  double difference = 0, scale = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    scale += want[i] * want[i];
  }
  return std::sqrt(difference / scale);
}

// dx of every variant of the kernel added to what is there: to the bit what a sum afterwards would be.
TEST(BatchNorm, GradientAccumulates) {
  constexpr int64_t kRows = 300, kChannels = 5, kCount = kRows * kChannels;
  const auto values_of = [](uint32_t key, int64_t n) {
    return cast(random_input({n}, key), DType::f32).to_vector<float>();
  };
  const std::vector<float> g = values_of(1, kCount), x = values_of(2, kCount), y = values_of(3, kCount),
                           gamma = values_of(4, kChannels), beta = values_of(5, kChannels),
                           mean = values_of(6, kChannels), inv_std(kChannels, 1.5f), before = values_of(7, kCount);
  for (const Variant v : kVariants) {
    std::vector<float> plain(kCount), sum = before, through(kCount), dgamma(kChannels), dbeta(kChannels);
    const bool relu = v.act == Activation::relu, from_y = relu && v.residual;
    kernel::BatchNormGradArgs args{DType::f32,
                                   relu,
                                   kRows,
                                   kChannels,
                                   g.data(),
                                   x.data(),
                                   from_y ? y.data() : nullptr,
                                   gamma.data(),
                                   beta.data(),
                                   mean.data(),
                                   inv_std.data(),
                                   plain.data(),
                                   dgamma.data(),
                                   dbeta.data(),
                                   from_y ? through.data() : nullptr};
    cpu_kernels().batch_norm_grad(args);
    args.dx = sum.data(), args.accumulate = true;
    cpu_kernels().batch_norm_grad(args);
    for (size_t i = 0; i < plain.size(); ++i) ASSERT_EQ(sum[i], before[i] + plain[i]) << i;
  }
}

// Of a cotangent that was masked before: to the bit what the kernel makes by masking it.
TEST(BatchNorm, SecondDerivativeOfAMaskedCotangent) {
  constexpr int64_t kRows = 300, kChannels = 5, kCount = kRows * kChannels;
  const auto values_of = [](uint32_t key, int64_t n) {
    return cast(random_input({n}, key), DType::f32).to_vector<float>();
  };
  std::vector<float> g = values_of(1, kCount);
  const std::vector<float> x = values_of(2, kCount), y = values_of(3, kCount), u = values_of(4, kCount),
                           r = values_of(5, kCount), gamma = values_of(6, kChannels), beta = values_of(7, kChannels),
                           mean = values_of(8, kChannels), inv_std(kChannels, 1.5f), a = values_of(9, kChannels),
                           b = values_of(10, kChannels);
  std::vector<float> results[2];
  for (const bool masked : {false, true}) {
    std::vector<float> g2(kCount), x2(kCount), gamma2(kChannels);
    for (size_t i = 0; masked && i < g.size(); ++i) g[i] = y[i] > 0 ? g[i] : 0;
    cpu_kernels().batch_norm_grad2({DType::f32, true, kRows, kChannels, g.data(), x.data(), y.data(), gamma.data(),
                                    beta.data(), mean.data(), inv_std.data(), u.data(), a.data(), b.data(), r.data(),
                                    g2.data(), x2.data(), gamma2.data(), masked});
    for (const auto* v : {&g2, &x2, &gamma2}) results[masked].insert(results[masked].end(), v->begin(), v->end());
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(BatchNorm, KnownValues) {
  const Tensor x = Tensor::from_vector<double>({1, -2, 3, 4, 8, 4}, {3, 2});
  const Tensor gamma = Tensor::from_vector<double>({2, 3}, {2}), beta = Tensor::from_vector<double>({0.5, -1}, {2});
  const BatchNorm r = batch_norm(x, gamma, beta, Tensor(), Activation::none, 0);
  EXPECT_TRUE(near(values(r.mean), {4, 2}, 1e-15));
  EXPECT_TRUE(near(values(r.variance), {13, 12}, 1e-15));  // (9 + 1 + 16) / 2, (16 + 4 + 4) / 2
  const double a = std::sqrt(26.0 / 3), b = std::sqrt(8.0);
  EXPECT_TRUE(near(values(r.inv_std), {1 / a, 1 / b}, 1e-15));
  const std::vector<double> y{-6 / a + 0.5, -12 / b - 1, -2 / a + 0.5, 6 / b - 1, 8 / a + 0.5, 6 / b - 1};
  EXPECT_TRUE(near(values(r.y), y, 1e-15));
  const Tensor residual = Tensor::from_vector<double>({1, 1, 1, 1, -9, 1}, {3, 2});
  const Tensor rectified = batch_norm(x, gamma, beta, residual, Activation::relu, 0).y;
  EXPECT_TRUE(near(values(rectified), {0, 0, 1.5 - 2 / a, 6 / b, 0, 6 / b}, 1e-15));
}

TEST(BatchNorm, EpsilonIsInsideTheRoot) {
  const Tensor x = Tensor::from_vector<double>({1, 3}, {2, 1}), one = Tensor::ones({1}, DType::f64);
  EXPECT_TRUE(near(values(batch_norm(x, one, one, Tensor(), Activation::none, 3).y), {0.5, 1.5}, 1e-15));
}

// Few and many channels, multiples of nothing, rows that do not fill a chunk, several chunks, large ones.
TEST(BatchNorm, FusedEqualsCompositeInAllOrders) {
  for (const Shape& shape :
       {Shape{2, 1}, Shape{5, 7, 3, 3}, Shape{64, 50}, Shape{9, 130}, Shape{2, 33, 31, 16}, Shape{3, 1, 1, 200},
        Shape{4001, 5}, Shape{17, 300}, Shape{2021, 130}, Shape{1, 150, 111, 16}})
    for (const Variant& v : kVariants) {
      const std::vector<Tensor> in = leaves(shape);
      EXPECT_LT(relative_error(all_orders(in, v, true), all_orders(in, v, false)), 1e-13)
          << shape << " residual " << v.residual << " relu " << (v.act == Activation::relu);
    }
}

TEST(BatchNorm, SinglePrecisionIsAccurate) {
  for (double offset : {0.0, 100.0})
    for (const Variant& v : kVariants) {
      // Large enough to be stored past the caches. With an offset, some rectifier of so many would round to the other
      // side.
      const std::vector<Tensor> in32 = leaves({offset == 0 ? 16 : 8, 32, 32, 16}, DType::f32, offset);
      std::vector<Tensor> in64;
      for (const Tensor& t : in32) in64.push_back(cast(t.detach(), DType::f64).set_requires_grad());
      EXPECT_LT(relative_error(all_orders(in32, v, true), all_orders(in64, v, true)), offset == 0 ? 5e-7 : 2e-5)
          << "offset " << offset << " residual " << v.residual;
    }
}

TEST(BatchNorm, ThreadsDoNotChangeAnyBit) {
  for (const Variant& v : kVariants) {
    const std::vector<Tensor> in = leaves({9, 31, 17, 24}, DType::f32);
    auto run = [&](int threads) {
      const int before = num_threads();
      set_num_threads(threads);
      std::vector<double> out = all_orders(in, v, true);
      set_num_threads(before);
      return out;
    };
    const std::vector<double> one = run(1);
    EXPECT_EQ(one, run(2));
    EXPECT_EQ(one, run(3));
  }
}

// The fused second derivative with cotangents for some of its results only.
TEST(BatchNorm, SecondDerivativeOfSomeGradients) {
  for (const Variant& v : kVariants)
    for (size_t which = 0; which < (v.residual ? 4u : 3u); ++which) {
      const std::vector<Tensor> in = leaves({11, 4});
      auto hv = [&](bool fused) {
        const Tensor residual = v.residual ? in[3] : Tensor();
        const Tensor y = fused ? batch_norm(in[0], in[1], in[2], residual, v.act).y
                               : batch_norm_composite(in[0], in[1], in[2], residual, v.act);
        const std::vector<Tensor> g = grad({sum(exp(y))}, in, {}, {.create_graph = true});
        std::vector<double> out;
        for (const Tensor& h : grad({sum(g[which] * random_input(g[which].shape(), 20))}, in))
          for (double d : values(h)) out.push_back(d);
        return out;
      };
      EXPECT_LT(relative_error(hv(true), hv(false)), 1e-13) << which << " residual " << v.residual;
    }
}

// A frozen input costs nothing and breaks nothing.
TEST(BatchNorm, DerivativesOfParametersOnly) {
  std::vector<Tensor> in = leaves({11, 4});
  in[0] = in[0].detach();
  const std::vector<Tensor> wrt{in[1], in[2]};
  auto gradient = [&](const Tensor& y) {
    std::vector<double> out;
    for (const Tensor& g : grad({sum(square(y))}, wrt))
      for (double d : values(g)) out.push_back(d);
    return out;
  };
  EXPECT_LT(
      relative_error(gradient(batch_norm(in[0], in[1], in[2]).y), gradient(batch_norm_composite(in[0], in[1], in[2]))),
      1e-14);
}

TEST(BatchNorm, WritesIntoDestinations) {
  const std::vector<Tensor> in = leaves({11, 4});
  Vec flat = Vec::zeros(16, DType::f64);
  const std::vector<Tensor> wrt{in[1], in[2]}, into{Tensor::view_of(flat, 0, {4}), Tensor::view_of(flat, 8, {4})};
  const std::vector<Tensor> want = grad({sum(square(batch_norm(in[0], in[1], in[2]).y))}, wrt);
  const std::vector<Tensor> got = grad({sum(square(batch_norm(in[0], in[1], in[2]).y))}, wrt, {}, {.into = into});
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(got[i].data(), into[i].data());
    EXPECT_EQ(values(got[i]), values(want[i]));
  }
}

TEST(ChannelAffine, KnownValues) {
  auto vec = [](std::vector<double> v) { return Tensor::from_vector(v, {static_cast<int64_t>(v.size())}); };
  const Tensor x = Tensor::from_vector<double>({1, 2, 3, 4}, {2, 2});
  const Tensor y = channel_affine(x, vec({1, 2}), vec({2, -1}), vec({0.5, 1}));
  EXPECT_EQ(values(y), (std::vector<double>{0.5, 1, 4.5, -1}));
  const Tensor z = channel_affine(x, vec({1, 2}), vec({2, -1}), vec({0.5, 1}), -x, Activation::relu);
  EXPECT_EQ(values(z), (std::vector<double>{0, 0, 1.5, 0}));
}

TEST(LayerNorm, KnownValues) {
  const Tensor x = Tensor::from_vector<double>({1, 3, 4, 4, -2, 0, 5, 5, 5}, {3, 3});
  const Tensor gamma = Tensor::from_vector<double>({1, 2, -1}, {3}), beta = Tensor::from_vector<double>({0, 1, 3}, {3});
  // Means 8/3, 2/3, 5; sums of squared deviations 14/3, 56/3, 0.
  const double a = 1 / std::sqrt(14.0 / 9 + 1), b = 1 / std::sqrt(56.0 / 9 + 1);
  const std::vector<double> y{-5 * a / 3, 1 + 2 * a / 3, 3 - 4 * a / 3, 10 * b / 3, 1 - 16 * b / 3, 3 + 2 * b / 3, 0, 1,
                              3};
  EXPECT_TRUE(near(values(layer_norm(x, gamma, beta, 1)), y, 1e-15));
}

TEST(LayerNorm, FusedEqualsComposite) {
  for (const Shape& shape : {Shape{2, 3, 17}, Shape{70, 300}, Shape{5, 2000}, Shape{300, 1}, Shape{4000, 16}}) {
    const std::vector<Tensor> all = leaves(shape), in{all[0], all[1], all[2]};
    auto gradient = [&](const Tensor& y) {
      std::vector<double> out = values(y);
      for (const Tensor& g : grad({sum(square(y) * random_input(shape, 7))}, in))
        for (double d : values(g)) out.push_back(d);
      return out;
    };
    EXPECT_LT(
        relative_error(gradient(layer_norm(in[0], in[1], in[2])), gradient(layer_norm_composite(in[0], in[1], in[2]))),
        1e-13)
        << shape;
  }
}

TEST(LayerNorm, ThreadsDoNotChangeAnyBit) {
  const std::vector<Tensor> all = leaves({1000, 77}, DType::f32), in{all[0], all[1], all[2]};
  auto run = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    std::vector<double> out;
    for (const Tensor& g : grad({sum(square(layer_norm(in[0], in[1], in[2])))}, in))
      for (double d : values(g)) out.push_back(d);
    set_num_threads(before);
    return out;
  };
  EXPECT_EQ(run(1), run(2));
  EXPECT_EQ(run(1), run(3));
}

TEST(NormErrors, NameTheOpAndTheShapes) {
  const Tensor x = Tensor::ones({4, 3}), c = Tensor::ones({3}), bad = Tensor::ones({4});
  auto message = [](auto fn) -> std::string {
    try {
      fn();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_NE(message([&] { batch_norm(x, bad, c); }).find("[batch_norm] vector (4) for 3 channels of (4, 3)"),
            std::string::npos);
  EXPECT_NE(message([&] { batch_norm(Tensor::ones({1, 3}), c, c); }).find("has no variance"), std::string::npos);
  EXPECT_NE(message([&] { batch_norm(c, c, c); }).find("[batch_norm] of shape (3)"), std::string::npos);
  EXPECT_NE(message([&] { batch_norm(x, c, c, bad); }).find("[batch_norm] shapes (4, 3) and (4)"), std::string::npos);
  EXPECT_NE(message([&] { batch_norm(x, c, c, Tensor(), Activation::tanh); }).find("no activation but relu"),
            std::string::npos);
  EXPECT_NE(message([&] { layer_norm(x, c, bad); }).find("[layer_norm] vector (4) for rows of 3 in (4, 3)"),
            std::string::npos);
  EXPECT_NE(message([&] { channel_affine(x, c, c, bad); }).find("[channel_affine] vector (4)"), std::string::npos);
}

}  // namespace
}  // namespace sinew::testing
