// Convolutions of bf16 of stride 1 by the tensor cores of sm_90a, sums in float, as products of implicit matrices whose
// slices come by bulk copies (cuda/device/bulk_tile.cuh): the copy engine walks the pixels under a tap (load_pixels),
// so that threads compute no addresses. Compiled for sm_90a alone.
//
// Forward and towards the input: rows are pixels of the target, columns its channels, k are (tap, channel of the
// source). dw: rows are filters, columns (tap, channel), k are pixels. A slice is 64 channels of a tap, or 64 pixels.
// Parallel over tiles of 128 pixels x 128 or 64 channels, those of 128 also by two blocks with half of k each; dw 128
// filters x 128 or 192 columns, or 64 x 128. Flops: 2 pixels taps channels outputs. Bytes: the source once for each tap
// and tile of columns, mostly from the second-level cache. GPU figures: docs/gpu.md.
#include "cuda/device/bulk_tile.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

struct Pixel {
  int n, h, w;
};
SINEW_DEVICE Pixel pixel_at(int number, const ConvBulkShape& shape) {
  const int row = number / shape.target_w;
  return {row / shape.target_h, row % shape.target_h, number - row * shape.target_w};
}

struct Tap {
  int number, h, w;
};
SINEW_DEVICE Tap tap_at(int number, const ConvBulkShape& shape) {
  const int row = number / shape.taps_w;
  return {number, row, number - row * shape.taps_w};
}

// Loads go on from where begin() says without a division: one thread makes all of a block's addresses, and would be
// slower than the products.
//
// Of the product of pixels under the taps and filters, (outputs, taps, channels) forward, (channels, taps, outputs)
// towards the input, where the taps run backwards.
template <class Tile_, bool kForward>
struct TargetSlices {
  using Tile = Tile_;
  using A = typename Tile::template AlongK<Tile::kExtentM>;
  using B = std::conditional_t<kForward, typename Tile::template AlongK<Tile::kExtentN>,
                               typename Tile::template AlongX<Tile::kExtentN>>;
  static constexpr bool kWholeColumns = true;
  const TensorMap *source, *filter;
  const ConvBulkShape& shape;
  const GemmShape<float>& product;
  Pixel first = {};
  Tap tap = {};
  int n0 = 0, channel = 0;

  SINEW_DEVICE void begin(const Work& work) {
    first = pixel_at(work.m0, shape), n0 = work.n0;
    const int number = work.k0 / shape.channels;
    tap = tap_at(number, shape), channel = work.k0 - number * shape.channels;
  }
  SINEW_DEVICE void load(int k, bfloat16* a, bfloat16* b, Mbarrier* full) {
    load_pixels(a, source, full, channel, first.w + shape.base_w, first.h + shape.base_h, first.n, tap.w, tap.h);
    if constexpr (kForward) {
      load_box(b, filter, full, k, n0);
    } else {
      SINEW_UNROLL
      for (int i = 0; i < Tile::kExtentN; i += 64)
        load_box(b + i / 64 * kBoxElements, filter, full, n0 + i, shape.taps - 1 - tap.number, channel);
    }
    channel += Tile::kDepth;
    if (channel < shape.channels) return;
    channel = 0, ++tap.number, ++tap.w;
    if (tap.w == shape.taps_w) tap.w = 0, ++tap.h;
  }
};

// Of the product of y (pixels, filters), transposed, and x's pixels under the taps.
template <class Tile_>
struct FilterSlices {
  using Tile = Tile_;
  using A = typename Tile::template AlongX<Tile::kExtentM>;
  using B = typename Tile::template AlongX<Tile::kExtentN>;
  static constexpr bool kWholeColumns = false;  // it writes f32
  const TensorMap *source, *filter;             // x; y
  const ConvBulkShape& shape;
  const GemmShape<float>& product;
  static constexpr int kBoxes = Tile::kExtentN / 64;
  Tap tap[kBoxes] = {};
  int channel[kBoxes] = {};
  Pixel pixel = {};
  int m0 = 0;

  SINEW_DEVICE void begin(const Work& work) {
    m0 = work.m0, pixel = pixel_at(work.k0, shape);
    SINEW_UNROLL
    for (int i = 0; i < kBoxes; ++i) {
      const int column = work.n0 + i * 64, number = column / shape.channels;
      tap[i] = tap_at(number, shape), channel[i] = column - number * shape.channels;
      if (number >= shape.taps) tap[i] = {}, channel[i] = shape.channels;  // beyond the columns: zeros
    }
  }
  SINEW_DEVICE void load(int k, bfloat16* a, bfloat16* b, Mbarrier* full) {
    SINEW_UNROLL
    for (int i = 0; i < Tile::kExtentM; i += 64) load_box(a + i / 64 * kBoxElements, filter, full, m0 + i, k);
    SINEW_UNROLL
    for (int i = 0; i < kBoxes; ++i)
      load_pixels(b + i * kBoxElements, source, full, channel[i], pixel.w + shape.base_w, pixel.h + shape.base_h,
                  pixel.n, tap[i].w, tap[i].h);
    pixel.w += shape.step_w, pixel.h += shape.step_h, pixel.n += shape.step_n;
    if (pixel.w >= shape.target_w) pixel.w -= shape.target_w, ++pixel.h;
    if (pixel.h >= shape.target_h) pixel.h -= shape.target_h, ++pixel.n;
  }
};

