// The kernel of gemm_tensor.cu and gemm_wgmma.cu: a matrix product by a tile of the tensor cores.
#pragma once

#include "cuda/device/device.cuh"

#include <type_traits>

#include "core/functors.h"
#include "cuda/device/gemm_place.cuh"
#include "cuda/device/tensor_tile.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Word q of lane l of each four is word l of lane q afterwards.
SINEW_DEVICE void transpose_in_quads(uint32_t (&words)[4]) {
  SINEW_UNROLL
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = (int(threadIdx.x) & step) != 0;
    SINEW_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int low = step == 1 ? 2 * i : i, high = low + step;
      const uint32_t other = warp_shuffle_xor(upper ? words[low] : words[high], step);
      words[low] = upper ? other : words[low];
      words[high] = upper ? words[high] : other;
    }
  }
}

// What write_tile() does where a tile's columns all exist, in bf16, with nothing to add to: a lane of four gets 8
// columns that the four have, and writes 16 bytes instead of four times 4.
template <class Tile>
SINEW_DEVICE void write_whole_columns(const Tile& tile, int m0, int n0, bfloat16* c, const float* bias,
                                      const GemmShape<float>& shape) {
  m0 += Tile::first_row();
  n0 += Tile::first_column();
  uint32_t packed[Tile::kRows][Tile::kBlocksN];
  SINEW_UNROLL
  for (int j = 0; j < Tile::kBlocksN; ++j) {
    float add[2] = {};
    if (bias != nullptr) add[0] = bias[n0 + j * 8], add[1] = bias[n0 + j * 8 + 1];
    SINEW_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      packed[i][j] = 0;
      SINEW_UNROLL
      for (int e = 0; e < 2; ++e) {
        float value = shape.alpha * tile.value(i, j, e) + add[e];
        if (shape.act == Activation::relu) value = SINEW_FUNCTOR_NS::relu::apply(value, 0.0f, 0.0f);
        packed[i][j] |= uint32_t(bfloat16(value).bits) << 16 * e;
      }
    }
  }
  n0 += int(threadIdx.x) % 4 * 6;  // lane q of four has columns 2 q and 2 q + 1 of each 8, and then all 8 of the q-th 8
  SINEW_UNROLL
  for (int i = 0; i < Tile::kRows; ++i) {
    bfloat16* const row = c + (m0 + i * 8) * shape.ldc + n0;
    SINEW_UNROLL
    for (int j = 0; j < Tile::kBlocksN; j += 4) {
      uint32_t words[4] = {packed[i][j], packed[i][j + 1], packed[i][j + 2], packed[i][j + 3]};
      transpose_in_quads(words);
      if (m0 + i * 8 < shape.m) *as_vector<Pack<uint32_t>>(row + j * 8) = {{words[0], words[1], words[2], words[3]}};
    }
  }
}

template <bool kWholeColumns = true, class Tile, class C>
SINEW_DEVICE void write_tile(const Tile& tile, int m0, int n0, C* c, const float* bias, const GemmShape<float>& shape) {
  if constexpr (kWholeColumns && sizeof(C) == 2 && Tile::kBlocksN % 4 == 0) {
    if (shape.pack_c && shape.beta == 0.0f && n0 + Tile::kExtentN <= shape.n)
      return write_whole_columns(tile, m0, n0, c, bias, shape);
  }
  m0 += Tile::first_row();
  n0 += Tile::first_column();
  SINEW_UNROLL
  for (int j = 0; j < Tile::kBlocksN; ++j) {
    const int n = n0 + j * 8;
    float add[2];
    SINEW_UNROLL
    for (int e = 0; e < 2; ++e) add[e] = bias != nullptr && n + e < shape.n ? bias[n + e] : 0.0f;
    SINEW_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      const int m = m0 + i * 8;
      if (m >= shape.m) continue;
      C* const to = c + m * shape.ldc + n;
      Pair<C> pair;
      SINEW_UNROLL
      for (int e = 0; e < 2; ++e) {
        float value = shape.alpha * tile.value(i, j, e) + add[e];
        // What is added to a result in bf16 is rounded first, as a sum afterwards would have it.
        if (shape.beta != 0.0f && n + e < shape.n) value = float(C(value)) + shape.beta * float(to[e]);
        if (shape.act == Activation::relu) value = SINEW_FUNCTOR_NS::relu::apply(value, 0.0f, 0.0f);
        pair.v[e] = C(value);
      }
      write_pair(to, pair, n, shape.n, shape.pack_c);
    }
  }
}

