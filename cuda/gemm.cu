// Matrix product, C = act(alpha op(A) op(B) + beta C + bias), on the ordinary (SIMT) units.
//
// Parallel over tiles of C (blockIdx.x) and batches (blockIdx.y). A block of 16 x 16 threads makes a square tile; a
// thread makes a square of it in registers, as groups of 16 bytes so that shared memory is read in one access without
// bank conflicts. op(A) and op(B) come through shared memory 8 k at a time, double buffered: the next slice is loaded
// into registers while the present one is multiplied, one barrier a slice. Both are stored with k outermost. Flops: 2 m
// n k. Bytes: ceil(n / tile) m k + ceil(m / tile) n k + m n elements. Sums run over k in order for every element,
// whatever the tile. GPU figures: not measured yet.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/kernels.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int kSide = 16;  // threads along each side of a tile
constexpr int kThreads = kSide * kSide;
static_assert(kThreads == kGemmThreads);
constexpr int kDepth = 8;  // k per slice

// kGroups groups of 16 bytes per thread and side: float 128 or 64, double 64 or 32 on a side.
template <class T, int kGroups>
struct Tile {
  static constexpr int kWidth = Pack<T>::kWidth;
  static constexpr int kThreadSide = kGroups * kWidth;
  static constexpr int kExtent = kSide * kThreadSide;
  static constexpr int kPitch = kExtent + kWidth;  // the pad spreads stores along k over the banks
  static constexpr int kSlice = kDepth * kPitch;
  static constexpr int kSharedElements = 2 * 2 * kSlice;  // two buffers of A and B
};

// Brings slices of an operand from global through registers to shared memory. Its extent along C's side is called x.
// kAlongK: memory runs along k (A as it is, B transposed), else along x.
template <class T, int kGroups, bool kAlongK>
struct Loader {
  using Shape = Tile<T, kGroups>;
  static constexpr int kCount = Shape::kExtent * kDepth / kThreads;
  // A thread's elements of a slice are this far apart, across the direction memory runs in.
  static constexpr int kStepX = kAlongK ? kThreads / kDepth : 0;
  static constexpr int kStepK = kAlongK ? 0 : kThreads / Shape::kExtent;

  const T* from;  // the thread's first element of the slice
  int64_t pitch;
  int x_left;  // extent from the thread's first x on
  T staged[kCount];

  SINEW_DEVICE static int own_x() { return kAlongK ? threadIdx.x / kDepth : threadIdx.x % Shape::kExtent; }
  SINEW_DEVICE static int own_k() { return kAlongK ? threadIdx.x % kDepth : threadIdx.x / Shape::kExtent; }

  SINEW_DEVICE Loader(const T* matrix, int64_t pitch_, int x0, int extent)
      : from(matrix + (kAlongK ? (x0 + own_x()) * pitch_ + own_k() : own_k() * pitch_ + x0 + own_x())),
        pitch(pitch_),
        x_left(extent - x0 - own_x()) {}

  // Loads the next slice, which has k_left or kDepth k, zeros beyond the matrix.
  SINEW_DEVICE void fetch(int k_left) {
    k_left -= own_k();
    SINEW_UNROLL
    for (int i = 0; i < kCount; ++i)
      staged[i] = i * kStepX < x_left && i * kStepK < k_left ? from[i * (kStepX + kStepK) * pitch] : T(0);
    from += kAlongK ? kDepth : kDepth * pitch;
  }
  SINEW_DEVICE void store(T* slice) const {
    SINEW_UNROLL
    for (int i = 0; i < kCount; ++i) slice[(own_k() + i * kStepK) * Shape::kPitch + own_x() + i * kStepX] = staged[i];
  }
};

// acc += outer products of one slice. Thread coordinate t owns, in group g, the kWidth columns from
// g * kSide * kWidth + t * kWidth on.
template <class T, int kGroups>
SINEW_DEVICE void multiply(const T* a, const T* b, int ty, int tx,
                           T (&acc)[Tile<T, kGroups>::kThreadSide][Tile<T, kGroups>::kThreadSide]) {
  using Shape = Tile<T, kGroups>;
  constexpr int kWidth = Shape::kWidth;
  SINEW_UNROLL
  for (int k = 0; k < kDepth; ++k) {
    Pack<T> row[kGroups], column[kGroups];
    SINEW_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      row[g] = *reinterpret_cast<const Pack<T>*>(a + k * Shape::kPitch + (g * kSide + ty) * kWidth);
      column[g] = *reinterpret_cast<const Pack<T>*>(b + k * Shape::kPitch + (g * kSide + tx) * kWidth);
    }
    SINEW_UNROLL
    for (int i = 0; i < Shape::kThreadSide; ++i) {
      SINEW_UNROLL
      for (int j = 0; j < Shape::kThreadSide; ++j)
        acc[i][j] += row[i / kWidth].v[i % kWidth] * column[j / kWidth].v[j % kWidth];
    }
  }
}

