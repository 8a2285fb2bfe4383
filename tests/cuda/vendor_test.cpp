// cuBLAS and cuDNN in place of our kernels: stand-ins (tests/cuda/stand_in) under emulation, on a GPU the libraries
// themselves, where they are. Everything is compared with our kernels, which have tests of their own.
#include "cuda/vendor.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "cuda/entries.h"
#include "cuda/vendor/cublas.h"
#include "cuda/vendor/cudnn.h"
#include "tests/cuda/support.h"
#if SINEW_HAVE_TRAIN
#include "dist/solo_world.h"
#include "models/trainer.h"
#include "nn/layers.h"
#include "tests/cuda/parity.h"
#endif

namespace sinew::testing {
namespace {

using cuda::MatmulKernels;

void name_stand_ins() {
#if defined(SINEW_STAND_IN_CUBLAS)
  setenv("SINEW_CUBLAS", SINEW_STAND_IN_CUBLAS, 1);
  setenv("SINEW_CUDNN", SINEW_STAND_IN_CUDNN, 1);
#endif
}

// The libraries' kernels as long as it lives.
class ByVendor {
 public:
  ByVendor() : status_(cuda::set_matmul_kernels(MatmulKernels::vendor)) {}
  ~ByVendor() { EXPECT_TRUE(cuda::set_matmul_kernels(MatmulKernels::own).ok()); }
  ByVendor(const ByVendor&) = delete;
  ByVendor& operator=(const ByVendor&) = delete;
  const Status& status() const { return status_; }

 private:
  Status status_;
};

#define SINEW_NEEDS_VENDOR() \
  SINEW_NEEDS_CUDA();        \
  name_stand_ins();          \
  if (const ByVendor vendor; !vendor.status().ok()) GTEST_SKIP() << vendor.status().message()

#if defined(SINEW_STAND_IN_CUBLAS)
template <class T>
T ask_stand_in(const char* variable, const char* function) {
  return reinterpret_cast<T (*)()>(dlsym(dlopen(std::getenv(variable), RTLD_NOW | RTLD_LOCAL), function))();
}
#endif
// How many calls have computed since it was made; the real libraries do not say.
class Computed {
 public:
  explicit Computed([[maybe_unused]] const char* variable) {
#if defined(SINEW_STAND_IN_CUBLAS)
    variable_ = variable;
    before_ = ask_stand_in<long>(variable, "stand_in_calls");
#endif
  }
  void expect([[maybe_unused]] long calls) const {
#if defined(SINEW_STAND_IN_CUBLAS)
    EXPECT_EQ(ask_stand_in<long>(variable_, "stand_in_calls"), before_ + calls);
#endif
  }

 private:
#if defined(SINEW_STAND_IN_CUBLAS)
  const char* variable_;
  long before_;
#endif
};

std::vector<double> values_of(DType dtype, size_t n, const void* data) {
  const DeviceArray<double> wide(n);
  device().cast({dtype, DType::f64, static_cast<int64_t>(n), data, wide.data()});
  return wide.read();
}

// Random values of any float type, in memory of their own.
class Values {
 public:
  Values(DType dtype, int64_t n, uint32_t stream, bool nan = false)
      : dtype_(dtype), n_(static_cast<size_t>(n)), bytes_(n_ * size_of(dtype)), data_(device().allocate(bytes_)) {
    const DeviceArray<double> wide(nan ? std::vector<double>(n_, std::nan(""))
                                       : random_values<double>(n_, -1, 1, stream));
    device().cast({DType::f64, dtype, n, wide.data(), data_});
  }
  ~Values() { device().release(data_, bytes_); }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;
  void* data() const { return data_; }
  std::vector<double> read() const { return values_of(dtype_, n_, data_); }

