// Elementwise arithmetic on flat vectors, on every device: what transforms are written with beside core/vec.h.
//
// Functions throw Error when lengths, types or devices differ. Results may overwrite an operand.
//
// Example:
//   map(UnaryOp::square, u, scratch);                     // scratch = u^2
//   average_into(v, 0.999, scratch);                      // v = 0.999 v + 0.001 scratch
//   combine(BinaryOp::div, u, v, u);                      // u = u / v
#pragma once

#include "core/kernel_api.h"
#include "core/vec.h"

namespace sinew::optim {

// y = op(x); p0, p1: the op's parameters (core/functors.h).
void map(UnaryOp op, ConstVecView x, VecView y, double p0 = 0, double p1 = 0);
// y = op(a, b).
void combine(BinaryOp op, ConstVecView a, ConstVecView b, VecView y);
// average = beta * average + (1 - beta) * value.
inline void average_into(VecView average, double beta, ConstVecView value) {
  axpby(beta, average, 1 - beta, value, average);
}

}  // namespace sinew::optim
