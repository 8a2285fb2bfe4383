// Recorded graphs: memory, what is done when, random keys, and calls that are renewed.
#include <functional>
#include <thread>

#include "core/vec.h"
#include "cuda/memory_cache.h"
#include "tests/cuda/parity.h"

namespace sinew::testing {
namespace {

// ---- the cache of freed memory, by itself ----

TEST(CudaMemoryCache, LendsFreedBlocksAgain) {
  cuda::MemoryCache cache;
  int a, b;
  cuda::Stream one = &a, two = &b;
  EXPECT_EQ(cache.take(64, one), nullptr);
  cache.lend(&a, 64);
  cache.give(&a, one);
  EXPECT_THROW(cache.give(&a, one), Error);
  EXPECT_EQ(cache.take(32, one), nullptr);
  EXPECT_EQ(cache.take(64, two), nullptr);
  EXPECT_EQ(cache.take(64, one), &a);
}

TEST(CudaMemoryCache, AGraphKeepsWhatWasLentWhileItWasRecorded) {
  cuda::MemoryCache cache;
  int before, inside, left;
  const cuda::Stream stream = &before;
  cache.lend(&before, 64);
  cache.record(stream);
  EXPECT_EQ(cache.take(64, stream), nullptr);
  cache.lend(&inside, 64);
  cache.give(&inside, stream);
  EXPECT_EQ(cache.take(64, stream), &inside);  // again, inside
  cache.lend(&inside, 64);
  cache.lend(&left, 64);
  cache.give(&before, stream);  // may be in the graph: held
  cache.give(&inside, stream);
  const auto kept = cache.stop();
  EXPECT_EQ(cache.take(64, stream), nullptr) << "a graph's block was lent out";
  cache.give(&left, stream);  // what outlived the recording stays too
  EXPECT_EQ(cache.take(64, stream), nullptr) << "a graph's block was lent out";
  cache.forget(*kept, stream);
  std::vector<void*> free;
  while (void* p = cache.take(64, stream)) free.push_back(p);
  std::sort(free.begin(), free.end());
  std::vector<void*> all = {&before, &inside, &left};
  std::sort(all.begin(), all.end());
  EXPECT_EQ(free, all);
}

TEST(CudaMemoryCache, ARecordingUsesWhatWasFreeOnItsStream) {
  cuda::MemoryCache cache;
  int used, unused, elsewhere;
  const cuda::Stream stream = &used, other = &elsewhere;
  for (int* p : {&unused, &used}) cache.lend(p, 64);
  cache.lend(&elsewhere, 64);
  for (int* p : {&unused, &used}) cache.give(p, stream);
  cache.give(&elsewhere, other);
  cache.record(stream);
  EXPECT_EQ(cache.take(64, stream), &used);
  cache.lend(&used, 64);
  cache.give(&used, stream);
  const auto kept = cache.stop();
  EXPECT_EQ(cache.take(64, stream), &unused);
  EXPECT_EQ(cache.take(64, stream), nullptr) << "a graph's block was lent out";
  EXPECT_EQ(cache.take(64, other), &elsewhere);
  cache.forget(*kept, stream);
  EXPECT_EQ(cache.take(64, stream), &used);
}

TEST(CudaMemoryCache, ARecordingGivesBackWhatItHasNotUsed) {
  cuda::MemoryCache cache;
  int used, unused;
  const cuda::Stream stream = &used;
  for (int* p : {&unused, &used}) cache.lend(p, 64);
  for (int* p : {&unused, &used}) cache.give(p, stream);
  cache.record(stream);
  cache.lend(cache.take(64, stream), 64);
  cache.give(&used, stream);
  std::vector<void*> back;
  cache.empty_recording([&](void* p) { back.push_back(p); });
  EXPECT_EQ(back, std::vector<void*>{&unused});
  EXPECT_EQ(cache.take(64, stream), &used);
  cache.lend(&used, 64);
  cache.give(&used, stream);
  const auto kept = cache.stop();
  EXPECT_EQ(cache.take(64, stream), nullptr) << "it was given back";
}

TEST(CudaMemoryCache, ABlockThatOutlivesItsGraphIsFreedLater) {
  cuda::MemoryCache cache;
  int block;
  cache.record(nullptr);
  cache.lend(&block, 64);
  const auto kept = cache.stop();
  cache.forget(*kept, nullptr);
  EXPECT_EQ(cache.take(64, nullptr), nullptr);
  cache.give(&block, nullptr);
  EXPECT_EQ(cache.take(64, nullptr), &block);
}

// ---- recording and replaying ----

TEST(CudaGraph, DoesNothingUntilItIsLaunched) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(std::vector<float>{1, 2, 3}), y(std::vector<float>{0, 0, 0});
  t.graph_begin();
  t.unary({UnaryOp::affine, DType::f32, 3, x.data(), y.data(), 2, 1});  // y = 2 x + 1
  void* const inner = t.allocate(12);
  t.copy(inner, y.data(), 12);
  t.copy(x.data(), inner, 12);  // x = y
  t.release(inner, 12);
  void* const graph = t.graph_end(true);
  EXPECT_EQ(x.read(), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(y.read(), (std::vector<float>{0, 0, 0}));
  t.graph_launch(graph, 0);
  EXPECT_EQ(x.read(), (std::vector<float>{3, 5, 7}));
  const DeviceArray<float> other(std::vector<float>{9, 9, 9});  // not the graph's memory
  t.graph_launch(graph, 1);
  t.graph_launch(graph, 2);
  EXPECT_EQ(x.read(), (std::vector<float>{15, 23, 31}));
  EXPECT_EQ(other.read(), (std::vector<float>{9, 9, 9}));
  t.graph_release(graph);
}

TEST(CudaGraph, RefusesToWaitAndCanBeDropped) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(std::vector<float>{1, 2, 3});
  float host[3] = {};
  t.graph_begin();
  t.fill({DType::f32, 3, x.data(), 7});
  for (const std::function<void()>& waits : std::vector<std::function<void()>>{
           [&] { t.download(host, x.data(), 12); }, [&] { t.upload(x.data(), host, 12); }, [&] { t.synchronize(); }})
    try {
      waits();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("cannot be recorded in a graph"), std::string::npos) << error.what();
    }
  EXPECT_EQ(t.graph_end(false), nullptr);
  EXPECT_EQ(x.read(), (std::vector<float>{1, 2, 3}));
}

