// bf16 on the device in everything but products and convolutions (bf16_matrix_test.cpp), against the device's own f32
// on the same values, which it must equal when rounded once, or nearly so where sums are added in another order.
#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <utility>

#include "core/autograd.h"
#include "core/ops.h"
#include "core/vec.h"
#include "tests/cuda/bf16.h"

namespace sinew::testing {
namespace {

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
