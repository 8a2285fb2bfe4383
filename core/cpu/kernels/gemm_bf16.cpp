// Matrix products of bf16 by way of f32 (bf16.h).
#include "core/cpu/kernels/bf16.h"

namespace sinew::SINEW_CPU_NS {
namespace {

// rows x cols with a leading dimension, close together.
void widen_matrix(const void* x, bool is_f32, int64_t rows, int64_t cols, int64_t ld, float* y) {
  parallel_blocks(rows, max64(1, (1 << 13) / max64(cols, 1)), rows * cols, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (is_f32)
        widen(static_cast<const float*>(x) + r * ld, cols, y + r * cols);
      else
        widen(static_cast<const bfloat16*>(x) + r * ld, cols, y + r * cols);
    }
  });
}

}  // namespace

void gemm_bf16(const kernel::GemmArgs& args) {
  const bool a_f32 = args.f32_operand == F32Operand::a, b_f32 = args.f32_operand == F32Operand::b;
  const bool narrow_c = a_f32 || b_f32;
  const int64_t a_rows = args.trans_a ? args.k : args.m, a_cols = args.trans_a ? args.m : args.k;
  const int64_t b_rows = args.trans_b ? args.n : args.k, b_cols = args.trans_b ? args.k : args.n;
  const Scratch<float> a(a_rows * a_cols), b(b_rows * b_cols), c(narrow_c ? args.m * args.n : 0);
  kernel::GemmArgs wide = args;
  wide.dtype = DType::f32, wide.f32_operand = F32Operand::none, wide.batch = 1;
  wide.a = a.get(), wide.lda = a_cols, wide.b = b.get(), wide.ldb = b_cols;
  const auto at = [](const void* base, int64_t element, bool is_f32) {
    return static_cast<const char*>(base) + element * (is_f32 ? 4 : 2);
  };
  for (int64_t i = 0; i < args.batch; ++i) {
    widen_matrix(at(args.a, i * args.batch_stride_a, a_f32), a_f32, a_rows, a_cols, args.lda, a.get());
    widen_matrix(at(args.b, i * args.batch_stride_b, b_f32), b_f32, b_rows, b_cols, args.ldb, b.get());
    if (!narrow_c) {
      wide.c = static_cast<float*>(args.c) + i * args.batch_stride_c;
      gemm(wide);
      continue;
    }
    wide.c = c.get(), wide.ldc = args.n;
    gemm(wide);
    bfloat16* to = static_cast<bfloat16*>(args.c) + i * args.batch_stride_c;
    parallel_blocks(args.m, max64(1, (1 << 13) / args.n), args.m * args.n, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) narrow(c.get() + r * args.n, args.n, to + r * args.ldc);
    });
  }
}

}  // namespace sinew::SINEW_CPU_NS
