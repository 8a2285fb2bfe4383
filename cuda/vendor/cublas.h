// cuBLAS's matrix product, for row-major matrices.
#pragma once

#include <string>

#include "core/kernel_api.h"
#include "cuda/runtime.h"
#include "cuda/vendor/library.h"

namespace sinew::cuda::SINEW_CUDA_NS {

class Cublas {
 public:
  explicit Cublas(Stream stream) : library_("cuBLAS", "SINEW_CUBLAS", {"libcublas.so.13", "libcublas.so.12"}) {
    library_.get("cublasCreate_v2", create_);
    library_.get("cublasSetStream_v2", set_stream_);
    library_.get("cublasSetWorkspace_v2", set_workspace_);
    library_.get("cublasGemmEx", gemm_);
    library_.get("cublasGemmStridedBatchedEx", gemm_batched_);
    if (!library_.missing().empty()) return;
    if (create_(&handle_) != 0 || set_stream_(handle_, stream) != 0) failed_ = "cuBLAS does not start";
  }
  // "" or one line; then nothing below may be called.
  const std::string& missing() const { return failed_.empty() ? library_.missing() : failed_; }

  // Memory that stays for its work; without it has its own. cuBLAS's status, as below: 0 is success.
  int use_workspace(void* memory, size_t bytes) const { return set_workspace_(handle_, memory, bytes); }

  // C = alpha op(A) op(B) + beta C as `args` says (its bias, act and f32_operand are not looked at): A and B of
  // args.dtype, C of type `c`; sums in f32, or f64 for f64. tf32: f32 factors may be rounded to TF32. Extents and
  // leading dimensions below 2^31.
  int multiply(const kernel::GemmArgs& args, DType c, bool tf32) const {
    constexpr int kFloat = 68, kFloatByTf32 = 77, kDouble = 70, kDefaultAlgorithm = -1;
    const bool wide = args.dtype == DType::f64;
    const int compute = wide ? kDouble : args.dtype == DType::f32 && tf32 ? kFloatByTf32 : kFloat;
    const float scale[] = {static_cast<float>(args.alpha), static_cast<float>(args.beta)};
    const void *alpha = &scale[0], *beta = &scale[1];
    if (wide) alpha = &args.alpha, beta = &args.beta;
    // Row-major is column-major transposed, so A and B change places.
    const int op_a = args.trans_b ? 1 : 0, op_b = args.trans_a ? 1 : 0, type = type_of(args.dtype), c_type = type_of(c);
    const auto i = [](int64_t value) { return static_cast<int>(value); };
    if (args.batch == 1)
      return gemm_(handle_, op_a, op_b, i(args.n), i(args.m), i(args.k), alpha, args.b, type, i(args.ldb), args.a, type,
                   i(args.lda), beta, args.c, c_type, i(args.ldc), compute, kDefaultAlgorithm);
    return gemm_batched_(handle_, op_a, op_b, i(args.n), i(args.m), i(args.k), alpha, args.b, type, i(args.ldb),
                         args.batch_stride_b, args.a, type, i(args.lda), args.batch_stride_a, beta, args.c, c_type,
                         i(args.ldc), args.batch_stride_c, i(args.batch), compute, kDefaultAlgorithm);
  }

 private:
  static int type_of(DType dtype) { return dtype == DType::bf16 ? 14 : dtype == DType::f64 ? 1 : 0; }

  Library library_;
  std::string failed_;
  void* handle_ = nullptr;
  int (*create_)(void** handle);
  int (*set_stream_)(void* handle, void* stream);
  int (*set_workspace_)(void* handle, void* memory, size_t bytes);
  int (*gemm_)(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
               int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute,
               int algorithm);
  int (*gemm_batched_)(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                       int type_a, int lda, long long stride_a, const void* b, int type_b, int ldb, long long stride_b,
                       const void* beta, void* c, int type_c, int ldc, long long stride_c, int batch, int compute,
                       int algorithm);
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
