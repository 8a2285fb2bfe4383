#include "dist/rules.h"

#include "core/kernel_api.h"

namespace sinew::dist {
namespace {

double elastic(const char* op, double alpha, const void* x, const void* c, void* d, ConstVecView like, bool move_x,
               bool move_c) {
  SINEW_CHECK(is_float(like.dtype), op, "needs f32 or f64, got ", to_string(like.dtype));
  if (like.size == 0) return 0;
  StorageRef result(Storage::allocate(sizeof(double), like.device));
  const KernelTable& table = kernels(like.device);
  // Without the flags the kernel only reads x and c.
  table.elastic({like.dtype, like.size, alpha, const_cast<void*>(x), const_cast<void*>(c), d, move_x, move_c,
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
  return elastic("elastic_difference", alpha, x.data, c.data, d.data, x, false, false);
}

double elastic_move(double alpha, VecView x, VecView c) {
  check_same("elastic_move", x, c);
  return elastic("elastic_move", alpha, x.data, c.data, nullptr, x, true, true);
}

double move_toward(double alpha, ConstVecView y, VecView x) {
  check_same("move_toward", x, y);
  return elastic("move_toward", alpha, x.data, y.data, nullptr, x, true, false);
}

void momentum_move(double momentum, ConstVecView u, VecView v, VecView c) {
  check_same("momentum_move", u, v);
  check_same("momentum_move", u, c);
  axpby(1.0, u, momentum, v, v);
  accumulate(1.0, v, c);
}

void average_toward(double rate, ConstVecView c, std::span<double> mean) {
  SINEW_CHECK(is_float(c.dtype) && c.device == Device::cpu && c.size == static_cast<int64_t>(mean.size()),
              "average_toward", c.size, " ", to_string(c.dtype), " on ", to_string(c.device), " into ", mean.size(),
              " f64 on cpu");
  auto move = [&](const auto* from) {
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += rate * (static_cast<double>(from[i]) - mean[i]);
  };
  if (c.dtype == DType::f32)
    move(static_cast<const float*>(c.data));
  else
    move(static_cast<const double*>(c.data));
}

void accumulate(double a, ConstVecView x, VecView y) { axpby(a, x, 1.0, y, y); }

}  // namespace sinew::dist
