// Tiles of a matrix product on the ordinary units, shared by gemm.cu, conv.cu and conv_dw.cu.
//
// A block makes a kExtentM x kExtentN tile of C; a thread makes kThreadM x kThreadN of it in registers, as groups of 16
// bytes so that shared memory is read in one access. The lanes of a warp lie in a kLanesM x (32 / kLanesM) grid, so a
// warp reads few distinct addresses of either operand. Both operands come through shared memory kDepth k at a time,
// double buffered and with k outermost: the next slice is loaded into registers while the present one is multiplied,
// one barrier a slice.
//
// A loader brings slices of one operand: fetch(k_left) loads the next slice, of which k_left or kDepth k exist, into
// registers, zeros outside the operand; store() puts it into shared memory. What an operand's extent in the tile counts
// (rows of A, columns of B) is called x.
#pragma once

#include "cuda/device/device.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// kMinBlocks: blocks that should fit on a multiprocessor; bounds the registers.
template <class T_, int kExtentM_, int kExtentN_, int kThreadM_, int kThreadN_, int kLanesM_, int kDepth_,
          int kMinBlocks_>
struct Tile {
  using T = T_;
  static constexpr int kExtentM = kExtentM_, kExtentN = kExtentN_;
  static constexpr int kThreadM = kThreadM_, kThreadN = kThreadN_;
  static constexpr int kLanesM = kLanesM_, kLanesN = 32 / kLanesM_;
  static constexpr int kDepth = kDepth_, kMinBlocks = kMinBlocks_;
  static constexpr int kWarpsM = kExtentM / (kLanesM * kThreadM), kWarpsN = kExtentN / (kLanesN * kThreadN);
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWidth = Pack<T>::kWidth;
  static constexpr int kGroupsM = kThreadM / kWidth, kGroupsN = kThreadN / kWidth;
  // The pad spreads stores along k over the banks.
  static constexpr int kPitchM = kExtentM + kWidth, kPitchN = kExtentN + kWidth;
  static constexpr int kSliceM = kDepth * kPitchM, kSliceN = kDepth * kPitchN;
  static constexpr int kSharedBytes = 2 * (kSliceM + kSliceN) * int(sizeof(T));
  static_assert(kWarpsM * kLanesM * kThreadM == kExtentM && kWarpsN * kLanesN * kThreadN == kExtentN);
  static_assert(kLanesM == 4 || kLanesM == 8);
  static_assert(kThreadM % kWidth == 0 && kThreadN % kWidth == 0 && kThreads % kDepth == 0);

  T acc[kThreadM][kThreadN] = {};

  // Where a lane lies in its warp's grid. Along the side of 8 the lanes go in pairs, along the side of 4 every second
  // one and the other half of the warp: so each half of a warp reads either operand in one pass over the banks.
  SINEW_DEVICE static int lane_of_8() { return int(threadIdx.x) / 2 % 8; }
  SINEW_DEVICE static int lane_of_4() { return int(threadIdx.x) % 2 + int(threadIdx.x) / 16 % 2 * 2; }

  // The thread's first row and column of the tile; its group g begins kLanes * kWidth * g further.
  SINEW_DEVICE static int first_row() {
    const int warp = int(threadIdx.x) / 32 % kWarpsM;
    return (warp * kGroupsM * kLanesM + (kLanesM == 8 ? lane_of_8() : lane_of_4())) * kWidth;
  }
  SINEW_DEVICE static int first_column() {
    const int warp = int(threadIdx.x) / 32 / kWarpsM;
    return (warp * kGroupsN * kLanesN + (kLanesN == 8 ? lane_of_8() : lane_of_4())) * kWidth;
  }
  // From the first one to the thread's i-th row, to the first of its column group g.
  SINEW_DEVICE static constexpr int row_step(int i) { return i / kWidth * kLanesM * kWidth + i % kWidth; }
  SINEW_DEVICE static constexpr int group_step(int g) { return g * kLanesN * kWidth; }

  // acc += outer products of one slice.
  SINEW_DEVICE void multiply(const T* a, const T* b) {
    a += first_row();
    b += first_column();
    SINEW_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      Pack<T> row[kGroupsM], column[kGroupsN];
      SINEW_UNROLL
      for (int g = 0; g < kGroupsM; ++g) row[g] = *as_vector<const Pack<T>>(a + k * kPitchM + g * kLanesM * kWidth);
      SINEW_UNROLL
      for (int g = 0; g < kGroupsN; ++g) column[g] = *as_vector<const Pack<T>>(b + k * kPitchN + g * kLanesN * kWidth);
      SINEW_UNROLL
      for (int i = 0; i < kThreadM; ++i) {
        SINEW_UNROLL
        for (int j = 0; j < kThreadN; ++j)
          acc[i][j] += row[i / kWidth].v[i % kWidth] * column[j / kWidth].v[j % kWidth];
      }
    }
  }

  // acc += the product over k. All threads of the block call it; shared holds kSharedBytes.
  template <class LoaderM, class LoaderN>
  SINEW_DEVICE void accumulate(T* shared, int k, LoaderM& load_a, LoaderN& load_b) {
    if (k == 0) return;
    load_a.fetch(k);
    load_b.fetch(k);
    load_a.store(shared);
    load_b.store(shared + kSliceM);
    block_sync();
    T *present = shared, *next = shared + kSliceM + kSliceN;
    // The last turn fetches and stores zeros: with a branch around them, the compiler moves the loads behind the
    // multiplication, where nothing hides their latency.
    for (int k_left = k - kDepth; k_left > -kDepth; k_left -= kDepth) {
      load_a.fetch(k_left);
      load_b.fetch(k_left);
      multiply(present, present + kSliceM);
      load_a.store(next);
      load_b.store(next + kSliceM);
      block_sync();  // the next slice is there, and nobody reads the present buffer any more
      T* const done = present;
      present = next;
      next = done;
    }
  }
};

