// Reductions over the middle axis of (outer, reduced, inner). The order of additions is fixed by the shape. Sums are of
// the type that the arithmetic is done in: f32 for bf16.
#include "core/cpu/kernels/common.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// inner == 1: contiguous runs.
template <class T>
void sum_rows(const kernel::ReduceArgs& args) {
  using A = Wide<T>;
  const T* x = static_cast<const T*>(args.x);
  A* y = static_cast<A*>(args.y);
  if (args.outer == 1) {
    y[0] = static_cast<A>(parallel_sum(args.reduced, [=](int64_t i) { return static_cast<double>(x[i]); }));
    return;
  }
  parallel_blocks(args.outer, max64(1, (1 << 13) / max64(args.reduced, 1)), args.outer * args.reduced,
                  [=](int64_t begin, int64_t end) {
                    for (int64_t o = begin; o < end; ++o) {
                      const T* row = x + o * args.reduced;
                      // Blocks as in parallel_sum, so that the value does not depend on `outer`.
                      double total = 0;
                      for (int64_t i = 0; i < args.reduced; i += kSumBlock)
                        total += block_sum(min64(kSumBlock, args.reduced - i),
                                           [=](int64_t k) { return static_cast<double>(row[i + k]); });
                      y[o] = static_cast<A>(total);
                    }
                  });
}

// y (width) = the sum of rows [begin, end) of columns [0, width): blocks of rows, then block sums.
constexpr int64_t kColumnStrip = 256;
template <class T>
void sum_strip(const T* x, int64_t inner, int64_t begin, int64_t end, int64_t width, Wide<T>* y) {
  constexpr int64_t kRows = 64;
  Wide<T> total[kColumnStrip];
  for (int64_t c = 0; c < width; ++c) total[c] = 0;
  for (int64_t r0 = begin; r0 < end; r0 += kRows) {
    Wide<T> part[kColumnStrip];
    for (int64_t c = 0; c < width; ++c) part[c] = 0;
    const int64_t r1 = min64(end, r0 + kRows);
    for (int64_t r = r0; r < r1; ++r) {
      const T* row = x + r * inner;
      for (int64_t c = 0; c < width; ++c) part[c] += row[c];
    }
    for (int64_t c = 0; c < width; ++c) total[c] += part[c];
  }
  for (int64_t c = 0; c < width; ++c) y[c] = total[c];
}

// inner > 1: rows of `inner` are added to each other, a strip of columns at a time so that it stays in L1. Long columns
// are cut into pieces, whose number the shape decides: a bias gradient has few columns and very many rows.
template <class T>
void sum_columns(const kernel::ReduceArgs& args) {
  using A = Wide<T>;
  constexpr int64_t kPiece = 4096;
  const int64_t strips = (args.inner + kColumnStrip - 1) / kColumnStrip;
  const int64_t pieces = max64(1, (args.reduced + kPiece - 1) / kPiece);
  const size_t bytes = static_cast<size_t>(pieces * args.outer * args.inner) * sizeof(A);
  A* sums = pieces > 1 ? static_cast<A*>(malloc(bytes)) : static_cast<A*>(args.y);  // (pieces, outer, inner)
  parallel_blocks(pieces * args.outer * strips, 1, args.outer * args.reduced * args.inner, [&](int64_t job, int64_t) {
    const int64_t strip = job % strips, o = job / strips % args.outer, piece = job / strips / args.outer;
    const int64_t c0 = strip * kColumnStrip;
    sum_strip(static_cast<const T*>(args.x) + o * args.reduced * args.inner + c0, args.inner, piece * kPiece,
              min64(args.reduced, (piece + 1) * kPiece), min64(kColumnStrip, args.inner - c0),
              sums + (piece * args.outer + o) * args.inner + c0);
  });
  if (pieces == 1) return;
  A* y = static_cast<A*>(args.y);
  const int64_t n = args.outer * args.inner;
  for (int64_t i = 0; i < n; ++i) y[i] = sums[i];
  for (int64_t piece = 1; piece < pieces; ++piece)
    for (int64_t i = 0; i < n; ++i) y[i] += sums[piece * n + i];
  free(sums);
}

// Integers wrap exactly, in any order.
template <class T>
void sum_integers(const kernel::ReduceArgs& args) {
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  for (int64_t o = 0; o < args.outer; ++o)
    for (int64_t c = 0; c < args.inner; ++c) {
      uint64_t total = 0;
      for (int64_t r = 0; r < args.reduced; ++r)
        total += static_cast<uint64_t>(x[(o * args.reduced + r) * args.inner + c]);
      y[o * args.inner + c] = static_cast<T>(total);
    }
}

template <class T>
void max_loop(const kernel::ReduceArgs& args, int64_t* index) {
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  parallel_blocks(args.outer, 16, args.outer * args.reduced * args.inner, [=](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t c = 0; c < args.inner; ++c) {
        const T* p = x + o * args.reduced * args.inner + c;
        int64_t best = 0;
        for (int64_t r = 1; r < args.reduced; ++r) {
          const T v = p[r * args.inner];
          // A NaN wins over numbers, so that it is seen.
          if (v > p[best * args.inner] || (v != v && p[best * args.inner] == p[best * args.inner])) best = r;
        }
        if (index)
          index[o * args.inner + c] = best;
        else
          y[o * args.inner + c] = p[best * args.inner];
      }
  });
}

template <class T>
void sum_typed(const kernel::ReduceArgs& args) {
  if constexpr (Wide<T>(1) / Wide<T>(2) == Wide<T>(0)) {
    sum_integers<T>(args);
  } else if (args.inner == 1) {
    sum_rows<T>(args);
  } else {
    sum_columns<T>(args);
  }
}

}  // namespace

void reduce(const kernel::ReduceArgs& args) {
  switch (args.op) {
    case ReduceOp::sum:
      KERNEL_DISPATCH_ALL(args.dtype, sum_typed<T>(args)) break;
    case ReduceOp::max:
      KERNEL_DISPATCH_ALL(args.dtype, max_loop<T>(args, nullptr)) break;
    case ReduceOp::argmax:
      KERNEL_DISPATCH_ALL(args.dtype, max_loop<T>(args, static_cast<int64_t*>(args.y))) break;
  }
}

}  // namespace sinew::SINEW_CPU_NS
