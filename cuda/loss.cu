// Softmax, its logarithm, and cross entropy with its derivative, row by row.
//
// Parallel over rows. Up to 16 columns: a thread a row; a block moves its 256 rows, which are neighbours in memory, 16
// bytes at a time through shared memory. Up to 1024 columns: 8 or 32 lanes hold a row in registers and read it once, 16
// bytes at a time where rows allow that. Longer rows: a block each; one pass keeps a running maximum and sum, a second
// one (from the second-level cache) writes.
// The mean over rows adds up in double: the rows of a block, then the blocks, in an order that depends on the shape.
// Bytes: 2 rows * cols * sizeof(T) (one read, one write; one read where no derivative is wanted). Flops: about 20 an
// element, most of them in exp; bound by memory.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/rows.cuh"
#include "cuda/device/values.cuh"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

namespace fn = SINEW_FUNCTOR_NS::fn;

constexpr unsigned kThreads = 256, kLongThreads = 256;
// Blocks a multiprocessor is to hold: what registers allow without spilling.
template <class T, unsigned kLanes, unsigned kValues>
constexpr unsigned kResident = kLanes == 8      ? (sizeof(T) == 4 ? 6 : 4)
                               : kValues == 8   ? 4
                               : sizeof(T) == 4 ? 3
                                                : 2;

// ---- a thread a row ----

constexpr unsigned kTinyColumns = 16;
template <class T>
constexpr unsigned kTinyResident = sizeof(T) == 4 ? 4 : 1;

// Up to kTinyColumns columns of kThreads rows in shared memory. Their distance is odd, so that threads that walk their
// rows are on different banks.
template <class T>
struct Tile {
  static constexpr unsigned kElements = kTinyColumns * kThreads, kSize = (kTinyColumns + 1) * kThreads;
  static constexpr unsigned kWidth = Pack<T>::kWidth, kRounds = kElements / kWidth / kThreads;
  unsigned pitch, multiplier;

  // Element i of neighbouring rows is at i + i / cols where cols is even: i multiplier / 2^16, exact below kElements as
  // the multiplier is too large by less than one, kElements / 2^16 = 1 / 16.
  SINEW_DEVICE explicit Tile(unsigned cols)
      : pitch(cols | 1), multiplier(cols % 2 == 0 ? ((1u << 16) + cols - 1) / cols : 0) {}
  SINEW_DEVICE unsigned slot(unsigned i) const { return i + (i * multiplier >> 16); }
  // Of n neighbouring elements at x: how many are moved in groups of 16 bytes.
  SINEW_DEVICE static unsigned packed(const T* x, unsigned n) {
    return reinterpret_cast<uintptr_t>(x) % 16 == 0 ? n / kWidth * kWidth : 0;
  }
  SINEW_DEVICE void fill(T (&tile)[kSize], const T* x, unsigned n) const {
    const unsigned whole = packed(x, n);
    Values<T, kWidth> v[kRounds];  // all under way together
    SINEW_UNROLL
    for (unsigned k = 0; k < kRounds; ++k) {
      const unsigned i = (k * kThreads + threadIdx.x) * kWidth;
      if (i < whole) v[k] = load<kWidth>(x + i);
    }
    SINEW_UNROLL
    for (unsigned k = 0; k < kRounds; ++k) {
      const unsigned i = (k * kThreads + threadIdx.x) * kWidth;
      if (i >= whole) continue;
      SINEW_UNROLL
      for (unsigned j = 0; j < kWidth; ++j) tile[slot(i + j)] = v[k].v[j];
    }
    for (unsigned i = whole + threadIdx.x; i < n; i += kThreads) tile[slot(i)] = x[i];
  }
  SINEW_DEVICE void empty(const T (&tile)[kSize], T* y, unsigned n) const {
    const unsigned whole = packed(y, n);
    SINEW_UNROLL
    for (unsigned k = 0; k < kRounds; ++k) {
      const unsigned i = (k * kThreads + threadIdx.x) * kWidth;
      if (i >= whole) continue;
      Values<T, kWidth> v;
      SINEW_UNROLL
      for (unsigned j = 0; j < kWidth; ++j) v.v[j] = tile[slot(i + j)];
      store(y + i, v);
    }
    for (unsigned i = whole + threadIdx.x; i < n; i += kThreads) y[i] = tile[slot(i)];
  }
};

