// Layer norm and its derivative (formulas: core/ops/layer_norm.cpp).
//
// y: parallel over rows. Up to 1024 columns: 4 to 32 lanes hold a row in registers and read it once; longer rows: a
// block each, which reads the row twice, the second time from the caches. Sums in double, neighbours within 16 bytes in
// the type itself.
// The derivative of up to 512 columns is one pass: a block walks a chunk of rows, its groups of lanes hold a row each
// and keep their columns' share of dgamma and dbeta: a few rows in the type itself, what is beyond in double in shared
// memory; chunks are added up by a second launch. Longer rows: dx over rows; dgamma and dbeta over columns and chunks
// of rows, like batch norm's sums (cuda/device/channels.cuh). Bytes, in arrays of rows * cols * sizeof(T): layer_norm 1
// read, 1 write; grad 2 reads, 1 write, of long rows 4 reads. Flops: about 10 an element; bound by memory. GPU figures:
// docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/channels.cuh"
#include "cuda/device/rows.cuh"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

namespace fn = SINEW_FUNCTOR_NS::fn;

constexpr unsigned kRowWarps = kLayerThreads / kWarp;
// Rows that the sums over columns take in T before they go on in double.
constexpr unsigned kPartRows = 16;

// A row's columns as the threads of its group take them: kWidth neighbours at a time. fn(first of them).
template <int kWidth, unsigned kThreads, class Fn>
SINEW_DEVICE void for_columns(unsigned thread, int64_t cols, Fn use) {
  for (int64_t c = int64_t(thread) * kWidth; c < cols; c += int64_t(kThreads) * kWidth) use(c);
}

// kValues elements a lane of a row's array, zero beyond its end. kLanes neighbouring lanes hold the row.
template <class T, int kWidth, unsigned kLanes, unsigned kValues>
struct LaneValues {
  static constexpr unsigned kPacks = kValues / kWidth;
  Values<Wide<T>, kWidth> pack[kPacks];

  SINEW_DEVICE static unsigned column(unsigned i) { return (threadIdx.x % kLanes + i * kLanes) * kWidth; }
  SINEW_DEVICE void load_row(const T* row, unsigned cols) {
    SINEW_UNROLL
    for (unsigned i = 0; i < kPacks; ++i) {
      pack[i] = Values<Wide<T>, kWidth>{};
      if (column(i) < cols) pack[i] = load_wide<kWidth>(row + column(i));
    }
  }
};

