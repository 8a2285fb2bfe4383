// Host side of elementwise_binary.cu.
#include <type_traits>

#include "cuda/axes.h"
#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/binary.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

// Whether an operand can be read in groups of `width` along the innermost axis, or is one value there.
template <class T>
bool goes_in_groups(const Axes& axes, const int64_t* stride, const T* operand, int64_t width) {
  if (stride[0] == 0) return true;
  if (stride[0] != 1 || !is_aligned_to(16, operand)) return false;
  for (int i = 1; i < axes.count; ++i)
    if (stride[i] % width != 0) return false;
  return true;
}

template <class T>
bool run_packed(BinaryOp op, const Axes& axes, const T* a, const T* b, T* y) {
  const int64_t width = 16 / static_cast<int64_t>(sizeof(T));
  if (axes.extent[0] % width != 0 || !is_aligned_to(16, y) || !goes_in_groups(axes, axes.a, a, width) ||
      !goes_in_groups(axes, axes.b, b, width))
    return false;
  const bool a_single = axes.a[0] == 0, b_single = axes.b[0] == 0;
  in_parts(in_groups(axes, width), [&](const Space& space, int64_t packs, int64_t at_a, int64_t at_b, int64_t at) {
    launch(packed_binary_kernel<T>(op), {grid_blocks(packs, kBinaryThreads * kBinaryUnroll)}, {kBinaryThreads}, 0,
           stream(), packs, a + at_a * (a_single ? 1 : width), b + at_b * (b_single ? 1 : width), y + at * width, space,
           a_single, b_single);
  });
  return true;
}

template <class T>
void run(const kernel::BinaryArgs& args, const Axes& axes) {
  const T* a = static_cast<const T*>(args.a);
  const T* b = static_cast<const T*>(args.b);
  T* y = static_cast<T*>(args.y);
  auto is_flat = [&](int64_t stride) { return axes.count == 0 || stride == 0 || stride == 1; };
  if (axes.count <= 1 && is_flat(axes.a[0]) && is_flat(axes.b[0])) {
    const bool a_single = axes.a[0] == 0, b_single = axes.b[0] == 0;
    const int64_t n = axes.elements();
    const int64_t packs = packs_of<T>(n, a_single ? nullptr : a, b_single ? nullptr : b, y);
    launch(flat_binary_kernel<T>(args.op), {grid_blocks(packs > 0 ? packs : n, kBinaryThreads * kBinaryUnroll)},
           {kBinaryThreads}, 0, stream(), n, packs, a, b, y, a_single, b_single);
    return;
  }
  if constexpr (std::is_floating_point_v<Wide<T>>)
    if (run_packed(args.op, axes, a, b, y)) return;
  in_parts(axes, [&](const Space& space, int64_t n, int64_t at_a, int64_t at_b, int64_t at) {
    launch(strided_binary_kernel<T>(), {grid_blocks(n, kBinaryThreads)}, {kBinaryThreads}, 0, stream(), args.op, n,
           a + at_a, b + at_b, y + at, space);
  });
}

}  // namespace

void binary(const kernel::BinaryArgs& args) {
  Axes axes;
  for (int i = args.ndim - 1; i >= 0; --i) {
    if (args.shape[i] == 0) return;
    axes.add_outer(args.shape[i], args.stride_a[i], args.stride_b[i]);
  }
  SINEW_DISPATCH_ALL_AND_BF16(args.dtype, "binary", run<T>(args, axes));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