// kVec elements from one access, or zeros.
template <int kVec, class T>
SINEW_DEVICE void load_or_zero(bool there, const T* from, T (&to)[kVec]) {
  if constexpr (kVec == 1) {
    to[0] = there ? *from : T(0);
  } else {
    static_assert(kVec == Pack<T>::kWidth);
    Pack<T> pack = {};
    if (there) pack = *as_vector<const Pack<T>>(from);
    SINEW_UNROLL
    for (int j = 0; j < kVec; ++j) to[j] = pack.v[j];
  }
}

// ---- how the threads of a block share the loading of a kExtent x kDepth slice ----

// Memory runs along x: a thread loads at one k, kCount times kVec neighbouring x.
template <class Shape, int kExtent_, int kVec>
struct AlongX {
  using T = typename Shape::T;
  static constexpr int kExtent = kExtent_, kPitch = kExtent + Shape::kWidth;
  static constexpr int kThreadsPerK = Shape::kThreads / Shape::kDepth;
  static constexpr int kStep = kThreadsPerK * kVec;  // from one x of the thread to the next
  static constexpr int kCount = kExtent <= kStep ? 1 : kExtent / kStep;
  static_assert(kStep >= kExtent || kExtent % kStep == 0);
  T staged[kCount][kVec];

  SINEW_DEVICE static int own_k() { return int(threadIdx.x) / kThreadsPerK; }
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) % kThreadsPerK * kVec; }
  SINEW_DEVICE static bool idle() { return kStep > kExtent && own_x() >= kExtent; }
  SINEW_DEVICE void store(T* slice) const {
    if (idle()) return;
    T* const to = slice + own_k() * kPitch + own_x();
    SINEW_UNROLL
    for (int i = 0; i < kCount; ++i) {
      if constexpr (kVec == 1) {
        to[i * kStep] = staged[i][0];
      } else {
        Pack<T> pack;
        SINEW_UNROLL
        for (int j = 0; j < kVec; ++j) pack.v[j] = staged[i][j];
        *as_vector<Pack<T>>(to + i * kStep) = pack;
      }
    }
  }
};

// Memory runs along k: a thread loads kVec neighbouring k of each of kCount x.
template <class Shape, int kExtent_, int kVec>
struct AlongK {
  using T = typename Shape::T;
  static constexpr int kExtent = kExtent_, kPitch = kExtent + Shape::kWidth;
  static constexpr int kThreadsPerX = Shape::kDepth / kVec;
  static constexpr int kStep = Shape::kThreads / kThreadsPerX;
  static constexpr int kCount = kExtent <= kStep ? 1 : kExtent / kStep;
  static_assert(kStep >= kExtent || kExtent % kStep == 0);
  T staged[kCount][kVec];

  SINEW_DEVICE static int own_k() { return int(threadIdx.x) % kThreadsPerX * kVec; }
  SINEW_DEVICE static int own_x() { return int(threadIdx.x) / kThreadsPerX; }
  SINEW_DEVICE static bool idle() { return kStep > kExtent && own_x() >= kExtent; }
  SINEW_DEVICE void store(T* slice) const {
    if (idle()) return;
    T* const to = slice + own_k() * kPitch + own_x();
    SINEW_UNROLL
    for (int i = 0; i < kCount; ++i) {
      SINEW_UNROLL
      for (int j = 0; j < kVec; ++j) to[j * kPitch + i * kStep] = staged[i][j];
    }
  }
};

// ---- operands that are matrices ----

// matrix[k][x] with `pitch` elements between the k; with kVec > 1, addresses,
// pitch and extent are multiples of kVec.
template <class Shape, int kExtent, int kVec>
struct MatrixAlongX : AlongX<Shape, kExtent, kVec> {
  using Base = AlongX<Shape, kExtent, kVec>;
  using T = typename Shape::T;
  const T* from;
  int64_t slice_step;
  int x_left;  // from the thread's first x on

  SINEW_DEVICE MatrixAlongX(const T* matrix, int64_t pitch, int x0, int extent)
      : from(matrix + Base::own_k() * pitch + x0 + Base::own_x()),
        slice_step(Shape::kDepth * pitch),
        x_left(Base::idle() ? 0 : extent - x0 - Base::own_x()) {}
  SINEW_DEVICE void fetch(int k_left) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(Base::own_k() < k_left && i * Base::kStep < x_left, from + i * Base::kStep, this->staged[i]);
    from += slice_step;
  }
};

// matrix[x][k] with `pitch` elements between the x.
template <class Shape, int kExtent, int kVec>
struct MatrixAlongK : AlongK<Shape, kExtent, kVec> {
  using Base = AlongK<Shape, kExtent, kVec>;
  using T = typename Shape::T;
  const T* from;
  int64_t step;
  int x_left;

  SINEW_DEVICE MatrixAlongK(const T* matrix, int64_t pitch, int x0, int extent)
      : from(matrix + (x0 + Base::own_x()) * pitch + Base::own_k()),
        step(Base::kStep * pitch),
        x_left(Base::idle() ? 0 : extent - x0 - Base::own_x()) {}
  SINEW_DEVICE void fetch(int k_left) {
    SINEW_UNROLL
    for (int i = 0; i < Base::kCount; ++i)
      load_or_zero<kVec>(Base::own_k() < k_left && i * Base::kStep < x_left, from + i * step, this->staged[i]);
    from += Shape::kDepth;
  }
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
