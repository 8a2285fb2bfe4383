// A few neighbouring elements in registers, moved in one access: 16 bytes, or one element where the addresses or the
// extent do not allow that.
#pragma once

#include "cuda/device/device.cuh"

namespace sinew::cuda::SINEW_CUDA_NS {

// The address of a Values is a multiple of its size.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Values {
  T v[kWidth];
};

template <int kWidth, class T>
SINEW_DEVICE Values<T, kWidth> load(const T* p) {
  return *reinterpret_cast<const Values<T, kWidth>*>(p);
}
template <int kWidth, class T>
SINEW_DEVICE void store(T* p, const Values<T, kWidth>& values) {
  *reinterpret_cast<Values<T, kWidth>*>(p) = values;
}
// From any address.
template <int kWidth, class T>
SINEW_DEVICE Values<T, kWidth> load_each(const T* p) {
  Values<T, kWidth> values;
  SINEW_UNROLL
  for (int j = 0; j < kWidth; ++j) values.v[j] = p[j];
  return values;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
