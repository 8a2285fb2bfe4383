// Convolutions in bf16: operands as the tensor cores' kernels take them, then conv.cpp's way. Filters are rounded to
// bf16 by a pass of their own, channels that make no whole groups of 16 bytes are filled up with zeros.
#include "cuda/conv_plan.h"
#include "cuda/packed_bf16.h"
#include "cuda/scratch.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// (pixels, channels)
Bf16Source image(const void* data, int64_t pixels, int64_t channels) {
  return {data, false, 1, pixels, channels, channels, 0};
}
// (filters, taps, c), and zeros up to that many filters.
PackedBf16 filters_of(const kernel::ConvArgs& a, int64_t filters) {
  return {Bf16Source{a.filter, true, 1, a.k * a.r * a.s, a.c, a.c, 0}, filters * a.r * a.s};
}

// The first `cols` of every row of `from`.
void crop(DType dtype, int64_t rows, int64_t cols, int64_t ld, const void* from, void* to) {
  strided_copy({dtype, 2, {rows, cols}, {ld, 1}, {cols, 1}, from, to});
}

}  // namespace

void conv_forward_bf16(const kernel::ConvArgs& args) {
  const PackedBf16 x(image(args.x, args.n * args.h * args.w, args.c)), filter = filters_of(args, args.k);
  kernel::ConvArgs packed = args;
  packed.c = x.ld(), packed.x = x.data(), packed.filter = filter.data();
  conv_forward_packed_bf16(packed);
}

void conv_dx_bf16(const kernel::ConvArgs& args) {
  const PackedBf16 y(image(args.y, args.n * args.p * args.q, args.k)), filter = filters_of(args, y.ld());
  kernel::ConvArgs packed = args;
  packed.c = filter.ld(), packed.k = y.ld(), packed.y = y.data(), packed.filter = filter.data();
  if (packed.c == args.c) return conv_dx_packed_bf16(packed);
  const int64_t pixels = args.n * args.h * args.w, n = pixels * args.c;
  const Scratch wide(pixels * packed.c * 2), dx(args.accumulate ? n * 2 : 0);
  packed.out = wide.data(), packed.accumulate = false;
  conv_dx_packed_bf16(packed);
  crop(DType::bf16, pixels, args.c, packed.c, wide.data(), args.accumulate ? dx.data() : args.out);
  if (args.accumulate) binary({BinaryOp::add, DType::bf16, 1, {n}, {1}, {1}, args.out, dx.data(), args.out});
}

void conv_dw_bf16(const kernel::ConvArgs& args) {
  const PackedBf16 x(image(args.x, args.n * args.h * args.w, args.c)),
      y(image(args.y, args.n * args.p * args.q, args.k));
  kernel::ConvArgs packed = args;
  packed.c = x.ld(), packed.k = y.ld(), packed.x = x.data(), packed.y = y.data();
  if (packed.c == args.c && packed.k == args.k) return conv_dw_packed_bf16(packed);
  const int64_t taps = args.r * args.s;
  const Scratch dw(packed.k * taps * packed.c * 4);
  packed.out = dw.data();
  conv_dw_packed_bf16(packed);
  crop(DType::f32, args.k * taps, args.c, packed.c, dw.data(), args.out);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
