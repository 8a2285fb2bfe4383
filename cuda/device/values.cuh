// A few neighbouring elements in registers, moved in one access: 16 bytes, or one element where the addresses or the
// extent do not allow that.
#pragma once

#include "cuda/device/device.cuh"

#include "core/bfloat16.h"

namespace sinew::cuda::SINEW_CUDA_NS {

// The address of a Values is a multiple of its size.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Values {
  T v[kWidth];
};

template <int kWidth, class T>
SINEW_DEVICE Values<T, kWidth> load(const T* p) {
  return *as_vector<const Values<T, kWidth>>(p);
}
template <int kWidth, class T>
SINEW_DEVICE void store(T* p, const Values<T, kWidth>& values) {
  *as_vector<Values<T, kWidth>>(p) = values;
}
// As what arithmetic is done in, and back.
template <int kWidth, class T>
SINEW_DEVICE Values<Wide<T>, kWidth> load_wide(const T* p) {
  const Values<T, kWidth> narrow = load<kWidth>(p);
  Values<Wide<T>, kWidth> values;
  SINEW_UNROLL
  for (int j = 0; j < kWidth; ++j) values.v[j] = narrow.v[j];
  return values;
}
template <int kWidth, class T>
SINEW_DEVICE void store_rounded(T* p, const Values<Wide<T>, kWidth>& values) {
  Values<T, kWidth> narrow;
  SINEW_UNROLL
  for (int j = 0; j < kWidth; ++j) narrow.v[j] = T(values.v[j]);
  store(p, narrow);
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