 private:
  DType dtype_;
  size_t n_, bytes_;
  void* data_;
};

// NaN equals NaN: what neither wrote.
void expect_near(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE((std::isnan(got[i]) && std::isnan(want[i])) ||
                std::abs(got[i] - want[i]) <= tolerance * (1 + std::abs(want[i])))
        << "element " << i << ": " << got[i] << ", ours is " << want[i];
}
double tolerance_of(DType dtype, bool narrow) { return dtype == DType::f64 ? 1e-13 : narrow ? 0.01 : 1e-5; }

// ---- products ----

struct Product {
  int64_t m, n, k, batch = 1, pad = 0;  // pad: extra elements in every leading dimension
  double alpha = 1, beta = 0;
  bool bias = false;
  Activation act = Activation::none;
  F32Operand f32_operand = F32Operand::none;
};

std::vector<double> multiply(const Product& p, DType dtype, bool trans_a, bool trans_b) {
  const bool bf16 = dtype == DType::bf16;
  const DType wide = bf16 ? DType::f32 : dtype, c_type = bf16 && p.f32_operand == F32Operand::none ? DType::f32 : dtype;
  const int64_t lda = (trans_a ? p.m : p.k) + p.pad, ldb = (trans_b ? p.k : p.n) + p.pad, ldc = p.n + p.pad;
  const int64_t sa = lda * (trans_a ? p.k : p.m), sb = ldb * (trans_b ? p.n : p.k), sc = ldc * p.m;
  const Values a(p.f32_operand == F32Operand::a ? wide : dtype, p.batch * sa, 1),
      b(p.f32_operand == F32Operand::b ? wide : dtype, p.batch * sb, 2), bias(wide, p.n, 3),
      c(c_type, p.batch * sc, 4, p.beta == 0);
  device().gemm({dtype,
                 trans_a,
                 trans_b,
                 p.m,
                 p.n,
                 p.k,
                 p.alpha,
                 p.beta,
                 a.data(),
                 lda,
                 b.data(),
                 ldb,
                 c.data(),
                 ldc,
                 p.batch,
                 sa,
                 sb,
                 sc,
                 p.bias ? bias.data() : nullptr,
                 p.act,
                 p.f32_operand});
  return c.read();
}

void check_product(const Product& p, DType dtype) {
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true}) {
      SCOPED_TRACE(::testing::Message() << to_string(dtype) << " " << p.m << "x" << p.n << "x" << p.k << " trans "
                                        << trans_a << trans_b << " batch " << p.batch << " pad " << p.pad << " beta "
                                        << p.beta << " bias " << p.bias << " act " << static_cast<int>(p.act));
      const std::vector<double> want = multiply(p, dtype, trans_a, trans_b);
      const ByVendor vendor;
      const Computed computed("SINEW_CUBLAS");
      expect_near(multiply(p, dtype, trans_a, trans_b), want, tolerance_of(dtype, p.f32_operand != F32Operand::none));
      computed.expect(1);
    }
}

TEST(CudaVendor, Products) {
  SINEW_NEEDS_VENDOR();
  for (const DType dtype : {DType::f32, DType::f64}) {
    check_product({.m = 5, .n = 9, .k = 7}, dtype);
    check_product({.m = 4, .n = 3, .k = 6, .pad = 5, .alpha = 2, .beta = -0.5}, dtype);
    check_product({.m = 4, .n = 3, .k = 6, .batch = 3, .pad = 2, .beta = 1}, dtype);
    check_product({.m = 1, .n = 1, .k = 300}, dtype);
    check_product({.m = 6, .n = 5, .k = 3, .pad = 1, .alpha = 3, .bias = true}, dtype);
    check_product({.m = 6, .n = 5, .k = 3, .batch = 2, .alpha = 0.5, .bias = true, .act = Activation::relu}, dtype);
    check_product({.m = 2, .n = 5, .k = 3, .act = Activation::tanh}, dtype);
  }
  for (const F32Operand f32 : {F32Operand::none, F32Operand::a, F32Operand::b}) {
    check_product({.m = 5, .n = 9, .k = 7, .f32_operand = f32}, DType::bf16);
    check_product({.m = 8, .n = 16, .k = 8, .batch = 2, .pad = 8, .alpha = 2, .f32_operand = f32}, DType::bf16);
    check_product({.m = 5, .n = 9, .k = 7, .bias = true, .act = Activation::relu, .f32_operand = f32}, DType::bf16);
  }
}

#if defined(SINEW_STAND_IN_CUBLAS)
TEST(CudaVendor, CublasWorksInOurMemory) {
  SINEW_NEEDS_VENDOR();
  EXPECT_TRUE(ask_stand_in<bool>("SINEW_CUBLAS", "stand_in_has_workspace"));
}
#endif

