// The lists of elementwise operations. Each name is: an enumerator of UnaryOp / BinaryOp, a functor in
// core/functors.h, a differentiable op in core/ops/elementwise.cpp, and a row of tests/core/op_table.cpp.
// How to add one: core/README.md.
#pragma once

// Floating-point only. p0 and p1 are the operation's own constants.
#define SINEW_UNARY_OPS(X)       \
  X(affine) /* p0 * x + p1 */    \
  X(abs)                         \
  X(exp)                         \
  X(log)                         \
  X(sqrt)                        \
  X(reciprocal)                  \
  X(square)                      \
  X(pow) /* x ^ p0 */            \
  X(sin)                         \
  X(cos)                         \
  X(tanh)                        \
  X(sigmoid)                     \
  X(softplus) /* log(1 + e^x) */ \
  X(relu)                        \
  X(sign) /* -1, 0, 1 */         \
  X(step) /* 1 where x > 0, else 0 */

// All types; both operands have the same type. The *_grad entries are first derivatives used on hot paths.
#define SINEW_BINARY_OPS(X)                    \
  X(add)                                       \
  X(sub)                                       \
  X(mul)                                       \
  X(div)                                       \
  X(maximum)                                   \
  X(minimum)                                   \
  X(greater)      /* 1 where a > b, else 0 */  \
  X(equal)        /* 1 where a == b, else 0 */ \
  X(add_relu)     /* max(a + b, 0) */          \
  X(relu_grad)    /* a where b > 0, else 0 */  \
  X(tanh_grad)    /* a * (1 - b * b) */        \
  X(sigmoid_grad) /* a * b * (1 - b) */
