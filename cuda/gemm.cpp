// Host side of gemm.cu.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <utility>

#include "cuda/chunks.h"
#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/install.h"
#include "cuda/kernels/matrix.h"
#include "cuda/packed_bf16.h"
#include "cuda/scratch.h"
#include "cuda/vendor/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int64_t kMaxBatchBlocks = 16384, kMaxChunks = 256;
// With fewer large tiles than this, smaller ones use more of the GPU; with fewer small ones than a kernel's
// kEnoughBlocks, k is split, but not into chunks shorter than kSmallestChunk. All depends on the shape alone, never on
// the GPU: the same sums everywhere. Measured in docs/gpu.md.
constexpr int64_t kEnoughTiles = 128, kSmallestChunk = 64;

std::atomic<MatmulPrecision> precision = MatmulPrecision::f32;
std::atomic<WgmmaUse> wgmma = WgmmaUse::filling;
std::atomic<WgmmaCopies> copies = WgmmaCopies::bulk;

// Whether all rows of a matrix begin at multiples of 16 bytes and their length is one.
bool packs(const void* p, size_t element, int64_t length, int64_t pitch, int64_t batch, int64_t batch_stride) {
  const int64_t width = static_cast<int64_t>(16 / element);
  return is_aligned_to(16, p) && length % width == 0 && pitch % width == 0 && (batch == 1 || batch_stride % width == 0);
}

