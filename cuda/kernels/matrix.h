// Matrix products and convolutions as host code sees them, like cuda/kernels.h.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "core/kernel_api.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// n / divisor = (n * multiplier) >> shift for 0 <= n < 2^31 (multiplier = ceil(2^shift / divisor)).
struct Divider {
  int divisor;
  uint32_t multiplier;
  int shift;
};
inline Divider divider(int64_t divisor) {
  int bits = 0;
  while ((int64_t{1} << bits) < divisor) ++bits;
  const uint64_t power = uint64_t{1} << (31 + bits), by = static_cast<uint64_t>(divisor);
  return {static_cast<int>(divisor), static_cast<uint32_t>((power + by - 1) / by), 31 + bits};
}

// ---- gemm.cu ----

template <class T>
struct GemmShape {
  int m, n, k;
  int chunk;  // of k, for each blockIdx.z; a multiple of the kernel's kChunkStep unless it is k
  int64_t lda, ldb, ldc;
  int64_t batch, batch_stride_a, batch_stride_b, batch_stride_c;
  int64_t split_stride_c;  // between the results of the chunks
  T alpha, beta;
  Activation act;  // gemm_kernel: none or relu
  bool pack_c;     // n, ldc, c, batch_stride_c allow accesses of 16 bytes
};
// What a block makes of C. float: 128 x 128 by 256 threads or by half as many with twice the work, 64 x 64, and 128 x
// 128 on the tensor cores (gemm_tensor.cu; with `pack` only). double: 64 x 64 and 64 x 32.
enum class GemmTile : uint8_t { large, large_many_threads, small, tensor };
inline constexpr int kGemmRowGroup = 8;  // rows of tiles that are made together, so that they share columns of B
// Parameters: a, b, c, bias (may be null), shape. blockIdx.x counts tiles, blockIdx.y batches, blockIdx.z chunks of k.
template <class T, class C = T>
struct GemmKernel {
  Kernel<const T*, const T*, C*, const Wide<T>*, GemmShape<Wide<T>>> kernel;
  int tile_m, tile_n;
  unsigned threads;
  size_t shared_bytes;  // dynamic
  static constexpr int64_t kChunkStep = 16, kEnoughBlocks = 264;
};
// pack: A and B allow accesses of 16 bytes.
template <class T>
GemmKernel<T> gemm_kernel(bool trans_a, bool trans_b, bool pack, GemmTile tile);

// ---- gemm_tensor.cu ----

GemmKernel<float> gemm_tensor_kernel(bool trans_a, bool trans_b);
// Of bf16; C float or bfloat16. A and B allow accesses of 16 bytes: addresses, leading dimensions, strides of batches
// and extents along memory, beyond which there may be zeros instead. Tiles of 128 x 128 (large) or 64 x 64.
template <class C>
GemmKernel<bfloat16, C> gemm_bf16_kernel(bool trans_a, bool trans_b, bool large);

// gemm_wgmma.cu: the same by wgmma, of sm_90a alone. Tiles of 128 x 256 (large) or 128 x 128.
template <class C>
GemmKernel<bfloat16, C> gemm_wgmma_kernel(bool trans_a, bool trans_b, bool large);

// gemm_bulk_wgmma.cu: the same with bulk copies, by a warp of their own. Parameters: maps of A and B, c, bias (may be
// null), shape, how many tiles there are in all chunks and batches. A map is of (batch, rows, columns) as the operand
// lies in memory, in boxes of 64 columns and, where columns are k, a tile's rows, else 64, swizzled by 128 bytes.
// blockIdx.x counts shares of the tiles: any grid, best `blocks` for each multiprocessor.
template <class C>
struct GemmBulkKernel {
  Kernel<TensorMap, TensorMap, C*, const float*, GemmShape<float>, int> kernel;
  int tile_m, tile_n;
  unsigned threads;
  size_t shared_bytes;  // dynamic
  int blocks;
  // Its warpgroups keep a multiprocessor's tensor cores busy without another block.
  static constexpr int64_t kChunkStep = 64, kEnoughBlocks = 132;
};
template <class C>
GemmBulkKernel<C> gemm_bulk_kernel(bool trans_a, bool trans_b, bool large);
// Of f32, cut to TF32: both operands have rows along k, in boxes of 32 columns.
GemmBulkKernel<float> gemm_bulk_tf32_kernel(bool large);