// Another thread's work is neither recorded nor lost.
TEST(CudaGraph, OtherThreadsWait) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> mine(std::vector<float>{1}), others(std::vector<float>{1});
  t.graph_begin();
  std::thread other([&] { t.fill({DType::f32, 1, others.data(), 5}); });
  t.unary({UnaryOp::affine, DType::f32, 1, mine.data(), mine.data(), 2, 0});
  void* const graph = t.graph_end(true);
  other.join();
  t.fill({DType::f32, 1, others.data(), 6});
  t.graph_launch(graph, 0);
  EXPECT_EQ(mine.read()[0], 2);
  EXPECT_EQ(others.read()[0], 6);
  t.graph_release(graph);
}

TEST(CudaGraph, RandomNumbersAreThoseOfTheReplaysStep) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const size_t n = 41;
  const DeviceArray<float> x(random_values<float>(n, -1, 1, 1)), y(n), z(n), want_y(n), want_z(n);
  const auto draw = [&](uint64_t step, float* masked, float* normal) {
    const RngKey key{3, static_cast<uint32_t>(RngPurpose::test), 1, step};
    t.dropout({DType::f32, n, 0.6, key, x.data(), masked});
    t.random({RandomDist::normal, DType::f32, n, {4, key.purpose, 2, step}, normal, 0, 1});
  };
  t.graph_begin();
  draw(10, y.data(), z.data());
  void* const graph = t.graph_end(true);
  for (const uint64_t steps : {0, 1, 7}) {
    t.graph_launch(graph, steps);
    draw(10 + steps, want_y.data(), want_z.data());
    EXPECT_EQ(y.read(), want_y.read()) << steps;
    EXPECT_EQ(z.read(), want_z.read()) << steps;
  }
  t.graph_release(graph);
}

// ---- renewing ----

// y = number * x, twice, and a copy between: the recorded part that changes from step to step.
void scale(double first, double second, const DeviceArray<float>& x, const DeviceArray<float>& y, float* to) {
  device().axpby({DType::f32, 3, first, 0, x.data(), x.data(), y.data()});
  device().copy(to, y.data(), 12);
  device().axpby({DType::f32, 3, second, 1, x.data(), y.data(), y.data()});
}
const std::vector<float> kX = {1, 2, 3};
void* record_scale(const DeviceArray<float>& x, const DeviceArray<float>& y, const DeviceArray<float>& to) {
  device().graph_begin();
  device().unary({UnaryOp::affine, DType::f32, 3, x.data(), x.data(), 1, 1});  // x += 1: not renewed
  device().graph_mark();
  scale(10, 100, x, y, to.data());
  return device().graph_end(true);
}

