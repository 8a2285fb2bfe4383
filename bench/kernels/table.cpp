// Every entry of the kernel table on a device: GB/s (GFLOP/s for products too) and the share of the ceiling that was
// measured alternately with it. The ceiling of a case is the longer one of two times: of a copy of as many bytes on the
// device, and on the CPU of as many floating-point operations in registers (bench/support/arithmetic.h).
//
//   bench_kernels_table [--device cpu|cuda] [--elements N] [--benchmark_filter=...]
//
// Each case is first run on 70,001 elements and compared with the CPU's kernels in f64, which share neither instances
// nor libraries with those in f32. N: elements of the large arrays, by default far more than caches hold.
#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <set>

#include "bench/kernels/table_cases.h"
#include "bench/support/arithmetic.h"
#include "bench/support/device.h"
#include "core/storage.h"
#include "core/vec.h"

namespace sinew::bench {
namespace {

using Clock = std::chrono::steady_clock;

Device the_device = Device::cpu;

// The values of an array on the host, the same for every device.
std::vector<std::byte> values_of(const Buffer& b, uint32_t stream) {
  const int64_t period = std::min<int64_t>(b.n, 1 << 20);
  std::vector<std::byte> bytes(static_cast<size_t>(period) * size_of(b.dtype));
  const RngKey key{11, static_cast<uint32_t>(RngPurpose::test), stream, 0};
  SINEW_DISPATCH_ALL_AND_BF16(b.dtype, "values_of", {
    T* p = reinterpret_cast<T*>(bytes.data());
    for (int64_t i = 0; i < period; ++i)
      p[i] = static_cast<T>(b.low + (b.high - b.low) * uniform01(philox_u64(key, static_cast<uint64_t>(i))));
  })
  return bytes;
}

// The arrays of a case on a device, those of f32 in the given type, and with f64 those of bf16 too. Long arrays repeat
// their first 2^20 values.
class Arrays {
 public:
  Arrays(const Case& c, Device device, DType dtype = DType::f32) : case_(c), device_(device) {
    const KernelTable& t = kernels(device);
    pointers_.dtype = dtype;
    uint32_t stream = 0;
    for (size_t i = 0; i < c.buffers.size(); ++i) {
      const size_t bytes = static_cast<size_t>(c.buffers[i].n) * size_of(type(i));
      storages_.emplace_back(Storage::allocate(std::max<size_t>(bytes, 1), device));
      void* data = storages_.back()->data();
      pointers_.data.push_back(data);
      std::vector<std::byte> first = values_of(c.buffers[i], stream++);
      if (type(i) != c.buffers[i].dtype)
        first = c.buffers[i].dtype == DType::bf16 ? widened<bfloat16>(first) : widened<float>(first);
      size_t filled = first.size();
      t.upload(data, first.data(), filled);
      for (; filled < bytes; filled += std::min(filled, bytes - filled))
        t.copy(static_cast<std::byte*>(data) + filled, data, std::min(filled, bytes - filled));
    }
  }
  const Pointers& pointers() const { return pointers_; }
  std::vector<double> read(size_t i) const {
    return to_doubles(ConstVecView(pointers_[i], case_.buffers[i].n, type(i), device_));
  }

