// Host side of conv_bulk_wgmma.cu.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "cuda/chunks.h"
#include "cuda/conv_plan.h"
#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/scratch.h"
#include "cuda/tensor_map.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int kDepth = 64, kSwizzle = 128;
// What an H200 takes, in microseconds: FLOP of a multiprocessor, which reading the operands from shared memory bounds
// (tiles with 64 columns or rows read them more often), a tile's end, what two blocks exchange, and a
// launch with its first and last copies.
constexpr double kFlopPerUs = 6.5e6, kFlopPerUsDw = 5.7e6, kNarrowFlopPerUs = 3.9e6, kTileUs = 0.8, kExchangeUs = 1.5,
                 kStartUs = 4.5;
// In slices: shorter chunks would not fill the ring of buffers.
constexpr int64_t kSmallestChunk = 4;

ConvBulkChoice choice;  // of a test

// The product's extents, none of them 0, and how its work is dealt out.
struct Extents {
  int64_t m, n, k;
};
struct Plan {
  int64_t chunk = 0, chunks = 1;  // of k
  bool pairs = false;             // of blocks, for two chunks
  double us = 1e30;               // expected
  int tile_n = 0;
};

// Into how many chunks k is best cut up: more blocks, but all their sums are written and read once more, or exchanged
// by pairs of blocks where those may be.
template <class C>
Plan plan_of(const ConvBulkKernel<C>& kernel, const Extents& e, double flop_per_us, bool may_pair) {
  const int64_t tiles = ceil_divide(e.m, kernel.tile_m) * ceil_divide(e.n, kernel.tile_n);
  const int64_t slices = std::max<int64_t>(1, ceil_divide(e.k, kDepth));
  const double rate = kernel.tile_n == 64 || kernel.tile_m == 64 ? kNarrowFlopPerUs : flop_per_us;
  const double slice_us = 2.0 * kernel.tile_m * kernel.tile_n * kDepth / rate;
  const double sums_us = 2.0 * static_cast<double>(e.m * e.n) * sizeof(float) / kSumsBytesPerUs;
  Plan best;
  const int64_t most =
      std::clamp<int64_t>(kMultiprocessors * kernel.blocks / tiles, 1, std::max<int64_t>(1, slices / kSmallestChunk));
  const int64_t first = std::clamp<int64_t>(choice.chunks, 1, slices), last = choice.chunks > 0 ? first : most;
  for (int64_t wanted = first; wanted <= last; ++wanted) {
    const int64_t length = ceil_divide(slices, wanted), chunks = ceil_divide(slices, length);
    const int64_t on_each = ceil_divide(tiles * chunks, kMultiprocessors);
    const bool pairs = may_pair && chunks == 2 && on_each == 1;
    const double together_us = pairs        ? kExchangeUs
                               : chunks > 1 ? kSecondPassUs + sums_us * static_cast<double>(chunks)
                                            : 0;
    const double us =
        kStartUs + static_cast<double>(on_each) * (static_cast<double>(length) * slice_us + kTileUs) + together_us;
    if (us < best.us) best = {length * kDepth, chunks, pairs, us, kernel.tile_n};
  }
  return best;
}

// Of the plans for tiles of narrow and, where they may be, wide columns the one that takes less time.
template <class PlanFor>
Plan best_plan(int narrow, int wide, bool may_be_wide, const PlanFor& plan_for) {
  if (choice.tile_n == narrow || choice.tile_n == wide) return plan_for(choice.tile_n);
  const Plan plan = plan_for(narrow);
  if (!may_be_wide) return plan;
  const Plan other = plan_for(wide);
  return other.us < plan.us ? other : plan;
}

TensorMap matrix_map(const void* data, int64_t rows, int64_t columns, int box_rows) {
  return make_tensor_map({data, 2, 2, {columns, rows}, {0, columns * 2}, {kDepth, box_rows}, kSwizzle});
}