// ---- gemm_pack.cu ----

// Matrices of f32 or bf16 as matrices of bf16 with whole rows of 16 bytes, zeros where x has nothing: rows_to >= rows
// rows, `groups` groups of 8 columns. vector: x allows accesses of 16 bytes and cols is 8 groups; 32-bit subscripts
// count groups. Parameters: groups of all matrices, x, y, shape. Any one-dimensional grid.
struct PackShape {
  uint32_t row_groups, matrix_groups;  // of y
  int64_t rows, cols, ld, stride;      // of x: a matrix, a leading dimension, between matrices
  bool vector;
};
inline constexpr unsigned kPackThreads = 256;
template <class T>
using PackKernel = Kernel<uint32_t, const T*, bfloat16*, PackShape>;
template <class T>
PackKernel<T> pack_kernel();

// y (matrix, rows, ld_y): x rounded to TF32, zeros from k to ld_y. x (matrix, rows, k), transposed (matrix, k, rows).
// blockIdx.x counts kPackTf32Tile k, blockIdx.y as many rows, blockIdx.z matrices; kPackThreads threads. ld_y is a
// multiple of 4, and y aligned to 16 bytes; vector: so are all rows of x.
inline constexpr int kPackTf32Tile = 64;
struct PackTf32Shape {
  int rows, k;
  int64_t ld_x, stride_x, ld_y, stride_y;
  bool vector;
};
Kernel<const float*, float*, PackTf32Shape> pack_tf32_kernel(bool transposed);

// ---- gemm.cu, second pass ----

// C from sums (chunk, batch, m, n), added in the order of the chunks. Parameters: sums, chunks, c, bias, shape;
// a thread per element of all batches; pack: per kGemmFinishPack, which shape.pack_c allows.
inline constexpr unsigned kGemmFinishThreads = 256;
template <class T>
inline constexpr int kGemmFinishPack = sizeof(T) == 4 ? 4 : 1;
template <class T, class C = T>
Kernel<const T*, int, C*, const T*, GemmShape<T>> gemm_finish_kernel(bool pack);

// Whether products of bf16 use wgmma, where the device has it: by default for shapes whose tiles fill a GPU. Tests and
// benchmarks say otherwise.
enum class WgmmaUse : uint8_t { never, filling, always };
WgmmaUse wgmma_use();
void set_wgmma_use(WgmmaUse use);

// How products by wgmma bring their operands to shared memory: by copies of all threads (bf16), or by bulk copies
// (bf16, with convolutions of stride 1, and TF32 where set_matmul_precision says so; *_bulk_wgmma.cu).
enum class WgmmaCopies : uint8_t { threads, bulk };
WgmmaCopies wgmma_copies();
void set_wgmma_copies(WgmmaCopies copies);

// The table's entry with a tile of the caller's choice, for benchmarks.
void gemm_with(const kernel::GemmArgs& args, GemmTile tile);

// ---- gemm_probe.cu: one warp, one instruction, for tests ----

// Lane l: a[4 l + i], b[2 l + i], d[4 l + i] are its registers.
Kernel<const uint32_t*, const uint32_t*, float*> mma_probe_kernel(bool bf16);
// words[4 l + i] is the row lane l points to; registers[4 l + i] what it gets.
Kernel<const uint32_t*, uint32_t*> load_matrices_probe_kernel(bool transposed);
Kernel<int, const float*, uint32_t*> tf32_probe_kernel();  // n, x, y
// gemm_wgmma.cu: a warpgroup, m64n64k16; A and B as 8 KB of shared memory each; d[32 thread + i] is a register.
Kernel<const uint16_t*, const uint16_t*, float*> wgmma_probe_kernel(bool transposed_a, bool transposed_b);
Kernel<const uint16_t*, const uint16_t*, float*> wgmma_tf32_probe_kernel();  // m64n64k8

