// The update rules, as pure functions on flat vectors. Each obeys its conservation law, tested in tests/dist.
// Floats only; all operands share length, type and device. Errors: Error on mismatches.
#pragma once

#include "core/vec.h"

namespace sinew::dist {

// d = alpha (x - c). EASGD Algorithm 1, lines a) and b) share this number (arXiv:1412.6651v8, section 3.1).
// Returns ||x - c||^2.
double elastic_difference(double alpha, ConstVecView x, ConstVecView c, VecView d);
// d = alpha (x - c), x -= d, c += d: sum x + c is conserved. Returns ||x - c||^2 before the move.
double elastic_move(double alpha, VecView x, VecView c);
// y += a x.
void accumulate(double a, ConstVecView x, VecView y);

}  // namespace sinew::dist
