// Elementwise operations and their derivatives.
#include <array>

#include "core/ops/common.h"

namespace sinew {
namespace {

Tensor run_unary(UnaryOp op, const char* name, const Tensor& x, double p0 = 0, double p1 = 0) {
  ops::check_float_or_bf16(name, x);
  Tensor y = ops::like(x);
  if (x.numel()) kernels(x.device()).unary({op, x.dtype(), x.numel(), x.data(), y.data(), p0, p1});
  return y;
}

// Strides of `shape` seen as `full`: 0 on broadcast axes.
void broadcast_strides(const Shape& shape, const Shape& full, int64_t* strides) {
  int64_t stride = 1;
  for (int i = full.ndim() - 1, k = shape.ndim() - 1; i >= 0; --i, --k) {
    const int64_t extent = k >= 0 ? shape[k] : 1;
    strides[i] = extent == 1 ? 0 : stride;
    stride *= extent;
  }
}

Tensor run_binary(BinaryOp op, const char* name, const Tensor& a, const Tensor& b) {
  ops::check_pair(name, a, b);
  kernel::BinaryArgs args{};
  args.op = op;
  args.dtype = a.dtype();
  args.a = a.data();
  args.b = b.data();
  Tensor y;
  if (a.shape() == b.shape()) {
    y = ops::like(a);
    args.ndim = 1;
    args.shape[0] = a.numel();
    args.stride_a[0] = args.stride_b[0] = 1;
  } else {
    const Shape shape = broadcast_shapes(a.shape(), b.shape(), name);
    y = Tensor::empty(shape, a.dtype(), a.device());
    args.ndim = shape.ndim();
    for (int i = 0; i < shape.ndim(); ++i) args.shape[i] = shape[i];
    broadcast_strides(a.shape(), shape, args.stride_a);
    broadcast_strides(b.shape(), shape, args.stride_b);
  }
  args.y = y.data();
  if (y.numel()) kernels(a.device()).binary(args);
  return y;
}

// Sends a cotangent of the broadcast shape back to operand i.
void give(const VjpContext& ctx, std::span<Tensor> out, size_t i, const Tensor& g) {
  out[i] = sum_to(g, ctx.inputs[i].shape());
}

}  // namespace

Tensor affine(const Tensor& x, double scale, double shift) {
  return record(run_unary(UnaryOp::affine, "affine", x, scale, shift), {x}, "affine",
                [scale](const VjpContext& ctx, std::span<Tensor> out) { out[0] = affine(ctx.cotangent, scale, 0); });
}
Tensor abs(const Tensor& x) {
  return record(run_unary(UnaryOp::abs, "abs", x), {x}, "abs",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = ctx.cotangent * sign(ctx.inputs[0]); });
}
Tensor exp(const Tensor& x) {
  return record(run_unary(UnaryOp::exp, "exp", x), {x}, "exp",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = ctx.cotangent * ctx.output; });
}
Tensor log(const Tensor& x) {
  return record(run_unary(UnaryOp::log, "log", x), {x}, "log",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = ctx.cotangent / ctx.inputs[0]; });
}
Tensor sqrt(const Tensor& x) {
  return record(run_unary(UnaryOp::sqrt, "sqrt", x), {x}, "sqrt",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = 0.5 * (ctx.cotangent / ctx.output); });
}
Tensor reciprocal(const Tensor& x) {
  return record(run_unary(UnaryOp::reciprocal, "reciprocal", x), {x}, "reciprocal",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = -(ctx.cotangent * square(ctx.output)); });
}
Tensor square(const Tensor& x) {
  return record(run_unary(UnaryOp::square, "square", x), {x}, "square",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = 2.0 * (ctx.cotangent * ctx.inputs[0]); });
}
Tensor pow(const Tensor& x, double exponent) {
  return record(run_unary(UnaryOp::pow, "pow", x, exponent), {x}, "pow",
                [exponent](const VjpContext& ctx, std::span<Tensor> out) {
                  out[0] = exponent * (ctx.cotangent * pow(ctx.inputs[0], exponent - 1));
                });
}
Tensor sin(const Tensor& x) {
  return record(run_unary(UnaryOp::sin, "sin", x), {x}, "sin",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = ctx.cotangent * cos(ctx.inputs[0]); });
}
Tensor cos(const Tensor& x) {
  return record(run_unary(UnaryOp::cos, "cos", x), {x}, "cos",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = -(ctx.cotangent * sin(ctx.inputs[0])); });
}
Tensor tanh(const Tensor& x) {
  return record(run_unary(UnaryOp::tanh, "tanh", x), {x}, "tanh",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = tanh_grad(ctx.cotangent, ctx.output); });
}
Tensor sigmoid(const Tensor& x) {
  return record(run_unary(UnaryOp::sigmoid, "sigmoid", x), {x}, "sigmoid",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = sigmoid_grad(ctx.cotangent, ctx.output); });
}
Tensor softplus(const Tensor& x) {
  return record(run_unary(UnaryOp::softplus, "softplus", x), {x}, "softplus",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = ctx.cotangent * sigmoid(ctx.inputs[0]); });
}
Tensor relu(const Tensor& x) {
  return record(run_unary(UnaryOp::relu, "relu", x), {x}, "relu",
                [](const VjpContext& ctx, std::span<Tensor> out) { out[0] = relu_grad(ctx.cotangent, ctx.output); });
}
// Piecewise constant: the derivative is zero, which an undefined cotangent says.
Tensor sign(const Tensor& x) {
  return record(run_unary(UnaryOp::sign, "sign", x), {x}, "sign", [](const VjpContext&, std::span<Tensor>) {});
}
Tensor step(const Tensor& x) {
  return record(run_unary(UnaryOp::step, "step", x), {x}, "step", [](const VjpContext&, std::span<Tensor>) {});
}

