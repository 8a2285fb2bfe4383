// The update rules, as pure functions on flat vectors. Each obeys its conservation law, tested in tests/dist.
// Floats only; all operands share length, type and device. Errors: Error on mismatches.
#pragma once

#include <algorithm>
#include <span>

#include "core/vec.h"

namespace sinew::dist {

// d = alpha (x - c). EASGD Algorithm 1, lines a) and b) share this number (arXiv:1412.6651v8, section 3.1).
// Returns ||x - c||^2.
double elastic_difference(double alpha, ConstVecView x, ConstVecView c, VecView d);
// d = alpha (x - c), x -= d, c += d: sum x + c is conserved. Returns ||x - c||^2 before the move.
double elastic_move(double alpha, VecView x, VecView c);
// x += alpha (y - x). Returns ||x - y||^2 before.
double move_toward(double alpha, ConstVecView y, VecView x);
// v = momentum v + u, c += v: the master of MDOWNPOUR (Zhang, PhD thesis 2016, Algorithm 5, with u = -eta g).
// Conserved: c + momentum / (1 - momentum) v moves by u / (1 - momentum).
void momentum_move(double momentum, ConstVecView u, VecView v, VecView c);
// mean += rate (c - mean), for c in host memory. The mean is kept in double: with rate = 1 / t its last bits would
// otherwise stop moving.
void average_toward(double rate, ConstVecView c, std::span<double> mean);
// fn(offset, length) over [0, size) in parts, until it returns false. A handler's arithmetic goes in such parts, below
// the size at which the CPU kernels use several threads: a second pool of threads, for the communication thread, would
// compete with the training thread's.
template <class Fn>
bool in_parts(int64_t size, Fn fn) {
  constexpr int64_t kPart = 1 << 14;
  for (int64_t at = 0; at < size; at += kPart)
    if (!fn(at, std::min(kPart, size - at))) return false;
  return true;
}
// y += a x.
void accumulate(double a, ConstVecView x, VecView y);

}  // namespace sinew::dist