TEST(CudaVendor, EmptySumsAreOurs) {
  SINEW_NEEDS_VENDOR();
  const Product p{.m = 3, .n = 4, .k = 0, .beta = 2};
  const std::vector<double> want = multiply(p, DType::f32, false, false);
  const ByVendor vendor;
  expect_near(multiply(p, DType::f32, false, false), want, 0);
}

// Only where it is allowed: then factors are rounded to 11 bits.
TEST(CudaVendor, Tf32IsAskedFor) {
  SINEW_NEEDS_VENDOR();
  const Product p{.m = 8, .n = 8, .k = 8};
  const std::vector<double> want = multiply(p, DType::f32, false, true);
  const ByVendor vendor;
  cuda::set_matmul_precision(cuda::MatmulPrecision::tf32);
  const std::vector<double> got = multiply(p, DType::f32, false, true);
  cuda::set_matmul_precision(cuda::MatmulPrecision::f32);
  expect_near(got, want, 5e-3);
#if defined(SINEW_STAND_IN_CUBLAS)  // the real one may choose not to
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) largest = std::max(largest, std::abs(got[i] - want[i]));
  EXPECT_GT(largest, 1e-6);
#endif
}

// ---- convolutions ----

struct Layer {
  int64_t n, h, w, c, k, r, s, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  bool bias = false, accumulate = false;
  Activation act = Activation::none;
};

std::vector<double> convolve(const Layer& l, DType dtype, cuda::CudnnKind kind) {
  kernel::ConvArgs a{};
  a.dtype = dtype;
  a.n = l.n, a.h = l.h, a.w = l.w, a.c = l.c, a.k = l.k, a.r = l.r, a.s = l.s;
  a.stride_h = l.stride_h, a.stride_w = l.stride_w, a.pad_h = l.pad_h, a.pad_w = l.pad_w;
  a.p = (l.h + 2 * l.pad_h - l.r) / l.stride_h + 1, a.q = (l.w + 2 * l.pad_w - l.s) / l.stride_w + 1;
  const DType wide = dtype == DType::bf16 ? DType::f32 : dtype;
  const bool forward = kind == cuda::CudnnKind::forward, dw = kind == cuda::CudnnKind::dw;
  const int64_t pixels = a.n * a.h * a.w * a.c, filters = a.k * a.r * a.s * a.c, outputs = a.n * a.p * a.q * a.k;
  const Values x(dtype, pixels, 1), filter(wide, filters, 2), y(dtype, outputs, 3), bias(wide, a.k, 4);
  const bool accumulate = l.accumulate && !dw && !l.bias && l.act == Activation::none;
  const Values out(dw ? wide : dtype, forward ? outputs : dw ? filters : pixels, 5, !accumulate);
  a.x = x.data(), a.filter = filter.data(), a.y = y.data(), a.out = out.data();
  a.accumulate = accumulate;
  if (forward && l.bias) a.bias = bias.data();
  if (forward) a.act = l.act;
  (forward ? device().conv_forward : dw ? device().conv_dw : device().conv_dx)(a);
  return out.read();
}

void check_layer(const Layer& l, DType dtype) {
  for (const cuda::CudnnKind kind : {cuda::CudnnKind::forward, cuda::CudnnKind::dx, cuda::CudnnKind::dw}) {
    SCOPED_TRACE(::testing::Message() << to_string(dtype) << " kind " << static_cast<int>(kind) << ", " << l.n << "x"
                                      << l.h << "x" << l.w << "x" << l.c << " filters " << l.k << "x" << l.r << "x"
                                      << l.s << " bias " << l.bias << " accumulate " << l.accumulate);
    const std::vector<double> want = convolve(l, dtype, kind);
    const ByVendor vendor;
    const Computed computed("SINEW_CUDNN");
    expect_near(convolve(l, dtype, kind), want, tolerance_of(dtype, dtype == DType::bf16));
    computed.expect(dtype == DType::f64 ? 0 : 1);  // f64 is ours
  }
}