// A box of a tensor as it comes to lie in shared memory. Parameters: map, its rank (2 or 3), where the box begins, its
// bytes, image; a warp, 8 bytes of dynamic shared memory more than the box has.
Kernel<TensorMap, int, int, int, int, int, uint32_t*> load_box_probe_kernel();

// ---- conv.cu ----

// target pixel (i, j) = sum over taps (r, s) and channels of source pixel (base_h + i step_h + d r, base_w + j step_w +
// d s) times the filter, where that pixel exists. d = 1: the convolution, source x. d = -1: towards the input, source
// y; there the targets fall apart into parts, one for each residue of their position by the stride, which have every
// stride-th tap. In either, pixels at the edges of the images may be parts of their own, with the taps they reach.
//
// How work is dealt out: a tile's sum is cut into slices of the kernel's depth. Either a block makes a whole tile
// (share = 0), or the slices of all tiles, one after the other, are cut into equal shares, one for each block: then
// what a block has of a tile it does not make whole goes to sums[2 block + (1 where it has the tile's first slice)]
// (tile_m, tile_n), which correlation_finish_kernel adds up in the order of the blocks.
struct CorrelationPart {
  int pixels;                  // of all images: the rows of the product
  Divider per_image, per_row;  // pixels of an image, of a row of it
  int taps_h, taps_w;
  int base_h, base_w;
  int filter;             // where tap (0, 0) begins in the filters
  int target;             // where the part's first pixel begins in the target's image
  Divider slices;         // of a tile
  int first, first_tile;  // slices and tiles of the parts before it
};
inline constexpr int kMaxCorrelationParts = 16;
struct CorrelationParts {
  CorrelationPart at[kMaxCorrelationParts];
};
struct CorrelationShape {
  int source_h, source_w, channels;
  int outputs;  // channels of the target: the columns of the product
  int step_h, step_w;
  int channel_step, tap_step_w, tap_step_h;  // of the filters, between channels of the source and between taps
  int output_step;                           // of the filters, between outputs
  int target_step_h, target_step_w;          // between neighbouring pixels of a part
  int64_t source_image, target_image;        // elements
  int parts, slices, share;                  // slices: of all parts together, where shares are dealt out
  int chunk;                                 // on the tensor cores: of the summed indices, for each blockIdx.z
  bool relu;
  bool accumulate;   // target += instead of =; what is added is rounded first
  bool pack_target;  // target and outputs allow accesses of 16 bytes
};
// What a block makes at a time; not all exist for every type and alignment. float: 128 x 128, 256 x 64, 64 x 64, 128 x
// 32, 64 x 32, 256 x 16. double: 64 x 64 and 64 x 32.
enum class ConvTile : uint8_t { large, tall, square, middle, low, narrow };
// Parameters: source, filter, bias (may be null), target, sums, shape, parts. Whole tiles: blockIdx.y is the part,
// blockIdx.x counts its tiles, tile_n columns first. Shares: blockIdx.x. The filters are (outputs, taps, channels)
// forward and (channels, taps, outputs) else.
template <class T>
struct CorrelationKernel {
  Kernel<const T*, const T*, const Wide<T>*, T*, Wide<T>*, CorrelationShape, CorrelationParts> kernel;
  int tile_m, tile_n, depth;
  unsigned threads;
  int blocks;  // that fit on a multiprocessor
  size_t shared_bytes;
  bool shares;
};
// pack: channels (and outputs unless forward) are multiples of 16 bytes, source and filter aligned to them. shares:
// where that exists (large, tall, square; with pack).
template <class T>
CorrelationKernel<T> correlation_kernel(bool forward, bool pack, ConvTile tile, bool shares);

