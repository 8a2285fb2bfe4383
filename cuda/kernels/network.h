// The kernels of networks' layers as host code sees them; see cuda/kernels.h for the rules.
#pragma once

#include <cstdint>

#include "core/kernel_api.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// ---- loss.cu ----

// How rows of `cols` elements are shared out: tiny ones take a thread each, short ones stay in the registers of a few
// lanes, a long one keeps a block. packs: x and the output are moved 16 bytes at a time; their addresses and `cols`
// must be multiples of that. (Tiny rows are moved as one array and do not ask for it.)
struct RowShare {
  unsigned threads, rows_per_block;
};
// Parameters: rows, cols, x, y. Any one-dimensional grid.
template <class T>
struct SoftmaxKernel {
  Kernel<int64_t, int64_t, const T*, T*> kernel;
  RowShare share;
};
template <class T>
SoftmaxKernel<T> softmax_kernel(int64_t cols, bool log, bool packs);
// Parameters: rows, cols, x, labels, scale, dx, loss, partial. scale and dx may be null. With partial, block b leaves
// the sum of its rows' losses in partial[b]; otherwise loss, unless null, receives the mean, and there is one block.
template <class T>
struct CrossEntropyKernel {
  Kernel<int64_t, int64_t, const T*, const int64_t*, const T*, T*, T*, double*> kernel;
  RowShare share;
};
template <class T>
CrossEntropyKernel<T> cross_entropy_kernel(int64_t cols, bool packs);
// loss = sum of n partial sums / rows. Parameters: n, rows, partial, loss. One block of kMeanThreads threads.
inline constexpr unsigned kMeanThreads = 256;
template <class T>
Kernel<int64_t, int64_t, const double*, T*> mean_loss_kernel();

// ---- norm.cu ----

// Kernels over (rows, channels). Block (x, kColumnThreads / x), x a power of two up to kColumnLanes; a thread takes
// `width` neighbouring channels: 1, or kColumnWidth, when all arrays over rows are aligned to that and channels is a
// multiple. blockIdx.x counts groups of x * width channels, blockIdx.y chunks of `chunk` rows.
inline constexpr unsigned kColumnThreads = 256, kColumnLanes = 32;
// 16 bytes of floats; of bf16 as many elements as of f32, for they are as wide in registers.
template <class T>
inline constexpr int kColumnWidth = 16 / static_cast<int>(sizeof(Wide<T>));
// Those that add up sums over rows leave kSums sums a chunk: partial is (chunks, sums, channels). The kernels that
// finish them have blocks (kColumnThreads / y, y), y a power of two up to kTotalLanes; x counts channels.
inline constexpr unsigned kTotalLanes = 64;

// Where the rectifier's mask comes from.
enum class NormMask : uint8_t { none, from_x, from_y };
template <class T>
struct NormKernels {
  using W = Wide<T>;
  // Sums of x - x[0] and its square. Parameters: rows, channels, chunk, x, partial.
  static constexpr int kStatisticsSums = 2;
  using Statistics = Kernel<int64_t, int64_t, int64_t, const T*, double*>;
  static Statistics statistics(bool packs);
  // channels, chunks, rows, eps, partial, x, gamma, mean, inv_std, variance, scale (gamma * inv_std).
  using FinishStatistics = Kernel<int64_t, int64_t, double, double, const double*, const T*, const W*, W*, W*, W*, W*>;
  static FinishStatistics finish_statistics();
  // rows, channels, chunk, relu, x, center, scale, shift, residual, y.
  using Affine = Kernel<int64_t, int64_t, int64_t, bool, const T*, const W*, const W*, const W*, const T*, T*>;
  static Affine affine(bool packs, bool residual);

  // Sums of the masked g and of its product with x - mean.
  // rows, channels, chunk, g, x, y, gamma, beta, mean, inv_std, dresidual, partial.
  static constexpr int kGradSums = 2;
  using GradSums = Kernel<int64_t, int64_t, int64_t, const T*, const T*, const T*, const W*, const W*, const W*,
                          const W*, T*, double*>;
  static GradSums grad_sums(bool packs, NormMask mask);
  // channels, chunks, rows, partial, gamma, inv_std, dgamma, dbeta, coefficients (kGradCoefficients, channels).
  static constexpr int kGradCoefficients = 3;
  using FinishGrad = Kernel<int64_t, int64_t, double, const double*, const W*, const W*, W*, W*, W*>;
  static FinishGrad finish_grad();
  // from_y: g is already masked. accumulate: dx += instead of =. rows, channels, chunk, g, x, mean, beta,
  // coefficients, dx.
  using Grad = Kernel<int64_t, int64_t, int64_t, const T*, const T*, const W*, const W*, const W*, T*>;
  static Grad grad(bool packs, NormMask mask, bool accumulate);