// A row of at most kColumns columns in one thread's registers; what is beyond its end does not count.
template <class T, unsigned kColumns>
struct TinyRow {
  T v[kColumns];  // x, then exp(x - maximum) if kept
  T maximum, sum;

  // No branches: beyond the row's end is the next row, whose thread may be writing it, or memory to spare.
  SINEW_DEVICE void load(const T* row, unsigned cols) {
    maximum = T(-INFINITY);
    SINEW_UNROLL
    for (unsigned c = 0; c < kColumns; ++c) {
      const T x = read_unguarded(row + c);
      v[c] = c < cols ? x : T(-INFINITY);
      maximum = larger(maximum, v[c]);
    }
  }
  SINEW_DEVICE void find_sum(bool keep) {
    sum = T(0);
    SINEW_UNROLL
    for (unsigned c = 0; c < kColumns; ++c) {
      const T e = fn::exp(v[c] - maximum);
      sum += e;
      if (keep) v[c] = e;
    }
  }
  template <class Map>
  SINEW_DEVICE void write(T* row, unsigned cols, Map map) const {
    SINEW_UNROLL
    for (unsigned c = 0; c < kColumns; ++c)
      if (c < cols) row[c] = map(v[c], c);
  }
};

// How many rows the block takes that starts with `first`.
SINEW_DEVICE unsigned rows_here(int64_t first, int64_t rows) {
  return rows - first < int64_t(kThreads) ? unsigned(rows - first) : kThreads;
}

template <class T, bool kLog, unsigned kColumns>
__global__ void __launch_bounds__(kThreads, kTinyResident<T>)
    softmax_tiny(int64_t rows, int64_t cols, const T* __restrict__ x, T* __restrict__ y) {
  SINEW_SHARED(T, tile, [Tile<T>::kSize]);
  const unsigned width = static_cast<unsigned>(cols);
  const Tile<T> of(width);
  T* const own = tile + threadIdx.x * of.pitch;
  for (int64_t first = int64_t(blockIdx.x) * kThreads; first < rows; first += int64_t(gridDim.x) * kThreads) {
    const unsigned here = rows_here(first, rows);
    of.fill(tile, x + first * cols, here * width);
    block_sync();
    if (threadIdx.x < here) {
      TinyRow<T, kColumns> row;
      row.load(own, width);
      row.find_sum(!kLog);
      const T offset = kLog ? row.maximum + fn::log(row.sum) : T(0), factor = T(1) / row.sum;
      row.write(own, width, [&](T v, unsigned) { return kLog ? v - offset : v * factor; });
    }
    block_sync();
    of.empty(tile, y + first * cols, here * width);
    block_sync();  // before the next rows come
  }
}

// ---- some lanes a row ----

// A row in the registers of kLanes neighbouring threads; what is beyond its end does not count in maximum and sum.
template <class T, int kWidth, unsigned kLanes, unsigned kValues>
struct ShortRow {
  static constexpr unsigned kPacks = kValues / kWidth;
  Values<T, kWidth> v[kPacks];  // x, then exp(x - maximum) if kept
  T maximum, sum;

  SINEW_DEVICE static unsigned column(unsigned i) { return (threadIdx.x % kLanes + i * kLanes) * kWidth; }
  SINEW_DEVICE void load(const T* x, unsigned cols, bool active) {
    if (!active) cols = 0;
    SINEW_UNROLL
    for (unsigned i = 0; i < kPacks; ++i) {
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) v[i].v[j] = T(-INFINITY);
      if (column(i) < cols) v[i] = SINEW_CUDA_NS::load<kWidth>(x + column(i));
    }
  }
  SINEW_DEVICE void find_maximum() {
    maximum = v[0].v[0];
    SINEW_UNROLL
    for (unsigned i = 0; i < kPacks; ++i) {
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) maximum = larger(maximum, v[i].v[j]);
    }
    maximum = lanes_max<kLanes>(maximum);
  }
  // keep: v becomes the exponentials.
  SINEW_DEVICE void find_sum(bool keep) {
    sum = T(0);
    SINEW_UNROLL
    for (unsigned i = 0; i < kPacks; ++i) {
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        const T e = fn::exp(v[i].v[j] - maximum);
        sum += e;
        if (keep) v[i].v[j] = e;
      }
    }
    sum = lanes_sum<kLanes>(sum);
  }
  // y = map(value, column) for the row's columns.
  template <class Map>
  SINEW_DEVICE void write(T* y, unsigned cols, bool active, Map map) {
    if (!active) cols = 0;
    SINEW_UNROLL
    for (unsigned i = 0; i < kPacks; ++i) {
      if (column(i) >= cols) continue;
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) v[i].v[j] = map(v[i].v[j], column(i) + unsigned(j));
      store(y + column(i), v[i]);
    }
  }
};

