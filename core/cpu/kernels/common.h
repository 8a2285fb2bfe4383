// Shared by the CPU kernel files, which are compiled once per instruction set (core/CMakeLists.txt).
//
// Invariants of every kernel here
//  - Results do not depend on the number of threads: reductions run over fixed blocks combined by index.
//  - No standard-library templates and no SINEW_CHECK: an inline function compiled here for AVX-512 could be the one
//    the linker keeps for the whole program. Everything lives in the namespace SINEW_CPU_NS.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "core/functors.h"
#include "core/kernel_api.h"

namespace sinew {
// Throws Error: `kernel` has no code for elements of this type (core/kernel_api.h).
[[noreturn]] void refuse_type(const char* kernel, DType dtype);
}  // namespace sinew

// Runs the statement(s) with T bound to the C++ type, in the function of the table's entry.
#define KERNEL_CASE(name, type, ...) \
  case ::sinew::DType::name: {       \
    using T = type;                  \
    __VA_ARGS__;                     \
    break;                           \
  }
#define KERNEL_DISPATCH_FLOAT(dtype, ...)    \
  switch (dtype) {                           \
    KERNEL_CASE(f32, float, __VA_ARGS__)     \
    KERNEL_CASE(f64, double, __VA_ARGS__)    \
    default:                                 \
      ::sinew::refuse_type(__func__, dtype); \
  }
#define KERNEL_DISPATCH_FLOAT_OR_BF16(dtype, ...)     \
  switch (dtype) {                                    \
    KERNEL_CASE(f32, float, __VA_ARGS__)              \
    KERNEL_CASE(f64, double, __VA_ARGS__)             \
    KERNEL_CASE(bf16, ::sinew::bfloat16, __VA_ARGS__) \
    default:                                          \
      ::sinew::refuse_type(__func__, dtype);          \
  }
#define KERNEL_DISPATCH_ALL(dtype, ...)               \
  switch (dtype) {                                    \
    KERNEL_CASE(f32, float, __VA_ARGS__)              \
    KERNEL_CASE(f64, double, __VA_ARGS__)             \
    KERNEL_CASE(i32, int32_t, __VA_ARGS__)            \
    KERNEL_CASE(i64, int64_t, __VA_ARGS__)            \
    KERNEL_CASE(u8, uint8_t, __VA_ARGS__)             \
    KERNEL_CASE(bf16, ::sinew::bfloat16, __VA_ARGS__) \
  }

namespace sinew::SINEW_CPU_NS {

namespace op = ::sinew::SINEW_FUNCTOR_NS;

// Below this many elements a parallel region costs more than it saves.
inline constexpr int64_t kParallelElements = 1 << 15;

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// fn(begin, end) over [0, n) in pieces of `block`, in parallel when `work` elements are worth it.
template <class Fn>
inline void parallel_blocks(int64_t n, int64_t block, int64_t work, Fn fn) {
  const int64_t blocks = (n + block - 1) / block;
  if (work < kParallelElements || blocks < 2) {
    for (int64_t i = 0; i < blocks; ++i) fn(i * block, min64(n, (i + 1) * block));
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < blocks; ++i) fn(i * block, min64(n, (i + 1) * block));
}

// fn(i) for each of n tasks of about `work` elements together, which go to whichever thread is free.
template <class Fn>
inline void parallel_tasks(int64_t n, int64_t work, Fn fn) {
  if (work < kParallelElements || n < 2) {
    for (int64_t i = 0; i < n; ++i) fn(i);
    return;
  }
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < n; ++i) fn(i);
}

template <class Fn>
inline void parallel_elements(int64_t n, Fn fn) {
  if (n < kParallelElements) {
    fn(int64_t{0}, n);
    return;
  }
  parallel_blocks(n, 1 << 13, n, fn);
}

// sum over [0, n) of term(i), in double: 16 lanes inside blocks of 4096, lanes and blocks combined by index.
template <class Term>
inline double block_sum(int64_t n, Term term) {
  double lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int lane = 0; lane < 16; ++lane) lanes[lane] += term(i + lane);
  for (int lane = 0; i < n; ++i, ++lane) lanes[lane] += term(i);
  double total = 0;
  for (double lane : lanes) total += lane;
  return total;
}
inline constexpr int64_t kSumBlock = 4096;
template <class Term>
inline double parallel_sum(int64_t n, Term term) {
  if (n <= kSumBlock) return block_sum(n, term);
  const int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
  double* partial = static_cast<double*>(malloc(static_cast<size_t>(blocks) * sizeof(double)));
  parallel_blocks(n, kSumBlock, n, [&](int64_t begin, int64_t end) {
    partial[begin / kSumBlock] = block_sum(end - begin, [&](int64_t i) { return term(begin + i); });
  });
  double total = 0;
  for (int64_t i = 0; i < blocks; ++i) total += partial[i];
  free(partial);
  return total;
}

// Products and convolutions whose args.dtype is bf16.
void gemm_bf16(const kernel::GemmArgs& args);
enum class ConvKind { forward, dx, dw };
void conv_bf16(const kernel::ConvArgs& args, ConvKind kind);

// Entries implemented in this folder.
void unary(const kernel::UnaryArgs& args);
void binary(const kernel::BinaryArgs& args);
void where(const kernel::WhereArgs& args);
void fill(const kernel::FillArgs& args);
void cast(const kernel::CastArgs& args);
void strided_copy(const kernel::StridedCopyArgs& args);
void reduce(const kernel::ReduceArgs& args);
void gemm(const kernel::GemmArgs& args);
void conv_forward(const kernel::ConvArgs& args);
void conv_dx(const kernel::ConvArgs& args);
void conv_dw(const kernel::ConvArgs& args);
bool conv_pair(const kernel::ConvPairArgs& args);
void gather(const kernel::GatherArgs& args);
void scatter_add(const kernel::ScatterAddArgs& args);
void one_hot(const kernel::OneHotArgs& args);
void softmax(const kernel::SoftmaxArgs& args);
void cross_entropy(const kernel::CrossEntropyArgs& args);
void max_pool(const kernel::PoolArgs& args);
void max_pool_gather(const kernel::PoolArgs& args);
void max_pool_scatter(const kernel::PoolArgs& args);
void avg_pool(const kernel::PoolArgs& args);
void avg_pool_grad(const kernel::PoolArgs& args);
void channel_affine(const kernel::ChannelAffineArgs& args);
void batch_norm(const kernel::BatchNormArgs& args);
void batch_norm_grad(const kernel::BatchNormGradArgs& args);
void batch_norm_grad2(const kernel::BatchNormGrad2Args& args);
void layer_norm(const kernel::LayerNormArgs& args);
void layer_norm_grad(const kernel::LayerNormGradArgs& args);
void dropout(const kernel::DropoutArgs& args);
void random(const kernel::RandomArgs& args);
void axpby(const kernel::AxpbyArgs& args);
void dot(const kernel::DotArgs& args);
void elastic(const kernel::ElasticArgs& args);
void round_to_packed(const kernel::RoundToPackedArgs& args);
void pack(const kernel::PackArgs& args);
void round_and_pack(const kernel::RoundAndPackArgs& args);
void unpack(const kernel::UnpackArgs& args);
void sgd(const kernel::SgdArgs& args);
void adam(const kernel::AdamArgs& args);
void adahessian(const kernel::AdaHessianArgs& args);
void sophia(const kernel::SophiaArgs& args);
void lion(const kernel::LionArgs& args);
void block_mean(const kernel::BlockMeanArgs& args);

}  // namespace sinew::SINEW_CPU_NS
