// Host side of gemm.cu.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/install.h"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int64_t kMaxBatchBlocks = 16384, kMaxChunks = 256;
// With fewer large tiles than this, smaller ones use more of the GPU; with fewer small ones than kEnoughBlocks, k is
// split, but not into chunks shorter than kSmallestChunk. All depends on the shape alone, never on the GPU: the same
// sums everywhere. Measured in docs/gpu.md.
constexpr int64_t kEnoughTiles = 128, kEnoughBlocks = 264, kSmallestChunk = 64, kChunkStep = 16;

std::atomic<MatmulPrecision> precision = MatmulPrecision::f32;

// Whether all rows of a matrix begin at multiples of 16 bytes and their length is one.
bool packs(const void* p, size_t element, int64_t length, int64_t pitch, int64_t batch, int64_t batch_stride) {
  const int64_t width = static_cast<int64_t>(16 / element);
  return is_aligned_to(16, p) && length % width == 0 && pitch % width == 0 && (batch == 1 || batch_stride % width == 0);
}

template <class T>
int64_t tiles(const kernel::GemmArgs& args, const GemmKernel<T>& kernel) {
  return ceil_divide(args.m, kernel.tile_m) * ceil_divide(args.n, kernel.tile_n);
}

template <class T>
bool packs_operands(const kernel::GemmArgs& args) {
  return packs(args.a, sizeof(T), args.trans_a ? args.m : args.k, args.lda, args.batch, args.batch_stride_a) &&
         packs(args.b, sizeof(T), args.trans_b ? args.k : args.n, args.ldb, args.batch, args.batch_stride_b);
}

template <class T>
GemmTile choose_tile(const kernel::GemmArgs& args) {
  if (sizeof(T) == sizeof(float) && precision == MatmulPrecision::tf32 && packs_operands<T>(args))
    return GemmTile::tensor;
  const GemmKernel<T> large = gemm_kernel<T>(args.trans_a, args.trans_b, packs_operands<T>(args), GemmTile::large);
  return tiles(args, large) * args.batch < kEnoughTiles ? GemmTile::small : GemmTile::large;
}

// How k is cut up.
struct Chunks {
  int64_t length, count;
};
Chunks chunks_of(int64_t k, int64_t blocks) {
  const int64_t wanted = std::min({kEnoughBlocks / blocks, k / kSmallestChunk, kMaxChunks});
  if (wanted < 2) return {k, 1};
  const int64_t length = ceil_divide(ceil_divide(k, wanted), kChunkStep) * kChunkStep;
  return {length, ceil_divide(k, length)};
}

template <class T>
void launch_tiles(const kernel::GemmArgs& args, const GemmKernel<T>& gemm, const GemmShape<T>& shape, int64_t chunks,
                  T* c, const T* bias) {
  const int64_t blocks = tiles(args, gemm);
  SINEW_CHECK(blocks <= std::numeric_limits<int>::max() / kGemmRowGroup, "gemm", "C is too large for one launch");
  const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
  for (int64_t first = 0; first < args.batch; first += kMaxBatchBlocks)
    launch(gemm.kernel,
           {static_cast<unsigned>(blocks), static_cast<unsigned>(std::min(args.batch - first, kMaxBatchBlocks)),
            static_cast<unsigned>(chunks)},
           {gemm.threads}, gemm.shared_bytes, stream(), a + first * shape.batch_stride_a,
           b + first * shape.batch_stride_b, c + first * shape.batch_stride_c, bias, shape);
}

template <class T>
void run(const kernel::GemmArgs& args, GemmTile tile) {
  constexpr int64_t kMaxExtent = std::numeric_limits<int>::max() / 2;
  SINEW_CHECK(args.m <= kMaxExtent && args.n <= kMaxExtent && args.k <= kMaxExtent, "gemm", "(", args.m, ", ", args.k,
              ") x (", args.k, ", ", args.n, "): an extent is larger than ", kMaxExtent);
  const GemmKernel<T> gemm = gemm_kernel<T>(args.trans_a, args.trans_b, packs_operands<T>(args), tile);
  const Chunks chunks = chunks_of(args.k, tiles(args, gemm) * args.batch);
  const GemmShape<T> shape{static_cast<int>(args.m),
                           static_cast<int>(args.n),
                           static_cast<int>(args.k),
                           static_cast<int>(chunks.length),
                           args.lda,
                           args.ldb,
                           args.ldc,
                           args.batch,
                           args.batch_stride_a,
                           args.batch_stride_b,
                           args.batch_stride_c,
                           0,
                           static_cast<T>(args.alpha),
                           static_cast<T>(args.beta),
                           args.act,
                           packs(args.c, sizeof(T), args.n, args.ldc, args.batch, args.batch_stride_c)};
  T* const c = static_cast<T*>(args.c);
  const T* const bias = static_cast<const T*>(args.bias);
  if (chunks.count == 1 && (args.act == Activation::none || args.act == Activation::relu))
    return launch_tiles<T>(args, gemm, shape, 1, c, bias);

  const int64_t outputs = args.batch * args.m * args.n, finish_blocks = ceil_divide(outputs, kGemmFinishThreads);
  SINEW_CHECK(finish_blocks <= std::numeric_limits<int>::max(), "gemm", "C is too large for one launch");
  T* const sums = static_cast<T*>(memory_allocate(static_cast<size_t>(chunks.count * outputs) * sizeof(T), stream()));
  GemmShape<T> bare = shape;
  bare.ldc = args.n;
  bare.batch_stride_c = args.m * args.n;
  bare.split_stride_c = outputs;
  bare.alpha = 1;
  bare.beta = 0;
  bare.act = Activation::none;
  bare.pack_c = packs(sums, sizeof(T), args.n, args.n, 1, 0);
  launch_tiles<T>(args, gemm, bare, chunks.count, sums, nullptr);
  launch(gemm_finish_kernel<T>(), {static_cast<unsigned>(finish_blocks)}, {kGemmFinishThreads}, 0, stream(), sums,
         static_cast<int>(chunks.count), c, bias, shape);
  memory_free(sums, stream());
}

}  // namespace

void gemm(const kernel::GemmArgs& args) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "gemm", run<T>(args, choose_tile<T>(args)));
}

void set_matmul_precision(MatmulPrecision value) { precision = value; }
MatmulPrecision matmul_precision() { return precision; }

void gemm_with(const kernel::GemmArgs& args, GemmTile tile) {
  SINEW_DISPATCH_FLOAT(args.dtype, "gemm", run<T>(args, tile));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
