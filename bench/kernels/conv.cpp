// Convolutions of the networks' layers in f32 and bf16, GFLOP/s of the definition (products with padding counted): our
// own kernels and oneDNN's with its reorders of the filters, each verified against the other first.
//
//   OMP_NUM_THREADS=1 bench_kernels_conv --benchmark_filter=resnet20 --benchmark_repetitions=5
//       --benchmark_enable_random_interleaving=true        (one command; repetitions of all cases alternate)
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/cpu/cpu_info.h"
#include "core/ops.h"

namespace sinew {
namespace {

struct Layer {
  const char* net;
  int64_t batch, size, in, out, kernel, stride, pad;
};
const Layer kLayers[] = {
    {"resnet20", 128, 32, 3, 16, 3, 1, 1},     {"resnet20", 128, 32, 16, 16, 3, 1, 1},
    {"resnet20", 128, 32, 16, 32, 3, 2, 1},    {"resnet20", 128, 16, 32, 32, 3, 1, 1},
    {"resnet20", 128, 16, 32, 64, 3, 2, 1},    {"resnet20", 128, 8, 64, 64, 3, 1, 1},
    {"lenet", 64, 28, 1, 32, 5, 1, 2},         {"lenet", 64, 14, 32, 64, 5, 1, 2},
    {"easgd_cifar", 128, 28, 3, 64, 5, 1, 0},  {"easgd_cifar", 128, 12, 64, 128, 5, 1, 0},
    {"easgd_cifar", 128, 4, 128, 64, 3, 1, 0}, {"vgg16", 64, 32, 3, 64, 3, 1, 1},
    {"vgg16", 64, 32, 64, 64, 3, 1, 1},        {"vgg16", 64, 16, 64, 128, 3, 1, 1},
    {"vgg16", 64, 16, 128, 128, 3, 1, 1},      {"vgg16", 64, 8, 128, 256, 3, 1, 1},
    {"vgg16", 64, 8, 256, 256, 3, 1, 1},       {"vgg16", 64, 4, 256, 512, 3, 1, 1},
    {"vgg16", 64, 4, 512, 512, 3, 1, 1},       {"vgg16", 64, 2, 512, 512, 3, 1, 1},
    {"resnet18", 32, 16, 64, 128, 1, 2, 0},    {"resnet50", 32, 16, 64, 256, 1, 1, 0},
};

enum class Kind { forward, dx, dw };
const char* name_of(Kind kind) { return kind == Kind::forward ? "forward" : kind == Kind::dx ? "dx" : "dw"; }

// A layer's operands, made once: Google Benchmark calls a case several times.
struct Problem {
  kernel::ConvArgs args{};
  Tensor x, filter, y, out;
  bool verified[3] = {};

  Problem(const Layer& l, DType dtype) {
    kernel::ConvArgs& a = args;
    a.dtype = dtype;
    a.n = l.batch, a.h = a.w = l.size, a.c = l.in, a.k = l.out, a.r = a.s = l.kernel;
    a.p = a.q = (l.size + 2 * l.pad - l.kernel) / l.stride + 1;
    a.stride_h = a.stride_w = l.stride, a.pad_h = a.pad_w = l.pad;
    x = cast(random_uniform({a.n, a.h, a.w, a.c}, -1, 1, {1, 1000, 0, 0}), dtype);
    filter = random_uniform({a.k, a.r, a.s, a.c}, -1, 1, {1, 1000, 1, 0});
    y = cast(random_uniform({a.n, a.p, a.q, a.k}, -1, 1, {1, 1000, 2, 0}), dtype);
    a.x = x.data(), a.filter = filter.data(), a.y = y.data();
  }
  void prepare(Kind kind) {
    const Tensor& like = kind == Kind::forward ? y : kind == Kind::dx ? x : filter;
    out = Tensor::empty(like.shape(), like.dtype());
    args.out = out.data();
  }
  // Read and written at least.
  double bytes() const { return static_cast<double>(x.bytes() + filter.bytes() + y.bytes()); }
  double flops() const {
    return 2.0 * static_cast<double>(args.n * args.p * args.q * args.k) * static_cast<double>(args.r * args.s * args.c);
  }
};

Problem& problem(const Layer& layer, DType dtype) {
  static std::map<std::pair<const Layer*, DType>, Problem> all;
  return all.try_emplace({&layer, dtype}, layer, dtype).first->second;
}

using Kernel = void (*)(const kernel::ConvArgs&);
Kernel pick(const ConvKernels& kernels, Kind kind) {
  return kind == Kind::forward ? kernels.forward : kind == Kind::dx ? kernels.dx : kernels.dw;
}

bool agree(Problem& p, Kind kind) {
  pick(own_conv(), kind)(p.args);
  const std::vector<double> own = to_doubles(p.out.view());
  pick(onednn_conv(), kind)(p.args);
  const std::vector<double> other = to_doubles(p.out.view());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < own.size(); ++i) {
    largest = std::max(largest, std::abs(own[i]));
    difference = std::max(difference, std::abs(own[i] - other[i]));
  }
  return difference <= (p.out.dtype() == DType::bf16 ? 1.0 / 128 : 1e-4) * largest;
}

void conv(benchmark::State& state, const Layer& layer, DType dtype, Kind kind, bool own) {
  Problem& p = problem(layer, dtype);
  p.prepare(kind);
  bool& verified = p.verified[static_cast<int>(kind)];
  if (!verified && !agree(p, kind)) {
    state.SkipWithError("the two kernels disagree");
    return;
  }
  verified = true;
  const Kernel kernel = pick(own ? own_conv() : onednn_conv(), kind);
  for (auto _ : state) kernel(p.args);
  state.counters["GFLOP/s"] =
      benchmark::Counter(p.flops() * static_cast<double>(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
  state.counters["GB/s"] =
      benchmark::Counter(p.bytes() * static_cast<double>(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
  state.counters["threads"] = num_threads();
}

}  // namespace
}  // namespace sinew

int main(int argc, char** argv) {
  using namespace sinew;
  for (const Layer& layer : kLayers)
    for (DType dtype : {DType::f32, DType::bf16})
      for (Kind kind : {Kind::forward, Kind::dx, Kind::dw})
        for (bool own : {true, false}) {
          const std::string name = std::string(layer.net) + "/" + std::to_string(layer.size) + "x" +
                                   std::to_string(layer.in) + "to" + std::to_string(layer.out) + "k" +
                                   std::to_string(layer.kernel) + "s" + std::to_string(layer.stride) + "/" +
                                   name_of(kind) + "/" + to_string(dtype) + (own ? "/own" : "/onednn");
          benchmark::RegisterBenchmark(
              name.c_str(),
              [&layer, dtype, kind, own](benchmark::State& state) { conv(state, layer, dtype, kind, own); })
              ->UseRealTime()
              ->Unit(benchmark::kMicrosecond);
        }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
