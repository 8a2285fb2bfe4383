// Softmax, its logarithm, and cross entropy with its derivative, row by row.
//
// Parallel over rows. Up to 1024 columns: 8 or 32 lanes hold a row in registers and read it once. Longer rows: a block
// each; one pass keeps a running maximum and sum, a second one (from the second-level cache) writes.
// The mean over rows adds up in double: the rows of a block, then the blocks, in an order that depends on the shape.
// Bytes: 2 rows * cols * sizeof(T) (one read, one write; one read where no derivative is wanted). Flops: about 20 an
// element, most of them in exp; bound by memory.
// GPU figures: not measured yet.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/rows.cuh"
#include "cuda/device/values.cuh"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

namespace fn = SINEW_FUNCTOR_NS::fn;

// Groups of 8 lanes come in large blocks: one of them serves a usual batch, so that the mean needs no second launch.
template <unsigned kLanes>
constexpr unsigned kThreads = kLanes < kWarp ? 1024 : 256;
// Blocks a multiprocessor is to hold. Left to itself, ptxas spills a register or two for one block more.
template <unsigned kLanes, unsigned kValues>
constexpr unsigned kResident = kLanes == kWarp ? (kValues == 32 ? 2 : 4) : 1;
constexpr unsigned kLongThreads = 256;

// A row in the registers of kLanes neighbouring threads; what is beyond its end does not count in maximum and sum.
template <class T, unsigned kLanes, unsigned kValues>
struct ShortRow {
  T v[kValues];  // x, then exp(x - maximum)
  T maximum, sum;

  SINEW_DEVICE void load(const T* x, unsigned cols, bool active) {
    const unsigned lane = threadIdx.x % kLanes;
    SINEW_UNROLL
    for (unsigned i = 0; i < kValues; ++i) {
      const unsigned c = lane + i * kLanes;
      v[i] = active && c < cols ? x[c] : T(-INFINITY);
    }
  }
  SINEW_DEVICE void find_maximum() {
    maximum = v[0];
    SINEW_UNROLL
    for (unsigned i = 1; i < kValues; ++i) maximum = larger(maximum, v[i]);
    maximum = lanes_max<kLanes>(maximum);
  }
  // keep: v becomes the exponentials.
  SINEW_DEVICE void find_sum(bool keep) {
    sum = T(0);
    SINEW_UNROLL
    for (unsigned i = 0; i < kValues; ++i) {
      const T e = fn::exp(v[i] - maximum);
      sum += e;
      if (keep) v[i] = e;
    }
    sum = lanes_sum<kLanes>(sum);
  }
};