TEST(CudaVendor, Convolutions) {
  SINEW_NEEDS_VENDOR();
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    check_layer({2, 5, 6, 3, 4, 3, 3}, dtype);
    check_layer({2, 7, 6, 3, 8, 3, 2, 2, 1, 1, 0}, dtype);
    check_layer({1, 6, 5, 8, 2, 1, 3, 1, 2, 0, 1}, dtype);
    check_layer({.n = 2, .h = 4, .w = 4, .c = 3, .k = 5, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1, .bias = true}, dtype);
    check_layer({.n = 1, .h = 4, .w = 4, .c = 3, .k = 5, .r = 2, .s = 2, .bias = true, .act = Activation::relu}, dtype);
    check_layer({.n = 1, .h = 4, .w = 4, .c = 3, .k = 5, .r = 2, .s = 2, .act = Activation::relu}, dtype);
    check_layer({.n = 2, .h = 4, .w = 4, .c = 3, .k = 5, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1, .accumulate = true},
                dtype);
  }
}

#if defined(SINEW_STAND_IN_CUBLAS)

long refusals() { return ask_stand_in<long>("SINEW_CUDNN", "stand_in_refusals"); }
void refuse_all(bool value) {
  void* const library = dlopen(std::getenv("SINEW_CUDNN"), RTLD_NOW | RTLD_LOCAL);
  reinterpret_cast<void (*)(bool)>(dlsym(library, "stand_in_refuses_all"))(value);
}

// The first that cuDNN suggests says no when it is called.
TEST(CudaVendor, ARefusedAlgorithmIsFollowedByTheNext) {
  SINEW_NEEDS_VENDOR();
  const Layer layer{.n = 1, .h = 3, .w = 9, .c = 2, .k = 3, .r = 2, .s = 2};  // of this test alone
  for (const cuda::CudnnKind kind : {cuda::CudnnKind::forward, cuda::CudnnKind::dx, cuda::CudnnKind::dw}) {
    const std::vector<double> want = convolve(layer, DType::f32, kind);
    const ByVendor vendor;
    const long before = refusals();
    const Computed computed("SINEW_CUDNN");
    for (const long call : {1, 2}) {
      expect_near(convolve(layer, DType::f32, kind), want, tolerance_of(DType::f32, false));
      computed.expect(call);
      EXPECT_EQ(refusals(), before + 1) << "it is asked once";
    }
  }
}

TEST(CudaVendor, WhatCudnnRefusesAltogetherIsOurs) {
  SINEW_NEEDS_VENDOR();
  const Layer layer{.n = 1, .h = 3, .w = 8, .c = 2, .k = 3, .r = 2, .s = 2, .bias = true};  // of this test alone
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const cuda::CudnnKind kind : {cuda::CudnnKind::forward, cuda::CudnnKind::dx, cuda::CudnnKind::dw}) {
      const std::vector<double> want = convolve(layer, dtype, kind);
      const ByVendor vendor;
      const Computed computed("SINEW_CUDNN");
      refuse_all(true);
      EXPECT_EQ(convolve(layer, dtype, kind), want);
      refuse_all(false);
      const long before = refusals();
      EXPECT_EQ(convolve(layer, dtype, kind), want);
      EXPECT_EQ(refusals(), before) << "it is not asked again";
      computed.expect(0);
    }
}

#endif

// An extent that cuDNN's interface cannot hold.
TEST(CudaVendor, LongExtentsAreOurs) {
  SINEW_NEEDS_VENDOR();
  const Layer layer{.n = 2, .h = 1, .w = 3, .c = 2, .k = 3, .r = 1, .s = 1, .stride_h = int64_t{1} << 32};
  const std::vector<double> want = convolve(layer, DType::f32, cuda::CudnnKind::forward);
  const ByVendor vendor;
  const Computed computed("SINEW_CUDNN");
  EXPECT_EQ(convolve(layer, DType::f32, cuda::CudnnKind::forward), want);
  computed.expect(0);
}

// ---- libraries that are not there ----