template <class T>
SINEW_DEVICE T activate(T x, Activation act) {
  switch (act) {
    case Activation::relu:
      return SINEW_FUNCTOR_NS::relu::apply(x, T(0), T(0));
    case Activation::tanh:
      return SINEW_FUNCTOR_NS::tanh::apply(x, T(0), T(0));
    case Activation::sigmoid:
      return SINEW_FUNCTOR_NS::sigmoid::apply(x, T(0), T(0));
    case Activation::none:
      break;
  }
  return x;
}

template <class T, int kGroups, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(kThreads, kGroups == 1 ? 3 : 2)
    gemm(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ c, const T* __restrict__ bias,
         GemmShape<T> shape) {
  using Shape = Tile<T, kGroups>;
  constexpr int kWidth = Shape::kWidth, kThreadSide = Shape::kThreadSide;
  SINEW_DYNAMIC_SHARED(T, shared);
  const int tx = threadIdx.x % kSide, ty = threadIdx.x / kSide;
  const unsigned tiles_n = (unsigned(shape.n) + Shape::kExtent - 1) / Shape::kExtent;
  const int m0 = int(blockIdx.x / tiles_n) * Shape::kExtent, n0 = int(blockIdx.x % tiles_n) * Shape::kExtent;

  for (int64_t batch = blockIdx.y; batch < shape.batch; batch += gridDim.y) {
    Loader<T, kGroups, !kTransA> load_a(a + batch * shape.batch_stride_a, shape.lda, m0, shape.m);
    Loader<T, kGroups, kTransB> load_b(b + batch * shape.batch_stride_b, shape.ldb, n0, shape.n);
    T acc[kThreadSide][kThreadSide] = {};

    load_a.fetch(shape.k);
    load_b.fetch(shape.k);
    load_a.store(shared);
    load_b.store(shared + Shape::kSlice);
    block_sync();
    T *present = shared, *next = shared + 2 * Shape::kSlice;
    for (int k_left = shape.k; k_left > 0; k_left -= kDepth) {
      const bool more = k_left > kDepth;
      if (more) {
        load_a.fetch(k_left - kDepth);
        load_b.fetch(k_left - kDepth);
      }
      multiply<T, kGroups>(present, present + Shape::kSlice, ty, tx, acc);
      if (more) {
        load_a.store(next);
        load_b.store(next + Shape::kSlice);
      }
      block_sync();  // the next slice is there, and nobody reads the present buffer any more
      T* const done = present;
      present = next;
      next = done;
    }

    T* const out = c + batch * shape.batch_stride_c;
    SINEW_UNROLL
    for (int i = 0; i < kThreadSide; ++i) {
      const int m = m0 + (i / kWidth * kSide + ty) * kWidth + i % kWidth;
      if (m >= shape.m) continue;
      SINEW_UNROLL
      for (int j = 0; j < kThreadSide; ++j) {
        const int n = n0 + (j / kWidth * kSide + tx) * kWidth + j % kWidth;
        if (n >= shape.n) continue;
        T value = shape.alpha * acc[i][j];
        if (shape.beta != T(0)) value += shape.beta * out[m * shape.ldc + n];
        if (bias != nullptr) value += bias[n];
        out[m * shape.ldc + n] = activate(value, shape.act);
      }
    }
  }
}

template <class T, int kGroups>
GemmKernel<T> kernel_for(bool trans_a, bool trans_b) {
  using Shape = Tile<T, kGroups>;
  constexpr size_t kBytes = Shape::kSharedElements * sizeof(T);
  if (trans_a && trans_b) return {{"gemm tt", &gemm<T, kGroups, true, true>}, Shape::kExtent, kBytes};
  if (trans_a) return {{"gemm tn", &gemm<T, kGroups, true, false>}, Shape::kExtent, kBytes};
  if (trans_b) return {{"gemm nt", &gemm<T, kGroups, false, true>}, Shape::kExtent, kBytes};
  return {{"gemm nn", &gemm<T, kGroups, false, false>}, Shape::kExtent, kBytes};
}

}  // namespace

template <class T>
GemmKernel<T> gemm_kernel(bool trans_a, bool trans_b, bool large) {
  return large ? kernel_for<T, 2>(trans_a, trans_b) : kernel_for<T, 1>(trans_a, trans_b);
}
template GemmKernel<float> gemm_kernel(bool trans_a, bool trans_b, bool large);
template GemmKernel<double> gemm_kernel(bool trans_a, bool trans_b, bool large);

}  // namespace sinew::cuda::SINEW_CUDA_NS
