// Tiles of a matrix product on the tensor cores, shared by gemm_tensor.cu, conv_tensor.cu and conv_dw_tensor.cu, with
// sums in float. Factors: f32, rounded to TF32 (10 bits of mantissa), or bf16.
//
// A block makes a kExtentM x kExtentN tile of C, a warp kWarpM x kWarpN of it in registers. Both operands come to
// shared memory in slices of 64 bytes of k (16 of f32, 32 of bf16), as they lie in memory, by asynchronous copies that
// are three slices ahead; one barrier a slice. An operand whose memory runs along k is read by load_matrices; the other
// kind by load_matrices_transposed, or word by word of f32; the pads let none of them meet a bank twice.
//
// A loader copies slices of one operand: fetch(slice, k_left) starts the copies of the next slice, of which k_left or
// kDepth k exist, with zeros outside the operand. It is a slice along k or along x of the tile, which says how the
// slice lies in shared memory and which part of it a thread copies. What an operand's extent in the tile counts is
// called x.
#pragma once

#include "cuda/device/device.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

inline constexpr int kTensorStages = 4;

template <class Element>
constexpr int kTensorDepth = 64 / int(sizeof(Element));

SINEW_DEVICE uint32_t rounded_word(const float* word) { return to_tf32(*word); }
SINEW_DEVICE uint32_t rounded_word(uint32_t word) {
  float x;
  memcpy(&x, &word, 4);
  return to_tf32(x);
}

// What differs by the type of the factors. kDepth: k of one mma; kWidth: elements of 16 bytes.
template <class Element>
struct Factors;
template <>
struct Factors<float> {
  static constexpr int kDepth = 8, kWidth = 4;
  SINEW_DEVICE static uint32_t rounded(uint32_t word) { return rounded_word(word); }
  SINEW_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_tf32(d, a, b);
  }
};
template <>
struct Factors<bfloat16> {
  static constexpr int kDepth = 16, kWidth = 8;
  SINEW_DEVICE static uint32_t rounded(uint32_t word) { return word; }
  SINEW_DEVICE static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_bf16(d, a, b);
  }
};

// [x][k].
template <class Tile, int kExtent_>
struct PaddedAlongK {
  using Element = typename Tile::Element;
  static constexpr int kWidth = Factors<Element>::kWidth;
  static constexpr int kExtent = kExtent_, kPitch = Tile::kDepth + kWidth, kElements = kExtent * kPitch;
  // A thread copies 16 bytes along k of each of kCount x, kStep apart.
  static constexpr int kStep = Tile::kThreads / 4, kCount = kExtent <= kStep ? 1 : kExtent / kStep;
  static_assert(kStep >= kExtent || kExtent % kStep == 0);
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) / 4; }
  SINEW_DEVICE static int own_k() { return int(threadIdx.x) % 4 * kWidth; }
  SINEW_DEVICE static bool idle() { return kStep > kExtent && own_x() >= kExtent; }
  SINEW_DEVICE static Element* place(Element* slice, int i) { return slice + (own_x() + i * kStep) * kPitch + own_k(); }

  // The part of A for one mma, whose first row is x and first k is k; of B for two, side by side.
  SINEW_DEVICE static void read_a(const Element* slice, int x, int k, uint32_t (&a)[4]) {
    const int lane = int(threadIdx.x) % 32;
    load_matrices(a, slice + (x + lane % 16) * kPitch + k + lane / 16 * kWidth);
    SINEW_UNROLL
    for (int i = 0; i < 4; ++i) a[i] = Factors<Element>::rounded(a[i]);
  }
  SINEW_DEVICE static void read_b(const Element* slice, int x, int k, uint32_t (&left)[2], uint32_t (&right)[2]) {
    const int lane = int(threadIdx.x) % 32;
    uint32_t b[4];
    load_matrices(b, slice + (x + lane / 16 * 8 + lane % 8) * kPitch + k + lane / 8 % 2 * kWidth);
    SINEW_UNROLL
    for (int i = 0; i < 2; ++i) {
      left[i] = Factors<Element>::rounded(b[i]);
      right[i] = Factors<Element>::rounded(b[2 + i]);
    }
  }
};