 private:
  DType type(size_t i) const {
    const DType own = case_.buffers[i].dtype;
    return own == DType::f32 || (own == DType::bf16 && pointers_.dtype == DType::f64) ? pointers_.dtype : own;
  }
  template <class T>
  static std::vector<std::byte> widened(const std::vector<std::byte>& narrow) {
    const size_t n = narrow.size() / sizeof(T);
    std::vector<std::byte> doubles(n * sizeof(double));
    const T* from = reinterpret_cast<const T*>(narrow.data());
    std::transform(from, from + n, reinterpret_cast<double*>(doubles.data()),
                   [](T x) { return static_cast<double>(static_cast<float>(x)); });
    return doubles;
  }
  const Case& case_;
  const Device device_;
  std::vector<StorageRef> storages_;
  Pointers pointers_;
};

// "" when everything that the case writes equals the CPU's in f64 up to f32's rounding.
std::string difference(const Case& c) {
  const Arrays reference(c, Device::cpu, DType::f64), there(c, the_device);
  c.run(cpu_kernels(), reference.pointers());
  c.run(kernels(the_device), there.pointers());
  kernels(the_device).synchronize();
  for (size_t i = 0; i < c.buffers.size(); ++i) {
    const std::vector<double> want = reference.read(i), got = there.read(i);
    double largest = 1e-3;
    for (double w : want) largest = std::max(largest, std::abs(w));
    const DType type = c.buffers[i].dtype;
    const double allowed = (type == DType::bf16 ? 1.0 / 256 + 2e-5 : is_float(type) ? 2e-5 : 0) * largest;
    for (size_t k = 0; k < want.size(); ++k)
      if (!(std::abs(got[k] - want[k]) <= allowed))
        return detail::concat("array ", i, " at ", k, " is ", got[k], ", in f64 ", want[k]);
  }
  return "";
}

double seconds(const std::function<void()>& f) {
  const auto begin = Clock::now();
  f();
  kernels(the_device).synchronize();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// How often to call so that starting and waiting do not count.
int calls_for(double one) { return std::clamp(static_cast<int>(0.002 / std::max(one, 1e-7)), 1, 100); }

bool has_entry(const KernelTable& t, const std::string& name) {
#define SINEW_FIND(entry, Args) \
  if (name == #entry) return t.entry != nullptr;
  SINEW_KERNELS(SINEW_FIND)
  SINEW_FIND(conv_pair, )
  SINEW_FIND(round_and_pack, )
#undef SINEW_FIND
  return false;
}

void measure(benchmark::State& state, const Case& small, const Case& large) {
  const KernelTable& t = kernels(the_device);
  if (!has_entry(t, large.entry)) return state.SkipWithError("the device has no such entry");
  if (const std::string wrong = difference(small); !wrong.empty()) return state.SkipWithError(wrong.c_str());
  const Arrays arrays(large, the_device);
  const size_t copied = std::max<size_t>(4, static_cast<size_t>(large.bytes / 2) / 4 * 4);
  const StorageRef from(Storage::allocate(copied, the_device)), to(Storage::allocate(copied, the_device));
  const auto run = [&] { large.run(t, arrays.pointers()); };
  const auto copy = [&] { t.copy(to->data(), from->data(), copied); };
  seconds(run), seconds(copy);
  const int runs = calls_for(seconds(run)), copies = calls_for(seconds(copy));
  const bool arithmetic = large.flops > 0 && the_device == Device::cpu;
  double own = 0, reference = 0, flops_per_second = 0;
  for (auto _ : state) {
    const double each = seconds([&] {
                          for (int i = 0; i < runs; ++i) run();
                        }) /
                        runs;
    state.SetIterationTime(each);
    own += each;
    reference += seconds([&] {
                   for (int i = 0; i < copies; ++i) copy();
                 }) /
                 copies;
    if (arithmetic) flops_per_second += register_flops_per_second();
  }
  const double n = static_cast<double>(state.iterations());
  state.counters["GB/s"] = large.bytes * n / own * 1e-9;
  state.counters["copy GB/s"] = 2 * static_cast<double>(copied) * n / reference * 1e-9;
  double ceiling = large.bytes / (2 * static_cast<double>(copied)) * reference / n;  // seconds
  if (large.flops > 0) state.counters["GFLOP/s"] = large.flops * n / own * 1e-9;
  if (arithmetic) {
    flops_per_second /= n;
    state.counters["peak GFLOP/s"] = flops_per_second * 1e-9;
    if (flops_per_second > 0) ceiling = std::max(ceiling, large.flops / flops_per_second);
  }
  state.counters["share"] = ceiling * n / own;
}

int run_main(int argc, char** argv) {
  the_device = take_device(argc, argv);
  const std::string elements = take_option(argc, argv, "--elements");
  const int64_t n = elements.empty() ? (the_device == Device::cpu ? 4 << 20 : 64 << 20) : std::stoll(elements);
  static const std::vector<Case> small = CaseList(70'001).take(), large = CaseList(n).take();
  std::set<std::string> entries;
  for (size_t i = 0; i < large.size(); ++i) {
    const bool optional = large[i].entry == "conv_pair" || large[i].entry == "round_and_pack";
    if (optional && !has_entry(kernels(the_device), large[i].entry)) continue;
    entries.insert(large[i].entry);
    benchmark::RegisterBenchmark(large[i].name.c_str(),
                                 [i](benchmark::State& state) { measure(state, small[i], large[i]); })
        ->Iterations(20)  // of about 2 ms each
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
#define SINEW_EXPECT(entry, Args) \
  if (entries.count(#entry) == 0) fail("no case for the entry " #entry);
  SINEW_KERNELS(SINEW_EXPECT)
#undef SINEW_EXPECT
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("device", to_string(the_device));
  benchmark::AddCustomContext("elements", std::to_string(n));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace sinew::bench

int main(int argc, char** argv) { return sinew::bench::run_main(argc, argv); }
