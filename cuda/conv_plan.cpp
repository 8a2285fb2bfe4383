#include "cuda/conv_plan.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "cuda/grid.h"
#include "cuda/install.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// What one multiprocessor of an H200 does with a tile when as many blocks are on it as fit (GFLOP/s, from
// bench_kernels_cuda_matrix), and what starting a block costs.
struct Rate {
  ConvTile tile;
  double f32, f64;
};
constexpr Rate kRates[] = {
    {ConvTile::large, 360, 0}, {ConvTile::tall, 280, 0}, {ConvTile::square, 303, 150}, {ConvTile::low, 245, 120}};
constexpr double kStartUs = 1.5;
// Shares are not shorter, in k.
constexpr int64_t kSmallestShare = 128;
constexpr int64_t kEnoughTiles = 264;
constexpr double kLittle = 1e9;

ConvChoice choice;  // of a benchmark or test

// Along one axis, targets `first`, `first + step`... that have the same taps: first_tap, first_tap + step...; tap
// number t of target number i is reached from source base + i step' + d t (CorrelationPart).
struct Run {
  int64_t first, count, taps, first_tap, base;
};
using Runs = std::vector<Run>;

void extend(Runs& runs, const Run& next, bool starts) {
  Run* const last = starts || runs.empty() ? nullptr : &runs.back();
  if (last != nullptr && last->taps == next.taps && last->first_tap == next.first_tap)
    ++last->count;
  else
    runs.push_back(next);
}

Runs forward_runs(int64_t extent, int64_t taps, int64_t stride, int64_t pad, int64_t source, bool edges) {
  if (!edges) return {{0, extent, taps, 0, -pad}};
  Runs runs;
  for (int64_t i = 0; i < extent; ++i) {
    const int64_t base = i * stride - pad, low = std::clamp<int64_t>(-base, 0, taps);
    extend(runs, {i, 1, std::clamp(source - base, low, taps) - low, low, base + low}, i == 0);
  }
  return runs;
}

// Towards the input the targets whose position is `residue` modulo the stride have every stride-th tap, and tap number
// t of target number i is reached from source i + base - t.
Runs dx_runs(int64_t extent, int64_t taps, int64_t stride, int64_t pad, int64_t source, bool edges) {
  Runs runs;
  for (int64_t residue = 0; residue < std::min(stride, extent); ++residue) {
    const int64_t first_tap = (residue + pad) % stride, base = (residue + pad - first_tap) / stride;
    const int64_t count = ceil_divide(extent - residue, stride);
    const int64_t every = first_tap < taps ? ceil_divide(taps - first_tap, stride) : 0;
    if (!edges) runs.push_back({residue, count, every, first_tap, base});
    for (int64_t i = 0; edges && i < count; ++i) {
      const int64_t low = std::clamp<int64_t>(i + base - (source - 1), 0, every);
      const int64_t end = std::clamp(i + base + 1, low, every);
      extend(runs, {residue + i * stride, 1, end - low, first_tap + low * stride, i + base - low}, i == 0);
    }
  }
  return runs;
}

// Counts the tiles and slices of the plan's kernel. False where its numbers would not fit in 32 bits.
template <class T>
bool count(ConvPlan<T>& plan, int64_t channels, int64_t outputs) {
  const int64_t columns = ceil_divide(outputs, plan.kernel.tile_n);
  for (CorrelationPart& part : plan.parts) {
    const int64_t tiles = ceil_divide(part.pixels, plan.kernel.tile_m) * columns;
    const int64_t slices =
        std::max<int64_t>(1, ceil_divide(int64_t{part.taps_h} * part.taps_w * channels, plan.kernel.depth));
    part.slices = divider(slices);
    part.first = static_cast<int>(plan.slices);
    part.first_tile = static_cast<int>(plan.tiles);
    plan.tiles += tiles;
    plan.slices += tiles * slices;
    plan.most_tiles = std::max(plan.most_tiles, tiles);
  }
  return plan.slices < kMaxConvCount;
}