template <class K>
int64_t tiles(const kernel::GemmArgs& args, const K& kernel) {
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
Chunks chunks_of(int64_t k, int64_t blocks, int64_t enough, int64_t step) {
  const int64_t wanted = std::min({enough / blocks, k / kSmallestChunk, kMaxChunks});
  if (wanted < 2) return {k, 1};
  const int64_t length = ceil_divide(ceil_divide(k, wanted), step) * step;
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

// An operand of rows x columns as it lies in memory; its box has `box_rows` rows.
template <class T>
TensorMap operand_map(const void* data, int64_t rows, int64_t columns, int64_t ld, int64_t batch, int64_t stride,
                      int box_rows) {
  constexpr int kBytes = sizeof(T), kSwizzle = 128;
  return make_tensor_map({data,
                          kBytes,
                          3,
                          {columns, rows, batch},
                          {0, ld * kBytes, (batch == 1 ? rows * ld : stride) * kBytes},
                          {kSwizzle / kBytes, box_rows, 1},
                          kSwizzle});
}

template <class T, class C>
void launch_tiles(const kernel::GemmArgs& args, const GemmBulkKernel<C>& gemm, const GemmShape<float>& shape,
                  int64_t chunks, C* c, const float* bias) {
  static const int64_t multiprocessors = device_properties(0).multiprocessors;
  const int64_t all = tiles(args, gemm) * args.batch * chunks;
  SINEW_CHECK(all <= std::numeric_limits<int>::max() / 2, "gemm", "C is too large for one launch");
  const auto map = [&](const void* data, bool along_k, int64_t x, int64_t ld, int64_t stride, int box) {
    return along_k ? operand_map<T>(data, x, args.k, ld, args.batch, stride, box)
                   : operand_map<T>(data, args.k, x, ld, args.batch, stride, 64);
  };
  const TensorMap a = map(args.a, !args.trans_a, args.m, args.lda, args.batch_stride_a, gemm.tile_m);
  const TensorMap b = map(args.b, args.trans_b, args.n, args.ldb, args.batch_stride_b, gemm.tile_n);
  launch(gemm.kernel, {static_cast<unsigned>(std::min(all, multiprocessors * gemm.blocks))}, {gemm.threads},
         gemm.shared_bytes, stream(), a, b, c, bias, shape, static_cast<int>(all));
}

// gemm makes C, gemm_sums the sums of chunks, which are as wide as arithmetic is.
template <class T, class C, class K, class S>
void run(const kernel::GemmArgs& args, const K& gemm, const S& gemm_sums) {
  using W = Wide<T>;
  constexpr int64_t kMaxExtent = std::numeric_limits<int>::max() / 2;
  SINEW_CHECK(args.m <= kMaxExtent && args.n <= kMaxExtent && args.k <= kMaxExtent, "gemm", "(", args.m, ", ", args.k,
              ") x (", args.k, ", ", args.n, "): an extent is larger than ", kMaxExtent);
  const bool vendor = matmul_kernels() == MatmulKernels::vendor && args.k > 0;
  const Chunks chunks =
      vendor ? Chunks{args.k, 1} : chunks_of(args.k, tiles(args, gemm) * args.batch, K::kEnoughBlocks, K::kChunkStep);
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

  const int64_t outputs = args.batch * args.m * args.n;
  const Scratch memory(chunks.count * outputs * static_cast<int64_t>(sizeof(W)));
  W* const sums = static_cast<W*>(memory.data());
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
  finish_chunks(sums, chunks.count, c, bias, shape);
}

template <class T>
void run_float(const kernel::GemmArgs& args, GemmTile tile) {
  const GemmKernel<T> gemm = gemm_kernel<T>(args.trans_a, args.trans_b, packs_operands<T>(args), tile);
  run<T, T>(args, gemm, gemm);
}

// Whether and how wgmma makes a product.
struct WgmmaChoice {
  bool fills;  // tiles of 128 x 128 do a GPU
  bool there, wide, bulk;
};
WgmmaChoice choose_wgmma(const kernel::GemmArgs& args) {
  const auto tiles = [&](int64_t n) { return ceil_divide(args.m, 128) * ceil_divide(args.n, n) * args.batch; };
  const WgmmaUse use = wgmma_use();
  const bool fills = tiles(128) >= kEnoughTiles, always = use == WgmmaUse::always;
  // Of matrices one behind the other with elements in them there are maps.
  const bool maps = args.k > 0 && (args.batch == 1 || (args.batch_stride_a > 0 && args.batch_stride_b > 0));
  return {fills, always || (use == WgmmaUse::filling && fills), always ? args.n > 128 : tiles(256) >= kEnoughTiles,
          copies == WgmmaCopies::bulk && maps};
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
  const WgmmaChoice choice = choose_wgmma(args);
  const auto run_with = [&](const auto& kernel_for) {
    const auto sums = kernel_for(0.0f);
    if (args.f32_operand == F32Operand::none)
      run<bfloat16, float>(args, sums, sums);
    else
      run<bfloat16, bfloat16>(args, kernel_for(bfloat16(0)), sums);
  };
  if (choice.there && choice.bulk)
    run_with([&]<class C>(C) { return gemm_bulk_kernel<C>(args.trans_a, args.trans_b, choice.wide); });
  else if (choice.there)
    run_with([&]<class C>(C) { return gemm_wgmma_kernel<C>(args.trans_a, args.trans_b, choice.wide); });
  else
    run_with([&]<class C>(C) { return gemm_bf16_kernel<C>(args.trans_a, args.trans_b, choice.fills); });
}

// An operand of f32 as wgmma takes TF32: rounded, in rows along k. Owns its memory. REQUIRES: fits().
class PackedTf32 {
  static constexpr int64_t kTile = kPackTf32Tile, kMaxGrid = 65535;

 public:
  static bool fits(const kernel::GemmArgs& args) {
    return ceil_divide(std::max(args.m, args.n), kTile) <= kMaxGrid && args.batch <= kMaxGrid;
  }
  PackedTf32(const void* x, bool along_k, int64_t rows, const kernel::GemmArgs& args, int64_t ld, int64_t stride)
      : ld_(ceil_divide(args.k, 4) * 4), stride_(rows * ld_) {
    data_ = static_cast<float*>(memory_allocate(static_cast<size_t>(args.batch * stride_) * sizeof(float), stream()));
    launch(pack_tf32_kernel(!along_k),
           {static_cast<unsigned>(ceil_divide(ld_, kTile)), static_cast<unsigned>(ceil_divide(rows, kTile)),
            static_cast<unsigned>(args.batch)},
           {kPackThreads}, 0, stream(), static_cast<const float*>(x), data_,
           PackTf32Shape{static_cast<int>(rows), static_cast<int>(args.k), ld, stride, ld_, stride_,
                         is_aligned_to(16, x) && ld % 4 == 0 && stride % 4 == 0});
  }
  ~PackedTf32() { memory_free(data_, stream()); }
  PackedTf32(const PackedTf32&) = delete;
  PackedTf32& operator=(const PackedTf32&) = delete;

  const float* data() const { return data_; }
  int64_t ld() const { return ld_; }
  int64_t stride() const { return stride_; }

 private:
  float* data_;
  int64_t ld_, stride_;
};

void run_tf32(kernel::GemmArgs args, bool wide) {
  const PackedTf32 a(args.a, !args.trans_a, args.m, args, args.lda, args.batch_stride_a),
      b(args.b, args.trans_b, args.n, args, args.ldb, args.batch_stride_b);
  args.a = a.data(), args.lda = a.ld(), args.batch_stride_a = a.stride(), args.trans_a = false;
  args.b = b.data(), args.ldb = b.ld(), args.batch_stride_b = b.stride(), args.trans_b = true;
  const GemmBulkKernel<float> kernel = gemm_bulk_tf32_kernel(wide);
  run<float, float>(args, kernel, kernel);
}

}  // namespace

void gemm(const kernel::GemmArgs& args) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  if (args.dtype == DType::bf16) return run_bf16(args);
  const bool vendor = matmul_kernels() == MatmulKernels::vendor;
  if (args.dtype == DType::f32 && precision == MatmulPrecision::tf32 && !vendor && PackedTf32::fits(args))
    if (const WgmmaChoice choice = choose_wgmma(args); choice.there && choice.bulk) return run_tf32(args, choice.wide);
  SINEW_DISPATCH_FLOAT(args.dtype, "gemm", run_float<T>(args, choose_tile<T>(args)));
}

WgmmaUse wgmma_use() {
  static const bool there = device_properties(0).compute_major == 9;
  return there ? wgmma.load() : WgmmaUse::never;
}
void set_wgmma_use(WgmmaUse use) { wgmma = use; }
WgmmaCopies wgmma_copies() { return copies; }
void set_wgmma_copies(WgmmaCopies value) { copies = value; }

void set_matmul_precision(MatmulPrecision value) { precision = value; }
MatmulPrecision matmul_precision() { return precision; }

void gemm_with(const kernel::GemmArgs& args, GemmTile tile) {
  SINEW_DISPATCH_FLOAT(args.dtype, "gemm", run_float<T>(args, tile));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
