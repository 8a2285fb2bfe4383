// Matrix products and convolutions on the GPU, GFLOP/s of the definition, GB/s of operands and result, each once: our
// kernels against cuBLAS and cuDNN, which are opened at run time and skipped with one line where they are not
// installed. Everything is verified first, at elements drawn from the whole result, against sums in double.
//
//   bench_kernels_cuda_matrix --benchmark_filter='gemm/.*' --benchmark_repetitions=3
//       --benchmark_enable_random_interleaving=true       (repetitions of all cases alternate)
//
// Times are the GPU's own, over several calls in a row (cuda/timer.h) that are replayed as a graph. Under emulation
// only the cases called "small" are there: they show that the program works, not a speed.
#include <benchmark/benchmark.h>

#include <cstdio>

#if defined(SINEW_HAVE_CUDA)
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/kernel_api.h"
#include "core/philox.h"
#include "cuda/conv_plan.h"
#include "cuda/entries.h"
#include "cuda/graph.h"
#include "cuda/install.h"
#include "cuda/kernels/matrix.h"
#include "cuda/timer.h"
#include "cuda/vendor/cublas.h"
#include "cuda/vendor/cudnn.h"

namespace sinew {
namespace {

#if defined(SINEW_CUDA_EMULATE)
constexpr int64_t kWorkspace = 1024;
constexpr int kIterations = 1;
#else
constexpr int64_t kWorkspace = int64_t{1} << 26;  // elements, for cuDNN
constexpr int kIterations = 10;
#endif
constexpr int64_t kSamples = 97;

cuda::Cublas& cublas() {
  static cuda::Cublas& instance = []() -> cuda::Cublas& {
    static cuda::Cublas library(cuda::stream());
    constexpr size_t kBytes = size_t{32} << 20;  // what NVIDIA advises for Hopper
    if (library.missing().empty()) library.use_workspace(kernels(Device::cuda).allocate(kBytes), kBytes);
    return library;
  }();
  return instance;
}
cuda::Cudnn& cudnn() {
  static cuda::Cudnn instance(cuda::stream());
  return instance;
}

// Device memory with its values on the host, which bf16 holds exactly; a copy in bf16 when somebody asks for it.
struct Array {
  std::vector<float> host;
  float* data;

