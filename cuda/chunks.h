// The second pass of products whose sums are cut into chunks.
#pragma once

#include <limits>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// c from `chunks` times the sums of all batches, one behind the other, aligned to 16 bytes; shape: C's.
// Errors: more elements than one launch has threads for.
template <class W, class C>
void finish_chunks(const W* sums, int64_t chunks, C* c, const W* bias, const GemmShape<W>& shape) {
  const int64_t outputs = shape.batch * shape.m * shape.n;
  const int64_t blocks = ceil_divide(outputs, kGemmFinishThreads * (shape.pack_c ? kGemmFinishPack<W> : 1));
  SINEW_CHECK(blocks <= std::numeric_limits<int>::max(), "gemm", "C is too large for one launch");
  launch(gemm_finish_kernel<W, C>(shape.pack_c), {static_cast<unsigned>(blocks)}, {kGemmFinishThreads}, 0, stream(),
         sums, static_cast<int>(chunks), c, bias, shape);
}

// out (m, n) = the sum of `chunks` matrices: a thread for some elements, which asks for one chunk after the other, or,
// where those are many and elements few, several threads for each as any reduction has.
template <class W>
void add_chunks(const W* sums, int64_t chunks, int64_t m, int64_t n, W* out) {
  constexpr int64_t kElementsPerChunk = 5000;  // between layers for which an H200 was faster one way and the other
  if (m * n < kElementsPerChunk * chunks) return reduce({ReduceOp::sum, dtype_of<W>, 1, chunks, m * n, sums, out});
  GemmShape<W> shape{};
  shape.m = static_cast<int>(m), shape.n = static_cast<int>(n), shape.ldc = n, shape.batch = 1, shape.alpha = 1;
  shape.pack_c = rows_in_packs<W>(n, sums, out);
  finish_chunks(sums, chunks, out, static_cast<const W*>(nullptr), shape);
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
