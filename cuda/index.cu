// Gather, one-hot, and scatter-add without atomics on floats.
//
// gather, one_hot: parallel over groups of 16 bytes of y, or the largest units that a row is a multiple of.
// Bytes: gather 2 n width sizeof(T) + 8 n; one_hot n classes sizeof(T) + 8 n. Flops: none.
//
// scatter_add: a stable sort of (index[i], i) by radix, 6 bits a pass, then one thread per group of 16 bytes of every
// row that occurs adds the row's contributions, in increasing i because the sort is stable. A pass reads the pairs
// twice and writes them once, 24 n bytes, in runs of a thread; passes = log2(rows) / 6. The sum reads n width
// sizeof(T) and writes the rows. A row that occurs very often is a serial sum, as its order is promised: four
// contributions are asked for at a time.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "cuda/kernels/index.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class Unit>
__global__ void __launch_bounds__(kIndexThreads) gather(uint32_t n, Divisor width, const Unit* __restrict__ x,
                                                        const int64_t* __restrict__ index, Unit* __restrict__ y) {
  const uint32_t stride = gridDim.x * blockDim.x;
  for (uint32_t base = blockIdx.x * blockDim.x + threadIdx.x; base < n; base += kGatherUnroll * stride) {
    int64_t from[kGatherUnroll];
    SINEW_UNROLL
    for (unsigned u = 0; u < kGatherUnroll; ++u) {
      const uint32_t i = base + u * stride;
      if (i >= n) continue;
      const uint32_t row = divide(i, width);
      from[u] = index[row] * width.value + (i - row * width.value);
    }
    Unit value[kGatherUnroll];
    SINEW_UNROLL
    for (unsigned u = 0; u < kGatherUnroll; ++u)
      if (base + u * stride < n) value[u] = x[from[u]];
    SINEW_UNROLL
    for (unsigned u = 0; u < kGatherUnroll; ++u)
      if (base + u * stride < n) y[base + u * stride] = value[u];
  }
}

template <class T>
__global__ void __launch_bounds__(kIndexThreads)
    one_hot(uint32_t n, uint32_t packs, Divisor classes, const int64_t* __restrict__ index, T* __restrict__ y) {
  constexpr uint32_t kWidth = Pack<T>::kWidth;
  const uint32_t first = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x;
  for (uint32_t i = first; i < packs; i += stride) {
    uint32_t row = divide(i * kWidth, classes);
    uint32_t k = i * kWidth - row * classes.value;
    int64_t hot = index[row];
    Pack<T> pack;
    SINEW_UNROLL
    for (uint32_t j = 0; j < kWidth; ++j) {
      if (k == classes.value) {
        k = 0;
        hot = index[++row];
      }
      pack.v[j] = T(k++ == hot);
    }
    as_vector<Pack<T>>(y)[i] = pack;
  }
  for (uint32_t i = packs * kWidth + first; i < n; i += stride) {
    const uint32_t row = divide(i, classes);
    y[i] = T(i - row * classes.value == index[row]);
  }
}

// ---- the sort ----

// Every thread owns a run of kSortPerThread neighbouring pairs and a column of counters, one per digit. kParts
// neighbouring threads then turn the counters of one digit into ranks within the tile; the columns are padded so that
// the 32 threads of a warp, with four digits, read 32 banks.
constexpr unsigned kParts = kSortThreads / kSortDigits, kColumnsPerPart = kSortThreads / kParts;
constexpr unsigned kCountPitch = kSortThreads + 2 * kParts;
static_assert(kSortSharedBytes == kSortDigits * kCountPitch * sizeof(uint16_t) && kSortTile <= 65535);
using Counts = uint16_t[kCountPitch];  // one digit's, in dynamic shared memory
using Partial = uint32_t[kSortDigits][kParts];

SINEW_DEVICE unsigned column_of(unsigned thread) { return thread + thread / kColumnsPerPart * 2; }

struct Run {
  uint32_t keys[kSortPerThread];
  uint32_t begin, count;
};

SINEW_DEVICE Run load_run(uint32_t tile, uint32_t n, const int64_t* index, const uint32_t* keys) {
  Run run;
  run.begin = tile * kSortTile + threadIdx.x * kSortPerThread;
  const uint32_t left = run.begin < n ? n - run.begin : 0;
  run.count = left < kSortPerThread ? left : kSortPerThread;
  if (index == nullptr && run.count == kSortPerThread) {  // 64 bytes, aligned to 16
    using Four = Pack<uint32_t>;
    SINEW_UNROLL
    for (uint32_t j = 0; j < kSortPerThread; j += Four::kWidth) {
      const Four four = *reinterpret_cast<const Four*>(keys + run.begin + j);
      SINEW_UNROLL
      for (int k = 0; k < Four::kWidth; ++k) run.keys[j + k] = four.v[k];
    }
    return run;
  }
  SINEW_UNROLL
  for (uint32_t j = 0; j < kSortPerThread; ++j) {
    run.keys[j] = 0;
    if (j < run.count) run.keys[j] = index != nullptr ? uint32_t(index[run.begin + j]) : keys[run.begin + j];
  }
  return run;
}

