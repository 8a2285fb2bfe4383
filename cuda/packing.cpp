// Host side of packing.cu.
#include "cuda/kernels/packing.h"
#include "core/packed_form.h"
#include "cuda/entries.h"
#include "cuda/grid.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class T, class Kernel, class... Args>
void run_packing(const Kernel& kernel, int64_t n, Args... args) {
  launch(kernel, {grid_blocks(ceil_divide(n, kPackedBlock), kPackingBlocks)}, {kPackingThreads}, 0, stream(), n,
         args...);
}

template <class Args>
bool in_groups(const Args& args) {
  return is_aligned_to(16, args.values) && (args.form != PackedForm::bf16 || is_aligned_to(8, args.bytes));
}

}  // namespace

void round_to_packed(const kernel::RoundToPackedArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "round_to_packed",
                       run_packing<T>(round_to_packed_kernel<T>(args.form), args.n, static_cast<T*>(args.values),
                                      static_cast<T*>(args.residual),
                                      is_aligned_to(16, args.values) && is_aligned_to(16, args.residual)));
}

void pack(const kernel::PackArgs& args) {
  memory_set(args.inexact, 0, sizeof(int32_t), stream());
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT(args.dtype, "pack",
                       run_packing<T>(pack_kernel<T>(args.form), args.n, static_cast<const T*>(args.values),
                                      static_cast<unsigned char*>(args.bytes), args.inexact, in_groups(args)));
}

void unpack(const kernel::UnpackArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_FLOAT(
      args.dtype, "unpack",
      run_packing<T>(unpack_kernel<T>(args.form), args.n, static_cast<const unsigned char*>(args.bytes),
                     static_cast<T*>(args.values), in_groups(args)));
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