// Expected time of whole tiles or of shares for that many blocks.
template <class T>
double expected_us(const ConvPlan<T>& plan, double rate, int64_t blocks) {
  const CorrelationKernel<T>& k = plan.kernel;
  const double tile = static_cast<double>(k.tile_m) * k.tile_n, slice_us = 2e-3 * tile * k.depth / rate;
  if (blocks == 0) {
    const int64_t on_each = ceil_divide(plan.tiles, kMultiprocessors);
    double slices = static_cast<double>(on_each) * static_cast<double>(plan.slices) / static_cast<double>(plan.tiles);
    if (plan.parts.size() > 1) {  // unequal tiles
      int longest = 0;
      for (const CorrelationPart& part : plan.parts) longest = std::max(longest, part.slices.divisor);
      slices = static_cast<double>(plan.slices) / kMultiprocessors + longest;
    }
    return slices * slice_us * idling(on_each, k.blocks) +
           kStartUs * static_cast<double>(ceil_divide(on_each, k.blocks));
  }
  const int64_t on_each = ceil_divide(blocks, kMultiprocessors), share = ceil_divide(plan.slices, blocks);
  const double sums = static_cast<double>(blocks + std::min(plan.tiles, blocks)) * tile * sizeof(T);
  return static_cast<double>(on_each * share) * slice_us * idling(on_each, k.blocks) + 2 * kStartUs + kSecondPassUs +
         2 * sums / kSumsBytesPerUs;
}

// Shares need all parts in one launch.
template <class T>
int64_t blocks_of(const ConvPlan<T>& plan) {
  if (plan.parts.size() > kMaxCorrelationParts) return 0;
  return std::min<int64_t>(kMultiprocessors * plan.kernel.blocks,
                           plan.slices / std::max<int64_t>(1, kSmallestShare / plan.kernel.depth));
}

template <class T>
ConvPlan<T> plan_of(bool forward, bool pack, const kernel::ConvArgs& args, ConvTile tile, bool edges, bool shares) {
  return {correlation_kernel<T>(forward, pack, tile, shares), conv_parts(forward, args, edges)};
}

// For few outputs, and where there is so little to do that starting up is what counts.
ConvTile simple_tile(int64_t pixels, int64_t outputs, bool pack, bool f32) {
  if (outputs > 32) return pack && ceil_divide(pixels, 64) >= kEnoughTiles ? ConvTile::square : ConvTile::low;
  if (f32 && outputs <= 16 && ceil_divide(pixels, 256) >= kEnoughTiles) return ConvTile::narrow;
  if (f32 && pack && ceil_divide(pixels, 128) >= kEnoughTiles) return ConvTile::middle;
  return ConvTile::low;
}

}  // namespace

std::vector<CorrelationPart> conv_parts(bool forward, const kernel::ConvArgs& a, bool edges) {
  const auto runs = forward ? forward_runs : dx_runs;
  const Runs rows =
      forward ? runs(a.p, a.r, a.stride_h, a.pad_h, a.h, edges) : runs(a.h, a.r, a.stride_h, a.pad_h, a.p, edges);
  const Runs columns =
      forward ? runs(a.q, a.s, a.stride_w, a.pad_w, a.w, edges) : runs(a.w, a.s, a.stride_w, a.pad_w, a.q, edges);
  const int64_t width = forward ? a.q : a.w, outputs = forward ? a.k : a.c;
  std::vector<CorrelationPart> parts;
  for (const Run& h : rows)
    for (const Run& w : columns) {
      const bool any = h.taps > 0 && w.taps > 0;
      CorrelationPart part{};
      part.pixels = static_cast<int>(a.n * h.count * w.count);
      part.per_image = divider(h.count * w.count);
      part.per_row = divider(w.count);
      part.taps_h = any ? static_cast<int>(h.taps) : 0;
      part.taps_w = any ? static_cast<int>(w.taps) : 0;
      part.base_h = static_cast<int>(h.base);
      part.base_w = static_cast<int>(w.base);
      part.filter = any ? static_cast<int>((h.first_tap * a.s + w.first_tap) * a.c) : 0;
      part.target = static_cast<int>((h.first * width + w.first) * outputs);
      parts.push_back(part);
    }
  return parts;
}

namespace {

// Shorter chunks of a sum would cost more to add up than they gain; a multiple of the kernels' depths.
constexpr int64_t kSmallestTensorChunk = 256;

// By wgmma where its tiles, or chunks of them, fill the GPU.
template <class T>
CorrelationKernel<T> tensor_kernel(bool forward, int64_t pixels, int64_t outputs, int64_t summed) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    const int64_t chunks = std::max<int64_t>(1, summed / kSmallestTensorChunk);
    const WgmmaUse use = wgmma_use();
    for (const auto& [tile_n, most_chunks] : {std::pair{256, int64_t{1}}, {128, chunks}, {64, chunks}})
      if (outputs > tile_n / 2 && use != WgmmaUse::never &&
          (use == WgmmaUse::always ||
           ceil_divide(pixels, 128) * ceil_divide(outputs, tile_n) * most_chunks >= kMultiprocessors))
        return correlation_wgmma_kernel(forward, tile_n);
  }
  return correlation_tensor_kernel<T>(forward, pixels, outputs);
}