template <class T, bool kLog, int kWidth, unsigned kLanes, unsigned kValues>
__global__ void __launch_bounds__(kThreads, kResident<T, kLanes, kValues>)
    softmax_short(int64_t rows, int64_t cols, const T* __restrict__ x, T* __restrict__ y) {
  constexpr unsigned kGroups = kThreads / kLanes;
  const unsigned width = static_cast<unsigned>(cols);
  // All lanes of a warp go round together: they meet in the shuffles.
  for (int64_t first = int64_t(blockIdx.x) * kGroups; first < rows; first += int64_t(gridDim.x) * kGroups) {
    const int64_t r = first + threadIdx.x / kLanes;
    const bool active = r < rows;
    ShortRow<T, kWidth, kLanes, kValues> row;
    row.load(x + r * cols, width, active);
    row.find_maximum();
    row.find_sum(!kLog);
    const T offset = kLog ? row.maximum + fn::log(row.sum) : T(0), factor = T(1) / row.sum;
    row.write(y + r * cols, width, active, [&](T v, unsigned) { return kLog ? v - offset : v * factor; });
  }
}

// What block b says about its rows' losses: their sum for the second launch, or the mean when it is the only one.
template <class T>
SINEW_DEVICE void finish_loss(double sum, int64_t rows, T* loss, double* partial) {
  if (threadIdx.x != 0) return;
  if (partial)
    partial[blockIdx.x] = sum;
  else if (loss)
    loss[0] = T(sum / double(rows));
}

template <class T, unsigned kColumns>
__global__ void __launch_bounds__(kThreads, kTinyResident<T>)
    cross_entropy_tiny(int64_t rows, int64_t cols, const T* __restrict__ x, const int64_t* __restrict__ labels,
                       const T* __restrict__ scale, T* __restrict__ dx, T* loss, double* partial) {
  SINEW_SHARED(T, tile, [Tile<T>::kSize]);
  SINEW_SHARED(double, warps, [kThreads / kWarp]);
  const unsigned width = static_cast<unsigned>(cols);
  const Tile<T> of(width);
  T* const own = tile + threadIdx.x * of.pitch;
  const T share = (scale ? scale[0] : T(1)) / T(rows);
  double total = 0;
  for (int64_t first = int64_t(blockIdx.x) * kThreads; first < rows; first += int64_t(gridDim.x) * kThreads) {
    const unsigned here = rows_here(first, rows);
    const unsigned label = threadIdx.x < here ? static_cast<unsigned>(labels[first + threadIdx.x]) : 0;
    of.fill(tile, x + first * cols, here * width);
    block_sync();
    if (threadIdx.x < here) {
      TinyRow<T, kColumns> row;
      row.load(own, width);
      row.find_sum(true);
      total += double(row.maximum + fn::log(row.sum) - own[label]);
      const T factor = share / row.sum;
      row.write(own, width, [&](T v, unsigned c) { return v * factor - (c == label ? share : T(0)); });
    }
    block_sync();
    if (dx) of.empty(tile, dx + first * cols, here * width);
    block_sync();  // before the next rows come
  }
  finish_loss(block_sum(total, warps), rows, loss, partial);
}