// The pixels of x, for y's (forward and dw); or of y, for x's.
struct Source {
  const void* data;
  int64_t n, h, w, c;
  int64_t pad_h, pad_w, taps_h, taps_w;
};
Source source_of(bool forward, const kernel::ConvArgs& a) {
  if (forward) return {a.x, a.n, a.h, a.w, a.c, a.pad_h, a.pad_w, a.r, a.s};
  return {a.y, a.n, a.p, a.q, a.k, a.r - 1 - a.pad_h, a.s - 1 - a.pad_w, a.r, a.s};
}
bool fits(const Source& s) {
  const auto corner = [](int64_t value) { return value >= -128 && value <= 127; };
  constexpr int64_t kTaps = 256;  // that a copy can move by
  return s.c % kDepth == 0 && s.taps_h <= kTaps && s.taps_w <= kTaps && corner(-s.pad_h) && corner(-s.pad_w) &&
         corner(s.pad_h - s.taps_h + 1) && corner(s.pad_w - s.taps_w + 1);
}
TensorMap pixels_of(const Source& s, int box) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  return make_pixel_map({.data = s.data,
                         .n = s.n,
                         .h = s.h,
                         .w = s.w,
                         .c = s.c,
                         .first_h = i(-s.pad_h),
                         .first_w = i(-s.pad_w),
                         .end_h = i(s.pad_h - s.taps_h + 1),
                         .end_w = i(s.pad_w - s.taps_w + 1),
                         .pixels = box});
}

ConvBulkShape shape_of(const Source& s, const Extents& e, int64_t target_h, int64_t target_w) {
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  ConvBulkShape shape{};
  shape.product.m = i(e.m), shape.product.n = i(e.n), shape.product.k = i(e.k), shape.product.ldc = e.n;
  shape.product.batch = 1, shape.product.alpha = 1;
  shape.target_h = i(target_h), shape.target_w = i(target_w);
  shape.base_h = i(-s.pad_h), shape.base_w = i(-s.pad_w);
  shape.taps_w = i(s.taps_w), shape.taps = i(s.taps_h * s.taps_w), shape.channels = i(s.c);
  return shape;
}

// One pass when there is one chunk, to `to`; else sums of the chunks to `sums`.
template <class C>
void run(const ConvBulkKernel<C>& kernel, const Plan& plan, const TensorMap& source, const TensorMap& filter, C* to,
         const float* bias, ConvBulkShape shape) {
  const int64_t all =
      ceil_divide(shape.product.m, kernel.tile_m) * ceil_divide(shape.product.n, kernel.tile_n) * plan.chunks;
  SINEW_CHECK(all > 0 && all <= std::numeric_limits<int>::max() / 2, "conv", all,
              " tiles and chunks of them are too many for one launch");
  static const int64_t multiprocessors = device_properties(0).multiprocessors;
  shape.product.chunk = static_cast<int>(plan.chunk);
  shape.product.pack_c = is_aligned_to(16, to) && shape.product.n % static_cast<int64_t>(16 / sizeof(C)) == 0;
  const int64_t blocks = plan.pairs ? all : std::min(all, multiprocessors * kernel.blocks);
  launch(kernel.kernel, {static_cast<unsigned>(blocks)}, {kernel.threads}, kernel.shared_bytes, stream(), source,
         filter, to, bias, shape, static_cast<int>(all));
}