Tensor add(const Tensor& a, const Tensor& b) {
  return record(run_binary(BinaryOp::add, "add", a, b), {a, b}, "add",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  if (ctx.needs(0)) give(ctx, out, 0, ctx.cotangent);
                  if (ctx.needs(1)) give(ctx, out, 1, ctx.cotangent);
                });
}
Tensor add_relu(const Tensor& a, const Tensor& b) {
  return record(run_binary(BinaryOp::add_relu, "add_relu", a, b), {a, b}, "add_relu",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor g = relu_grad(ctx.cotangent, ctx.output);
                  if (ctx.needs(0)) give(ctx, out, 0, g);
                  if (ctx.needs(1)) give(ctx, out, 1, g);
                });
}
Tensor sub(const Tensor& a, const Tensor& b) {
  return record(run_binary(BinaryOp::sub, "sub", a, b), {a, b}, "sub",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  if (ctx.needs(0)) give(ctx, out, 0, ctx.cotangent);
                  if (ctx.needs(1)) give(ctx, out, 1, -ctx.cotangent);
                });
}
Tensor mul(const Tensor& a, const Tensor& b) {
  return record(run_binary(BinaryOp::mul, "mul", a, b), {a, b}, "mul",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  if (ctx.needs(0)) give(ctx, out, 0, ctx.cotangent * ctx.inputs[1]);
                  if (ctx.needs(1)) give(ctx, out, 1, ctx.cotangent * ctx.inputs[0]);
                });
}
Tensor div(const Tensor& a, const Tensor& b) {
  return record(run_binary(BinaryOp::div, "div", a, b), {a, b}, "div",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor g = ctx.cotangent / ctx.inputs[1];
                  if (ctx.needs(0)) give(ctx, out, 0, g);
                  if (ctx.needs(1)) give(ctx, out, 1, -(g * ctx.output));
                });
}