template <class T, int kWidth, unsigned kLanes, unsigned kValues>
__global__ void __launch_bounds__(kThreads, kResident<T, kLanes, kValues>)
    cross_entropy_short(int64_t rows, int64_t cols, const T* __restrict__ x, const int64_t* __restrict__ labels,
                        const T* __restrict__ scale, T* __restrict__ dx, T* loss, double* partial) {
  constexpr unsigned kGroups = kThreads / kLanes;
  SINEW_SHARED(double, warps, [kThreads / kWarp]);
  const unsigned width = static_cast<unsigned>(cols);
  const T share = (scale ? scale[0] : T(1)) / T(rows);
  double total = 0;
  for (int64_t first = int64_t(blockIdx.x) * kGroups; first < rows; first += int64_t(gridDim.x) * kGroups) {
    const int64_t r = first + threadIdx.x / kLanes;
    const bool active = r < rows;
    const T* const from = x + r * cols;
    const unsigned label = active ? static_cast<unsigned>(labels[r]) : 0;
    ShortRow<T, kWidth, kLanes, kValues> row;
    row.load(from, width, active);
    row.find_maximum();
    row.find_sum(true);
    if (active && threadIdx.x % kLanes == 0) total += double(row.maximum + fn::log(row.sum) - from[label]);
    if (!dx) continue;
    const T factor = share / row.sum;
    row.write(dx + r * cols, width, active, [&](T v, unsigned c) { return v * factor - (c == label ? share : T(0)); });
  }
  finish_loss(block_sum(total, warps), rows, loss, partial);
}

// Sum of exponentials of what a thread has seen, relative to its maximum; 0 for nothing but -infinity.
template <class T>
struct Running {
  T maximum = T(-INFINITY), sum = T(0);

  SINEW_DEVICE void rescale(T to) {
    sum = maximum == T(-INFINITY) ? T(0) : sum * fn::exp(maximum - to);
    maximum = to;
  }
  template <int kWidth>
  SINEW_DEVICE void add(const Values<T, kWidth>& x) {
    T highest = maximum;
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) highest = larger(highest, x.v[j]);
    if (highest == T(-INFINITY)) return;
    if (highest != maximum) rescale(highest);
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j) sum += fn::exp(x.v[j] - maximum);
  }
};

// Maximum and sum of exponentials of a row, for all threads of the block.
template <class T, int kWidth>
SINEW_DEVICE Running<T> scan_row(const T* row, int64_t cols, T (&maxima)[kLongThreads / kWarp],
                                 T (&sums)[kLongThreads / kWarp]) {
  Running<T> all;
  for (int64_t c = int64_t(threadIdx.x) * kWidth; c < cols; c += int64_t(kLongThreads) * kWidth)
    all.add(load<kWidth>(row + c));
  const T maximum = block_max(all.maximum, maxima);
  all.rescale(maximum);
  all.sum = block_sum(all.sum, sums);
  return all;
}

template <class T, bool kLog, int kWidth>
__global__ void __launch_bounds__(kLongThreads, 4)
    softmax_long(int64_t rows, int64_t cols, const T* __restrict__ x, T* __restrict__ y) {
  SINEW_SHARED(T, maxima, [kLongThreads / kWarp]);
  SINEW_SHARED(T, sums, [kLongThreads / kWarp]);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* const from = x + r * cols;
    const Running<T> all = scan_row<T, kWidth>(from, cols, maxima, sums);
    const T offset = all.maximum + fn::log(all.sum), factor = T(1) / all.sum;
    for (int64_t c = int64_t(threadIdx.x) * kWidth; c < cols; c += int64_t(kLongThreads) * kWidth) {
      Values<T, kWidth> v = load<kWidth>(from + c);
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) v.v[j] = kLog ? v.v[j] - offset : fn::exp(v.v[j] - all.maximum) * factor;
      store(y + r * cols + c, v);
    }
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kLongThreads, 4)
    cross_entropy_long(int64_t rows, int64_t cols, const T* __restrict__ x, const int64_t* __restrict__ labels,
                       const T* __restrict__ scale, T* __restrict__ dx, T* loss, double* partial) {
  SINEW_SHARED(T, maxima, [kLongThreads / kWarp]);
  SINEW_SHARED(T, sums, [kLongThreads / kWarp]);
  const T share = (scale ? scale[0] : T(1)) / T(rows);
  double total = 0;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* const from = x + r * cols;
    const int64_t label = labels[r];
    const Running<T> all = scan_row<T, kWidth>(from, cols, maxima, sums);
    total += double(all.maximum + fn::log(all.sum) - from[label]);
    if (!dx) continue;
    const T factor = share / all.sum;
    for (int64_t c = int64_t(threadIdx.x) * kWidth; c < cols; c += int64_t(kLongThreads) * kWidth) {
      Values<T, kWidth> v = load<kWidth>(from + c);
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j)
        v.v[j] = fn::exp(v.v[j] - all.maximum) * factor - (c + j == label ? share : T(0));
      store(dx + r * cols + c, v);
    }
  }
  finish_loss(total, rows, loss, partial);
}