// [k][x].
template <class Tile, int kExtent_>
struct PaddedAlongX {
  using Element = typename Tile::Element;
  static constexpr int kWidth = Factors<Element>::kWidth;
  static constexpr int kExtent = kExtent_, kPitch = kExtent + 8, kElements = Tile::kDepth * kPitch;
  // A thread copies at one k, kCount times 16 bytes along x, kStep apart.
  static constexpr int kThreadsPerK = Tile::kThreads / Tile::kDepth;
  static constexpr int kStep = kThreadsPerK * kWidth, kCount = kExtent <= kStep ? 1 : kExtent / kStep;
  static_assert(kStep >= kExtent || kExtent % kStep == 0);
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) % kThreadsPerK * kWidth; }
  SINEW_DEVICE static int own_k() { return int(threadIdx.x) / kThreadsPerK; }
  SINEW_DEVICE static bool idle() { return kStep > kExtent && own_x() >= kExtent; }
  SINEW_DEVICE static Element* place(Element* slice, int i) { return slice + own_k() * kPitch + own_x() + i * kStep; }

  SINEW_DEVICE static void read_a(const float* slice, int x, int k, uint32_t (&a)[4]) {
    const int lane = int(threadIdx.x) % 32;
    const float* const word = slice + (k + lane % 4) * kPitch + x + lane / 4;
    SINEW_UNROLL
    for (int i = 0; i < 4; ++i) a[i] = rounded_word(word + i / 2 * 4 * kPitch + i % 2 * 8);
  }
  SINEW_DEVICE static void read_b(const float* slice, int x, int k, uint32_t (&left)[2], uint32_t (&right)[2]) {
    const int lane = int(threadIdx.x) % 32;
    const float* const word = slice + (k + lane % 4) * kPitch + x + lane / 4;
    SINEW_UNROLL
    for (int i = 0; i < 2; ++i) {
      left[i] = rounded_word(word + i * 4 * kPitch);
      right[i] = rounded_word(word + i * 4 * kPitch + 8);
    }
  }
  SINEW_DEVICE static void read_a(const bfloat16* slice, int x, int k, uint32_t (&a)[4]) {
    const int lane = int(threadIdx.x) % 32;
    load_matrices_transposed(a, slice + (k + lane / 16 * 8 + lane % 8) * kPitch + x + lane / 8 % 2 * 8);
  }
  SINEW_DEVICE static void read_b(const bfloat16* slice, int x, int k, uint32_t (&left)[2], uint32_t (&right)[2]) {
    const int lane = int(threadIdx.x) % 32;
    uint32_t b[4];
    load_matrices_transposed(b, slice + (k + lane % 16) * kPitch + x + lane / 16 * 8);
    SINEW_UNROLL
    for (int i = 0; i < 2; ++i) {
      left[i] = b[i];
      right[i] = b[2 + i];
    }
  }
};

// How a tile keeps a slice in shared memory: [x][k] and [k][x].
template <class Tile, int kExtent>
using SliceAlongK = typename Tile::template AlongK<kExtent>;
template <class Tile, int kExtent>
using SliceAlongX = typename Tile::template AlongX<kExtent>;

template <class Element_, int kExtentM_, int kExtentN_, int kWarpM_, int kWarpN_, int kMinBlocks_>
struct TensorTile {
  template <int kExtent>
  using AlongK = PaddedAlongK<TensorTile, kExtent>;
  template <int kExtent>
  using AlongX = PaddedAlongX<TensorTile, kExtent>;
  using Element = Element_;
  static constexpr int kDepth = kTensorDepth<Element>;
  static constexpr int kExtentM = kExtentM_, kExtentN = kExtentN_, kMinBlocks = kMinBlocks_;
  static constexpr int kWarpM = kWarpM_, kWarpN = kWarpN_;
  static constexpr int kWarpsM = kExtentM / kWarpM, kThreads = 32 * kWarpsM * (kExtentN / kWarpN);
  static constexpr int kBlocksM = kWarpM / 16, kBlocksN = kWarpN / 8;  // mma of a warp
  static_assert(kExtentM % kWarpM == 0 && kExtentN % kWarpN == 0 && kWarpM % 16 == 0 && kWarpN % 16 == 0);
  template <class LoaderA, class LoaderB>
  static constexpr size_t shared_bytes() {
    return size_t{kTensorStages} * (LoaderA::kElements + LoaderB::kElements) * sizeof(Element);
  }

  float acc[kBlocksM][kBlocksN][4] = {};

