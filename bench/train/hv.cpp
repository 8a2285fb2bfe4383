// Gradient and Hessian-vector product of ResNet-20, two ways:
//   double backward        what AdaHessian does: a gradient with its graph, and a second backward pass through both
//   forward over reverse   Pearlmutter 1994: every tensor carries its derivative along z ("tangent") through one
//   forward
//                          and one reverse sweep without a graph (bench/train/forward_over_reverse.h)
//
//   OMP_NUM_THREADS=2 bench_train_hv [--batch 128,16] [--seconds 20]
//   bench_train_hv --memory double_backward|forward_over_reverse --batch 128      # growth of one process's memory
//
// Verified first: both give the same gradient and the same product, in f64 and in f32. Then, for every batch: times in
// alternating rounds; what both ways call and hold, counted by a kernel table; the growth of peak memory, each in a
// process of its own.
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>

#include "bench/support/figures.h"
#include "bench/support/memory.h"
#include "bench/train/forward_over_reverse.h"
#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/ops.h"
#include "models/zoo/zoo.h"
#include "optim/hutchinson.h"

namespace sinew::bench {
namespace {

nn::Model resnet20() {
  Result<nn::Model> model =
      train::make_model({.name = "resnet20", .init = train::default_init("resnet20")}, {32, 32, 3}, kClasses);
  SINEW_CHECK(model.ok(), "bench", model.status().message());
  return std::move(*model);
}

// One batch, one point, one direction.
struct Problem {
  Problem(int64_t batch, DType dtype, Device device)
      : model(resnet20()),
        theta(model.initialize(1, dtype, device)),
        x(random_normal({batch, 32, 32, 3}, 0, 1, {1, 1000, 0, 0}, dtype, device)),
        z(Vec::empty(model.layout().size(), dtype, device)),
        gradient(Vec::zeros(model.layout().size(), dtype, device)),
        product(Vec::zeros(model.layout().size(), dtype, device)) {
    std::vector<int64_t> classes(static_cast<size_t>(batch));
    for (size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<int64_t>(i) % kClasses;
    labels = Tensor::from_vector(classes, {batch}, device);
    optim::draw_probe({.seed = 1}, z.mutable_view());
  }
  // Of theta those in front of the buffers.
  std::vector<Tensor> views(const Vec& flat) const {
    return nn::Parameters(model.layout(), flat.slice(0, model.layout().size()), false).all();
  }

  nn::Model model;
  Vec theta;
  Tensor x, labels;
  Vec z, gradient, product;  // what both ways write: the last two
};

// As models/curvature.cpp does it.
void double_backward(const Problem& p) {
  const nn::Parameters parameters = p.model.parameters(p.theta);
  std::vector<Tensor> g;
  {
    const Tensor logits = p.model.forward(p.x, {.parameters = parameters, .training = true});
    g = grad({softmax_cross_entropy(logits, p.labels)}, parameters.all(), {}, {.create_graph = true});
  }
  const std::vector<Tensor> into = p.views(p.gradient);
  for (size_t i = 0; i < g.size(); ++i) copy(g[i].view(), into[i].output_view());
  optim::hessian_product(p.model.layout(), g, parameters.all(), p.z, p.product);
}

void forward_over_reverse(const Problem& p) {
  ForwardOverReverse(p.views(p.theta), p.views(p.z), p.views(p.gradient), p.views(p.product)).run(p.x, p.labels);
}

// ---- measuring ----

struct Way {
  const char* name;
  void (*run)(const Problem&);
};
constexpr Way kWays[] = {{"double_backward", double_backward}, {"forward_over_reverse", forward_over_reverse}};

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), norm += a[i] * a[i];
  return std::sqrt(difference / norm);
}

// Ends the program when the two ways differ by more than rounding.
void verify(DType dtype, int64_t batch, double allowed) {
  Problem p(batch, dtype, Device::cpu);
  std::vector<double> gradient[2], product[2];
  for (int i = 0; i < 2; ++i) {
    fill(p.gradient.mutable_view(), 0), fill(p.product.mutable_view(), 0);
    kWays[i].run(p);
    gradient[i] = to_doubles(p.gradient.view()), product[i] = to_doubles(p.product.view());
  }
  const double of_gradient = distance(gradient[0], gradient[1]), of_product = distance(product[0], product[1]);
  std::printf("%s, batch %d: gradients differ by %.1e, products by %.1e (relative, at most %.0e)\n", to_string(dtype),
              static_cast<int>(batch), of_gradient, of_product, allowed);
  if (!(of_gradient <= allowed && of_product <= allowed)) fail("the two ways do not agree");
}

// A kernel table over the CPU's that counts calls and the bytes that tensors hold.
struct Counted {
  int64_t convolutions = 0, norms = 0, bytes = 0, most_bytes = 0;
} counted;

void install_counting_table() {
  static KernelTable table = cpu_kernels();
#define SINEW_COUNT(entry, Args, what)         \
  table.entry = [](const kernel::Args& args) { \
    ++counted.what;                            \
    cpu_kernels().entry(args);                 \
  }
  SINEW_COUNT(conv_forward, ConvArgs, convolutions);
  SINEW_COUNT(conv_dx, ConvArgs, convolutions);
  SINEW_COUNT(conv_dw, ConvArgs, convolutions);
  table.conv_pair = [](const kernel::ConvPairArgs& args) {
    const bool done = cpu_kernels().conv_pair(args);
    if (done) counted.convolutions += (args.second ? 2 : 1) + (args.dw ? 1 : 0) + (args.second_dw ? 1 : 0);
    return done;
  };
  SINEW_COUNT(batch_norm, BatchNormArgs, norms);
  SINEW_COUNT(batch_norm_grad, BatchNormGradArgs, norms);
  SINEW_COUNT(batch_norm_grad2, BatchNormGrad2Args, norms);
#undef SINEW_COUNT
  table.allocate = [](size_t bytes) {
    counted.bytes += static_cast<int64_t>(bytes);
    counted.most_bytes = std::max(counted.most_bytes, counted.bytes);
    return cpu_kernels().allocate(bytes);
  };
  table.release = [](void* data, size_t bytes) {
    counted.bytes -= static_cast<int64_t>(bytes);
    cpu_kernels().release(data, bytes);
  };
  set_kernel_table(Device::guard, &table);
}

Counted count(const Way& way, int64_t batch) {
  const Problem p(batch, DType::f32, Device::guard);
  const int64_t before = counted.bytes;
  counted = {.bytes = before, .most_bytes = before};
  way.run(p);
  Counted result = counted;
  result.most_bytes -= before;
  return result;
}

// The growth of peak memory over some products, from just before the first.
int64_t growth(const std::function<void(const Problem&)>& run, int64_t batch) {
  const Problem p(batch, DType::f32, Device::cpu);
  const PeakGrowth peak;
  for (int i = 0; i < 3; ++i) run(p);
  return peak.bytes();
}

int64_t growth_in_own_process(const Way& way, const char* program, int64_t batch) {
  const std::string command =
      std::string("'") + program + "' --memory " + way.name + " --batch " + std::to_string(batch);
  FILE* pipe = popen(command.c_str(), "r");
  long long bytes = 0;
  if (!pipe || std::fscanf(pipe, "%lld", &bytes) != 1 || pclose(pipe) != 0) fail("no figure from: " + command);
  return bytes;
}

void measure(int64_t batch, double seconds, const char* program) {
  std::array<std::vector<double>, 2> times;
  std::vector<double> ratios;
  double tangents = 0;
  {
    const Problem p(batch, DType::f32, Device::cpu);
    for (const Way& way : kWays) way.run(p);
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto since = [&](auto begin) { return std::chrono::duration<double>(now() - begin).count(); };
    tangent_norm_seconds = 0;
    for (const auto begin = now(); since(begin) < seconds || ratios.size() < 5;) {
      for (size_t i = 0; i < 2; ++i) {
        const auto start = now();
        kWays[i].run(p);
        times[i].push_back(since(start));
      }
      ratios.push_back(times[1].back() / times[0].back());
    }
    tangents = tangent_norm_seconds / static_cast<double>(ratios.size());
  }
  std::printf("\nbatch %d, %d threads, %d rounds\n%-22s%11s%8s%14s%8s%12s%13s\n", static_cast<int>(batch),
              num_threads(), static_cast<int>(ratios.size()), "", "median ms", "min ms", "convolutions", "norms",
              "tensors MB", "resident MB");
  for (size_t i = 0; i < 2; ++i) {
    const Counted c = count(kWays[i], batch);
    std::printf("%-22s%11.1f%8.1f%14d%8d%12.1f%13.1f\n", kWays[i].name, 1e3 * median(times[i]),
                1e3 * *std::min_element(times[i].begin(), times[i].end()), static_cast<int>(c.convolutions),
                static_cast<int>(c.norms), static_cast<double>(c.most_bytes) * 1e-6,
                static_cast<double>(growth_in_own_process(kWays[i], program, batch)) * 1e-6);
  }
  std::printf(
      "forward over reverse / double backward: %.3f (median of the rounds); %.1f ms of it are the tangents of the "
      "norms going forward\n",
      median(ratios), 1e3 * tangents);
}

int run_main(int argc, char** argv) {
  const std::string memory = take_option(argc, argv, "--memory");
  std::vector<int64_t> batches = {128, 16}, seconds = {20};
  if (!read_lists(argc, argv, {{"--batch", &batches}, {"--seconds", &seconds}})) return 2;
  if (!memory.empty()) {
    for (const Way& way : kWays)
      if (memory == way.name) return std::printf("%lld\n", static_cast<long long>(growth(way.run, batches[0]))), 0;
    fail("--memory " + memory + ": double_backward or forward_over_reverse");
  }
  verify(DType::f64, 4, 1e-11);
  verify(DType::f32, 16, 1e-4);
  install_counting_table();
  for (int64_t batch : batches) measure(batch, static_cast<double>(seconds[0]), argv[0]);
  return 0;
}

}  // namespace
}  // namespace sinew::bench

int main(int argc, char** argv) { return sinew::bench::run_main(argc, argv); }
