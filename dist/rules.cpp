#include "dist/rules.h"

#include "core/kernel_api.h"

namespace sinew::dist {
namespace {

double elastic(const char* op, double alpha, const void* x, const void* c, void* d, ConstVecView like, bool move) {
  SINEW_CHECK(is_float(like.dtype), op, "needs f32 or f64, got ", to_string(like.dtype));
  if (like.size == 0) return 0;
  StorageRef result(Storage::allocate(sizeof(double), like.device));
  const KernelTable& table = kernels(like.device);
  // Without the flags the kernel only reads x and c.
  table.elastic({like.dtype, like.size, alpha, const_cast<void*>(x), const_cast<void*>(c), d, move, move,
                 static_cast<double*>(result->data())});
  double distance2;
  table.download(&distance2, result->data(), sizeof distance2);
  return distance2;
}

void check_same(const char* op, ConstVecView a, ConstVecView b) {
  SINEW_CHECK(a.size == b.size && a.dtype == b.dtype && a.device == b.device, op, "operands differ: ", a.size, " ",
              to_string(a.dtype), " on ", to_string(a.device), " and ", b.size, " ", to_string(b.dtype), " on ",
              to_string(b.device));
}

}  // namespace

double elastic_difference(double alpha, ConstVecView x, ConstVecView c, VecView d) {
  check_same("elastic_difference", x, c);
  check_same("elastic_difference", x, d);
  return elastic("elastic_difference", alpha, x.data, c.data, d.data, x, false);
}

double elastic_move(double alpha, VecView x, VecView c) {
  check_same("elastic_move", x, c);
  return elastic("elastic_move", alpha, x.data, c.data, nullptr, x, true);
}

void accumulate(double a, ConstVecView x, VecView y) { axpby(a, x, 1.0, y, y); }

}  // namespace sinew::dist
