// The one seam between host and device: plain argument structs and one table of function pointers per device.
//
// Every pointer in an argument struct is memory of the table's device; sizes are in elements unless a name
// says bytes. Kernels check nothing: core/ops and core/vec check shapes and types first. A table's functions
// may be called from any thread; on an asynchronous device they are ordered on the calling thread's stream, and
// `download` returns when the data is there. Kernels never keep a pointer after returning (CPU) or after the
// stream has passed them (CUDA). Output buffers do not overlap inputs except where an argument says "in place".
//
// Types: "floats" are f32 and f64, "all types" includes bf16; an entry that takes bf16 beside floats says so. bf16 is a
// form of storage (core/bfloat16.h): the arithmetic is f32's, results are rounded once, and what would lose by it stays
// f32: sums, channel vectors, statistics, filters, the weights of a product. Entries refuse other types (Error).
//
// Adding a kernel: core/README.md. A mirrored implementation is expected of every backend; a null entry is
// reported by name when somebody needs it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/elementwise_list.h"
#include "core/philox.h"
#include "core/shape.h"

namespace sinew {

#define SINEW_ENUMERATOR(name) name,
enum class UnaryOp : uint8_t { SINEW_UNARY_OPS(SINEW_ENUMERATOR) };
enum class BinaryOp : uint8_t { SINEW_BINARY_OPS(SINEW_ENUMERATOR) };
#undef SINEW_ENUMERATOR
enum class ReduceOp : uint8_t { sum, max, argmax };
enum class RandomDist : uint8_t { uniform, normal, rademacher };
enum class Activation : uint8_t { none, relu, tanh, sigmoid };
enum class PackedForm : uint8_t { bf16, int8 };
enum class F32Operand : uint8_t { none, a, b };

namespace kernel {

// y[i] = op(x[i]); x == y allowed. Floats and bf16.
struct UnaryArgs {
  UnaryOp op;
  DType dtype;
  int64_t n;
  const void* x;
  void* y;
  double p0, p1;
};

// y[i] = op(a[...], b[...]) over a row-major shape; the strides of a and b (in elements) are 0 on axes they
// are broadcast along. ndim == 0 or 1 with strides 1 is the plain case. y may be a or b when that operand is
// not broadcast. All types.
struct BinaryArgs {
  BinaryOp op;
  DType dtype;
  int ndim;
  int64_t shape[kMaxDims];
  int64_t stride_a[kMaxDims], stride_b[kMaxDims];
  const void *a, *b;
  void* y;
};

// y[i] = mask[i] != 0 ? a[i] : b[i]. All types; mask has the same type.
struct WhereArgs {
  DType dtype;
  int64_t n;
  const void *mask, *a, *b;
  void* y;
};

// y[i] = value. All types.
struct FillArgs {
  DType dtype;
  int64_t n;
  void* y;
  double value;
};

// y[i] = convert(x[i]); float to integer truncates toward zero, to bf16 goes by way of f32. All types.
struct CastArgs {
  DType from, to;
  int64_t n;
  const void* x;
  void* y;
};

// y[dst(i)] = x[src(i)] for every index of `shape`; src and dst are strides in elements, offsets included in
// the pointers. Serves permute, broadcast, slice, pad and concatenation. All types.
struct StridedCopyArgs {
  DType dtype;
  int ndim;
  int64_t shape[kMaxDims];
  int64_t src_stride[kMaxDims], dst_stride[kMaxDims];
  const void* x;
  void* y;
};

// x is (outer, reduced, inner), y is (outer, inner). sum: floats accumulate in double for f64 and in blocks for
// f32, the order independent of the number of threads. argmax writes i64, the first of equals. All types; a sum of bf16
// is f32.
struct ReduceArgs {
  ReduceOp op;
  DType dtype;
  int64_t outer, reduced, inner;
  const void* x;
  void* y;
};

// C = act(alpha * op(A) op(B) + beta * C + bias), row-major, `batch` times with the given strides.
// op(A) is (m, k): A has leading dimension lda and is stored (k, m) when trans_a. bias is null or (n).
// With beta == 0, C is not read. Floats; act and bias only with beta == 0.
// bf16, with beta == 0: A and B are bf16 but for the one that f32_operand names, whose values are rounded to bf16; C is
// bf16 where one is named and else f32. bias is f32.
struct GemmArgs {
  DType dtype;
  bool trans_a, trans_b;
  int64_t m, n, k;
  double alpha, beta;
  const void* a;
  int64_t lda;
  const void* b;
  int64_t ldb;
  void* c;
  int64_t ldc;
  int64_t batch, batch_stride_a, batch_stride_b, batch_stride_c;
  const void* bias;
  Activation act;
  F32Operand f32_operand = F32Operand::none;
};

// Convolution as networks use it (a correlation), dilation 1, one group. x is (n, h, w, c), filters (k, r, s, c),
// y (n, p, q, k) with p = (h + 2 pad_h - r) / stride_h + 1 and q alike:
//   y[n, p, q, k] = sum_{r, s, c} x[n, p stride_h + r - pad_h, q stride_w + s - pad_w, c] * filter[k, r, s, c]
// Three entries share the struct; each reads the two operands of the other kinds and writes `out`, all of it:
//   conv_forward: out = act(y + bias)          conv_dx: out = sum over what y's cotangent `y` reaches, like x
//   conv_dw: out = the same, like the filters
// bias (k, or null) and act (none or relu) belong to conv_forward. accumulate, for the first two without bias and act:
// out += instead of out =, what is added being rounded first. No extent is zero. Floats, and bf16: then x, y and what
// is written like them are bf16, filters (whose values are rounded to bf16) and bias f32.
struct ConvArgs {
  DType dtype;
  int64_t n, h, w, c;
  int64_t k, r, s;
  int64_t p, q;
  int64_t stride_h, stride_w, pad_h, pad_w;
  const void *x, *filter, *y;
  void* out;
  const void* bias;
  Activation act;
  bool accumulate;
};

// Two convolutions of the same sizes, forward or towards the input, whose results are added: the second's x (or,
// towards the input, y) and filter are these. dw (or null) receives what conv_dw makes of the first's x and y beside,
// of which the convolution itself reads one; second_dw (or null, with dw only) the same of the second's. Or one
// convolution (second: null) and base, which is like out and is added to it, without accumulate.
struct ConvPairArgs : ConvArgs {
  bool towards_input;
  const void *second, *second_filter;
  void *dw = nullptr, *second_dw = nullptr;
  const void* base = nullptr;
};

// gather: y[i, :] = x[index[i], :]. x is (rows, width), index (n) i64 in [0, rows), y (n, width).
struct GatherArgs {
  DType dtype;
  int64_t n, rows, width;
  const void* x;
  const int64_t* index;
  void* y;
};
// y[index[i], :] += x[i, :], y zeroed first; contributions to a row are added in increasing i. Floats.
struct ScatterAddArgs {
  DType dtype;
  int64_t n, rows, width;
  const void* x;
  const int64_t* index;
  void* y;
};

// y[i, k] = k == index[i] ? 1 : 0 over (n, classes). Floats.
struct OneHotArgs {
  DType dtype;
  int64_t n, classes;
  const int64_t* index;
  void* y;
};

// Row-wise over (rows, cols): y = softmax(x), or log_softmax(x) when log. Floats.
struct SoftmaxArgs {
  DType dtype;
  bool log;
  int64_t rows, cols;
  const void* x;
  void* y;
};

// loss[0] = mean_i( logsumexp(x_i) - x_i[label_i] ); labels i64 in [0, cols). Floats.
// dx, when not null, receives scale * (softmax(x_i) - onehot(label_i)) / rows, scale read from *scale
// (device memory, same type; null means 1). loss may be null when only dx is wanted.
struct CrossEntropyArgs {
  DType dtype;
  int64_t rows, cols;
  const void* x;
  const int64_t* labels;
  void* loss;
  void* dx;
  const void* scale;
};

// Pooling. Windows of kernel x kernel at distances `stride` over (n, h, w, c), padded by `pad`, make (n, p, q, c); the
// padding takes no part in a maximum and is zero in an average. index: for every pooled value the place in its window,
// row by row, like the pooled array. kernel x kernel <= 256 where there is an index. Floats and bf16.
//   max_pool: y = maximum, index (or null) written; the first of equals    avg_pool: y = sum / kernel^2
//   max_pool_gather: y = x at the places (x like the input)                avg_pool_grad: its transpose, y like the
//   input max_pool_scatter: its transpose, y like the input
struct PoolArgs {
  DType dtype;
  int64_t n, h, w, c, p, q;
  int64_t kernel, stride, pad;
  const void* x;
  void* y;
  uint8_t* index;
};

// Normalisation over (rows, channels), channels last; act is max(., 0) when relu, else nothing. Vectors hold one value
// a channel. Floats, and bf16 with vectors in f32, but for batch_norm_grad2. Formulas: core/ops/norm.cpp.

// y = act((x - center) * scale + shift + residual); residual may be null.
struct ChannelAffineArgs {
  DType dtype;
  bool relu;
  int64_t rows, channels;
  const void *x, *center, *scale, *shift, *residual;
  void* y;
};
// mean and variance of every channel over the rows (> 1), inv_std = (variance + eps)^(-1/2) with the biased variance,
// y = act((x - mean) * (gamma * inv_std) + beta + residual). variance receives the unbiased one.
struct BatchNormArgs {
  DType dtype;
  bool relu;
  int64_t rows, channels;
  double eps;
  const void *x, *gamma, *beta, *residual;
  void *y, *mean, *inv_std, *variance;
};
// Its derivatives for the cotangent g of y. relu with y == null: the mask is computed from x again, as there is no
// residual; with y: from y, and dresidual receives the masked g. dx, dgamma, dbeta may be null. accumulate: dx +=
// instead of dx =.
struct BatchNormGradArgs {
  DType dtype;
  bool relu;
  int64_t rows, channels;
  const void *g, *x, *y, *gamma, *beta, *mean, *inv_std;
  void *dx, *dgamma, *dbeta, *dresidual;
  bool accumulate = false;
};
// Derivatives of batch_norm_grad's results to g, x and gamma for the cotangents u of dx, a of dgamma, b of dbeta (null:
// zero) and r of dresidual (with y only). gamma2 may be null. masked: g is zero already where the rectifier holds back.
struct BatchNormGrad2Args {
  DType dtype;
  bool relu;
  int64_t rows, channels;
  const void *g, *x, *y, *gamma, *beta, *mean, *inv_std;
  const void *u, *a, *b, *r;
  void *g2, *x2, *gamma2;
  bool masked = false;
};

// Row by row over (rows, cols): inv_std = (biased variance + eps)^(-1/2), y = (x - mean) * inv_std * gamma + beta;
// gamma and beta (cols), mean and inv_std (rows). Floats, and bf16 with these four in f32.
struct LayerNormArgs {
  DType dtype;
  int64_t rows, cols;
  double eps;
  const void *x, *gamma, *beta;
  void *y, *mean, *inv_std;
};
// Its derivatives for the cotangent g of y. dx may be null. Types as above; dgamma and dbeta are like gamma.
struct LayerNormGradArgs {
  DType dtype;
  int64_t rows, cols;
  const void *g, *x, *gamma, *mean, *inv_std;
  void *dx, *dgamma, *dbeta;
};

// y[i] = x[i] / keep where uniform(key, i) < keep, else 0. Floats and bf16.
struct DropoutArgs {
  DType dtype;
  int64_t n;
  double keep;
  RngKey key;
  const void* x;
  void* y;
};

// uniform: p0 + (p1 - p0) * u; normal: mean p0, standard deviation p1 (Box-Muller); rademacher: -1 or 1. Floats.
struct RandomArgs {
  RandomDist dist;
  DType dtype;
  int64_t n;
  RngKey key;
  void* y;
  double p0, p1;
};

// ---- flat vectors ----

// z = a * x + b * y; z may be x or y; with b == 0, y is not read. Floats.
struct AxpbyArgs {
  DType dtype;
  int64_t n;
  double a, b;
  const void *x, *y;
  void* z;
};

// *result = sum_i x[i] * y[i], accumulated in double in a fixed order (blocks combined by index). result: one
// double in device memory. x == y gives the squared norm. Floats.
struct DotArgs {
  DType dtype;
  int64_t n;
  const void *x, *y;
  double* result;
};

// The general mixing kernel of the elastic rules: d = alpha * (x - c), then per flags x -= d, c += d.
// d may be null. distance2, when not null, receives sum (x - c)^2 (one double in device memory). Floats.
struct ElasticArgs {
  DType dtype;
  int64_t n;
  double alpha;
  void* x;
  void* c;
  void* d;
  bool move_x, move_c;
  double* distance2;
};

// ---- numbers in fewer bits (core/packed_form.h) ----

// Floats. values become what the form holds nearest to values + residual, and the residual (may be null: none) what is
// left, in blocks of kPackedBlock. Blocks with a number that is not finite, before or after, stay as they are.
struct RoundToPackedArgs {
  DType dtype;
  PackedForm form;
  int64_t n;
  void* values;
  void* residual;
};

// The bytes of values, of any alignment to 2 bytes. *inexact (device memory) is 0 if the form holds every number, else
// not 0, and the bytes are of no use.
struct PackArgs {
  DType dtype;
  PackedForm form;
  int64_t n;
  const void* values;
  void* bytes;
  int32_t* inexact;
};

// round_to_packed and pack in one pass: rounded, which may be values, are what round_to_packed makes of a copy of
// values, and the bytes are theirs.
struct RoundAndPackArgs {
  DType dtype;
  PackedForm form;
  int64_t n;
  const void* values;
  void* residual;
  void* rounded;
  void* bytes;
  int32_t* inexact;
};

// Blocks whose bytes are of no packed number become NaN.
struct UnpackArgs {
  DType dtype;
  PackedForm form;
  int64_t n;
  const void* bytes;
  void* values;
};

// ---- optimizers: one pass over memory each; the formulas' sources are in optim/transforms.h ----

// What surrounds the rule of each of them:
//   g = grad_scale * g + weight_decay * x      (clipping, coupled decay; g in memory stays)
//   u = what the rule below makes of g and its state
//   x = (1 - decoupled) * x + x_scale * u
// Floats. Padding stays zero: where x, g, d and the state are zero, so is every term.
struct UpdateFrame {
  DType dtype = DType::f32;
  int64_t n = 0;
  void* x = nullptr;
  const void* g = nullptr;
  double grad_scale = 1, weight_decay = 0, decoupled = 0, x_scale = 0;
};

//   v = momentum * v + v_scale * g                   (v may be null when momentum == 0)
//   u = v                       (heavy ball)
//     | g + momentum * v        (nesterov: PyTorch's form)
//     | g                       (v null)
struct SgdArgs : UpdateFrame {
  void* v = nullptr;
  double momentum = 0, v_scale = 1;
  bool nesterov = false;
};

//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   u = m_scale m / (sqrt(v_scale v) + eps)
struct AdamArgs : UpdateFrame {
  void *m = nullptr, *v = nullptr;
  double beta1 = 0, beta2 = 0, m_scale = 1, v_scale = 1, eps = 0;
};

//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) d^2 unless d is null
//   u = m_scale m / (sqrt(v_scale v)^power + eps)
struct AdaHessianArgs : UpdateFrame {
  void *m = nullptr, *v = nullptr;
  const void* d = nullptr;
  double beta1 = 0, beta2 = 0, m_scale = 1, v_scale = 1, power = 1, eps = 0;
};

//   m = beta1 m + (1 - beta1) g;  h = beta2 h + (1 - beta2) d unless d is null
//   u = clamp(m_scale m / max(rho h, eps), -1, 1)
struct SophiaArgs : UpdateFrame {
  void *m = nullptr, *h = nullptr;
  const void* d = nullptr;
  double beta1 = 0, beta2 = 0, m_scale = 1, rho = 0, eps = 0;
};

//   u = sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g
struct LionArgs : UpdateFrame {
  void* m = nullptr;
  double beta1 = 0, beta2 = 0;
};

// x (outer, length, inner), in place: every element becomes the mean of its block, `block` neighbours along `length`
// (the last block may be shorter); of |x| when absolute. block >= 1. Floats.
struct BlockMeanArgs {
  DType dtype;
  int64_t outer, length, inner, block;
  bool absolute;
  void* x;
};

}  // namespace kernel

#define SINEW_KERNELS(X)                  \
  X(unary, UnaryArgs)                     \
  X(binary, BinaryArgs)                   \
  X(where, WhereArgs)                     \
  X(fill, FillArgs)                       \
  X(cast, CastArgs)                       \
  X(strided_copy, StridedCopyArgs)        \
  X(reduce, ReduceArgs)                   \
  X(gemm, GemmArgs)                       \
  X(conv_forward, ConvArgs)               \
  X(conv_dx, ConvArgs)                    \
  X(conv_dw, ConvArgs)                    \
  X(gather, GatherArgs)                   \
  X(scatter_add, ScatterAddArgs)          \
  X(one_hot, OneHotArgs)                  \
  X(softmax, SoftmaxArgs)                 \
  X(cross_entropy, CrossEntropyArgs)      \
  X(max_pool, PoolArgs)                   \
  X(max_pool_gather, PoolArgs)            \
  X(max_pool_scatter, PoolArgs)           \
  X(avg_pool, PoolArgs)                   \
  X(avg_pool_grad, PoolArgs)              \
  X(channel_affine, ChannelAffineArgs)    \
  X(batch_norm, BatchNormArgs)            \
  X(batch_norm_grad, BatchNormGradArgs)   \
  X(batch_norm_grad2, BatchNormGrad2Args) \
  X(layer_norm, LayerNormArgs)            \
  X(layer_norm_grad, LayerNormGradArgs)   \
  X(dropout, DropoutArgs)                 \
  X(random, RandomArgs)                   \
  X(axpby, AxpbyArgs)                     \
  X(dot, DotArgs)                         \
  X(elastic, ElasticArgs)                 \
  X(round_to_packed, RoundToPackedArgs)   \
  X(pack, PackArgs)                       \
  X(unpack, UnpackArgs)                   \
  X(sgd, SgdArgs)                         \
  X(adam, AdamArgs)                       \
  X(adahessian, AdaHessianArgs)           \
  X(sophia, SophiaArgs)                   \
  X(lion, LionArgs)                       \
  X(block_mean, BlockMeanArgs)

struct KernelTable {
#define SINEW_ENTRY(name, Args) void (*name)(const kernel::Args&) = nullptr;
  SINEW_KERNELS(SINEW_ENTRY)
#undef SINEW_ENTRY