template <class T, int kWidth, unsigned kLanes, unsigned kValues>
__global__ void __launch_bounds__(kLayerThreads, kValues <= 8           ? 4
                                                 : sizeof(Wide<T>) == 4 ? 2
                                                                        : 1)
    layer_short(int64_t rows, int64_t cols, double share, double eps, const T* __restrict__ x,
                const Wide<T>* __restrict__ gamma, const Wide<T>* __restrict__ beta, T* __restrict__ y,
                Wide<T>* __restrict__ mean, Wide<T>* __restrict__ inv_std) {
  using W = Wide<T>;
  using Row = LaneValues<T, kWidth, kLanes, kValues>;
  const int64_t r = int64_t(blockIdx.x) * (kLayerThreads / kLanes) + threadIdx.x / kLanes;
  const bool active = r < rows;  // lanes without a row go along: the warp meets in the shuffles
  const unsigned width = active ? static_cast<unsigned>(cols) : 0;
  Row row;
  row.load_row(x + r * cols, width);
  double sum = 0, squares = 0;
  SINEW_UNROLL
  for (unsigned i = 0; i < Row::kPacks; ++i) {
    W part = row.pack[i].v[0];
    SINEW_UNROLL
    for (int j = 1; j < kWidth; ++j) part += row.pack[i].v[j];
    sum += double(part);
  }
  const W c = W(lanes_sum<kLanes>(sum) * share);
  SINEW_UNROLL
  for (unsigned i = 0; i < Row::kPacks; ++i) {
    W part = W(0);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      // In W: a copy of the row in double would not fit beside it.
      const W d = Row::column(i) < width ? row.pack[i].v[j] - c : W(0);
      part += d * d;
    }
    squares += double(part);
  }
  const W s = W(1) / fn::sqrt(W(lanes_sum<kLanes>(squares) * share + eps));
  if (active && threadIdx.x % kLanes == 0) mean[r] = c, inv_std[r] = s;
  SINEW_UNROLL
  for (unsigned i = 0; i < Row::kPacks; ++i) {
    const unsigned at = Row::column(i);
    if (at >= width) continue;
    const Values<W, kWidth> scale = load<kWidth>(gamma + at), shift = load<kWidth>(beta + at);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) row.pack[i].v[j] = (row.pack[i].v[j] - c) * s * scale.v[j] + shift.v[j];
    store_rounded<kWidth>(y + r * cols + at, row.pack[i]);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kLayerThreads, 3)
    layer_long(int64_t rows, int64_t cols, double share, double eps, const T* __restrict__ x,
               const Wide<T>* __restrict__ gamma, const Wide<T>* __restrict__ beta, T* __restrict__ y,
               Wide<T>* __restrict__ mean, Wide<T>* __restrict__ inv_std) {
  using W = Wide<T>;
  SINEW_SHARED(double, sums, [kRowWarps]);
  SINEW_SHARED(double, squares, [kRowWarps]);
  const int64_t r = blockIdx.x;
  const T* const row = x + r * cols;
  // About the first element, so that a mean far from zero costs no digits.
  const double pivot = double(row[0]);
  double sum = 0, square = 0;
  for_columns<kWidth, kLayerThreads>(threadIdx.x, cols, [&](int64_t at) {
    const Values<T, kWidth> v = load<kWidth>(row + at);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const double d = double(v.v[j]) - pivot;
      sum += d;
      square += d * d;
    }
  });
  const double total = block_sum(sum, sums), offset = total * share;
  const double m2 = block_sum(square, squares) - total * offset;
  const W c = W(pivot + offset), s = W(1.0 / fn::sqrt((m2 < 0 ? 0 : m2) * share + eps));
  if (threadIdx.x == 0) mean[r] = c, inv_std[r] = s;
  for_columns<kWidth, kLayerThreads>(threadIdx.x, cols, [&](int64_t at) {
    Values<W, kWidth> v = load_wide<kWidth>(row + at);
    const Values<W, kWidth> scale = load<kWidth>(gamma + at), shift = load<kWidth>(beta + at);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) v.v[j] = (v.v[j] - c) * s * scale.v[j] + shift.v[j];
    store_rounded<kWidth>(y + r * cols + at, v);
  });
}

// dx = s (h - <h> - xh <h xh>), h = g gamma, xh = (x - mean) s, < > the mean over the row.
template <class T>
struct RowSlope {
  T center, s, mean, slope;

  SINEW_DEVICE T normalized(T x) const { return (x - center) * s; }
  SINEW_DEVICE T apply(T h, T x) const { return s * ((h - mean) - normalized(x) * slope); }
};

// Blocks of float that a multiprocessor holds at a time.
template <int kWidth, unsigned kValues>
constexpr unsigned kGradResident = kValues == 4   ? 4
                                   : kValues == 8 ? 3
                                   : kWidth > 1   ? 2
                                                  : 1;