  // A thread has the rows first_row() + 8 i, i < kRows, and the column pairs first_column() + 8 j, j < kBlocksN.
  static constexpr int kRows = 2 * kBlocksM;
  SINEW_DEVICE static int warp_row() { return int(threadIdx.x) / 32 % kWarpsM * kWarpM; }
  SINEW_DEVICE static int warp_column() { return int(threadIdx.x) / 32 / kWarpsM * kWarpN; }
  SINEW_DEVICE static int first_row() { return warp_row() + int(threadIdx.x) % 32 / 4; }
  SINEW_DEVICE static int first_column() { return warp_column() + int(threadIdx.x) % 4 * 2; }
  SINEW_DEVICE float value(int i, int j, int e) const { return acc[i / 2][j][i % 2 * 2 + e]; }

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
        stage_in = stage_in + 1 == kTensorStages ? 0 : stage_in + 1;
      }
      k_left -= kDepth;
      copy_async_commit();  // an empty group at the end, so that the count of those in flight stays the same
    };
    for (int i = 0; i < kTensorStages - 1; ++i) fetch();
    for (; k > 0; k -= kDepth) {
      copy_async_wait<kTensorStages - 2>();
      block_sync();  // this slice is there for all, and nobody reads the one that the next copies overwrite
      fetch();
      const Element* const slice_a = shared + stage_out * kStage;
      const Element* const slice_b = slice_a + LoaderA::kElements;
      SINEW_UNROLL
      for (int step = 0; step < kDepth; step += Factors<Element>::kDepth) {
        uint32_t a[kBlocksM][4], b[kBlocksN][2];
        SINEW_UNROLL
        for (int m = 0; m < kBlocksM; ++m) LoaderA::read_a(slice_a, warp_row() + m * 16, step, a[m]);
        SINEW_UNROLL
        for (int n = 0; n < kBlocksN; n += 2) LoaderB::read_b(slice_b, warp_column() + n * 8, step, b[n], b[n + 1]);
        SINEW_UNROLL
        for (int m = 0; m < kBlocksM; ++m) {
          SINEW_UNROLL
          for (int n = 0; n < kBlocksN; ++n) Factors<Element>::multiply(acc[m][n], a[m], b[n]);
        }
      }
      stage_out = stage_out + 1 == kTensorStages ? 0 : stage_out + 1;
    }
  }
};

// Two elements, moved in one access.
template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T v[2];
};

// Columns n and n + 1 of those there are; `pack`: in one access, which they then allow.
template <class T>
SINEW_DEVICE void write_pair(T* to, const Pair<T>& pair, int n, int columns, bool pack) {
  if (pack) {
    if (n < columns) *reinterpret_cast<Pair<T>*>(to) = pair;
  } else {
    SINEW_UNROLL
    for (int e = 0; e < 2; ++e)
      if (n + e < columns) to[e] = pair.v[e];
  }
}

// ---- operands that are matrices; addresses, pitches and extents along memory are multiples of 16 bytes ----

// matrix[x][k].
template <class Tile, int kExtent>
struct MatrixCopiesAlongK : SliceAlongK<Tile, kExtent> {
  using Slice = SliceAlongK<Tile, kExtent>;
  using Element = typename Tile::Element;
  const Element* from;
  int64_t step;
  int x_left;  // from the thread's first x on

  SINEW_DEVICE MatrixCopiesAlongK(const Element* matrix, int64_t pitch, int x0, int extent)
      : from(matrix + (x0 + Slice::own_x()) * pitch + Slice::own_k()),
        step(Slice::kStep * pitch),
        x_left(extent - x0 - Slice::own_x()) {}
  SINEW_DEVICE void fetch(Element* slice, int k_left) {
    if (Slice::idle()) return;
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i)
      copy_async(Slice::place(slice, i), from + i * step, Slice::own_k() < k_left && i * Slice::kStep < x_left);
    from += Tile::kDepth;
  }
};

// matrix[k][x].
template <class Tile, int kExtent>
struct MatrixCopiesAlongX : SliceAlongX<Tile, kExtent> {
  using Slice = SliceAlongX<Tile, kExtent>;
  using Element = typename Tile::Element;
  const Element* from;
  int64_t slice_step;
  int x_left;

  SINEW_DEVICE MatrixCopiesAlongX(const Element* matrix, int64_t pitch, int x0, int extent)
      : from(matrix + Slice::own_k() * pitch + x0 + Slice::own_x()),
        slice_step(Tile::kDepth * pitch),
        x_left(extent - x0 - Slice::own_x()) {}
  SINEW_DEVICE void fetch(Element* slice, int k_left) {
    if (Slice::idle()) return;
    SINEW_UNROLL
    for (int i = 0; i < Slice::kCount; ++i)
      copy_async(Slice::place(slice, i), from + i * Slice::kStep, Slice::own_k() < k_left && i * Slice::kStep < x_left);
    from += slice_step;
  }
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
