// Matrix products of the MLPs' training steps, GFLOP/s: our own kernel and the table's entry (oneDNN where it is
// faster), each verified first against sums in double.
//
//   OMP_NUM_THREADS=1 bench_kernels_gemm --benchmark_filter=mlp1024 --benchmark_repetitions=5
//       --benchmark_enable_random_interleaving=true
#include <benchmark/benchmark.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/cpu/cpu_info.h"
#include "core/kernel_api.h"
#include "core/ops.h"

namespace sinew {
namespace {

// c (m, n) = op(a) op(b): forward reads the weights transposed, dx as they are, dw the activations transposed.
struct Product {
  const char* name;
  bool trans_a, trans_b;
  int64_t m, n, k;
};
const Product kProducts[] = {
    {"mlp1024_b128/layer1/forward", false, true, 128, 1024, 784},
    {"mlp1024_b128/layer1/dw", true, false, 1024, 784, 128},
    {"mlp1024_b128/layer2/forward", false, true, 128, 1024, 1024},
    {"mlp1024_b128/layer2/dx", false, false, 128, 1024, 1024},
    {"mlp1024_b128/layer2/dw", true, false, 1024, 1024, 128},
    {"mlp1024_b128/layer3/forward", false, true, 128, 10, 1024},
    {"mlp1024_b128/layer3/dx", false, false, 128, 1024, 10},
    {"mlp1024_b128/layer3/dw", true, false, 10, 1024, 128},
    {"mlp1024_b32/layer2/forward", false, true, 32, 1024, 1024},
    {"mlp1024_b32/layer2/dw", true, false, 1024, 1024, 32},
    {"small64_b16/layer1/forward", false, true, 16, 64, 64},
    {"small64_b16/layer1/dw", true, false, 64, 64, 16},
};

// A product's operands, made once: Google Benchmark calls a case several times.
struct Problem {
  Tensor a, b, c;
  kernel::GemmArgs args{};
  bool verified[2] = {};

  explicit Problem(const Product& p)
      : a(random_uniform(p.trans_a ? Shape({p.k, p.m}) : Shape({p.m, p.k}), -1, 1, {1, 1000, 0, 0})),
        b(random_uniform(p.trans_b ? Shape({p.n, p.k}) : Shape({p.k, p.n}), -1, 1, {1, 1000, 1, 0})),
        c(Tensor::empty({p.m, p.n})) {
    args.dtype = DType::f32;
    args.trans_a = p.trans_a, args.trans_b = p.trans_b;
    args.m = p.m, args.n = p.n, args.k = p.k;
    args.alpha = 1, args.batch = 1;
    args.a = a.data(), args.b = b.data(), args.c = c.data();
    args.lda = a.dim(1), args.ldb = b.dim(1), args.ldc = p.n;
  }
  double flops() const { return 2.0 * static_cast<double>(args.m * args.n * args.k); }
  // Read and written at least.
  double bytes() const { return 4.0 * static_cast<double>(args.m * args.k + args.k * args.n + args.m * args.n); }

  bool right() const {
    const std::vector<float> x = a.to_vector<float>(), y = b.to_vector<float>(), z = c.to_vector<float>();
    for (int64_t i = 0; i < args.m; i += 7)
      for (int64_t j = 0; j < args.n; j += 3) {
        double sum = 0;
        for (int64_t p = 0; p < args.k; ++p)
          sum += static_cast<double>(x[static_cast<size_t>(args.trans_a ? p * args.m + i : i * args.k + p)]) *
                 static_cast<double>(y[static_cast<size_t>(args.trans_b ? j * args.k + p : p * args.n + j)]);
        if (std::abs(static_cast<double>(z[static_cast<size_t>(i * args.n + j)]) - sum) > 1e-3) return false;
      }
    return true;
  }
};

void gemm(benchmark::State& state, const Product& product, bool own) {
  static std::map<const Product*, Problem> all;
  Problem& p = all.try_emplace(&product, product).first->second;
  const auto run = own ? reference_gemm : cpu_kernels().gemm;
  if (!p.verified[own]) {
    fill(p.c.output_view(), std::nan(""));
    run(p.args);
    if (!p.right()) {
      state.SkipWithError("the product is wrong");
      return;
    }
    p.verified[own] = true;
  }
  for (auto _ : state) run(p.args);
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
  for (const Product& product : kProducts)
    for (bool own : {true, false})
      benchmark::RegisterBenchmark((std::string(product.name) + (own ? "/own" : "/table")).c_str(),
                                   [&product, own](benchmark::State& state) { gemm(state, product, own); })
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