template <class T>
__global__ void __launch_bounds__(kMeanThreads)
    mean_loss(int64_t n, int64_t rows, const double* __restrict__ partial, T* loss) {
  SINEW_SHARED(double, warps, [kMeanThreads / kWarp]);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kMeanThreads) sum += partial[i];
  finish_loss<T>(block_sum(sum, warps), rows, loss, nullptr);
}

template <class T, bool kLog, int kWidth>
SoftmaxKernel<T> softmax_of(int64_t cols) {
  const auto of_lanes = [](auto kernel, unsigned lanes) {
    return SoftmaxKernel<T>{{"softmax of short rows", kernel}, {kThreads, kThreads / lanes}};
  };
  const auto tiny = [](auto kernel) {
    return SoftmaxKernel<T>{{"softmax of tiny rows", kernel}, {kThreads, kThreads}};
  };
  if (cols <= 4) return tiny(&softmax_tiny<T, kLog, 4>);
  if (cols <= 10) return tiny(&softmax_tiny<T, kLog, 10>);
  if (cols <= kTinyColumns) return tiny(&softmax_tiny<T, kLog, kTinyColumns>);
  if (cols <= 64) return of_lanes(&softmax_short<T, kLog, kWidth, 8, 8>, 8);
  if (cols <= 256) return of_lanes(&softmax_short<T, kLog, kWidth, kWarp, 8>, kWarp);
  if (cols <= 1024) return of_lanes(&softmax_short<T, kLog, kWidth, kWarp, 32>, kWarp);
  return {{"softmax of long rows", &softmax_long<T, kLog, kWidth>}, {kLongThreads, 1}};
}
template <class T, int kWidth>
CrossEntropyKernel<T> cross_entropy_of(int64_t cols) {
  const auto of_lanes = [](auto kernel, unsigned lanes) {
    return CrossEntropyKernel<T>{{"cross entropy of short rows", kernel}, {kThreads, kThreads / lanes}};
  };
  const auto tiny = [](auto kernel) {
    return CrossEntropyKernel<T>{{"cross entropy of tiny rows", kernel}, {kThreads, kThreads}};
  };
  if (cols <= 4) return tiny(&cross_entropy_tiny<T, 4>);
  if (cols <= 10) return tiny(&cross_entropy_tiny<T, 10>);
  if (cols <= kTinyColumns) return tiny(&cross_entropy_tiny<T, kTinyColumns>);
  if (cols <= 64) return of_lanes(&cross_entropy_short<T, kWidth, 8, 8>, 8);
  if (cols <= 256) return of_lanes(&cross_entropy_short<T, kWidth, kWarp, 8>, kWarp);
  if (cols <= 1024) return of_lanes(&cross_entropy_short<T, kWidth, kWarp, 32>, kWarp);
  return {{"cross entropy of long rows", &cross_entropy_long<T, kWidth>}, {kLongThreads, 1}};
}

}  // namespace

template <class T>
SoftmaxKernel<T> softmax_kernel(int64_t cols, bool log, bool packs) {
  constexpr int kWidth = Pack<T>::kWidth;
  if (log) return packs ? softmax_of<T, true, kWidth>(cols) : softmax_of<T, true, 1>(cols);
  return packs ? softmax_of<T, false, kWidth>(cols) : softmax_of<T, false, 1>(cols);
}

template <class T>
CrossEntropyKernel<T> cross_entropy_kernel(int64_t cols, bool packs) {
  return packs ? cross_entropy_of<T, Pack<T>::kWidth>(cols) : cross_entropy_of<T, 1>(cols);
}

template <class T>
Kernel<int64_t, int64_t, const double*, T*> mean_loss_kernel() {
  return {"mean loss", &mean_loss<T>};
}

#define SINEW_INSTANTIATE(T)                                                     \
  template SoftmaxKernel<T> softmax_kernel(int64_t cols, bool log, bool packs);  \
  template CrossEntropyKernel<T> cross_entropy_kernel(int64_t cols, bool packs); \
  template Kernel<int64_t, int64_t, const double*, T*> mean_loss_kernel();
SINEW_INSTANTIATE(float)
SINEW_INSTANTIATE(double)
#undef SINEW_INSTANTIATE

}  // namespace sinew::cuda::SINEW_CUDA_NS