  // Memory. allocate returns 64-byte aligned device memory (bytes > 0), contents undefined, and throws Error
  // when there is none. copy is device to device and may not overlap. All are ordered with the kernels.
  void* (*allocate)(size_t bytes) = nullptr;
  void (*release)(void* data, size_t bytes) = nullptr;
  void (*upload)(void* device, const void* host, size_t bytes) = nullptr;
  void (*download)(void* host, const void* device, size_t bytes) = nullptr;
  void (*copy)(void* to, const void* from, size_t bytes) = nullptr;
  // Returns when everything this thread has enqueued is done.
  void (*synchronize)() = nullptr;

  // False where it has nothing better than two calls, the second of which accumulates or adds; null where it never has.
  bool (*conv_pair)(const kernel::ConvPairArgs&) = nullptr;

  // Of messages, which are in host memory: null on other devices.
  void (*round_and_pack)(const kernel::RoundAndPackArgs&) = nullptr;

  // Copies beside the host's work; null where all memory is the host's. host_allocate gives host memory that the device
  // copies to and from by itself. What *_begin returns is waited for once, and until then that memory is the copy's;
  // other work of this thread comes after the copy.
  void* (*host_allocate)(size_t bytes) = nullptr;
  void (*host_release)(void* host) = nullptr;
  void* (*upload_begin)(void* device, const void* host, size_t bytes) = nullptr;
  void* (*download_begin)(void* host, const void* device, size_t bytes) = nullptr;
  void (*wait)(void* begun) = nullptr;

