// y = op(a, b) with broadcasting.
//
// Parallel over elements of y, in a grid-stride loop; a thread asks for two groups of 16 bytes of each operand before
// it computes, so that enough memory accesses are under way. Three kernels: operands that are as long as y or one
// value; floats whose innermost axis is contiguous or broadcast, group by group; the rest element by element.
// Bytes: (1 to 3) n sizeof(T). Flops: 1 to 4 per element, and about 8 instructions per axis and group for the
// subscripts; bound by memory.
// GPU figures: docs/gpu.md.
#include "cuda/device/device.cuh"

#include "core/functors.h"
#include "cuda/kernels/binary.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Groups that a thread takes at a time. Two of integers do not stay in registers: 16 bytes in a group, or a division of
// 64 bits, which is a function call.
template <class T>
constexpr unsigned kUnroll = Wide<T>(1) / Wide<T>(2) == Wide<T>(0) ? 1 : kBinaryUnroll;

template <class T>
SINEW_DEVICE Pack<T> load_operand(const T* from, int64_t at, bool single) {
  Pack<T> pack;
  if (single) {
    const T value = from[at];
    SINEW_UNROLL
    for (int j = 0; j < Pack<T>::kWidth; ++j) pack.v[j] = value;
  } else {
    pack = as_vector<const Pack<T>>(from)[at];
  }
  return pack;
}

template <class Op, class T>
SINEW_DEVICE T apply_wide(T a, T b) {
  return T(Op::apply(Wide<T>(a), Wide<T>(b)));
}

template <class Op, class T>
SINEW_DEVICE void store_result(Pack<T> a, const Pack<T>& b, T* y, int64_t at) {
  SINEW_UNROLL
  for (int j = 0; j < Pack<T>::kWidth; ++j) a.v[j] = apply_wide<Op>(a.v[j], b.v[j]);
  as_vector<Pack<T>>(y)[at] = a;
}

// y may be an operand that is not single: a thread reads what it overwrites first.
template <class Op, class T>
__global__ void __launch_bounds__(kBinaryThreads)
    flat_binary(int64_t n, int64_t packs, const T* a, const T* b, T* y, bool a_single, bool b_single) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t base = first; base < packs; base += kUnroll<T> * stride) {
    Pack<T> pack_a[kUnroll<T>], pack_b[kUnroll<T>];
    SINEW_UNROLL
    for (unsigned u = 0; u < kUnroll<T>; ++u) {
      const int64_t i = base + u * stride;
      if (i >= packs) continue;
      pack_a[u] = load_operand(a, a_single ? 0 : i, a_single);
      pack_b[u] = load_operand(b, b_single ? 0 : i, b_single);
    }
    SINEW_UNROLL
    for (unsigned u = 0; u < kUnroll<T>; ++u)
      if (base + u * stride < packs) store_result<Op>(pack_a[u], pack_b[u], y, base + u * stride);
  }
  for (int64_t i = packs * Pack<T>::kWidth + first; i < n; i += stride)
    y[i] = apply_wide<Op>(a[a_single ? 0 : i], b[b_single ? 0 : i]);
}

template <class Op, class T>
__global__ void __launch_bounds__(kBinaryThreads)
    packed_binary(uint32_t packs, const T* a, const T* b, T* y, Space space, bool a_single, bool b_single) {
  const uint32_t stride = gridDim.x * blockDim.x;
  for (uint32_t base = blockIdx.x * blockDim.x + threadIdx.x; base < packs; base += kUnroll<T> * stride) {
    Pack<T> pack_a[kUnroll<T>], pack_b[kUnroll<T>];
    SINEW_UNROLL
    for (unsigned u = 0; u < kUnroll<T>; ++u) {
      const uint32_t i = base + u * stride;
      if (i >= packs) continue;
      const Offsets at = offsets_of(space, i);
      pack_a[u] = load_operand(a, at.a, a_single);
      pack_b[u] = load_operand(b, at.b, b_single);
    }
    SINEW_UNROLL
    for (unsigned u = 0; u < kUnroll<T>; ++u)
      if (base + u * stride < packs) store_result<Op>(pack_a[u], pack_b[u], y, base + u * stride);
  }
}

// The operation is chosen per element: twelve times fewer kernels for the path that is not meant to be fast.
template <class T>
SINEW_DEVICE T apply_binary(BinaryOp op, T a, T b) {
  switch (op) {
#define SINEW_CASE(name) \
  case BinaryOp::name:   \
    return apply_wide<SINEW_FUNCTOR_NS::name>(a, b);
    SINEW_BINARY_OPS(SINEW_CASE)
#undef SINEW_CASE
  }
  return a;
}

template <class T>
__global__ void __launch_bounds__(kBinaryThreads)
    strided_binary(BinaryOp op, uint32_t n, const T* a, const T* b, T* y, Space space) {
  const uint32_t stride = gridDim.x * blockDim.x;
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
    const Offsets at = offsets_of(space, i);
    y[i] = apply_binary(op, a[at.a], b[at.b]);
  }
}

}  // namespace

template <class T>
FlatBinaryKernel<T> flat_binary_kernel(BinaryOp op) {
  switch (op) {
#define SINEW_CASE(name) \
  case BinaryOp::name:   \
    return {"binary " #name, &flat_binary<SINEW_FUNCTOR_NS::name, T>};
    SINEW_BINARY_OPS(SINEW_CASE)
#undef SINEW_CASE
  }
  return {"binary", nullptr};
}

template <class T>
PackedBinaryKernel<T> packed_binary_kernel(BinaryOp op) {
  switch (op) {
#define SINEW_CASE(name) \
  case BinaryOp::name:   \
    return {"binary " #name ", broadcast", &packed_binary<SINEW_FUNCTOR_NS::name, T>};
    SINEW_BINARY_OPS(SINEW_CASE)
#undef SINEW_CASE
  }
  return {"binary", nullptr};
}

template <class T>
StridedBinaryKernel<T> strided_binary_kernel() {
  return {"binary, any strides", &strided_binary<T>};
}

#define SINEW_INSTANTIATE(T)                                    \
  template FlatBinaryKernel<T> flat_binary_kernel(BinaryOp op); \
  template StridedBinaryKernel<T> strided_binary_kernel<T>();
SINEW_INSTANTIATE(float)
SINEW_INSTANTIATE(double)
SINEW_INSTANTIATE(int32_t)
SINEW_INSTANTIATE(int64_t)
SINEW_INSTANTIATE(uint8_t)
SINEW_INSTANTIATE(bfloat16)
#undef SINEW_INSTANTIATE
template PackedBinaryKernel<float> packed_binary_kernel(BinaryOp op);
template PackedBinaryKernel<double> packed_binary_kernel(BinaryOp op);
template PackedBinaryKernel<bfloat16> packed_binary_kernel(BinaryOp op);

}  // namespace sinew::cuda::SINEW_CUDA_NS
