// Host side of conv.cu and conv_dw.cu.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda/entries.h"
#include "cuda/install.h"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Kernels count pixels, and elements from a tile's first image on, in 32 bits.
constexpr int64_t kMaxCount = (int64_t{1} << 31) - (int64_t{1} << 24);
// dw is split over pixels until the blocks fill this many multiprocessors (of a large GPU), but not into chunks shorter
// than kSmallestChunk. It depends on the shape alone, never on the GPU: the same sums everywhere. Not tuned yet.
constexpr int64_t kMultiprocessors = 132, kSmallestChunk = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T>
bool packs(int64_t extent) {
  return extent % static_cast<int64_t>(16 / sizeof(T)) == 0;
}

// For float; pack: all operands allow accesses of 16 bytes.
bool on_tensor_cores(bool pack) { return pack && matmul_precision() == MatmulPrecision::tf32; }
template <class T>
CorrelationKernel<T> choose_correlation(bool forward, bool pack, int64_t pixels, int64_t outputs) {
  if constexpr (std::is_same_v<T, float>)
    if (on_tensor_cores(pack)) return correlation_tensor_kernel(forward, pixels, outputs);
  return correlation_kernel<T>(forward, pack, pixels, outputs);
}
template <class T>
ConvDwKernel<T> choose_dw(bool pack, int64_t filters) {
  if constexpr (std::is_same_v<T, float>)
    if (on_tensor_cores(pack)) return conv_dw_tensor_kernel(filters);
  return conv_dw_kernel<T>(pack, filters);
}

void check_limits(const kernel::ConvArgs& a) {
  SINEW_CHECK(a.n * a.h * a.w < kMaxCount && a.n * a.p * a.q < kMaxCount && a.k * a.r * a.s * a.c < kMaxCount, "conv",
              "x (", a.n, ", ", a.h, ", ", a.w, ", ", a.c, "), filters (", a.k, ", ", a.r, ", ", a.s, ", ", a.c,
              "): more than ", kMaxCount, " pixels or elements of the filters");
}

void check_span(int64_t images, int64_t image_elements) {
  SINEW_CHECK(images * image_elements < kMaxCount, "conv", images, " images of ", image_elements,
              " elements together are too large for one tile");
}

template <class T>
void correlate(bool forward, const CorrelationShape& shape, const CorrelationParts& parts, int64_t count,
               const kernel::ConvArgs& a) {
  const T* source = static_cast<const T*>(forward ? a.x : a.y);
  const T* filter = static_cast<const T*>(a.filter);
  const bool pack =
      packs<T>(shape.channels) && (forward || packs<T>(shape.outputs)) && aligned(source) && aligned(filter);
  int64_t pixels = 0, per_image = kMaxCount;
  for (int64_t i = 0; i < count; ++i) {
    pixels = std::max<int64_t>(pixels, parts.at[i].pixels);
    per_image = std::min<int64_t>(per_image, parts.at[i].per_image.divisor);
  }
  const CorrelationKernel<T> kernel = choose_correlation<T>(forward, pack, pixels * count, shape.outputs);
  check_span(std::min<int64_t>(a.n, kernel.tile_m / per_image + 2), shape.source_image);
  const int64_t blocks = ceil_div(pixels, kernel.tile_m) * ceil_div(shape.outputs, kernel.tile_n);
  SINEW_CHECK(blocks < kMaxCount, "conv", "the output is too large for one launch");
  launch(kernel.kernel, {static_cast<unsigned>(blocks), static_cast<unsigned>(count)}, {kernel.threads},
         kernel.shared_bytes, stream(), source, filter, forward ? static_cast<const T*>(a.bias) : nullptr,
         static_cast<T*>(a.out), shape, parts);
}

int as_int(int64_t value) { return static_cast<int>(value); }

template <class T>
void run_forward(const kernel::ConvArgs& a) {
  const CorrelationShape shape{as_int(a.h),
                               as_int(a.w),
                               as_int(a.c),
                               as_int(a.k),
                               as_int(a.stride_h),
                               as_int(a.stride_w),
                               0,
                               0,
                               0,
                               as_int(a.q * a.k),
                               as_int(a.k),
                               a.h * a.w * a.c,
                               a.p * a.q * a.k,
                               a.act == Activation::relu,
                               packs<T>(a.k) && aligned(a.out)};
  CorrelationParts parts{};
  parts.at[0] = {as_int(a.n * a.p * a.q),
                 divider(a.p * a.q),
                 divider(a.q),
                 as_int(a.r),
                 as_int(a.s),
                 as_int(-a.pad_h),
                 as_int(-a.pad_w),
                 0,
                 0};
  correlate<T>(true, shape, parts, 1, a);
}

// Along one axis, the targets whose position is `residue` modulo the stride. Their taps are first_tap, first_tap +
// stride..., and tap t of target number i is reached from source i + base - t.
struct Residue {
  int64_t count, taps, first_tap, base;
};
Residue residue_of(int64_t residue, int64_t extent, int64_t taps, int64_t stride, int64_t pad) {
  const int64_t first_tap = (residue + pad) % stride;
  return {ceil_div(extent - residue, stride), first_tap < taps ? ceil_div(taps - first_tap, stride) : 0, first_tap,
          (residue + pad - first_tap) / stride};
}