namespace {
// maximum and minimum hand the cotangent to whichever operand was taken.
Tensor pick(BinaryOp op, const char* name, const Tensor& a, const Tensor& b) {
  const bool larger = op == BinaryOp::maximum;
  return record(run_binary(op, name, a, b), {a, b}, name, [larger](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor& a = ctx.inputs[0];
    const Tensor& b = ctx.inputs[1];
    const Tensor took_a = larger ? greater(a, b) : greater(b, a);
    if (ctx.needs(0)) give(ctx, out, 0, ctx.cotangent * took_a);
    if (ctx.needs(1)) give(ctx, out, 1, ctx.cotangent * affine(took_a, -1, 1));
  });
}
Tensor constant(BinaryOp op, const char* name, const Tensor& a, const Tensor& b) {
  return record(run_binary(op, name, a, b), {a, b}, name, [](const VjpContext&, std::span<Tensor>) {});
}
}  // namespace

Tensor maximum(const Tensor& a, const Tensor& b) { return pick(BinaryOp::maximum, "maximum", a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return pick(BinaryOp::minimum, "minimum", a, b); }
Tensor greater(const Tensor& a, const Tensor& b) { return constant(BinaryOp::greater, "greater", a, b); }
Tensor equal(const Tensor& a, const Tensor& b) { return constant(BinaryOp::equal, "equal", a, b); }

Tensor relu_grad(const Tensor& g, const Tensor& y) {
  ops::check_same("relu_grad", g, y);
  return record(run_binary(BinaryOp::relu_grad, "relu_grad", g, y), {g, y}, "relu_grad",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  if (ctx.needs(0)) out[0] = relu_grad(ctx.cotangent, ctx.inputs[1]);
                });
}
Tensor tanh_grad(const Tensor& g, const Tensor& y) {
  ops::check_same("tanh_grad", g, y);
  return record(run_binary(BinaryOp::tanh_grad, "tanh_grad", g, y), {g, y}, "tanh_grad",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor &g = ctx.inputs[0], &y = ctx.inputs[1];
                  if (ctx.needs(0)) out[0] = tanh_grad(ctx.cotangent, y);
                  if (ctx.needs(1)) out[1] = -2.0 * (ctx.cotangent * g * y);
                });
}
Tensor sigmoid_grad(const Tensor& g, const Tensor& y) {
  ops::check_same("sigmoid_grad", g, y);
  return record(run_binary(BinaryOp::sigmoid_grad, "sigmoid_grad", g, y), {g, y}, "sigmoid_grad",
                [](const VjpContext& ctx, std::span<Tensor> out) {
                  const Tensor &g = ctx.inputs[0], &y = ctx.inputs[1];
                  if (ctx.needs(0)) out[0] = sigmoid_grad(ctx.cotangent, y);
                  if (ctx.needs(1)) out[1] = ctx.cotangent * g * affine(y, -2, 1);
                });
}

Tensor where(const Tensor& mask, const Tensor& a, const Tensor& b) {
  ops::check_same("where", mask, a);
  ops::check_same("where", a, b);
  Tensor y = ops::like(a);
  if (a.numel()) kernels(a.device()).where({a.dtype(), a.numel(), mask.data(), a.data(), b.data(), y.data()});
  return record(y, {mask, a, b}, "where", [](const VjpContext& ctx, std::span<Tensor> out) {
    const Tensor zero = Tensor::zeros(ctx.cotangent.shape(), ctx.cotangent.dtype(), ctx.cotangent.device());
    if (ctx.needs(1)) out[1] = where(ctx.inputs[0], ctx.cotangent, zero);
    if (ctx.needs(2)) out[2] = where(ctx.inputs[0], zero, ctx.cotangent);
  });
}

Tensor cast(const Tensor& x, DType dtype) {
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  if (x.numel()) kernels(x.device()).cast({x.dtype(), dtype, x.numel(), x.data(), y.data()});
  if (!is_float_or_bf16(x.dtype()) || !is_float_or_bf16(dtype)) return y;
  return record(y, {x}, "cast", [](const VjpContext& ctx, std::span<Tensor> out) {
    out[0] = cast(ctx.cotangent, ctx.inputs[0].dtype());
  });
}

}  // namespace sinew