// dx unless null, and the chunk's sums for dgamma and dbeta: partial is (chunks, kGradSums, cols).
template <class T, int kWidth, unsigned kLanes, unsigned kValues>
__global__ void __launch_bounds__(kLayerThreads, sizeof(Wide<T>) == 4 ? kGradResident<kWidth, kValues> : 1)
    layer_grad_short(int64_t rows, int64_t cols, int64_t chunk, double share, const T* __restrict__ g,
                     const T* __restrict__ x, const Wide<T>* __restrict__ gamma, const Wide<T>* __restrict__ mean,
                     const Wide<T>* __restrict__ inv_std, T* __restrict__ dx, double* __restrict__ partial) {
  using W = Wide<T>;
  using Row = LaneValues<T, kWidth, kLanes, kValues>;
  constexpr unsigned kGroups = kLayerThreads / kLanes, kSums = LayerNormKernels<T>::kGradSums;
  SINEW_DYNAMIC_SHARED(double, totals);  // [kSums * kValues][kLayerThreads]
  const unsigned width = static_cast<unsigned>(cols), group = threadIdx.x / kLanes;
  W sums[kSums][kValues];
  SINEW_UNROLL
  for (unsigned i = 0; i < kSums * kValues; ++i) {
    sums[i / kValues][i % kValues] = W(0);
    totals[i * kLayerThreads + threadIdx.x] = 0;
  }
  const auto flush = [&] {
    SINEW_UNROLL
    for (unsigned i = 0; i < kSums * kValues; ++i) {
      totals[i * kLayerThreads + threadIdx.x] += double(sums[i / kValues][i % kValues]);
      sums[i / kValues][i % kValues] = W(0);
    }
  };
  const int64_t start = int64_t(blockIdx.x) * chunk, end = rows - start < chunk ? rows : start + chunk;
  struct In {
    Row g, x;
    W center, s;
  };
  const auto load_in = [&](int64_t r) {
    const bool active = r < end;
    In in;
    in.x.load_row(x + r * cols, active ? width : 0);
    in.g.load_row(g + r * cols, active ? width : 0);
    in.center = active ? mean[r] : W(0);
    in.s = active ? inv_std[r] : W(0);
    return in;
  };
  unsigned pending = 0;
  // All groups go round together: lanes of a warp meet in the shuffles.
  for (int64_t first = start; first < end; first += kGroups) {
    const int64_t r = first + group;
    In in = load_in(r);
    RowSlope<W> of{in.center, in.s, W(0), W(0)};
    double h0 = 0, h1 = 0;
    SINEW_UNROLL
    for (unsigned i = 0; i < Row::kPacks; ++i) {
      Values<W, kWidth> scale{};
      if (Row::column(i) < width) scale = load<kWidth>(gamma + Row::column(i));
      W part0 = W(0), part1 = W(0);
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        W &slope = in.g.pack[i].v[j], normalized = of.normalized(in.x.pack[i].v[j]);
        sums[0][i * kWidth + j] += slope * normalized;
        sums[1][i * kWidth + j] += slope;
        slope *= scale.v[j];
        part0 += slope;
        part1 += slope * normalized;
      }
      h0 += double(part0);
      h1 += double(part1);
    }
    of.mean = W(lanes_sum<kLanes>(h0) * share);
    of.slope = W(lanes_sum<kLanes>(h1) * share);
    SINEW_UNROLL
    for (unsigned i = 0; i < Row::kPacks; ++i) {
      if (!dx || r >= end || Row::column(i) >= width) continue;
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) in.g.pack[i].v[j] = of.apply(in.g.pack[i].v[j], in.x.pack[i].v[j]);
      store_rounded<kWidth>(dx + r * cols + Row::column(i), in.g.pack[i]);
    }
    if (++pending == kPartRows) flush(), pending = 0;
  }
  flush();
  for (unsigned half = kGroups / 2; half > 0; half /= 2) {
    block_sync();
    if (group < half) {
      SINEW_UNROLL
      for (unsigned i = 0; i < kSums * kValues; ++i)
        totals[i * kLayerThreads + threadIdx.x] += totals[i * kLayerThreads + threadIdx.x + half * kLanes];
    }
  }
  SINEW_UNROLL
  for (unsigned i = 0; i < kSums * kValues; ++i) {
    const unsigned v = i % kValues, at = Row::column(v / kWidth) + v % kWidth;
    if (group == 0 && at < width)
      partial[(int64_t(blockIdx.x) * kSums + i / kValues) * cols + at] = totals[i * kLayerThreads + threadIdx.x];
  }
}

