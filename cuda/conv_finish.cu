// Second pass of convolutions whose tiles several blocks share: adds up what the blocks have of each, in the order of
// the blocks, then bias and relu.
//
// Parallel over tiles (blockIdx.x) and 16 bytes of them (blockIdx.y and threads). Bytes: the sums, which the first pass
// has just written and which mostly are in the second-level cache, and the target. Flops: one addition an element and
// block. GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/shares.cuh"
#include "cuda/device/values.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class T>
__global__ void __launch_bounds__(kFinishThreads)
    finish_tiles(const T* __restrict__ sums, const T* __restrict__ bias, T* __restrict__ target, CorrelationShape shape,
                 CorrelationParts parts, int tile_m, int tile_n) {
  constexpr int kWidth = Pack<T>::kWidth, kAtOnce = 8;
  int p = 0;
  while (p + 1 < shape.parts && int(blockIdx.x) >= parts.at[p + 1].first_tile) ++p;
  const CorrelationPart& part = parts.at[p];
  const int t = int(blockIdx.x) - part.first_tile, tiles_n = (shape.outputs + tile_n - 1) / tile_n;
  const int begin = part.first + t * part.slices.divisor, last = begin + part.slices.divisor - 1;
  int block = begin / shape.share;
  const int end = last / shape.share + 1;
  if (end - block == 1) return;  // made whole by its block
  const int i = (int(blockIdx.y) * int(kFinishThreads) + int(threadIdx.x)) * kWidth;
  const int row = i / tile_n, column = i - row * tile_n;
  const int m = t / tiles_n * tile_m + row, n = t % tiles_n * tile_n + column;
  if (row >= tile_m || m >= part.pixels || n >= shape.outputs) return;

  const int64_t elements = int64_t(tile_m) * tile_n;
  Pack<T> sum = *as_vector<const Pack<T>>(sums + (2 * int64_t(block) + 1) * elements + i);
  ++block;
  const T* from = sums + 2 * int64_t(block) * elements + i;
  for (; block < end; block += kAtOnce) {
    Pack<T> next[kAtOnce];
    SINEW_UNROLL
    for (int u = 0; u < kAtOnce; ++u) {
      next[u] = {};
      if (block + u < end) next[u] = *as_vector<const Pack<T>>(from + 2 * u * elements);
    }
    SINEW_UNROLL
    for (int u = 0; u < kAtOnce; ++u) {
      SINEW_UNROLL
      for (int j = 0; j < kWidth; ++j) sum.v[j] += next[u].v[j];
    }
    from += 2 * kAtOnce * elements;
  }
  SINEW_UNROLL
  for (int j = 0; j < kWidth; ++j) {
    if (bias != nullptr && n + j < shape.outputs) sum.v[j] += bias[n + j];
    if (shape.relu) sum.v[j] = SINEW_FUNCTOR_NS::relu::apply(sum.v[j], T(0), T(0));
  }
  T* const to = target + target_offset(shape, part, m) + n;
  SINEW_UNROLL
  for (int j = 0; j < kWidth; ++j)
    if (shape.accumulate && n + j < shape.outputs) sum.v[j] += to[j];
  if (shape.pack_target) {
    *as_vector<Pack<T>>(to) = sum;
  } else {
    SINEW_UNROLL
    for (int j = 0; j < kWidth; ++j)
      if (n + j < shape.outputs) to[j] = sum.v[j];
  }
}

template <class T>
__global__ void __launch_bounds__(kFinishThreads, 6)
    finish_chunks(const float* __restrict__ sums, int chunks, const float* __restrict__ bias, T* __restrict__ target,
                  CorrelationShape shape, CorrelationParts parts, int tile_m, int tile_n) {
  const CorrelationPart& part = parts.at[blockIdx.y];
  const int tiles_n = (shape.outputs + tile_n - 1) / tile_n;
  const int i = (int(blockIdx.z) * int(kFinishThreads) + int(threadIdx.x)) * 4;
  const int row = i / tile_n, m = int(blockIdx.x) / tiles_n * tile_m + row;
  const int n = int(blockIdx.x) % tiles_n * tile_n + i - row * tile_n;
  if (row >= tile_m || m >= part.pixels || n >= shape.outputs) return;
  const int64_t elements = int64_t(tile_m) * tile_n, chunk = int64_t(gridDim.x) * gridDim.y * elements;
  const float* from = sums + (int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * elements + i;
  Values<float, 4> sum = load<4>(from);
  for (int c = 1; c < chunks; ++c) {
    from += chunk;
    const Values<float, 4> next = load<4>(from);
    SINEW_UNROLL
    for (int j = 0; j < 4; ++j) sum.v[j] += next.v[j];
  }
  T* const to = target + target_offset(shape, part, m) + n;
  Values<T, 4> out;
  SINEW_UNROLL
  for (int j = 0; j < 4; ++j) {
    const bool there = n + j < shape.outputs;
    if (bias != nullptr && there) sum.v[j] += bias[n + j];
    if (shape.relu) sum.v[j] = SINEW_FUNCTOR_NS::relu::apply(sum.v[j], 0.0f, 0.0f);
    out.v[j] = T(sum.v[j]);
    if (shape.accumulate && there) out.v[j] = T(float(to[j]) + float(out.v[j]));
  }
  if (shape.pack_target) {
    store(to, out);
  } else {
    SINEW_UNROLL
    for (int j = 0; j < 4; ++j)
      if (n + j < shape.outputs) to[j] = out.v[j];
  }
}

}  // namespace

template <class T>
Kernel<const float*, int, const float*, T*, CorrelationShape, CorrelationParts, int, int> chunks_finish_kernel() {
  return {"conv, second pass of chunks", &finish_chunks<T>};
}
template Kernel<const float*, int, const float*, float*, CorrelationShape, CorrelationParts, int, int>
chunks_finish_kernel();
template Kernel<const float*, int, const float*, bfloat16*, CorrelationShape, CorrelationParts, int, int>
chunks_finish_kernel();

template <>
Kernel<const float*, const float*, float*, CorrelationShape, CorrelationParts, int, int> correlation_finish_kernel() {
  return {"conv, second pass", &finish_tiles<float>};
}
template <>
Kernel<const double*, const double*, double*, CorrelationShape, CorrelationParts, int, int>
correlation_finish_kernel() {
  return {"conv, second pass", &finish_tiles<double>};
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
