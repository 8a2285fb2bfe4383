// Batch norm and pooling on the shapes of ResNet-20 with a batch of 128: GB/s of what the algorithm must move, and the
// share of a triad z = a x + b y over arrays of the same size, run alternately with it.
//
//   bench_kernels_norm [--benchmark_filter=...]      OMP_NUM_THREADS chooses the threads
#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/autograd.h"
#include "core/ops.h"
#include "core/vec.h"

namespace {

using namespace sinew;
using Clock = std::chrono::steady_clock;

Tensor random(const Shape& shape, uint32_t stream) {
  return random_uniform(shape, -1, 1, RngKey{1, static_cast<uint32_t>(RngPurpose::test), stream, 0});
}

double seconds(const std::function<void()>& f) {
  const auto begin = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// arrays: how many times an array of `shape` is read or written.
void measure(benchmark::State& state, const Shape& shape, double arrays, const std::function<void()>& f) {
  const Tensor x = random(shape, 90), y = random(shape, 91), z = Tensor::empty(shape);
  const double bytes = static_cast<double>(x.bytes());
  double own = 0, triad = 0;
  f();
  for (auto _ : state) {
    const double t = seconds(f);
    state.SetIterationTime(t);
    own += t;
    triad += seconds([&] { axpby(2, x.view(), 3, y.view(), z.output_view()); });
  }
  const double n = static_cast<double>(state.iterations());
  state.counters["GB/s"] = arrays * bytes * n / own * 1e-9;
  state.counters["triad GB/s"] = 3 * bytes * n / triad * 1e-9;
  state.counters["share"] = arrays * triad / (3 * own);
}

// A kernel that is wrong is not timed.
void verify(benchmark::State& state, const Tensor& got, const Tensor& want) {
  const double error = norm((got - want).view()) / norm(want.view());
  if (!(error < 1e-5)) state.SkipWithError("the result differs from the composite's");
}

struct Operands {
  Tensor x, gamma, beta, residual;
};
Operands operands(const Shape& shape, bool with_residual) {
  const Shape channels{shape.dim(-1)};
  Operands o{random(shape, 1), random(channels, 2), random(channels, 3), with_residual ? random(shape, 4) : Tensor()};
  for (Tensor* t : {&o.x, &o.gamma, &o.beta, &o.residual})
    if (t->defined()) t->set_requires_grad();
  return o;
}

void forward(benchmark::State& state, const Shape& shape, bool residual) {
  const Operands o = operands(shape, residual);
  GradMode off(false);
  auto run = [&] { return batch_norm(o.x, o.gamma, o.beta, o.residual, Activation::relu).y; };
  verify(state, run(), batch_norm_composite(o.x, o.gamma, o.beta, o.residual, Activation::relu));
  measure(state, shape, residual ? 4 : 3, run);
}

std::vector<Tensor> inputs_of(const Operands& o) {
  std::vector<Tensor> in{o.x, o.gamma, o.beta};
  if (o.residual.defined()) in.push_back(o.residual);
  return in;
}

void derivative(benchmark::State& state, const Shape& shape, bool residual) {
  const Operands o = operands(shape, residual);
  const std::vector<Tensor> in = inputs_of(o), g{random(shape, 5)};
  const Tensor y = batch_norm(o.x, o.gamma, o.beta, o.residual, Activation::relu).y;
  auto run = [&] { return grad({y}, in, g, {.retain_graph = true}); };
  const Tensor composite = batch_norm_composite(o.x, o.gamma, o.beta, o.residual, Activation::relu);
  verify(state, run()[0], grad({composite}, in, g)[0]);
  // g and x twice and dx; with a residual y, the masked g written and read instead of g, and that is dresidual.
  measure(state, shape, residual ? 7 : 5, run);
}

void second_derivative(benchmark::State& state, const Shape& shape, bool residual) {
  const Operands o = operands(shape, residual);
  const std::vector<Tensor> in = inputs_of(o);
  const Tensor g = random(shape, 5).set_requires_grad();
  std::vector<Tensor> wrt = in, cotangents{random(shape, 6), random(o.gamma.shape(), 7), random(o.gamma.shape(), 8)};
  wrt.push_back(g);
  if (residual) cotangents.push_back(random(shape, 9));
  auto first = [&](const Tensor& y) { return grad({y}, in, std::vector<Tensor>{g}, {.create_graph = true}); };
  const std::vector<Tensor> d = first(batch_norm(o.x, o.gamma, o.beta, o.residual, Activation::relu).y);
  auto run = [&] { return grad(d, wrt, cotangents, {.retain_graph = true}); };
  const std::vector<Tensor> e = first(batch_norm_composite(o.x, o.gamma, o.beta, o.residual, Activation::relu));
  verify(state, run()[0], grad(e, wrt, cotangents)[0]);
  // g, x and u twice, two results; with a residual also y twice and its cotangent. Zeros for the residual are not
  // counted.
  measure(state, shape, residual ? 11 : 8, run);
}

void pooling(benchmark::State& state, const Shape& shape, const std::function<Tensor(const Tensor&)>& pool, bool back) {
  const Tensor x = random(shape, 1).set_requires_grad(), y = pool(x);
  const std::vector<Tensor> in{x}, g{random(y.shape(), 2)};
  const double arrays = 1 + static_cast<double>(y.numel()) / static_cast<double>(x.numel());
  if (back)
    measure(state, shape, arrays, [&] { grad({y}, in, g, {.retain_graph = true}); });
  else
    measure(state, shape, arrays, [&] { pool(x.detach()); });
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& f) {
  benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
  for (const Shape& shape : {Shape{128, 32, 32, 16}, Shape{128, 16, 16, 32}, Shape{128, 8, 8, 64}}) {
    const std::string at = "/" + shape.str();
    for (bool residual : {false, true}) {
      const std::string name = (residual ? "residual_relu" : "relu") + at;
      add("batch_norm_" + name, [=](auto& state) { forward(state, shape, residual); });
      add("batch_norm_grad_" + name, [=](auto& state) { derivative(state, shape, residual); });
      add("batch_norm_grad2_" + name, [=](auto& state) { second_derivative(state, shape, residual); });
    }
    auto max2 = [](const Tensor& x) { return max_pool2d(x, {2, 2, 0}); };
    auto max3 = [](const Tensor& x) { return max_pool2d(x, {3, 2, 1}); };
    auto avg2 = [](const Tensor& x) { return avg_pool2d(x, {2, 2, 0}); };
    for (bool back : {false, true}) {
      const std::string name = (back ? "_grad" : "") + at;
      add("max_pool_2" + name, [=](auto& state) { pooling(state, shape, max2, back); });
      add("max_pool_3" + name, [=](auto& state) { pooling(state, shape, max3, back); });
      add("avg_pool_2" + name, [=](auto& state) { pooling(state, shape, avg2, back); });
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