TEST(CudaVendor, SaysWhatIsMissing) {
  SINEW_NEEDS_CUDA();
  const char* const before = std::getenv("SINEW_CUBLAS");
  const std::string restored = before == nullptr ? "" : before;
  setenv("SINEW_CUBLAS", "/nowhere/libcublas.so", 1);
  EXPECT_EQ(cuda::Cublas(cuda::stream()).missing(), "cuBLAS: SINEW_CUBLAS = '/nowhere/libcublas.so' cannot be opened");
  setenv("SINEW_CUBLAS", "libc.so.6", 1);  // a library, but another one
  EXPECT_EQ(cuda::Cublas(cuda::stream()).missing(), "the library has no function cublasCreate_v2");
#if defined(SINEW_CUDA_EMULATE)
  unsetenv("SINEW_CUBLAS");
  EXPECT_EQ(cuda::Cublas(cuda::stream()).missing(), "cuBLAS: the emulated device has none");
#endif
  setenv("SINEW_CUBLAS", restored.c_str(), 1);
}

// ---- graphs ----

// The first calls of a shape may be the recorded ones.
TEST(CudaVendor, CallsAreRecorded) {
  SINEW_NEEDS_VENDOR();
  const ByVendor vendor;
  const KernelTable& t = device();
  const DeviceArray<float> a(std::vector<float>{1, 2, 3, 4}), b(std::vector<float>{1, 0, 0, 1}), c(4), y(4);
  kernel::ConvArgs conv{};
  conv.dtype = DType::f32;
  conv.n = 1, conv.h = 2, conv.w = 2, conv.c = 1, conv.k = 1, conv.r = 1, conv.s = 1, conv.p = 2, conv.q = 2;
  conv.stride_h = conv.stride_w = 1;
  conv.x = c.data(), conv.filter = a.data(), conv.out = y.data();
  t.fill({DType::f32, 4, y.data(), 0});
  const Computed computed("SINEW_CUDNN");
  t.graph_begin();
  t.gemm({DType::f32, false, false, 2, 2, 2, 2, 0, a.data(), 2, b.data(), 2, c.data(), 2, 1});
  t.conv_forward(conv);
  void* const graph = t.graph_end(true);
  computed.expect(1);  // outside of the recording: the first that it suggests refuses
  EXPECT_EQ(y.read(), (std::vector<float>{0, 0, 0, 0}));
  t.graph_launch(graph, 0);
  EXPECT_EQ(y.read(), (std::vector<float>{2, 4, 6, 8}));
  t.fill({DType::f32, 4, b.data(), 1});
  t.graph_launch(graph, 0);
  EXPECT_EQ(y.read(), (std::vector<float>{6, 6, 14, 14}));
  t.graph_release(graph);
}

#if SINEW_HAVE_TRAIN

std::vector<double> losses_of_training(bool graph) {
  const nn::DatasetPtr data =
      nn::open_data({.name = "synthetic", .train_size = 24, .image = {.resize = 6}}).value().train;
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Conv2d>(data->sample_shape()[2], 4, 3, nn::Conv2dOptions{.padding = 1}));
  net->add(std::make_unique<nn::GlobalAvgPool>()).add(std::make_unique<nn::Linear>(4, 10));
  const nn::Model model("net", std::move(net), data->sample_shape(), 10);
  nn::Loader loader(data, {.batch = 4, .prefetch = 0, .device = Device::cuda});
  const auto optimizer = optim::make_optimizer({.name = "adahessian", .hessian_every = 2});
  const auto world = dist::make_solo_world();
  Vec theta = model.initialize(3, DType::f32, Device::cuda);
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), theta.dtype(), Device::cuda);
  train::Trainer trainer(model, loader, *optimizer, *scheme, *world, std::move(theta));
  std::vector<double> losses;
  const Status status = trainer.run({.steps = 5,
                                     .graph = graph ? train::Recorded::step : train::Recorded::nothing,
                                     .on_step = [&](const train::StepReport& report) {
                                       losses.push_back(report.loss);
                                       return Status::Ok();
                                     }});
  SINEW_CHECK(status.ok(), "test", status.message());
  EXPECT_EQ(trainer.replayed_updates(), graph ? 3 : 0);
  return losses;
}

TEST(CudaVendor, Trains) {
  SINEW_NEEDS_VENDOR();
  const std::vector<double> want = losses_of_training(false);
  const ByVendor vendor;
  const std::vector<double> got = losses_of_training(false);
  EXPECT_TRUE(close(got, want, 1e-4));
  EXPECT_EQ(losses_of_training(true), got);
}

#endif

}  // namespace
}  // namespace sinew::testing
