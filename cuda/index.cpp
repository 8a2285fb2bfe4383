// Host side of index.cu.
#include "cuda/kernels/index.h"
#include "cuda/entries.h"
#include "cuda/grid.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr int64_t kMaxIndex = INT32_MAX;  // of 32-bit subscripts

// Calls part(first row, rows) so that a part has at most kMaxIndex units.
template <class Part>
void in_row_parts(const char* op, int64_t rows, int64_t width, const Part& part) {
  SINEW_CHECK(width <= kMaxIndex, op, "rows of ", width, " elements, at most ", kMaxIndex);
  const int64_t most = kMaxIndex / width;
  for (int64_t first = 0; first < rows; first += most) part(first, std::min(most, rows - first));
}

template <class Unit>
void run_gather(const kernel::GatherArgs& args, int64_t width) {
  in_row_parts("gather", args.n, width, [&](int64_t first, int64_t rows) {
    launch(gather_kernel<Unit>(), {grid_blocks(rows * width, kIndexThreads * kGatherUnroll)}, {kIndexThreads}, 0,
           stream(), rows * width, Divisor(width), static_cast<const Unit*>(args.x), args.index + first,
           static_cast<Unit*>(args.y) + first * width);
  });
}

template <class T>
void run_one_hot(const kernel::OneHotArgs& args) {
  in_row_parts("one_hot", args.n, args.classes, [&](int64_t first, int64_t rows) {
    T* y = static_cast<T*>(args.y) + first * args.classes;
    const int64_t n = rows * args.classes, packs = packs_of<T>(n, y);
    launch(one_hot_kernel<T>(), {grid_blocks(packs > 0 ? packs : n, kIndexThreads)}, {kIndexThreads}, 0, stream(), n,
           packs, Divisor(args.classes), args.index + first, y);
  });
}

// (index[i], i), sorted by key, equal keys by i. Owns its memory.
class SortedPairs {
 public:
  SortedPairs(const int64_t* index, int64_t n, int64_t rows) : n_(static_cast<uint32_t>(n)) {
    unsigned passes = 1;
    while (kSortBits * passes < 31 && (int64_t{1} << (kSortBits * passes)) < rows) ++passes;
    tiles_ = static_cast<uint32_t>(ceil_divide(n, kSortTile));
    pitch_ = (size_t{n_} + 3) / 4 * 4;  // all four arrays are aligned to 16 bytes
    const size_t words = 4 * pitch_ + size_t{kSortDigits} * tiles_;
    memory_ = static_cast<uint32_t*>(memory_allocate(words * sizeof(uint32_t), stream()));
    if (tiles_ == 1)
      launch(sort_tile_kernel(), {1}, {kSortThreads}, kSortSharedBytes, stream(), n_, passes, index, keys(0), places(0),
             keys(1), places(1));
    else
      for (unsigned pass = 0; pass < passes; ++pass) run_pass(pass, pass == 0 ? index : nullptr);
    last_ = (passes + 1) % 2;
  }
  ~SortedPairs() { memory_free(memory_, stream()); }
  SortedPairs(const SortedPairs&) = delete;
  SortedPairs& operator=(const SortedPairs&) = delete;

  const uint32_t* sorted_keys() const { return keys(last_); }
  const uint32_t* sorted_places() const { return places(last_); }

 private:
  uint32_t* keys(unsigned side) const { return memory_ + 2 * side * pitch_; }
  uint32_t* places(unsigned side) const { return keys(side) + pitch_; }

  void run_pass(unsigned pass, const int64_t* index) {
    const unsigned from = (pass + 1) % 2, to = pass % 2, shift = pass * kSortBits;
    uint32_t* const counts = keys(2);
    launch(sort_count_kernel(), {tiles_}, {kSortThreads}, kSortSharedBytes, stream(), n_, shift, index, keys(from),
           counts);
    launch(exclusive_scan_kernel(), {1}, {kScanThreads}, 0, stream(), kSortDigits * tiles_, counts);
    launch(sort_move_kernel(), {tiles_}, {kSortThreads}, kSortSharedBytes, stream(), n_, shift, index, keys(from),
           places(from), counts, keys(to), places(to));
  }

  uint32_t n_, tiles_ = 0;
  size_t pitch_ = 0;
  uint32_t* memory_ = nullptr;
  unsigned last_ = 0;
};

template <class T>
void run_scatter_add(const kernel::ScatterAddArgs& args) {
  memory_set(args.y, 0, static_cast<size_t>(args.rows * args.width) * sizeof(T), stream());
  if (args.n == 0) return;
  SINEW_CHECK(args.n <= kMaxIndex && args.rows <= kMaxIndex, "scatter_add", args.n, " rows into ", args.rows,
              ", at most ", kMaxIndex);
  const SortedPairs pairs(args.index, args.n, args.rows);
  constexpr int64_t kWidth = 16 / static_cast<int64_t>(sizeof(T));
  const bool packed = args.width % kWidth == 0 && is_aligned_to(16, args.x) && is_aligned_to(16, args.y);
  const int64_t width = packed ? args.width / kWidth : args.width;
  in_row_parts("scatter_add", args.n, width, [&](int64_t first, int64_t count) {
    launch(sum_runs_kernel<T>(packed), {grid_blocks(count * width, kIndexThreads)}, {kIndexThreads}, 0, stream(),
           args.n, first, count, Divisor(width), pairs.sorted_keys(), pairs.sorted_places(),
           static_cast<const T*>(args.x), static_cast<T*>(args.y));
  });
}

}  // namespace

void gather(const kernel::GatherArgs& args) {
  if (args.n == 0 || args.width == 0) return;
  const int64_t bytes = args.width * static_cast<int64_t>(size_of(args.dtype));
  auto goes_in = [&](int64_t unit) {
    const auto size = static_cast<size_t>(unit);
    return bytes % unit == 0 && is_aligned_to(size, args.x) && is_aligned_to(size, args.y);
  };
  if (goes_in(16)) return run_gather<Unit16>(args, bytes / 16);
  if (goes_in(8)) return run_gather<uint64_t>(args, bytes / 8);
  if (goes_in(4)) return run_gather<uint32_t>(args, bytes / 4);
  if (goes_in(2)) return run_gather<uint16_t>(args, bytes / 2);
  run_gather<uint8_t>(args, bytes);
}

void one_hot(const kernel::OneHotArgs& args) {
  if (args.n == 0 || args.classes == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "one_hot", run_one_hot<T>(args));
}

void scatter_add(const kernel::ScatterAddArgs& args) {
  if (args.rows == 0 || args.width == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "scatter_add", run_scatter_add<T>(args));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
