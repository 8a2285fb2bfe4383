// Groups of 16 bytes of an array for kernels that read everything else the same way whether or not it is aligned, so
// that the order of sums does not depend on that. Group i holds the elements from i * kWidth on; beyond n: zeros.
#pragma once

#include "cuda/device/device.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

template <class T>
SINEW_DEVICE int64_t groups_of(int64_t n) {
  return (n + Pack<T>::kWidth - 1) / Pack<T>::kWidth;
}

template <class T>
SINEW_DEVICE Pack<T> load_pack(const T* x, int64_t group, int64_t n, bool aligned) {
  const int64_t first = group * Pack<T>::kWidth;
  if (aligned && first + Pack<T>::kWidth <= n) return as_vector<const Pack<T>>(x)[group];
  Pack<T> pack;
  SINEW_UNROLL
  for (int j = 0; j < Pack<T>::kWidth; ++j) pack.v[j] = first + j < n ? x[first + j] : T(0);
  return pack;
}

template <class T>
SINEW_DEVICE void store_pack(T* y, int64_t group, int64_t n, const Pack<T>& pack, bool aligned) {
  const int64_t first = group * Pack<T>::kWidth;
  if (aligned && first + Pack<T>::kWidth <= n) {
    as_vector<Pack<T>>(y)[group] = pack;
    return;
  }
  SINEW_UNROLL
  for (int j = 0; j < Pack<T>::kWidth; ++j)
    if (first + j < n) y[first + j] = pack.v[j];
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
