// Runs every row of the op table.
#include "tests/core/op_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "core/autograd.h"
#include "core/ops.h"
#include "tests/support/guard_device.h"

namespace sinew::testing {
namespace {

class OpTable : public ::testing::TestWithParam<size_t> {
 protected:
  const OpRow& row() const { return op_table()[GetParam()]; }
  std::vector<Tensor> inputs(Device device = Device::cpu) const { return op_inputs(row(), DType::f64, device); }
};

TEST_P(OpTable, GradientMatchesCentralDifferences) { EXPECT_TRUE(check_gradient(row().f, inputs())); }
TEST_P(OpTable, HvMatchesCentralDifferences) { EXPECT_TRUE(check_hvp(row().f, inputs())); }
TEST_P(OpTable, HessianIsSymmetric) { EXPECT_TRUE(check_hessian_symmetry(row().f, inputs())); }
TEST_P(OpTable, ThirdOrder) {
  if (row().third_order) {
    EXPECT_TRUE(check_third_order(row().f, inputs()));
  } else {
    // At most quadratic or a combination checked elsewhere: the graph must still support three backward passes.
    std::vector<Tensor> x;
    for (Tensor t : inputs()) x.push_back(is_float(t.dtype()) ? t.set_requires_grad() : t);
    Tensor y = sum(square(sum(row().f(x))));
    std::vector<Tensor> floats;
    for (const Tensor& t : x)
      if (is_float(t.dtype())) floats.push_back(t);
    for (int order = 0; order < 3; ++order) {
      std::vector<Tensor> g = grad({y}, floats, {}, {.create_graph = true});
      Tensor next;
      for (const Tensor& t : g)
        if (t.requires_grad()) next = next.defined() ? next + sum(square(t)) : sum(square(t));
      ASSERT_TRUE(next.defined());
      EXPECT_TRUE(std::isfinite(next.item<double>()));
      y = next;
    }
  }
}

// Forward, gradient and Hv where the host cannot touch the memory, equal to the CPU's bits.
TEST_P(OpTable, RunsOnTheGuardedDevice) {
  install_guard_device();
  auto all = [&](Device device) {
    std::vector<Tensor> x;
    for (Tensor t : inputs(device)) x.push_back(is_float(t.dtype()) ? t.set_requires_grad() : t);
    std::vector<Tensor> floats;
    for (const Tensor& t : x)
      if (is_float(t.dtype())) floats.push_back(t);
    const Tensor y = row().f(x);
    std::vector<double> out = values(y);
    const std::vector<Tensor> g = grad({sum(square(y))}, floats, {}, {.create_graph = true});
    std::vector<Tensor> on_graph, v;
    for (const Tensor& t : g) {
      for (double d : values(t)) out.push_back(d);
      if (t.requires_grad()) on_graph.push_back(t), v.push_back(Tensor::ones(t.shape(), t.dtype(), device));
    }
    for (const Tensor& h : grad(on_graph, floats, v))
      for (double d : values(h)) out.push_back(d);
    return out;
  };
  EXPECT_EQ(all(Device::guard), all(Device::cpu));
}

// f32 agrees with f64.
TEST_P(OpTable, TypesAgree) {
  const std::vector<double> want = values(row().f(inputs()));
  const Tensor got = row().f(op_inputs(row(), DType::f32, Device::cpu));
  EXPECT_EQ(got.dtype(), DType::f32);
  EXPECT_TRUE(near(values(got), want, 2e-5));
}

// bf16 agrees with f32 on the same (rounded) inputs, value and gradient, and runs where the host cannot touch the
// memory. A row is up to three ops of a few terms, each of whose results is rounded: a few steps of 1/256.
TEST_P(OpTable, BF16Agrees) {
  install_guard_device();
  const std::optional<std::vector<DType>> types = bf16_types(row());
  const std::vector<DType> all_bf16(row().shapes.size(), DType::bf16);
  if (!types) {
    EXPECT_THROW(row().f(op_inputs(row(), all_bf16, Device::cpu)), Error);
    return;
  }
  const auto value_and_gradient = [&](bool wide, Device device) {
    std::vector<Tensor> x, floats;
    for (Tensor t : op_inputs(row(), *types, device)) {
      if (wide && t.dtype() == DType::bf16) t = cast(t, DType::f32);
      x.push_back(is_float_or_bf16(t.dtype()) ? t.detach().set_requires_grad() : t);
      if (is_float_or_bf16(t.dtype())) floats.push_back(x.back());
    }
    const Tensor y = row().f(x);
    std::vector<std::vector<double>> out{values(y)};
    for (const Tensor& g : grad({sum(y)}, floats)) out.push_back(values(g));
    return out;
  };
  const auto got = value_and_gradient(false, Device::cpu), want = value_and_gradient(true, Device::cpu);
  EXPECT_EQ(value_and_gradient(false, Device::guard), got);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(near(got[i], want[i], 8.0 / 256)) << i;
}

INSTANTIATE_TEST_SUITE_P(Ops, OpTable, ::testing::Range<size_t>(0, op_table().size()),
                         [](const auto& info) { return op_table()[info.param].name; });

// Every op declared in the lists has a row.
TEST(OpTableIsComplete, ElementwiseLists) {
  std::set<std::string> rows;
  for (const OpRow& row : op_table()) rows.insert(row.name);
#define SINEW_EXPECT(name) EXPECT_TRUE(rows.count(#name)) << #name << " has no row in tests/core/op_table.cpp";
  SINEW_UNARY_OPS(SINEW_EXPECT)
  SINEW_BINARY_OPS(SINEW_EXPECT)
#undef SINEW_EXPECT
}

TEST(OpTypes, IntegersAddMultiplyAndReduce) {
  auto check = [](auto zero) {
    using T = decltype(zero);
    const Tensor a = Tensor::from_vector<T>({1, 2, 3, 4}, {2, 2}), b = Tensor::from_vector<T>({4, 3, 2, 1}, {2, 2});
    EXPECT_EQ(add(a, b).to_vector<T>(), (std::vector<T>{5, 5, 5, 5}));
    EXPECT_EQ(mul(a, b).to_vector<T>(), (std::vector<T>{4, 6, 6, 4}));
    EXPECT_EQ(div(b, a).to_vector<T>(), (std::vector<T>{4, 1, 0, 0}));
    EXPECT_EQ(maximum(a, b).to_vector<T>(), (std::vector<T>{4, 3, 3, 4}));
    EXPECT_EQ(sum(a, {0}).to_vector<T>(), (std::vector<T>{4, 6}));
    EXPECT_EQ(max(a, {1}).to_vector<T>(), (std::vector<T>{2, 4}));
    EXPECT_EQ(argmax(b, 1).to_vector<int64_t>(), (std::vector<int64_t>{0, 0}));
    EXPECT_EQ(permute(a, {1, 0}).to_vector<T>(), (std::vector<T>{1, 3, 2, 4}));
    EXPECT_EQ(slice(a, 1, 2).to_vector<T>(), (std::vector<T>{3, 4}));
    EXPECT_EQ(pad(a, 1, 0).to_vector<T>(), (std::vector<T>{0, 0, 1, 2, 3, 4}));
    EXPECT_EQ(gather(a, Tensor::from_vector<int64_t>({1, 0, 1}, {3})).template to_vector<T>(),
              (std::vector<T>{3, 4, 1, 2, 3, 4}));
    EXPECT_EQ(cast(a, DType::f32).to_vector<float>(), (std::vector<float>{1, 2, 3, 4}));
    EXPECT_EQ(where(greater(a, b), a, b).template to_vector<T>(), (std::vector<T>{4, 3, 3, 4}));
  };
  check(int32_t{});
  check(int64_t{});
  check(uint8_t{});
}

void expect_error(const std::function<void()>& fn, const std::string& part) {
  try {
    fn();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(OpErrors, NameTheOpAndTheShapes) {
  const Tensor a = Tensor::zeros({2, 3}), b = Tensor::zeros({4, 5}), i = Tensor::from_vector<int64_t>({0, 7}, {2});
  expect_error([&] { add(a, b); }, "[add] shapes (2, 3) and (4, 5) do not broadcast");
  expect_error([&] { add(a, Tensor::zeros({2, 3}, DType::f64)); }, "f64");
  expect_error([&] { exp(i); }, "[exp] needs f32, f64 or bf16, got i64");
  expect_error([&] { matmul(a, b); }, "[matmul] of shapes (2, 3) and (4, 5)");
  expect_error([&] { reshape(a, {4}); }, "[reshape] from (2, 3) to (4)");
  expect_error([&] { reshape_infer(a, {4, -1}); }, "[reshape]");
  expect_error([&] { permute(a, {0, 0}); }, "axis 0 twice");
  expect_error([&] { slice(a, 1, 4); }, "[slice] [1, 4) step 1 of axis 0 of shape (2, 3)");
  expect_error([&] { spread_axis(a, 1, 0, 4, 2); }, "[spread] 3 elements of axis 1");
  expect_error([&] { concat(a, a, 2); }, "axis 2");
  expect_error([&] { one_hot(i, 2, DType::f32); }, "[one_hot] index 7");
  expect_error([&] { nll_loss(a, i); }, "[nll_loss] index 7");
  expect_error([&] { gather(a, i); }, "[gather] index 7 at 1 is not in [0, 2)");
  expect_error([&] { sum(a, {2}); }, "axis 2");
  expect_error([&] { softmax_cross_entropy(a, i); }, "index 7");
  expect_error([&] { softmax_cross_entropy(b, i); }, "logits (4, 5) for labels (2)");
  expect_error([&] { dropout(a, 1.0, {}); }, "[dropout] rate 1");
  expect_error([&] { linear(a, b, Tensor()); }, "[matmul]");
  expect_error([&] { where(a, a, b); }, "[where]");
  expect_error([&] { broadcast_to(a, {3, 3}); }, "broadcast");
}

TEST(Slices, TakeAndSpreadTheNamedElements) {
  const Tensor x = Tensor::from_vector<float>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {2, 5});
  EXPECT_EQ(slice_axis(x, 1, 1, 5, 2).to_vector<float>(), (std::vector<float>{1, 3, 6, 8}));
  EXPECT_EQ(slice_axis(x, 1, 0, 5, 2).to_vector<float>(), (std::vector<float>{0, 2, 4, 5, 7, 9}));
  EXPECT_EQ(slice_axis(x, 0, 1, 2).to_vector<float>(), (std::vector<float>{5, 6, 7, 8, 9}));
  EXPECT_EQ(slice_axis(x, 1, 2, 2).numel(), 0);
  const Tensor two = slice_axis(x, 1, 0, 2);
  EXPECT_EQ(spread_axis(two, 1, 1, 5, 3).to_vector<float>(), (std::vector<float>{0, 0, 0, 0, 1, 0, 5, 0, 0, 6}));
  EXPECT_EQ(pad_axis(two, 1, 1, 0).to_vector<float>(), (std::vector<float>{0, 0, 1, 0, 5, 6}));
  EXPECT_EQ(concat(two, x, 1).to_vector<float>(), (std::vector<float>{0, 1, 0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9}));
}

TEST(SoftmaxCrossEntropy, FusedEqualsComposite) {
  const Tensor labels = Tensor::from_vector<int64_t>({2, 0, 4, 1}, {4});
  Tensor x = random_input({4, 5}, 1, -30, 30).set_requires_grad();
  const Tensor fused = softmax_cross_entropy(x, labels), composite = softmax_cross_entropy_composite(x, labels);
  EXPECT_NEAR(fused.item<double>(), composite.item<double>(), 1e-13);
  const std::vector<Tensor> wrt{x};
  EXPECT_TRUE(near(values(grad({fused}, wrt)[0]), values(grad({composite}, wrt)[0]), 1e-14));
}

// Other classes of probability 0 do not count, as in PyTorch.
TEST(NllLoss, ImpossibleClasses) {
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  const Tensor labels = Tensor::from_vector<int64_t>({0, 1}, {2});
  const std::vector<Tensor> p{
      Tensor::from_vector<double>({-1, kNever, -2, kNever, -3, kNever}, {2, 3}).set_requires_grad()};
  const Tensor loss = nll_loss(p[0], labels);
  EXPECT_EQ(loss.item<double>(), 2);
  EXPECT_EQ(values(grad({loss}, p)[0]), (std::vector<double>{-0.5, 0, 0, 0, -0.5, 0}));
  EXPECT_EQ(nll_loss(p[0], Tensor::from_vector<int64_t>({1, 1}, {2})).item<double>(), -kNever);
  // Through the logits, to the second derivative.
  const std::vector<Tensor> x{Tensor::from_vector<double>({0, kNever, 1, 2, 0, kNever}, {2, 3}).set_requires_grad()};
  const std::vector<Tensor> z{random_input({2, 3}, 1)};
  std::vector<std::vector<double>> hv;
  for (const auto& f : {softmax_cross_entropy, softmax_cross_entropy_composite}) {
    const std::vector<Tensor> g = grad({f(x[0], labels)}, x, {}, {.create_graph = true});
    hv.push_back(values(grad(g, x, z)[0]));
    EXPECT_TRUE(std::ranges::all_of(hv.back(), [](double v) { return std::isfinite(v); }));
  }
  EXPECT_TRUE(near(hv[0], hv[1], 1e-13));
}

TEST(SoftmaxCrossEntropy, LargeLogitsDoNotOverflow) {
  const Tensor x = Tensor::from_vector<float>({1e4f, -1e4f, 0, 0}, {2, 2});
  const float loss = softmax_cross_entropy(x, Tensor::from_vector<int64_t>({0, 1}, {2})).item<float>();
  EXPECT_NEAR(loss, 0.5 * std::log(2.0), 1e-6);
}

}  // namespace
}  // namespace sinew::testing
