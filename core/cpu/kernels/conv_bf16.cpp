// Convolutions of bf16 by way of f32 (bf16.h).
#include "core/cpu/kernels/bf16.h"

namespace sinew::SINEW_CPU_NS {
namespace {

template <class T>
void widen_all(const void* x, int64_t n, float* y) {
  parallel_elements(
      n, [=](int64_t begin, int64_t end) { widen(static_cast<const T*>(x) + begin, end - begin, y + begin); });
}
void narrow_all(const float* x, int64_t n, bool add, void* to) {
  bfloat16* y = static_cast<bfloat16*>(to);
  parallel_elements(n, [=](int64_t begin, int64_t end) {
    if (!add) return narrow(x + begin, end - begin, y + begin);
    for (int64_t i = begin; i < end; ++i) y[i] = bfloat16(y[i] + float(bfloat16(x[i])));
  });
}

}  // namespace

void conv_bf16(const kernel::ConvArgs& args, ConvKind kind) {
  const int64_t x_size = args.n * args.h * args.w * args.c, y_size = args.n * args.p * args.q * args.k;
  const int64_t filter_size = args.k * args.r * args.s * args.c;
  kernel::ConvArgs wide = args;
  wide.dtype = DType::f32, wide.accumulate = false;
  const Scratch<float> x(x_size), y(y_size), filter(kind == ConvKind::dw ? 0 : filter_size);
  if (kind != ConvKind::dx) widen_all<bfloat16>(args.x, x_size, x.get());
  if (kind != ConvKind::forward) widen_all<bfloat16>(args.y, y_size, y.get());
  if (kind != ConvKind::dw) widen_all<float>(args.filter, filter_size, filter.get());
  wide.x = x.get(), wide.y = y.get(), wide.filter = filter.get();
  switch (kind) {
    case ConvKind::forward:
      wide.out = y.get();
      conv_forward(wide);
      return narrow_all(y.get(), y_size, args.accumulate, args.out);
    case ConvKind::dx:
      wide.out = x.get();
      conv_dx(wide);
      return narrow_all(x.get(), x_size, args.accumulate, args.out);
    case ConvKind::dw:
      return conv_dw(wide);
  }
}

}  // namespace sinew::SINEW_CPU_NS