template <class T>
void run_dx(const kernel::ConvArgs& a) {
  const CorrelationShape shape{as_int(a.p),
                               as_int(a.q),
                               as_int(a.k),
                               as_int(a.c),
                               1,
                               1,
                               as_int(a.r * a.s * a.c),
                               as_int(a.stride_w * a.c),
                               as_int(a.stride_h * a.s * a.c),
                               as_int(a.stride_h * a.w * a.c),
                               as_int(a.stride_w * a.c),
                               a.p * a.q * a.k,
                               a.h * a.w * a.c,
                               false,
                               packs<T>(a.c) && aligned(a.out)};
  CorrelationParts parts{};
  int64_t count = 0;
  for (int64_t i = 0; i < std::min(a.stride_h, a.h); ++i)
    for (int64_t j = 0; j < std::min(a.stride_w, a.w); ++j) {
      const Residue h = residue_of(i, a.h, a.r, a.stride_h, a.pad_h);
      const Residue w = residue_of(j, a.w, a.s, a.stride_w, a.pad_w);
      const bool any = h.taps > 0 && w.taps > 0;
      parts.at[count++] = {as_int(a.n * h.count * w.count),
                           divider(h.count * w.count),
                           divider(w.count),
                           any ? as_int(h.taps) : 0,
                           any ? as_int(w.taps) : 0,
                           as_int(h.base),
                           as_int(w.base),
                           as_int((h.first_tap * a.s + w.first_tap) * a.c),
                           as_int((i * a.w + j) * a.c)};
      if (count == kMaxCorrelationParts) {
        correlate<T>(false, shape, parts, count, a);
        count = 0;
      }
    }
  if (count > 0) correlate<T>(false, shape, parts, count, a);
}

ConvDwShape dw_shape(const kernel::ConvArgs& a, int64_t chunk, int64_t depth, bool pack_out) {
  ConvDwShape s{};
  s.filters = as_int(a.k), s.columns = as_int(a.r * a.s * a.c);
  s.pixels = as_int(a.n * a.p * a.q), s.chunk = as_int(chunk);
  s.h = as_int(a.h), s.w = as_int(a.w), s.c = as_int(a.c), s.taps_w = as_int(a.s);
  s.p = as_int(a.p), s.q = as_int(a.q);
  s.stride_h = as_int(a.stride_h), s.stride_w = as_int(a.stride_w);
  s.pad_h = as_int(a.pad_h), s.pad_w = as_int(a.pad_w);
  s.x_image = a.h * a.w * a.c;
  s.skip_h = as_int(depth / a.q % a.p * a.stride_h);
  s.skip_w = as_int(depth % a.q * a.stride_w);
  s.skip = as_int(depth / (a.p * a.q) * s.x_image + (s.skip_h * a.w + s.skip_w) * a.c);
  s.wrap_row = as_int((a.stride_h * a.w - a.q * a.stride_w) * a.c);
  s.wrap_image = as_int(s.x_image - a.p * a.stride_h * a.w * a.c);
  s.end_h = as_int(a.p * a.stride_h - a.pad_h);
  s.end_w = as_int(a.q * a.stride_w - a.pad_w);
  s.pack_out = pack_out;
  return s;
}

template <class T>
void run_dw(const kernel::ConvArgs& a) {
  const T *x = static_cast<const T*>(a.x), *y = static_cast<const T*>(a.y);
  T* out = static_cast<T*>(a.out);
  const ConvDwKernel<T> kernel = choose_dw<T>(packs<T>(a.k) && packs<T>(a.c) && aligned(x) && aligned(y), a.k);
  const int64_t columns = a.r * a.s * a.c, pixels = a.n * a.p * a.q;
  const int64_t tiles = ceil_div(a.k, kernel.tile_m) * ceil_div(columns, kernel.tile_n);
  const int64_t wanted =
      std::max<int64_t>(1, std::min(kMultiprocessors * kernel.blocks / tiles, pixels / kSmallestChunk));
  const int64_t chunk = ceil_div(ceil_div(pixels, wanted), kernel.depth) * kernel.depth;
  const int64_t splits = ceil_div(pixels, chunk);
  check_span(std::min(a.n, chunk / (a.p * a.q) + 3), a.h * a.w * a.c);
  T* const sums =
      splits == 1 ? out
                  : static_cast<T*>(memory_allocate(static_cast<size_t>(splits * a.k * columns) * sizeof(T), stream()));
  const ConvDwShape shape = dw_shape(a, chunk, kernel.depth, packs<T>(columns) && aligned(sums));
  launch(kernel.kernel, {static_cast<unsigned>(tiles), static_cast<unsigned>(splits)}, {kernel.threads},
         kernel.shared_bytes, stream(), x, y, sums, shape);
  if (splits == 1) return;
  reduce({ReduceOp::sum, a.dtype, 1, splits, a.k * columns, sums, out});
  memory_free(sums, stream());
}

}  // namespace

void conv_forward(const kernel::ConvArgs& args) {
  check_limits(args);
  SINEW_DISPATCH_FLOAT(args.dtype, "conv_forward", run_forward<T>(args));
}

void conv_dx(const kernel::ConvArgs& args) {
  check_limits(args);
  SINEW_DISPATCH_FLOAT(args.dtype, "conv_dx", run_dx<T>(args));
}

void conv_dw(const kernel::ConvArgs& args) {
  check_limits(args);
  SINEW_DISPATCH_FLOAT(args.dtype, "conv_dw", run_dw<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
