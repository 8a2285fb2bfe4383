// A tile of a matrix product of bf16 by wgmma (sm_90a), for the kernels of device/gemm_tensor.cuh and its kin, with the
// same loaders.
//
// A block of kGroups warpgroups makes 64 kGroups x kExtentN of C, a warpgroup 64 rows of it in registers; the factors
// are read from shared memory by the instruction itself. Slices of 64 k (TF32: 32) lie in rows of 128 bytes, swizzled
// as the instruction wants them and so that copies do not meet in banks. The copies of a slice go into the buffer of
// the slice before the last, which all warpgroups are done with: they wait for all but their latest product.
#pragma once

#include "cuda/device/device.cuh"

#include "core/bfloat16.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// [x][k]: rows are x, blocks of 8 follow each other.
template <class Tile, int kExtent_>
struct SwizzledAlongK {
  using Element = typename Tile::Element;
  static constexpr int kWidth = 16 / int(sizeof(Element));  // elements of 16 bytes
  static constexpr int kExtent = kExtent_, kElements = kExtent * Tile::kDepth;
  static constexpr bool kTransposed = false;
  // A thread copies 16 bytes along k of each of kCount x, kStep apart.
  static constexpr int kStep = Tile::kThreads / 8, kCount = kExtent <= kStep ? 1 : kExtent / kStep;
  static_assert(kStep % 8 == 0 && (kStep >= kExtent || kExtent % kStep == 0));
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) / 8; }
  SINEW_DEVICE static int own_k() { return int(threadIdx.x) % 8 * kWidth; }
  SINEW_DEVICE static bool idle() { return kStep > kExtent && own_x() >= kExtent; }
  SINEW_DEVICE static Element* place(Element* slice, int i) {
    return slice + (own_x() + i * kStep) * Tile::kDepth + (int(threadIdx.x) % 8 ^ own_x() % 8) * kWidth;
  }
  // From row x and k on.
  SINEW_DEVICE static uint64_t descriptor(const Element* slice, int x, int k) {
    return matrix_descriptor(slice + x * Tile::kDepth + k, 16, 1024);
  }
};

// [k][x]: rows are k with 64 x, 64 of them for each 64 x. bf16 alone.
template <class Tile, int kExtent_>
struct SwizzledAlongX {
  using Element = bfloat16;
  static constexpr int kExtent = kExtent_, kElements = kExtent * 64;
  static constexpr bool kTransposed = true;
  // A thread copies at one k, kCount times 16 bytes along x, kStep apart.
  static constexpr int kThreadsPerK = Tile::kThreads / 64;
  static constexpr int kStep = kThreadsPerK * 8, kCount = kExtent / kStep;
  static_assert(kExtent % 64 == 0 && 64 % kStep == 0);
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) % kThreadsPerK * 8; }
  SINEW_DEVICE static int own_k() { return int(threadIdx.x) / kThreadsPerK; }
  SINEW_DEVICE static constexpr bool idle() { return false; }
  SINEW_DEVICE static Element* place(Element* slice, int i) {
    const int x = own_x() + i * kStep;
    return slice + x / 64 * 4096 + own_k() * 64 + (x % 64 / 8 ^ own_k() % 8) * 8;
  }
  SINEW_DEVICE static uint64_t descriptor(const Element* slice, int x, int k) {
    return matrix_descriptor(slice + x / 64 * 4096 + k * 64, 8192, 1024);
  }
};

// Element: bfloat16, or float, cut to TF32.
template <int kGroups, int kExtentN_, int kStages, int kMinBlocks_, class Element_ = bfloat16>
struct WgmmaTile {
  template <int kExtent>
  using AlongK = SwizzledAlongK<WgmmaTile, kExtent>;
  template <int kExtent>
  using AlongX = SwizzledAlongX<WgmmaTile, kExtent>;
  using Element = Element_;
  static constexpr int kDepth = 128 / int(sizeof(Element)), kExtentM = 64 * kGroups, kExtentN = kExtentN_,
                       kMinBlocks = kMinBlocks_;
  static constexpr int kThreads = 128 * kGroups;
  static_assert(kStages >= 3);
  template <class LoaderA, class LoaderB>
  static constexpr size_t shared_bytes() {
    return size_t{kStages} * (LoaderA::kElements + LoaderB::kElements) * sizeof(Element);
  }

  using Half = WgmmaTile<kGroups, kExtentN / 2, kStages, kMinBlocks, Element>;  // of its columns
  static constexpr int kSums = kExtentN / 2;
  float acc[kSums] = {};

  // A thread has the rows first_row() + 8 i, i < kRows, and the column pairs first_column() + 8 j, j < kBlocksN.
  static constexpr int kRows = 2, kBlocksN = kExtentN / 8;
  SINEW_DEVICE static int first_row() { return int(threadIdx.x) / 32 * 16 + int(threadIdx.x) % 32 / 4; }
  SINEW_DEVICE static int first_column() { return int(threadIdx.x) % 4 * 2; }
  SINEW_DEVICE float value(int i, int j, int e) const { return acc[j * 4 + i * 2 + e]; }

  // acc += the product of a slice, rows from `row` on, in its own time.
  template <class SliceA, class SliceB>
  SINEW_DEVICE void multiply(const Element* slice_a, const Element* slice_b, int row) {
    SINEW_UNROLL
    for (int step = 0; step < kDepth; step += 32 / int(sizeof(Element))) {
      const uint64_t a = SliceA::descriptor(slice_a, row, step), b = SliceB::descriptor(slice_b, 0, step);
      if constexpr (sizeof(Element) == 2)
        wgmma<kExtentN, SliceA::kTransposed, SliceB::kTransposed>(acc, a, b);
      else
        wgmma_tf32<kExtentN>(acc, a, b);
    }
  }

  // acc += the product over k. All threads of the block call it, once.
  template <class LoaderA, class LoaderB>
  SINEW_DEVICE void accumulate(Element* shared, int k, LoaderA& load_a, LoaderB& load_b) {
    constexpr int kStage = LoaderA::kElements + LoaderB::kElements;
    int k_left = k, stage_in = 0, stage_out = 0;
    const auto fetch = [&] {
      if (k_left > 0) {
        Element* const to = shared + stage_in * kStage;
        load_a.fetch(to, k_left);
        load_b.fetch(to + LoaderA::kElements, k_left);
        stage_in = stage_in + 1 == kStages ? 0 : stage_in + 1;
      }
      k_left -= kDepth;
      copy_async_commit();  // an empty group at the end, so that the count of those in flight stays the same
    };
    const int row = int(threadIdx.x) / 128 * 64;
    for (int i = 0; i < kStages - 2; ++i) fetch();
    for (; k > 0; k -= kDepth) {
      copy_async_wait<kStages - 3>();
      proxy_fence();
      block_sync();  // this slice is there for all, and all are done with the slice before the last
      const Element* const slice_a = shared + stage_out * kStage;
      const Element* const slice_b = slice_a + LoaderA::kElements;
      wgmma_fence();
      multiply<LoaderA, LoaderB>(slice_a, slice_b, row);
      wgmma_commit();
      fetch();
      wgmma_wait<1>();
      stage_out = stage_out + 1 == kStages ? 0 : stage_out + 1;
    }
    wgmma_wait<0>();
    wgmma_results(acc);
  }
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
