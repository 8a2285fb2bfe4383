// Random numbers and dropout.
//
// Parallel over Philox blocks: a thread computes one and makes the four elements it stands for, which it writes 16
// bytes at a time. Element i depends on (key, i) alone, so grids do not matter.
// Bytes: n sizeof(T) written, dropout also reads as much. Integer operations: about 60 per block of four; normals two
// log, sqrt, sin and cos. Bound by memory but for normals.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/device/values.cuh"
#include "cuda/kernels/index.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

namespace fn = SINEW_FUNCTOR_NS::fn;

SINEW_DEVICE PhiloxBlock block_of(const MixedKey& key, int64_t number) {
  return philox4x32_10(uint32_t(number), uint32_t(uint64_t(number) >> 32), key.block.v[0], key.block.v[1],
                       key.block.v[2], key.block.v[3]);
}

// Four elements are one group of 16 bytes of f32, two of f64, half a one of bf16.
template <class T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Four {
  T v[4];
};
// What is moved in one access.
template <class T>
constexpr int kMoved = 4 < Pack<T>::kWidth ? 4 : Pack<T>::kWidth;

template <class T>
SINEW_DEVICE void store_four(T* y, int64_t group, int64_t n, const Four<T>& four, bool aligned) {
  if (aligned && 4 * group + 4 <= n) {
    SINEW_UNROLL
    for (int k = 0; k < 4; k += kMoved<T>) store(y + 4 * group + k, load<kMoved<T>>(four.v + k));
  } else {
    SINEW_UNROLL
    for (int k = 0; k < 4; ++k)
      if (4 * group + k < n) y[4 * group + k] = four.v[k];
  }
}

template <class T>
SINEW_DEVICE Four<T> load_four(const T* x, int64_t group, int64_t n, bool aligned) {
  Four<T> four;
  if (aligned && 4 * group + 4 <= n) {
    SINEW_UNROLL
    for (int k = 0; k < 4; k += kMoved<T>) store(four.v + k, load<kMoved<T>>(x + 4 * group + k));
  } else {
    SINEW_UNROLL
    for (int k = 0; k < 4; ++k) four.v[k] = 4 * group + k < n ? x[4 * group + k] : T(0);
  }
  return four;
}

struct Uniform {
  template <class T>
  SINEW_DEVICE static Four<T> make(const PhiloxBlock& block, T low, T high) {
    Four<T> four;
    SINEW_UNROLL
    for (int k = 0; k < 4; ++k) four.v[k] = low + (high - low) * static_cast<T>(uniform01(block.v[k]));
    return four;
  }
};

struct Rademacher {
  template <class T>
  SINEW_DEVICE static Four<T> make(const PhiloxBlock& block, T, T) {
    Four<T> four;
    SINEW_UNROLL
    for (int k = 0; k < 4; ++k) four.v[k] = block.v[k] >> 31 ? T(1) : T(-1);
    return four;
  }
};

// Box-Muller on pairs; 1 - u keeps the logarithm finite.
struct Normal {
  template <class T>
  SINEW_DEVICE static Four<T> make(const PhiloxBlock& block, T mean, T deviation) {
    Four<T> four;
    SINEW_UNROLL
    for (int k = 0; k < 4; k += 2) {
      const T u = T(1) - static_cast<T>(uniform01(block.v[k]));
      T sin, cos;
      sin_cos_pi(T(2) * static_cast<T>(uniform01(block.v[k + 1])), &sin, &cos);
      const T radius = deviation * fn::sqrt(T(-2) * fn::log(u));
      four.v[k] = mean + radius * cos;
      four.v[k + 1] = mean + radius * sin;
    }
    return four;
  }
};

template <class Dist, class T>
__global__ void __launch_bounds__(kRandomThreads)
    random(int64_t n, MixedKey key, const MixedKey* recorded, T p0, T p1, T* y, bool aligned) {
  const int64_t groups = (n + 3) / 4, stride = int64_t(gridDim.x) * blockDim.x;
  if (recorded != nullptr) key = *recorded;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < groups; i += stride)
    store_four(y, i, n, Dist::template make<T>(block_of(key, i), p0, p1), aligned);
}

// x == y is allowed: a thread reads what it overwrites first.
template <class T>
__global__ void __launch_bounds__(kRandomThreads) dropout(int64_t n, MixedKey key, const MixedKey* recorded, float keep,
                                                          Wide<T> scale, const T* x, T* y, bool aligned) {
  const int64_t groups = (n + 3) / 4, stride = int64_t(gridDim.x) * blockDim.x;
  if (recorded != nullptr) key = *recorded;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < groups; i += stride) {
    Four<T> four = load_four(x, i, n, aligned);
    const PhiloxBlock block = block_of(key, i);
    SINEW_UNROLL
    for (int k = 0; k < 4; ++k) four.v[k] = T(uniform01(block.v[k]) < keep ? four.v[k] * scale : Wide<T>(0));
    store_four(y, i, n, four, aligned);
  }
}

__global__ void __launch_bounds__(kKeysOfLaunch) write_keys(int n, Keys keys, MixedKey* to) {
  if (int(threadIdx.x) < n) to[threadIdx.x] = keys.at[threadIdx.x];
}

}  // namespace

Kernel<int, Keys, MixedKey*> write_keys_kernel() { return {"a graph's random keys", &write_keys}; }

template <class T>
RandomKernel<T> random_kernel(RandomDist dist) {
  switch (dist) {
    case RandomDist::uniform:
      return {"random uniform", &random<Uniform, T>};
    case RandomDist::normal:
      return {"random normal", &random<Normal, T>};
    case RandomDist::rademacher:
      return {"random rademacher", &random<Rademacher, T>};
  }
  return {"random", nullptr};
}
template <class T>
DropoutKernel<T> dropout_kernel() {
  return {"dropout", &dropout<T>};
}

template RandomKernel<float> random_kernel(RandomDist dist);
template RandomKernel<double> random_kernel(RandomDist dist);
template DropoutKernel<float> dropout_kernel();
template DropoutKernel<double> dropout_kernel();
template DropoutKernel<bfloat16> dropout_kernel();

}  // namespace sinew::cuda::SINEW_CUDA_NS
