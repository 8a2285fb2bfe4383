// Convolutions through oneDNN, f32 and bf16, on N,H,W,C activations as they are.
//
// Filters are reordered: given as (k, r, s, c), oneDNN 2.6.3 falls back to its reference code (0.3 GFLOP/s), so each
// call brings them into the layout that the primitive asks for, or the gradient back, which for the layers of
// ResNet-20, LeNet and VGG16 is within what the measurements of whole calls in bench/kernels/conv.cpp include. The
// reordered copy lives in the thread's workspace, together with the scratchpad, so that keeping a primitive costs no
// memory.
//
// Results of the derivative towards the filters depend on the number of threads: oneDNN cuts that sum by thread.
#include <memory>
#include <unordered_map>

#include "core/cpu/cpu_info.h"
#include "core/cpu/onednn.h"
#include "core/cpu/onednn_primitive.h"

namespace sinew::onednn {
namespace {

using dnnl::memory;

enum Kind : int32_t { kForward, kDx, kDw };

struct Key {
  int64_t n, h, w, c, k, r, s, stride_h, stride_w, pad_h, pad_w;
  int32_t kind, bias, threads, dtype;
  bool operator==(const Key& other) const { return std::memcmp(this, &other, sizeof(Key)) == 0; }
};
static_assert(sizeof(Key) == 11 * 8 + 16, "no padding: compared as bytes");

struct Cached {
  dnnl::primitive primitive;  // empty when oneDNN has only its reference code for this geometry
  dnnl::reorder reorder;      // empty when the filters stay as they are
  memory x, y, bias, scratch;
  memory plain, filter;  // the filters as we store them and as the primitive wants them
  size_t filter_bytes = 0, scratch_bytes = 0;
};

struct Cache {
  dnnl::stream stream{engine()};
  std::unordered_map<Key, Cached, BytesHash<Key>> primitives;
  Workspace workspace;
};

// Primitive, reorder and memory objects from a primitive descriptor.
template <class Primitive, class Descriptor>
Cached assemble(const Descriptor& pd, const memory::desc& x, const memory::desc& y, const memory::desc& plain,
                const memory::desc& filter, bool filter_is_output) {
  Cached cached;
  if (std::strstr(pd.impl_info_str(), "ref")) return cached;
  cached.primitive = Primitive(pd);
  cached.x = memory(x, engine(), nullptr), cached.y = memory(y, engine(), nullptr);
  cached.plain = memory(plain, engine(), nullptr), cached.filter = memory(filter, engine(), nullptr);
  size_t reorder_scratch = 0;
  if (filter != plain) {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc rd(engine(), filter_is_output ? filter : plain, engine(),
                                           filter_is_output ? plain : filter, attr);
    reorder_scratch = rd.scratchpad_desc().get_size();
    cached.reorder = dnnl::reorder(rd);
    cached.filter_bytes = (filter.get_size() + 63) / 64 * 64;
  }
  cached.scratch = memory(pd.scratchpad_desc(), engine(), nullptr);
  cached.scratch_bytes = std::max(pd.scratchpad_desc().get_size(), reorder_scratch);
  return cached;
}

Cached make(const Key& key, const kernel::ConvArgs& a) {
  const auto data = a.dtype == DType::bf16 ? kBf16 : kF32;
  const memory::desc x({a.n, a.c, a.h, a.w}, data, memory::format_tag::nhwc);
  const memory::desc y({a.n, a.k, a.p, a.q}, data, memory::format_tag::nhwc);
  const memory::dims filter_dims{a.k, a.c, a.r, a.s};
  const memory::desc plain(filter_dims, kF32, memory::format_tag::ohwi);
  // The reorders also convert: bf16 filters are ours rounded, and the gradient of bf16 images comes in f32.
  const memory::desc any(filter_dims, data, memory::format_tag::any),
      any_f32(filter_dims, kF32, memory::format_tag::any);
  const memory::desc bias({a.k}, kF32, memory::format_tag::x);
  // What padding is needed after the last row and column for the outputs to be (p, q).
  const memory::dims stride{a.stride_h, a.stride_w}, before{a.pad_h, a.pad_w};
  const memory::dims after{(a.p - 1) * a.stride_h + a.r - a.h - a.pad_h, (a.q - 1) * a.stride_w + a.s - a.w - a.pad_w};
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const auto training = dnnl::prop_kind::forward_training;
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  try {
    if (key.kind == kForward) {
      using Forward = dnnl::convolution_forward;
      const auto op = a.bias ? Forward::desc(training, algorithm, x, any, bias, y, stride, before, after)
                             : Forward::desc(training, algorithm, x, any, y, stride, before, after);
      const Forward::primitive_desc pd(op, attr, engine());
      Cached cached = assemble<Forward>(pd, x, y, plain, pd.weights_desc(), false);
      if (a.bias) cached.bias = memory(bias, engine(), nullptr);
      return cached;
    }
    const dnnl::convolution_forward::primitive_desc hint({training, algorithm, x, any, y, stride, before, after}, attr,
                                                         engine());
    if (key.kind == kDx) {
      using Dx = dnnl::convolution_backward_data;
      const Dx::primitive_desc pd({algorithm, x, any, y, stride, before, after}, attr, engine(), hint);
      return assemble<Dx>(pd, x, y, plain, pd.weights_desc(), false);
    }
    using Dw = dnnl::convolution_backward_weights;
    const Dw::primitive_desc pd({algorithm, x, any_f32, y, stride, before, after}, attr, engine(), hint);
    return assemble<Dw>(pd, x, y, plain, pd.diff_weights_desc(), true);
  } catch (const dnnl::error&) {
    return Cached();  // oneDNN has no such convolution: the caller takes ours
  }
}

void execute(const dnnl::primitive& primitive, const dnnl::stream& stream,
             std::initializer_list<dnnl_exec_arg_t> args) {
  dnnl::error::wrap_c_api(
      dnnl_primitive_execute(primitive.get(), stream.get(), static_cast<int>(args.size()), args.begin()),
      "oneDNN convolution failed");
}

bool run(Kind kind, const kernel::ConvArgs& a) {
  if (!serves(a.dtype)) return false;
  static thread_local Cache cache;
  Key key{a.n,
          a.h,
          a.w,
          a.c,
          a.k,
          a.r,
          a.s,
          a.stride_h,
          a.stride_w,
          a.pad_h,
          a.pad_w,
          kind,
          kind == kForward && a.bias,
          num_threads(),
          static_cast<int32_t>(a.dtype)};
  auto found = cache.primitives.find(key);
  if (found == cache.primitives.end()) found = cache.primitives.emplace(key, make(key, a)).first;
  const Cached& c = found->second;
  if (!c.primitive) return false;
  char* space = cache.workspace.reserve(c.filter_bytes + c.scratch_bytes);
  point(c.scratch, space + c.filter_bytes);
  point(c.x, kind == kDx ? a.out : a.x);
  point(c.y, kind == kForward ? a.out : a.y);
  point(c.plain, kind == kDw ? a.out : a.filter);
  point(c.filter, c.filter_bytes ? space : kind == kDw ? a.out : a.filter);
  const dnnl_exec_arg_t scratch{DNNL_ARG_SCRATCHPAD, c.scratch.get()};
  if (c.reorder && kind != kDw)
    execute(c.reorder, cache.stream, {{DNNL_ARG_FROM, c.plain.get()}, {DNNL_ARG_TO, c.filter.get()}, scratch});
  if (kind == kForward && a.bias) {
    point(c.bias, a.bias);
    execute(c.primitive, cache.stream,
            {{DNNL_ARG_SRC, c.x.get()},
             {DNNL_ARG_WEIGHTS, c.filter.get()},
             {DNNL_ARG_DST, c.y.get()},
             scratch,
             {DNNL_ARG_BIAS, c.bias.get()}});
  } else if (kind == kForward) {
    execute(c.primitive, cache.stream,
            {{DNNL_ARG_SRC, c.x.get()}, {DNNL_ARG_WEIGHTS, c.filter.get()}, {DNNL_ARG_DST, c.y.get()}, scratch});
  } else if (kind == kDx) {
    execute(
        c.primitive, cache.stream,
        {{DNNL_ARG_DIFF_SRC, c.x.get()}, {DNNL_ARG_WEIGHTS, c.filter.get()}, {DNNL_ARG_DIFF_DST, c.y.get()}, scratch});
  } else {
    execute(
        c.primitive, cache.stream,
        {{DNNL_ARG_SRC, c.x.get()}, {DNNL_ARG_DIFF_WEIGHTS, c.filter.get()}, {DNNL_ARG_DIFF_DST, c.y.get()}, scratch});
    if (c.reorder)
      execute(c.reorder, cache.stream, {{DNNL_ARG_FROM, c.filter.get()}, {DNNL_ARG_TO, c.plain.get()}, scratch});
  }
  return true;
}

}  // namespace

bool conv_forward(const kernel::ConvArgs& args) {
  if (!run(kForward, args)) return false;
  // oneDNN's own rectifier would make 0 of NaN.
  if (args.act == Activation::relu)
    cpu_kernels().unary({UnaryOp::relu, args.dtype, args.n * args.p * args.q * args.k, args.out, args.out, 0, 0});
  return true;
}
bool conv_dx(const kernel::ConvArgs& args) { return run(kDx, args); }
bool conv_dw(const kernel::ConvArgs& args) { return run(kDw, args); }

}  // namespace sinew::onednn