template <class Tile, bool kTransA>
using LoaderA =
    std::conditional_t<kTransA, MatrixCopiesAlongX<Tile, Tile::kExtentM>, MatrixCopiesAlongK<Tile, Tile::kExtentM>>;
template <class Tile, bool kTransB>
using LoaderB =
    std::conditional_t<kTransB, MatrixCopiesAlongK<Tile, Tile::kExtentN>, MatrixCopiesAlongX<Tile, Tile::kExtentN>>;

template <class Tile, class C, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kMinBlocks)
    gemm_tensor(const typename Tile::Element* __restrict__ a, const typename Tile::Element* __restrict__ b,
                C* __restrict__ c, const float* __restrict__ bias, GemmShape<float> shape) {
  SINEW_DYNAMIC_SHARED(typename Tile::Element, shared);
  const GemmPlace place = gemm_place(int(blockIdx.x), (shape.m + Tile::kExtentM - 1) / Tile::kExtentM,
                                     (shape.n + Tile::kExtentN - 1) / Tile::kExtentN);
  const int m0 = place.row * Tile::kExtentM, n0 = place.column * Tile::kExtentN;
  const int k0 = int(blockIdx.z) * shape.chunk;
  const int depth = shape.k - k0 < shape.chunk ? shape.k - k0 : shape.chunk;
  LoaderA<Tile, kTransA> load_a(a + blockIdx.y * shape.batch_stride_a + (kTransA ? k0 * shape.lda : k0), shape.lda, m0,
                                shape.m);
  LoaderB<Tile, kTransB> load_b(b + blockIdx.y * shape.batch_stride_b + (kTransB ? k0 : k0 * shape.ldb), shape.ldb, n0,
                                shape.n);
  Tile tile;
  tile.accumulate(shared, depth, load_a, load_b);
  write_tile(tile, m0, n0, c + blockIdx.y * shape.batch_stride_c + blockIdx.z * shape.split_stride_c, bias, shape);
}

template <class Tile, class C, bool kTransA, bool kTransB>
GemmKernel<typename Tile::Element, C> instance(const char* name) {
  return {{name, &gemm_tensor<Tile, C, kTransA, kTransB>},
          Tile::kExtentM,
          Tile::kExtentN,
          Tile::kThreads,
          Tile::template shared_bytes<LoaderA<Tile, kTransA>, LoaderB<Tile, kTransB>>()};
}

template <class Tile, class C>
GemmKernel<typename Tile::Element, C> kernel_for(bool trans_a, bool trans_b) {
  constexpr bool kBf16 = sizeof(typename Tile::Element) == 2;
  if (trans_a && trans_b) return instance<Tile, C, true, true>(kBf16 ? "gemm tt, bf16" : "gemm tt, tf32");
  if (trans_a) return instance<Tile, C, true, false>(kBf16 ? "gemm tn, bf16" : "gemm tn, tf32");
  if (trans_b) return instance<Tile, C, false, true>(kBf16 ? "gemm nt, bf16" : "gemm nt, tf32");
  return instance<Tile, C, false, false>(kBf16 ? "gemm nn, bf16" : "gemm nn, tf32");
}

}  // namespace
}  // namespace sinew::cuda::SINEW_CUDA_NS
