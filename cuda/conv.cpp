// Host side of conv.cu and conv_dw.cu.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "cuda/chunks.h"
#include "cuda/conv_plan.h"
#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/install.h"
#include "cuda/vendor/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// dw is split over pixels until the blocks fill the multiprocessors, but not into chunks shorter than kSmallestChunk,
// nor shares shorter than kSmallestShare. It depends on the shape alone, never on the GPU: the same sums everywhere.
constexpr int64_t kSmallestChunk = 256, kSmallestShare = 64;

bool aligned(const void* p) { return is_aligned_to(16, p); }

template <class T>
bool packs(int64_t extent) {
  return extent % static_cast<int64_t>(16 / sizeof(T)) == 0;
}

void check_limits(const kernel::ConvArgs& a) {
  SINEW_CHECK(
      a.n * a.h * a.w < kMaxConvCount && a.n * a.p * a.q < kMaxConvCount && a.k * a.r * a.s * a.c < kMaxConvCount,
      "conv", "x (", a.n, ", ", a.h, ", ", a.w, ", ", a.c, "), filters (", a.k, ", ", a.r, ", ", a.s, ", ", a.c,
      "): more than ", kMaxConvCount, " pixels or elements of the filters");
}

void check_span(int64_t images, int64_t image_elements) {
  SINEW_CHECK(images * image_elements < kMaxConvCount, "conv", images, " images of ", image_elements,
              " elements together are too large for one tile");
}

int as_int(int64_t value) { return static_cast<int>(value); }

