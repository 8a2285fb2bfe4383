// Matrix product on the tensor cores: factors rounded to TF32 (10 bits of mantissa), sums in float. C as in gemm.cu,
// which is used instead where A or B do not allow accesses of 16 bytes.
//
// Parallel over tiles, batches and chunks of k as in gemm.cu. A block of four warps makes 128 x 128 of C, a warp 64 x
// 64 of it in registers. A and B come to shared memory in slices of 16 k, as they lie in memory, by asynchronous copies
// that are three slices ahead; one barrier a slice. An operand whose memory runs along k is read by load_matrices, the
// other kind word by word; the pads let neither meet a bank twice. Flops: 2 m n k; bytes as gemm.cu with tiles of 128.
// GPU figures: not measured yet.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/gemm_place.cuh"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int kExtent = 128, kThreads = 128, kWarpExtent = 64;
constexpr int kDepth = 16, kStages = 4;
constexpr int kStepK = 8;                                               // of one mma
constexpr int kBlocksM = kWarpExtent / 16, kBlocksN = kWarpExtent / 8;  // mma of a warp
constexpr int kCopies = kExtent * kDepth / 4 / kThreads;                // of a thread and operand
static_assert(kDepth == 16 && kThreads == 128 && kExtent == 128, "Operand counts on it");

// A slice of an operand in shared memory, its extent in the tile called x: [x][k] when memory runs along k, else
// [k][x].
template <bool kAlongK>
struct Operand {
  static constexpr int kPitch = kAlongK ? kDepth + 4 : kExtent + 8;
  static constexpr int kElements = (kAlongK ? kExtent : kDepth) * kPitch;
  static constexpr int kStep = kAlongK ? 32 : 4;  // x or k from one copy of a thread to the next

  const float* from;
  int64_t pitch;
  int x_left;  // from the thread's first x on

  SINEW_DEVICE static int own_x() { return kAlongK ? int(threadIdx.x) / 4 : int(threadIdx.x) % 32 * 4; }
  SINEW_DEVICE static int own_k() { return kAlongK ? int(threadIdx.x) % 4 * 4 : int(threadIdx.x) / 32; }

  SINEW_DEVICE Operand(const float* matrix, int64_t pitch_, int x0, int extent)
      : from(matrix + (kAlongK ? (x0 + own_x()) * pitch_ + own_k() : own_k() * pitch_ + x0 + own_x())),
        pitch(pitch_),
        x_left(extent - x0 - own_x()) {}

  // Starts the copies of the next slice, of which k_left or kDepth k exist.
  SINEW_DEVICE void fetch(float* slice, int k_left) {
    float* const to = slice + (kAlongK ? own_x() * kPitch + own_k() : own_k() * kPitch + own_x());
    SINEW_UNROLL
    for (int i = 0; i < kCopies; ++i) {
      const bool there = kAlongK ? i * kStep < x_left && own_k() < k_left : x_left > 0 && own_k() + i * kStep < k_left;
      copy_async(to + i * kStep * kPitch, from + i * kStep * pitch, there);
    }
    from += kAlongK ? kDepth : kDepth * pitch;
  }
};

// Two floats, moved in one access.
struct alignas(8) Pair {
  float v[2];
};

SINEW_DEVICE uint32_t rounded(uint32_t word) {
  float x;
  memcpy(&x, &word, 4);
  return to_tf32(x);
}

// The warp's rows x0..x0+63 of A at k..k+7.
template <bool kAlongK>
SINEW_DEVICE void read_a(const float* slice, int x0, int k, uint32_t (&a)[kBlocksM][4]) {
  constexpr int kPitch = Operand<kAlongK>::kPitch;
  const int lane = int(threadIdx.x) % 32;
  SINEW_UNROLL
  for (int m = 0; m < kBlocksM; ++m) {
    if constexpr (kAlongK) {
      load_matrices(a[m], slice + (x0 + m * 16 + lane % 16) * kPitch + k + lane / 16 * 4);
    } else {
      const float* const word = slice + (k + lane % 4) * kPitch + x0 + m * 16 + lane / 4;
      SINEW_UNROLL
      for (int i = 0; i < 4; ++i) memcpy(&a[m][i], word + i / 2 * 4 * kPitch + i % 2 * 8, 4);
    }
    SINEW_UNROLL
    for (int i = 0; i < 4; ++i) a[m][i] = rounded(a[m][i]);
  }
}

// The warp's columns x0..x0+63 of B at k..k+7.
template <bool kAlongK>
SINEW_DEVICE void read_b(const float* slice, int x0, int k, uint32_t (&b)[kBlocksN][2]) {
  constexpr int kPitch = Operand<kAlongK>::kPitch;
  const int lane = int(threadIdx.x) % 32;
  SINEW_UNROLL
  for (int n = 0; n < kBlocksN; n += 2) {
    uint32_t four[4];  // of two blocks
    if constexpr (kAlongK) {
      load_matrices(four, slice + (x0 + n * 8 + lane / 16 * 8 + lane % 8) * kPitch + k + lane / 8 % 2 * 4);
    } else {
      const float* const word = slice + (k + lane % 4) * kPitch + x0 + n * 8 + lane / 4;
      SINEW_UNROLL
      for (int i = 0; i < 4; ++i) memcpy(&four[i], word + i % 2 * 4 * kPitch + i / 2 * 8, 4);
    }
    SINEW_UNROLL
    for (int i = 0; i < 4; ++i) b[n + i / 2][i % 2] = rounded(four[i]);
  }
}