SINEW_DEVICE uint32_t digit_of(uint32_t key, unsigned shift) { return (key >> shift) % kSortDigits; }

// Ends with a barrier: partial[digit][part] is the number of the digit in the part's columns.
SINEW_DEVICE void count_digits(const Run& run, unsigned shift, Counts* counts, Partial& partial) {
  const unsigned column = column_of(threadIdx.x);
  SINEW_UNROLL
  for (unsigned digit = 0; digit < kSortDigits; ++digit) counts[digit][column] = 0;
  SINEW_UNROLL
  for (uint32_t j = 0; j < kSortPerThread; ++j)
    if (j < run.count) ++counts[digit_of(run.keys[j], shift)][column];
  block_sync();
  const unsigned digit = threadIdx.x / kParts, part = threadIdx.x % kParts;
  uint32_t sum = 0;
  SINEW_UNROLL
  for (unsigned i = 0; i < kColumnsPerPart; ++i) sum += counts[digit][column_of(part * kColumnsPerPart + i)];
  partial[digit][part] = sum;
  block_sync();
}

SINEW_DEVICE uint32_t sum_below(const uint32_t* values, unsigned count) {
  uint32_t sum = 0;
  for (unsigned i = 0; i < count; ++i) sum += values[i];
  return sum;
}

// Moves the tile's pairs: a digit's go to starts[digit] and what follows. A barrier inside, before starts is read.
SINEW_DEVICE void move_run(const Run& run, unsigned shift, const uint32_t* starts, Counts* counts,
                           const Partial& partial, const int64_t* index, const uint32_t* places, uint32_t* to_keys,
                           uint32_t* to_places) {
  const unsigned digit = threadIdx.x / kParts, part = threadIdx.x % kParts;
  uint32_t rank = sum_below(partial[digit], part);
  SINEW_UNROLL
  for (unsigned i = 0; i < kColumnsPerPart; ++i) {
    uint16_t& count = counts[digit][column_of(part * kColumnsPerPart + i)];
    const uint32_t next = rank + count;
    count = uint16_t(rank);
    rank = next;
  }
  block_sync();
  const unsigned column = column_of(threadIdx.x);
  SINEW_UNROLL
  for (uint32_t j = 0; j < kSortPerThread; ++j) {
    if (j >= run.count) continue;
    const uint32_t own_digit = digit_of(run.keys[j], shift);
    const uint32_t to = starts[own_digit] + counts[own_digit][column]++;
    to_keys[to] = run.keys[j];
    to_places[to] = index != nullptr ? run.begin + j : places[run.begin + j];
  }
}

__global__ void __launch_bounds__(kSortThreads)
    sort_count(uint32_t n, unsigned shift, const int64_t* index, const uint32_t* keys, uint32_t* counts_of_tiles) {
  SINEW_DYNAMIC_SHARED(Counts, counts);
  SINEW_SHARED(Partial, partial, );
  count_digits(load_run(blockIdx.x, n, index, keys), shift, counts, partial);
  if (threadIdx.x < kSortDigits)
    counts_of_tiles[threadIdx.x * gridDim.x + blockIdx.x] = sum_below(partial[threadIdx.x], kParts);
}

__global__ void __launch_bounds__(kSortThreads)
    sort_move(uint32_t n, unsigned shift, const int64_t* index, const uint32_t* keys, const uint32_t* places,
              const uint32_t* first_places, uint32_t* to_keys, uint32_t* to_places) {
  SINEW_DYNAMIC_SHARED(Counts, counts);
  SINEW_SHARED(Partial, partial, );
  SINEW_SHARED(uint32_t, starts, [kSortDigits]);
  if (threadIdx.x < kSortDigits) starts[threadIdx.x] = first_places[threadIdx.x * gridDim.x + blockIdx.x];
  const Run run = load_run(blockIdx.x, n, index, keys);
  count_digits(run, shift, counts, partial);
  move_run(run, shift, starts, counts, partial, index, places, to_keys, to_places);
}

__global__ void __launch_bounds__(kSortThreads)
    sort_tile(uint32_t n, unsigned passes, const int64_t* index, uint32_t* keys_a, uint32_t* places_a, uint32_t* keys_b,
              uint32_t* places_b) {
  SINEW_DYNAMIC_SHARED(Counts, counts);
  SINEW_SHARED(Partial, partial, );
  SINEW_SHARED(uint32_t, totals, [kSortDigits]);
  SINEW_SHARED(uint32_t, starts, [kSortDigits]);
  const uint32_t *keys = nullptr, *places = nullptr;
  for (unsigned pass = 0; pass < passes; ++pass) {
    uint32_t* const to_keys = pass % 2 == 0 ? keys_a : keys_b;
    uint32_t* const to_places = pass % 2 == 0 ? places_a : places_b;
    const int64_t* const from_index = pass == 0 ? index : nullptr;
    const Run run = load_run(0, n, from_index, keys);
    count_digits(run, pass * kSortBits, counts, partial);
    if (threadIdx.x < kSortDigits) totals[threadIdx.x] = sum_below(partial[threadIdx.x], kParts);
    block_sync();
    if (threadIdx.x < kSortDigits) starts[threadIdx.x] = sum_below(totals, threadIdx.x);
    move_run(run, pass * kSortBits, starts, counts, partial, from_index, places, to_keys, to_places);
    block_sync();  // the pairs are there, and nobody reads the counters any more
    keys = to_keys;
    places = to_places;
  }
}