  // rows, channels, chunk, g, x, y, u, gamma, beta, mean, inv_std, partial.
  static constexpr int kGrad2Sums = 5;
  using Grad2Sums = Kernel<int64_t, int64_t, int64_t, const T*, const T*, const T*, const T*, const T*, const T*,
                           const T*, const T*, double*>;
  static Grad2Sums grad2_sums(bool packs, NormMask mask);
  // channels, chunks, rows, partial, gamma, inv_std, a, b, gamma2, coefficients (kGrad2Coefficients, channels).
  static constexpr int kGrad2Coefficients = 6;
  using FinishGrad2 = Kernel<int64_t, int64_t, double, const double*, const T*, const T*, const T*, const T*, T*, T*>;
  static FinishGrad2 finish_grad2();
  // rows, channels, chunk, g, x, y, u, r, mean, beta, coefficients, g2, x2.
  using Grad2 = Kernel<int64_t, int64_t, int64_t, const T*, const T*, const T*, const T*, const T*, const T*, const T*,
                       const T*, T*, T*>;
  static Grad2 grad2(bool packs, NormMask mask);
};

// ---- pool.cu ----

struct PoolShape {
  int h, w, c, p, q, kernel, stride, pad;
};
// A thread takes 16 bytes of channels of one written pixel (packs: x, y and c allow it, and the places' address is a
// multiple of as many bytes), or one channel. blockIdx.x counts rows of written pixels over all images; a row's
// threads, pixels times groups of channels, are shared out over blockIdx.y. Parameters: shape, x, y, index.
inline constexpr unsigned kPoolThreads = 256;
template <class T>
struct PoolKernels {
  using WithPlaces = Kernel<PoolShape, const T*, T*, uint8_t*>;        // index is written, or null
  using FromPlaces = Kernel<PoolShape, const T*, T*, const uint8_t*>;  // index is read, or not used
  static WithPlaces max(bool packs, int64_t kernel);
  static FromPlaces gather(bool packs, int64_t kernel);
  // cells: the windows' extent where it is 2 or 3 and the stride is 2; then a thread writes a cell of 2x2 pixels,
  // counted with the padding, and what is said of pixels above holds for cells that have one. 0 otherwise.
  static FromPlaces scatter(bool packs, int64_t cells);
  static FromPlaces average(bool packs, int64_t kernel);
  static FromPlaces average_grad(bool packs, int64_t cells);
};

// ---- layer_norm.cu ----

// Blocks of kLayerThreads threads that serve rows_per_block rows each, counted by blockIdx.x. packs: all arrays but
// mean and inv_std are aligned to 16 bytes, and cols is a multiple of that.
inline constexpr unsigned kLayerThreads = 256;
template <class T>
struct LayerNormKernels {
  using W = Wide<T>;
  // rows, cols, 1 / cols, eps, x, gamma, beta, y, mean, inv_std.
  struct Rows {
    Kernel<int64_t, int64_t, double, double, const T*, const W*, const W*, T*, W*, W*> kernel;
    unsigned rows_per_block;
  };
  static Rows rows(int64_t cols, bool packs);
  // The derivative of up to kGradColumns columns: dx unless null, and sums for finish_grad. Block i takes `chunk` rows,
  // a multiple of rows_together, and has shared_bytes of dynamic memory; a multiprocessor holds `resident` blocks.
  // rows, cols, chunk, 1 / cols, g, x, gamma, mean, inv_std, dx, partial.
  static constexpr int64_t kGradColumns = 512;
  struct Grad {
    Kernel<int64_t, int64_t, int64_t, double, const T*, const T*, const W*, const W*, const W*, T*, double*> kernel;
    unsigned rows_together, shared_bytes, resident;
  };
  static Grad grad(int64_t cols, bool packs);
  // dx of more columns. rows, cols, 1 / cols, g, x, gamma, mean, inv_std, dx.
  struct GradRows {
    Kernel<int64_t, int64_t, double, const T*, const T*, const W*, const W*, const W*, T*> kernel;
    unsigned rows_per_block;
  };
  static GradRows dx(int64_t cols, bool packs);
  // Over columns like norm.cu's. rows, cols, chunk, g, x, mean, inv_std, partial; cols, chunks, partial, dgamma, dbeta.
  static constexpr int kGradSums = 2;
  using GradSums = Kernel<int64_t, int64_t, int64_t, const T*, const T*, const W*, const W*, double*>;
  static GradSums grad_sums(bool packs);
  using FinishGrad = Kernel<int64_t, int64_t, const double*, W*, W*>;
  static FinishGrad finish_grad();
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
