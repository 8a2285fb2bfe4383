// Host side of gemm.cu.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <utility>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/install.h"
#include "cuda/kernels/matrix.h"
#include "cuda/packed_bf16.h"
#include "cuda/vendor/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int64_t kMaxBatchBlocks = 16384, kMaxChunks = 256;
// With fewer large tiles than this, smaller ones use more of the GPU; with fewer small ones than kEnoughBlocks, k is
// split, but not into chunks shorter than kSmallestChunk. All depends on the shape alone, never on the GPU: the same
// sums everywhere. Measured in docs/gpu.md.
constexpr int64_t kEnoughTiles = 128, kEnoughBlocks = 264, kSmallestChunk = 64, kChunkStep = 16;

std::atomic<MatmulPrecision> precision = MatmulPrecision::f32;
std::atomic<WgmmaUse> wgmma = WgmmaUse::filling;

// Whether all rows of a matrix begin at multiples of 16 bytes and their length is one.
bool packs(const void* p, size_t element, int64_t length, int64_t pitch, int64_t batch, int64_t batch_stride) {
  const int64_t width = static_cast<int64_t>(16 / element);
  return is_aligned_to(16, p) && length % width == 0 && pitch % width == 0 && (batch == 1 || batch_stride % width == 0);
}

template <class T, class C>
int64_t tiles(const kernel::GemmArgs& args, const GemmKernel<T, C>& kernel) {
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

template <class T, class C>
void launch_tiles(const kernel::GemmArgs& args, const GemmKernel<T, C>& gemm, const GemmShape<Wide<T>>& shape,
                  int64_t chunks, C* c, const Wide<T>* bias) {
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

// gemm makes C, gemm_sums the sums of chunks, which are as wide as arithmetic is.
template <class T, class C>
void run(const kernel::GemmArgs& args, const GemmKernel<T, C>& gemm, const GemmKernel<T, Wide<T>>& gemm_sums) {
  using W = Wide<T>;
  constexpr int64_t kMaxExtent = std::numeric_limits<int>::max() / 2;
  SINEW_CHECK(args.m <= kMaxExtent && args.n <= kMaxExtent && args.k <= kMaxExtent, "gemm", "(", args.m, ", ", args.k,
              ") x (", args.k, ", ", args.n, "): an extent is larger than ", kMaxExtent);
  const bool vendor = matmul_kernels() == MatmulKernels::vendor && args.k > 0;
  const Chunks chunks = vendor ? Chunks{args.k, 1} : chunks_of(args.k, tiles(args, gemm) * args.batch);
  const GemmShape<W> shape{static_cast<int>(args.m),
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
                           static_cast<W>(args.alpha),
                           static_cast<W>(args.beta),
                           args.act,
                           packs(args.c, sizeof(C), args.n, args.ldc, args.batch, args.batch_stride_c)};
  C* const c = static_cast<C*>(args.c);
  const W* const bias = static_cast<const W*>(args.bias);
  if (vendor && bias == nullptr && args.act == Activation::none) return vendor_product(args, dtype_of<C>);
  if (!vendor && chunks.count == 1 && (args.act == Activation::none || args.act == Activation::relu))
    return launch_tiles<T, C>(args, gemm, shape, 1, c, bias);

  const int64_t outputs = args.batch * args.m * args.n, finish_blocks = ceil_divide(outputs, kGemmFinishThreads);
  SINEW_CHECK(finish_blocks <= std::numeric_limits<int>::max(), "gemm", "C is too large for one launch");
  W* const sums = static_cast<W*>(memory_allocate(static_cast<size_t>(chunks.count * outputs) * sizeof(W), stream()));
  GemmShape<W> bare = shape;
  bare.ldc = args.n;
  bare.batch_stride_c = args.m * args.n;
  bare.split_stride_c = outputs;
  bare.alpha = 1;
  bare.beta = 0;
  bare.act = Activation::none;
  bare.pack_c = packs(sums, sizeof(W), args.n, args.n, 1, 0);
  if (vendor) {
    kernel::GemmArgs plain = args;
    plain.alpha = 1, plain.beta = 0;
    plain.c = sums, plain.ldc = bare.ldc, plain.batch_stride_c = bare.batch_stride_c;
    vendor_product(plain, dtype_of<W>);
  } else {
    launch_tiles<T, W>(args, gemm_sums, bare, chunks.count, sums, nullptr);
  }
  launch(gemm_finish_kernel<W, C>(), {static_cast<unsigned>(finish_blocks)}, {kGemmFinishThreads}, 0, stream(), sums,
         static_cast<int>(chunks.count), c, bias, shape);
  memory_free(sums, stream());
}

template <class T>
void run_float(const kernel::GemmArgs& args, GemmTile tile) {
  const GemmKernel<T> gemm = gemm_kernel<T>(args.trans_a, args.trans_b, packs_operands<T>(args), tile);
  run<T, T>(args, gemm, gemm);
}

// The operands as the tensor cores take them, then like any other product.
void run_bf16(kernel::GemmArgs args) {
  SINEW_CHECK(args.beta == 0, "gemm", "beta is ", args.beta, ", which no kernel of bf16 takes");
  const auto operand = [&](const void* data, bool f32, bool transposed, int64_t rows, int64_t cols, int64_t ld,
                           int64_t stride) {
    if (transposed) std::swap(rows, cols);
    return Bf16Source{data, f32, args.batch, rows, cols, ld, args.batch == 1 ? 0 : stride};
  };
  const PackedBf16 a(
      operand(args.a, args.f32_operand == F32Operand::a, args.trans_a, args.m, args.k, args.lda, args.batch_stride_a)),
      b(operand(args.b, args.f32_operand == F32Operand::b, args.trans_b, args.k, args.n, args.ldb,
                args.batch_stride_b));
  args.a = a.data(), args.lda = a.ld(), args.batch_stride_a = a.stride();
  args.b = b.data(), args.ldb = b.ld(), args.batch_stride_b = b.stride();
  const auto tiles = [&](int64_t n) { return ceil_divide(args.m, 128) * ceil_divide(args.n, n) * args.batch; };
  const WgmmaUse use = wgmma_use();
  const bool large = tiles(128) >= kEnoughTiles,
             by_wgmma = use == WgmmaUse::always || (use == WgmmaUse::filling && large);
  const bool wide = use == WgmmaUse::always ? args.n > 128 : tiles(256) >= kEnoughTiles;
  const auto kernel_for = [&]<class C>(C) {
    return by_wgmma ? gemm_wgmma_kernel<C>(args.trans_a, args.trans_b, wide)
                    : gemm_bf16_kernel<C>(args.trans_a, args.trans_b, large);
  };
  const auto sums = kernel_for(0.0f);
  if (args.f32_operand == F32Operand::none)
    run<bfloat16, float>(args, sums, sums);
  else
    run<bfloat16, bfloat16>(args, kernel_for(bfloat16(0)), sums);
}

}  // namespace

void gemm(const kernel::GemmArgs& args) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  if (args.dtype == DType::bf16) return run_bf16(args);
  SINEW_DISPATCH_FLOAT(args.dtype, "gemm", run_float<T>(args, choose_tile<T>(args)));
}

WgmmaUse wgmma_use() {
  static const bool there = device_properties(0).compute_major == 9;
  return there ? wgmma.load() : WgmmaUse::never;
}
void set_wgmma_use(WgmmaUse use) { wgmma = use; }

void set_matmul_precision(MatmulPrecision value) { precision = value; }
MatmulPrecision matmul_precision() { return precision; }

void gemm_with(const kernel::GemmArgs& args, GemmTile tile) {
  SINEW_DISPATCH_FLOAT(args.dtype, "gemm", run_float<T>(args, tile));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