template <class Slices, int kStages, class C>
__global__ void __launch_bounds__(kBulkThreads<typename Slices::Tile>, Slices::Tile::kMinBlocks)
    conv_bulk(const __grid_constant__ TensorMap source, const __grid_constant__ TensorMap filter,
              C* __restrict__ target, const float* __restrict__ bias, ConvBulkShape shape, int all) {
  SINEW_DYNAMIC_SHARED(bfloat16, shared);
  if (threadIdx.x == 0) prefetch_map(&source), prefetch_map(&filter);
  Slices slices{&source, &filter, shape, shape.product};
  bulk_tiles<Slices, kStages>(shared, slices, target, bias, all);
}

constexpr unsigned kPair = 2;
template <class Slices, int kStages>
__global__ void SINEW_CLUSTER(kPair) __launch_bounds__(kBulkThreads<typename Slices::Tile>, Slices::Tile::kMinBlocks)
    conv_bulk_pair(const __grid_constant__ TensorMap source, const __grid_constant__ TensorMap filter,
                   bfloat16* __restrict__ target, const float* __restrict__ bias, ConvBulkShape shape, int) {
  SINEW_DYNAMIC_SHARED(bfloat16, shared);
  if (threadIdx.x == 0) prefetch_map(&source), prefetch_map(&filter);
  Slices slices{&source, &filter, shape, shape.product};
  bulk_pair<Slices, kStages>(shared, slices, target, bias);
}

template <class Slices, int kStages, class C>
ConvBulkKernel<C> instance(const char* name) {
  using Tile = typename Slices::Tile;
  return {{name, &conv_bulk<Slices, kStages, C>}, Tile::kExtentM,  Tile::kExtentN, kBulkThreads<Tile>,
          bulk_shared_bytes<Slices, kStages>(),   Tile::kMinBlocks};
}

template <class Tile, int kStages, class C>
ConvBulkKernel<C> target_kernel(bool forward) {
  if (forward) return instance<TargetSlices<Tile, true>, kStages, C>("conv, bulk copies");
  return instance<TargetSlices<Tile, false>, kStages, C>("conv towards x, bulk copies");
}

template <bool kForward>
ConvBulkKernel<bfloat16> pair_instance(const char* name) {
  constexpr int kStages = 6;  // a block has a multiprocessor to itself
  using Tile = WgmmaTile<2, 128, kStages, 1>;
  using Slices = TargetSlices<Tile, kForward>;
  return {{name, &conv_bulk_pair<Slices, kStages>, kPair},
          Tile::kExtentM,
          Tile::kExtentN,
          kBulkThreads<Tile>,
          bulk_shared_bytes<Slices, kStages>(),
          Tile::kMinBlocks};
}

__global__ void __launch_bounds__(32)
    load_pixels_probe(const __grid_constant__ TensorMap map, PixelsProbe at, int bytes, uint32_t* image) {
  SINEW_DYNAMIC_SHARED(uint32_t, shared);
  Mbarrier* const there = reinterpret_cast<Mbarrier*>(shared + bytes / 4);
  if (threadIdx.x == 0) {
    mbarrier_init(there, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(there, unsigned(bytes));
    load_pixels(shared, &map, there, at.c, at.w, at.h, at.n, at.tap_w, at.tap_h);
  }
  block_sync();
  mbarrier_wait(there, 0);
  for (int i = int(threadIdx.x); i < bytes / 4; i += 32) image[i] = shared[i];
}

}  // namespace

Kernel<TensorMap, PixelsProbe, int, uint32_t*> load_pixels_probe_kernel() {
  return {"load_pixels probe", &load_pixels_probe};
}

template <class C>
ConvBulkKernel<C> conv_bulk_kernel(bool forward, int tile_n) {
  if (tile_n == 128) return target_kernel<WgmmaTile<2, 128, 3, 2>, 3, C>(forward);
  return target_kernel<WgmmaTile<2, 64, 4, 2>, 4, C>(forward);
}
template ConvBulkKernel<float> conv_bulk_kernel(bool forward, int tile_n);
template ConvBulkKernel<bfloat16> conv_bulk_kernel(bool forward, int tile_n);

ConvBulkKernel<bfloat16> conv_bulk_pair_kernel(bool forward) {
  if (forward) return pair_instance<true>("conv, bulk copies, pairs");
  return pair_instance<false>("conv towards x, bulk copies, pairs");
}

ConvBulkKernel<float> conv_bulk_dw_kernel(int tile_m, int tile_n) {
  const char* const name = "conv dw, bulk copies";
  if (tile_m == 64) return instance<FilterSlices<WgmmaTile<1, 128, 4, 2>>, 4, float>(name);
  if (tile_n == 192) return instance<FilterSlices<WgmmaTile<2, 192, 5, 1>>, 5, float>(name);
  return instance<FilterSlices<WgmmaTile<2, 128, 3, 2>>, 3, float>(name);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
