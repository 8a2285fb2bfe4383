// Host side of kernels over (rows, channels): their grids, from the shape alone, and the memory of their sums.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {

struct ColumnGrid {
  bool packs;  // arrays over rows are moved kColumnWidth elements at a time
  Dim block;
  Dim sums, pass, totals;  // grids of kernels that add up rows, that write rows, and that add up chunks
  Dim totals_block;
  int64_t channels, chunks, sums_chunk, pass_chunk;
};

// The grid that adds up the sums of grid.chunks chunks.
inline void share_totals(ColumnGrid& grid) {
  unsigned lanes = 1;
  while (lanes < kTotalLanes && lanes < grid.chunks) lanes *= 2;
  grid.totals_block = {kColumnThreads / lanes, lanes};
  grid.totals = {static_cast<unsigned>((grid.channels + grid.totals_block.x - 1) / grid.totals_block.x)};
}

// `arrays` are those over rows; null ones count as aligned.
template <class T>
ColumnGrid column_grid(int64_t rows, int64_t channels, std::initializer_list<const void*> arrays) {
  // Sums: two blocks for each of an H100's 132 multiprocessors, all at once, as every one leaves partial sums to be
  // read again. Passes: whole waves of two, three or four blocks a multiprocessor.
  constexpr int64_t kSumsBlocks = 2 * 132, kPassBlocks = 12 * 132, kRows = sizeof(T) == 2 ? 8 : 4;
  constexpr int64_t kWidth = kColumnWidth<T>;
  ColumnGrid grid{};
  grid.channels = channels;
  grid.packs = channels % kWidth == 0 && std::all_of(arrays.begin(), arrays.end(), [](const void* p) {
                 return is_aligned_to(kWidth * sizeof(T), p);
               });
  const int64_t columns = grid.packs ? channels / kWidth : channels;
  unsigned lanes = 1;
  while (lanes < kColumnLanes && lanes < columns) lanes *= 2;
  grid.block = {lanes, kColumnThreads / lanes};
  const int64_t tiles = ceil_divide(columns, lanes);
  // In whole steps of kernels that load kRows rows of a thread at once.
  const auto chunk_of = [&](int64_t blocks) {
    const int64_t step = kRows * grid.block.y;
    const int64_t share = ceil_divide(rows, std::max<int64_t>(1, blocks / tiles));
    return std::max<int64_t>(1, ceil_divide(share, step)) * step;
  };
  grid.sums_chunk = chunk_of(kSumsBlocks);
  grid.pass_chunk = chunk_of(kPassBlocks);
  grid.chunks = std::max<int64_t>(1, ceil_divide(rows, grid.sums_chunk));
  const unsigned x = static_cast<unsigned>(tiles);
  grid.sums = {x, static_cast<unsigned>(grid.chunks)};
  grid.pass = {x, static_cast<unsigned>(std::max<int64_t>(1, ceil_divide(rows, grid.pass_chunk)))};
  share_totals(grid);
  return grid;
}

// Partial sums of every chunk, and a few vectors of one value a channel. Freed once the kernels launched so far are
// done.
template <class T>
class ColumnScratch {
 public:
  ColumnScratch(const ColumnGrid& grid, int sums, int vectors)
      : sums_bytes_(static_cast<size_t>(grid.chunks * sums * grid.channels) * sizeof(double)),
        data_(static_cast<char*>(
            memory_allocate(sums_bytes_ + static_cast<size_t>(vectors * grid.channels) * sizeof(T), stream()))) {}
  ~ColumnScratch() { memory_free(data_, stream()); }
  ColumnScratch(const ColumnScratch&) = delete;
  ColumnScratch& operator=(const ColumnScratch&) = delete;

  double* partial() const { return reinterpret_cast<double*>(data_); }
  T* vectors() const { return reinterpret_cast<T*>(data_ + sums_bytes_); }

 private:
  size_t sums_bytes_;
  char* data_;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
