// What kernels over (rows, channels) share, channels last: how a block walks its part of the array, and sums over rows.
//
// A block takes a tile of channels (blockIdx.x) and a chunk of rows (blockIdx.y). Its thread (x, y) takes kWidth
// neighbouring channels and every blockDim.y-th row of the chunk, so what one channel needs is loaded once, and the
// block reads whole rows of its tile. All operands share one offset.
//
// Sums: a few rows in the terms' own type, everything beyond in double; threads are added pairwise in shared memory,
// chunks by a second launch (total_sums). The order depends on the shape of the launch alone.
#pragma once

#include "cuda/device/device.cuh"
#include "cuda/device/values.cuh"
#include "cuda/kernels/network.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// A thread's part.
struct RowWalk {
  int64_t channels, channel, row, end;
  bool inside;  // its channels exist

  SINEW_DEVICE RowWalk(int64_t rows, int64_t channels_of_row, int64_t chunk, int width) : channels(channels_of_row) {
    channel = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * width;
    inside = channel < channels;
    row = blockIdx.y * chunk + threadIdx.y;
    end = blockIdx.y * chunk + chunk;
    if (end > rows) end = rows;
    if (!inside) end = 0;
  }
};

// use(load(row, offset), offset) for the thread's rows; the loads of kRows rows are under way together. after() runs
// after at most kRows rows.
template <int kRows, class Load, class Use, class After>
SINEW_DEVICE void walk_rows(const RowWalk& walk, Load load, Use use, After after) {
  const int64_t rows = blockDim.y, step = rows * walk.channels;
  int64_t row = walk.row, at = row * walk.channels + walk.channel;
  for (; row + (kRows - 1) * rows < walk.end; row += kRows * rows, at += kRows * step) {
    decltype(load(row, at)) in[kRows];
    SINEW_UNROLL
    for (int i = 0; i < kRows; ++i) in[i] = load(row + i * rows, at + i * step);
    SINEW_UNROLL
    for (int i = 0; i < kRows; ++i) use(in[i], at + i * step);
    after();
  }
  for (; row < walk.end; row += rows, at += step) {
    use(load(row, at), at);
    after();
  }
}
template <int kRows, class Load, class Use>
SINEW_DEVICE void walk_rows(const RowWalk& walk, Load load, Use use) {
  walk_rows<kRows>(walk, load, use, [] {});
}

// partial[(chunk * kSums + k) * channels + channel] = sum over the chunk's rows of what add(loaded, offset, sums) adds
// to sums[k][j] for channel + j. Part: the type of sums. All threads of the block call it, once per kernel.
template <int kRows, int kSums, int kWidth, class Part, class Load, class Add>
SINEW_DEVICE void sum_rows(const RowWalk& walk, double* partial, Load load, Add add) {
  SINEW_SHARED(double, tile, [kSums * kWidth][kColumnThreads]);
  double total[kSums * kWidth];
  Part sums[kSums][kWidth];
  SINEW_UNROLL
  for (int i = 0; i < kSums * kWidth; ++i) {
    total[i] = 0;
    sums[i / kWidth][i % kWidth] = Part(0);
  }
  walk_rows<kRows>(
      walk, load, [&](const auto& in, int64_t at) { add(in, at, sums); },
      [&] {
        SINEW_UNROLL
        for (int i = 0; i < kSums * kWidth; ++i) {
          total[i] += double(sums[i / kWidth][i % kWidth]);
          sums[i / kWidth][i % kWidth] = Part(0);
        }
      });
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  SINEW_UNROLL
  for (int i = 0; i < kSums * kWidth; ++i) tile[i][thread] = total[i];
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    block_sync();
    if (threadIdx.y < half) {
      SINEW_UNROLL
      for (int i = 0; i < kSums * kWidth; ++i) tile[i][thread] += tile[i][thread + half * blockDim.x];
    }
  }
  if (threadIdx.y != 0 || !walk.inside) return;
  double* const to = partial + int64_t(blockIdx.y) * kSums * walk.channels + walk.channel;
  SINEW_UNROLL
  for (int i = 0; i < kSums * kWidth; ++i) to[i / kWidth * walk.channels + i % kWidth] = tile[i][thread];
}

// The channel of a thread of the second launch: blockIdx.x counts groups of blockDim.x channels.
SINEW_DEVICE int64_t total_channel() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

// The second launch: blockDim.y threads add up what sum_rows left in `chunks` chunks for one channel; the one that gets
// its totals is told so. All threads of the block call it, once per kernel.
template <int kSums>
SINEW_DEVICE bool total_sums(int64_t channels, int64_t chunks, const double* partial, double (&total)[kSums]) {
  SINEW_SHARED(double, tile, [kSums][kColumnThreads]);
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  const int64_t channel = total_channel();
  const bool inside = channel < channels;
  SINEW_UNROLL
  for (int k = 0; k < kSums; ++k) total[k] = 0;
  for (int64_t chunk = threadIdx.y; chunk < (inside ? chunks : 0); chunk += blockDim.y) {
    SINEW_UNROLL
    for (int k = 0; k < kSums; ++k) total[k] += partial[(chunk * kSums + k) * channels + channel];
  }
  SINEW_UNROLL
  for (int k = 0; k < kSums; ++k) tile[k][thread] = total[k];
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    block_sync();
    if (threadIdx.y < half) {
      SINEW_UNROLL
      for (int k = 0; k < kSums; ++k) tile[k][thread] += tile[k][thread + half * blockDim.x];
    }
  }
  if (threadIdx.y != 0 || !inside) return false;
  SINEW_UNROLL
  for (int k = 0; k < kSums; ++k) total[k] = tile[k][thread];
  return true;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
