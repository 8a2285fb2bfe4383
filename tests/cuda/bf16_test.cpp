// bf16 is not there yet: every entry refuses it by name, and none of them does nothing in silence.
#include <functional>
#include <string>

#include "core/ops.h"
#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

void expect_refused(const std::function<void()>& fn) {
  try {
    fn();
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("bf16"), std::string::npos) << e.what();
  }
}

TEST(CudaBf16, IsRefused) {
  SINEW_NEEDS_CUDA();
  constexpr DType kType = DType::bf16;
  DeviceArray<uint16_t> array(std::vector<uint16_t>(64));
  uint16_t* const p = array.data();
  const KernelTable& t = device();
  expect_refused([&] { t.fill({kType, 8, p, 1}); });
  expect_refused([&] { t.cast({kType, DType::f32, 8, p, p}); });
  expect_refused([&] { t.cast({DType::f32, kType, 8, p, p}); });
  expect_refused([&] { t.unary({UnaryOp::square, kType, 8, p, p, 0, 0}); });
  expect_refused([&] { t.binary({BinaryOp::add, kType, 1, {8}, {1}, {1}, p, p, p}); });
  expect_refused([&] { t.where({kType, 8, p, p, p, p}); });
  expect_refused([&] { t.strided_copy({kType, 1, {8}, {2}, {1}, p, p}); });
  expect_refused([&] { t.reduce({ReduceOp::sum, kType, 1, 8, 1, p, p}); });
  kernel::GemmArgs gemm{kType, false, false, 2, 2, 2, 1, 0, p, 2, p, 2, p, 2, 1, 4, 4, 4, nullptr, Activation::none};
  expect_refused([&] { t.gemm(gemm); });
  kernel::ConvArgs conv{};
  conv.dtype = kType;
  conv.n = conv.h = conv.w = conv.c = conv.k = conv.r = conv.s = conv.p = conv.q = conv.stride_h = conv.stride_w = 1;
  conv.x = conv.filter = conv.y = p, conv.out = p;
  for (const auto entry : {t.conv_forward, t.conv_dx, t.conv_dw}) expect_refused([&] { entry(conv); });
  kernel::PoolArgs pool{kType, 1, 2, 2, 1, 1, 1, 2, 2, 0, p, p, nullptr};
  for (const auto entry : {t.max_pool, t.avg_pool, t.avg_pool_grad}) expect_refused([&] { entry(pool); });
  expect_refused([&] { t.channel_affine({kType, false, 2, 4, p, p, p, p, nullptr, p}); });
  expect_refused([&] { t.batch_norm({kType, false, 2, 4, 1e-5, p, p, p, nullptr, p, p, p, p}); });
  expect_refused([&] { t.layer_norm({kType, 2, 4, 1e-5, p, p, p, p, p, p}); });
  expect_refused([&] { t.dropout({kType, 8, 0.5, {}, p, p}); });
}

}  // namespace
}  // namespace sinew::testing