// Parameters: sums, bias, target, shape, parts, tile_m, tile_n. blockIdx.x counts tiles of all parts, blockIdx.y groups
// of kFinishThreads times 16 bytes of a tile.
inline constexpr unsigned kFinishThreads = 256;
template <class T>
Kernel<const T*, const T*, T*, CorrelationShape, CorrelationParts, int, int> correlation_finish_kernel();

// The second pass of the tensor cores' tiles in chunks: sums are (chunks, parts, tiles of the largest part, tile_m,
// tile_n), added in the order of the chunks. Parameters: sums, chunks, bias, target, shape, parts, tile_m, tile_n.
// blockIdx.x: tile, blockIdx.y: part, blockIdx.z: groups of 4 kFinishThreads elements of a tile. T: the target's.
template <class T>
Kernel<const float*, int, const float*, T*, CorrelationShape, CorrelationParts, int, int> chunks_finish_kernel();

// For benchmarks and tests: what conv.cpp would choose otherwise. blocks: of shares; 0: whole tiles.
struct ConvChoice {
  bool chosen = false;
  ConvTile tile = ConvTile::square;
  int64_t blocks = 0;
  bool edges = false;
};
void set_conv_choice(const ConvChoice& choice);
const ConvChoice& conv_choice();

// ---- conv_dw.cu ----

// dw (filters, columns) = sum over pixels of y's cotangent (pixels, filters) times the x under each tap; columns are
// (r, s, c). Either blockIdx.y is a chunk of pixels, whose sums go to out + blockIdx.y * filters * columns, or blocks
// have equal shares of the slices of all tiles, like conv.cu's.
struct ConvDwShape {
  int filters, columns, pixels, chunk;  // chunk: a multiple of the kernel's depth
  int h, w, c, taps_w;
  int p, q, stride_h, stride_w, pad_h, pad_w;
  int64_t x_image;
  // What changes from a pixel to the one `depth` further: row, column, offset in x, of its first tap; what wrapping a
  // row and an image adds to the offset; where they wrap.
  int skip_h, skip_w, skip, wrap_row, wrap_image, end_h, end_w;
  bool pack_out;
  int share;       // in slices; 0: chunks
  int all;         // slices of all tiles
  Divider slices;  // of a tile
};
// The same for images so small that many taps miss them: every tap is a part, summed over the pixels whose tap exists,
// which are a rectangle in every image. Always in shares; c is a multiple of tile_n.
struct ConvDwTap {
  int pixels, height, width;   // of all images; of the rectangle
  Divider per_image, per_row;  // pixels of the rectangle, of a row of it
  int x, y;                    // where the rectangle's first pixel begins in an image, under this tap
  // What changes from a pixel to the one `depth` further: row, column, offsets in x and y; what wrapping a row and an
  // image adds to the offsets.
  int skip_i, skip_j, skip_x, skip_y, row_x, row_y, image_x, image_y;
  Divider slices;  // of a tile
  int first;       // slices of the taps before it
};
struct ConvDwTaps {
  ConvDwTap at[kMaxCorrelationParts];
};
struct ConvDwTapsShape {
  ConvDwShape all;      // filters, columns, c, share, all, pack_out
  int taps, tiles;      // tiles: of a tap
  int x_column, x_row;  // elements between neighbouring pixels of y, in x
  int y_row;            // between rows of y
  int64_t x_image, y_image;
};