TEST(CudaGraphRenewal, KernelsGetTheNewNumbers) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(kX), y(3), to(3);
  void* const graph = record_scale(x, y, to);
  t.graph_launch(graph, 0);
  EXPECT_EQ(to.read(), (std::vector<float>{20, 30, 40}));
  EXPECT_EQ(y.read(), (std::vector<float>{220, 330, 440}));
  for (const auto& [first, second] : {std::pair(2.0, 0.0), {2.0, 0.0}, {3.0, -1.0}}) {
    t.graph_renew(graph, true);
    scale(first, second, x, y, to.data());
    t.graph_renew(graph, false);
    const std::vector<float> before = x.read(), last = y.read();
    t.graph_launch(graph, 0);
    std::vector<float> want = before, want_to = before;
    for (size_t i = 0; i < 3; ++i) {
      want_to[i] = static_cast<float>(first) * (before[i] + 1);
      want[i] = want_to[i] + static_cast<float>(second) * (before[i] + 1);
    }
    EXPECT_EQ(to.read(), want_to) << first;
    EXPECT_EQ(y.read(), want) << first;
    EXPECT_NE(y.read(), last);
  }
  t.graph_launch(graph, 0);  // with the last numbers
  EXPECT_EQ(to.read(), (std::vector<float>{18, 21, 24}));
  t.graph_release(graph);
}

// Another kernel in the place of one: axpby has one for b == 0.
TEST(CudaGraphRenewal, AnotherKernelTakesThePlace) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(kX), y(kX);
  t.graph_begin();
  t.graph_mark();
  t.axpby({DType::f32, 3, 1, 0, x.data(), y.data(), y.data()});
  void* const graph = t.graph_end(true);
  t.graph_renew(graph, true);
  t.axpby({DType::f32, 3, 1, 2, x.data(), y.data(), y.data()});
  t.graph_renew(graph, false);
  t.graph_launch(graph, 0);
  EXPECT_EQ(y.read(), (std::vector<float>{3, 6, 9}));
  t.graph_release(graph);
}

TEST(CudaGraphRenewal, RefusesOtherCalls) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(kX), y(3), to(3), other(3);
  float host[3] = {};
  const auto expect_error = [](const char* says, const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << "no error: " << says;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  };
  void* const graph = record_scale(x, y, to);
  const auto renewing = [&](const std::function<void()>& calls) {
    t.graph_renew(graph, true);
    calls();
    t.graph_renew(graph, false);
  };
  renewing([&] {
    expect_error("'memory_set' cannot take the place of 'scaled copy'", [&] {
      t.dot({DType::f32, 0, x.data(), x.data(), reinterpret_cast<double*>(y.data())});
    });
  });
  expect_error("0 calls, it has 3", [&] { t.graph_launch(graph, 0); });
  renewing([&] { expect_error("'copy on the device' cannot take", [&] { scale(1, 1, x, y, other.data()); }); });
  expect_error("1 calls, it has 3", [&] { t.graph_launch(graph, 0); });
  renewing([&] {
    expect_error("cannot be recorded", [&] { t.download(host, x.data(), 12); });
    expect_error("allocating memory in the part", [&] { t.allocate(12); });
    expect_error("launching a graph cannot", [&] { t.graph_launch(graph, 0); });
    scale(1, 1, x, y, to.data());
    expect_error("after all of its 3 calls", [&] { t.copy(to.data(), y.data(), 12); });
  });
  t.graph_launch(graph, 0);
  EXPECT_EQ(y.read(), (std::vector<float>{4, 6, 8}));
  t.graph_release(graph);

  t.graph_begin();
  t.graph_mark();
  expect_error("allocating memory in the part", [&] { t.allocate(12); });
  expect_error("a mark belongs in a recording, once", [&] { t.graph_mark(); });
  EXPECT_EQ(t.graph_end(false), nullptr);
  expect_error("a mark belongs in a recording", [&] { t.graph_mark(); });
}

// Work of other threads is done meanwhile.
TEST(CudaGraphRenewal, OtherThreadsGoOn) {
  SINEW_NEEDS_CUDA();
  const KernelTable& t = device();
  const DeviceArray<float> x(kX), y(3), to(3), others(kX);
  void* const graph = record_scale(x, y, to);
  t.graph_renew(graph, true);
  std::thread([&] { t.fill({DType::f32, 3, others.data(), 5}); }).join();
  scale(1, 1, x, y, to.data());
  t.graph_renew(graph, false);
  EXPECT_EQ(others.read(), (std::vector<float>{5, 5, 5}));
  EXPECT_EQ(x.read(), kX);
  t.graph_release(graph);
}

}  // namespace
}  // namespace sinew::testing
