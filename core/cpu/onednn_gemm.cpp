// Matrix products through oneDNN's matmul primitive.
//
// Primitives are cached per calling thread and geometry. Scratchpads are the user's: Debian's oneDNN crashes when
// a primitive with a library scratchpad runs on another thread than its maker's. Results depend on the number of
// threads where there is no AVX-512 (measured: equal bits with it, different ones on AVX2). The f32 operand of a bf16
// product is rounded into the thread's workspace first.
#include <dnnl.hpp>

#include <cstring>
#include <unordered_map>

#include "core/cpu/cpu_info.h"
#include "core/cpu/onednn.h"
#include "core/cpu/onednn_primitive.h"

namespace sinew::onednn {
namespace {

using dnnl::memory;

constexpr int64_t kSmallProduct = 100000;

struct Key {
  int64_t m, n, k, lda, ldb, ldc, batch, sa, sb, sc;
  double alpha, beta;
  int32_t flags;  // trans_a, trans_b, bias, dtype, f32_operand
  int32_t threads;
  bool operator==(const Key& other) const { return std::memcmp(this, &other, sizeof(Key)) == 0; }
};
static_assert(sizeof(Key) == 12 * 8 + 8, "no padding: compared as bytes");

struct Cached {
  dnnl::matmul primitive;
  memory a, b, c, bias, scratch;
  dnnl_exec_arg_t args[5];
  int count = 0;
};

struct Cache {
  dnnl::stream stream{engine()};
  Workspace workspace;
  std::unordered_map<Key, Cached, BytesHash<Key>> primitives;
};

memory::desc matrix(memory::data_type type, int64_t batch, int64_t rows, int64_t cols, bool trans, int64_t ld,
                    int64_t batch_stride) {
  if (batch == 1) return memory::desc({rows, cols}, type, trans ? memory::dims{1, ld} : memory::dims{ld, 1});
  return memory::desc({batch, rows, cols}, type,
                      trans ? memory::dims{batch_stride, 1, ld} : memory::dims{batch_stride, ld, 1});
}

Cached make(const kernel::GemmArgs& args) {
  const auto type = args.dtype == DType::bf16 ? kBf16 : kF32;
  const auto a = matrix(type, args.batch, args.m, args.k, args.trans_a, args.lda, args.batch_stride_a);
  const auto b = matrix(type, args.batch, args.k, args.n, args.trans_b, args.ldb, args.batch_stride_b);
  const auto c = matrix(args.f32_operand == F32Operand::none ? kF32 : kBf16, args.batch, args.m, args.n, false,
                        args.ldc, args.batch_stride_c);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (args.alpha != 1) attr.set_output_scales(0, {static_cast<float>(args.alpha)});
  dnnl::post_ops post;
  if (args.beta != 0) post.append_sum(static_cast<float>(args.beta));
  attr.set_post_ops(post);
  memory::desc bias_desc;
  if (args.bias)
    bias_desc = args.batch == 1 ? memory::desc({1, args.n}, memory::data_type::f32, memory::format_tag::ab)
                                : memory::desc({1, 1, args.n}, memory::data_type::f32, memory::format_tag::abc);
  const auto op = args.bias ? dnnl::matmul::desc(a, b, bias_desc, c) : dnnl::matmul::desc(a, b, c);
  const dnnl::matmul::primitive_desc pd(op, attr, engine());
  Cached cached{dnnl::matmul(pd),
                memory(a, engine(), nullptr),
                memory(b, engine(), nullptr),
                memory(c, engine(), nullptr),
                args.bias ? memory(bias_desc, engine(), nullptr) : memory(),
                memory(pd.scratchpad_desc(), engine()),
                {},
                0};
  auto add = [&](int which, const memory& m) { cached.args[cached.count++] = {which, m.get()}; };
  add(DNNL_ARG_SRC, cached.a);
  add(DNNL_ARG_WEIGHTS, cached.b);
  add(DNNL_ARG_DST, cached.c);
  add(DNNL_ARG_SCRATCHPAD, cached.scratch);
  if (args.bias) add(DNNL_ARG_BIAS, cached.bias);
  return cached;
}

// From the first element that is read to the last.
int64_t elements_of_a(const kernel::GemmArgs& args) {
  const int64_t rows = args.trans_a ? args.k : args.m, cols = args.trans_a ? args.m : args.k;
  return (args.batch - 1) * args.batch_stride_a + (rows - 1) * args.lda + cols;
}
int64_t elements_of_b(const kernel::GemmArgs& args) {
  const int64_t rows = args.trans_b ? args.n : args.k, cols = args.trans_b ? args.k : args.n;
  return (args.batch - 1) * args.batch_stride_b + (rows - 1) * args.ldb + cols;
}

const void* rounded(Workspace& workspace, const void* f32, int64_t n) {
  void* const bf16 = workspace.reserve(static_cast<size_t>(n) * sizeof(bfloat16));
  cpu_kernels().cast({DType::f32, DType::bf16, n, f32, bf16});
  return bf16;
}

}  // namespace

bool gemm(const kernel::GemmArgs& args) {
  if (!serves(args.dtype) || args.k == 0 || args.batch == 0) return false;
  // oneDNN's own rectifier would make 0 of NaN, so ours follows, over all of C at once.
  const bool relu = args.act == Activation::relu;
  if (args.act != Activation::none && !(relu && args.batch == 1 && args.ldc == args.n)) return false;
  if (args.bias && args.alpha != 1) return false;  // oneDNN 2 would scale the bias too
  // Below this the primitive's own overhead and its strided reads of transposed operands cost more than our kernel.
  if (args.m * args.n * args.k < kSmallProduct) return false;
  static thread_local Cache cache;
  Key key;
  std::memset(&key, 0, sizeof key);
  key.m = args.m, key.n = args.n, key.k = args.k, key.lda = args.lda, key.ldb = args.ldb, key.ldc = args.ldc;
  key.batch = args.batch;
  if (args.batch > 1) key.sa = args.batch_stride_a, key.sb = args.batch_stride_b, key.sc = args.batch_stride_c;
  key.alpha = args.alpha, key.beta = args.beta;
  key.flags = args.trans_a | args.trans_b << 1 | (args.bias != nullptr) << 2 | static_cast<int>(args.dtype) << 8 |
              static_cast<int>(args.f32_operand) << 16;
  key.threads = num_threads();
  auto found = cache.primitives.find(key);
  if (found == cache.primitives.end()) found = cache.primitives.emplace(key, make(args)).first;
  Cached& p = found->second;
  point(p.a, args.f32_operand == F32Operand::a ? rounded(cache.workspace, args.a, elements_of_a(args)) : args.a);
  point(p.b, args.f32_operand == F32Operand::b ? rounded(cache.workspace, args.b, elements_of_b(args)) : args.b);
  point(p.c, args.c);
  if (args.bias) point(p.bias, args.bias);
  dnnl::error::wrap_c_api(dnnl_primitive_execute(p.primitive.get(), cache.stream.get(), p.count, p.args),
                          "oneDNN matmul failed");
  const DType c = args.dtype == DType::bf16 && args.f32_operand == F32Operand::none ? DType::f32 : args.dtype;
  if (relu) cpu_kernels().unary({UnaryOp::relu, c, args.m * args.n, args.c, args.c, 0, 0});
  return true;
}

const char* version() {
  static const std::string text = [] {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }();
  return text.c_str();
}

}  // namespace sinew::onednn