template <class T>
ConvPlan<T> tensor_plan(bool forward, const kernel::ConvArgs& a) {
  int64_t most = 0, summed = 0;
  std::vector<CorrelationPart> parts = conv_parts(forward, a, false);
  const int64_t channels = forward ? a.c : a.k, outputs = forward ? a.k : a.c;
  for (const CorrelationPart& part : parts) {
    most = std::max<int64_t>(most, part.pixels);
    summed = std::max(summed, int64_t{part.taps_h} * part.taps_w * channels);
  }
  const auto of_launch = static_cast<int64_t>(std::min<size_t>(parts.size(), kMaxCorrelationParts));
  ConvPlan<T> plan{tensor_kernel<T>(forward, most * of_launch, outputs, summed), std::move(parts)};
  count(plan, channels, outputs);
  plan.chunk = std::max<int64_t>(summed, 1);
  const int64_t wanted =
      std::min(kMultiprocessors * plan.kernel.blocks / std::max<int64_t>(1, plan.most_tiles * of_launch),
               summed / kSmallestTensorChunk);
  if (wanted > 1) {
    plan.chunk = ceil_divide(ceil_divide(summed, wanted), kSmallestTensorChunk) * kSmallestTensorChunk;
    plan.chunks = ceil_divide(summed, plan.chunk);
  }
  return plan;
}

}  // namespace

template <class T>
ConvPlan<T> conv_plan(bool forward, bool pack, const kernel::ConvArgs& a) {
  const int64_t channels = forward ? a.c : a.k, outputs = forward ? a.k : a.c;
  const int64_t source_image = forward ? a.h * a.w * a.c : a.p * a.q * a.k;
  constexpr bool kF32 = sizeof(T) == sizeof(float);
  if constexpr (kF32)
    if (pack && matmul_precision() == MatmulPrecision::tf32) return tensor_plan<T>(forward, a);
  if (choice.chosen) {
    ConvPlan<T> plan = plan_of<T>(forward, pack, a, choice.tile, choice.edges, choice.blocks > 0);
    count(plan, channels, outputs);
    if (plan.kernel.shares) plan.share = ceil_divide(plan.slices, choice.blocks);
    return plan;
  }
  const int64_t pixels = forward ? a.n * a.p * a.q : a.n * a.h * a.w;
  const ConvTile simple = simple_tile(pixels, outputs, pack, kF32);
  ConvPlan<T> best = plan_of<T>(forward, pack, a, simple, false, false);
  const bool fits = count(best, channels, outputs);
  const double flops = 2.0 * static_cast<double>(pixels * outputs) * static_cast<double>(a.r * a.s * channels);
  if (!pack || outputs <= 32 || (outputs <= 64 && flops < kLittle) || !fits) return best;
  best.us = 1e30;
  for (const Rate& rate : kRates) {
    const double speed = kF32 ? rate.f32 : rate.f64;
    if (speed == 0 || (rate.tile == ConvTile::large && outputs <= 64) || (rate.tile == ConvTile::tall && outputs > 64))
      continue;
    for (const auto& [edges, shares] : {std::pair{false, false}, {false, true}, {true, false}, {true, true}}) {
      ConvPlan<T> plan = plan_of<T>(forward, pack, a, rate.tile, edges, shares);
      if (plan.kernel.shares != shares) continue;
      if (edges && plan.parts.size() > kMaxCorrelationParts) continue;
      if (edges && std::min<int64_t>(a.n, plan.kernel.tile_m + 2) * source_image >= kMaxConvCount) continue;
      if (!count(plan, channels, outputs)) continue;
      const int64_t blocks = shares ? blocks_of(plan) : 0;
      plan.us = expected_us(plan, speed, blocks);
      plan.share = blocks == 0 ? 0 : ceil_divide(plan.slices, blocks);
      if (plan.us < best.us && (blocks > 0 || !shares)) best = plan;
    }
  }
  return best;
}
template ConvPlan<float> conv_plan<float>(bool, bool, const kernel::ConvArgs&);
template ConvPlan<double> conv_plan<double>(bool, bool, const kernel::ConvArgs&);
template <>
ConvPlan<bfloat16> conv_plan(bool forward, bool, const kernel::ConvArgs& a) {
  return tensor_plan<bfloat16>(forward, a);
}

void set_conv_choice(const ConvChoice& value) { choice = value; }
const ConvChoice& conv_choice() { return choice; }

}  // namespace sinew::cuda::SINEW_CUDA_NS