// Memory for the sums of tiles that are not whole, given back when the kernels that use it are under way.
template <class T>
class Sums {
 public:
  Sums(int64_t blocks, int64_t tile)
      : data_(blocks == 0
                  ? nullptr
                  : static_cast<T*>(memory_allocate(static_cast<size_t>(2 * blocks * tile) * sizeof(T), stream()))) {}
  ~Sums() {
    if (data_ != nullptr) memory_free(data_, stream());
  }
  Sums(const Sums&) = delete;
  Sums& operator=(const Sums&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

template <class T>
void add_sums(const Sums<T>& sums, const T* bias, T* target, const CorrelationShape& shape,
              const CorrelationParts& parts, int64_t tiles, int tile_m, int tile_n) {
  const int64_t groups = ceil_divide(int64_t{tile_m} * tile_n, kFinishThreads * static_cast<int64_t>(16 / sizeof(T)));
  launch(correlation_finish_kernel<T>(), {static_cast<unsigned>(tiles), static_cast<unsigned>(groups)},
         {kFinishThreads}, 0, stream(), static_cast<const T*>(sums.data()), bias, target, shape, parts, tile_m, tile_n);
}

// Tiles in chunks of their sums, on the tensor cores: few tiles would leave multiprocessors idle.
template <class T>
void correlate_chunks(const ConvPlan<T>& plan, const T* source, const T* filter, const Wide<T>* bias, T* target,
                      const CorrelationShape& shape, const CorrelationParts& parts) {
  if constexpr (std::is_same_v<Wide<T>, float>) {
    const CorrelationKernel<T>& kernel = plan.kernel;
    const int64_t tile = int64_t{kernel.tile_m} * kernel.tile_n;
    const auto tiles = static_cast<unsigned>(plan.most_tiles), count = static_cast<unsigned>(shape.parts);
    const size_t bytes = static_cast<size_t>(plan.chunks * plan.most_tiles * shape.parts * tile) * sizeof(float);
    float* const sums = static_cast<float*>(memory_allocate(bytes, stream()));
    launch(kernel.kernel, {tiles, count, static_cast<unsigned>(plan.chunks)}, {kernel.threads}, kernel.shared_bytes,
           stream(), source, filter, bias, target, sums, shape, parts);
    launch(chunks_finish_kernel<T>(), {tiles, count, static_cast<unsigned>(ceil_divide(tile, 4 * kFinishThreads))},
           {kFinishThreads}, 0, stream(), sums, plan.chunks, bias, target, shape, parts, kernel.tile_m, kernel.tile_n);
    memory_free(sums, stream());
  }
}

template <class T>
void correlate(bool forward, CorrelationShape shape, const kernel::ConvArgs& a) {
  const T* source = static_cast<const T*>(forward ? a.x : a.y);
  const T* filter = static_cast<const T*>(a.filter);
  const Wide<T>* bias = forward ? static_cast<const Wide<T>*>(a.bias) : nullptr;
  T* const target = static_cast<T*>(a.out);
  const bool pack =
      packs<T>(shape.channels) && (forward || packs<T>(shape.outputs)) && aligned(source) && aligned(filter);
  const ConvPlan<T> plan = conv_plan<T>(forward, pack, a);
  const CorrelationKernel<T>& kernel = plan.kernel;
  int64_t per_image = kMaxConvCount;
  for (const CorrelationPart& part : plan.parts) per_image = std::min<int64_t>(per_image, part.per_image.divisor);
  check_span(std::min<int64_t>(a.n, kernel.tile_m / per_image + 2), shape.source_image);
  SINEW_CHECK(plan.most_tiles < kMaxConvCount, "conv", "the output is too large for one launch");
  shape.slices = as_int(plan.slices);
  shape.chunk = as_int(plan.chunk);
  shape.share = as_int(plan.share);
  const int64_t blocks = plan.share == 0 ? 0 : ceil_divide(plan.slices, plan.share);
  const Sums<Wide<T>> sums(blocks, int64_t{kernel.tile_m} * kernel.tile_n);
  for (size_t first = 0; first < plan.parts.size(); first += kMaxCorrelationParts) {
    const size_t count = std::min<size_t>(plan.parts.size() - first, kMaxCorrelationParts);
    CorrelationParts parts{};
    std::copy_n(plan.parts.begin() + static_cast<std::ptrdiff_t>(first), count, parts.at);
    shape.parts = static_cast<int>(count);
    if (plan.chunks > 1) {
      correlate_chunks<T>(plan, source, filter, bias, target, shape, parts);
      continue;
    }
    const Dim grid = blocks > 0 ? Dim{static_cast<unsigned>(blocks)}
                                : Dim{static_cast<unsigned>(plan.most_tiles), static_cast<unsigned>(count)};
    launch(kernel.kernel, grid, {kernel.threads}, kernel.shared_bytes, stream(), source, filter, bias, target,
           sums.data(), shape, parts);
    if constexpr (std::is_same_v<T, Wide<T>>)
      if (blocks > 0) add_sums<T>(sums, bias, target, shape, parts, plan.tiles, kernel.tile_m, kernel.tile_n);
  }
}

template <class T>
void run_forward(const kernel::ConvArgs& a) {
  CorrelationShape s{};
  s.source_h = as_int(a.h), s.source_w = as_int(a.w), s.channels = as_int(a.c), s.outputs = as_int(a.k);
  s.step_h = as_int(a.stride_h), s.step_w = as_int(a.stride_w);
  s.channel_step = 1, s.tap_step_w = as_int(a.c), s.tap_step_h = as_int(a.s * a.c);
  s.output_step = as_int(a.r * a.s * a.c);
  s.target_step_h = as_int(a.q * a.k), s.target_step_w = as_int(a.k);
  s.source_image = a.h * a.w * a.c, s.target_image = a.p * a.q * a.k;
  s.relu = a.act == Activation::relu;
  s.accumulate = a.accumulate;
  s.pack_target = packs<T>(a.k) && aligned(a.out);
  correlate<T>(true, s, a);
}

template <class T>
void run_dx(const kernel::ConvArgs& a) {
  CorrelationShape s{};
  s.source_h = as_int(a.p), s.source_w = as_int(a.q), s.channels = as_int(a.k), s.outputs = as_int(a.c);
  s.step_h = s.step_w = 1;
  s.channel_step = as_int(a.r * a.s * a.c);
  s.tap_step_w = as_int(a.stride_w * a.c), s.tap_step_h = as_int(a.stride_h * a.s * a.c);
  s.output_step = 1;
  s.target_step_h = as_int(a.stride_h * a.w * a.c), s.target_step_w = as_int(a.stride_w * a.c);
  s.source_image = a.p * a.q * a.k, s.target_image = a.h * a.w * a.c;
  s.accumulate = a.accumulate;
  s.pack_target = packs<T>(a.c) && aligned(a.out);
  correlate<T>(false, s, a);
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
  s.slices = divider(ceil_divide(a.n * a.p * a.q, depth));
  return s;
}

// The pixels of y along one axis whose tap exists.
struct Reach {
  int64_t first, count;
};
Reach reach_of(int64_t tap, int64_t extent, int64_t stride, int64_t pad, int64_t source) {
  const int64_t first = std::clamp<int64_t>(ceil_divide(std::max<int64_t>(pad - tap, 0), stride), 0, extent);
  const int64_t last = source - 1 + pad - tap;  // in the source, from tap 0 of the first pixel
  const int64_t end = last < 0 ? first : std::clamp<int64_t>(last / stride + 1, first, extent);
  return {first, end - first};
}

// The taps as parts, without `slices` and `first`, for a kernel of that depth.
std::vector<ConvDwTap> dw_taps(const kernel::ConvArgs& a, int64_t depth) {
  std::vector<ConvDwTap> taps;
  const int64_t x_column = a.stride_w * a.c, x_row = a.stride_h * a.w * a.c, x_image = a.h * a.w * a.c;
  const int64_t y_row = a.q * a.k, y_image = a.p * a.q * a.k;
  for (int64_t r = 0; r < a.r; ++r)
    for (int64_t s = 0; s < a.s; ++s) {
      const Reach h = reach_of(r, a.p, a.stride_h, a.pad_h, a.h), w = reach_of(s, a.q, a.stride_w, a.pad_w, a.w);
      const bool any = h.count > 0 && w.count > 0;
      const int64_t height = any ? h.count : 1, width = any ? w.count : 1;
      ConvDwTap tap{};
      tap.pixels = any ? as_int(a.n * height * width) : 0;
      tap.height = as_int(height), tap.width = as_int(width);
      tap.per_image = divider(height * width), tap.per_row = divider(width);
      tap.x = as_int((h.first * a.stride_h + r - a.pad_h) * a.w * a.c + (w.first * a.stride_w + s - a.pad_w) * a.c);
      tap.y = as_int(h.first * y_row + w.first * a.k);
      const int64_t images = depth / (height * width), i = depth / width % height, j = depth % width;
      tap.skip_i = as_int(i), tap.skip_j = as_int(j);
      tap.skip_x = as_int(images * x_image + i * x_row + j * x_column);
      tap.skip_y = as_int(images * y_image + i * y_row + j * a.k);
      tap.row_x = as_int(x_row - width * x_column), tap.row_y = as_int(y_row - width * a.k);
      tap.image_x = as_int(x_image - height * x_row), tap.image_y = as_int(y_image - height * y_row);
      taps.push_back(tap);
    }
  return taps;
}

// How dw's work is dealt out.
template <class T>
struct DwPlan {
  ConvDwKernel<T> kernel;
  int64_t tiles, chunk = 0, shares = 0;  // shares = 0: chunks
  double us = 0;                         // expected
  std::vector<ConvDwTap> taps = {};      // not empty: tap by tap, in shares
  int64_t slices = 0;                    // of all tiles
};

// Chunks: a multiprocessor has some, and their sums are all copies of the gradient. Shares: all have the same to do.
template <class T>
void estimate(DwPlan<T>& plan, int64_t pixels, double rate) {
  const ConvDwKernel<T>& k = plan.kernel;
  const double tile = static_cast<double>(k.tile_m) * k.tile_n, pixel_us = 2e-3 * tile / rate;
  const int64_t splits = plan.shares > 0 ? 1 : ceil_divide(pixels, plan.chunk);
  const int64_t blocks = plan.shares > 0 ? plan.shares : plan.tiles * splits;
  const int64_t length = plan.shares > 0 ? ceil_divide(plan.slices, blocks) * k.depth : plan.chunk;
  const int64_t sums = plan.shares > 0 ? blocks + std::min(plan.tiles, blocks) : splits == 1 ? 0 : blocks;
  const int64_t on_each = ceil_divide(blocks, kMultiprocessors);
  plan.us = static_cast<double>(on_each * length) * pixel_us * idling(on_each, k.blocks) +
            (sums > 0 ? kSecondPassUs + 2 * static_cast<double>(sums) * tile * sizeof(T) / kSumsBytesPerUs : 0);
}

// Makes the plan one of taps, and counts its slices. False where that is not possible.
template <class T>
bool by_taps(DwPlan<T>& plan, const kernel::ConvArgs& a) {
  const ConvDwKernel<T>& k = plan.kernel;
  if (k.taps.function == nullptr || a.c % k.tile_n != 0 || a.r * a.s > kMaxCorrelationParts) return false;
  const int64_t largest = std::max(a.h * a.w * a.c, a.p * a.q * a.k);
  if (a.n * largest >= kMaxConvCount) return false;
  plan.taps = dw_taps(a, k.depth);
  const int64_t tiles = plan.tiles / (a.r * a.s);
  plan.slices = 0;
  for (ConvDwTap& tap : plan.taps) {
    tap.slices = divider(std::max<int64_t>(1, ceil_divide(tap.pixels, k.depth)));
    tap.first = static_cast<int>(plan.slices);
    plan.slices += tiles * tap.slices.divisor;
  }
  return plan.slices < kMaxConvCount;
}

// Tiles, and chunks that fill the multiprocessors.
template <class T>
DwPlan<T> in_chunks(const kernel::ConvArgs& a, const ConvDwKernel<T>& kernel) {
  DwPlan<T> plan{kernel, ceil_divide(a.k, kernel.tile_m) * ceil_divide(a.r * a.s * a.c, kernel.tile_n)};
  const int64_t pixels = a.n * a.p * a.q;
  const int64_t wanted =
      std::max<int64_t>(1, std::min(kMultiprocessors * kernel.blocks / plan.tiles, pixels / kSmallestChunk));
  plan.slices = plan.tiles * ceil_divide(pixels, kernel.depth);
  plan.chunk = ceil_divide(ceil_divide(pixels, wanted), kernel.depth) * kernel.depth;
  return plan;
}

template <class T>
DwPlan<T> dw_plan(const kernel::ConvArgs& a, bool pack) {
  if constexpr (std::is_same_v<T, float>)
    if (pack && matmul_precision() == MatmulPrecision::tf32) return in_chunks<T>(a, conv_dw_tensor_kernel<T>(a.k));
  const int64_t pixels = a.n * a.p * a.q;
  const ConvChoice& choice = conv_choice();
  DwPlan<T> best{};
  for (const bool large : {true, false}) {
    if (large && choice.chosen && choice.tile == ConvTile::square) continue;
    // Half of a large tile would be empty: 148 us where the small one takes 91 (resnet50, 1x1, 64 to 256; docs/gpu.md).
    if (large && !choice.chosen && a.r * a.s * a.c <= 64) continue;
    DwPlan<T> plan = in_chunks<T>(a, conv_dw_kernel<T>(pack, a.k, large));
    const ConvDwKernel<T>& k = plan.kernel;
    const int64_t resident = kMultiprocessors * k.blocks;
    if (choice.chosen) {
      DwPlan<T> taps = plan;
      if (choice.edges && by_taps(taps, a)) plan = taps;
      if (plan.slices < kMaxConvCount) plan.shares = choice.blocks;
      return plan;
    }
    // Small gradients have few tiles and many chunks, which a second pass over shares would add up in few threads.
    if (plan.tiles < 16 || a.k <= 64 || plan.slices >= kMaxConvCount) return plan;
    const double rate = (k.tile_m == 128 ? 365 : 295) * (sizeof(T) == sizeof(float) ? 1 : 0.5);
    estimate(plan, pixels, rate);
    if (best.tiles == 0 || plan.us < best.us) best = plan;
    for (const bool taps : {false, true}) {
      if (taps && !by_taps(plan, a)) continue;
      plan.shares = std::min(resident, plan.slices / std::max<int64_t>(1, kSmallestShare / k.depth));
      if (plan.shares == 0) continue;
      estimate(plan, pixels, rate);
      if (plan.us < best.us) best = plan;
    }
  }
  return best;
}

// Equal shares of all tiles, whatever their number: for filters that make large tiles, few of which would leave
// multiprocessors idle, and whose gradient in many copies is more than the second-level cache holds.
template <class T>
void share_dw(const kernel::ConvArgs& a, const DwPlan<T>& plan) {
  const T *x = static_cast<const T*>(a.x), *y = static_cast<const T*>(a.y);
  T* const out = static_cast<T*>(a.out);
  const ConvDwKernel<T>& kernel = plan.kernel;
  const int64_t columns = a.r * a.s * a.c, share = ceil_divide(plan.slices, plan.shares);
  const int64_t blocks = ceil_divide(plan.slices, share);
  ConvDwShape shape = dw_shape(a, 0, kernel.depth, packs<T>(columns) && aligned(out));
  shape.share = as_int(share);
  shape.all = as_int(plan.slices);
  const Sums<T> sums(blocks, int64_t{kernel.tile_m} * kernel.tile_n);
  CorrelationShape target{};  // the second pass: filters are the pixels of one image
  target.target_step_h = as_int(columns);
  target.share = shape.share;
  target.pack_target = shape.pack_out;
  CorrelationParts parts{};
  for (CorrelationPart& part : parts.at) {
    part.pixels = as_int(a.k);
    part.per_image = divider(a.k);
    part.per_row = divider(1);
  }
  if (plan.taps.empty()) {
    check_span(std::min(a.n, share * kernel.depth / (a.p * a.q) + 3), a.h * a.w * a.c);
    launch(kernel.kernel, {static_cast<unsigned>(blocks)}, {kernel.threads}, kernel.shared_bytes, stream(), x, y, out,
           sums.data(), shape);
    target.parts = 1;
    target.outputs = as_int(columns);
    parts.at[0].slices = shape.slices;
  } else {
    const int count = as_int(a.r * a.s);
    const ConvDwTapsShape all{shape,
                              count,
                              as_int(plan.tiles / count),
                              as_int(a.stride_w * a.c),
                              as_int(a.stride_h * a.w * a.c),
                              as_int(a.q * a.k),
                              a.h * a.w * a.c,
                              a.p * a.q * a.k};
    ConvDwTaps taps{};
    std::copy(plan.taps.begin(), plan.taps.end(), taps.at);
    launch(kernel.taps, {static_cast<unsigned>(blocks)}, {kernel.threads}, kernel.shared_bytes, stream(), x, y, out,
           sums.data(), all, taps);
    target.parts = count;
    target.outputs = as_int(a.c);
    for (int i = 0; i < count; ++i) {
      parts.at[i].slices = taps.at[i].slices;
      parts.at[i].first = taps.at[i].first;
      parts.at[i].first_tile = i * all.tiles;
      parts.at[i].target = i * as_int(a.c);
    }
  }
  add_sums<T>(sums, nullptr, out, target, parts, plan.tiles, kernel.tile_m, kernel.tile_n);
}

// Chunks of pixels, added up in order.
template <class T>
void run_chunks(const kernel::ConvArgs& a, const DwPlan<T>& plan) {
  using W = Wide<T>;
  const ConvDwKernel<T>& kernel = plan.kernel;
  W* const out = static_cast<W*>(a.out);
  const int64_t columns = a.r * a.s * a.c, pixels = a.n * a.p * a.q, splits = ceil_divide(pixels, plan.chunk);
  check_span(std::min(a.n, plan.chunk / (a.p * a.q) + 3), a.h * a.w * a.c);
  W* const sums =
      splits == 1 ? out
                  : static_cast<W*>(memory_allocate(static_cast<size_t>(splits * a.k * columns) * sizeof(W), stream()));
  const ConvDwShape shape = dw_shape(a, plan.chunk, kernel.depth, packs<W>(columns) && aligned(sums));
  launch(kernel.kernel, {static_cast<unsigned>(plan.tiles), static_cast<unsigned>(splits)}, {kernel.threads},
         kernel.shared_bytes, stream(), static_cast<const T*>(a.x), static_cast<const T*>(a.y), sums,
         static_cast<W*>(nullptr), shape);
  if (splits == 1) return;
  add_chunks(static_cast<const W*>(sums), splits, a.k, columns, out);
  memory_free(sums, stream());
}

template <class T>
void run_dw(const kernel::ConvArgs& a) {
  const DwPlan<T> plan = dw_plan<T>(a, packs<T>(a.k) && packs<T>(a.c) && aligned(a.x) && aligned(a.y));
  if (plan.shares > 0) return share_dw<T>(a, plan);
  run_chunks<T>(a, plan);
}

}  // namespace

void conv_forward_packed_bf16(const kernel::ConvArgs& args) {
  check_limits(args);
  if (!conv_by_bulk_copies(true, args)) run_forward<bfloat16>(args);
}
void conv_dx_packed_bf16(const kernel::ConvArgs& args) {
  check_limits(args);
  if (!conv_by_bulk_copies(false, args)) run_dx<bfloat16>(args);
}
void conv_dw_packed_bf16(const kernel::ConvArgs& args) {
  check_limits(args);
  if (conv_dw_by_bulk_copies(args)) return;
  run_chunks(args, in_chunks<bfloat16>(args, wgmma_use() != WgmmaUse::never && args.k > 32
                                                 ? conv_dw_wgmma_kernel(args.k)
                                                 : conv_dw_tensor_kernel<bfloat16>(args.k)));
}

void conv_forward(const kernel::ConvArgs& args) {
  if (vendor_convolution(CudnnKind::forward, args)) return;
  if (args.dtype == DType::bf16) return conv_forward_bf16(args);
  check_limits(args);
  SINEW_DISPATCH_FLOAT(args.dtype, "conv_forward", run_forward<T>(args));
}

void conv_dx(const kernel::ConvArgs& args) {
  if (vendor_convolution(CudnnKind::dx, args)) return;
  if (args.dtype == DType::bf16) return conv_dx_bf16(args);
  check_limits(args);
  SINEW_DISPATCH_FLOAT(args.dtype, "conv_dx", run_dx<T>(args));
}

void conv_dw(const kernel::ConvArgs& args) {
  if (vendor_convolution(CudnnKind::dw, args)) return;
  if (args.dtype == DType::bf16) return conv_dw_bf16(args);
  check_limits(args);
  SINEW_DISPATCH_FLOAT(args.dtype, "conv_dw", run_dw<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