void run_target(bool forward, const kernel::ConvArgs& a) {
  const Source source = source_of(forward, a);
  const int64_t h = forward ? a.p : a.h, w = forward ? a.q : a.w, taps = a.r * a.s;
  const Extents e{a.n * h * w, forward ? a.k : a.c, taps * source.c};
  const Plan plan = best_plan(64, 128, e.n > 64, [&](int tile_n) {
    return plan_of(conv_bulk_kernel<bfloat16>(forward, tile_n), e, kFlopPerUs, tile_n == 128);
  });
  const auto kernel = conv_bulk_kernel<bfloat16>(forward, plan.tile_n);
  const TensorMap pixels = pixels_of(source, kernel.tile_m);
  const TensorMap filter =
      forward ? matrix_map(a.filter, a.k, e.k, plan.tile_n)
              : make_tensor_map(
                    {a.filter, 2, 3, {a.c, taps, a.k}, {0, a.c * 2, taps * a.c * 2}, {kDepth, 1, kDepth}, kSwizzle});
  ConvBulkShape shape = shape_of(source, e, h, w);
  ConvBulkShape bare = shape;
  shape.product.beta = a.accumulate ? 1 : 0;
  shape.product.act = a.act;
  const float* const bias = forward ? static_cast<const float*>(a.bias) : nullptr;
  bfloat16* const out = static_cast<bfloat16*>(a.out);
  SINEW_CHECK(plan.pairs || !choice.pairs, "conv", plan.chunks, " chunks are not made by pairs of blocks");
  if (plan.pairs) return run(conv_bulk_pair_kernel(forward), plan, pixels, filter, out, bias, shape);
  if (plan.chunks == 1) return run(kernel, plan, pixels, filter, out, bias, shape);
  const int64_t outputs = e.m * e.n;
  const Scratch sums(plan.chunks * outputs * static_cast<int64_t>(sizeof(float)));
  bare.product.split_stride_c = outputs;
  run(conv_bulk_kernel<float>(forward, plan.tile_n), plan, pixels, filter, static_cast<float*>(sums.data()),
      static_cast<const float*>(nullptr), bare);
  shape.product.pack_c = rows_in_packs<bfloat16>(e.n, out);
  finish_chunks(static_cast<const float*>(sums.data()), plan.chunks, out, bias, shape.product);
}

bool wanted() { return wgmma_use() != WgmmaUse::never && wgmma_copies() == WgmmaCopies::bulk; }

}  // namespace

void set_conv_bulk_choice(const ConvBulkChoice& value) { choice = value; }

bool conv_by_bulk_copies(bool forward, const kernel::ConvArgs& a) {
  const bool adds_last = a.accumulate && (a.bias != nullptr || a.act != Activation::none);
  if (!wanted() || a.stride_h != 1 || a.stride_w != 1 || !fits(source_of(forward, a)) || adds_last) return false;
  if (a.act != Activation::none && a.act != Activation::relu) return false;
  run_target(forward, a);
  return true;
}

bool conv_dw_by_bulk_copies(const kernel::ConvArgs& a) {
  const Source source = source_of(true, a);
  if (!wanted() || a.stride_h != 1 || a.stride_w != 1 || !fits(source)) return false;
  const Extents e{a.k, a.r * a.s * a.c, a.n * a.p * a.q};
  const int tile_m = a.k <= 64 ? 64 : 128;
  const Plan plan = best_plan(128, 192, tile_m == 128, [&](int tile_n) {
    return plan_of(conv_bulk_dw_kernel(tile_m, tile_n), e, kFlopPerUsDw, false);
  });
  const auto kernel = conv_bulk_dw_kernel(tile_m, plan.tile_n);
  const TensorMap pixels = pixels_of(source, kDepth), y = matrix_map(a.y, e.k, a.k, kDepth);
  ConvBulkShape shape = shape_of(source, e, a.p, a.q);
  shape.step_w = kDepth % shape.target_w, shape.step_h = kDepth / shape.target_w;
  shape.step_n = shape.step_h / shape.target_h, shape.step_h %= shape.target_h;
  float* const out = static_cast<float*>(a.out);
  const float* const no_bias = nullptr;
  if (plan.chunks == 1) {
    run(kernel, plan, pixels, y, out, no_bias, shape);
    return true;
  }
  const int64_t outputs = e.m * e.n;
  const Scratch sums(plan.chunks * outputs * static_cast<int64_t>(sizeof(float)));
  shape.product.split_stride_c = outputs;
  run(kernel, plan, pixels, y, static_cast<float*>(sums.data()), no_bias, shape);
  add_chunks(static_cast<const float*>(sums.data()), plan.chunks, e.m, e.n, out);
  return true;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