  Array(int64_t n, uint32_t stream) : host(static_cast<size_t>(n)) {
    data = static_cast<float*>(kernels(Device::cuda).allocate(bytes()));
    for (size_t i = 0; i < host.size(); i += 4) {
      const PhiloxBlock block = philox_block({7, 1000, stream, 0}, i / 4);
      for (size_t j = 0; j < 4 && i + j < host.size(); ++j) host[i + j] = bfloat16(2 * uniform01(block.v[j]) - 1);
    }
    upload();
  }
  ~Array() {
    kernels(Device::cuda).release(data, bytes());
    if (narrow_ != nullptr) kernels(Device::cuda).release(narrow_, bytes() / 2);
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  size_t bytes() const { return std::max<size_t>(1, host.size()) * sizeof(float); }
  void upload() const { kernels(Device::cuda).upload(data, host.data(), bytes()); }
  void spoil() const {
    const std::vector<float> nan(host.size(), std::numeric_limits<float>::quiet_NaN());
    kernels(Device::cuda).upload(data, nan.data(), bytes());
    if (narrow_ != nullptr) to_bf16(data, narrow_);
  }
  // What was written, in bf16 or in f32.
  std::vector<float> read(bool bf16 = false) const {
    if (bf16) kernels(Device::cuda).cast({DType::bf16, DType::f32, static_cast<int64_t>(host.size()), narrow_, data});
    std::vector<float> values(host.size());
    kernels(Device::cuda).download(values.data(), data, bytes());
    return values;
  }
  void* bf16() const {
    if (narrow_ == nullptr) {
      narrow_ = kernels(Device::cuda).allocate(bytes() / 2);
      to_bf16(data, narrow_);
    }
    return narrow_;
  }
  double operator[](int64_t i) const { return static_cast<double>(host[static_cast<size_t>(i)]); }

 private:
  void to_bf16(const float* from, void* to) const {
    kernels(Device::cuda).cast({DType::f32, DType::bf16, static_cast<int64_t>(host.size()), from, to});
  }
  mutable void* narrow_ = nullptr;
};

// Whether the result's elements at kSamples places are what `exact` says, relative to the size of sums of that length.
bool agrees(const std::vector<float>& got, double tolerance, const std::function<double(int64_t)>& exact) {
  const int64_t n = static_cast<int64_t>(got.size());
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    const int64_t i = n <= kSamples ? sample % n : sample * (n - 1) / (kSamples - 1);
    if (!(std::abs(static_cast<double>(got[static_cast<size_t>(i)]) - exact(i)) <= tolerance)) return false;
  }
  return true;
}
// Terms are products of two uniform in [-1, 1), rounded to bf16; a result in bf16 is rounded to 1/256 of itself.
// Factors may be rounded to TF32 on the way, as where a library transforms them. Tensor cores cut their sums off where
// others round, so that errors add up: cuBLAS, too, is off by more than 1e-5 sqrt(terms) at 8192.
double tolerance(int64_t terms, bool tf32, bool bf16, bool narrow) {
  return (narrow ? 1e-2 : tf32 ? 3e-3 : bf16 ? 4e-5 : 1e-5) * std::sqrt(static_cast<double>(terms)) + 1e-6;
}

// Calls of `body`, recorded as one graph; null, and `why`, where a call refuses or cannot be recorded.
void* recorded(int calls, const std::function<bool()>& body, std::string& why) {
  cuda::graph_begin();
  bool good = true;
  try {
    for (int i = 0; i < calls && good; ++i) good = body();
  } catch (const Error& error) {
    good = false;
    why = error.what();
  }
  try {
    return cuda::graph_end(good);
  } catch (const Error& error) {
    why = error.what();
    return nullptr;
  }
}

// Times the kernels of `body`: several calls at a time, so that the events' own cost does not show, and in a graph, so
// that the host's does not. `host_us` is a call's time without the graph.
void measure(benchmark::State& state, double flops, double bytes, const std::function<bool()>& body) {
  cuda::Timer timer;
  timer.start();
  if (!body()) return state.SkipWithError("the library refuses");
  const double once = timer.stop();
  const int calls = static_cast<int>(std::clamp(1e-3 / std::max(once, 1e-9), 1.0, 100.0));
  timer.start();
  for (int i = 0; i < calls; ++i) body();
  state.counters["host_us"] = timer.stop() / calls * 1e6;
  std::string why;
  void* const graph = recorded(calls, body, why);
  if (graph == nullptr) return state.SkipWithError(("cannot be recorded: " + why).c_str());
  cuda::graph_launch(graph, 0);
  for (auto _ : state) {
    timer.start();
    cuda::graph_launch(graph, 0);
    state.SetIterationTime(timer.stop() / calls);
  }
  cuda::graph_release(graph);
  for (const auto& [name, amount] : {std::pair("GFLOP/s", flops), std::pair("GB/s", bytes)})
    state.counters[name] =
        benchmark::Counter(amount * static_cast<double>(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}

// ---- gemm ----

struct Product {
  const char* name;
  bool trans_a, trans_b;
  int64_t m, n, k;
};
const Product kProducts[] = {
#if !defined(SINEW_CUDA_EMULATE)
    {"2048/nn", false, false, 2048, 2048, 2048},
    {"4096/nn", false, false, 4096, 4096, 4096},
    {"4096/nt", false, true, 4096, 4096, 4096},
    {"4096/tn", true, false, 4096, 4096, 4096},
    {"8192/nn", false, false, 8192, 8192, 8192},
    {"8192/nt", false, true, 8192, 8192, 8192},
    {"8192/tn", true, false, 8192, 8192, 8192},
    {"mlp1024_b128/layer1/forward", false, true, 128, 1024, 784},
    {"mlp1024_b128/layer1/dw", true, false, 1024, 784, 128},
    {"mlp1024_b128/layer2/forward", false, true, 128, 1024, 1024},
    {"mlp1024_b128/layer2/dx", false, false, 128, 1024, 1024},
    {"mlp1024_b128/layer2/dw", true, false, 1024, 1024, 128},
    {"mlp1024_b128/layer3/forward", false, true, 128, 10, 1024},
    {"mlp1024_b128/layer3/dx", false, false, 128, 1024, 10},
    {"mlp1024_b128/layer3/dw", true, false, 10, 1024, 128},
    {"mlp4096_b512/forward", false, true, 512, 4096, 4096},
#endif
    {"small/nn", false, false, 60, 68, 36},
    {"small/nt", false, true, 10, 12, 300},
};

struct GemmProblem {
  Array a, b, c;
  kernel::GemmArgs args{};
  std::map<std::string, bool> verified;

  explicit GemmProblem(const Product& p) : a(p.m * p.k, 0), b(p.k * p.n, 1), c(p.m * p.n, 2) {
    args.dtype = DType::f32;
    args.trans_a = p.trans_a, args.trans_b = p.trans_b;
    args.m = p.m, args.n = p.n, args.k = p.k;
    args.alpha = 1, args.batch = 1;
    args.a = a.data, args.b = b.data, args.c = c.data;
    args.lda = p.trans_a ? p.m : p.k, args.ldb = p.trans_b ? p.k : p.n, args.ldc = p.n;
  }
  double exact(int64_t i) const {
    const int64_t row = i / args.n, column = i % args.n;
    double sum = 0;
    for (int64_t p = 0; p < args.k; ++p)
      sum += a[args.trans_a ? p * args.lda + row : row * args.lda + p] *
             b[args.trans_b ? column * args.ldb + p : p * args.ldb + column];
    return sum;
  }
};

// Operands brought by all threads of a block, for comparison.
struct CopiesChoice {
  explicit CopiesChoice(bool threads) {
    if (threads) cuda::set_wgmma_copies(cuda::WgmmaCopies::threads);
  }
  ~CopiesChoice() { cuda::set_wgmma_copies(cuda::WgmmaCopies::bulk); }
  CopiesChoice(const CopiesChoice&) = delete;
  CopiesChoice& operator=(const CopiesChoice&) = delete;
};

void gemm(benchmark::State& state, const Product& product, const std::string& who) {
  static std::map<const Product*, std::unique_ptr<GemmProblem>> all;
  std::unique_ptr<GemmProblem>& problem = all[&product];
  if (problem == nullptr) problem = std::make_unique<GemmProblem>(product);
  GemmProblem& p = *problem;
  // bf16: of two bf16, C in f32; bf16_narrow: C in bf16, for which ours takes B in f32.
  const bool library = who.starts_with("cublas"), tf32 = who.ends_with("tf32");
  const bool narrow = who.ends_with("bf16_narrow"), bf16 = narrow || who.ends_with("bf16");
  const CopiesChoice choice(who.starts_with("own_threads"));
  cuda::set_matmul_precision(who == "own_tf32" ? cuda::MatmulPrecision::tf32 : cuda::MatmulPrecision::f32);
  if (library && !cublas().missing().empty()) return state.SkipWithError(cublas().missing().c_str());
  const std::function<bool()> run = [&]() -> bool {
    kernel::GemmArgs args = p.args;
    if (library && bf16) args.dtype = DType::bf16, args.a = p.a.bf16(), args.b = p.b.bf16();
    if (library && narrow) args.c = p.c.bf16();
    if (library) return cublas().multiply(args, narrow ? DType::bf16 : DType::f32, tf32) == 0;
    if (bf16) {
      args.dtype = DType::bf16, args.f32_operand = narrow ? F32Operand::b : F32Operand::none;
      args.a = p.a.bf16(), args.b = narrow ? p.b.data : p.b.bf16(), args.c = narrow ? p.c.bf16() : p.c.data;
      kernels(Device::cuda).gemm(args);
      return true;
    }
    if (who == "own" || who == "own_tf32")
      kernels(Device::cuda).gemm(p.args);
    else
      cuda::gemm_with(p.args, who == "own_large"      ? cuda::GemmTile::large
                              : who == "own_small"    ? cuda::GemmTile::small
                              : who == "own_mma_tf32" ? cuda::GemmTile::tensor
                                                      : cuda::GemmTile::large_many_threads);
    return true;
  };
  if (!p.verified[who]) {
    p.c.spoil();
    if (!run()) return state.SkipWithError("the library refuses");
    if (!agrees(p.c.read(narrow), tolerance(p.args.k, tf32, bf16, narrow), [&](int64_t i) { return p.exact(i); }))
      return state.SkipWithError(library ? "cuBLAS: its product is off" : "the product is wrong");
    p.verified[who] = true;
  }
  const auto size = [](bool half, int64_t elements) { return static_cast<double>(elements) * (half ? 2 : 4); };
  measure(state, 2.0 * static_cast<double>(p.args.m * p.args.n * p.args.k),
          size(bf16, p.args.m * p.args.k) + size(bf16 && (library || !narrow), p.args.k * p.args.n) +
              size(narrow, p.args.m * p.args.n),
          run);
}

// ---- convolution ----

struct Layer {
  const char* net;
  int64_t batch, size, in, out, kernel, stride, pad;
};
const Layer kLayers[] = {
#if !defined(SINEW_CUDA_EMULATE)
    {"resnet20", 128, 32, 3, 16, 3, 1, 1},
    {"resnet20", 128, 32, 16, 16, 3, 1, 1},
    {"resnet20", 128, 32, 16, 32, 3, 2, 1},
    {"resnet20", 128, 16, 32, 32, 3, 1, 1},
    {"resnet20", 128, 16, 32, 64, 3, 2, 1},
    {"resnet20", 128, 8, 64, 64, 3, 1, 1},
    {"resnet18", 32, 56, 64, 64, 3, 1, 1},
    {"resnet18", 32, 56, 64, 128, 3, 2, 1},
    {"resnet18", 32, 28, 128, 128, 3, 1, 1},
    {"resnet18", 32, 14, 256, 256, 3, 1, 1},
    {"resnet18", 32, 7, 512, 512, 3, 1, 1},
    {"resnet50", 32, 56, 64, 256, 1, 1, 0},
    {"vgg16_cifar", 128, 16, 128, 128, 3, 1, 1},
    {"vgg16_cifar", 128, 4, 512, 512, 3, 1, 1},
    {"vgg16_cifar", 64, 2, 512, 512, 3, 1, 1},
#endif
    {"small", 2, 6, 4, 8, 3, 1, 1},
    {"small", 1, 7, 3, 5, 3, 2, 1},
};

using cuda::CudnnKind;
const char* name_of(CudnnKind kind) {
  return kind == CudnnKind::forward ? "forward" : kind == CudnnKind::dx ? "dx" : "dw";
}

// Where an element of an image-like array lies.
struct Layout {
  int64_t h, w, c;
  bool channels_last;
  int64_t at(int64_t n, int64_t i, int64_t j, int64_t k) const {
    return channels_last ? ((n * h + i) * w + j) * c + k : ((n * c + k) * h + i) * w + j;
  }
};

struct ConvProblem {
  kernel::ConvArgs args{};
  Array x, filter, y;
  std::map<std::string, bool> verified;

  explicit ConvProblem(const Layer& l)
      : args(args_of(l)),
        x(args.n * args.h * args.w * args.c, 0),
        filter(args.k * args.r * args.s * args.c, 1),
        y(args.n * args.p * args.q * args.k, 2) {
    args.x = x.data, args.filter = filter.data, args.y = y.data;
  }
  static kernel::ConvArgs args_of(const Layer& l) {
    kernel::ConvArgs a{};
    a.dtype = DType::f32;
    a.n = l.batch, a.h = a.w = l.size, a.c = l.in, a.k = l.out, a.r = a.s = l.kernel;
    a.p = a.q = (l.size + 2 * l.pad - l.kernel) / l.stride + 1;
    a.stride_h = a.stride_w = l.stride, a.pad_h = a.pad_w = l.pad;
    return a;
  }
  const Array& output(CudnnKind kind) const {
    return kind == CudnnKind::forward ? y : kind == CudnnKind::dx ? x : filter;
  }
  int64_t terms(CudnnKind kind) const {
    return kind == CudnnKind::dw   ? args.n * args.p * args.q
           : kind == CudnnKind::dx ? args.r * args.s * args.k
                                   : args.r * args.s * args.c;
  }
  double flops() const {
    return 2.0 * static_cast<double>(args.n * args.p * args.q * args.k) * static_cast<double>(args.r * args.s * args.c);
  }

  // Element i of the result, all arrays having that layout.
  double exact(CudnnKind kind, bool channels_last, int64_t i) const {
    const kernel::ConvArgs& a = args;
    const Layout lx{a.h, a.w, a.c, channels_last}, lf{a.r, a.s, a.c, channels_last}, ly{a.p, a.q, a.k, channels_last};
    const Layout& lo = kind == CudnnKind::forward ? ly : kind == CudnnKind::dx ? lx : lf;
    const int64_t image = i / (lo.h * lo.w * lo.c), rest = i % (lo.h * lo.w * lo.c);
    const int64_t channel = channels_last ? rest % lo.c : rest / (lo.h * lo.w);
    const int64_t place = channels_last ? rest / lo.c : rest % (lo.h * lo.w);
    const int64_t row = place / lo.w, column = place % lo.w;
    double sum = 0;
    if (kind == CudnnKind::dw) {  // filter `image`, tap (row, column)
      for (int64_t n = 0; n < a.n; ++n)
        for (int64_t p = 0; p < a.p; ++p)
          for (int64_t q = 0; q < a.q; ++q) {
            const int64_t h = p * a.stride_h + row - a.pad_h, w = q * a.stride_w + column - a.pad_w;
            if (h >= 0 && h < a.h && w >= 0 && w < a.w) sum += y[ly.at(n, p, q, image)] * x[lx.at(n, h, w, channel)];
          }
      return sum;
    }
    for (int64_t r = 0; r < a.r; ++r)
      for (int64_t s = 0; s < a.s; ++s) {
        if (kind == CudnnKind::forward) {
          const int64_t h = row * a.stride_h + r - a.pad_h, w = column * a.stride_w + s - a.pad_w;
          if (h < 0 || h >= a.h || w < 0 || w >= a.w) continue;
          for (int64_t c = 0; c < a.c; ++c) sum += x[lx.at(image, h, w, c)] * filter[lf.at(channel, r, s, c)];
        } else {
          const int64_t h = row + a.pad_h - r, w = column + a.pad_w - s;
          if (h < 0 || h % a.stride_h != 0 || h / a.stride_h >= a.p) continue;
          if (w < 0 || w % a.stride_w != 0 || w / a.stride_w >= a.q) continue;
          for (int64_t k = 0; k < a.k; ++k)
            sum += y[ly.at(image, h / a.stride_h, w / a.stride_w, k)] * filter[lf.at(k, r, s, channel)];
        }
      }
    return sum;
  }
};

// Ways to deal out the work, beside the one the shape leads to. "wide" is the largest tile.
struct Variant {
  const char* who;
  bool wide;
  int64_t blocks;  // of equal shares; 0: whole tiles (dw: chunks)
  bool edges, dw;
};
const Variant kVariants[] = {
    {"own_square", false, 0, false, true},          {"own_wide", true, 0, false, true},
    {"own_wide_shares", true, 264, false, true},    {"own_wide_shares_edges", true, 264, true, true},
    {"own_square_shares", false, 528, false, true}, {"own_square_shares_edges", false, 528, true, true}};

cuda::ConvChoice choice_of(const std::string& who, const Layer& layer, CudnnKind kind) {
  for (const Variant& v : kVariants)
    if (who == v.who) {
      const int64_t outputs = kind == CudnnKind::dx ? layer.in : layer.out;
      return {true,
              !v.wide         ? cuda::ConvTile::square
              : outputs <= 64 ? cuda::ConvTile::tall
                              : cuda::ConvTile::large,
              v.blocks, v.edges};
    }
  return {};
}

void conv(benchmark::State& state, const Layer& layer, CudnnKind kind, const std::string& who) {
  static std::map<const Layer*, std::unique_ptr<ConvProblem>> all;
  static const Array workspace(kWorkspace, 3);
  std::unique_ptr<ConvProblem>& problem = all[&layer];
  if (problem == nullptr) problem = std::make_unique<ConvProblem>(layer);
  ConvProblem& p = *problem;
  const bool library = who.starts_with("cudnn"), tf32 = who.ends_with("tf32"), nhwc = who != "cudnn_nchw";
  const bool bf16 = who.ends_with("bf16");
  if (library && !cudnn().missing().empty()) return state.SkipWithError(cudnn().missing().c_str());
  const kernel::ConvArgs& a = p.args;
  const Array out(static_cast<int64_t>(p.output(kind).host.size()), 4);
  const auto memory = [&](CudnnKind written, const Array& array) -> void* {
    const Array& from = kind == written ? out : array;
    return bf16 ? from.bf16() : from.data;
  };
  void* const at[3] = {memory(CudnnKind::dx, p.x), memory(CudnnKind::dw, p.filter), memory(CudnnKind::forward, p.y)};
  std::optional<cuda::CudnnChoice> choice;
  if (library) {
    const auto i = [](int64_t value) { return static_cast<int>(value); };
    const cuda::CudnnLayer described{i(a.n),     i(a.h), i(a.w), i(a.c),        i(a.k),        i(a.r),
                                     i(a.s),     i(a.p), i(a.q), i(a.stride_h), i(a.stride_w), i(a.pad_h),
                                     i(a.pad_w), nhwc,   tf32,   bf16};
    if (cudnn().describe(described, kind))
      for (const cuda::CudnnChoice& c : cudnn().fastest(at[0], at[1], at[2], workspace.data, workspace.bytes()))
        if (!choice && cudnn().run(c, 0, at[0], at[1], at[2], workspace.data, c.workspace) == 0) choice = c;
    if (!choice) return state.SkipWithError("cuDNN has no algorithm");
    state.counters["algorithm"] = choice->algorithm;
  }
  kernel::ConvArgs args = a;
  args.out = out.data;
  // packed: the filters are in bf16 already, as cuDNN has them; else f32. Gradients of filters are f32.
  const bool packed = who == "own_packed_bf16";
  if (bf16) {
    args.dtype = DType::bf16;
    args.x = at[0], args.y = at[2];
    if (packed) args.filter = at[1];
    if (kind != CudnnKind::dw) args.out = out.bf16();
  }
  cuda::set_conv_choice(choice_of(who, layer, kind));
  const CopiesChoice copies(who == "own_threads_bf16");
  const std::function<bool()> run = [&]() -> bool {
    if (library) return cudnn().run(*choice, 0, at[0], at[1], at[2], workspace.data, workspace.bytes()) == 0;
    if (packed) {
      (kind == CudnnKind::forward ? cuda::conv_forward_packed_bf16
       : kind == CudnnKind::dx    ? cuda::conv_dx_packed_bf16
                                  : cuda::conv_dw_packed_bf16)(args);
      return true;
    }
    const KernelTable& table = kernels(Device::cuda);
    cuda::set_matmul_precision(tf32 ? cuda::MatmulPrecision::tf32 : cuda::MatmulPrecision::f32);
    (kind == CudnnKind::forward ? table.conv_forward : kind == CudnnKind::dx ? table.conv_dx : table.conv_dw)(args);
    return true;
  };
  if (!p.verified[who + name_of(kind)]) {
    out.spoil();
    if (!run()) return state.SkipWithError("cuDNN refuses");
    const bool narrow = bf16 && (library || kind != CudnnKind::dw);
    if (!agrees(out.read(narrow), tolerance(p.terms(kind), tf32, bf16, narrow),
                [&](int64_t i) { return p.exact(kind, nhwc, i); }))
      return state.SkipWithError(library ? "cuDNN: its convolution is off" : "the convolution is wrong");
    p.verified[who + name_of(kind)] = true;
  }
  const auto size = [](bool half, const Array& array) {
    return static_cast<double>(array.host.size()) * (half ? 2 : 4);
  };
  measure(state, p.flops(), size(bf16, p.x) + size(bf16 && (library || packed), p.filter) + size(bf16, p.y), run);
  cuda::set_conv_choice({});
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(kIterations)
      ->Unit(benchmark::kMicrosecond);
}

void add_all() {
  for (const Product& product : kProducts)
    for (const char* who : {"own", "own_large", "own_many_threads", "own_small", "cublas", "own_tf32", "own_mma_tf32",
                            "cublas_tf32", "own_bf16", "own_threads_bf16", "cublas_bf16", "own_bf16_narrow",
                            "own_threads_bf16_narrow", "cublas_bf16_narrow"}) {
      // So large ones are for the tensor cores.
      if (product.m >= 8192 && std::string(who).find("bf16") == std::string::npos &&
          !std::string(who).ends_with("tf32"))
        continue;
      add(std::string("gemm/") + product.name + "/" + who,
          [&product, who](benchmark::State& state) { gemm(state, product, who); });
    }
  for (const Layer& l : kLayers)
    for (const CudnnKind kind : {CudnnKind::forward, CudnnKind::dx, CudnnKind::dw}) {
      std::vector<const char*> all = {"own",      "cudnn_nhwc",       "cudnn_nchw",     "own_tf32", "cudnn_nhwc_tf32",
                                      "own_bf16", "own_threads_bf16", "cudnn_nhwc_bf16"};
      if (l.in % 8 == 0 && l.out % 8 == 0) all.push_back("own_packed_bf16");
      for (const Variant& v : kVariants)
        if (l.in >= 64 && (v.dw || kind != CudnnKind::dw)) all.push_back(v.who);
      for (const char* who : all)
        add(std::string("conv/") + l.net + "/" + std::to_string(l.size) + "x" + std::to_string(l.in) + "to" +
                std::to_string(l.out) + "k" + std::to_string(l.kernel) + "s" + std::to_string(l.stride) + "/" +
                name_of(kind) + "/" + who,
            [&l, kind, who](benchmark::State& state) { conv(state, l, kind, who); });
    }
}

}  // namespace
}  // namespace sinew

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  if (const sinew::Status status = sinew::cuda::install(); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 1;
  }
  sinew::add_all();
  benchmark::RunSpecifiedBenchmarks();
}

#else

int main() {
  std::fprintf(stderr, "built without SINEW_CUDA\n");
  return 1;
}

#endif