__global__ void __launch_bounds__(kScanThreads) exclusive_scan(uint32_t n, uint32_t* values) {
  SINEW_SHARED(uint32_t, sums, [kScanThreads]);
  const uint32_t chunk = (n + kScanThreads - 1) / kScanThreads;
  const uint32_t begin = threadIdx.x * chunk < n ? threadIdx.x * chunk : n;
  const uint32_t end = n - begin < chunk ? n : begin + chunk;
  uint32_t sum = 0;
  for (uint32_t i = begin; i < end; ++i) sum += values[i];
  sums[threadIdx.x] = sum;
  block_sync();
  for (unsigned step = 1; step < kScanThreads; step *= 2) {
    const uint32_t before = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
    block_sync();
    sums[threadIdx.x] += before;
    block_sync();
  }
  uint32_t before = sums[threadIdx.x] - sum;
  for (uint32_t i = begin; i < end; ++i) {
    const uint32_t value = values[i];
    values[i] = before;
    before += value;
  }
}

template <class T>
struct One {
  static constexpr int kWidth = 1;
  T v[1];
};

// Value: Pack<T> or One<T>.
template <class T, class Value>
__global__ void __launch_bounds__(kIndexThreads)
    sum_runs(uint32_t n, uint32_t first_pair, uint32_t pairs, Divisor width, const uint32_t* __restrict__ keys,
             const uint32_t* __restrict__ places, const T* __restrict__ x, T* __restrict__ y) {
  constexpr uint32_t kTogether = 4;
  const Value* const from = reinterpret_cast<const Value*>(x);
  const uint32_t stride = gridDim.x * blockDim.x, total = pairs * width.value;
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
    const uint32_t pair = divide(i, width);
    const uint32_t column = i - pair * width.value;
    uint32_t p = first_pair + pair;
    const uint32_t key = keys[p];
    if (p > 0 && keys[p - 1] == key) continue;  // in the middle of a run
    Value sum = {};
    while (p + kTogether <= n && keys[p + kTogether - 1] == key) {
      Value value[kTogether];
      SINEW_UNROLL
      for (uint32_t u = 0; u < kTogether; ++u) value[u] = from[int64_t(places[p + u]) * width.value + column];
      SINEW_UNROLL
      for (uint32_t u = 0; u < kTogether; ++u) {
        SINEW_UNROLL
        for (int j = 0; j < Value::kWidth; ++j) sum.v[j] += value[u].v[j];
      }
      p += kTogether;
    }
    for (; p < n && keys[p] == key; ++p) {
      const Value value = from[int64_t(places[p]) * width.value + column];
      SINEW_UNROLL
      for (int j = 0; j < Value::kWidth; ++j) sum.v[j] += value.v[j];
    }
    reinterpret_cast<Value*>(y)[int64_t(key) * width.value + column] = sum;
  }
}

}  // namespace

template <class Unit>
GatherKernel<Unit> gather_kernel() {
  return {"gather", &gather<Unit>};
}
template GatherKernel<uint8_t> gather_kernel();
template GatherKernel<uint16_t> gather_kernel();
template GatherKernel<uint32_t> gather_kernel();
template GatherKernel<uint64_t> gather_kernel();
template GatherKernel<Unit16> gather_kernel();

template <class T>
OneHotKernel<T> one_hot_kernel() {
  return {"one_hot", &one_hot<T>};
}
template OneHotKernel<float> one_hot_kernel();
template OneHotKernel<double> one_hot_kernel();

SortCountKernel sort_count_kernel() { return {"sort, counting digits", &sort_count}; }
SortMoveKernel sort_move_kernel() { return {"sort, moving pairs", &sort_move}; }
SortTileKernel sort_tile_kernel() { return {"sort of one tile", &sort_tile}; }
ExclusiveScanKernel exclusive_scan_kernel() { return {"exclusive scan", &exclusive_scan}; }

template <class T>
SumRunsKernel<T> sum_runs_kernel(bool packed) {
  if (packed) return {"sum of equal rows", &sum_runs<T, Pack<T>>};
  return {"sum of equal rows, by element", &sum_runs<T, One<T>>};
}
template SumRunsKernel<float> sum_runs_kernel(bool packed);
template SumRunsKernel<double> sum_runs_kernel(bool packed);

}  // namespace sinew::cuda::SINEW_CUDA_NS