template <class T, int kWidth, unsigned kValues>
__global__ void __launch_bounds__(kLayerThreads, 1)
    layer_dx_short(int64_t rows, int64_t cols, double share, const T* __restrict__ g, const T* __restrict__ x,
                   const Wide<T>* __restrict__ gamma, const Wide<T>* __restrict__ mean,
                   const Wide<T>* __restrict__ inv_std, T* __restrict__ dx) {
  using W = Wide<T>;
  using Row = LaneValues<T, kWidth, kWarp, kValues>;
  const int64_t r = int64_t(blockIdx.x) * kRowWarps + threadIdx.x / kWarp;
  if (r >= rows) return;  // all lanes of the warp
  const unsigned width = static_cast<unsigned>(cols);
  Row row, h;
  row.load_row(x + r * cols, width);
  h.load_row(g + r * cols, width);
  RowSlope<W> of{mean[r], inv_std[r], W(0), W(0)};
  double h0 = 0, h1 = 0;
  SINEW_UNROLL
  for (unsigned i = 0; i < Row::kPacks; ++i) {
    const unsigned at = Row::column(i);
    if (at >= width) continue;
    const Values<W, kWidth> scale = load<kWidth>(gamma + at);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      h.pack[i].v[j] *= scale.v[j];
      h0 += double(h.pack[i].v[j]);
      h1 += double(h.pack[i].v[j]) * double(of.normalized(row.pack[i].v[j]));
    }
  }
  of.mean = W(lanes_sum<kWarp>(h0) * share);
  of.slope = W(lanes_sum<kWarp>(h1) * share);
  SINEW_UNROLL
  for (unsigned i = 0; i < Row::kPacks; ++i) {
    if (Row::column(i) >= width) continue;
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) h.pack[i].v[j] = of.apply(h.pack[i].v[j], row.pack[i].v[j]);
    store_rounded<kWidth>(dx + r * cols + Row::column(i), h.pack[i]);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kLayerThreads, 4)
    layer_dx_long(int64_t rows, int64_t cols, double share, const T* __restrict__ g, const T* __restrict__ x,
                  const Wide<T>* __restrict__ gamma, const Wide<T>* __restrict__ mean,
                  const Wide<T>* __restrict__ inv_std, T* __restrict__ dx) {
  using W = Wide<T>;
  SINEW_SHARED(double, sums, [kRowWarps]);
  SINEW_SHARED(double, slopes, [kRowWarps]);
  const int64_t r = blockIdx.x, start = r * cols;
  RowSlope<W> of{mean[r], inv_std[r], W(0), W(0)};
  double h0 = 0, h1 = 0;
  for_columns<kWidth, kLayerThreads>(threadIdx.x, cols, [&](int64_t at) {
    const Values<T, kWidth> gv = load<kWidth>(g + start + at), xv = load<kWidth>(x + start + at);
    const Values<W, kWidth> scale = load<kWidth>(gamma + at);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const W h = gv.v[j] * scale.v[j];
      h0 += double(h);
      h1 += double(h) * double(of.normalized(xv.v[j]));
    }
  });
  of.mean = W(block_sum(h0, sums) * share);
  of.slope = W(block_sum(h1, slopes) * share);
  for_columns<kWidth, kLayerThreads>(threadIdx.x, cols, [&](int64_t at) {
    Values<W, kWidth> gv = load_wide<kWidth>(g + start + at);
    const Values<W, kWidth> xv = load_wide<kWidth>(x + start + at), scale = load<kWidth>(gamma + at);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) gv.v[j] = of.apply(gv.v[j] * scale.v[j], xv.v[j]);
    store_rounded<kWidth>(dx + start + at, gv);
  });
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kColumnThreads, 3)
    sum_layer_grad(int64_t rows, int64_t cols, int64_t chunk, const T* __restrict__ g, const T* __restrict__ x,
                   const Wide<T>* __restrict__ mean, const Wide<T>* __restrict__ inv_std,
                   double* __restrict__ partial) {
  using W = Wide<T>;
  const RowWalk walk(rows, cols, chunk, kWidth);
  struct In {
    Values<T, kWidth> g, x;
    W center, s;
  };
  sum_rows<4, LayerNormKernels<T>::kGradSums, kWidth, W>(
      walk, partial,
      [=](int64_t row, int64_t at) {
        return In{load<kWidth>(g + at), load<kWidth>(x + at), mean[row], inv_std[row]};
      },
      [](const In& in, int64_t, auto& sums) {
        SINEW_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          sums[0][j] += in.g.v[j] * ((in.x.v[j] - in.center) * in.s);
          sums[1][j] += in.g.v[j];
        }
      });
}

