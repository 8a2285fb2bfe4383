#include "optim/vector_math.h"

namespace sinew::optim {
namespace {

void check_same(const char* op, ConstVecView a, ConstVecView b) {
  SINEW_CHECK(a.size == b.size && a.dtype == b.dtype && a.device == b.device, op, "operands differ: ", a.size, " ",
              to_string(a.dtype), " on ", to_string(a.device), " and ", b.size, " ", to_string(b.dtype), " on ",
              to_string(b.device));
}

}  // namespace

void map(UnaryOp op, ConstVecView x, VecView y, double p0, double p1) {
  check_same("map", x, y);
  if (x.size) kernels(x.device).unary({op, x.dtype, x.size, x.data, y.data, p0, p1});
}

void combine(BinaryOp op, ConstVecView a, ConstVecView b, VecView y) {
  check_same("combine", a, b);
  check_same("combine", a, y);
  if (a.size) kernels(a.device).binary({op, a.dtype, 1, {a.size}, {1}, {1}, a.data, b.data, y.data});
}

}  // namespace sinew::optim