template <class T, unsigned kLanes, unsigned kValues>
__global__ void __launch_bounds__(kThreads<kLanes>, kResident<kLanes, kValues>)
    softmax_short(int64_t rows, int64_t cols, bool log, const T* __restrict__ x, T* __restrict__ y) {
  constexpr unsigned kGroups = kThreads<kLanes> / kLanes;
  const unsigned lane = threadIdx.x % kLanes, width = static_cast<unsigned>(cols);
  // All lanes of a warp go round together: they meet in the shuffles.
  for (int64_t first = int64_t(blockIdx.x) * kGroups; first < rows; first += int64_t(gridDim.x) * kGroups) {
    const int64_t r = first + threadIdx.x / kLanes;
    const bool active = r < rows;
    ShortRow<T, kLanes, kValues> row;
    row.load(x + r * cols, width, active);
    row.find_maximum();
    row.find_sum(!log);
    const T offset = row.maximum + fn::log(row.sum), factor = T(1) / row.sum;
    T* const to = y + r * cols;
    SINEW_UNROLL
    for (unsigned i = 0; i < kValues; ++i) {
      const unsigned c = lane + i * kLanes;
      if (active && c < width) to[c] = log ? row.v[i] - offset : row.v[i] * factor;
    }
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

template <class T, unsigned kLanes, unsigned kValues>
__global__ void __launch_bounds__(kThreads<kLanes>, kResident<kLanes, kValues>)
    cross_entropy_short(int64_t rows, int64_t cols, const T* __restrict__ x, const int64_t* __restrict__ labels,
                        const T* __restrict__ scale, T* __restrict__ dx, T* loss, double* partial) {
  constexpr unsigned kGroups = kThreads<kLanes> / kLanes;
  SINEW_SHARED(double, warps, [kThreads<kLanes> / kWarp]);
  const unsigned lane = threadIdx.x % kLanes, width = static_cast<unsigned>(cols);
  const T share = (scale ? scale[0] : T(1)) / T(rows);
  double total = 0;
  for (int64_t first = int64_t(blockIdx.x) * kGroups; first < rows; first += int64_t(gridDim.x) * kGroups) {
    const int64_t r = first + threadIdx.x / kLanes;
    const bool active = r < rows;
    const T* const from = x + r * cols;
    const unsigned label = active ? static_cast<unsigned>(labels[r]) : 0;
    ShortRow<T, kLanes, kValues> row;
    row.load(from, width, active);
    row.find_maximum();
    row.find_sum(true);
    if (active && lane == 0) total += double(row.maximum + fn::log(row.sum) - from[label]);
    if (dx) {
      const T factor = share / row.sum;
      T* const to = dx + r * cols;
      SINEW_UNROLL
      for (unsigned i = 0; i < kValues; ++i) {
        const unsigned c = lane + i * kLanes;
        if (active && c < width) to[c] = row.v[i] * factor - (c == label ? share : T(0));
      }
    }
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

template <class T, int kWidth>
__global__ void __launch_bounds__(kLongThreads, 4)
    softmax_long(int64_t rows, int64_t cols, bool log, const T* __restrict__ x, T* __restrict__ y) {
  SINEW_SHARED(T, maxima, [kLongThreads / kWarp]);
  SINEW_SHARED(T, sums, [kLongThreads / kWarp]);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* const from = x + r * cols;
    const Running<T> all = scan_row<T, kWidth>(from, cols, maxima, sums);
    const T offset = all.maximum + fn::log(all.sum), factor = T(1) / all.sum;
    for (int64_t c = int64_t(threadIdx.x) * kWidth; c < cols; c += int64_t(kLongThreads) * kWidth) {
      Values<T, kWidth> v = load<kWidth>(from + c);
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) v.v[j] = log ? v.v[j] - offset : fn::exp(v.v[j] - all.maximum) * factor;
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

template <class T, unsigned kLanes, unsigned kValues>
SoftmaxKernel<T> softmax_of() {
  return {{"softmax of short rows", &softmax_short<T, kLanes, kValues>}, {kThreads<kLanes>, kThreads<kLanes> / kLanes}};
}
template <class T, unsigned kLanes, unsigned kValues>
CrossEntropyKernel<T> cross_entropy_of() {
  return {{"cross entropy of short rows", &cross_entropy_short<T, kLanes, kValues>},
          {kThreads<kLanes>, kThreads<kLanes> / kLanes}};
}

}  // namespace

template <class T>
SoftmaxKernel<T> softmax_kernel(int64_t cols, bool packs) {
  if (cols <= 16) return softmax_of<T, 8, 2>();
  if (cols <= 64) return softmax_of<T, 8, 8>();
  if (cols <= 256) return softmax_of<T, kWarp, 8>();
  if (cols <= 1024) return softmax_of<T, kWarp, 32>();
  constexpr int kWidth = Pack<T>::kWidth;
  if (packs) return {{"softmax of long rows", &softmax_long<T, kWidth>}, {kLongThreads, 1}};
  return {{"softmax of long unaligned rows", &softmax_long<T, 1>}, {kLongThreads, 1}};
}

template <class T>
CrossEntropyKernel<T> cross_entropy_kernel(int64_t cols, bool packs) {
  if (cols <= 16) return cross_entropy_of<T, 8, 2>();
  if (cols <= 64) return cross_entropy_of<T, 8, 8>();
  if (cols <= 256) return cross_entropy_of<T, kWarp, 8>();
  if (cols <= 1024) return cross_entropy_of<T, kWarp, 32>();
  constexpr int kWidth = Pack<T>::kWidth;
  if (packs) return {{"cross entropy of long rows", &cross_entropy_long<T, kWidth>}, {kLongThreads, 1}};
  return {{"cross entropy of long unaligned rows", &cross_entropy_long<T, 1>}, {kLongThreads, 1}};
}

template <class T>
Kernel<int64_t, int64_t, const double*, T*> mean_loss_kernel() {
  return {"mean loss", &mean_loss<T>};
}

#define SINEW_INSTANTIATE(T)                                                     \
  template SoftmaxKernel<T> softmax_kernel(int64_t cols, bool packs);            \
  template CrossEntropyKernel<T> cross_entropy_kernel(int64_t cols, bool packs); \
  template Kernel<int64_t, int64_t, const double*, T*> mean_loss_kernel();
SINEW_INSTANTIATE(float)
SINEW_INSTANTIATE(double)
#undef SINEW_INSTANTIATE

}  // namespace sinew::cuda::SINEW_CUDA_NS