SINEW_DEVICE void write_tile(const float (&acc)[kBlocksM][kBlocksN][4], int m0, int n0, float* c, const float* bias,
                             const GemmShape<float>& shape) {
  const int lane = int(threadIdx.x) % 32;
  m0 += lane / 4;
  n0 += lane % 4 * 2;
  SINEW_UNROLL
  for (int j = 0; j < kBlocksN; ++j) {
    const int n = n0 + j * 8;
    float add[2];
    SINEW_UNROLL
    for (int e = 0; e < 2; ++e) add[e] = bias != nullptr && n + e < shape.n ? bias[n + e] : 0.0f;
    SINEW_UNROLL
    for (int i = 0; i < 2 * kBlocksM; ++i) {
      const int m = m0 + i * 8;
      float* const to = c + m * shape.ldc + n;
      Pair pair = {};
      if (shape.beta != 0.0f && m < shape.m) {
        SINEW_UNROLL
        for (int e = 0; e < 2; ++e)
          if (n + e < shape.n) pair.v[e] = shape.beta * to[e];
      }
      SINEW_UNROLL
      for (int e = 0; e < 2; ++e) {
        pair.v[e] += shape.alpha * acc[i / 2][j][i % 2 * 2 + e] + add[e];
        if (shape.act == Activation::relu) pair.v[e] = SINEW_FUNCTOR_NS::relu::apply(pair.v[e], 0.0f, 0.0f);
      }
      if (shape.pack_c) {
        if (m < shape.m && n < shape.n) *reinterpret_cast<Pair*>(to) = pair;
      } else {
        SINEW_UNROLL
        for (int e = 0; e < 2; ++e)
          if (m < shape.m && n + e < shape.n) to[e] = pair.v[e];
      }
    }
  }
}

template <bool kTransA, bool kTransB>
__global__ void __launch_bounds__(kThreads, 2)
    gemm_tensor(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
                const float* __restrict__ bias, GemmShape<float> shape) {
  using OperandA = Operand<!kTransA>;
  using OperandB = Operand<kTransB>;
  constexpr int kStage = OperandA::kElements + OperandB::kElements;
  SINEW_DYNAMIC_SHARED(float, shared);
  const GemmPlace place =
      gemm_place(int(blockIdx.x), (shape.m + kExtent - 1) / kExtent, (shape.n + kExtent - 1) / kExtent);
  const int m0 = place.row * kExtent, n0 = place.column * kExtent;
  const int k0 = int(blockIdx.z) * shape.chunk;
  const int depth = shape.k - k0 < shape.chunk ? shape.k - k0 : shape.chunk;
  OperandA load_a(a + blockIdx.y * shape.batch_stride_a + (kTransA ? k0 * shape.lda : k0), shape.lda, m0, shape.m);
  OperandB load_b(b + blockIdx.y * shape.batch_stride_b + (kTransB ? k0 : k0 * shape.ldb), shape.ldb, n0, shape.n);
  const int warp = int(threadIdx.x) / 32, warp_m = warp % 2 * kWarpExtent, warp_n = warp / 2 * kWarpExtent;
  float acc[kBlocksM][kBlocksN][4] = {};

  int fetched = 0;  // k
  int stage_in = 0, stage_out = 0;
  const auto fetch = [&] {
    if (fetched < depth) {
      float* const to = shared + stage_in * kStage;
      load_a.fetch(to, depth - fetched);
      load_b.fetch(to + OperandA::kElements, depth - fetched);
      fetched += kDepth;
      stage_in = stage_in + 1 == kStages ? 0 : stage_in + 1;
    }
    copy_async_commit();  // an empty group at the end, so that the count of those in flight stays the same
  };
  for (int i = 0; i < kStages - 1; ++i) fetch();
  for (int k = 0; k < depth; k += kDepth) {
    copy_async_wait<kStages - 2>();
    block_sync();  // this slice is there for all, and nobody reads the one that the next copies overwrite
    fetch();
    const float* const slice_a = shared + stage_out * kStage;
    const float* const slice_b = slice_a + OperandA::kElements;
    SINEW_UNROLL
    for (int step = 0; step < kDepth; step += kStepK) {
      uint32_t ra[kBlocksM][4], rb[kBlocksN][2];
      read_a<!kTransA>(slice_a, warp_m, step, ra);
      read_b<kTransB>(slice_b, warp_n, step, rb);
      SINEW_UNROLL
      for (int m = 0; m < kBlocksM; ++m) {
        SINEW_UNROLL
        for (int n = 0; n < kBlocksN; ++n) mma_tf32(acc[m][n], ra[m], rb[n]);
      }
    }
    stage_out = stage_out + 1 == kStages ? 0 : stage_out + 1;
  }
  write_tile(acc, m0 + warp_m, n0 + warp_n, c + blockIdx.y * shape.batch_stride_c + blockIdx.z * shape.split_stride_c,
             bias, shape);
}

template <bool kTransA, bool kTransB>
GemmKernel<float> kernel_for(const char* name) {
  constexpr size_t kBytes =
      size_t{kStages} * (Operand<!kTransA>::kElements + Operand<kTransB>::kElements) * sizeof(float);
  return {{name, &gemm_tensor<kTransA, kTransB>}, kExtent, kExtent, kThreads, kBytes};
}

}  // namespace

GemmKernel<float> gemm_tensor_kernel(bool trans_a, bool trans_b) {
  if (trans_a && trans_b) return kernel_for<true, true>("gemm tt, tf32");
  if (trans_a) return kernel_for<true, false>("gemm tn, tf32");
  if (trans_b) return kernel_for<false, true>("gemm nt, tf32");
  return kernel_for<false, false>("gemm nn, tf32");
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
