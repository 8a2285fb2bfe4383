// The kernels of index.cu and index_random.cu as host code sees them; cuda/kernels.h says how such headers are used.
#pragma once

#include "core/kernel_api.h"
#include "cuda/indexing.h"
#include "cuda/kernels/copy.h"
#include "cuda/launch.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// ---- index.cu ----

inline constexpr unsigned kIndexThreads = 256;
inline constexpr unsigned kGatherUnroll = 4;

// y[i, :] = x[index[i], :] with rows of `width` units; n counts units of y.
// Parameters: n, width, x, index, y. Any one-dimensional grid.
template <class Unit>
using GatherKernel = Kernel<uint32_t, Divisor, const Unit*, const int64_t*, Unit*>;
template <class Unit>
GatherKernel<Unit> gather_kernel();

// y[i, k] = k == index[i]; n counts elements of y, the first `packs` groups of 16 bytes are written as such.
// Parameters: n, packs, classes, index, y. Any one-dimensional grid.
template <class T>
using OneHotKernel = Kernel<uint32_t, uint32_t, Divisor, const int64_t*, T*>;
template <class T>
OneHotKernel<T> one_hot_kernel();

// One pass of a stable sort of pairs (key, place) by kSortBits bits of the key from `shift` on. A block sorts a tile of
// kSortTile pairs, blockIdx.x counts tiles; counts is (2^kSortBits, tiles).
// First the digits of every tile are counted: n, shift, index or null, keys, counts. Then exclusive_scan makes their
// first places of them, and the pairs move: n, shift, index or null, keys, places, counts, to keys, to places. With an
// index, as in the first pass, the pairs are (index[i], i), and keys and places are not read. Keys are aligned to 16
// bytes.
inline constexpr unsigned kSortThreads = 512, kSortPerThread = 16, kSortBits = 6;
inline constexpr unsigned kSortTile = kSortThreads * kSortPerThread, kSortDigits = 1 << kSortBits;
// Dynamic shared memory of the three kernels: counters of 16 bits, (digits, threads) with padding.
inline constexpr size_t kSortSharedBytes = kSortDigits * (kSortThreads + 2 * kSortThreads / kSortDigits) * 2;
using SortCountKernel = Kernel<uint32_t, unsigned, const int64_t*, const uint32_t*, uint32_t*>;
SortCountKernel sort_count_kernel();
using SortMoveKernel =
    Kernel<uint32_t, unsigned, const int64_t*, const uint32_t*, const uint32_t*, const uint32_t*, uint32_t*, uint32_t*>;
SortMoveKernel sort_move_kernel();
// All passes of one tile: one block. The pairs end in a when the number of passes is odd, else in b.
// Parameters: n <= kSortTile, passes, index, keys a, places a, keys b, places b.
using SortTileKernel = Kernel<uint32_t, unsigned, const int64_t*, uint32_t*, uint32_t*, uint32_t*, uint32_t*>;
SortTileKernel sort_tile_kernel();
// values[i] = sum of values before i. One block of kScanThreads. Parameters: n, values.
inline constexpr unsigned kScanThreads = 1024;
using ExclusiveScanKernel = Kernel<uint32_t, uint32_t*>;
ExclusiveScanKernel exclusive_scan_kernel();

// y[key, :] = sum of x[place, :] over the run of equal keys, in order; other rows are left alone. Rows of `width`
// groups of 16 bytes, or elements. Parameters: n, first pair of this launch, pairs of this launch, width, keys, places,
// x, y. Any one-dimensional grid.
template <class T>
using SumRunsKernel = Kernel<uint32_t, uint32_t, uint32_t, Divisor, const uint32_t*, const uint32_t*, const T*, T*>;
template <class T>
SumRunsKernel<T> sum_runs_kernel(bool packed);

// ---- index_random.cu ----

inline constexpr unsigned kRandomThreads = 256;
// A Philox stream with its key mixed already: philox_block(key, i) is philox4x32_10(i, mixed).
struct MixedKey {
  PhiloxBlock block;
};
// A thread makes four neighbouring elements, which are written in groups of 16 bytes when `aligned`.
// recorded: where the key is instead, unless null (cuda/graph.h).
// Parameters: n, key, recorded, p0, p1, y, aligned. Any one-dimensional grid.
template <class T>
using RandomKernel = Kernel<int64_t, MixedKey, const MixedKey*, T, T, T*, bool>;
template <class T>
RandomKernel<T> random_kernel(RandomDist dist);
// Parameters: n, key, recorded, keep, 1 / keep, x, y, aligned. Any one-dimensional grid.
template <class T>
using DropoutKernel = Kernel<int64_t, MixedKey, const MixedKey*, float, Wide<T>, const T*, T*, bool>;
template <class T>
DropoutKernel<T> dropout_kernel();
// to[i] = keys.at[i] for i < n. One block of kKeysOfLaunch threads.
inline constexpr unsigned kKeysOfLaunch = 128;
struct Keys {
  MixedKey at[kKeysOfLaunch];
};
Kernel<int, Keys, MixedKey*> write_keys_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