template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    total_layer_grad(int64_t cols, int64_t chunks, const double* __restrict__ partial, Wide<T>* __restrict__ dgamma,
                     Wide<T>* __restrict__ dbeta) {
  double total[LayerNormKernels<T>::kGradSums];
  if (!total_sums(cols, chunks, partial, total)) return;
  const int64_t j = total_channel();
  dgamma[j] = Wide<T>(total[0]);
  dbeta[j] = Wide<T>(total[1]);
}

template <class T, int kWidth>
typename LayerNormKernels<T>::Rows rows_of(int64_t cols) {
  if (cols <= 16) return {{"layer norm", &layer_short<T, kWidth, 4, 4>}, kLayerThreads / 4};
  if (cols <= 64) return {{"layer norm", &layer_short<T, kWidth, 8, 8>}, kLayerThreads / 8};
  if (cols <= 256) return {{"layer norm", &layer_short<T, kWidth, kWarp, 8>}, kRowWarps};
  if (cols <= 512) return {{"layer norm", &layer_short<T, kWidth, kWarp, 16>}, kRowWarps};
  if (cols <= 1024) return {{"layer norm", &layer_short<T, kWidth, kWarp, 32>}, kRowWarps};
  return {{"layer norm of long rows", &layer_long<T, kWidth>}, 1};
}
template <class T, int kWidth>
typename LayerNormKernels<T>::GradRows dx_of(int64_t cols) {
  if (cols <= 1024) return {{"layer norm dx", &layer_dx_short<T, kWidth, 32>}, kRowWarps};
  return {{"layer norm dx of long rows", &layer_dx_long<T, kWidth>}, 1};
}
template <class T, int kWidth, unsigned kLanes, unsigned kValues>
typename LayerNormKernels<T>::Grad grad_of() {
  return {{"layer norm grad", &layer_grad_short<T, kWidth, kLanes, kValues>},
          kLayerThreads / kLanes,
          LayerNormKernels<T>::kGradSums * kValues * kLayerThreads * unsigned(sizeof(double)),
          kGradResident<kWidth, kValues>};
}
template <class T, int kWidth>
typename LayerNormKernels<T>::Grad grad_of(int64_t cols) {
  if (cols <= 16) return grad_of<T, kWidth, 4, 4>();
  if (cols <= 64) return grad_of<T, kWidth, 8, 8>();
  if (cols <= 256) return grad_of<T, kWidth, kWarp, 8>();
  return grad_of<T, kWidth, kWarp, 16>();
}

}  // namespace

template <class T>
auto LayerNormKernels<T>::rows(int64_t cols, bool packs) -> Rows {
  return packs ? rows_of<T, kColumnWidth<T>>(cols) : rows_of<T, 1>(cols);
}
template <class T>
auto LayerNormKernels<T>::grad(int64_t cols, bool packs) -> Grad {
  return packs ? grad_of<T, kColumnWidth<T>>(cols) : grad_of<T, 1>(cols);
}
template <class T>
auto LayerNormKernels<T>::dx(int64_t cols, bool packs) -> GradRows {
  return packs ? dx_of<T, kColumnWidth<T>>(cols) : dx_of<T, 1>(cols);
}
template <class T>
auto LayerNormKernels<T>::grad_sums(bool packs) -> GradSums {
  if (packs) return {"layer norm grad's sums", &sum_layer_grad<T, kColumnWidth<T>>};
  return {"layer norm grad's sums, unaligned", &sum_layer_grad<T, 1>};
}
template <class T>
auto LayerNormKernels<T>::finish_grad() -> FinishGrad {
  return {"layer norm grad's totals", &total_layer_grad<W>};
}

template struct LayerNormKernels<float>;
template struct LayerNormKernels<double>;
template struct LayerNormKernels<bfloat16>;

}  // namespace sinew::cuda::SINEW_CUDA_NS
