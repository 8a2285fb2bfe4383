// Matrix products: with transpose flags the family is closed under differentiation, and nothing is ever stored
// transposed. It is with bf16, too: bf16 times f32 is bf16 (activations by weights), bf16 times bf16 is f32 (their
// cotangents, into a weight's).
#include "core/ops/common.h"

namespace sinew {
namespace {

struct Sizes {
  int64_t batch, m, n, k;
};

DType product_type(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() ? wide_of(a.dtype()) : DType::bf16;
}

Sizes sizes_of(const Tensor& a, const Tensor& b, bool trans_a, bool trans_b) {
  ops::check_float_or_bf16("matmul", a);
  if (wide_of(a.dtype()) != wide_of(b.dtype()) || a.device() != b.device()) ops::check_pair("matmul", a, b);
  const int d = a.ndim();
  SINEW_CHECK((d == 2 || d == 3) && b.ndim() == d, "matmul", "of shapes ", a.shape(), " and ", b.shape(),
              "; needs two matrices or two batches of matrices");
  const Sizes s{d == 3 ? a.dim(0) : 1, a.dim(trans_a ? -1 : -2), b.dim(trans_b ? -2 : -1), a.dim(trans_a ? -2 : -1)};
  SINEW_CHECK(b.dim(trans_b ? -1 : -2) == s.k && (d == 2 || b.dim(0) == s.batch), "matmul", "of shapes ", a.shape(),
              trans_a ? "^T" : "", " and ", b.shape(), trans_b ? "^T" : "", ": inner or batch extents differ");
  return s;
}

kernel::GemmArgs gemm_args(const Tensor& a, const Tensor& b, const Tensor& c, bool trans_a, bool trans_b,
                           const Sizes& s) {
  kernel::GemmArgs args{};
  const bool mixed = a.dtype() != b.dtype();
  args.dtype = mixed ? DType::bf16 : a.dtype();
  if (mixed) args.f32_operand = a.dtype() == DType::f32 ? F32Operand::a : F32Operand::b;
  args.trans_a = trans_a, args.trans_b = trans_b;
  args.m = s.m, args.n = s.n, args.k = s.k;
  args.alpha = 1, args.beta = 0;
  args.a = a.data(), args.b = b.data(), args.c = c.data();
  args.lda = a.dim(-1), args.ldb = b.dim(-1), args.ldc = s.n;
  args.batch = s.batch;
  args.batch_stride_a = s.m * s.k, args.batch_stride_b = s.k * s.n, args.batch_stride_c = s.m * s.n;
  return args;
}

// Activation's derivative from its own result.
Tensor activation_grad(Activation act, const Tensor& g, const Tensor& y) {
  switch (act) {
    case Activation::relu:
      return relu_grad(g, y);
    case Activation::tanh:
      return tanh_grad(g, y);
    case Activation::sigmoid:
      return sigmoid_grad(g, y);
    case Activation::none:
      break;
  }
  return g;
}

}  // namespace

namespace ops {
Tensor matmul_into(const Tensor& a, const Tensor& b, bool trans_a, bool trans_b, const Tensor& destination) {
  const Sizes s = sizes_of(a, b, trans_a, trans_b);
  const Shape shape = a.ndim() == 3 ? Shape{s.batch, s.m, s.n} : Shape{s.m, s.n};
  Tensor c = output(destination, shape, product_type(a, b), a);
  if (c.numel() == 0) return c;
  if (s.k == 0)
    fill(c.output_view(), 0);
  else
    kernels(a.device()).gemm(gemm_args(a, b, c, trans_a, trans_b, s));
  return c;
}
}  // namespace ops

Tensor matmul(const Tensor& a, const Tensor& b, bool trans_a, bool trans_b) {
  return record(ops::matmul_into(a, b, trans_a, trans_b, Tensor()), {a, b}, "matmul",
                [trans_a, trans_b](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor &a = ctx.inputs[0], &b = ctx.inputs[1], &g = ctx.cotangent;
                  if (ctx.needs(0)) out[0] = trans_a ? matmul(b, g, trans_b, true) : matmul(g, b, false, !trans_b);
                  if (ctx.needs(1)) out[1] = trans_b ? matmul(g, a, true, trans_a) : matmul(a, g, !trans_a, false);
                });
}

Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias, Activation act) {
  SINEW_CHECK(x.ndim() == 2 && w.ndim() == 2, "linear", "x ", x.shape(), " and w ", w.shape(), " must be matrices");
  const Sizes s = sizes_of(x, w, false, true);
  ops::check_beside("linear", x, w);
  Tensor y = Tensor::empty({s.m, s.n}, x.dtype(), x.device());
  kernel::GemmArgs args = gemm_args(x, w, y, false, true, s);
  args.act = act;
  if (bias.defined()) {
    ops::check_beside("linear", x, bias);
    SINEW_CHECK(bias.shape() == Shape({s.n}), "linear", "bias ", bias.shape(), " for ", s.n, " outputs");
    args.bias = bias.data();
  }
  SINEW_CHECK(s.k > 0, "linear", "no input features: x ", x.shape());
  if (y.numel()) kernels(x.device()).gemm(args);
  auto vjp = [act](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor &x = ctx.inputs[0], &w = ctx.inputs[1];
    const Tensor g = activation_grad(act, ctx.cotangent, ctx.output);
    if (ctx.needs(0)) out[0] = matmul(g, w);
    const bool plain = !recording({g, x});
    if (ctx.needs(1))
      out[1] = plain ? ops::matmul_into(g, x, true, false, ctx.destination(1)) : matmul(g, x, true, false);
    if (ctx.inputs.size() > 2 && ctx.needs(2)) out[2] = plain ? ops::sum_rows_into(g, ctx.destination(2)) : sum(g, {0});
  };
  return bias.defined() ? record(std::move(y), {x, w, bias}, "linear", vjp)
                        : record(std::move(y), {x, w}, "linear", vjp);
}

}  // namespace sinew