  // For libraries that put work of their own behind this thread's; null on devices without streams. The stream's
  // handle; whether all that is enqueued on it is done, without waiting; and a number that two processes have in common
  // when they use the same device.
  void* (*stream)() = nullptr;
  bool (*finished)() = nullptr;
  uint64_t (*identity)() = nullptr;

  // Graphs; null on devices without them. From graph_begin on this thread's work is recorded, not done; graph_end
  // returns the graph, or nullptr with keep = false. graph_launch does the work again, on the same memory, with the
  // values it was recorded with, except that `steps` is added to every RngKey's step. What cannot be recorded is an
  // Error: upload, download, synchronize. What is allocated while recording stays with the graph until graph_release.
  // Other threads that use the device wait while one records.
  // Work after graph_mark can be renewed before a launch: between graph_renew(graph, true) and graph_renew(graph,
  // false) this thread's calls are not done; they take the places of the recorded ones, one after the other. They must
  // be as many, each a kernel for a kernel, with any arguments, or the same copy or memset; none may allocate. Else an
  // Error, at the latest at the launch.
  void (*graph_begin)() = nullptr;
  void (*graph_mark)() = nullptr;
  void* (*graph_end)(bool keep) = nullptr;
  void (*graph_renew)(void* graph, bool on) = nullptr;
  void (*graph_launch)(void* graph, uint64_t steps) = nullptr;
  void (*graph_release)(void* graph) = nullptr;
};

// The CPU's table is always there. Throws Error when the device has no table ("no cuda backend is installed ...").
const KernelTable& kernels(Device device);
bool has_kernels(Device device);
// Called once per device before first use (not thread safe against use). table must outlive the program's use.
void set_kernel_table(Device device, const KernelTable* table);
// The CPU table itself; tests wrap it.
const KernelTable& cpu_kernels();

}  // namespace sinew