template <class T>
struct ConvDwKernel {
  // x, y, out, sums, shape; blockIdx.x counts tiles, tile_n first, or shares.
  Kernel<const T*, const T*, Wide<T>*, Wide<T>*, ConvDwShape> kernel;
  int tile_m, tile_n, depth;
  unsigned threads;
  int blocks;  // that fit on a multiprocessor
  size_t shared_bytes;
  Kernel<const T*, const T*, Wide<T>*, Wide<T>*, ConvDwTapsShape, ConvDwTaps>
      taps;  // function is null where there is none
};
// pack: filters and c are multiples of 16 bytes, x and y aligned to them. large: 128 x 128 instead of 64 x 64, where
// that exists (float, more than 64 filters, pack).
template <class T>
ConvDwKernel<T> conv_dw_kernel(bool pack, int64_t filters, bool large);

// ---- conv_tensor.cu, conv_dw_tensor.cu: the same with `pack` on the tensor cores ----

// T: float (TF32) or bfloat16, whose dw is float.
template <class T>
CorrelationKernel<T> correlation_tensor_kernel(bool forward, int64_t pixels, int64_t outputs);
template <class T>
ConvDwKernel<T> conv_dw_tensor_kernel(int64_t filters);
// conv_wgmma.cu: the same of bf16 by wgmma, of sm_90a alone. tile_n: 256, 128 or 64 outputs.
CorrelationKernel<bfloat16> correlation_wgmma_kernel(bool forward, int tile_n);
ConvDwKernel<bfloat16> conv_dw_wgmma_kernel(int64_t filters);

// conv_bulk_wgmma.cu: the same of bf16 and stride 1, with bulk copies.
struct ConvBulkShape {
  // m, n, k as the file says, and c: the target (pixels, channels), or dw (filters, columns). chunk: a multiple of 64.
  GemmShape<float> product;
  int target_h, target_w;  // pixels of an image of the target; of y for dw
  int base_h, base_w;      // from a pixel to the source's under the first tap
  int taps_w, taps;
  int channels;                // of the source: a multiple of 64
  int step_h, step_w, step_n;  // dw: 64 pixels further
};
// Parameters: source, a map of pixels with boxes of tile_m, for dw of 64 pixels; filter: forward (filters, taps x
// channels) in boxes of tile_n x 64, towards x (filters, taps, channels) in boxes of 64 x 1 x 64, for dw y (pixels,
// filters) in boxes of 64 x 64, all swizzled by 128 bytes; target, bias (may be null), shape, how many tiles there are
// in all chunks. blockIdx.x counts shares of the tiles: any grid, best `blocks` for each multiprocessor.
template <class C>
struct ConvBulkKernel {
  Kernel<TensorMap, TensorMap, C*, const float*, ConvBulkShape, int> kernel;
  int tile_m, tile_n;
  unsigned threads;
  size_t shared_bytes;  // dynamic
  int blocks;
};
template <class C>
ConvBulkKernel<C> conv_bulk_kernel(bool forward, int tile_n);  // 128 or 64
// Tiles of 128 x 128, each from two chunks: clusters of two blocks, as many as there are tiles.
ConvBulkKernel<bfloat16> conv_bulk_pair_kernel(bool forward);
// 128 x 128, 128 x 192, 64 x 128.
ConvBulkKernel<float> conv_bulk_dw_kernel(int tile_m, int tile_n);

// For tests: what conv_bulk.cpp would choose otherwise. 0: its own choice.
struct ConvBulkChoice {
  int tile_n = 0;      // 64 or 128 forward and towards x, 128 or 192 towards the filters; others do not count there
  int64_t chunks = 0;  // at most so many, of the summed indices
  bool pairs = false;  // forward and towards x an Error where not by pairs of blocks
};
void set_conv_bulk_choice(const ConvBulkChoice& choice);

// A box of a map of pixels as it comes to lie in shared memory, for tests. Parameters: map, where the box begins, its
// bytes, image; a warp, 8 bytes of dynamic shared memory more than the box has.
struct PixelsProbe {
  int c, w, h, n, tap_w, tap_h;
};
Kernel<TensorMap, PixelsProbe, int, uint32_t*> load_pixels_probe_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
